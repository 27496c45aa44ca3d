//! How news spread: by gossip, by asking, by snapshot, page by page.

use super::*;

#[test]
fn what_alice_publishes_reaches_bob_and_his_neighbour() {
    let (mut world, p) = following(&["alice", "bob", "carol"]);
    world.connect("bob", "carol");
    world.follow("carol", &p);
    world.until("the root reaches carol", |w| has(&w.nodes["carol"], |e| matches!(e, Event::Followed { .. })));
    let job = world.publish("alice", &p, listed(1));
    world.until("the head reaches carol", |w| w.head("carol", &p) == 1);
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job)));
    assert_eq!(view(&world, "carol", &p).feed.snapshot.listings, vec![listed(1)]);
    let head = |e: &Event| matches!(e, Event::Head { added, .. } if *added == vec![listed(1)]);
    assert!(has(&world.nodes["bob"], head) && has(&world.nodes["carol"], head));
    world.until("carol believes it", |w| {
        w.nodes["carol"].core.publisher(p.id).is_some_and(|v| v.freshness == Freshness::Fresh)
    });
}

#[test]
fn a_late_joiner_takes_head_and_snapshot_from_a_follower() {
    let (mut world, p) = following(&["alice", "bob", "carol"]);
    for version in 1..=20 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has all", |w| w.head("bob", &p) == 20);
    world.vanish("alice");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol has all", |w| w.head("carol", &p) == 20);
    assert_eq!(view(&world, "carol", &p).feed.snapshot.listings.len(), 20);
    let kept = &world.nodes["carol"].kept;
    assert!(kept.iter().any(|r| matches!(r, Record::Onboarded { .. })));
    assert!(!kept.iter().any(|r| matches!(r, Record::Entry { .. })), "history is not fetched one by one");
}

#[test]
fn a_gap_heals_by_asking_who_brought_the_news() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.part("alice", "bob");
    for version in 2..=5 {
        world.publish("alice", &p, listed(version));
    }
    world.until("alice has five", |w| w.head("alice", &p) == 5);
    let newest = codec::encode(&last_entry(&world)).unwrap();
    world.connect("alice", "bob");
    assert_eq!(world.whisper("alice", "bob", newest), Verdict::Ignore, "a gap is nobody's fault and is not passed on");
    world.until("bob caught up", |w| w.head("bob", &p) == 5);
    let order: Vec<_> = view(&world, "bob", &p).feed.snapshot.listings.clone();
    assert_eq!(order, (1..=5).map(listed).collect::<Vec<_>>());
}

#[test]
fn heads_heal_what_gossip_and_a_bad_network_lose() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    (world.losses, world.doubles, world.disorder) = (3, 4, 400);
    world.connect("alice", "bob");
    world.connect("bob", "carol");
    world.follow("bob", &p);
    world.follow("carol", &p);
    for version in 1..=12 {
        world.publish("alice", &p, listed(version));
        world.pass(Span::seconds(2));
    }
    world.until("everybody has all", |w| w.head("bob", &p) == 12 && w.head("carol", &p) == 12);
    for name in ["alice", "bob", "carol"] {
        assert!(!world.node(name).events.iter().any(|e| matches!(e, Event::Liar { .. } | Event::Frozen { .. })));
        assert_eq!(world.node(name).links.len(), if name == "bob" { 2 } else { 1 }, "nobody honest was sent away");
    }
}

#[test]
fn many_pages_of_a_long_feed_arrive() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    world.part("alice", "bob");
    for version in 100..400 {
        world.publish("alice", &p, listed(version));
        world.pass(Span::millis(10));
    }
    world.until("alice has all", |w| w.head("alice", &p) == 301);
    world.connect("alice", "bob");
    world.until("bob has all", |w| w.head("bob", &p) == 301);
    let pages =
        world.nodes["alice"].sends.iter().filter(|(_, m)| matches!(m, Message::Feed { more: true, .. })).count();
    assert!(pages >= 1, "300 entries are more than one page");
}
