//! What a peer asks for again and again. Invariant: a device that fetches, loses and fetches anew is served; one that only wants
//! to keep us busy is found out after a few rounds, and what is remembered of either is bounded.
//!
//! A sample of the chunks is watched, another one on each node and unknown to who asks: to remember all would cost a
//! megabyte for each peer, and who knew the sample would ask for the rest.

use softservice_protocol::{chunk::ChunkRef, id::ChunkId};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// One chunk of so many is watched.
const SAMPLE: u64 = 16;
/// Chunks that are watched for one peer: of four gigabytes.
const WATCHED: usize = 4096;
/// Times that one chunk is served to one peer within [`WINDOW`].
const TIMES: u8 = 8;
/// See [`TIMES`].
const WINDOW: Duration = Duration::from_secs(600);

/// What one peer asked for.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    key: RandomState,
    served: HashMap<ChunkId, u8>,
    since: Option<Instant>,
}

impl Appetite {
    /// Notes a request; false when it repeats itself more often than anybody needs.
    pub(super) fn is_sane(&mut self, now: Instant, chunks: &[ChunkRef]) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > WINDOW) {
            self.since = Some(now);
            self.served.clear();
        }
        let mut sane = true;
        for chunk in chunks.iter().filter(|c| self.key.hash_one(c.id).is_multiple_of(SAMPLE)) {
            if self.served.len() < WATCHED || self.served.contains_key(&chunk.id) {
                let times = self.served.entry(chunk.id).or_insert(0);
                *times = times.saturating_add(1);
                sane &= *times <= TIMES;
            }
        }
        sane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(from: usize, count: usize) -> Vec<ChunkRef> {
        (from..from + count).map(|n| ChunkRef { id: ChunkId::of(&n.to_le_bytes()), len: 65_536 }).collect()
    }

    #[test]
    fn who_fetches_a_few_times_is_served_and_who_never_ends_is_found_out() {
        let (mut appetite, now) = (Appetite::default(), Instant::now());
        let content = chunks(0, 4096);
        for _ in 0..TIMES {
            assert!(content.chunks(16).all(|span| appetite.is_sane(now, span)));
        }
        assert!(!content.chunks(16).all(|span| appetite.is_sane(now, span)), "a ninth time within ten minutes");
        assert!(content.chunks(16).all(|span| appetite.is_sane(now + WINDOW * 2, span)), "long ago is forgotten");
    }

    #[test]
    fn a_fetch_of_any_size_is_served_in_bounded_memory() {
        let (mut appetite, now) = (Appetite::default(), Instant::now());
        assert!((0..1000).all(|n| appetite.is_sane(now, &chunks(n * 512, 512))));
        assert!(appetite.served.len() <= WATCHED);
    }
}
