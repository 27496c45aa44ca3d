//! A publisher that means harm, alone or with a stolen key of somebody honest. Invariant: what it makes a device keep, and do
//! again at each start, is bounded by what an honest publisher could need, whatever it signs.

use super::*;
use crate::world::Closure;
use softservice_protocol::{
    feed::{FeedState, Fresh, Listing, Snapshot},
    id::PublicKey,
    message::Bytes,
    release::ReleaseRef,
    root::Delegation,
    sign::sign,
};

/// Catalogue entry number `n`; a revoked one with a long reason, if asked for.
fn minimal(n: u32, reason: Option<usize>) -> Listing {
    let mut release = [7; 32];
    release[..4].copy_from_slice(&n.to_be_bytes());
    let revoked =
        reason.map(|long| Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "x".repeat(long) });
    Listing { release: ReleaseId(release), version: format!("{n}.0.0"), summary: "x".into(), revoked, ..listed(1) }
}
fn entry(action: Action, at: Position, prev: Digest, after: &Snapshot) -> Entry {
    let state_root = after.state_root().unwrap();
    Entry { at, prev, action, state_root, issued_at: START, by: None }
}
/// The entry after `state`, signed by these keys, and the state after it.
fn next(p: &Publisher, state: &FeedState, action: Action, keys: &[PublicKey]) -> (Envelope, FeedState) {
    let snapshot = state.snapshot.after(&action, None).unwrap();
    let at = Position { epoch: p.root().feed.epoch, seq: state.head.at.seq + 1 };
    let envelope = p.sealed(Kind::Entry, codec::encode(&entry(action, at, state.head.hash, &snapshot)).unwrap(), keys);
    let head = Head { at, hash: envelope.digest() };
    (envelope, FeedState { head, snapshot, issued_at: START })
}
fn page(p: &Publisher, snapshot: Option<&Snapshot>, entries: &[&Envelope]) -> Message {
    Message::Feed {
        publisher: p.id,
        roots: vec![],
        snapshot: snapshot.map(|s| Bytes(codec::encode(s).unwrap())),
        entries: entries.iter().map(|e| Bytes(codec::encode(*e).unwrap())).collect(),
        fresh: None,
        more: false,
    }
}
/// Eve answers a question that she makes bob ask.
fn say(world: &mut World, p: &Publisher, page: &Message) {
    let peer = world.peer("eve");
    let head = Head { at: Position { epoch: 9, seq: 900 }, hash: Digest::of(b"more") };
    for message in [&Message::Heads(vec![(p.id, head)]), page] {
        world.input("bob", Input::Received { peer, bytes: codec::encode(message).unwrap() });
    }
}
fn kept(world: &World, wanted: impl Fn(&Record) -> bool) -> Vec<usize> {
    let kept = world.nodes["bob"].kept.iter().filter(|r| wanted(r));
    kept.map(|r| codec::encode(r).unwrap().len()).collect()
}
fn entries(world: &World) -> usize {
    kept(world, |r| matches!(r, Record::Entry { .. })).len()
}
fn onboarded(world: &World) -> Vec<usize> {
    kept(world, |r| matches!(r, Record::Onboarded { .. }))
}

