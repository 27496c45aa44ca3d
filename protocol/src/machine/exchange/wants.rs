//! What one stage of a fetch still needs, chunk by chunk, and the pieces in which it is asked for.
//! Invariant: `free` of a piece is the number of its chunks that are neither here nor asked for; every count is kept
//! while things happen, so that choosing never walks the whole list.

use crate::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    id::ChunkId,
    io::{Alike, WantList},
    limits,
};
use std::collections::BTreeSet;

/// Marks a chunk that is here; any other value is the number of open requests for it.
const HERE: u8 = u8::MAX;
/// A fetch is cut into at least so many pieces, if they do not get too small: enough to share among peers.
const PIECES: u64 = 512;
/// Smallest piece: below it, headers and round trips cost more than sharing gains.
const PIECE_MIN: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Wants {
    chunks: Vec<ChunkRef>,
    state: Vec<u8>,
    here: Bitmap,
    /// Chunks that are not here.
    pub(super) left: usize,
    /// Bytes that are here.
    pub(super) bytes: u64,
    /// Bytes of all chunks.
    pub(super) of: u64,
    /// Missing chunks in content order; pieces are ranges of it.
    order: Vec<u32>,
    pieces: Vec<Piece>,
    piece_of: Vec<u32>,
    /// Raised when a chunk becomes free again: queues made before may lack it.
    pub(super) version: u64,
    /// What one request aims at.
    pub(super) span: u64,
    /// What is here that resembles what is missing.
    alike: Alike,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    end: u32,
    free: u32,
}

impl Wants {
    /// None when a length is impossible: the store's list then comes from a broken manifest.
    pub(super) fn new(list: WantList) -> Option<Self> {
        let WantList { chunks, have, alike, .. } = list;
        let possible = |c: &ChunkRef| c.len > 0 && c.len as usize <= limits::SPAN_BYTES;
        if !chunks.iter().all(possible) || have.len() != chunks.len() || u32::try_from(chunks.len()).is_err() {
            return None;
        }
        let size = |i: usize| chunks.get(i).map_or(0, |c| u64::from(c.len));
        let of: u64 = (0..chunks.len()).map(size).sum();
        let bytes: u64 = have.ones().map(size).sum();
        let mut state = vec![0; chunks.len()];
        for i in have.ones() {
            if let Some(s) = state.get_mut(i) {
                *s = HERE;
            }
        }
        let order: Vec<u32> = have.zeros().map(|i| i as u32).collect();
        let span = ((of - bytes) / PIECES).clamp(PIECE_MIN, limits::SPAN_BYTES as u64);
        let mut wants = Self {
            left: order.len(),
            here: have,
            bytes,
            of,
            order,
            pieces: Vec::new(),
            piece_of: vec![0; chunks.len()],
            version: 0,
            span,
            state,
            chunks,
            alike,
        };
        wants.cut();
        Some(wants)
    }

