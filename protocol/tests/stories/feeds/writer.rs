//! One writer: what may keep alice from signing, and what must. Invariant: two words for one number never come of words, disks or
//! logs that fail; and no stranger's words keep her from hers.

use super::*;
use softservice_protocol::{id::Peer, message::Bytes};

fn is_published(world: &World, job: Job) -> bool {
    has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job))
}
fn says(world: &mut World, peer: Peer, message: &Message) {
    world.input("alice", Input::Received { peer, bytes: codec::encode(message).unwrap() });
}
fn boast(p: &Publisher) -> Message {
    let head = Head { at: Position { epoch: 1, seq: u64::MAX }, hash: Digest::of(b"more") };
    Message::Heads(vec![(p.id, head)])
}
fn page(p: &Publisher, entries: &[&Envelope]) -> Message {
    let entries = entries.iter().map(|e| Bytes(codec::encode(*e).unwrap())).collect();
    Message::Feed { publisher: p.id, roots: vec![], snapshot: None, entries, fresh: None, more: false }
}
/// Somebody whom alice can hear, and who hears nothing.
fn stranger(world: &mut World, n: u8) -> Peer {
    let peer = Peer([n; 32]);
    let address = format!("/ip4/10.0.0.{n}/tcp/1/p2p/{peer}");
    world.input("alice", Input::Connected { peer, address, outbound: false });
    peer
}

#[test]
fn who_only_says_that_there_is_more_keeps_no_publisher_from_its_feed() {
    let (mut world, p) = first(&["alice", "bob"]);
    let mallory = stranger(&mut world, 66);
    // What keys that nobody knows signed makes alice ask once more; that gives a liar no more time.
    let mut of_nobody = p.clone();
    let key = of_nobody.new_key(77);
    let of_nobody = of_nobody.sealed(Kind::Entry, last_entry(&world).payload, &[key]);
    for entries in [vec![], vec![&of_nobody]] {
        for message in [boast(&p), page(&p, &entries), page(&p, &[]), boast(&p)] {
            says(&mut world, mallory, &message);
        }
    }
    let job = world.publish("alice", &p, listed(2));
    assert!(!is_refused(&world, "alice", job), "{:?}", world.nodes["alice"].events.last());
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    // Nor does one that comes back to say so again.
    world.input("alice", Input::Disconnected { peer: mallory });
    world.input("alice", Input::Connected { peer: mallory, address: "/ip4/10.0.0.9/tcp/1".into(), outbound: false });
    says(&mut world, mallory, &boast(&p));
    let job = world.publish("alice", &p, listed(3));
    world.until("alice has the third", |w| is_published(w, job));
}

#[test]
fn a_liar_that_says_more_does_not_drown_who_says_the_truth() {
    let (mut world, p) = first(&["alice", "bob"]);
    let older = world.nodes["alice"].kept.clone();
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    // Alice is back where she was, as after a backup that was put back.
    world.node("alice").kept = older;
    world.restart("alice");
    let mallory = stranger(&mut world, 66);
    says(&mut world, mallory, &boast(&p));
    world.pass(Span::seconds(11));
    world.connect("bob", "alice");
    world.pass(Span::millis(7));
    let job = world.publish("alice", &p, listed(3));
    assert!(is_refused(&world, "alice", job), "bob has the second entry");
    world.until("alice has it too", |w| w.head("alice", &p) == 2);
    world.publish("alice", &p, listed(3));
    world.until("bob has the third", |w| w.head("bob", &p) == 3);
    assert!(!is_frozen(&world, "bob", &p));
}

/// The disk says of the oldest record that waits and is such whether it is kept.
fn settles(world: &mut World, such: impl Fn(&Record) -> bool, kept: bool) {
    let node = world.node("alice");
    let at = node.waiting.iter().position(|(_, record)| such(record)).expect("such a record waits");
    let (token, record) = node.waiting.remove(at);
    if kept {
        node.kept.push(record);
    }
    let input = if kept { Input::Durable(token) } else { Input::NotKept { token, why: "the disk is full".into() } };
    world.input("alice", input);
}

