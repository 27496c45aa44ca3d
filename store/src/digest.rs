//! The hash of a file that is here, on all cores. Invariant: it is the hash that everybody else takes of the same bytes; what
//! cannot be read to its end has none.
//!
//! BLAKE3 is a tree: segments are read and hashed each for itself, and joined. Refused: one thread that reads for all that hash,
//! because on a fast disk, and out of memory most of all, reading takes as long as hashing does.
//!
//! Source: the BLAKE3 paper, section 2.1 (tree structure) and 6.4 (incremental hashing of subtrees).

use crate::contract::StoreError;
use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;
use rustix::fs::Advice;
use softservice_protocol::id::ObjectId;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Bytes of a segment: a power of two of at least 1024, so that it is a subtree.
const SEGMENT: u64 = 1 << 20;

/// How many of so many subtrees stand left of the top: the largest power of two below.
fn left_of(parts: usize) -> usize {
    parts.div_ceil(2).next_power_of_two()
}

fn join(parts: &[ChainingValue]) -> Option<ChainingValue> {
    match parts {
        [] => None,
        [one] => Some(*one),
        more => {
            let (left, right) = more.split_at_checked(left_of(more.len()))?;
            Some(merge_subtrees_non_root(&join(left)?, &join(right)?, Mode::Hash))
        }
    }
}

/// The hash of a whole from its parts, all of one length, a power of two, but for the last. A single part is no subtree: None.
pub(crate) fn root(parts: &[ChainingValue]) -> Option<ObjectId> {
    let (left, right) = parts.split_at_checked(left_of(parts.len()))?;
    let root = merge_subtrees_root(&join(left)?, &join(right)?, Mode::Hash);
    Some(ObjectId(*root.as_bytes()))
}

/// A part of a whole that begins at `offset`, from the pieces that make it up.
pub(crate) fn part<'a>(offset: u64, pieces: impl Iterator<Item = &'a [u8]>) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    pieces.for_each(|piece| {
        hasher.update(piece);
    });
    hasher.finalize_non_root()
}

/// Hashes what an open file holds. `progress` hears of bytes that were read, from any thread, and may end it.
pub(crate) fn of_file(
    file: &File,
    progress: impl Fn(u64) -> Result<(), StoreError> + Sync,
    path: &Path,
) -> Result<ObjectId, StoreError> {
    let read = |e| StoreError::io("read", path, e);
    let len = file.metadata().map_err(read)?.len();
    if len <= SEGMENT {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(read)?;
        progress(len)?;
        return Ok(ObjectId::of(&bytes));
    }
    let segment = |buffer: &mut Vec<u8>, number: u64| {
        let start = number * SEGMENT;
        let end = (start + SEGMENT).min(len);
        // The kernel sees several readers in one file, and would take that for no order at all.
        let _ = rustix::fs::fadvise(file, end, std::num::NonZeroU64::new(SEGMENT), Advice::WillNeed);
        let bytes = buffer.get_mut(..(end - start) as usize).unwrap_or_default();
        file.read_exact_at(bytes, start).map_err(read)?;
        progress(end - start)?;
        Ok(part(start, std::iter::once(&*bytes)))
    };
    let parts: Result<Vec<ChainingValue>, StoreError> =
        (0..len.div_ceil(SEGMENT)).into_par_iter().map_init(|| vec![0; SEGMENT as usize], segment).collect();
    root(&parts?).ok_or_else(|| read(std::io::ErrorKind::UnexpectedEof.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_length_has_the_hash_that_everybody_takes() {
        let file = tempfile::tempfile().unwrap();
        let segment = SEGMENT as usize;
        for len in [0, 1, segment - 1, segment, segment + 1, 2 * segment, 3 * segment, 5 * segment + 77] {
            let mut bytes = vec![0; len];
            blake3::Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
            file.set_len(0).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            let heard = std::sync::atomic::AtomicU64::new(0);
            let hear = |n| {
                heard.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            };
            assert_eq!(of_file(&file, hear, Path::new("it")).unwrap(), ObjectId::of(&bytes), "{len}");
            assert_eq!(heard.into_inner(), len as u64);
            assert!(matches!(of_file(&file, |_| Err(StoreError::Stopped), Path::new("it")), Err(StoreError::Stopped)));
        }
    }
}
