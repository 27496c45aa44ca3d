//! The scenarios of TUF's conformance suite that have a meaning here, under their names, in our language: TUF's root is
//! our root document, its timestamp our freshness statement, its snapshot and targets are a feed's entry with the
//! catalogue that it commits to. `docs/security.md` holds the table, with those that have no meaning here and why.
//! Names and expectations are those of theupdateframework/tuf-conformance; nothing else is.

mod basic;
#[path = "../cast/mod.rs"]
mod cast;
mod expiration;
mod keys;

use cast::{NOW, Publisher, digest, key, listing, revoke, role};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    codec,
    feed::{Action, FeedError, FeedState, Freshness, Head, Moment, Position, freshness, verify_fresh},
    id::FeedId,
    root::{FeedStart, Root, RootError, TrustedRoot, publisher_of},
    sign::{Envelope, Kind, SignatureError},
    time::{Span, Time},
};

/// What a good clock shows.
fn clock(clock: Time) -> Moment {
    Moment { clock, built: NOW }
}

fn numbered(numbers: &[u8]) -> Vec<SigningKey> {
    numbers.iter().map(|n| key(b'r', 100 + n)).collect()
}

/// Keys of the root role, threshold, and whose signatures a version carries.
type Version = (&'static [u8], u8, &'static [u8]);

/// Walks the versions; how many were accepted, and what refused the one after.
fn rotated(versions: &[Version]) -> (u64, Option<RootError>) {
    let others = Publisher::named(b'o').trusted.root;
    let document = |(keys, threshold, _): &Version, before: Option<&TrustedRoot>| {
        let mut root = before.map_or_else(|| others.clone(), |trusted| trusted.root.clone());
        let keys = numbered(keys);
        root.roles.root = role(*threshold, &keys.iter().collect::<Vec<_>>());
        if let Some(trusted) = before {
            (root.version, root.prev, root.publisher) = (root.version + 1, trusted.digest, trusted.publisher);
        }
        codec::encode(&root).unwrap()
    };
    let first = document(&versions[0], None);
    let id = publisher_of(&first);
    let sealed = |payload, (.., signers): &Version| {
        let keys = numbered(signers);
        Envelope::seal(Kind::Root, id, FeedId::main(id), payload, &keys.iter().collect::<Vec<_>>())
    };
    let mut trusted = TrustedRoot::first(id, &sealed(first, &versions[0])).unwrap();
    for version in &versions[1..] {
        let next = sealed(document(version, Some(&trusted)), version);
        match trusted.next(&next) {
            Ok(newer) => trusted = newer,
            Err(error) => return (trusted.root.version, Some(error)),
        }
    }
    (trusted.root.version, None)
}

