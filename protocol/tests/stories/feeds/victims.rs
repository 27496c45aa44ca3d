//! Who believed a thief, slept at the wrong time, or is lied to by the page. Invariant: the victim blames nobody honest, and is
//! with everybody else again once the root says who speaks.

use super::*;
use softservice_protocol::{
    feed::{FeedState, Fresh, Snapshot},
    id::PublicKey,
    message::Bytes,
    root::Role,
    time::Time,
};

fn role(key: PublicKey) -> Role {
    Role { threshold: 1, keys: vec![key] }
}
/// The entry after `after` that adds a version, by these keys.
fn next(p: &Publisher, after: &FeedState, version: u32, keys: &[PublicKey]) -> Envelope {
    let action = Action::Release(listed(version));
    let state_root = after.snapshot.after(&action, None).unwrap().state_root().unwrap();
    let at = Position { epoch: after.head.at.epoch, seq: after.head.at.seq + 1 };
    let entry = Entry { at, prev: after.head.hash, action, state_root, issued_at: START, by: None };
    p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), keys)
}
fn statement(p: &Publisher, head: Head, root_version: u64, issued_at: Time, days: u64) -> Envelope {
    let fresh = Fresh { head, root_version, issued_at, valid_for: Span::days(days) };
    let keys = p.root().roles.fresh.keys;
    p.sealed(Kind::Fresh, codec::encode(&fresh).unwrap(), &keys)
}
fn bytes(envelope: &Envelope) -> Bytes {
    Bytes(codec::encode(envelope).unwrap())
}
/// Answers a question that it makes somebody ask.
fn say(world: &mut World, from: &'static str, to: &'static str, page: &Message) {
    let Message::Feed { publisher, .. } = page else { unreachable!() };
    let head = Head { at: Position { epoch: 9, seq: 900 }, hash: Digest::of(b"more") };
    let peer = world.peer(from);
    for message in [&Message::Heads(vec![(*publisher, head)]), page] {
        world.input(to, Input::Received { peer, bytes: codec::encode(message).unwrap() });
    }
}
fn page(p: &Publisher, snapshot: Option<&Snapshot>, entries: &[&Envelope]) -> Message {
    Message::Feed {
        publisher: p.id,
        roots: p.roots.iter().cloned().map(Bytes).collect(),
        snapshot: snapshot.map(|s| Bytes(codec::encode(s).unwrap())),
        entries: entries.iter().map(|e| bytes(e)).collect(),
        fresh: None,
        more: false,
    }
}
/// Carol took a second entry from whoever stole the release key, everybody else the publisher's; then the key changed.
fn deceived() -> (World, Publisher) {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    world.until("carol has the first", |w| w.head("carol", &p) == 1);
    world.vanish("carol");
    world.connect("eve", "carol");
    let stolen = p.root().roles.release.keys;
    let bad = next(&p, &view(&world, "carol", &p).feed.clone(), 36, &stolen);
    world.whisper("eve", "carol", codec::encode(&bad).unwrap());
    world.until("carol believes it", |w| w.head("carol", &p) == 2);
    world.vanish("carol");
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    let key = p.new_key(70);
    p.succeed(|root| root.roles.release = role(key));
    world.own("alice", &p);
    world.until("bob has it signed anew", |w| view(w, "bob", &p).root_version == 2 && view(w, "bob", &p).signed);
    (world, p)
}

#[test]
fn whoever_took_a_stolen_keys_word_blames_nobody_who_did_not() {
    let (mut world, p) = deceived();
    world.connect("eve", "carol");
    world.connect("bob", "carol");
    say(&mut world, "eve", "carol", &page(&p, None, &[]));
    let head = view(&world, "bob", &p).feed.head;
    let entry = codec::encode(&last_entry(&world)).unwrap();
    let fresh = codec::encode(&statement(&p, head, 2, world.now, 7)).unwrap();
    for bytes in [entry.clone(), fresh.clone(), entry, fresh] {
        assert_eq!(world.whisper("bob", "carol", bytes), Verdict::Ignore);
    }
    world.pass(Span::seconds(1));
    assert!(world.nodes["carol"].bans.is_empty() && world.nodes["carol"].links.contains("bob"));
}

#[test]
fn whoever_took_a_stolen_keys_word_is_brought_back_by_what_the_new_key_signed() {
    let (mut world, p) = deceived();
    world.connect("carol", "bob");
    world.until("carol is with everybody", |w| view(w, "carol", &p).feed == view(w, "bob", &p).feed);
    assert!(view(&world, "carol", &p).signed && !is_frozen(&world, "carol", &p));
    world.publish("alice", &p, listed(3));
    world.until("and goes on with them", |w| w.head("carol", &p) == 3);
    world.restart("carol");
    assert_eq!(view(&world, "carol", &p).feed, view(&world, "bob", &p).feed);
}

