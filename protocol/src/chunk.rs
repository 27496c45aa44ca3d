//! Cutting files at content-defined places, and proof that bytes are what an id says.
//! Invariant: all nodes cut alike: FastCDC v2020 with the sizes of [`crate::limits`], files up to the smallest chunk
//! stay whole; a [`Verified`] exists only for bytes that were hashed.

use crate::{id::ChunkId, limits};
use serde::{Deserialize, Serialize};
use std::{ops::Range, sync::Arc};

/// A chunk and its length: what a manifest pins and a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkRef {
    /// BLAKE3 of the chunk's bytes.
    pub id: ChunkId,
    /// Its length in bytes, 1 ..= [`limits::SPAN_BYTES`].
    pub len: u32,
}

/// How a tree was cut; recorded in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cutting {
    /// 1 = FastCDC, 2020 edition, normalisation level 1.
    pub algorithm: u8,
    /// Smallest chunk in bytes.
    pub min: u32,
    /// Wished chunk in bytes.
    pub avg: u32,
    /// Largest chunk in bytes.
    pub max: u32,
}

impl Cutting {
    /// The cutting that this version makes and reads.
    pub const STANDARD: Self = Self {
        algorithm: 1,
        min: limits::CHUNK_MIN as u32,
        avg: limits::CHUNK_AVG as u32,
        max: limits::CHUNK_MAX as u32,
    };
}

/// The lengths into which `bytes`, the whole content of a file, are cut. Empty for an empty file.
pub fn cut(bytes: &[u8]) -> Vec<u32> {
    if bytes.is_empty() {
        return Vec::new();
    }
    if bytes.len() <= limits::CHUNK_MIN {
        return vec![bytes.len() as u32];
    }
    fastcdc::v2020::FastCDC::new(bytes, limits::CHUNK_MIN, limits::CHUNK_AVG, limits::CHUNK_MAX)
        .map(|c| c.length as u32)
        .collect()
}

/// Bytes whose hash was checked: the only kind of chunk that a store takes. They may be part of a larger buffer, which a
/// whole answer of a peer came in: a copy of each chunk would cost as much as its hash.
#[derive(Clone)]
pub struct Verified {
    id: ChunkId,
    whole: Arc<Vec<u8>>,
    part: Range<usize>,
}

impl Verified {
    /// Checks `bytes` against the promise; gives them back untouched when they are something else.
    ///
    /// # Errors
    /// The bytes, when their length or hash is not what `promised` says.
    pub fn check(promised: ChunkRef, bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        if is(promised, &bytes) { Ok(Self::whole(promised.id, bytes)) } else { Err(bytes) }
    }
    /// Checks the bytes of a larger buffer from `at` on against the promise; none when they are something else, or end
    /// beyond the buffer.
    pub fn part(promised: ChunkRef, whole: &Arc<Vec<u8>>, at: usize) -> Option<Self> {
        let part = at..at.checked_add(promised.len as usize)?;
        let good = is(promised, whole.get(part.clone())?);
        good.then(|| Self { id: promised.id, whole: whole.clone(), part })
    }
    /// Hashes own bytes.
    pub fn own(bytes: Vec<u8>) -> Self {
        Self::whole(ChunkId::of(&bytes), bytes)
    }
    fn whole(id: ChunkId, bytes: Vec<u8>) -> Self {
        Self { id, part: 0..bytes.len(), whole: Arc::new(bytes) }
    }
    /// The chunk's id.
    pub fn id(&self) -> ChunkId {
        self.id
    }
    /// The chunk's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.whole.get(self.part.clone()).unwrap_or_default()
    }
}

fn is(promised: ChunkRef, bytes: &[u8]) -> bool {
    bytes.len() == promised.len as usize && ChunkId::of(bytes) == promised.id
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.bytes() == other.bytes()
    }
}
impl Eq for Verified {}
impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({}, {} bytes)", self.id.short(), self.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_verified_where_it_stands_and_nowhere_else() {
        let whole = Arc::new((0..=255).collect::<Vec<u8>>());
        let promised = ChunkRef { id: ChunkId::of(&whole[10..30]), len: 20 };
        let part = Verified::part(promised, &whole, 10).unwrap();
        assert_eq!((part.id(), part.bytes()), (promised.id, &whole[10..30]));
        assert_eq!(part, Verified::check(promised, whole[10..30].to_vec()).unwrap());
        for elsewhere in [0, 11, 236, 237, 256, usize::MAX] {
            assert!(Verified::part(promised, &whole, elsewhere).is_none(), "{elsewhere}");
        }
        assert!(Verified::part(ChunkRef { len: 19, ..promised }, &whole, 10).is_none());
    }
}
