//! Cutting a stream in bounded memory. Invariant: the chunks are exactly those of [`softservice_protocol::chunk::cut`]
//! over the whole content, wherever the segments' borders lie: a cut depends only on the bytes of its own chunk, so one
//! that starts a whole maximum before the end of what is known is final.

use rayon::prelude::*;
use softservice_protocol::{
    chunk::{self, ChunkRef},
    id::{ChunkId, ObjectId},
    limits,
};

/// How much of a file is in memory at once, for each thread that reads: large beside a chunk, small beside a machine.
pub(crate) const SEGMENT: usize = 4 << 20;

/// Hashes and cuts what is pushed.
pub(crate) struct Cutter {
    pending: Vec<u8>,
    hasher: blake3::Hasher,
    chunks: Vec<ChunkRef>,
    size: u64,
}

impl Cutter {
    pub(crate) fn new() -> Self {
        Self { pending: Vec::new(), hasher: blake3::Hasher::new(), chunks: Vec::new(), size: 0 }
    }
    /// The next bytes of the content.
    pub(crate) fn push(&mut self, segment: &[u8]) {
        self.hasher.update_rayon(segment);
        self.size += segment.len() as u64;
        self.pending.extend_from_slice(segment);
        if self.pending.len() > limits::CHUNK_MAX {
            self.settle(limits::CHUNK_MAX);
        }
    }
    /// The object's id, size and chunks.
    pub(crate) fn finish(mut self) -> (ObjectId, u64, Vec<ChunkRef>) {
        self.settle(0);
        (ObjectId(*self.hasher.finalize().as_bytes()), self.size, self.chunks)
    }
    /// Makes the cuts final that start at least `margin` bytes before the end.
    fn settle(&mut self, margin: usize) {
        let mut at = 0;
        let mut spans = Vec::new();
        for len in chunk::cut(&self.pending) {
            if at + margin > self.pending.len() {
                break;
            }
            spans.push(at..at + len as usize);
            at += len as usize;
        }
        let pending = &self.pending;
        self.chunks.par_extend(spans.into_par_iter().map(|span| refer(&pending[span])));
        self.pending.drain(..at);
    }
}

/// The reference of these bytes as one chunk.
pub(crate) fn refer(bytes: &[u8]) -> ChunkRef {
    ChunkRef { id: ChunkId::of(bytes), len: bytes.len() as u32 }
}

/// Cuts bytes that are in memory anyway.
pub(crate) fn cut_whole(bytes: &[u8]) -> (ObjectId, Vec<ChunkRef>) {
    let id = ObjectId::of(bytes);
    let lens = chunk::cut(bytes);
    if lens.len() == 1 {
        return (id, vec![ChunkRef { id: id.into(), len: bytes.len() as u32 }]);
    }
    let mut rest = bytes;
    let mut parts = Vec::with_capacity(lens.len());
    for len in lens {
        let (part, after) = rest.split_at(len as usize);
        parts.push(part);
        rest = after;
    }
    (id, parts.into_par_iter().map(refer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn segments_do_not_move_cuts(
            len in 0usize..3_000_000,
            seed: u64,
            borders in prop::collection::vec(1usize..900_000, 0..12),
            zeros in any::<bool>(),
        ) {
            let bytes = if zeros { vec![0; len] } else { noise(len, seed) };
            let mut cutter = Cutter::new();
            let mut rest = bytes.as_slice();
            for border in borders {
                let (segment, after) = rest.split_at(border.min(rest.len()));
                cutter.push(segment);
                rest = after;
            }
            cutter.push(rest);
            let (id, size, chunks) = cutter.finish();
            prop_assert_eq!(size, len as u64);
            prop_assert_eq!((id, chunks), cut_whole(&bytes));
        }
    }
}