#[test]
fn a_snapshot_takes_no_revocation_back() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    world.append("alice", &p, Action::Revoke { release: listed(1).release, revocation });
    world.until("bob is told", |w| w.head("bob", &p) == 2);
    world.vanish("alice");
    // By the release key itself, far ahead, so that the catalogue is all that bob can go by.
    let forgetful = Snapshot { listings: vec![listed(1), listed(2)], spent: vec![] };
    let entry = Entry {
        at: Position { epoch: 1, seq: 9 },
        prev: Digest::of(b"eight"),
        action: Action::Release(listed(2)),
        state_root: forgetful.state_root().unwrap(),
        issued_at: START,
        by: None,
    };
    let envelope = p.seal(Kind::Entry, codec::encode(&entry).unwrap());
    world.connect("eve", "bob");
    say(&mut world, "eve", "bob", &page(&p, Some(&forgetful), &[&envelope]));
    world.pass(Span::seconds(1));
    let feed = view(&world, "bob", &p).feed;
    assert!(feed.head.at.seq == 2 && feed.snapshot.listings[0].revoked.is_some());
}

#[test]
fn a_page_of_more_entries_than_anybody_sends_is_refused_unread() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    let entry = last_entry(&world);
    for _ in 0..2 {
        world.connect("eve", "bob");
        say(&mut world, "eve", "bob", &page(&p, None, &vec![&entry; 257]));
        world.pass(Span::seconds(1));
    }
    assert_eq!(world.nodes["bob"].bans.len(), 1, "eve is sent away");
    say(&mut world, "alice", "bob", &page(&p, None, &vec![&entry; 256]));
    world.pass(Span::seconds(1));
    assert!(world.nodes["bob"].links.contains("alice"));
}

#[test]
fn a_statement_of_a_fresh_key_that_was_dropped_holds_no_longer() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    // As far ahead as clocks may differ, and for as long as a statement may hold.
    let lie = statement(&p, view(&world, "bob", &p).feed.head, 1, world.now + Span::seconds(3500), 90);
    assert_eq!(world.whisper("eve", "bob", codec::encode(&lie).unwrap()), Verdict::Accept);
    let key = p.new_key(71);
    p.succeed(|root| root.roles.fresh = role(key));
    world.own("alice", &p);
    let heard = |w: &World| {
        let mut said = w.nodes["bob"].kept.iter().filter_map(|r| match r {
            Record::Fresh { envelope, .. } => codec::decode::<Envelope>(envelope).ok()?.open::<Fresh>().ok(),
            _ => None,
        });
        said.next_back().is_some_and(|f| f.root_version == 2)
    };
    world.until("bob hears the new key", heard);
    world.vanish("alice");
    world.pass(Span::days(20));
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale);
    world.restart("bob");
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale);
}

#[test]
fn a_feed_frozen_in_a_new_epoch_is_frozen_for_whoever_slept_through_its_beginning() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    world.until("carol has the first", |w| w.head("carol", &p) == 1);
    world.vanish("carol");
    p.reopen(2, view(&world, "bob", &p).feed.head);
    world.own("alice", &p);
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    world.connect("eve", "bob");
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    world.until("bob stops", |w| is_frozen(w, "bob", &p));
    world.connect("carol", "bob");
    world.until("carol knows the root", |w| view(w, "carol", &p).root_version == 2);
    world.pass(Span::seconds(5));
    assert!(is_frozen(&world, "carol", &p));
    world.restart("carol");
    assert!(is_frozen(&world, "carol", &p));
}

#[test]
fn whoever_stands_at_the_named_entry_takes_it_for_known_whoever_signed_it() {
    let (mut world, mut p) = first(&["alice", "bob"]);
    let (named, feed) = (last_entry(&world), view(&world, "bob", &p).feed.clone());
    let key = p.new_key(70);
    p.succeed(|root| {
        root.roles.release = role(key);
        root.feed = softservice_protocol::root::FeedStart { epoch: 2, from_seq: 1, from_hash: feed.head.hash };
    });
    world.own("alice", &p);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 2);
    world.part("alice", "bob");
    world.publish("alice", &p, listed(2));
    world.until("alice goes on", |w| w.head("alice", &p) == 2);
    world.connect("alice", "bob");
    let page = page(&p, Some(&feed.snapshot), &[&named, &last_entry(&world)]);
    say(&mut world, "alice", "bob", &page);
    assert!(world.within(Span::millis(4), |w| w.head("bob", &p) == 2), "before any other message arrives");
}
