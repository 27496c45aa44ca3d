//! Build machines publish with keys of their own. Invariant: what such a key may do stands in the root, and everybody
//! counts alike what is left of it.

use super::*;
use softservice_protocol::{
    feed::{FeedState, Listing},
    id::PublicKey,
    root::Delegation,
    time::Time,
};

fn nightly(version: u32) -> Listing {
    Listing { channel: "nightly".into(), ..listed(version) }
}
/// Alice released one version and delegates two nightly ones to the build machine, which is carol's; bob follows.
fn delegated(names: &[&'static str]) -> (World, Publisher, PublicKey) {
    let (mut world, mut p) = first(names);
    let key = p.new_key(50);
    let delegation = Delegation {
        key,
        channel_prefix: "nightly".into(),
        distros: vec!["guestbook".into()],
        not_after: START + Span::days(30),
        max_entries: 2,
    };
    p.succeed(|root| root.delegations = vec![delegation]);
    world.own("alice", &p);
    world.until("bob has the new root", |w| view(w, "bob", &p).root_version == 2);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    world.own("carol", &p.only(&[key]));
    world.until("carol has the feed", |w| w.head("carol", &p) == 1 && view(w, "carol", &p).root_version == 2);
    (world, p, key)
}
fn build(world: &mut World, p: &Publisher, key: PublicKey, listing: Listing) -> Job {
    let job = world.node("carol").job();
    world.input("carol", Input::PublishBy { job, publisher: p.id, key, action: Action::Release(listing) });
    job
}
/// What a thief with the key might sign next, whatever the root allows.
fn forged(p: &Publisher, after: &FeedState, action: Action, key: PublicKey, issued_at: Time) -> Envelope {
    let by = matches!(action, Action::Release(_)).then_some(key);
    let state_root = after.snapshot.after(&action, by).unwrap().state_root().unwrap();
    let at = Position { epoch: 1, seq: after.head.at.seq + 1 };
    let entry = Entry { at, prev: after.head.hash, action, state_root, issued_at, by };
    p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), &[key])
}

#[test]
fn a_build_machine_publishes_alone_what_the_root_lets_it() {
    let (mut world, p, key) = delegated(&["alice", "bob", "carol", "dave"]);
    for (listing, part) in [
        (listed(2), "does not reach this channel"),
        (Listing { distro: "other".into(), ..nightly(2) }, "does not name this distro"),
    ] {
        let job = build(&mut world, &p, key, listing);
        let why = world.nodes["carol"].events.iter().find_map(|e| match e {
            Event::Refused { job: j, why, .. } if *j == job => Some(why.clone()),
            _ => None,
        });
        assert!(why.unwrap().contains(part));
    }
    for version in [2, 3] {
        build(&mut world, &p, key, nightly(version));
        world.until("bob has it", |w| w.head("bob", &p) == u64::from(version));
    }
    let job = build(&mut world, &p, key, nightly(4));
    assert!(is_refused(&world, "carol", job), "two entries are all it may append");
    // A newcomer begins with what alice signed, and takes the machine's entries one by one.
    world.vanish("alice");
    world.connect("dave", "bob");
    world.follow("dave", &p);
    world.until("dave has all", |w| w.head("dave", &p) == 3);
    assert_eq!(view(&world, "dave", &p).feed, view(&world, "bob", &p).feed);
    let kept = &world.nodes["dave"].kept;
    assert_eq!(kept.iter().filter(|r| matches!(r, Record::Entry { .. })).count(), 2);
    world.restart("dave");
    assert_eq!(view(&world, "dave", &p).feed, view(&world, "bob", &p).feed);
}

#[test]
fn a_stolen_build_key_reaches_its_channel_until_the_root_drops_it_and_nothing_else() {
    let (mut world, mut p, key) = delegated(&["alice", "bob", "carol", "dave", "eve"]);
    world.connect("eve", "bob");
    let before = view(&world, "bob", &p).feed.clone();
    let now = world.now;
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "mine".into() };
    let stop = Action::Revoke { release: listed(1).release, revocation };
    let other = Listing { distro: "other".into(), ..nightly(9) };
    let refused = [
        forged(&p, &before, Action::Release(listed(9)), key, now),
        forged(&p, &before, Action::Release(other), key, now),
        forged(&p, &before, stop, key, now),
        forged(&p, &before, Action::Release(nightly(9)), key, START + Span::days(31)),
        forged(&p, &before, Action::Release(nightly(9)), key, Time(before.issued_at.0 - 1)),
    ];
    for envelope in &refused {
        assert_ne!(world.whisper("eve", "bob", codec::encode(envelope).unwrap()), Verdict::Accept);
        world.pass(Span::seconds(1));
        world.connect("eve", "bob");
    }
    assert!(world.head("bob", &p) == 1 && !is_frozen(&world, "bob", &p));
    // Damage: its channel.
    for version in [66, 67] {
        let bad = forged(&p, &view(&world, "bob", &p).feed.clone(), Action::Release(nightly(version)), key, now);
        world.whisper("eve", "bob", codec::encode(&bad).unwrap());
        world.pass(Span::seconds(1));
    }
    assert_eq!(world.head("bob", &p), 3);
    let third = forged(&p, &view(&world, "bob", &p).feed.clone(), Action::Release(nightly(68)), key, now);
    assert_ne!(world.whisper("eve", "bob", codec::encode(&third).unwrap()), Verdict::Accept);
    world.until("alice sees it", |w| w.head("alice", &p) == 3);
    // Way back: the root drops the key, and alice revokes what it published. Nobody vouches for it before.
    p.succeed(|root| root.delegations.clear());
    world.own("alice", &p);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 3);
    world.pass(Span::seconds(5));
    assert!(!view(&world, "alice", &p).signed, "what the machine appended is not signed unasked");
    for version in [66, 67] {
        let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "not ours".into() };
        world.append("alice", &p, Action::Revoke { release: listed(version).release, revocation });
    }
    world.until("bob is told", |w| w.head("bob", &p) == 5);
    let late = forged(&p, &view(&world, "bob", &p).feed.clone(), Action::Release(nightly(69)), key, now);
    assert_ne!(world.whisper("eve", "bob", codec::encode(&late).unwrap()), Verdict::Accept);
    world.vanish("alice");
    world.connect("dave", "bob");
    world.follow("dave", &p);
    world.until("dave is told, too", |w| w.head("dave", &p) == 5);
    let revoked = view(&world, "dave", &p).feed.snapshot.listings.iter().filter(|l| l.revoked.is_some()).count();
    assert_eq!(revoked, 2);
}