#[test]
fn root_rotation() {
    const FIVE: &[u8] = &[0, 1, 2, 3, 4];
    const ONE_ROTATED: &[u8] = &[0, 1, 3, 4, 5];
    let good: [(&str, &[Version]); 9] = [
        ("1-of-1-key-rotation", &[(&[1], 1, &[1]), (&[2], 1, &[2, 1]), (&[2], 1, &[2])]),
        (
            "1-of-1-key-rotation-unused-signatures",
            &[(&[1], 1, &[3, 1, 4]), (&[2], 1, &[3, 2, 1, 4]), (&[2], 1, &[3, 2, 4])],
        ),
        (
            "3-of-5-sign-with-different-keycombos",
            &[(FIVE, 3, &[0, 2, 4]), (FIVE, 3, &[0, 4, 1]), (FIVE, 3, &[0, 1, 3]), (FIVE, 3, &[0, 1, 3])],
        ),
        ("3-of-5-one-key-rotated", &[(FIVE, 3, &[0, 2, 4]), (ONE_ROTATED, 3, &[0, 4, 1])]),
        (
            "3-of-5-one-key-rotated-with-intermediate-step",
            &[(FIVE, 3, &[0, 2, 4]), (ONE_ROTATED, 3, &[0, 2, 4, 5]), (ONE_ROTATED, 3, &[0, 4, 5])],
        ),
        (
            "3-of-5-all-keys-rotated-with-intermediate-step",
            &[(FIVE, 3, &[0, 2, 4]), (&[5, 6, 7, 8, 9], 3, &[0, 2, 4, 5, 6, 7]), (&[5, 6, 7, 8, 9], 3, &[5, 6, 7])],
        ),
        ("1-of-3-threshold-increase-to-2-of-3", &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[1, 2])]),
        (
            "2-of-3-threshold-decrease-to-1-of-3",
            &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        ),
        ("1-of-2-threshold-increase-to-2-of-2", &[(&[1], 1, &[1]), (&[1, 2], 2, &[1, 2])]),
    ];
    for (name, versions) in good {
        assert_eq!(rotated(versions), (versions.len() as u64, None), "{name}");
    }
    let bad: [(&str, [Version; 2]); 6] = [
        ("1-of-1-key-rotation-fail-not-signed-with-old-key", [(&[1], 1, &[1]), (&[2], 1, &[2, 3, 4])]),
        ("1-of-1-key-rotation-fail-not-signed-with-new-key", [(&[1], 1, &[1]), (&[2], 1, &[1, 3, 4])]),
        (
            "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys",
            [(FIVE, 3, &[0, 2, 4]), (ONE_ROTATED, 3, &[0, 2, 4])],
        ),
        (
            "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys",
            [(FIVE, 3, &[0, 2, 4]), (ONE_ROTATED, 3, &[0, 4, 5])],
        ),
        (
            "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached",
            [(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[2])],
        ),
        (
            "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-eached",
            [(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        ),
    ];
    for (name, versions) in bad {
        let (version, error) = rotated(&versions);
        assert_eq!(version, 1, "{name}");
        assert!(
            matches!(error, Some(RootError::Signature(SignatureError::TooFew { role: "root", .. }))),
            "{name}: {error:?}"
        );
    }
}

/// The publisher after a root that gives the roles of entries and statements these keys, and an entry and a statement
/// that these others signed.
fn signed_by(keys: &[u8], threshold: u8, signers: &[u8]) -> (bool, bool) {
    let mut anna = Publisher::named(b'a');
    anna.publish(listing("guestbook", "1.0.0", 1));
    let set = |offset: u8, numbers: &[u8]| numbers.iter().map(|n| key(b'r', offset + n)).collect::<Vec<_>>();
    let (release, fresh) = (set(100, keys), set(120, keys));
    let next = anna.successor(
        |r| {
            r.roles.release = role(threshold, &release.iter().collect::<Vec<_>>());
            r.roles.fresh = role(threshold, &fresh.iter().collect::<Vec<_>>());
        },
        &[],
    );
    anna.trusted = anna.trusted.next(&next).unwrap();
    let entry = codec::encode(&anna.draft(Action::Release(listing("guestbook", "2.0.0", 2)))).unwrap();
    let statement = codec::encode(&anna.statement()).unwrap();
    let (release, fresh) = (set(100, signers), set(120, signers));
    let entry = anna.seal(Kind::Entry, entry, &release.iter().collect::<Vec<_>>());
    let statement = anna.seal(Kind::Fresh, statement, &fresh.iter().collect::<Vec<_>>());
    (anna.feed.accept(&anna.trusted, &entry).is_ok(), verify_fresh(&anna.trusted, &statement).is_ok())
}

#[test]
fn non_root_rotations() {
    const FIVE: &[u8] = &[0, 1, 2, 3, 4];
    const ONE_ROTATED: &[u8] = &[0, 1, 3, 4, 5];
    /// Name, the role's keys and threshold, who signs, whether it counts.
    type Case<'a> = (&'a str, &'a [u8], u8, &'a [u8], bool);
    let cases: [Case<'_>; 10] = [
        ("1-of-1-key-rotation", &[2], 1, &[2], true),
        ("1-of-1-key-rotation-unused-signatures", &[1], 1, &[3, 1, 4], true),
        ("1-of-1-key-rotation-fail-not-signed-with-new-key", &[2], 1, &[1, 3, 4], false),
        ("3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys", ONE_ROTATED, 3, &[0, 2, 4], false),
        ("2-of-5-one-key-signature-mising-threshold-not-reached", ONE_ROTATED, 3, &[0, 4], false),
        ("3-of-5-sign-first-combo", FIVE, 3, &[0, 2, 4], true),
        ("3-of-5-sign-second-combo", FIVE, 3, &[0, 4, 1], true),
        ("3-of-5-sign-third-combo", FIVE, 3, &[0, 1, 3], true),
        ("3-of-5-sign-fourth-combo", FIVE, 3, &[1, 2, 3], true),
        ("3-of-5-sign-fifth-combo", FIVE, 3, &[2, 3, 4], true),
    ];
    for (name, keys, threshold, signers, good) in cases {
        assert_eq!(signed_by(keys, threshold, signers), (good, good), "{name}");
    }
}

