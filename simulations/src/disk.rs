//! A simulated disk: a set of chunks and a log of records that forget, on a power cut, whatever was not synced.
//! Invariant: what was acknowledged survives every crash; what was not may or may not.

use crate::{corpus::ChunkNumber, dice::Dice};
use softservice_protocol::io::{Record, Token};
use std::collections::VecDeque;

/// Content is synced at least once in so many bytes: the store's contract.
const SYNC_BYTES: u64 = 8 << 20;

/// A set of small numbers.
#[derive(Debug, Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, i: u32) -> bool {
        self.0.get(i as usize / 64).is_some_and(|w| w & (1 << (i % 64)) != 0)
    }
    fn set(&mut self, i: u32) {
        let word = i as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (i % 64);
    }
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new here.
    New,
    /// It was here already: its bytes came twice.
    Twice,
    /// No space.
    Full,
}

/// One node's disk.
#[derive(Debug)]
pub struct Disk {
    held: Bits,
    synced: Bits,
    unsynced: u64,
    used: u64,
    /// Bytes that fit.
    pub capacity: u64,
    /// Time until a record is durable, in microseconds.
    pub sync_us: u64,
    log: Vec<Record>,
    waiting: VecDeque<(Token, Record)>,
    busy_until: u64,
}

impl Disk {
    /// An empty disk.
    pub fn new(capacity: u64, sync_us: u64) -> Self {
        Self {
            held: Bits::default(),
            synced: Bits::default(),
            unsynced: 0,
            used: 0,
            capacity,
            sync_us,
            log: Vec::new(),
            waiting: VecDeque::new(),
            busy_until: 0,
        }
    }
    /// Whether a chunk can be read now.
    pub fn holds(&self, chunk: ChunkNumber) -> bool {
        self.held.get(chunk)
    }
    /// Whether a chunk survives a power cut now.
    pub fn keeps(&self, chunk: ChunkNumber) -> bool {
        self.synced.get(chunk)
    }
    /// Takes a verified chunk.
    pub fn put(&mut self, chunk: ChunkNumber, len: u32) -> Put {
        if self.holds(chunk) {
            return Put::Twice;
        }
        if self.used + u64::from(len) > self.capacity {
            return Put::Full;
        }
        self.used += u64::from(len);
        self.unsynced += u64::from(len);
        self.held.set(chunk);
        if self.unsynced >= SYNC_BYTES {
            self.sync();
        }
        Put::New
    }
    /// All content so far is durable.
    pub fn sync(&mut self) {
        self.synced = self.held.clone();
        self.unsynced = 0;
    }
    /// Begins to keep a record; answers when it will be durable, none when there is no space.
    pub fn keep(&mut self, now: u64, token: Token, record: Record) -> Option<u64> {
        if self.used >= self.capacity {
            return None;
        }
        // One log, one sync at a time: records become durable in order.
        self.busy_until = self.busy_until.max(now) + self.sync_us;
        self.waiting.push_back((token, record));
        Some(self.busy_until)
    }
    /// The oldest record that waits is durable now.
    pub fn kept(&mut self) -> Option<(Token, &Record)> {
        let (token, record) = self.waiting.pop_front()?;
        self.log.push(record);
        self.log.last().map(|record| (token, record))
    }
    /// The log as a new life finds it.
    pub fn records(&self) -> &[Record] {
        &self.log
    }
    /// The power goes. Records that nobody was told about survive as far as the dice say, oldest first.
    pub fn crash(&mut self, dice: &mut Dice, length: impl Fn(ChunkNumber) -> u32) {
        let survive = dice.below(self.waiting.len() as u64 + 1) as usize;
        self.log.extend(self.waiting.drain(..survive).map(|(_, record)| record));
        self.waiting.clear();
        self.busy_until = 0;
        let lost: u64 = self
            .held
            .0
            .iter()
            .enumerate()
            .map(|(word, bits)| {
                let gone = bits & !self.synced.0.get(word).copied().unwrap_or(0);
                (0..64).filter(|b| gone & (1 << b) != 0).map(|b| u64::from(length(word as u32 * 64 + b))).sum::<u64>()
            })
            .sum();
        self.used = self.used.saturating_sub(lost);
        self.unsynced = 0;
        self.held = self.synced.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        let mut disk = Disk::new(1000, 5);
        assert_eq!(disk.put(3, 100), Put::New);
        disk.sync();
        assert_eq!(disk.put(70, 200), Put::New);
        assert_eq!(disk.put(70, 200), Put::Twice);
        assert_eq!(disk.put(71, 900), Put::Full);
        disk.crash(&mut Dice::new(1, "test"), |_| 200);
        assert!(disk.holds(3) && disk.keeps(3) && !disk.holds(70));
        assert_eq!(disk.put(71, 900), Put::New, "the space of what was lost is free again");
    }

    #[test]
    fn an_acknowledged_record_survives() {
        let record = |n: u8| Record::Address { address: n.to_string() };
        for seed in 0..20 {
            let mut disk = Disk::new(1000, 5);
            assert_eq!(disk.keep(10, Token(1), record(1)), Some(15));
            assert_eq!(disk.keep(10, Token(2), record(2)), Some(20), "one after the other");
            assert_eq!(disk.kept().map(|(token, _)| token), Some(Token(1)));
            disk.crash(&mut Dice::new(seed, "test"), |_| 0);
            assert_eq!(disk.records().first(), Some(&record(1)));
            assert!(disk.kept().is_none(), "nothing waits after a power cut");
        }
    }
}
