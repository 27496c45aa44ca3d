//! Where heads stand under a root that opened a new epoch. Invariant: what the root gave up ranks below everything, and
//! the entry that it names ranks as the new epoch's beginning, whatever number the branch that was given up had reached.

use super::{FeedError, FeedState, Head, Position};
use crate::root::{FeedStart, TrustedRoot};

/// A feed of which this device verified more once than it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// What the disk's mark remembers.
    pub mark: Head,
    /// Somebody showed another entry for that place.
    pub rival: bool,
}

impl FeedStart {
    /// Whether this is the entry after which the open epoch begins: the root's own signatures vouch for it.
    pub fn names(&self, head: Head) -> bool {
        self.from_seq > 0 && (head.at.seq, head.hash) == (self.from_seq, self.from_hash)
    }
    /// Whether the open epoch goes on from here.
    pub fn stands(&self, head: Head) -> bool {
        head.at.epoch == self.epoch || self.names(head) || (head.at.seq == 0 && self.from_seq == 0)
    }
    /// How far a head is, to be compared with others; none for what the root gave up. Of an older epoch, an entry before
    /// the named one may lead there: it keeps its place.
    pub fn rank(&self, head: Head) -> Option<Position> {
        match head.at {
            Position { epoch, .. } if epoch >= self.epoch => Some(head.at),
            Position { seq, .. } if self.stands(head) => Some(Position { epoch: self.epoch, seq }),
            Position { seq, .. } if seq < self.from_seq => Some(head.at),
            _ => None,
        }
    }
}

impl FeedState {
    /// Whether this state still counts under `root`: a root that opened a new epoch names the last entry before it.
    ///
    /// # Errors
    /// [`FeedError::Reopened`] when this state is not on the branch that goes on.
    pub fn stands_under(&self, root: &TrustedRoot) -> Result<(), FeedError> {
        match root.root.feed.rank(self.head) {
            Some(_) => Ok(()),
            None => Err(FeedError::Reopened { after: root.root.feed.from_seq, head: self.head.at.seq }),
        }
    }
}
