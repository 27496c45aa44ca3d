//! What is asked of a peer and what came: from a whole answer to chunks in the store. Invariant: bytes are hashed before anything
//! else sees them, on a thread that may block, and what that took is measured there.

use super::{
    buffers::Lease,
    packing,
    waits::{Reading, Work},
};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    io::Delivery,
    message::Coding,
};
use softservice_store::Store;
use std::{sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// An open request: on the wire, or waiting for room there.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) chunks: Vec<ChunkRef>,
    /// What is here that the answer may be written against.
    pub(super) base: Vec<ChunkRef>,
    pub(super) deadline: Instant,
    /// When it went onto the wire.
    pub(super) asked: Instant,
    /// Bytes that came for it in vain.
    pub(super) vain: u64,
}

impl Open {
    pub(super) fn new(chunks: Vec<ChunkRef>, base: Vec<ChunkRef>, deadline: Instant) -> Self {
        Self { chunks, base, deadline, asked: Instant::now(), vain: 0 }
    }
}

/// A whole answer, not yet verified.
pub(super) struct Answer {
    pub(super) request: u64,
    /// Which of the asked chunks came.
    pub(super) came: Vec<(usize, ChunkRef)>,
    pub(super) coding: Coding,
    /// They, one after the other, written so; and behind them what an earlier answer left in the buffer.
    pub(super) bytes: Vec<u8>,
    /// What it took to read it; its size is what came.
    pub(super) reading: Reading,
    pub(super) lease: Lease,
    pub(super) permit: OwnedSemaphorePermit,
}

/// What an answer took.
pub(super) struct Used {
    pub(super) coding: Coding,
    pub(super) reading: Reading,
    pub(super) work: Work,
    pub(super) vain: u64,
}

/// What became of an answer.
pub(super) enum Checked {
    Ended(Delivery),
    /// It is written against what is here no more: asked for once more, as it is.
    Unreadable(Open),
}

/// The bytes of all these chunks; none when one of them is not here.
fn base_of(store: &dyn Store, base: &[ChunkRef]) -> Option<Vec<u8>> {
    let parts: Option<Vec<Vec<u8>>> = store.read(base).ok()?.into_iter().collect();
    Some(parts?.concat())
}

impl Answer {
    pub(super) fn check(mut self, open: Open, store: &dyn Store, work: &mut Work) -> Checked {
        let none = Bitmap::empty(open.chunks.len());
        if self.coding == Coding::Plain {
            return Checked::Ended(self.keep(none, store, work));
        }
        let base = match self.coding {
            Coding::ZstdOverBase { .. } => timed(&mut work.storing, || base_of(store, &open.base)),
            _ => Some(Vec::new()),
        };
        let Some(base) = base else { return Checked::Unreadable(Open { base: Vec::new(), ..open }) };
        let size = size_of(&self.came);
        let packed = self.bytes.get(..self.reading.size).unwrap_or_default();
        match timed(&mut work.verifying, || packing::unpack(packed, &base, size)) {
            Ok(content) => {
                self.bytes = content;
                Checked::Ended(self.keep(none, store, work))
            }
            Err(why) => {
                Checked::Ended(Delivery::Lied { held: none, why: format!("sent what cannot be unpacked: {why}") })
            }
        }
    }

    /// Hashes and stores chunks that stand one after the other.
    fn keep(self, mut held: Bitmap, store: &dyn Store, work: &mut Work) -> Delivery {
        let _permit = self.permit;
        let (mut bytes, mut lie, mut full) = (0, None, None);
        let whole = Arc::new(self.bytes);
        let (mut start, mut places, mut good) = (0, Vec::new(), Vec::new());
        timed(&mut work.verifying, || {
            for (at, promised) in self.came {
                match Verified::part(promised, &whole, start) {
                    Some(chunk) => {
                        places.push((at, promised.len));
                        good.push(chunk);
                    }
                    None => lie = lie.take().or(Some(format!("sent something else as chunk {}", promised.id.short()))),
                }
                start += promised.len as usize;
            }
        });
        // Together: neighbours in a file are written at once.
        let stored = timed(&mut work.storing, || store.put_all(&good));
        for ((at, len), put) in places.into_iter().zip(stored) {
            match put {
                Ok(()) => {
                    held.set(at, true);
                    bytes += u64::from(len);
                }
                Err(e) => full = full.or(Some(e.to_string())),
            }
        }
        drop(good);
        // A store that keeps a chunk in memory keeps the buffer.
        if let Ok(buffer) = Arc::try_unwrap(whole) {
            self.lease.give_back(buffer);
        }
        match (lie, full) {
            (Some(why), _) => Delivery::Lied { held, why },
            (None, Some(why)) => Delivery::NotStored { why },
            (None, None) => Delivery::Came { held, bytes, wire: self.reading.size as u64 },
        }
    }
}

/// Does some work, and adds what it took.
fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    *sum += began.elapsed();
    done
}

pub(super) fn size_of(came: &[(usize, ChunkRef)]) -> usize {
    came.iter().map(|(_, promised)| promised.len as usize).sum()
}