/// Whether Anna's next root may give its release role these keys and this threshold.
fn root_refused(change: impl FnOnce(&mut Root)) -> bool {
    let anna = Publisher::named(b'a');
    matches!(anna.trusted.next(&anna.successor(change, &[])), Err(RootError::Invalid(_)))
}

/// Anna with two releases, and Bob who has both.
fn two_releases() -> (Publisher, FeedState) {
    let mut anna = Publisher::named(b'a');
    anna.publish(listing("guestbook", "1.0.0", 1));
    anna.publish(listing("guestbook", "2.0.0", 2));
    let bob = anna.feed.clone();
    (anna, bob)
}

#[test]
fn simple_snapshot_rollback() {
    let (anna, bob) = two_releases();
    assert_eq!(bob.accept(&anna.trusted, &anna.entries[0]), Err(FeedError::Known(1)));
    assert_eq!(bob.accept(&anna.trusted, &anna.entries[1]), Err(FeedError::Known(2)));
}

#[test]
fn snapshot_rollback() {
    // The same head, said to hold an older catalogue: the head's own state root says no.
    let (anna, _) = two_releases();
    let older =
        codec::encode(&FeedState::default().accept(&anna.trusted, &anna.entries[0]).unwrap().0.snapshot).unwrap();
    let error = FeedState::onboard(&anna.trusted, &anna.entries[1], &older).unwrap_err();
    assert!(matches!(error, FeedError::Broken { why: "the snapshot is not the one it commits to", .. }), "{error}");
}

#[test]
fn targets_rollback() {
    // A newer entry whose catalogue lost a release again is not what the entries add up to.
    let (anna, bob) = two_releases();
    let mut entry = anna.draft(Action::Release(listing("guestbook", "3.0.0", 3)));
    let first = FeedState::default().accept(&anna.trusted, &anna.entries[0]).unwrap().0;
    entry.state_root = first.snapshot.after(&entry.action, None).unwrap().state_root().unwrap();
    let error = bob.accept(&anna.trusted, &anna.sealed(&entry)).unwrap_err();
    assert!(matches!(error, FeedError::Broken { seq: 3, why } if why.contains("state root")), "{error}");
}

#[test]
fn a_published_version_stays_what_it_was() {
    // A release that was published stays what it was: the same version again, with other content, is refused.
    let (anna, bob) = two_releases();
    let mut entry = anna.draft(Action::Release(listing("guestbook", "3.0.0", 3)));
    entry.action = Action::Release(listing("guestbook", "2.0.0", 3));
    let error = bob.accept(&anna.trusted, &anna.sealed(&entry)).unwrap_err();
    assert!(
        matches!(error, FeedError::Broken { why: "this version of the distro is already published", .. }),
        "{error}"
    );
}

/// Anna's next root opens a new epoch after `last`.
fn reopened(anna: &mut Publisher, last: Head) {
    let feed = FeedStart { epoch: anna.trusted.root.feed.epoch + 1, from_seq: last.at.seq, from_hash: last.hash };
    anna.trusted = anna.trusted.next(&anna.successor(|r| r.feed = feed, &[])).unwrap();
}

#[test]
fn targets_fast_forward_recovery() {
    // A thief with the release key runs ahead; the root ends that epoch at the last good entry, and the feed goes on there.
    let (mut anna, good) = two_releases();
    for n in 3..50 {
        anna.publish(listing("guestbook", &format!("{n}.0.0"), n));
    }
    let victim = anna.feed.clone();
    let stolen = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "50.0.0", 50))));
    reopened(&mut anna, good.head);
    assert!(matches!(victim.accept(&anna.trusted, &stolen), Err(FeedError::Epoch { open: 2, found: 1 })));
    anna.feed = good.clone();
    let next = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.1", 200))));
    let (recovered, entry) = good.accept(&anna.trusted, &next).unwrap();
    assert_eq!((entry.at, recovered.snapshot.listings.len()), (Position { epoch: 2, seq: 3 }, 3));
    // Who followed the thief takes head and snapshot of the new epoch, which ranks above whatever number he reached.
    assert!(matches!(victim.accept(&anna.trusted, &next), Err(FeedError::Reopened { after: 2, head: 49 })));
    let snapshot = codec::encode(&recovered.snapshot).unwrap();
    let healed = FeedState::onboard(&anna.trusted, &next, &snapshot).unwrap();
    assert!(healed == recovered && healed.head.at > victim.head.at);
}

