//! What is lost or stolen, what it damages, and the way back: each row of the table as a story, and a sleeper's long night.

use super::*;
use softservice_protocol::{
    feed::{Fresh, Snapshot},
    id::PublicKey,
    message::Bytes,
    root::{Role, keys_commitment},
    time::Time,
};

fn role(threshold: u8, keys: &[PublicKey]) -> Role {
    let mut keys = keys.to_vec();
    keys.sort();
    Role { threshold, keys }
}
fn page(p: &Publisher, entries: &[&Envelope], fresh: Option<&Envelope>) -> Message {
    let bytes = |e: &Envelope| Bytes(codec::encode(e).unwrap());
    let (roots, entries) = (p.roots.iter().cloned().map(Bytes).collect(), entries.iter().map(|e| bytes(e)).collect());
    Message::Feed { publisher: p.id, roots, snapshot: None, entries, fresh: fresh.map(bytes), more: false }
}
/// Says something to somebody who asked.
fn say(world: &mut World, from: &'static str, to: &'static str, p: &Publisher, page: &Message) {
    let peer = world.peer(from);
    let head = Head { at: Position { epoch: 9, seq: 900 }, hash: Digest::of(b"more") };
    for message in [&Message::Heads(vec![(p.id, head)]), page] {
        let bytes = codec::encode(message).unwrap();
        world.input(to, Input::Received { peer, bytes });
    }
}
/// The entry after `after`, about another version, signed by these keys.
fn next(p: &Publisher, after: &softservice_protocol::feed::FeedState, version: u32, keys: &[PublicKey]) -> Envelope {
    let action = Action::Release(listed(version));
    let state_root = after.snapshot.after(&action, None).unwrap().state_root().unwrap();
    let at = Position { epoch: p.root().feed.epoch, seq: after.head.at.seq + 1 };
    let entry = Entry { at, prev: after.head.hash, action, state_root, issued_at: START, by: None };
    p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), keys)
}
fn versions(world: &World, name: &str, p: &Publisher) -> Vec<String> {
    view(world, name, p).feed.snapshot.listings.iter().map(|l| l.version.clone()).collect()
}

#[test]
fn a_stolen_fresh_key_freezes_at_most_and_a_new_root_ends_that() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    let thief = p.clone();
    world.part("alice", "bob");
    world.publish("alice", &p, listed(2));
    world.until("alice has two", |w| w.head("alice", &p) == 2);
    // Damage: bob is told that his old head is the newest, for three months; nothing else can be said with it.
    world.connect("eve", "bob");
    let head = view(&world, "bob", &p).feed.head;
    let lie = |head, now: Time, days| {
        let fresh = Fresh { head, root_version: 1, issued_at: now, valid_for: Span::days(days) };
        thief.seal(Kind::Fresh, codec::encode(&fresh).unwrap())
    };
    let stale = lie(head, world.now, 90);
    say(&mut world, "eve", "bob", &p, &page(&p, &[], Some(&stale)));
    let release = next(&p, &view(&world, "bob", &p).feed.clone(), 9, &p.root().roles.fresh.keys);
    say(&mut world, "eve", "bob", &p, &page(&p, &[&release], None));
    world.vanish("eve");
    world.pass(Span::days(30));
    assert_eq!((view(&world, "bob", &p).freshness, world.head("bob", &p)), (Freshness::Fresh, 1));
    // Way back: a new root version. The thief's later words are nobody's.
    let key = p.new_key(71);
    p.succeed(|root| root.roles.fresh = role(1, &[key]));
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.until("bob has both", |w| w.head("bob", &p) == 2 && view(w, "bob", &p).root_version == 2);
    world.vanish("alice");
    world.pass(Span::days(60));
    let late = lie(view(&world, "bob", &p).feed.head, world.now, 90);
    world.connect("eve", "bob");
    world.whisper("eve", "bob", codec::encode(&late).unwrap());
    assert_ne!(view(&world, "bob", &p).freshness, Freshness::Fresh);
}

