//! The suite's `test_keys.py`: thresholds, repeated keys and signatures, and what a signature may look like.

use super::*;
use softservice_protocol::sign::Signature;

#[test]
fn snapshot_has_too_few_keys() {
    // A threshold above the number of keys could never be reached: the root that says so is refused, not only its entries.
    let five = numbered(&[0, 1, 2, 3, 4]);
    let five: Vec<&SigningKey> = five.iter().collect();
    assert!(!root_refused(|r| r.roles.release = role(5, &five)));
    assert!(root_refused(|r| r.roles.release = role(6, &five)));
    assert!(root_refused(|r| r.roles.release = role(0, &five)));
}

#[test]
fn snapshot_does_not_meet_threshold() {
    // Keys that stand in the root, but did not sign, count for nothing; nor do the root's own keys.
    assert_eq!(signed_by(&[0, 1, 2, 3], 3, &[0, 1]), (false, false));
    let mut anna = Publisher::named(b'a');
    let entry = codec::encode(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1)))).unwrap();
    let by_root = anna.seal(Kind::Entry, entry, &[&anna.root]);
    assert!(anna.feed.accept(&anna.trusted, &by_root).is_err());
    anna.publish(listing("guestbook", "1.0.0", 1));
}

#[test]
fn duplicate_keys() {
    let one = cast::public(&key(b'r', 100));
    assert!(root_refused(|r| (r.roles.release.keys, r.roles.release.threshold) = (vec![one; 2], 1)));
    assert!(root_refused(|r| (r.roles.release.keys, r.roles.release.threshold) = (vec![one; 10], 6)));
    // Neither twice in one role, nor once in two.
    assert!(root_refused(|r| r.roles.release.keys = r.roles.root.keys.clone()));
    assert!(root_refused(|r| r.roles.revoke.keys = r.roles.fresh.keys.clone()));
}

#[test]
fn duplicate_sig_keyids() {
    // A signature that stands there twice spoils the envelope, though one would do; ten are no threshold.
    let anna = Publisher::named(b'a');
    let entry = codec::encode(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1)))).unwrap();
    let good = anna.seal(Kind::Entry, entry, &[&anna.release]);
    for times in [2, 10] {
        let mut repeated = good.clone();
        repeated.signatures = vec![good.signatures[0].clone(); times];
        assert_eq!(anna.feed.accept(&anna.trusted, &repeated).unwrap_err(), SignatureError::Disorder.into());
    }
    assert!(anna.feed.accept(&anna.trusted, &good).is_ok());
}

#[test]
fn keytype_and_scheme() {
    // One type of key is supported here, under the number 1. A second signer of it counts; what only looks like a
    // signature does not, nor does one under the number of another type.
    let anna = Publisher::named(b'a');
    let second = key(b'r', 1);
    let both = role(2, &[&anna.root, &second]);
    let next = anna.successor(|r| r.roles.root = both, &[&second]);
    assert!(anna.trusted.next(&next).is_ok());
    let spoiled = |change: &dyn Fn(&mut Signature)| {
        let mut spoiled = next.clone();
        let of_second = spoiled.signatures.iter_mut().find(|s| s.key == cast::public(&second));
        change(of_second.expect("it signed"));
        anna.trusted.next(&spoiled)
    };
    let few = |e| matches!(e, Err(RootError::Signature(SignatureError::TooFew { good: 1, needed: 2, .. })));
    assert!(few(spoiled(&|s| s.bytes[40] ^= 1)));
    assert!(few(spoiled(&|s| s.bytes = vec![7; 70])), "as long as one of another type");
    assert!(few(spoiled(&|s| s.algorithm = 2)));
}

#[test]
fn invalid_sig_in_valid_metadata() {
    // The threshold is reached by others: it counts for nothing and spoils nothing, plausible or empty.
    let mut anna = Publisher::named(b'a');
    let (second, first) = (key(b'r', 1), key(b'a', 3));
    let next = anna.successor(|r| r.roles.fresh = role(1, &[&first, &second]), &[]);
    anna.trusted = anna.trusted.next(&next).unwrap();
    let good = anna.seal(Kind::Fresh, codec::encode(&anna.statement()).unwrap(), &[&first, &second]);
    for bytes in [vec![7; 64], vec![]] {
        let mut statement = good.clone();
        statement.signatures[0].bytes.clone_from(&bytes);
        assert!(verify_fresh(&anna.trusted, &statement).is_ok());
        statement.signatures[1].bytes = bytes;
        assert!(verify_fresh(&anna.trusted, &statement).is_err());
    }
}