/// A publisher of whom each of twelve roots gives up a catalogue of thousands of revoked releases, and the log that tells of it.
fn giving_up(many: u32) -> (Publisher, Vec<Record>) {
    let mut p = Publisher::new(1);
    let root = p.ticket(Head::START, &[]).root;
    let mut log = vec![Record::Followed { publisher: p.id, root, floor: Head::START, addresses: vec![] }];
    log.push(newest_root(&p));
    for epoch in 1..=12 {
        log.push(onboard(&p, epoch * 20_000, many, true));
        p.reopen(epoch + 1, Head::START);
        log.push(newest_root(&p));
    }
    // The last of them lists what the one before had revoked, and says nothing of that.
    log.push(onboard(&p, 12 * 20_000, many, false));
    (p, log)
}
fn newest_root(p: &Publisher) -> Record {
    Record::Root { publisher: p.id, envelope: p.roots.last().unwrap().clone() }
}
fn onboard(p: &Publisher, first: u32, many: u32, revoked: bool) -> Record {
    let mut listings: Vec<_> = (first..first + many).map(|n| minimal(n, revoked.then_some(1))).collect();
    listings.push(minimal(first + many, None));
    let action = Action::Release(minimal(first + many, None));
    let snapshot = Snapshot { listings, spent: vec![] };
    let at = Position { epoch: p.root().feed.epoch, seq: 7 };
    let envelope = p.seal(Kind::Entry, codec::encode(&entry(action, at, Digest::of(b"x"), &snapshot)).unwrap());
    let (envelope, snapshot) = (codec::encode(&envelope).unwrap(), codec::encode(&snapshot).unwrap());
    Record::Onboarded { publisher: p.id, envelope, snapshot }
}
/// Bob after a start with these records.
fn restored(log: &[Record]) -> World {
    let mut world = World::new(&["bob"]);
    log.iter().for_each(|record| world.input("bob", Input::Restored(record.clone())));
    world
}

/// Where each of them is held against each listing whenever a record is taken, this does not end.
#[test]
fn what_roots_gave_up_is_looked_through_once_and_the_newest_of_it_still_counts() {
    const MANY: u32 = 10_000;
    let (p, log) = giving_up(MANY);
    let world = restored(&log);
    let view = view(&world, "bob", &p);
    let listings = &view.feed.snapshot.listings;
    assert_eq!(listings.iter().filter(|l| l.revoked.is_some()).count(), MANY as usize);
    assert_eq!((view.feed.head.at, listings.len()), (Position { epoch: 13, seq: 7 }, MANY as usize + 1));
    assert_eq!(world.nodes["bob"].core.unsaid(p.id).len(), MANY as usize);
}

fn condensed(log: &[Record]) -> Option<Vec<Record>> {
    let condensed = softservice_protocol::machine::condense(log)?;
    let kept = log.iter().zip(condensed.keep).filter(|(_, keep)| *keep).map(|(record, _)| record.clone());
    Some(kept.chain(condensed.add).collect())
}

#[test]
fn a_log_without_what_nothing_needs_leads_to_the_same_and_goes_on_as_it_would_have() {
    const MANY: u32 = 900;
    let (mut p, log) = giving_up(MANY);
    let short = condensed(&log).expect("eleven catalogues that were given up are worth it");
    let catalogues = |log: &[Record]| log.iter().filter(|r| matches!(r, Record::Onboarded { .. })).count();
    assert_eq!((catalogues(&log), catalogues(&short)), (13, 1));
    let said = |w: &World| (format!("{:?}", view(w, "bob", &p)), w.nodes["bob"].core.unsaid(p.id));
    let (long_life, short_life) = (restored(&log), restored(&short));
    assert_eq!(said(&long_life), said(&short_life));
    assert!(condensed(&short).is_none(), "there is nothing more to drop");
    // What was given up long ago and is listed again later is as revoked as ever.
    let before = p.clone();
    p.reopen(14, Head::START);
    let later = [newest_root(&p), onboard(&p, 9 * 20_000, MANY, false)];
    let (long, short) = ([&log[..], &later].concat(), [&short[..], &later].concat());
    let said = |w: &World| (format!("{:?}", view(w, "bob", &p)), w.nodes["bob"].core.unsaid(p.id));
    let (long_life, short_life) = (restored(&long), restored(&short));
    assert_eq!(said(&long_life), said(&short_life));
    assert_eq!(short_life.nodes["bob"].core.unsaid(before.id).len(), MANY as usize);
    // And once more, with what the first time wrote.
    let again = condensed(&short);
    assert!(again.is_none_or(|again| said(&restored(&again)) == said(&long_life)));
}

