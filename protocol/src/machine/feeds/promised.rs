//! What a ticket says of a publisher beyond what was verified of it here. Anybody can write a ticket with anybody's id in it, so
//! its pin and floor are worth what the feed that meets them is worth.
//! Invariant: what was verified is never hidden or barred by a ticket; while one promises more, the feed is not fresh.
//!
//! A newcomer has nothing but the ticket: for it pin and floor are the anchor, and nothing is shown before they are met.
//! Taking the promise back when the next ticket says less was refused: that one may be the older. Unfollowing takes it back.

use super::feed::Feed;
use crate::{feed::Head, id::Digest};

/// A newer root document and head than those that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promised {
    pub(crate) root: (u64, Digest),
    pub(crate) floor: Head,
}

impl Promised {
    fn further(self, other: Self) -> Self {
        Self { root: self.root.max(other.root), floor: self.floor.max(other.floor) }
    }
}

impl Feed {
    /// Takes a ticket's pin and floor: as the anchor while nothing was verified, afterwards as a promise.
    pub(super) fn heed(&mut self, root: (u64, Digest), floor: Head) {
        let promised = Promised { root, floor };
        if self.root.is_some() && self.is_visible() && !self.has_come_to(promised) {
            self.promised = Some(self.promised.map_or(promised, |before| before.further(promised)));
        } else {
            self.raise(root, floor);
        }
    }
    /// Whether the feed is as far as that.
    fn has_come_to(&self, Promised { root: (version, _), floor }: Promised) -> bool {
        self.root.as_ref().is_some_and(|r| r.root.version >= version) && self.rank(self.state.head) >= Some(floor.at)
    }
    /// What was promised and came, by the very documents that the ticket names, is an anchor as any other.
    pub(super) fn meet(&mut self) {
        let Some(promised) = self.promised else { return };
        let Promised { root: (_, digest), floor } = promised;
        let stood =
            if floor.at == self.state.head.at { Some(self.state.head) } else { self.trail.head_at(floor.at.seq) };
        let same = stood.is_none_or(|head| head.at != floor.at || head.hash == floor.hash);
        if self.has_come_to(promised) && self.has_root(digest) && same {
            self.promised = None;
            self.raise(promised.root, floor);
        }
    }
    /// Followed no more: what tickets said and nobody showed is forgotten. What was verified stays.
    pub(super) fn forget_promises(&mut self) {
        self.promised = None;
        if !self.is_anchored() {
            (self.pin, self.on_trial) = (None, None);
        }
        if !self.is_visible() {
            self.floor = Head::default();
        }
    }
    /// Whether the newest root here is the newest that anybody told of: below it, keys may have been rotated out long ago.
    pub(super) fn may_judge_roots(&self) -> bool {
        let root = self.newest_root();
        let promised = self.promised.map_or(0, |p| p.root.0);
        self.reaches_pin(root) && root.is_some_and(|r| r.root.version >= promised)
    }
}
