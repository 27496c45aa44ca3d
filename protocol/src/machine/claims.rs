//! What connected peers say to know of our own feeds beyond what is here, and whether they show it.
//! Invariant: a claim holds up our own publishing until it is shown, and never longer than [`PATIENCE`]; whoever did not show what it
//! claimed holds up nothing more before it brought something new that was verified.
//!
//! An honest peer that is asked shows what it claims: the entries are signed. So words alone stop a publisher for seconds,
//! and never for good.

use super::feeds::Feed;
use crate::{
    feed::Head,
    id::{Peer, PublisherId},
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// So long a peer may take to show what it claims.
const PATIENCE: Span = Span::seconds(10);
/// Peers that are remembered for not having shown what they claimed.
const DOUBTED: usize = 1024;

/// Who claims something, of whose feed.
type Claimant = (Peer, PublisherId);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Since when so much is claimed and not shown.
    open: BTreeMap<Claimant, (Time, Head)>,
    doubted: BTreeSet<Claimant>,
}

/// What a claim is worth now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It may be shown yet.
    Stands,
    /// It was to be shown by now.
    Over,
    /// Nothing: the same peer claimed before what it did not show.
    Doubted,
}

impl Claims {
    /// A peer says that it has `head`, which is beyond ours. Saying it again, or saying more, gives it no more time.
    pub(super) fn made(&mut self, now: Time, feed: &Feed, who: Claimant, head: Head) {
        let (since, claimed) = self.open.entry(who).or_insert((now, head));
        if stands(feed, *claimed) {
            (*since, *claimed) = (now, head);
        }
    }
    /// It brought something new.
    pub(super) fn shown(&mut self, who: Claimant) {
        self.open.remove(&who);
        self.doubted.remove(&who);
    }
    /// It said all that it could, and that was not what it claimed. True when that is news of it.
    pub(super) fn broken(&mut self, who: Claimant) -> bool {
        if self.doubted.len() >= DOUBTED {
            self.doubted.clear();
        }
        self.open.remove(&who);
        self.doubted.insert(who)
    }
    pub(super) fn worth(&mut self, now: Time, feed: &Feed, who: Claimant, head: Head) -> Worth {
        if self.doubted.contains(&who) {
            return Worth::Doubted;
        }
        self.made(now, feed, who, head);
        let since = self.open.get(&who).map_or(now, |(since, _)| *since);
        if now.since(since) < PATIENCE { Worth::Stands } else { Worth::Over }
    }
    /// Those who are doubted are doubted still when they come back.
    pub(super) fn disconnected(&mut self, peer: Peer) {
        self.open.retain(|(p, _), _| *p != peer);
    }
}

/// Whether this very entry is here meanwhile, whoever brought it.
fn stands(feed: &Feed, head: Head) -> bool {
    feed.newest() == head || feed.trail.head_at(head.at.seq) == Some(head)
}
