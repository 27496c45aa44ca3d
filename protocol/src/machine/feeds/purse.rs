//! How much one publisher may have kept here, whoever signs for it. Invariant: a first helping is more than an honest feed
//! needs, beyond it there is so much a time; nothing that is valid is refused for good, it waits at whoever has it.
//!
//! A rule of validity was refused: what honest feeds contain stays valid, and devices that disagreed about it would part.

use super::verify::Fault;
use crate::{
    feed::{Action, Entry, FeedState},
    sign::Envelope,
    time::Time,
};

/// Bytes at once: several whole catalogues, or all entries of one that has outgrown a message.
const FULL: u64 = 16 << 20;
/// What becomes free again each second: four catalogues an hour.
const EARNED: u64 = (4 << 20) / 3600;
/// What a statement counts, however short: each is written and synced by itself.
const STATEMENT: u64 = 4 << 10;
/// What a revocation counts that only has other words than the one before: hundreds at once, then one a minute. It changes
/// nothing that anybody does, and costs a look at the whole catalogue.
const OTHER_WORDS: u64 = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    spent: u64,
    since: Time,
}

impl Purse {
    /// Whether anything is left.
    pub(crate) fn is_empty(&self, now: Time) -> bool {
        self.at(now) >= FULL
    }
    fn at(&self, now: Time) -> u64 {
        self.spent.saturating_sub((now.since(self.since).0 / 1000).saturating_mul(EARNED))
    }
    /// Refuses for now when nothing is left. What is paid afterwards may be more than there is: it was verified then, so
    /// nobody spends a publisher's share by forgeries.
    pub(super) fn admit(&self, now: Time) -> Result<(), Fault> {
        if self.is_empty(now) { Err(Fault::Later) } else { Ok(()) }
    }
    fn pay(&mut self, now: Time, cost: u64) {
        (self.spent, self.since) = (self.at(now).saturating_add(cost), now);
    }
    pub(super) fn pay_catalogue(&mut self, now: Time, bytes: usize) {
        self.pay(now, bytes as u64);
    }
    pub(super) fn pay_statement(&mut self, now: Time) {
        self.pay(now, STATEMENT);
    }
    /// For an entry, with the state before it.
    pub(super) fn pay_entry(&mut self, now: Time, before: &FeedState, envelope: &Envelope, bytes: usize) {
        let said_again = match envelope.open::<Entry>().map(|e| e.action) {
            Ok(Action::Revoke { release, revocation }) => {
                let listing = before.snapshot.listings.iter().find(|l| l.release == release);
                listing.and_then(|l| l.revoked.as_ref()).is_some_and(|r| r.level >= revocation.level)
            }
            _ => false,
        };
        self.pay(now, if said_again { OTHER_WORDS } else { bytes as u64 });
    }
}
