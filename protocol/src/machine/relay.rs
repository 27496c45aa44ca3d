//! What of gossip is passed on, and when. Invariant: a verified word goes on when it is durable here and not before, so nobody
//! hears from here of a head that a crash takes back; one publisher has only so many passed on. A proof that a publisher spoke
//! twice waits for neither: there is one for each epoch, and whoever fills the purse with good words must not hold it back.

use super::{desk::Desk, feeds::Feeds};
use crate::{
    id::{Digest, Peer, PublisherId},
    io::{Output, Verdict},
    limits,
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// Gossip that one publisher may have passed on in a burst; one more every [`GOSSIP_EVERY`].
const GOSSIP_BURST: u32 = 10;
/// See [`GOSSIP_BURST`].
const GOSSIP_EVERY: Span = Span::seconds(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Tokens of gossip by publisher: how many are left, and since when.
    purse: BTreeMap<PublisherId, (u32, Time)>,
    /// Heads that were passed on although a pull had brought them first.
    passed: BTreeSet<Digest>,
    /// Good words that wait for the disk: who brought them, and the driver's numbers.
    held: BTreeMap<PublisherId, Vec<(Peer, u64)>>,
}

/// A verdict, and whether it waits until what was verified of a publisher is durable.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    Now(Verdict),
    Kept(PublisherId),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self::Now(verdict)
    }
}

impl Relay {
    /// Gives the verdict, or keeps it until the disk has spoken.
    pub(super) fn answer(&mut self, desk: &mut Desk, feeds: &Feeds, (peer, gossip): (Peer, u64), answer: Answer) {
        let verdict = match answer {
            Answer::Kept(publisher) if feeds.get(publisher).is_some_and(|f| f.is_coming()) => {
                return self.held.entry(publisher).or_default().push((peer, gossip));
            }
            Answer::Kept(_) => Verdict::Accept,
            Answer::Now(verdict) => verdict,
        };
        desk.out(Output::Judge { peer, gossip, verdict });
    }
    /// The disk has spoken: others pass on what it kept.
    pub(super) fn settled(&mut self, desk: &mut Desk, publisher: PublisherId, kept: bool) {
        let verdict = if kept { Verdict::Accept } else { Verdict::Ignore };
        for (peer, gossip) in self.held.remove(&publisher).unwrap_or_default() {
            desk.out(Output::Judge { peer, gossip, verdict });
        }
    }

    pub(super) fn pass_once(&mut self, digest: Digest) -> bool {
        if self.passed.len() >= 4 * limits::HEADS {
            self.passed.clear();
        }
        self.passed.insert(digest)
    }

    /// Whether this publisher's purse allows one more message to be passed on.
    pub(super) fn spend(&mut self, now: Time, publisher: PublisherId) -> bool {
        let (left, since) = self.purse.entry(publisher).or_insert((GOSSIP_BURST, now));
        let earned = now.since(*since).0 / GOSSIP_EVERY.0;
        if earned > 0 {
            *left = u32::try_from(u64::from(*left) + earned).unwrap_or(u32::MAX).min(GOSSIP_BURST);
            *since = now;
        }
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}
