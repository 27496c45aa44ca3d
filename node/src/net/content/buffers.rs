//! Buffers of whole spans, used again. Invariant: what is kept for later never exceeds [`SPARE`] buffers, and nothing is
//! kept while nothing is under way.
//!
//! A fresh megabyte for each span was refused: the system would give its pages one fault at a time, zeroed, and take them
//! back at once.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Buffers kept, of about a megabyte each.
const SPARE: usize = 8;

/// The buffers that all streams of one direction share.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    /// Leases that live.
    out: AtomicUsize,
}

/// The right to hold one span's bytes; what is given back through it serves the next span.
#[derive(Debug)]
pub(super) struct Lease(Arc<Buffers>);

impl Buffers {
    /// A buffer with whatever an earlier span left in it, so that it need not be zeroed; empty at first.
    pub(super) fn take(self: &Arc<Self>) -> (Lease, Vec<u8>) {
        self.out.fetch_add(1, Ordering::Relaxed);
        let spare = self.spare.lock().unwrap_or_else(|e| e.into_inner()).pop();
        (Lease(self.clone()), spare.unwrap_or_default())
    }
}

impl Lease {
    /// The buffer is free again.
    pub(super) fn give_back(self, buffer: Vec<u8>) {
        let mut spare = self.0.spare.lock().unwrap_or_else(|e| e.into_inner());
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut spare = self.0.spare.lock().unwrap_or_else(|e| e.into_inner());
        if self.0.out.fetch_sub(1, Ordering::Relaxed) == 1 {
            spare.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_again_and_an_idle_node_keeps_none() {
        let buffers = Arc::new(Buffers::default());
        let (first, mut bytes) = buffers.take();
        bytes.extend([7; 100]);
        let (second, other) = buffers.take();
        assert!(other.is_empty());
        first.give_back(bytes);
        let (third, again) = buffers.take();
        assert_eq!(again, [7; 100]);
        third.give_back(again);
        drop(second);
        assert!(buffers.take().1.is_empty());
        let leases: Vec<_> = (0..2 * SPARE).map(|_| buffers.take().0).collect();
        let (last, _) = buffers.take();
        leases.into_iter().for_each(|lease| lease.give_back(vec![1]));
        assert_eq!(buffers.spare.lock().unwrap().len(), SPARE);
        drop(last);
        assert_eq!(buffers.spare.lock().unwrap().len(), 0);
    }
}