#[test]
fn a_newcomer_knows_what_is_left_of_a_budget_it_did_not_see_spent() {
    let (mut world, p, key) = delegated(&["alice", "bob", "carol", "dave", "eve"]);
    for version in [2, 3] {
        build(&mut world, &p, key, nightly(version));
        world.until("bob has it", |w| w.head("bob", &p) == u64::from(version));
    }
    world.until("alice has them", |w| w.head("alice", &p) == 3);
    world.publish("alice", &p, listed(4));
    world.until("bob has the fourth", |w| w.head("bob", &p) == 4);
    world.connect("dave", "bob");
    world.follow("dave", &p);
    world.until("dave begins with it", |w| w.head("dave", &p) == 4);
    assert!(!world.nodes["dave"].kept.iter().any(|r| matches!(r, Record::Entry { .. })));
    world.connect("eve", "dave");
    let feed = view(&world, "dave", &p).feed.clone();
    let third = forged(&p, &feed, Action::Release(nightly(5)), key, world.now);
    assert_ne!(world.whisper("eve", "dave", codec::encode(&third).unwrap()), Verdict::Accept);
    world.pass(Span::seconds(5));
    assert_eq!(world.head("dave", &p), 4);
}

#[test]
fn a_root_that_only_adds_a_delegation_leaves_newcomers_their_beginning() {
    let (mut world, mut p, key) = delegated(&["alice", "bob", "carol", "dave"]);
    build(&mut world, &p, key, nightly(2));
    world.until("bob has it", |w| w.head("bob", &p) == 2);
    let other = p.new_key(51);
    p.succeed(|root| {
        let first = root.delegations[0].clone();
        root.delegations.push(Delegation { key: other, ..first });
        root.delegations.sort_by_key(|d| d.key);
    });
    world.own("alice", &p);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 3);
    assert!(view(&world, "bob", &p).signed);
    world.vanish("alice");
    world.connect("dave", "bob");
    world.follow("dave", &p);
    world.until("dave has all", |w| w.head("dave", &p) == 2);
}

#[test]
fn a_build_key_dates_nothing_ahead_and_does_not_keep_a_feed_fresh() {
    let (mut world, p, key) = delegated(&["alice", "bob", "carol", "eve"]);
    world.vanish("alice");
    world.vanish("carol");
    world.connect("eve", "bob");
    let before = view(&world, "bob", &p).feed.clone();
    let ahead = forged(&p, &before, Action::Release(nightly(2)), key, world.now + Span::seconds(3700));
    assert_ne!(world.whisper("eve", "bob", codec::encode(&ahead).unwrap()), Verdict::Accept);
    assert_eq!(world.head("bob", &p), 1);
    world.pass(Span::days(6));
    world.connect("eve", "bob");
    let build = forged(&p, &before, Action::Release(nightly(2)), key, world.now);
    world.whisper("eve", "bob", codec::encode(&build).unwrap());
    world.until("bob has it", |w| w.head("bob", &p) == 2);
    world.pass(Span::days(3));
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale, "the publisher said nothing for nine days");
}

#[test]
fn a_delegation_reaches_nothing_after_its_end() {
    let (mut world, mut p, key) = delegated(&["alice", "bob", "carol", "dave", "eve"]);
    world.connect("eve", "bob");
    let end = world.now + Span::seconds(600);
    p.succeed(|root| root.delegations[0].not_after = end);
    world.own("alice", &p);
    world.until("bob has the nearer end", |w| view(w, "bob", &p).root_version == 3);
    world.pass(Span::millis(end.0 - world.now.0 - 1_000));
    let feed = view(&world, "bob", &p).feed.clone();
    let last = forged(&p, &feed, Action::Release(nightly(8)), key, world.now);
    assert_eq!(world.whisper("eve", "bob", codec::encode(&last).unwrap()), Verdict::Accept);
    world.until("bob has what came before it", |w| w.head("bob", &p) == 2);
    // Dated by a clock that is right, so nothing but the delegation's end speaks against it.
    world.pass(Span::seconds(60));
    let feed = view(&world, "bob", &p).feed.clone();
    let late = forged(&p, &feed, Action::Release(nightly(9)), key, world.now);
    assert_ne!(world.whisper("eve", "bob", codec::encode(&late).unwrap()), Verdict::Accept);
    world.pass(Span::seconds(5));
    assert!(world.head("bob", &p) == 2 && !is_frozen(&world, "bob", &p));
}
