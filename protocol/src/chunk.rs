//! Cutting files at content-defined places, and proof that bytes are what an id says.
//! Invariant: all nodes cut alike: FastCDC v2020 with the sizes of [`crate::limits`], files up to the smallest chunk
//! stay whole; a [`Verified`] exists only for bytes that were hashed.

use crate::{id::ChunkId, limits};
use serde::{Deserialize, Serialize};

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

/// Bytes whose hash was checked: the only kind of chunk that a store takes.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    id: ChunkId,
    bytes: Vec<u8>,
}

impl Verified {
    /// Checks `bytes` against the promise; gives them back untouched when they are something else.
    ///
    /// # Errors
    /// The bytes, when their length or hash is not what `promised` says.
    pub fn check(promised: ChunkRef, bytes: Vec<u8>) -> Result<Self, Vec<u8>> {
        if bytes.len() == promised.len as usize && ChunkId::of(&bytes) == promised.id {
            Ok(Self { id: promised.id, bytes })
        } else {
            Err(bytes)
        }
    }
    /// Hashes own bytes.
    pub fn own(bytes: Vec<u8>) -> Self {
        Self { id: ChunkId::of(&bytes), bytes }
    }
    /// The chunk's id.
    pub fn id(&self) -> ChunkId {
        self.id
    }
    /// The chunk's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({}, {} bytes)", self.id.short(), self.bytes.len())
    }
}
