//! The suite's `test_expiration.py` and `test_delegated_expiration.py`. A departure on purpose: what is expired here is
//! loud, not an error; a delegation alone ends by its date.

use super::*;
use softservice_protocol::root::Delegation;

#[test]
fn root_expired() {
    // It is taken as the newest, since it may have new keys; what it speaks for is expired.
    let (mut anna, bob) = two_releases();
    let over = |r: &mut Root| r.expires_at = r.issued_at + Span::days(1);
    anna.trusted = anna.trusted.next(&anna.successor(over, &[])).unwrap();
    let statement = verify_fresh(&anna.trusted, &anna.fresh(&anna.statement())).unwrap();
    let at = |days| freshness(Some(&statement), NOW, &anna.trusted.root, clock(NOW + Span::days(days))).0;
    assert_eq!((at(0), at(2)), (Freshness::Fresh, Freshness::Expired));
    assert_eq!(bob.snapshot.listings.len(), 2, "what was verified stays");
}

#[test]
fn timestamp_expired() {
    let (anna, _) = two_releases();
    let statement = verify_fresh(&anna.trusted, &anna.fresh(&anna.statement())).unwrap();
    let at = |days| freshness(Some(&statement), NOW, &anna.trusted.root, clock(NOW + Span::days(days))).0;
    assert_eq!((at(6), at(8), at(40)), (Freshness::Fresh, Freshness::Stale, Freshness::Expired));
}

#[test]
fn expired_local_timestamp() {
    // Stale or expired state here is no obstacle to newer: entries and statements go on from it.
    let (mut anna, bob) = two_releases();
    let late = NOW + Span::days(300);
    assert_eq!(freshness(None, NOW, &anna.trusted.root, clock(late)).0, Freshness::Expired);
    let mut entry = anna.draft(Action::Release(listing("guestbook", "3.0.0", 3)));
    entry.issued_at = late;
    let envelope = anna.sealed(&entry);
    assert!(bob.accept(&anna.trusted, &envelope).is_ok());
    anna.append(envelope);
    let mut statement = anna.statement();
    statement.issued_at = late;
    let statement = verify_fresh(&anna.trusted, &anna.fresh(&statement)).unwrap();
    assert_eq!(freshness(Some(&statement), late, &anna.trusted.root, clock(late)).0, Freshness::Fresh);
}

#[test]
fn expired_local_root() {
    // A root document that is expired here is followed by the next one like any other.
    let mut anna = Publisher::named(b'a');
    let until = |days| move |r: &mut Root| r.expires_at = r.issued_at + Span::days(days);
    anna.trusted = anna.trusted.next(&anna.successor(until(7), &[])).unwrap();
    let now = clock(NOW + Span::days(18));
    let at = |trusted: &TrustedRoot| freshness(None, NOW + Span::days(18), &trusted.root, now).0;
    assert_eq!(at(&anna.trusted), Freshness::Expired);
    let next = anna.trusted.next(&anna.successor(until(400), &[])).unwrap();
    assert_eq!(next.root.version, 3);
    assert_ne!(at(&next), Freshness::Expired);
}

/// Anna, whose root lets a machine publish until a day; and what the machine would append on another.
fn delegated(until: u64) -> (Publisher, SigningKey) {
    let (mut anna, machine) = (Publisher::named(b'a'), key(b'c', 1));
    let delegation = Delegation {
        key: cast::public(&machine),
        channel_prefix: "stable".into(),
        distros: vec!["guestbook".into()],
        not_after: NOW + Span::days(until),
        max_entries: 10,
    };
    anna.trusted = anna.trusted.next(&anna.successor(|r| r.delegations = vec![delegation], &[])).unwrap();
    (anna, machine)
}
fn appended(anna: &Publisher, machine: &SigningKey, version: &str, day: u64) -> Result<(), FeedError> {
    let mut entry = anna.draft(Action::Release(listing("guestbook", version, 1)));
    (entry.by, entry.issued_at) = (Some(cast::public(machine)), NOW + Span::days(day));
    // What it commits to names who spent of its budget.
    entry.state_root = anna.feed.snapshot.after(&entry.action, entry.by).unwrap().state_root().unwrap();
    let envelope = anna.seal(Kind::Entry, codec::encode(&entry).unwrap(), &[machine]);
    anna.feed.accept(&anna.trusted, &envelope).map(|_| ())
}
const ENDED: FeedError = FeedError::Broken { seq: 1, why: "the delegation has ended" };

#[test]
fn delegated_targets_expired() {
    let (anna, machine) = delegated(7);
    assert_eq!(appended(&anna, &machine, "1.0.0", 8), Err(ENDED));
}

#[test]
fn expired_local_delegated_targets() {
    // It was good on day 0 and is not on day 18; what it published meanwhile stays what it is.
    let (anna, machine) = delegated(7);
    assert_eq!(appended(&anna, &machine, "1.0.0", 0), Ok(()));
    assert_eq!(appended(&anna, &machine, "1.0.0", 18), Err(ENDED));
}

#[test]
fn expired_local_delegated_targets_updates() {
    let (mut anna, machine) = delegated(7);
    assert_eq!(appended(&anna, &machine, "1.0.0", 18), Err(ENDED));
    let longer = anna.successor(|r| r.delegations[0].not_after = NOW + Span::days(21), &[]);
    anna.trusted = anna.trusted.next(&longer).unwrap();
    assert_eq!(appended(&anna, &machine, "1.0.0", 18), Ok(()));
}
