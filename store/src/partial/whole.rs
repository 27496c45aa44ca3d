//! The hash of a whole object, taken while its chunks come. Invariant: bytes enter the hash in the object's order and only
//! when they are the verified bytes of their chunk, or were read back from where they are written; a hash that does not
//! come out as it should is taken again from the file before anybody is blamed.
//!
//! Without this a finished object would be read again from end to end when all is there, with every core but one idle.

use super::{Shared, Spot, lock};
use softservice_protocol::{chunk::ChunkRef, id::ObjectId};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, TryLockError},
};

/// Bytes that one put reads back at most: whoever closes a gap does not hash all that lies behind it while its peer waits.
const BACK: u64 = 4 << 20;

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Run {
    hasher: Option<Box<blake3::Hasher>>,
    /// The chunk that comes next.
    next: usize,
    /// A read failed: the whole is hashed at the end.
    failed: bool,
}

impl Run {
    fn feed(&mut self, bytes: &[u8]) {
        self.hasher.get_or_insert_default().update(bytes);
        self.next += 1;
    }
}

impl Shared {
    /// Takes in what is next and is here. `mine` are chunks of one object that were just written, ascending, while their
    /// bytes are at hand. Somebody who is at it already goes on with these.
    pub(super) fn advance(&self, run: &Arc<Mutex<Run>>, file: &File, mine: &[Spot], bytes: &[&[u8]]) {
        let Some(object) = mine.first().map(|spot| spot.object) else { return };
        let mut read = 0;
        loop {
            let mut at = match run.try_lock() {
                Ok(at) => at,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            if at.failed {
                return;
            }
            let mut buffer = Vec::new();
            while let Some(spot) = self.here(object, at.next) {
                if read >= BACK {
                    return;
                }
                let known = mine.binary_search_by_key(&spot.offset, |s| s.offset).ok();
                if let Some(known) = known.filter(|k| mine.get(*k) == Some(&spot)).and_then(|k| bytes.get(k)) {
                    at.feed(known);
                    continue;
                }
                buffer.resize(spot.chunk.len as usize, 0);
                read += u64::from(spot.chunk.len);
                match file.read_exact_at(&mut buffer, spot.offset) {
                    Ok(()) => at.feed(&buffer),
                    Err(_) => {
                        at.failed = true;
                        return;
                    }
                }
            }
            let next = at.next;
            drop(at);
            // Written between the last look and giving the lock back: its writer found the lock taken, and went.
            if self.here(object, next).is_none() {
                return;
            }
        }
    }
    /// The hash of a file all of whose chunks are here; None when it could not be taken on the way.
    pub(crate) fn digest(&self, object: ObjectId, chunks: &[ChunkRef], file: &File) -> Option<ObjectId> {
        let run = lock(&self.state).expected.get(object)?.run()?;
        let mut at = lock(&run);
        let mut offset: u64 = chunks.iter().take(at.next).map(|c| u64::from(c.len)).sum();
        let mut buffer = Vec::new();
        while let Some(chunk) = chunks.get(at.next).filter(|_| !at.failed) {
            buffer.resize(chunk.len as usize, 0);
            file.read_exact_at(&mut buffer, offset).ok()?;
            at.feed(&buffer);
            offset += u64::from(chunk.len);
        }
        let hasher = at.hasher.as_ref().filter(|_| !at.failed)?;
        Some(ObjectId(*hasher.finalize().as_bytes()))
    }
    fn here(&self, object: ObjectId, number: usize) -> Option<Spot> {
        lock(&self.state).expected.get(object)?.here(number)
    }
}
