//! Mallory sends bytes: cut, flipped, stretched, invented, and parts of Anna's good ones. Nothing panics, nothing takes
//! memory that it did not bring, nothing signed is accepted with another meaning.

mod cast;
mod specimens;

use cast::Publisher;
use proptest::prelude::*;
use softservice_protocol::{
    codec,
    feed::{Equivocation, FeedState, verify_fresh},
    root::TrustedRoot,
    sign::Envelope,
};
use specimens::{Specimen, taken_by};
use std::sync::LazyLock;

// Made once: each signs and verifies a dozen times.
static ALL: LazyLock<Vec<Specimen>> = LazyLock::new(specimens::all);
static ANNA: LazyLock<Publisher> = LazyLock::new(specimens::anna);
static PROOF: LazyLock<Vec<u8>> = LazyLock::new(|| codec::encode(&specimens::equivocation()).unwrap());

/// Whatever is taken has one spelling, its own.
fn harmless(specimen: &Specimen, bytes: &[u8]) {
    if let Ok(again) = (specimen.again)(bytes) {
        assert_eq!(again, bytes, "{} has two spellings", specimen.name);
    }
}

#[test]
fn every_truncation_and_every_tail_is_refused() {
    for specimen in &*ALL {
        let bytes = &specimen.bytes;
        for end in 0..bytes.len() {
            assert!((specimen.again)(&bytes[..end]).is_err(), "{} cut at {end}", specimen.name);
        }
        for tail in [&[0u8][..], &[0xff], &[0; 100]] {
            assert!((specimen.again)(&[bytes, tail].concat()).is_err(), "{} with a tail", specimen.name);
        }
        let mut later = bytes.clone();
        later[0] += 1;
        let refusal = (specimen.again)(&later).unwrap_err().to_string();
        assert!(refusal.contains(&format!("version {}", later[0])), "{refusal}");
    }
}

