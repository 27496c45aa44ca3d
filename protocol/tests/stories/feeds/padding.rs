//! Signatures that somebody puts beside good ones. Invariant: a good message has one spelling from here on, whoever brings it:
//! what is added is neither passed on nor kept, takes nothing from the message, and nobody loses what he has for it.

use super::{rotation::tell, *};
use proptest::prelude::*;
use softservice_protocol::{
    feed::Equivocation,
    id::PublicKey,
    root::Role,
    sign::{Signature, sign},
};

/// Alice's releases need two of three keys from now on; gives these. Bob knows.
fn two_of_three(world: &mut World, p: &mut Publisher) -> Vec<PublicKey> {
    let mut keys: Vec<PublicKey> = (70..73).map(|seed| p.new_key(seed)).collect();
    keys.sort();
    p.succeed(|root| root.roles.release = Role { threshold: 2, keys: keys.clone() });
    world.own("alice", p);
    world.until("bob knows them", |w| view(w, "bob", p).root_version == 2 && view(w, "bob", p).signed);
    keys
}
/// The entry that could follow what bob has.
fn next(world: &World, p: &Publisher, version: u32, keys: &[PublicKey]) -> Envelope {
    let feed = view(world, "bob", p).feed.clone();
    let after = feed.snapshot.after(&Action::Release(listed(version)), None).unwrap();
    let entry = Entry {
        at: Position { epoch: feed.head.at.epoch, seq: feed.head.at.seq + 1 },
        prev: feed.head.hash,
        action: Action::Release(listed(version)),
        state_root: after.state_root().unwrap(),
        issued_at: START,
        by: None,
    };
    p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), keys)
}
/// What eve can add: good signatures by keys of her own, bad ones by keys that are named, and by any others.
fn padded(good: &Envelope, named: &[PublicKey], extras: &[(u8, u8)]) -> Envelope {
    let mut all = good.clone();
    for &(kind, n) in extras {
        let own = ed25519_dalek::SigningKey::from_bytes(&[n | 0x80; 32]);
        let mut made = sign(&own, good.kind, good.publisher, good.feed, &good.payload);
        match kind {
            0 => {}
            1 => made.key = named[usize::from(n) % named.len()],
            _ => made.bytes[usize::from(n) % 64] ^= 1,
        }
        if !all.signatures.iter().any(|s: &Signature| s.key == made.key) {
            all.signatures.push(made);
        }
    }
    all.signatures.sort();
    all
}
/// What bob has kept of the feed, but for what he said of following it.
fn entries(world: &World, name: &str) -> Vec<Vec<u8>> {
    let bytes = |r: &Record| match r {
        Record::Entry { envelope, .. } | Record::Onboarded { envelope, .. } => Some(envelope.clone()),
        _ => None,
    };
    world.nodes[name].kept.iter().filter_map(bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn what_somebody_adds_to_a_good_message_is_neither_passed_on_nor_kept(
        extras in prop::collection::vec((0..3u8, any::<u8>()), 1..12),
        by_page in any::<bool>(),
    ) {
        let (mut world, mut p) = first(&["alice", "bob", "eve"]);
        let keys = two_of_three(&mut world, &mut p);
        let good = next(&world, &p, 2, &keys[..2]);
        let bad = padded(&good, &keys[2..], &extras);
        prop_assert_ne!(&bad, &good);
        world.connect("eve", "bob");
        if by_page {
            tell(&mut world, "eve", "bob", &p, &[&bad]);
        } else {
            let verdict = world.whisper("eve", "bob", codec::encode(&bad).unwrap());
            prop_assert_eq!(verdict, Verdict::Ignore);
        }
        prop_assert!(world.within(Span::seconds(1), |w| w.head("bob", &p) == 2), "what is good in it counts");
        prop_assert_eq!(entries(&world, "bob").pop(), codec::encode(&good).ok());
        // And nobody is kept from the message by who was faster.
        prop_assert_eq!(world.whisper("alice", "bob", codec::encode(&good).unwrap()), Verdict::Accept);
        prop_assert_eq!(world.whisper("eve", "bob", codec::encode(&bad).unwrap()), Verdict::Ignore);
    }
}

#[test]
fn who_pads_all_the_time_is_sent_away_and_who_passes_on_a_few_is_not() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    let keys = two_of_three(&mut world, &mut p);
    let good = next(&world, &p, 2, &keys[..2]);
    world.connect("eve", "bob");
    world.connect("carol", "bob");
    for n in 0..60 {
        let bad = codec::encode(&padded(&good, &keys[2..], &[(0, n)])).unwrap();
        if n % 6 == 0 {
            assert_eq!(world.whisper("carol", "bob", bad.clone()), Verdict::Ignore);
        }
        assert_eq!(world.whisper("eve", "bob", bad), Verdict::Ignore);
    }
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("carol"));
}

#[test]
fn a_padded_proof_freezes_and_goes_on_from_here_without_what_was_added() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let (one, other) = (last_entry(&world), rival(&last_entry(&world), &p));
    let (one, other) = if one.digest() < other.digest() { (one, other) } else { (other, one) };
    let clean = Equivocation { publisher: p.id, one: one.clone(), other: other.clone() };
    let bad = Equivocation { one: padded(&one, &[PublicKey([3; 32])], &[(0, 1), (1, 2)]), ..clean.clone() };
    assert_eq!(world.whisper("eve", "bob", codec::encode(&bad).unwrap()), Verdict::Ignore);
    assert!(is_frozen(&world, "bob", &p));
    world.pass(Span::seconds(1));
    assert_eq!(world.nodes["bob"].gossiped, [codec::encode(&clean).unwrap()]);
}

#[test]
fn what_an_earlier_program_kept_with_such_signatures_is_read_and_shown_without_them() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    let clean = entries(&world, "bob");
    for record in &mut world.node("bob").kept {
        if let Record::Root { envelope, .. } | Record::Entry { envelope, .. } | Record::Onboarded { envelope, .. } =
            record
        {
            let good: Envelope = codec::decode(envelope).unwrap();
            *envelope = codec::encode(&padded(&good, &[PublicKey([3; 32])], &[(0, 1), (1, 2), (2, 3)])).unwrap();
        }
    }
    world.vanish("alice");
    world.restart("bob");
    assert_eq!(world.head("bob", &p), 1, "nothing of it is lost");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol has it from bob", |w| w.head("carol", &p) == 1);
    assert_eq!(entries(&world, "carol"), clean);
    let roots = |w: &World, name: &str| {
        let root = |r: &Record| if let Record::Root { envelope, .. } = r { Some(envelope.clone()) } else { None };
        w.nodes[name].kept.iter().filter_map(root).collect::<Vec<_>>()
    };
    assert_eq!(roots(&world, "carol"), p.roots);
}