#[test]
fn an_entry_whose_neighbour_could_not_be_kept_is_not_written_over_in_this_life() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.part("alice", "bob");
    world.node("alice").slow_disk = true;
    world.pass(Span::seconds(1));
    world.input("alice", Input::Freshen { publisher: p.id });
    world.pass(Span::seconds(1));
    let half = world.publish("alice", &p, listed(2));
    settles(&mut world, |r| matches!(r, Record::Reserved { .. }), true);
    world.pass(Span::seconds(1));
    settles(&mut world, |r| matches!(r, Record::Fresh { .. }), false);
    settles(&mut world, |r| matches!(r, Record::Entry { .. }), true);
    assert!(is_refused(&world, "alice", half), "what came with it was not kept");
    world.node("alice").slow_disk = false;
    let other = world.publish("alice", &p, listed(3));
    assert!(is_refused(&world, "alice", other), "the second entry is on the disk");
    // The next life finds it there, and goes on behind it.
    world.restart("alice");
    assert_eq!(world.head("alice", &p), 2);
    world.connect("alice", "bob");
    world.publish("alice", &p, listed(3));
    world.until("bob has the third", |w| w.head("bob", &p) == 3);
    assert!(!is_frozen(&world, "bob", &p));
}

/// Alice has published two entries, bob has both, and alice starts again, alone, without these records.
fn without(lost: impl Fn(&Record) -> bool) -> (World, Publisher) {
    let (mut world, p) = first(&["alice", "bob"]);
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    let newest = last_entry(&world);
    let head = Head { at: Position { epoch: 1, seq: 2 }, hash: newest.digest() };
    let newest = codec::encode(&newest).unwrap();
    let entry = |r: &Record| matches!(r, Record::Entry { envelope, .. } if *envelope == newest);
    world.node("alice").kept.retain(|r| !entry(r) && !lost(r));
    world.restart("alice");
    world.input("alice", Input::Marked { publisher: p.id, head });
    (world, p)
}
/// Alice signs nothing before bob gave her back what she lost.
fn goes_on_with_bob_alone(world: &mut World, p: &Publisher) {
    let job = world.publish("alice", p, listed(3));
    assert!(is_refused(world, "alice", job), "the second entry is lost");
    world.connect("alice", "bob");
    world.until("alice has the second again", |w| w.head("alice", p) == 2);
    world.publish("alice", p, listed(3));
    world.until("bob has the third", |w| w.head("bob", p) == 3);
    assert!(!is_frozen(world, "bob", p));
}

#[test]
fn an_entry_that_a_statement_behind_it_speaks_of_is_lost_not_reserved() {
    let (mut world, p) = without(|_| false);
    assert!(world.nodes["alice"].kept.iter().any(|r| matches!(r, Record::Fresh { .. })));
    goes_on_with_bob_alone(&mut world, &p);
}

#[test]
fn a_number_that_a_damaged_log_only_reserves_may_have_been_signed() {
    let (mut world, p) = without(|r| matches!(r, Record::Fresh { .. }));
    world.input("alice", Input::Lossy(true));
    goes_on_with_bob_alone(&mut world, &p);
    // Whoever has asked around and said that it is dealt with may use the number; so may everybody whose log is whole.
    for dealt_with in [true, false] {
        let (mut world, p) = without(|r| matches!(r, Record::Fresh { .. }));
        if dealt_with {
            world.input("alice", Input::Lossy(true));
            world.input("alice", Input::Lossy(false));
        }
        let job = world.publish("alice", &p, listed(3));
        world.until("alice used the number", |w| is_published(w, job));
    }
}

#[test]
fn a_refresh_is_over_when_what_this_device_states_is_durable_though_nobody_is_there_to_ask() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.part("alice", "bob");
    world.pass(Span::seconds(60));
    world.node("alice").slow_disk = true;
    world.input("alice", Input::Freshen { publisher: p.id });
    let job = world.node("alice").job();
    world.input("alice", Input::Refresh { job, publisher: p.id });
    let over = |w: &World| has(&w.nodes["alice"], |e| matches!(e, Event::Refreshed { job: j, .. } if *j == job));
    assert!(!over(&world), "the statement is not even signed");
    world.pass(Span::seconds(1));
    assert!(!over(&world), "the statement is not durable");
    world.sync("alice");
    world.pass(Span::millis(1));
    assert!(over(&world));
    // And at once where there is nothing to wait for.
    let job = world.node("alice").job();
    world.input("alice", Input::Refresh { job, publisher: p.id });
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Refreshed { job: j, .. } if *j == job)));
}
