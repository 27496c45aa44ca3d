//! The hash of a whole object, taken while its chunks come, in whatever order they do. Invariant: a group's part of it is taken
//! from verified bytes of its chunks, or read back from where they are written; a hash that does not come out as it should
//! is taken again from the file before anybody is blamed.
//!
//! BLAKE3 is a tree: groups of [`GROUP`] bytes are hashed each for itself, and joined when all are there. Without this a
//! finished object would be read again from end to end when all is there. Refused: one hash that goes on from the object's
//! start, because spans come in an order of their own, and it stood still behind the first that was late.
//!
//! Source: the BLAKE3 paper, section 2.1 (tree structure) and 6.4 (incremental hashing of subtrees).

use super::{Shared, Spot, lock};
use crate::digest;
use blake3::hazmat::ChainingValue;
use rayon::prelude::*;
use softservice_protocol::{bitmap::Bitmap, id::ObjectId};
use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

/// Bytes of a group: a power of two of at least 1024, so that it is a subtree. 32 bytes are kept for each, a two thousandth.
const GROUP: u64 = 64 << 10;
/// Groups that the end reads at once.
const READ: usize = 32;

/// What is known of one object's hash.
#[derive(Debug)]
pub(crate) struct Run {
    size: u64,
    known: Bitmap,
    values: Vec<ChainingValue>,
}

impl Run {
    /// Of an object of so many bytes.
    pub(crate) fn new(size: u64) -> Self {
        let groups = usize::try_from(size.div_ceil(GROUP)).unwrap_or(usize::MAX);
        Self { size, known: Bitmap::empty(groups), values: vec![ChainingValue::default(); groups] }
    }
    fn set(&mut self, group: u64, value: ChainingValue) {
        let group = group as usize;
        if let Some(place) = self.values.get_mut(group) {
            *place = value;
            self.known.set(group, true);
        }
    }
    /// Groups whose part is not known.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.known.zeros().count()
    }
    /// All groups joined. An object of one group has no subtrees: None.
    fn root(&self) -> Option<ObjectId> {
        digest::root(&self.values)
    }
}

/// Where a group is in an object of this size.
fn place(group: u64, size: u64) -> Range<u64> {
    group * GROUP..((group + 1) * GROUP).min(size)
}

/// A group's part of the hash, from the pieces that make it up.
fn value<'a>(group: u64, pieces: impl Iterator<Item = &'a [u8]>) -> ChainingValue {
    digest::part(group * GROUP, pieces)
}

/// What of these pieces, the first of which begins at `start`, is in `range`.
fn within<'a>(pieces: &'a [&'a [u8]], start: u64, range: Range<u64>) -> impl Iterator<Item = &'a [u8]> {
    let mut at = start;
    pieces.iter().filter_map(move |piece| {
        let (from, to) = (range.start.max(at), range.end.min(at + piece.len() as u64));
        let inside = (from < to).then(|| piece.get((from - at) as usize..(to - at) as usize)).flatten();
        at += piece.len() as u64;
        inside
    })
}

fn read(file: &File, range: Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start).ok()?;
    Some(bytes)
}

impl Shared {
    /// Takes in chunks that were just written, one after the other from the first one's place on, while their bytes are at
    /// hand. A group that they share with others is read back by whoever completes it.
    pub(super) fn advance(&self, run: &Arc<Mutex<Run>>, file: &File, mine: &[Spot], bytes: &[&[u8]]) {
        let Some(first) = mine.first() else { return };
        let start = first.offset;
        let end = start + mine.iter().map(|spot| u64::from(spot.chunk.len)).sum::<u64>();
        let size = lock(run).size;
        if size <= GROUP {
            return;
        }
        let mut taken = Vec::new();
        for group in start / GROUP..end.div_ceil(GROUP) {
            let range = place(group, size);
            if range.start >= start && range.end <= end {
                taken.push((group, value(group, within(bytes, start, range))));
                continue;
            }
            let whole = lock(&self.state).expected.get(first.object).is_some_and(|open| open.covers(&range));
            // What cannot be read now is read at the end, where it is told.
            if whole && let Some(bytes) = read(file, range) {
                taken.push((group, value(group, std::iter::once(bytes.as_slice()))));
            }
        }
        let mut run = lock(run);
        taken.into_iter().for_each(|(group, value)| run.set(group, value));
    }
    /// The hash of a file all of whose chunks are here; None when it could not be taken on the way. What is not known of it
    /// is read now, by all cores.
    pub(crate) fn digest(&self, object: ObjectId, file: &File) -> Option<ObjectId> {
        let run = lock(&self.state).expected.get(object)?.run()?;
        let mut run = lock(&run);
        let missing: Vec<u64> = run.known.zeros().map(|group| group as u64).collect();
        let size = run.size;
        if size <= GROUP {
            return Some(ObjectId::of(&read(file, 0..size)?));
        }
        // Neighbours are read together.
        let parts: Vec<&[u64]> =
            missing.chunk_by(|a, b| a + 1 == *b).flat_map(|neighbours| neighbours.chunks(READ)).collect();
        let hash = |part: &&[u64]| {
            let (first, last) = (*part.first()?, *part.last()?);
            let from = first * GROUP;
            let bytes = read(file, from..place(last, size).end)?;
            let of = |group: &u64| (*group, value(*group, within(&[&bytes], from, place(*group, size))));
            Some(part.iter().map(of).collect::<Vec<_>>())
        };
        let values: Option<Vec<Vec<(u64, ChainingValue)>>> = parts.par_iter().map(hash).collect();
        values?.into_iter().flatten().for_each(|(group, value)| run.set(group, value));
        run.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any size, cut in any places, its groups in any order: the hash that everybody else takes.
        #[test]
        fn groups_join_to_the_hash_of_the_whole(
            size in 1..20 * GROUP as usize,
            exact in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let size = if exact { size.next_multiple_of(GROUP as usize) } else { size };
            let mut bytes = vec![0; size];
            blake3::Hasher::new().update(&size.to_le_bytes()).finalize_xof().fill(&mut bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(size)).chain([0, size]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let mut run = Run::new(size as u64);
            for group in (0..run.values.len() as u64).rev() {
                run.set(group, value(group, within(&pieces, 0, place(group, size as u64))));
            }
            prop_assert_eq!(run.left(), 0);
            let whole = ObjectId::of(&bytes);
            prop_assert_eq!(run.root(), (size > GROUP as usize).then_some(whole));
        }
    }
}