#[test]
fn fewer_release_keys_than_the_threshold_are_worth_nothing_to_a_thief() {
    let (mut world, mut p) = world(&["alice", "bob", "carol", "eve"]);
    let keys = [60, 61, 62].map(|seed| p.new_key(seed));
    p.succeed(|root| root.roles.release = role(2, &keys));
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    let feed = view(&world, "bob", &p).feed.clone();
    let stolen = &keys[..1];
    let (one, other) = (next(&p, &feed, 8, stolen), next(&p, &feed, 9, stolen));
    // Damage: none. No entry, no second word, no catalogue for newcomers.
    world.connect("eve", "bob");
    for envelope in [&one, &other] {
        assert_ne!(world.whisper("eve", "bob", codec::encode(envelope).unwrap()), Verdict::Accept);
    }
    say(&mut world, "eve", "bob", &p, &page(&p, &[&one, &other], None));
    world.connect("eve", "carol");
    world.follow("carol", &p);
    let catalogue = feed.snapshot.after(&Action::Release(listed(8)), None).unwrap();
    let Message::Feed { publisher, roots, entries, .. } = page(&p, &[&one], None) else { unreachable!() };
    let snapshot = Some(Bytes(codec::encode::<Snapshot>(&catalogue).unwrap()));
    let invented = Message::Feed { publisher, roots, snapshot, entries, fresh: None, more: false };
    say(&mut world, "eve", "carol", &p, &invented);
    world.pass(Span::seconds(60));
    assert!(world.head("bob", &p) == 1 && world.head("carol", &p) == 0);
    assert!(!is_frozen(&world, "bob", &p) && !is_frozen(&world, "carol", &p));
    // Way back: rotate. The feed goes on for everybody.
    let heir = p.new_key(63);
    p.succeed(|root| root.roles.release = role(2, &[heir, keys[1], keys[2]]));
    world.own("alice", &p);
    world.connect("carol", "bob");
    world.publish("alice", &p, listed(2));
    world.until("both have the second", |w| w.head("bob", &p) == 2 && w.head("carol", &p) == 2);
}

#[test]
fn a_threshold_of_stolen_release_keys_is_answered_by_revocation_new_keys_and_an_epoch() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    let stolen = p.root().roles.release.keys;
    let good = view(&world, "bob", &p).feed.head;
    // Damage: bad releases, which alice takes for her own until she looks.
    world.connect("eve", "bob");
    for version in [66, 67] {
        let bad = next(&p, &view(&world, "bob", &p).feed.clone(), version, &stolen);
        world.whisper("eve", "bob", codec::encode(&bad).unwrap());
        world.pass(Span::seconds(1));
    }
    world.until("the bad ones are everywhere", |w| w.head("bob", &p) == 3 && w.head("alice", &p) == 3);
    // The revoke key, which was not stolen, stops them at once.
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "not ours".into() };
    world.append("alice", &p, Action::Revoke { release: listed(66).release, revocation });
    world.until("bob is warned", |w| w.head("bob", &p) == 4);
    // New root, new keys, and an epoch from the last good entry: everybody goes back to it.
    let key = p.new_key(70);
    p.succeed(|root| {
        root.roles.release = role(1, &[key]);
        root.feed = softservice_protocol::root::FeedStart { epoch: 2, from_seq: good.at.seq, from_hash: good.hash };
    });
    world.own("alice", &p);
    world.until("bob went back", |w| view(w, "bob", &p).feed.head == good);
    assert_eq!(versions(&world, "bob", &p), ["1.0.0"]);
    world.publish("alice", &p, listed(2));
    world.until("bob has the next", |w| w.head("bob", &p) == 2);
    let late = next(&p, &view(&world, "bob", &p).feed.clone(), 68, &stolen);
    assert_ne!(world.whisper("eve", "bob", codec::encode(&late).unwrap()), Verdict::Accept);
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol sees the good ones only", |w| versions(w, "carol", &p) == ["1.0.0", "2.0.0"]);
}

