//! What a peer asks for again and again. Invariant: a device that fetches, loses and fetches anew is served, and one to which
//! nothing comes through may ask for it as long as it likes; one that only wants to keep us busy is found out after a few
//! rounds, and what is remembered of either is bounded.
//!
//! Counted is what a peer has had, and it has had an answer when it asks on: no asker has more than
//! [`limits::PENDING_SPANS`] requests open, and answers come in the order of requests, so whatever lies further back on a stream
//! has come whole. To count requests was refused: who has one seeder and a bad line asks it for the same chunk once more
//! after every deadline. So was to count what we wrote: megabytes of it wait in windows and sockets when a line breaks.
//!
//! A sample of the chunks is watched, another one on each node and unknown to who asks: to remember all would cost a
//! megabyte for each peer, and who knew the sample would ask for the rest.

use softservice_protocol::{chunk::ChunkRef, id::ChunkId, limits};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// One chunk of so many is watched.
const SAMPLE: u64 = 16;
/// Chunks that are watched for one peer: of four gigabytes.
const WATCHED: usize = 4096;
/// Times that one peer may have had a chunk within [`WINDOW`] and ask for it again.
const TIMES: u8 = 8;
/// See [`TIMES`].
const WINDOW: Duration = Duration::from_secs(600);

/// What one peer has had.
#[derive(Debug, Default)]
pub(crate) struct Appetite {
    key: RandomState,
    had: HashMap<ChunkId, u8>,
    since: Option<Instant>,
    streams: HashMap<u64, Stream>,
    begun: u64,
}

/// What is on its way over one stream.
#[derive(Debug, Default)]
struct Stream {
    /// Requests that came over it.
    asked: u64,
    /// Watched chunks of answers that the asker may not have yet, and the number of their request.
    sent: VecDeque<(u64, ChunkId)>,
}

impl Appetite {
    /// A stream begins; gives its number.
    pub(super) fn begins(&mut self) -> u64 {
        self.begun += 1;
        self.streams.insert(self.begun, Stream::default());
        self.begun
    }
    /// It is over: what was on its way may have got lost.
    pub(super) fn ends(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }
    /// Notes a request; gives its number on the stream, or none when it asks for what was had more often than anybody needs.
    pub(super) fn asked(&mut self, now: Instant, stream: u64, chunks: &[ChunkRef]) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > WINDOW) {
            self.since = Some(now);
            self.had.clear();
        }
        let stream = self.streams.entry(stream).or_default();
        stream.asked += 1;
        while let Some((number, id)) = stream.sent.front().copied()
            && number + limits::PENDING_SPANS as u64 <= stream.asked
        {
            stream.sent.pop_front();
            if self.had.len() < WATCHED || self.had.contains_key(&id) {
                let times = self.had.entry(id).or_insert(0);
                *times = times.saturating_add(1);
            }
        }
        let sane = chunks.iter().all(|c| self.had.get(&c.id).is_none_or(|times| *times < TIMES));
        sane.then_some(stream.asked)
    }
    /// The answer to a request was written, with these chunks.
    pub(super) fn sent(&mut self, stream: u64, number: u64, chunks: impl Iterator<Item = ChunkId>) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        let key = &self.key;
        stream.sent.extend(chunks.filter(|id| key.hash_one(id).is_multiple_of(SAMPLE)).map(|id| (number, id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(from: usize, count: usize) -> Vec<ChunkRef> {
        (from..from + count).map(|n| ChunkRef { id: ChunkId::of(&n.to_le_bytes()), len: 65_536 }).collect()
    }
    /// Fetches all of it over one stream; false when it is found out.
    fn fetches(appetite: &mut Appetite, now: Instant, content: &[ChunkRef]) -> bool {
        let stream = appetite.begins();
        let served = content.chunks(16).all(|span| {
            let number = appetite.asked(now, stream, span);
            number.is_some_and(|number| {
                appetite.sent(stream, number, span.iter().map(|c| c.id));
                true
            })
        });
        appetite.ends(stream);
        served
    }

    #[test]
    fn who_fetches_a_few_times_is_served_and_who_never_ends_is_found_out() {
        let (mut appetite, now) = (Appetite::default(), Instant::now());
        let content = chunks(0, 4096);
        for _ in 0..TIMES {
            assert!(fetches(&mut appetite, now, &content));
        }
        assert!(!fetches(&mut appetite, now, &content), "a ninth time within ten minutes");
        assert!(fetches(&mut appetite, now + WINDOW * 2, &content), "long ago is forgotten");
    }

    #[test]
    fn who_asks_on_one_stream_for_one_thing_is_found_out_soon() {
        // Of so many chunks one is watched.
        let (mut appetite, content) = (Appetite::default(), chunks(0, 256));
        let stream = appetite.begins();
        let mut rounds = 0;
        while let Some(number) = appetite.asked(Instant::now(), stream, &content) {
            appetite.sent(stream, number, content.iter().map(|c| c.id));
            rounds += 1;
            assert!(rounds <= limits::PENDING_SPANS + usize::from(TIMES));
        }
    }

    #[test]
    fn who_gets_nothing_whole_may_ask_for_ever() {
        let (mut appetite, now, content) = (Appetite::default(), Instant::now(), chunks(0, 256));
        for _ in 0..1000 {
            // The line breaks while all that may be open is on its way.
            let stream = appetite.begins();
            for _ in 0..limits::PENDING_SPANS {
                let number = appetite.asked(now, stream, &content).expect("slowness is no fault");
                appetite.sent(stream, number, content.iter().map(|c| c.id));
            }
            appetite.ends(stream);
        }
    }

    #[test]
    fn a_fetch_of_any_size_is_served_in_bounded_memory() {
        let (mut appetite, now) = (Appetite::default(), Instant::now());
        assert!(fetches(&mut appetite, now, &chunks(0, 512_000)));
        assert!(appetite.had.len() <= WATCHED && appetite.streams.is_empty());
    }
}
