//! What of a log of records nothing needs any more: what a later catalogue says again, branches that a root gave up, older
//! statements. Invariant: what is left leads to the same feed. That is not concluded but tried: a publisher whose records would
//! then lead anywhere else keeps them all.
//!
//! Without this one publisher could fill any disk: a feed is short, but nothing bounds how often it begins anew.

use super::Feed;
use crate::{codec, feed::Entry, id::PublisherId, io::Record, root::Root, sign::Envelope};
use std::collections::BTreeMap;

/// Bytes of one publisher that are worth the trial: it costs as much as a start.
const WORTH: usize = 1 << 20;

/// What becomes of a log.
#[derive(Debug)]
pub struct Condensed {
    /// For each record, in order, whether it stays.
    pub keep: Vec<bool>,
    /// What comes behind them.
    pub add: Vec<Record>,
}

/// One publisher's part of a log.
#[derive(Debug, Default)]
struct Part {
    /// Places of its records in the log.
    all: Vec<usize>,
    /// The same of those that nothing seems to need.
    gone: Vec<usize>,
    /// Entries and catalogues that count until now: their places and numbers.
    body: Vec<(usize, u64)>,
    fresh: Option<usize>,
    epoch: u32,
    bytes: usize,
    bytes_gone: usize,
}

/// How long a record is, but for some bytes.
fn weight(record: &Record) -> usize {
    match record {
        Record::Onboarded { envelope, snapshot, .. } => envelope.len() + snapshot.len(),
        Record::Root { envelope, .. } | Record::Entry { envelope, .. } | Record::Fresh { envelope, .. } => {
            envelope.len()
        }
        _ => 0,
    }
}

/// The number of an entry, before anybody looks at its signatures: that is what the trial is for.
fn number(envelope: &[u8]) -> Option<u64> {
    Some(codec::decode::<Envelope>(envelope).ok()?.open::<Entry>().ok()?.at.seq)
}

impl Part {
    fn add(&mut self, at: usize, record: &Record) {
        self.all.push(at);
        self.bytes += weight(record);
        match record {
            Record::Onboarded { envelope, .. } => {
                if let Some(seq) = number(envelope) {
                    self.gone.extend(self.body.drain(..).map(|(at, _)| at));
                    self.body.push((at, seq));
                }
            }
            Record::Entry { envelope, .. } => self.body.extend(number(envelope).map(|seq| (at, seq))),
            Record::Fresh { .. } => self.gone.extend(self.fresh.replace(at)),
            Record::Root { envelope, .. } => {
                let root = codec::decode::<Envelope>(envelope).ok().and_then(|e| e.open::<Root>().ok());
                let Some(open) = root.map(|r| r.feed).filter(|open| open.epoch > self.epoch) else { return };
                self.epoch = open.epoch;
                // The first root gives up nothing.
                if open.epoch > 1 {
                    self.gone.extend(self.body.extract_if(.., |(_, seq)| *seq > open.from_seq).map(|(at, _)| at));
                }
            }
            _ => {}
        }
    }
}

/// What these records come to.
fn restored<'a>(publisher: PublisherId, records: impl Iterator<Item = &'a Record>) -> Feed {
    let mut feed = Feed::default();
    for record in records {
        // What no longer holds is left out at every start, too.
        let _ = feed.restore(publisher, record.clone());
    }
    feed
}

/// Says what of these records, oldest first, may be dropped; none when that is too little to write the rest anew.
pub fn condense(records: &[Record]) -> Option<Condensed> {
    let mut parts: BTreeMap<PublisherId, Part> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        if let Some(publisher) = record.publisher() {
            parts.entry(publisher).or_default().add(at, record);
        }
    }
    let mut condensed = Condensed { keep: vec![true; records.len()], add: vec![] };
    let mut any = false;
    for (publisher, mut part) in parts {
        part.bytes_gone = part.gone.iter().map(|at| weight(&records[*at])).sum();
        if part.bytes_gone < WORTH || part.bytes_gone * 2 < part.bytes {
            continue;
        }
        let keep = &mut condensed.keep;
        // Those that were written at an earlier time are among what stays now.
        part.gone.extend(part.all.iter().filter(|at| matches!(records[**at], Record::Revoked { .. })));
        part.gone.iter().for_each(|at| keep[*at] = false);
        let now = restored(publisher, part.all.iter().map(|at| &records[*at]));
        let stays = now.stays.all().map(|(release, epoch, revocation)| Record::Revoked {
            publisher,
            epoch,
            release,
            revocation: revocation.clone(),
        });
        let stays: Vec<Record> = stays.collect();
        let left = part.all.iter().filter(|at| keep[**at]).map(|at| &records[*at]);
        if now.is_same(&restored(publisher, left.chain(&stays))) {
            any = true;
            condensed.add.extend(stays);
        } else {
            tracing::warn!(%publisher, "its records lead elsewhere without those that nothing seems to need; all are kept");
            part.gone.iter().for_each(|at| keep[*at] = true);
        }
    }
    any.then_some(condensed)
}

impl Feed {
    /// Whether nobody could tell the difference.
    fn is_same(&self, other: &Self) -> bool {
        let words = |f: &Self| (f.followed, f.follow_kept, f.pin, f.floor, f.forked, f.reserved);
        let root = |f: &Self| f.root.as_ref().map(|r| r.digest);
        // It says from where on nobody is shown entries; where there are none before, it says nothing.
        let rotated = |f: &Self| f.trail.first().map_or(0, |first| f.rotated_at.max(first.saturating_sub(1)));
        words(self) == words(other)
            && (root(self), &self.roots, &self.addresses) == (root(other), &other.roots, &other.addresses)
            && (&self.state, &self.shown, &self.anchor) == (&other.state, &other.shown, &other.anchor)
            && (&self.stays, &self.trail, rotated(self)) == (&other.stays, &other.trail, rotated(other))
            && (&self.fresh, &self.requested) == (&other.fresh, &other.requested)
            && self.is_same_proof(other)
    }
}
