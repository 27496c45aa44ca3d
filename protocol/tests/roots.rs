//! Keys of a publisher change hands; Bob accepts each root document by the one before it.

mod cast;
use cast::{NOW, Publisher, digest, key, public, role};
use softservice_protocol::{
    root::{Delegation, Root, RootError, TrustedRoot, keys_commitment},
    sign::SignatureError,
    time::Span,
};

fn anna() -> Publisher {
    Publisher::named(b'a')
}

#[test]
fn keys_change_hands_by_both_sets_and_a_sleeper_walks_the_chain() {
    let mut anna = anna();
    let id = anna.id();
    let heir = key(b'h', 1);
    let second = anna.successor(|r| r.roles.root = role(1, &[&heir]), &[&heir]);
    let by_old_alone = anna.successor(|r| r.roles.root = role(1, &[&heir]), &[]);
    let too_few = |e| matches!(e, Err(RootError::Signature(SignatureError::TooFew { role: "root", .. })));
    assert!(too_few(anna.trusted.next(&by_old_alone)));
    let mut by_new_alone = second.clone();
    by_new_alone.signatures.retain(|s| s.key == public(&heir));
    assert!(too_few(anna.trusted.next(&by_new_alone)));

    let first = anna.first.clone();
    anna.trusted = anna.trusted.next(&second).unwrap();
    anna.root = heir;
    let third = anna.successor(|r| r.issued_at = NOW + Span::days(1), &[]);
    let walked = TrustedRoot::walk(id, [&first, &second, &third]).unwrap();
    assert_eq!((walked.publisher, walked.root.version), (id, 3));
    assert_eq!(
        TrustedRoot::walk(id, [&first, &third]).unwrap_err().to_string(),
        "0 of the 1 signatures that the root role needs are good"
    );
    assert!(matches!(TrustedRoot::walk(id, [&second]), Err(RootError::OtherChain)));
    assert!(matches!(TrustedRoot::walk(id, []), Err(RootError::NotNext { .. })));
    assert!(matches!(
        anna.trusted.next(&anna.successor(|r| r.version += 1, &[])),
        Err(RootError::NotNext { trusted: 2, found: 4 })
    ));
    assert!(matches!(anna.trusted.next(&anna.successor(|r| r.prev = digest(1), &[])), Err(RootError::OtherChain)));
    assert!(matches!(
        anna.trusted.next(&anna.successor(|r| r.min_protocol = 2, &[])),
        Err(RootError::Protocol { needed: 2 })
    ));
    let fork = anna.successor(|r| (r.version, r.issued_at) = (2, NOW + Span::days(2)), &[]);
    assert_eq!(anna.trusted.next(&fork), Err(RootError::Fork(2)));
}

/// There is one protocol so far: the document before is one that a later program took.
#[test]
fn the_minimum_protocol_never_falls() {
    let mut anna = anna();
    assert!(anna.trusted.next(&anna.successor(|_| (), &[])).is_ok());
    anna.trusted.root.min_protocol = 2;
    let lower = anna.successor(|r| r.min_protocol = 1, &[]);
    assert_eq!(anna.trusted.next(&lower), Err(RootError::Invalid("minimum protocol goes back")));
}

#[test]
fn a_root_document_keeps_its_rules() {
    let anna = anna();
    let extra = key(b'x', 1);
    let repeated = anna.release.clone();
    let invalid = |change: &dyn Fn(&mut Root)| {
        let envelope = anna.successor(change, &[]);
        matches!(anna.trusted.next(&envelope), Err(RootError::Invalid(_)))
    };
    assert!(!invalid(&|_| ()));
    assert!(invalid(&|r| r.roles.release.threshold = 0));
    assert!(invalid(&|r| r.roles.release.threshold = 2));
    assert!(invalid(&|r| r.roles.release.keys.clear()));
    assert!(invalid(&|r| r.roles.fresh = role(1, &[&repeated])), "a key in two roles");
    assert!(invalid(&|r| r.roles.fresh.keys = vec![public(&extra); 2]));
    assert!(invalid(&|r| r.min_protocol = 0));
    assert!(invalid(&|r| r.expires_at = r.issued_at));
    assert!(invalid(&|r| r.feed.from_hash = digest(1)));
    let delegation = Delegation {
        key: public(&extra),
        channel_prefix: "nightly".into(),
        distros: vec!["guestbook".into()],
        not_after: NOW,
        max_entries: 10,
    };
    assert!(!invalid(&|r| r.delegations = vec![delegation.clone()]));
    assert!(invalid(&|r| r.delegations = vec![delegation.clone(); 2]));
    assert!(invalid(&|r| r.delegations = vec![Delegation { key: public(&repeated), ..delegation.clone() }]));
    assert!(invalid(&|r| r.delegations = vec![Delegation { distros: vec![], ..delegation.clone() }]));
    assert!(invalid(&|r| r.delegations = vec![Delegation { max_entries: 0, ..delegation.clone() }]));
    // A promise about the next root keys binds.
    let heir = role(1, &[&extra]);
    let promised = anna.successor(|r| r.next_keys = Some(keys_commitment(&heir).unwrap()), &[]);
    let mut later = Publisher::named(b'a');
    later.trusted = later.trusted.next(&promised).unwrap();
    assert!(matches!(later.trusted.next(&later.successor(|_| (), &[])), Err(RootError::Invalid(_))));
    assert!(later.trusted.next(&later.successor(|r| r.roles.root = heir.clone(), &[&extra])).is_ok());
}
