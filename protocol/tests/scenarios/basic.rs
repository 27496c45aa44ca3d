//! The suite's `test_basic.py`: beginnings, what is not signed, not named, not there, or something else than it says.

use super::*;

#[test]
fn basic_metadata_hash_support() {
    let (anna, _) = two_releases();
    // Not the listing that the head adds: that one is compared with the entry as well.
    let mut other = anna.feed.snapshot.clone();
    other.listings[0].release = softservice_protocol::id::ReleaseId([9; 32]);
    let other = codec::encode(&other).unwrap();
    let error = FeedState::onboard(&anna.trusted, &anna.entries[1], &other).unwrap_err();
    assert!(matches!(error, FeedError::Broken { why: "the snapshot is not the one it commits to", .. }), "{error}");
}

#[test]
fn unsigned_initial_root() {
    let anna = Publisher::named(b'a');
    let mut unsigned = anna.first.clone();
    unsigned.signatures[0].bytes[7] ^= 1;
    let error = TrustedRoot::first(anna.id(), &unsigned).unwrap_err();
    assert!(matches!(error, RootError::Signature(SignatureError::TooFew { good: 0, .. })), "{error}");
}

#[test]
fn invalid_initial_root() {
    let anna = Publisher::named(b'a');
    let mut cut = anna.first.clone();
    cut.payload.pop();
    assert_eq!(TrustedRoot::first(anna.id(), &cut), Err(RootError::OtherChain));
    // A document that hashes to its name and is none.
    let id = publisher_of(&cut.payload);
    let named = Envelope::seal(Kind::Root, id, FeedId::main(id), cut.payload, &[&anna.root]);
    assert!(matches!(TrustedRoot::first(id, &named), Err(RootError::Codec(_))));
}

#[test]
fn unsigned_metadata() {
    // Of each kind in turn the signature is taken away. What came before it in a walk stays; it itself moves nothing.
    let (anna, bob) = two_releases();
    let unsigned = |mut envelope: Envelope| {
        envelope.signatures.clear();
        envelope
    };
    let root = unsigned(anna.successor(|_| (), &[]));
    assert!(matches!(anna.trusted.next(&root), Err(RootError::Signature(SignatureError::TooFew { good: 0, .. }))));
    let few = |role| FeedError::Signature(SignatureError::TooFew { role, good: 0, needed: 1 });
    let statement = unsigned(anna.fresh(&anna.statement()));
    assert_eq!(verify_fresh(&anna.trusted, &statement), Err(few("fresh")));
    // Snapshot and targets: an entry that continues, and a head with its whole catalogue.
    let entry = unsigned(anna.sealed(&anna.draft(Action::Release(listing("guestbook", "3.0.0", 3)))));
    assert_eq!(bob.accept(&anna.trusted, &entry), Err(few("release")));
    let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
    let head = unsigned(anna.entries[1].clone());
    assert_eq!(FeedState::onboard(&anna.trusted, &head, &snapshot), Err(few("release")));
}

#[test]
fn url_and_metadata_version_mismatch() {
    // Nothing is named by an address here: what was asked for is a number behind the last one. A root document, an entry
    // and a catalogue that are of a number further on are not the next.
    let (anna, bob) = two_releases();
    let root = anna.successor(|r| r.version += 1, &[]);
    assert_eq!(anna.trusted.next(&root), Err(RootError::NotNext { trusted: 1, found: 3 }));
    let mut entry = anna.draft(Action::Release(listing("guestbook", "3.0.0", 3)));
    entry.at.seq = 4;
    assert_eq!(bob.accept(&anna.trusted, &anna.sealed(&entry)), Err(FeedError::Gap { wanted: 3, found: 4 }));
    let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
    let error = FeedState::onboard(&anna.trusted, &anna.entries[0], &snapshot).unwrap_err();
    assert!(matches!(error, FeedError::Broken { why: "the snapshot is not the one it commits to", .. }), "{error}");
}

#[test]
fn metadata_bytes_match() {
    // What is kept and passed on are the bytes that came; and there is no second spelling of them to be told apart.
    let anna = Publisher::named(b'a');
    let came = codec::encode(&anna.fresh(&anna.statement())).unwrap();
    let read: Envelope = codec::decode(&came).unwrap();
    assert_eq!(codec::encode(&read).unwrap(), came);
    let unique = [came.as_slice(), b" "].concat();
    assert!(codec::decode::<Envelope>(&unique).is_err());
    let mut spaced = anna.statement();
    spaced.valid_for = Span::days(3);
    let mut payload = codec::encode(&spaced).unwrap();
    payload.push(b' ');
    assert!(verify_fresh(&anna.trusted, &anna.seal(Kind::Fresh, payload, &[&anna.fresh])).is_err(), "though signed");
}

#[test]
fn incorrect_metadata_type() {
    // One key has both roles, one after the other, and signs an entry: it is no statement, whatever it is called.
    let mut anna = Publisher::named(b'a');
    let (release, fresh) = (anna.release.clone(), key(b'h', 1));
    let swap = |r: &mut Root| {
        r.roles.release = role(1, &[&fresh]);
        r.roles.fresh = role(1, &[&release]);
    };
    let entry = anna.sealed(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1))));
    anna.trusted = anna.trusted.next(&anna.successor(swap, &[])).unwrap();
    assert_eq!(verify_fresh(&anna.trusted, &entry), Err(SignatureError::Elsewhere.into()));
    let renamed = Envelope { kind: Kind::Fresh, ..entry };
    let few = SignatureError::TooFew { role: "fresh", good: 0, needed: 1 };
    assert_eq!(verify_fresh(&anna.trusted, &renamed), Err(few.into()));
}

#[test]
fn snapshot_404() {
    // A statement names a head that nobody brings: it is believed, and moves nothing; what comes behind it is a gap.
    let (mut anna, bob) = two_releases();
    anna.publish(listing("guestbook", "3.0.0", 3));
    let statement = verify_fresh(&anna.trusted, &anna.fresh(&anna.statement())).unwrap();
    assert_eq!((statement.head.at.seq, bob.head.at.seq), (3, 2));
    let behind = anna.publish(listing("guestbook", "4.0.0", 4));
    assert_eq!(bob.accept(&anna.trusted, &behind), Err(FeedError::Gap { wanted: 3, found: 4 }));
    assert_eq!(bob.snapshot.listings.len(), 2);
}

#[test]
fn targets_404() {
    // A newcomer is given a head, and no catalogue or an empty one: there is nothing to begin with.
    let (anna, _) = two_releases();
    let empty = codec::encode(&FeedState::default().snapshot).unwrap();
    for catalogue in [vec![], empty] {
        assert!(FeedState::onboard(&anna.trusted, &anna.entries[1], &catalogue).is_err());
    }
}

#[test]
fn timestamp_404() {
    // Nobody says any more that this is current: what was verified stays, and grows stale by the clock alone.
    let (anna, bob) = two_releases();
    let at = |days| freshness(None, NOW, &anna.trusted.root, clock(NOW + Span::days(days))).0;
    assert_eq!((at(8), at(100)), (Freshness::Stale, Freshness::Expired));
    assert_eq!(bob.snapshot.listings.len(), 2);
}