#[test]
fn every_flipped_bit_is_refused_or_says_something_else() {
    for specimen in &*ALL {
        let mut bytes = specimen.bytes.clone();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            harmless(specimen, &bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_length_of_a_terabyte_costs_nothing() {
    let mut nine = vec![1];
    nine.extend((1u64 << 40).to_le_bytes());
    assert_eq!(taken_by(&nine), 0);
    for specimen in &*ALL {
        for length in [1u64 << 40, u64::MAX, 1 << 32, (128 << 20) + 1] {
            for at in 1..specimen.bytes.len().saturating_sub(8) {
                let mut bytes = specimen.bytes.clone();
                bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
                harmless(specimen, &bytes);
            }
        }
    }
}

#[test]
fn more_bytes_than_a_kind_may_have_are_not_even_looked_at() {
    let long = vec![1; 4 << 20];
    for specimen in ALL.iter().filter(|s| !["snapshot", "manifest", "record"].iter().any(|n| s.name.starts_with(n))) {
        let refusal = (specimen.again)(&long).unwrap_err();
        assert!(matches!(refusal, codec::CodecError::TooLong { .. }), "{}: {refusal}", specimen.name);
    }
}

/// What Bob would take each envelope for: its meaning, if it is accepted at all.
fn root_meaning(anna: &Publisher, bytes: &[u8]) -> Option<TrustedRoot> {
    TrustedRoot::first(anna.id(), &codec::decode::<Envelope>(bytes).ok()?).ok()
}
fn entry_meaning(anna: &Publisher, bytes: &[u8]) -> Option<FeedState> {
    Some(FeedState::default().accept(&anna.trusted, &codec::decode(bytes).ok()?).ok()?.0)
}
fn fresh_meaning(anna: &Publisher, bytes: &[u8]) -> Option<softservice_protocol::feed::Fresh> {
    verify_fresh(&anna.trusted, &codec::decode(bytes).ok()?).ok()
}
fn proof_meaning(anna: &Publisher, bytes: &[u8]) -> Option<softservice_protocol::feed::Conflict> {
    codec::decode::<Equivocation>(bytes).ok()?.check(&anna.trusted).ok()
}

/// Every mutation of the good bytes is refused, or means what they mean.
fn keeps_its_meaning<T: PartialEq + std::fmt::Debug>(good: &[u8], bad: &[u8], meaning: impl Fn(&[u8]) -> Option<T>) {
    let meant = meaning(good);
    assert!(meant.is_some(), "the good bytes are good");
    if let Some(now) = meaning(bad) {
        assert_eq!(Some(now), meant);
    }
}
fn all_keep_their_meaning(mutate: impl Fn(&[u8]) -> Vec<u8>) {
    let anna = &*ANNA;
    let encoded = |envelope: &Envelope| codec::encode(envelope).unwrap();
    let (root, entry) = (encoded(&anna.first), encoded(&anna.entries[0]));
    let (fresh, proof) = (encoded(&anna.fresh(&anna.statement())), PROOF.clone());
    keeps_its_meaning(&root, &mutate(&root), |b| root_meaning(anna, b));
    keeps_its_meaning(&entry, &mutate(&entry), |b| entry_meaning(anna, b));
    keeps_its_meaning(&fresh, &mutate(&fresh), |b| fresh_meaning(anna, b));
    keeps_its_meaning(&proof, &mutate(&proof), |b| proof_meaning(anna, b));
    let snapshot = codec::encode(&anna.feed.snapshot).unwrap();
    let head = &anna.entries[1];
    keeps_its_meaning(&snapshot, &mutate(&snapshot), |b| FeedState::onboard(&anna.trusted, head, b).ok());
}

#[test]
fn no_flipped_bit_of_a_signed_entry_is_accepted() {
    let anna = &*ANNA;
    let good = codec::encode(&anna.entries[0]).unwrap();
    assert!(entry_meaning(anna, &good).is_some());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(entry_meaning(anna, &bad), None, "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn invented_bytes_are_no_value_or_their_own(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), small in any::<bool>()) {
        if small { bytes.iter_mut().for_each(|b| *b %= 3); }
        if let Some(first) = bytes.first_mut() { *first = 1; }
        taken_by(&bytes);
    }

    #[test]
    fn spliced_values_are_no_value_or_their_own(which in any::<(prop::sample::Index, prop::sample::Index)>(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let all = &*ALL;
        let (one, other) = (which.0.get(all), which.1.get(all));
        let spliced = [&one.bytes[..from.index(one.bytes.len())], &other.bytes[to.index(other.bytes.len())..]].concat();
        taken_by(&spliced);
    }

    #[test]
    fn mutated_signed_objects_never_mean_something_else(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        grow in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())), shrink in proptest::option::of(any::<prop::sample::Index>())) {
        all_keep_their_meaning(|good| {
            let mut bad = good.to_vec();
            for (at, byte) in &edits { let at = at.index(bad.len()); bad[at] = *byte; }
            if let Some((at, byte)) = &grow { bad.insert(at.index(good.len()), *byte); }
            if let Some(at) = &shrink { bad.remove(at.index(bad.len())); }
            bad
        });
    }

    #[test]
    fn a_manifest_of_any_paths_is_checked_without_panic(paths in proptest::collection::vec("([a-cA-C./]|ß|\\PC){0,12}", 0..8), target in "([a-c./]|\\PC){0,12}", size in any::<u64>(), len in any::<u32>()) {
        use softservice_protocol::{tree::{Manifest, Node, TreeEntry}, chunk::{ChunkRef, Cutting}, id::{ChunkId, ObjectId}};
        let entries = paths.into_iter().enumerate().map(|(i, path)| TreeEntry { path, node: match i % 3 {
            0 => Node::Dir,
            1 => Node::Symlink { target: target.clone() },
            _ => Node::File { executable: false, object: ObjectId([1; 32]), size, chunks: vec![ChunkRef { id: ChunkId([2; 32]), len }; i] },
        } }).collect();
        let manifest = Manifest { cutting: Cutting::STANDARD, entries };
        let _ = (manifest.totals(), manifest.chunk_order());
        if manifest.check().is_ok() {
            for entry in &manifest.entries {
                prop_assert!(!entry.path.starts_with('/') && !entry.path.split('/').any(|c| c == ".."));
            }
        }
    }

    #[test]
    fn signed_values_come_back(seq in 1u64.., millis: u64, name in "[a-z0-9]{1,63}", summary in "\\PC{0,60}") {
        let anna = &*ANNA;
        let mut entry: softservice_protocol::feed::Entry = anna.entries[0].open().unwrap();
        (entry.at.seq, entry.issued_at) = (seq, softservice_protocol::time::Time(millis));
        if let softservice_protocol::feed::Action::Release(listing) = &mut entry.action {
            (listing.distro, listing.summary) = (name, summary);
        }
        let envelope = anna.sealed(&entry);
        let back: Envelope = codec::decode(&codec::encode(&envelope).unwrap()).unwrap();
        prop_assert_eq!(&back, &envelope);
        prop_assert_eq!(back.open::<softservice_protocol::feed::Entry>(), Ok(entry));
    }
}