#[test]
fn a_log_of_an_honest_publisher_keeps_every_record() {
    let (mut world, mut p) = first(&["alice", "bob"]);
    for version in 2..8 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has all", |w| w.head("bob", &p) == 7);
    p.reopen(2, view(&world, "bob", &p).feed.head);
    world.own("alice", &p);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 2);
    assert!(condensed(&world.nodes["bob"].kept).is_none());
}

#[test]
fn of_an_entry_that_continues_the_catalogue_is_not_kept_again() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let before = (onboarded(&world).len(), entries(&world));
    let state = FeedState::clone(view(&world, "bob", &p).feed);
    let (envelope, after) = next(&p, &state, Action::Release(listed(2)), &p.root().roles.release.keys);
    say(&mut world, &p, &page(&p, Some(&after.snapshot), &[&envelope]));
    world.until("bob has it", |w| w.head("bob", &p) == 2);
    assert_eq!((onboarded(&world).len(), entries(&world)), (before.0, before.1 + 1));
}

#[test]
fn a_catalogue_for_every_other_number_fills_no_disk() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let mut listings = view(&world, "bob", &p).feed.snapshot.listings.clone();
    listings.extend((2..1400).map(|n| minimal(n, Some(500))));
    for n in 1..40_u32 {
        listings.push(minimal(n + 5000, None));
        let snapshot = Snapshot { listings: listings.clone(), spent: vec![] };
        let at = Position { epoch: 1, seq: 2 * u64::from(n) + 1 };
        let action = Action::Release(minimal(n + 5000, None));
        let envelope = p.seal(Kind::Entry, codec::encode(&entry(action, at, Digest::of(b"x"), &snapshot)).unwrap());
        say(&mut world, &p, &page(&p, Some(&snapshot), &[&envelope]));
        world.pass(Span::seconds(1));
    }
    let onboarded = onboarded(&world);
    assert!(onboarded.len() > 8 && onboarded[3] > 700 << 10, "an honest device that sleeps and wakes takes some");
    assert!(onboarded.iter().sum::<usize>() < 20 << 20, "{} catalogues were kept", onboarded.len());
    assert!(world.nodes["bob"].links.contains("eve"), "whoever passes it on may not know");
}

#[test]
fn statements_a_moment_apart_are_not_all_kept() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    world.pass(Span::seconds(10));
    let head = view(&world, "bob", &p).feed.head;
    let kept = |world: &World| kept(world, |r| matches!(r, Record::Fresh { .. })).len();
    let before = kept(&world);
    let say = |world: &mut World, root_version: u64, later: Span, valid_for: Span| {
        let issued_at = world.now + later;
        let fresh = Fresh { head, root_version, issued_at, valid_for };
        let bytes = codec::encode(&p.seal(Kind::Fresh, codec::encode(&fresh).unwrap())).unwrap();
        let verdict = world.whisper("eve", "bob", bytes);
        world.pass(Span::millis(20));
        verdict
    };
    for n in 0..60 {
        say(&mut world, 1, Span::millis(n), Span::days(7));
    }
    assert!(kept(&world) <= before + 1, "{} statements were kept", kept(&world) - before);
    let before = kept(&world);
    // What says materially more is taken: it holds for longer, is about another root, or was said long after.
    assert_eq!(say(&mut world, 1, Span(0), Span::days(8)), Verdict::Accept);
    for version in 2..30 {
        say(&mut world, version, Span::seconds(1), Span::days(8));
    }
    assert_eq!(kept(&world), before + 2, "one root that is not here yet is news, and no more of them");
    world.pass(Span::seconds(3700));
    assert_eq!(say(&mut world, 1, Span(0), Span::days(8)), Verdict::Accept);
}

