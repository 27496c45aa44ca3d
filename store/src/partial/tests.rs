//! Entries of the have log, and puts that come late. Invariant: what looked at the places that wait before somebody else
//! filled them is the same call that a thread makes, only slower.

use super::{
    have::{ENTRY, decode, encode},
    *,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_entry_says_what_was_written_or_nothing(
        object: [u8; 32],
        offset: u64,
        id: [u8; 32],
        len: u32,
        at in 0usize..ENTRY,
        bit in 0u8..8,
    ) {
        let spot = Spot { object: ObjectId(object), offset, chunk: ChunkRef { id: ChunkId(id), len } };
        let mut bytes = encode(&spot);
        prop_assert_eq!(decode(&bytes), Some(spot));
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decode(&bytes), None);
    }
}

#[test]
fn a_chunk_that_another_fetch_brought_is_no_error_when_its_file_cannot_be_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    let parts: Vec<Verified> = (0..2).map(|n| Verified::own(vec![n; 20_000])).collect();
    let chunks: Vec<ChunkRef> = parts.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
    let layout = Layout { object: ObjectId([7; 32]), size: 40_000, chunks };
    partials.expect(&[&layout]);
    // Both look what waits, one is quicker, and its object is being made whole: the file is read-only by then. Here
    // it is a folder, which root cannot write either.
    let late = partials.waiting(&parts[0]);
    partials.put(&parts[0], &objects).unwrap();
    partials.release(|_| true);
    std::fs::remove_file(partials.path(layout.object)).unwrap();
    std::fs::create_dir(partials.path(layout.object)).unwrap();
    partials.put_into(late, &parts[0], &objects).unwrap();
    // One that nobody brought is told of.
    assert!(partials.put(&parts[1], &objects).is_err());
}

#[test]
fn a_small_object_that_is_here_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    let part = Verified::own(vec![1; 500]);
    let only = ChunkRef { id: part.id(), len: 500 };
    let layout = Layout { object: ObjectId(part.id().0), size: 500, chunks: vec![only] };
    partials.expect(&[&layout]);
    let late = partials.waiting(&part);
    partials.put(&part, &objects).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(partials.path(layout.object)).unwrap());
    let synced = inode();
    partials.put_into(late, &part, &objects).unwrap();
    assert_eq!(inode(), synced, "what may be synced and about to get its name became another file");
    assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 0);
}