    /// Cuts the missing chunks into pieces: neighbours that one request can carry.
    fn cut(&mut self) {
        let (mut start, mut size) = (0, 0);
        for (at, &i) in self.order.iter().enumerate() {
            let len = self.chunks.get(i as usize).map_or(0, |c| u64::from(c.len));
            let full = size + len > self.span || at - start >= limits::SPAN_CHUNKS;
            if full && at > start {
                self.pieces.push(Piece { start: start as u32, end: at as u32, free: (at - start) as u32 });
                (start, size) = (at, 0);
            }
            size += len;
            if let Some(p) = self.piece_of.get_mut(i as usize) {
                *p = self.pieces.len() as u32;
            }
        }
        if start < self.order.len() {
            let end = self.order.len();
            self.pieces.push(Piece { start: start as u32, end: end as u32, free: (end - start) as u32 });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }
    pub(super) fn here(&self) -> &Bitmap {
        &self.here
    }
    pub(super) fn chunk(&self, i: u32) -> Option<ChunkRef> {
        self.chunks.get(i as usize).copied()
    }
    pub(super) fn size(&self, i: u32) -> u64 {
        self.chunk(i).map_or(0, |c| u64::from(c.len))
    }
    /// What is here that resembles these chunks, each once, as much of it as one request may name.
    pub(super) fn base(&self, chunks: &[u32]) -> Vec<ChunkRef> {
        let mut seen: BTreeSet<ChunkId> = BTreeSet::new();
        let (mut base, mut bytes) = (Vec::new(), 0);
        let ranges = chunks.iter().filter_map(|i| self.alike.of.get(i));
        let alike = ranges.filter_map(|r| self.alike.chunks.get(r.start as usize..r.end as usize)).flatten();
        for chunk in alike {
            let full = base.len() >= limits::BASE_CHUNKS || bytes + chunk.len as usize > limits::BASE_BYTES;
            if !full && chunk.len > 0 && seen.insert(chunk.id) {
                bytes += chunk.len as usize;
                base.push(*chunk);
            }
        }
        base
    }
    pub(super) fn is_here(&self, i: u32) -> bool {
        self.state.get(i as usize).is_none_or(|s| *s == HERE)
    }
    /// Neither here nor asked for.
    pub(super) fn is_free(&self, i: u32) -> bool {
        self.state.get(i as usize) == Some(&0)
    }
    /// How many requests for it are open.
    pub(super) fn asked(&self, i: u32) -> u8 {
        self.state.get(i as usize).copied().filter(|s| *s != HERE).unwrap_or(0)
    }
    pub(super) fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        self.order.iter().copied().filter(|&i| !self.is_here(i))
    }
    /// Pieces with something free.
    pub(super) fn open_pieces(&self) -> impl Iterator<Item = u32> + '_ {
        self.pieces.iter().enumerate().filter(|(_, p)| p.free > 0).map(|(n, _)| n as u32)
    }
    /// The free chunks of a piece, in content order.
    pub(super) fn free_of(&self, piece: u32) -> impl Iterator<Item = u32> + '_ {
        let piece = self.pieces.get(piece as usize).filter(|p| p.free > 0);
        let range = piece.and_then(|p| self.order.get(p.start as usize..p.end as usize)).unwrap_or_default();
        range.iter().copied().filter(|&i| self.is_free(i))
    }

    /// A number for the place of a piece, equal on all devices that miss the same.
    pub(super) fn place_of(&self, piece: u32) -> u64 {
        let first = self.pieces.get(piece as usize).and_then(|p| self.order.get(p.start as usize));
        let id = first.and_then(|i| self.chunk(*i)).map(|c| c.id.0);
        id.map_or(0, |id| u64::from_le_bytes(*id.first_chunk().unwrap_or(&[0; 8])))
    }

    /// A request for it was opened.
    pub(super) fn ask(&mut self, i: u32) {
        let was_free = self.is_free(i);
        if let Some(s) = self.state.get_mut(i as usize).filter(|s| **s < HERE - 1) {
            *s += 1;
        }
        if was_free {
            self.change_free(i, false);
        }
    }
    /// A request for it ended without it.
    pub(super) fn give_back(&mut self, i: u32) {
        let Some(s) = self.state.get_mut(i as usize).filter(|s| **s != HERE && **s > 0) else { return };
        *s -= 1;
        if *s == 0 {
            self.change_free(i, true);
            self.version += 1;
        }
    }
    /// A request for it ended; what came is booked next by [`Wants::came`] and never becomes free in between.
    pub(super) fn give_back_or_keep(&mut self, i: u32, came: bool) {
        if !came {
            self.give_back(i);
        }
    }
    /// It is here now; false when it was before.
    pub(super) fn came(&mut self, i: u32) -> bool {
        if self.is_here(i) {
            return false;
        }
        if self.is_free(i) {
            self.change_free(i, false);
        }
        if let Some(s) = self.state.get_mut(i as usize) {
            *s = HERE;
        }
        self.here.set(i as usize, true);
        self.left = self.left.saturating_sub(1);
        self.bytes += self.size(i);
        true
    }

    fn change_free(&mut self, i: u32, more: bool) {
        let piece = self.piece_of.get(i as usize).copied().unwrap_or(u32::MAX);
        if let Some(piece) = self.pieces.get_mut(piece as usize) {
            piece.free = if more { piece.free + 1 } else { piece.free.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Stage;

    fn chunk(n: u8, len: usize) -> ChunkRef {
        ChunkRef { id: ChunkId([n; 32]), len: len as u32 }
    }

    fn wants(alike: Alike) -> Wants {
        let chunks = vec![chunk(1, 10), chunk(2, 10), chunk(3, 10)];
        Wants::new(WantList { stage: Stage::Content, have: Bitmap::empty(3), chunks, alike }).unwrap()
    }

    #[test]
    fn a_base_names_each_chunk_once_in_order() {
        let chunks = vec![chunk(11, 5), chunk(12, 5), chunk(13, 5), chunk(12, 5)];
        let of = [(0, 0..2), (2, 1..4)].into_iter().collect();
        let wants = wants(Alike { chunks, of });
        assert_eq!(wants.base(&[0, 1, 2]), [chunk(11, 5), chunk(12, 5), chunk(13, 5)]);
        assert_eq!(wants.base(&[2, 0]), [chunk(12, 5), chunk(13, 5), chunk(11, 5)]);
        assert_eq!(wants.base(&[1, 7]), []);
    }

    #[test]
    fn a_base_keeps_the_limits_and_ignores_what_leads_nowhere() {
        let large = vec![chunk(11, limits::BASE_BYTES), chunk(12, 1), chunk(13, 0)];
        let of = [(0, 0..3), (1, 9..12), (2, 1..3)].into_iter().collect();
        let wants = wants(Alike { chunks: large, of });
        assert_eq!(wants.base(&[0]), [chunk(11, limits::BASE_BYTES)]);
        assert_eq!(wants.base(&[1, 2]), [chunk(12, 1)]);
    }
}
