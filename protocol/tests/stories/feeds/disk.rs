//! What the disk has to do with it. Invariant: nothing is shown or signed twice whatever a crash takes away.

use super::*;

#[test]
fn nothing_is_shown_or_announced_before_it_is_durable() {
    let (mut world, p) = following(&["alice", "bob", "carol"]);
    world.connect("bob", "carol");
    world.until("bob follows", |w| has(&w.nodes["bob"], |e| matches!(e, Event::Followed { .. })));
    world.node("alice").slow_disk = true;
    world.publish("alice", &p, listed(1));
    world.pass(Span::seconds(40));
    assert!(matches!(world.nodes["alice"].waiting[..], [(_, Record::Reserved { .. })]), "nothing is signed yet");
    world.sync("alice");
    world.pass(Span::seconds(40));
    assert!(world.nodes["alice"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    assert_eq!((world.head("alice", &p), world.head("bob", &p)), (0, 0));
    assert!(world.nodes["alice"].gossiped.is_empty());
    world.node("bob").slow_disk = true;
    world.sync("alice");
    world.until("bob was told", |w| w.nodes["bob"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    assert_eq!(world.head("bob", &p), 0);
    assert!(!has(&world.nodes["bob"], |e| matches!(e, Event::Head { .. })));
    world.sync("bob");
    assert_eq!(world.head("bob", &p), 1);
}

#[test]
fn nothing_is_passed_on_before_it_is_durable() {
    let (mut world, p) = following(&["alice", "bob", "carol"]);
    world.until("bob follows", |w| has(&w.nodes["bob"], |e| matches!(e, Event::Followed { .. })));
    world.vanish("bob");
    world.publish("alice", &p, listed(1));
    world.until("alice has it", |w| w.head("alice", &p) == 1);
    let entry = codec::encode(&last_entry(&world)).unwrap();
    world.connect("carol", "bob");
    world.node("bob").slow_disk = true;
    let judged = |w: &World, gossip| w.nodes["bob"].judged.iter().find(|(g, _)| *g == gossip).map(|(_, v)| *v);
    // Gossip, then gossip once more of what is on its way to the disk.
    let first = world.mutter("carol", "bob", entry.clone());
    let again = world.mutter("alice", "bob", entry.clone());
    world.pass(Span::seconds(40));
    assert_eq!((judged(&world, first), judged(&world, again)), (None, None), "a crash would take it back");
    world.sync("bob");
    assert_eq!((judged(&world, first), judged(&world, again)), (Some(Verdict::Accept), Some(Verdict::Accept)));
    // What the disk does not take is not passed on.
    world.publish("alice", &p, listed(2));
    world.until("alice has the second", |w| w.head("alice", &p) == 2);
    let entry = codec::encode(&last_entry(&world)).unwrap();
    let second = world.mutter("carol", "bob", entry);
    for (token, _) in std::mem::take(&mut world.node("bob").waiting) {
        world.input("bob", Input::NotKept { token, why: "no space left".into() });
    }
    assert_eq!(judged(&world, second), Some(Verdict::Ignore));
    assert_eq!(world.head("bob", &p), 1);
}

#[test]
fn a_crash_between_reservation_and_entry_signs_nothing_twice() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.node("alice").slow_disk = true;
    world.publish("alice", &p, listed(2));
    world.sync("alice"); // the reservation is durable, the entry is signed and waits for the disk
    world.pass(Span::seconds(1));
    assert!(world.nodes["alice"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    world.restart("alice");
    world.node("alice").slow_disk = false;
    world.connect("alice", "bob");
    world.pass(Span::seconds(5));
    assert_eq!(world.head("alice", &p), 1);
    world.publish("alice", &p, listed(3));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    assert!(!view(&world, "bob", &p).frozen, "nobody saw what was signed before the crash");
    let last = view(&world, "bob", &p).feed.snapshot.listings.last().cloned();
    assert_eq!(last, Some(listed(3)));
}

#[test]
fn a_mark_above_the_log_keeps_alice_from_a_second_word() {
    let (mut world, p) = first(&["alice", "bob"]);
    let whole = world.nodes["alice"].kept.clone();
    let head = Head { at: Position { epoch: 1, seq: 1 }, hash: last_entry(&world).digest() };
    let mark = Input::Marked { publisher: p.id, head };
    let refused = |w: &World| {
        has(
            &w.nodes["alice"],
            |e| matches!(e, Event::Refused { cause: Cause::Safety, why, .. } if why.contains("lost")),
        )
    };

    // A crash after the reservation: the log holds it, so the mark is no loss.
    world.node("alice").kept.retain(|r| !matches!(r, Record::Entry { .. } | Record::Fresh { .. }));
    world.restart("alice");
    world.input("alice", mark.clone());
    world.publish("alice", &p, listed(1));
    assert!(!refused(&world));

    // Neither entry nor reservation: alice, alone, signs nothing; with bob's help she goes on where she was.
    world.node("alice").kept = whole;
    world.node("alice").kept.retain(|r| !matches!(r, Record::Entry { .. } | Record::Reserved { .. }));
    world.restart("alice");
    world.input("alice", mark);
    world.publish("alice", &p, listed(2));
    assert!(refused(&world));
    world.connect("alice", "bob");
    world.until("alice got her entry back", |w| w.head("alice", &p) == 1);
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    assert!(!view(&world, "bob", &p).frozen);
}

#[test]
fn a_publisher_that_lost_its_log_asks_before_it_signs() {
    let (mut world, p) = following(&["alice", "bob"]);
    for version in 1..=3 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has three", |w| w.head("bob", &p) == 3);
    world.node("alice").kept.clear();
    world.restart("alice");
    world.connect("bob", "alice");
    world.until("bob said that he knows more", |w| {
        w.nodes["bob"].sends.iter().filter(|(_, m)| matches!(m, Message::Heads(_))).count() > 1
    });
    world.pass(Span::millis(6));
    let job = world.publish("alice", &p, listed(4));
    let early = is_refused(&world, "alice", job);
    world.until("alice has her own feed again", |w| w.head("alice", &p) >= 3);
    if early {
        world.publish("alice", &p, listed(4));
    }
    world.until("the fourth follows the third", |w| w.head("bob", &p) == 4);
    assert!(!view(&world, "bob", &p).frozen);
}

#[test]
fn restarted_devices_remember_and_unfollowed_publishers_stay_silent() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.restart("bob");
    assert_eq!(world.head("bob", &p), 1);
    assert!(world.nodes["bob"].topics.contains(&p.id));
    world.input("bob", Input::Unfollow { publisher: p.id });
    world.pass(Span::seconds(1));
    assert!(world.nodes["bob"].topics.is_empty() && world.nodes["bob"].core.publisher(p.id).is_none());
    world.restart("bob");
    assert!(world.nodes["bob"].topics.is_empty() && world.nodes["bob"].core.publisher(p.id).is_none());
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.node("alice").signs = false;
    let job = world.publish("alice", &p, listed(1));
    world.until("alice is told", |w| is_refused(w, "alice", job));
    world.node("alice").signs = true;
    world.publish("alice", &p, listed(1));
    world.until("alice has it", |w| w.head("alice", &p) == 1);
    let job = world.publish("alice", &p, listed(1));
    assert!(is_refused(&world, "alice", job), "twice the same");
    let job = world.publish("bob", &p, listed(2));
    assert!(is_refused(&world, "bob", job), "not bob's");
}