#[test]
fn revocations_in_ever_other_words_are_taken_one_after_another() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.vanish("alice");
    world.connect("eve", "bob");
    let mut state = FeedState::clone(view(&world, "bob", &p).feed);
    let before = entries(&world);
    let mut said = vec![];
    for n in 0..500 {
        let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: format!("reason {n}") };
        let action = Action::Revoke { release: listed(1).release, revocation };
        let (envelope, after) = next(&p, &state, action, &p.root().roles.revoke.keys);
        said.push(codec::encode(&envelope).unwrap());
        state = after;
    }
    for bytes in &said {
        world.whisper("eve", "bob", bytes.clone());
        world.pass(Span::millis(100));
    }
    let taken = entries(&world) - before;
    assert!((100..300).contains(&taken), "{taken} were taken at once");
    assert!(view(&world, "bob", &p).feed.snapshot.listings[0].revoked.is_some());
    // They are valid, so none is refused for good: what an honest feed contains comes through.
    for hour in 0..2 {
        world.pass(Span::seconds(3600));
        let from = usize::try_from(world.head("bob", &p)).unwrap() - 1;
        for bytes in said[from..].iter().take(20) {
            world.whisper("eve", "bob", bytes.clone());
        }
        world.pass(Span::seconds(1));
        assert_eq!(entries(&world) - before, taken + 20 * (hour + 1));
    }
}

#[test]
fn pages_under_keys_that_nobody_knows_end_with_who_sends_them_gone() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let nobody = Publisher::new(9);
    let state = FeedState::clone(view(&world, "bob", &p).feed);
    let mut foreign = next(&p, &state, Action::Release(listed(2)), &p.root().roles.release.keys).0;
    foreign.signatures = vec![sign(nobody.key(Kind::Entry), Kind::Entry, p.id, foreign.feed, &foreign.payload)];
    let message = page(&p, None, &[&foreign]);
    for _ in 0..10 {
        say(&mut world, &p, &message);
    }
    world.pass(Span::seconds(1));
    assert!(world.nodes["bob"].links.contains("eve"), "a few such pages are no flood");
    for _ in 0..60 {
        say(&mut world, &p, &message);
    }
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("alice"));
}

#[test]
fn a_newcomer_begins_however_many_entries_build_machines_appended_since() {
    let (mut world, mut p) = first(&["alice", "bob", "carol"]);
    let key = p.new_key(50);
    p.succeed(|root| {
        root.delegations = vec![Delegation {
            key,
            channel_prefix: "nightly".into(),
            distros: vec!["guestbook".into()],
            not_after: START + Span::days(300),
            max_entries: 5000,
        }];
    });
    world.own("alice", &p);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 2);
    world.vanish("alice");
    let mut state = FeedState::clone(view(&world, "bob", &p).feed);
    let mut bytes = 0;
    // More than is kept of what came before a beginning; nobody keeps signatures that prove nothing, so only content makes
    // entries long.
    while bytes < (2 << 20) + (64 << 10) {
        let n = u32::try_from(state.head.at.seq).unwrap() + 100;
        let listing = Listing { channel: "nightly".into(), summary: "x".repeat(200), ..minimal(n, None) };
        world.shelve(ReleaseRef { id: listing.release, size: listing.size }, Closure::default());
        let action = Action::Release(listing);
        let snapshot = state.snapshot.after(&action, Some(key)).unwrap();
        let at = Position { epoch: 1, seq: state.head.at.seq + 1 };
        let entry = Entry { by: Some(key), ..entry(action, at, state.head.hash, &snapshot) };
        let envelope = p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), &[key]);
        state = FeedState { head: Head { at, hash: envelope.digest() }, snapshot, issued_at: START };
        let envelope = codec::encode(&envelope).unwrap();
        bytes += envelope.len();
        world.input("bob", Input::Restored(Record::Entry { publisher: p.id, envelope }));
    }
    let last = state.head.at.seq;
    assert_eq!(world.head("bob", &p), last);
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol has all", |w| w.head("carol", &p) == last);
}
