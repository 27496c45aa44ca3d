//! Cutting a stream in bounded memory. Invariant: the chunks are exactly those of [`softservice_protocol::chunk::cut`]
//! over the whole content, wherever the segments' borders lie: a cut depends only on the bytes of its own chunk, so one
//! that starts a whole maximum before the end of what is known is final.

use rayon::prelude::*;
use softservice_protocol::{
    chunk::{self, ChunkRef},
    id::{ChunkId, ObjectId},
    limits,
};
use std::ops::Range;

/// How much of a file is in memory at once, for each thread that reads: large beside a chunk, small beside a machine.
pub(crate) const SEGMENT: usize = 4 << 20;
/// What is written at once of it.
const PIECE: usize = 512 << 10;

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

/// A part of a stream: what the part before left over, then new bytes.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    /// Where the new bytes begin, here and in the stream.
    fresh: usize,
    offset: u64,
    cuts: Vec<Range<usize>>,
}

impl Part {
    /// Reads and cuts what follows on `rest`. Cuts that might still move are left to the next part; at the end none do.
    fn read<E>(
        mut bytes: Vec<u8>,
        rest: &[u8],
        offset: u64,
        more: &mut impl FnMut(&mut Vec<u8>) -> Result<usize, E>,
    ) -> Result<Self, E> {
        bytes.clear();
        bytes.extend_from_slice(rest);
        let margin = if more(&mut bytes)? == 0 { 0 } else { limits::CHUNK_MAX };
        let (mut at, mut cuts) = (0, Vec::new());
        for len in chunk::cut(&bytes) {
            if at + margin > bytes.len() {
                break;
            }
            cuts.push(at..at + len as usize);
            at += len as usize;
        }
        Ok(Self { bytes, fresh: rest.len(), offset, cuts })
    }
    fn fresh(&self) -> &[u8] {
        self.bytes.get(self.fresh..).unwrap_or_default()
    }
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.cuts.last().map_or(0, |last| last.end)..).unwrap_or_default()
    }
}

/// Cuts and hashes a stream that does not fit in memory, and passes it on with the place of each piece. While one part is
/// read and cut, which only one can do, others hash and pass on the part before. `more` appends the next bytes, and
/// nothing at the end.
pub(crate) fn stream<E: Send>(
    mut more: impl FnMut(&mut Vec<u8>) -> Result<usize, E> + Send,
    pass_on: impl Fn(&[u8], u64) -> Result<(), E> + Sync,
) -> Result<(ObjectId, u64, Vec<ChunkRef>), E> {
    let mut hasher = blake3::Hasher::new();
    let mut chunks = Vec::new();
    let mut now = Part::read(Vec::new(), &[], 0, &mut more)?;
    let mut spare = Vec::new();
    let mut rest = Vec::new();
    loop {
        rest.clear();
        rest.extend_from_slice(now.rest());
        let end = now.offset + now.fresh().len() as u64;
        let last = now.fresh().is_empty();
        let buffer = std::mem::take(&mut spare);
        let (next, done) = rayon::join(
            || if last { Ok(Part::default()) } else { Part::read(buffer, &rest, end, &mut more) },
            || {
                // By one: a file has one writer at a time, and a second one would only wait for it.
                let pieces = || {
                    let mut pieces = now.fresh().chunks(PIECE).enumerate();
                    pieces.try_for_each(|(n, piece)| pass_on(piece, now.offset + (n * PIECE) as u64))
                };
                let refer = || now.cuts.par_iter().map(|cut| refer(&now.bytes[cut.clone()])).collect::<Vec<_>>();
                let whole = || {
                    hasher.update(now.fresh());
                };
                let (((), cut), passed) = rayon::join(|| rayon::join(whole, refer), pieces);
                chunks.extend(cut);
                passed
            },
        );
        done?;
        if last {
            return Ok((ObjectId(*hasher.finalize().as_bytes()), end, chunks));
        }
        spare = std::mem::replace(&mut now, next?).bytes;
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
        #[test]
        fn a_stream_is_cut_like_the_whole_and_passed_on(
            len in 0usize..3_000_000,
            seed: u64,
            step in 1usize..900_000,
            zeros in any::<bool>(),
        ) {
            let bytes = if zeros { vec![0; len] } else { noise(len, seed) };
            let mut rest = bytes.as_slice();
            let more = |buffer: &mut Vec<u8>| {
                let (next, after) = rest.split_at(step.min(rest.len()));
                buffer.extend_from_slice(next);
                rest = after;
                Ok(next.len())
            };
            let passed = std::sync::Mutex::new(vec![1; len]);
            let answer = stream::<()>(more, |piece, at| {
                passed.lock().unwrap()[at as usize..at as usize + piece.len()].copy_from_slice(piece);
                Ok(())
            });
            let (id, size, chunks) = answer.unwrap();
            prop_assert_eq!(size, len as u64);
            prop_assert_eq!((id, chunks), cut_whole(&bytes));
            prop_assert!(passed.into_inner().unwrap() == bytes);
        }
    }
}
