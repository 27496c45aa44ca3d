//! Aligning and naming, by themselves; whole releases are in `tests/kin.rs`.

use super::*;
use proptest::prelude::*;

fn chunk(n: u16, len: u32) -> ChunkRef {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&n.to_le_bytes());
    ChunkRef { id: ChunkId(id), len }
}
fn chunks(numbers: &[u16]) -> Vec<ChunkRef> {
    numbers.iter().map(|n| chunk(*n, 60_000)).collect()
}

#[test]
fn what_changed_is_compared_with_what_stood_there() {
    // One changed, one inserted before the end, the last one changed.
    let found = align(&chunks(&[1, 90, 3, 4, 91, 5, 92]), &chunks(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(found, [(1, 1..2), (4, 4..4), (6, 5..6)]);
    assert_eq!(align(&chunks(&[90, 1]), &chunks(&[7, 8, 1])), [(0, 0..2)]);
    assert_eq!(align(&chunks(&[1, 2]), &chunks(&[1, 2])), []);
    assert_eq!(align(&chunks(&[1]), &[]), [(0, 0..0)]);
    assert_eq!(align(&[], &chunks(&[1])), []);
}

#[test]
fn a_long_run_is_compared_around_the_same_place() {
    let old: Vec<ChunkRef> = (0..100).map(|n| chunk(n, 100_000)).collect();
    let new: Vec<ChunkRef> = (200..300).map(|n| chunk(n, 100_000)).collect();
    let found = align(&new, &old);
    assert_eq!(found.len(), 100);
    for (at, range) in found {
        assert!(range.contains(&at) && range.len() <= 12, "{at}: {range:?}");
    }
}

#[test]
fn names_differ_in_numbers() {
    assert_eq!(blank("lib/modules/6.1.0-28-amd64/x.ko"), blank("lib/modules/6.1.0-3-amd64/x.ko"));
    assert_ne!(blank("libfoo.so.1"), blank("libfoo.so"));
    assert_eq!(file_name("a/b"), "b");
    assert_eq!(file_name("b"), "b");
}

proptest! {
    /// Whatever two files look like: each chunk that the old one has not is answered once, with chunks that exist.
    #[test]
    fn every_new_chunk_gets_one_place(
        new in prop::collection::vec((0u16..30, 1u32..300_000), 0..60),
        old in prop::collection::vec((0u16..30, 1u32..300_000), 0..60),
    ) {
        let new: Vec<ChunkRef> = new.into_iter().map(|(n, len)| chunk(n, len)).collect();
        let old: Vec<ChunkRef> = old.into_iter().map(|(n, len)| chunk(n, len)).collect();
        let known: BTreeSet<ChunkId> = old.iter().map(|c| c.id).collect();
        let found = align(&new, &old);
        let lacking: Vec<usize> =
            new.iter().enumerate().filter(|(_, c)| !known.contains(&c.id)).map(|(at, _)| at).collect();
        prop_assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), lacking);
        for (_, range) in found {
            prop_assert!(range.start <= range.end && range.end <= old.len());
        }
    }
}

#[test]
fn files_of_gigabytes_are_compared_as_well() {
    let file = |seed: u8| -> Vec<ChunkRef> {
        let id = |n: u32| {
            let mut id = [seed; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            ChunkId(id)
        };
        (0..30_000).map(|n| ChunkRef { id: id(n), len: 256 << 10 }).collect()
    };
    let found = align(&file(1), &file(2));
    assert_eq!(found.len(), 30_000);
    assert!(found.iter().all(|(at, range)| range.contains(at)));
}