#[test]
fn a_threshold_of_stolen_root_keys_takes_the_publisher_unless_the_next_keys_were_promised() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    let mut promised = p.clone();
    // Damage: the thief is the publisher from now on; whoever hears both sides stops.
    let mut thief = p.clone();
    let key = thief.new_key(80);
    thief.succeed(|root| root.roles.release = role(1, &[key]));
    world.connect("eve", "bob");
    say(&mut world, "eve", "bob", &thief, &page(&thief, &[], None));
    world.until("bob believes it", |w| view(w, "bob", &p).root_version == 2);
    p.succeed(|root| root.issued_at.0 += 1);
    world.own("alice", &p);
    world.part("alice", "bob");
    world.connect("alice", "bob");
    say(&mut world, "alice", "bob", &p, &page(&p, &[], None));
    world.until("bob and alice stop", |w| is_frozen(w, "bob", &p) && is_frozen(w, "alice", &p));
    // Way back: none in this chain, unless the document before promised the next keys, which the thief has not.
    let heir = promised.new_key(81);
    promised.succeed(|root| root.next_keys = Some(keys_commitment(&role(1, &[heir])).unwrap()));
    let (mut thief, mut owner) = (promised.clone(), promised.clone());
    thief.drawer.clear();
    thief.succeed(|root| root.roles.release = role(1, &[key]));
    owner.succeed(|root| {
        root.roles.root = role(1, &[heir]);
        root.next_keys = None;
    });
    world.connect("eve", "carol");
    world.follow("carol", &promised);
    say(&mut world, "eve", "carol", &promised, &page(&promised, &[], None));
    say(&mut world, "eve", "carol", &promised, &page(&thief, &[], None));
    world.pass(Span::seconds(20));
    assert_eq!(view(&world, "carol", &p).root_version, 2, "the thief's does not follow");
    world.connect("eve", "carol");
    say(&mut world, "eve", "carol", &promised, &page(&owner, &[], None));
    assert!(world.within(Span::seconds(60), |w| view(w, "carol", &p).root_version == 3), "the owner's does");
    assert!(!is_frozen(&world, "carol", &p));
}

#[test]
fn a_publisher_that_lost_all_feed_data_has_it_from_its_peers() {
    let (mut world, p) = following(&["alice", "bob", "carol"]);
    for version in 1..=3 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has three", |w| w.head("bob", &p) == 3);
    let mark = view(&world, "bob", &p).feed.head;
    world.vanish("alice");
    world.node("alice").kept.clear();
    world.restart("alice");
    world.input("alice", Input::Marked { publisher: p.id, head: mark });
    let job = world.publish("alice", &p, listed(4));
    assert!(is_refused(&world, "alice", job), "alone she signs nothing");
    world.connect("alice", "bob");
    world.until("alice has her feed again", |w| w.head("alice", &p) == 3);
    world.publish("alice", &p, listed(4));
    world.until("the fourth follows the third", |w| w.head("bob", &p) == 4);
    assert!(!is_frozen(&world, "bob", &p));
}

#[test]
fn a_sleeper_of_four_hundred_days_catches_up_over_ten_rotations_from_peers_alone() {
    let (mut world, mut p) = following(&["alice", "bob", "dave"]);
    world.connect("dave", "alice");
    world.follow("dave", &p);
    for version in 1..=3 {
        world.publish("alice", &p, listed(version));
    }
    world.until("all have three", |w| w.head("bob", &p) == 3 && w.head("dave", &p) == 3);
    let asleep = world.nodes["dave"].kept.clone();
    world.vanish("dave");
    let mut version = 3;
    for rotation in 0..10u8 {
        world.vanish("alice");
        world.pass(Span::days(40));
        world.connect("alice", "bob");
        let (release, fresh) = (p.new_key(100 + rotation), p.new_key(120 + rotation));
        if rotation == 4 {
            // The release key is lost: its successor signs the head anew.
            let lost = p.root().roles.release.keys;
            p.drawer.retain(|k| !lost.contains(&PublicKey(k.verifying_key().to_bytes())));
        }
        let head = view(&world, "bob", &p).feed.head;
        let before = world.nodes["alice"].core.reopens_at(p.id, head.at.seq - 1).unwrap();
        p.succeed(|root| {
            (root.roles.release, root.roles.fresh) = (role(1, &[release]), role(1, &[fresh]));
            if rotation == 7 {
                root.feed =
                    softservice_protocol::root::FeedStart { epoch: 2, from_seq: before.at.seq, from_hash: before.hash };
            }
        });
        world.own("alice", &p);
        version += 1;
        world.publish("alice", &p, listed(version));
        world.until("bob has the next", |w| {
            versions(w, "bob", &p).last() == Some(&format!("{version}.0.0"))
                && view(w, "bob", &p).root_version == u64::from(rotation) + 2
        });
    }
    world.vanish("alice");
    assert_eq!(world.nodes["dave"].kept, asleep);
    world.restart("dave");
    world.connect("dave", "bob");
    world.until("dave caught up", |w| view(w, "dave", &p).feed == view(w, "bob", &p).feed);
    let dave = view(&world, "dave", &p);
    assert_eq!((dave.root_version, dave.feed.head.at.epoch, dave.frozen), (11, 2, false));
    assert_eq!(versions(&world, "dave", &p).len(), 3 + 10 - 1, "what the epoch gave up is gone");
    world.restart("dave");
    assert_eq!(view(&world, "dave", &p).feed, view(&world, "bob", &p).feed);
}
