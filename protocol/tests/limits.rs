//! Bounds of `limits.rs` at the limit and one beyond it. Invariant: what fits is taken, and one more is refused for that
//! reason and no other. Limits that belong to one module are tried beside it: names and paths, pages, spans, places.

mod cast;
use cast::{NOW, Publisher, key, listing, public, role};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    address::join,
    codec,
    feed::{Action, Head, Position},
    id::{Digest, Peer, PublisherId},
    limits,
    root::{Delegation, Root, RootError},
    sign::{Kind, SignatureError},
    ticket::{Ticket, TicketError},
    time::Span,
};

fn keys(count: usize) -> Vec<SigningKey> {
    (0..count).map(|n| key(b'l', n as u8)).collect()
}
/// What Anna's next root document, changed like this, is refused for.
fn refused(change: impl FnOnce(&mut Root)) -> Option<RootError> {
    let anna = Publisher::named(b'a');
    anna.trusted.next(&anna.successor(change, &[])).err()
}

#[test]
fn sixteen_signatures_are_looked_at_and_seventeen_refused() {
    let mut anna = Publisher::named(b'a');
    let all = keys(limits::SIGNATURES + 1);
    let role_keys: Vec<&SigningKey> = all.iter().take(limits::SIGNATURES).collect();
    let next = anna.successor(|r| r.roles.release = role(limits::SIGNATURES as u8, &role_keys), &[]);
    anna.trusted = anna.trusted.next(&next).unwrap();
    let entry = codec::encode(&anna.draft(Action::Release(listing("guestbook", "1.0.0", 1)))).unwrap();
    let by = |count: usize| anna.seal(Kind::Entry, entry.clone(), &all.iter().take(count).collect::<Vec<_>>());
    let good = |count| anna.feed.accept(&anna.trusted, &by(count)).map(|_| ());
    let few = SignatureError::TooFew { role: "release", good: limits::SIGNATURES - 1, needed: limits::SIGNATURES };
    assert_eq!(good(limits::SIGNATURES - 1), Err(few.into()));
    assert_eq!(good(limits::SIGNATURES), Ok(()));
    assert_eq!(good(limits::SIGNATURES + 1), Err(SignatureError::Disorder.into()));
    assert_eq!(by(limits::SIGNATURES).signers().len(), limits::SIGNATURES);
    assert_eq!(by(limits::SIGNATURES + 1).signers().len(), limits::SIGNATURES, "no more are looked at");
}

#[test]
fn a_role_has_sixteen_keys_and_not_seventeen() {
    let with = |count| refused(|r| r.roles.fresh = role(1, &keys(count).iter().collect::<Vec<_>>()));
    assert_eq!(with(limits::ROLE_KEYS), None);
    let why = "keys of a role are too many, repeated or not ascending";
    assert_eq!(with(limits::ROLE_KEYS + 1), Some(RootError::Invalid(why)));
}

#[test]
fn there_are_sixty_four_build_machines_with_sixty_four_distros_each_and_not_one_more() {
    let machine = |n: usize, distros: usize| Delegation {
        key: public(&key(b'l', n as u8)),
        channel_prefix: "nightly".into(),
        distros: (0..distros).map(|d| format!("distro-{d:03}")).collect(),
        not_after: NOW + Span::days(30),
        max_entries: 10,
    };
    let machines = |count: usize, distros| {
        refused(|r| r.delegations = (0..count).map(|n| machine(n, if n == 0 { distros } else { 1 })).collect())
    };
    assert_eq!(machines(limits::DELEGATIONS, limits::DELEGATED_DISTROS), None);
    let why = "delegations are too many, or give a key a second role";
    assert_eq!(machines(limits::DELEGATIONS + 1, 1), Some(RootError::Invalid(why)));
    let why = "a delegation's distros or channel are too many, none or no names";
    assert_eq!(machines(1, limits::DELEGATED_DISTROS + 1), Some(RootError::Invalid(why)));
}

#[test]
fn a_chain_has_1024_root_documents_and_not_one_more() {
    let mut anna = Publisher::named(b'a');
    let mut next = |version: u64| {
        anna.trusted.root.version = version - 1;
        anna.trusted.next(&anna.successor(|_| (), &[])).map(|trusted| trusted.root.version)
    };
    assert_eq!(next(limits::ROOT_STEPS), Ok(limits::ROOT_STEPS));
    let refusal = RootError::NotNext { trusted: limits::ROOT_STEPS, found: limits::ROOT_STEPS + 1 };
    assert_eq!(next(limits::ROOT_STEPS + 1), Err(refusal));
}

#[test]
fn a_ticket_has_four_hundred_characters_and_not_one_more() {
    let ticket = |name: usize| Ticket {
        publisher: PublisherId([1; 32]),
        distro: Some("d".repeat(name)),
        root: (3, Digest([2; 32])),
        floor: Head { at: Position { epoch: 1, seq: 1234 }, hash: Digest([3; 32]) },
        addresses: (1..4).map(|n| join("/ip4/203.0.113.9/udp/65535/quic-v1", Peer([n; 32]))).collect(),
        conflict: None,
        expires: None,
    };
    // The name fills what the addresses leave; one of them goes when it is longer.
    let room = limits::TICKET_CHARS - ticket(1).to_string().len();
    let full = ticket(1 + room);
    let line = full.to_string();
    assert_eq!((line.len(), full.carried().len()), (limits::TICKET_CHARS, 3));
    assert_eq!(line.parse(), Ok(full));
    let longer = ticket(2 + room);
    assert_eq!(longer.carried().len(), 2);
    assert!(longer.to_string().len() < limits::TICKET_CHARS);
    // One more character is not even looked at; as many, and another one, are read and found mistyped.
    assert_eq!(
        format!("{line}A").parse::<Ticket>(),
        Err(TicketError::TooLong { characters: limits::TICKET_CHARS + 1 })
    );
    let mistyped = line.replacen("/DD", "/DE", 1);
    assert_eq!(mistyped.parse::<Ticket>(), Err(TicketError::Checksum));
}
