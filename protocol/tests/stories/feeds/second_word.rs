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

/// The store keeps proofs apart, and gives one that its other log lost behind everything else.
#[test]
fn a_proof_that_comes_back_last_freezes_what_it_froze_and_nothing_that_a_root_reopened() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let good = last_entry(&world);
    world.whisper("eve", "bob", codec::encode(&rival(&good, &p)).unwrap());
    world.until("both see it", |w| ["alice", "bob"].iter().all(|n| is_frozen(w, n, &p)));
    let last = |world: &mut World| {
        let kept = &mut world.node("bob").kept;
        kept.sort_by_key(|r| matches!(r, Record::Proof { .. }));
        assert!(matches!(kept.last(), Some(Record::Proof { .. })));
        world.restart("bob");
    };
    // Also where the roots, and all else, are lost and come again.
    last(&mut world);
    assert!(is_frozen(&world, "bob", &p));
    let whole = world.nodes["bob"].kept.clone();
    world.node("bob").kept.retain(|r| matches!(r, Record::Proof { .. } | Record::Followed { .. }));
    world.restart("bob");
    assert!(is_frozen(&world, "bob", &p));
    world.node("bob").kept = whole;
    world.restart("bob");
    p.reopen(2, Head { at: Position { epoch: 1, seq: 1 }, hash: good.digest() });
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.until("alice is open again", |w| !is_frozen(w, "alice", &p));
    world.publish("alice", &p, listed(2));
    world.until("bob is open again", |w| w.head("bob", &p) == 2);
    last(&mut world);
    assert!(!is_frozen(&world, "bob", &p), "the root reopened it");
    assert_eq!(world.head("bob", &p), 2);
    world.connect("alice", "bob");
    world.publish("alice", &p, listed(3));
    world.until("and bob goes on", |w| w.head("bob", &p) == 3);
}

/// Bob holds the proof and is alone with it: carol, whose first entry is the same, was not there.
fn missed() -> (World, Publisher) {
    let (mut world, p) = first(&["alice", "bob", "carol", "dora", "eve"]);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    world.until("carol has the first", |w| w.head("carol", &p) == 1);
    for name in ["alice", "carol"] {
        world.vanish(name);
    }
    world.connect("eve", "bob");
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    world.until("bob holds the proof", |w| is_frozen(w, "bob", &p));
    world.vanish("eve");
    (world, p)
}
fn proofs(world: &World, name: &str) -> usize {
    let is = |m: &Message| matches!(m, Message::Feed { roots, entries, .. } if roots.is_empty() && entries.len() == 2);
    world.nodes[name].sends.iter().filter(|(_, m)| is(m)).count()
}

#[test]
fn whoever_missed_the_proof_and_is_as_far_is_told_when_they_meet() {
    let (mut world, p) = missed();
    // Also after a restart.
    world.restart("bob");
    let before = proofs(&world, "bob");
    world.connect("bob", "carol");
    assert!(world.within(Span::seconds(20), |w| is_frozen(w, "carol", &p)), "carol is told");
    assert!(world.nodes["carol"].kept.iter().any(|r| matches!(r, Record::Proof { .. })), "and keeps it");
    world.pass(Span::seconds(300));
    assert_eq!(proofs(&world, "bob") - before, 1, "once for each connection");
    // And she tells it to whoever follows the publisher.
    world.restart("carol");
    world.vanish("bob");
    world.connect("carol", "alice");
    assert!(world.within(Span::seconds(20), |w| is_frozen(w, "alice", &p)));
}

#[test]
fn whoever_is_ahead_on_the_other_branch_is_told() {
    let (mut world, p) = missed();
    // Dora, a second home, knows nothing of alice's entry and makes two of her own.
    world.own("dora", &p);
    world.connect("carol", "dora");
    world.restart("carol");
    world
        .node("carol")
        .kept
        .retain(|r| !matches!(r, Record::Entry { .. } | Record::Onboarded { .. } | Record::Fresh { .. }));
    world.restart("carol");
    for version in [7, 8] {
        world.publish("dora", &p, listed(version));
    }
    world.connect("carol", "dora");
    world.until("carol is on that branch", |w| w.head("carol", &p) == 2);
    assert_eq!(world.head("bob", &p), 1);
    world.vanish("dora");
    world.connect("bob", "carol");
    assert!(world.within(Span::seconds(20), |w| is_frozen(w, "carol", &p)), "carol is told");
}

#[test]
fn a_proof_that_is_too_large_for_gossip_has_a_way() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    let key = p.new_key(60);
    let distros: Vec<String> = (0..64).map(|n| format!("{n:02}-{}", "long".repeat(14))).collect();
    let large = |root: &mut softservice_protocol::root::Root, by: u64| {
        root.issued_at.0 += by;
        root.delegations = vec![softservice_protocol::root::Delegation {
            key,
            channel_prefix: "nightly".into(),
            distros: distros.clone(),
            not_after: START + Span::days(90),
            max_entries: 9,
        }];
    };
    let other = p.successor(|root| large(root, 1));
    p.succeed(|root| large(root, 2));
    world.own("alice", &p);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    world.until("all have the second root", |w| ["bob", "carol"].iter().all(|n| view(w, n, &p).root_version == 2));
    world.until("and the first entry", |w| w.head("carol", &p) == 1);
    for name in ["alice", "carol"] {
        world.vanish(name);
    }
    world.connect("eve", "bob");
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![softservice_protocol::message::Bytes(codec::encode(&other).unwrap())],
        snapshot: None,
        entries: vec![],
        fresh: None,
        more: false,
    };
    let (eve, head) = (world.peer("eve"), Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"more") });
    for message in [Message::Heads(vec![(p.id, head)]), page] {
        world.input("bob", Input::Received { peer: eve, bytes: codec::encode(&message).unwrap() });
    }
    assert!(is_frozen(&world, "bob", &p));
    world.vanish("eve");
    let size = world.nodes["bob"].kept.iter().find_map(|r| match r {
        Record::Proof { proof } => Some(proof.len()),
        _ => None,
    });
    assert!(size.unwrap() > softservice_protocol::limits::GOSSIP_BYTES, "{size:?}");
    world.connect("bob", "carol");
    assert!(world.within(Span::seconds(20), |w| is_frozen(w, "carol", &p)), "carol is told");
}