#[test]
fn new_snapshot_fast_forward_recovery() {
    // The largest number there is, signed and accepted: still not the end of the publisher.
    let (mut anna, good) = two_releases();
    anna.feed.head.at.seq = u64::MAX - 1;
    let last = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "3.0.0", 3))));
    let (victim, _) = anna.feed.accept(&anna.trusted, &last).unwrap();
    assert_eq!(victim.head.at.seq, u64::MAX);
    reopened(&mut anna, good.head);
    anna.feed = good.clone();
    let next = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.1", 4))));
    assert!(good.accept(&anna.trusted, &next).unwrap().0.head.at > victim.head.at);
}

#[test]
fn new_timestamp_fast_forward_recovery() {
    // A stolen fresh key speaks for years to come; a root with another key ends that.
    let (mut anna, _) = two_releases();
    let mut lie = anna.statement();
    (lie.issued_at, lie.valid_for) = (NOW + Span::days(3000), Span::days(90));
    let lie = anna.fresh(&lie);
    assert!(verify_fresh(&anna.trusted, &lie).is_ok());
    let heir = key(b'h', 3);
    anna.trusted = anna.trusted.next(&anna.successor(|r| r.roles.fresh = role(1, &[&heir]), &[])).unwrap();
    assert!(verify_fresh(&anna.trusted, &lie).is_err());
    let now = codec::encode(&anna.statement()).unwrap();
    assert!(verify_fresh(&anna.trusted, &anna.seal(Kind::Fresh, now, &[&heir])).is_ok());
}

#[test]
fn endless_data() {
    // No kind of signed object is looked at beyond its limit, however it is signed; no chain climbs for ever.
    let anna = Publisher::named(b'a');
    for kind in [Kind::Root, Kind::Entry, Kind::Fresh] {
        let keys = [&anna.root, &anna.release, &anna.fresh];
        let long = anna.seal(kind, vec![0; kind.limit() + 1], &keys);
        let error = long.verify(kind, anna.id(), "any", &[cast::public(&anna.root)], 1).unwrap_err();
        assert!(matches!(error, SignatureError::TooLong { .. }), "{error}");
        let fits = anna.seal(kind, vec![0; kind.limit()], &keys);
        assert!(!matches!(fits.verify(kind, anna.id(), "any", &[], 1), Err(SignatureError::TooLong { .. })));
    }
    let mut high = anna.trusted.clone();
    high.root.version = softservice_protocol::limits::ROOT_STEPS;
    let mut root = high.root.clone();
    (root.version, root.prev, root.publisher) = (root.version + 1, high.digest, anna.id());
    let beyond = anna.seal(Kind::Root, codec::encode(&root).unwrap(), &[&anna.root]);
    assert!(matches!(high.next(&beyond), Err(RootError::NotNext { found: 1025, .. })));
}

#[test]
fn delegations_give_no_right_that_a_role_has() {
    // A build machine's key stops nothing, restates nothing and changes no root, whatever else it may.
    let mut anna = Publisher::named(b'a');
    let machine = key(b'c', 1);
    let delegation = softservice_protocol::root::Delegation {
        key: cast::public(&machine),
        channel_prefix: "stable".into(),
        distros: vec!["guestbook".into()],
        not_after: NOW + Span::days(30),
        max_entries: 10,
    };
    anna.trusted = anna.trusted.next(&anna.successor(|r| r.delegations = vec![delegation], &[])).unwrap();
    let stop = codec::encode(&{
        anna.publish(listing("guestbook", "1.0.0", 1));
        anna.draft(revoke(1))
    })
    .unwrap();
    assert!(anna.feed.accept(&anna.trusted, &anna.seal(Kind::Entry, stop, &[&machine])).is_err());
    let statement = codec::encode(&anna.statement()).unwrap();
    assert!(verify_fresh(&anna.trusted, &anna.seal(Kind::Fresh, statement, &[&machine])).is_err());
    let root = anna.successor(|r| r.next_keys = Some(digest(3)), &[]);
    let by_machine = anna.seal(Kind::Root, root.payload, &[&machine]);
    assert!(anna.trusted.next(&by_machine).is_err());
}
