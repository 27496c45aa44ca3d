//! The newest entries of a feed as they came, and the state that they start from.
//! Invariant: the base and the entries behind it add up to the durable state, so the state at each of them can be had
//! again when a root gives up what came after it.

use crate::{
    codec,
    feed::{Entry, FeedState, Head},
    sign::Envelope,
};
use std::{collections::BTreeMap, sync::Arc};

/// Entries kept in memory to be passed on, in bytes: thousands of usual ones; older ones are served by snapshot.
const BYTES: usize = 2 << 20;
/// The same with those since the newest place where a newcomer can begin: no snapshot serves them.
const BYTES_SINCE: usize = 16 << 20;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    base: Arc<FeedState>,
    entries: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

fn open(bytes: &[u8]) -> Option<(Head, Entry)> {
    let envelope: Envelope = codec::decode(bytes).ok()?;
    let entry: Entry = envelope.open().ok()?;
    Some((Head { at: entry.at, hash: envelope.digest() }, entry))
}

impl Trail {
    pub(crate) fn get(&self, seq: u64) -> Option<&[u8]> {
        self.entries.get(&seq).map(Vec::as_slice)
    }
    /// Entries from this number on.
    pub(crate) fn since(&self, seq: u64) -> impl Iterator<Item = &[u8]> {
        self.entries.range(seq..).map(|(_, bytes)| bytes.as_slice())
    }
    /// The number of the first entry here.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(first, _)| *first)
    }
    /// Whether every entry from this number on is here.
    pub(crate) fn has_all_since(&self, seq: u64) -> bool {
        self.entries.first_key_value().is_some_and(|(first, _)| *first <= seq)
    }
    /// The feed begins anew here.
    pub(crate) fn restart(&mut self, base: Arc<FeedState>) {
        *self = Self { base, ..Self::default() };
    }
    /// Forgets entries behind this number.
    pub(crate) fn cut(&mut self, after: u64) {
        let given_up = self.entries.split_off(&after.saturating_add(1));
        self.bytes -= given_up.values().map(Vec::len).sum::<usize>();
    }
    /// Puts an entry in its place: the next one, or a known one that is better signed. A newcomer can begin with `begin`.
    pub(crate) fn put(&mut self, seq: u64, bytes: Vec<u8>, begin: u64) {
        self.bytes += bytes.len();
        self.bytes -= self.entries.insert(seq, bytes).map_or(0, |old| old.len());
        let served = |entries: &BTreeMap<u64, _>| entries.first_key_value().is_some_and(|(first, _)| *first <= begin);
        while self.bytes > if served(&self.entries) { BYTES } else { BYTES_SINCE } && self.entries.len() > 1 {
            let Some((_, old)) = self.entries.pop_first() else { break };
            self.bytes -= old.len();
            if let Some((head, entry)) = open(&old).filter(|(head, _)| head.at.seq > self.base.head.at.seq) {
                let base = Arc::make_mut(&mut self.base);
                // It was verified, so it fits; were it not to, no state would be found again, and peers are asked.
                let _ = base.snapshot.apply(&entry.action, entry.by);
                (base.head, base.issued_at) = (head, entry.issued_at);
            }
        }
    }
    /// What stood at this number, if the state there can be had again.
    pub(crate) fn head_at(&self, seq: u64) -> Option<Head> {
        if self.base.head.at.seq == seq { Some(self.base.head) } else { open(self.get(seq)?).map(|(head, _)| head) }
    }
    /// The state at the head of this number and digest; of those here entries up to `cut` count, `more` come behind them.
    pub(crate) fn state_at(&self, head: Head, cut: u64, more: &[(u64, Vec<u8>)]) -> Option<FeedState> {
        let mut state = (*self.base).clone();
        let mut promised = None;
        let wanted = state.head.at.seq.saturating_add(1)..=head.at.seq;
        let kept = self.entries.iter().map(|(seq, bytes)| (*seq, bytes)).filter(|(seq, _)| *seq <= cut);
        let mut actions = Vec::new();
        for (_, bytes) in kept.chain(more.iter().map(|(s, b)| (*s, b))).filter(|(seq, _)| wanted.contains(seq)) {
            let (at, entry) = open(bytes)?;
            actions.push((entry.action, entry.by));
            (state.head, state.issued_at) = (at, entry.issued_at);
            promised = Some(entry.state_root);
        }
        state.snapshot.replay(actions)?;
        if promised.is_some_and(|wanted| state.snapshot.state_root() != Ok(wanted)) {
            return None;
        }
        ((state.head.at.seq, state.head.hash) == (head.at.seq, head.hash)).then_some(state)
    }
}
