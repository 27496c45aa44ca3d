//! A publisher that signs two things for one place. Invariant: whoever saw both takes nothing newer until the root reopens
//! the feed.

use super::*;

#[test]
fn two_entries_for_one_place_freeze_the_feed_everywhere_and_for_ever() {
    let (mut world, p) = following(&["alice", "bob", "carol", "eve"]);
    world.connect("bob", "carol");
    world.connect("eve", "bob");
    world.follow("carol", &p);
    world.publish("alice", &p, listed(1));
    world.until("the head reaches carol", |w| w.head("carol", &p) == 1);
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    world.until("carol and alice hear of it", |w| is_frozen(w, "carol", &p) && is_frozen(w, "alice", &p));
    world.pass(Span::seconds(1));
    for name in ["bob", "carol"] {
        assert!(has(&world.nodes[name], |e| matches!(e, Event::Frozen { .. })), "{name} is told");
        assert!(world.nodes[name].kept.iter().any(|r| matches!(r, Record::Proof { .. })), "{name} keeps the proof");
    }
    let job = world.publish("alice", &p, listed(2));
    assert!(is_refused(&world, "alice", job));
    world.restart("bob");
    assert!(is_frozen(&world, "bob", &p), "a restart does not thaw it");
    assert_eq!(world.head("bob", &p), 1, "what was verified stays");
}

#[test]
fn a_device_that_comes_later_learns_of_the_proof_by_asking() {
    let (mut world, p) = first(&["alice", "bob", "carol", "eve"]);
    world.connect("eve", "bob");
    world.follow("carol", &p);
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    world.pass(Span::seconds(1));
    world.connect("carol", "bob");
    world.until("carol freezes it too", |w| is_frozen(w, "carol", &p));
}

#[test]
fn a_new_root_reopens_a_frozen_feed_from_its_last_good_entry() {
    let (mut world, mut p) = world(&["alice", "bob", "carol", "eve"]);
    world.connect("alice", "bob");
    world.connect("carol", "bob");
    world.connect("eve", "carol");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    let good = last_entry(&world);
    // carol hears of the rival only: she is on the other branch.
    world.part("carol", "bob");
    world.follow("carol", &p);
    let mut other: Entry = good.open().unwrap();
    let snapshot = softservice_protocol::feed::Snapshot { listings: vec![listed(9)], spent: vec![] };
    (other.action, other.state_root) = (Action::Release(listed(9)), snapshot.state_root().unwrap());
    let other = p.seal(Kind::Entry, codec::encode(&other).unwrap());
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![softservice_protocol::message::Bytes(p.roots[0].clone())],
        snapshot: None,
        entries: vec![softservice_protocol::message::Bytes(codec::encode(&other).unwrap())],
        fresh: None,
        more: false,
    };
    let eve = world.peer("eve");
    world.input("carol", Input::Received { peer: eve, bytes: codec::encode(&page).unwrap() });
    world.until("carol is on the other branch", |w| w.head("carol", &p) == 1);
    world.connect("carol", "bob");
    world.until("all see it", |w| ["alice", "bob", "carol"].iter().all(|n| is_frozen(w, n, &p)));
    let head = Head { at: Position { epoch: 1, seq: 1 }, hash: good.digest() };
    let publisher = p.clone();
    p.reopen(2, head);
    world.own("alice", &p);
    world.until("alice is open again", |w| !view(w, "alice", &p).frozen);
    world.publish("alice", &p, listed(2));
    world.until("all have the second", |w| ["alice", "bob", "carol"].iter().all(|n| w.head(n, &publisher) == 2));
    for name in ["alice", "bob", "carol"] {
        let view = view(&world, name, &p);
        assert_eq!(
            (view.feed.snapshot.listings.clone(), view.frozen, view.root_version),
            (vec![listed(1), listed(2)], false, 2)
        );
    }
    world.restart("carol");
    assert_eq!(world.head("carol", &publisher), 2);
    assert!(!view(&world, "carol", &p).frozen);
}
