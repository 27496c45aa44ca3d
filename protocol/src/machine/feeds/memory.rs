//! What is remembered of a feed beside its log: the mark on the disk, and the pin and floor of tickets.
//! Invariant: none of it ever goes back, and none is replaced by another word about the same place: such a word is
//! refused and told, for people to decide.
//!
//! A log may lose its end; the mark stands outside it. While a feed is behind its mark it is shown, and what runs runs on,
//! but it is not fresh: what was lost may have been a revocation. Hiding such a feed was refused, as nobody could then
//! mend or take back what runs here of it.

use super::{feed::Feed, verify::Fault};
use crate::{
    codec,
    feed::{Behind, Head},
    id::Digest,
    root::FeedStart,
    sign::Envelope,
    ticket::{Contradiction, Ticket},
};

impl Feed {
    /// The number of an own entry that the log lost: marked, yet neither kept nor reserved; or spoken of by what the log still
    /// holds. A mark of a reservation that a whole log holds is no loss; a second attempt for one number leaves the first
    /// one's digest in the mark, so places are compared, not digests.
    pub(crate) fn lost(&self) -> Option<u64> {
        let newest = Some(self.newest().at);
        let reserved = self.reserved.filter(|_| !self.lossy).map(|r| r.at);
        let marked = self.mark.filter(|mark| Some(mark.at) > newest.max(reserved));
        let spoken_of = self.spoken_of.filter(|head| Some(head.at) > newest);
        // What stood behind the place where a root reopened the feed was given up, not lost.
        let open = self.newest_root().map(|r| r.root.feed).filter(|open| open.stands(self.newest()));
        let counts = |mark: &Head| open.is_none_or(|open| mark.at.epoch >= open.epoch);
        marked.max(spoken_of).filter(counts).map(|mark| mark.at.seq)
    }
    /// The mark of an entry that was verified here. A reserved number raises the mark too, and a ticket's floor did so once;
    /// neither was an entry, and the floor has a guard of its own.
    fn marked(&self) -> Option<Head> {
        let reserved = self.reserved.map(|r| r.at);
        let told = self.promised.map_or(self.floor.at, |p| p.floor.at.max(self.floor.at));
        self.mark.filter(|mark| !self.own && mark.at > told && Some(mark.at) > reserved)
    }
    /// The place that was verified here once, while what is durable is behind it.
    pub(crate) fn behind(&self) -> Option<Behind> {
        let mark = if self.own { self.mark.filter(|_| self.lost().is_some()) } else { self.marked() }?;
        let rank = |head: Head| self.root.as_ref().map_or(Some(head.at), |r| r.root.feed.rank(head));
        // What a root gave up is no loss.
        let there = rank(mark).filter(|there| Some(*there) > rank(self.state.head));
        there.map(|_| Behind { mark, rival: self.rival })
    }

    /// Whether this may come after `from`: at a floor or a mark that it reaches stands what is remembered.
    pub(super) fn check_place(&self, open: FeedStart, from: Head, head: Head) -> Result<(), Fault> {
        let place = open.rank(head);
        if from.at < self.floor.at && place == Some(self.floor.at) && head.hash != self.floor.hash {
            return Err(Fault::OtherFloor);
        }
        self.check_mark(open, from, head)
    }
    /// The same of the mark alone. Only of what leads there: once the feed has come as far, newer keys may have signed
    /// something else for a place where a thief's entry stood.
    pub(super) fn check_mark(&self, open: FeedStart, from: Head, head: Head) -> Result<(), Fault> {
        let Some(mark) = self.marked() else { return Ok(()) };
        let there = open.rank(mark);
        if there.is_some() && open.rank(from) < there && open.rank(head) == there && head.hash != mark.hash {
            return Err(Fault::OtherMark);
        }
        Ok(())
    }

    /// Takes a ticket's pin and floor where they are further than those before.
    pub(super) fn raise(&mut self, root: (u64, Digest), floor: Head) {
        if self.pin.is_none_or(|(version, _)| root.0 > version) {
            self.pin = Some(root);
        }
        if floor.at > self.floor.at {
            self.floor = floor;
        }
    }

    /// The digest of the root document of this version, if it was verified here.
    fn root_at(&self, version: u64) -> Option<Digest> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        let coming = self.batch.as_ref().map(|b| b.roots.as_slice()).unwrap_or_default();
        let bytes = self.roots.iter().chain(coming).nth(index)?;
        codec::decode::<Envelope>(bytes).ok().map(|e| e.digest())
    }

    /// Where a ticket and what is known here name two things for one place.
    pub(crate) fn contradiction(&self, ticket: &Ticket) -> Option<Contradiction> {
        let (version, pinned) = ticket.root;
        let pin = self.pin.filter(|(v, _)| *v == version).map(|(_, digest)| digest);
        let known = [self.root_at(version), pin].into_iter().flatten().find(|known| *known != pinned);
        if let Some(known) = known {
            return Some(Contradiction::Root { version, ticket: pinned, known });
        }
        let floor = ticket.floor;
        // What only keys that are gone signed may be a thief's, and says nothing against a ticket.
        let stands = Some(self.newest()).filter(|_| !self.wants_signature());
        let stood = self.trail.head_at(floor.at.seq).filter(|_| !self.wants_signature());
        let known = [stands, stood, Some(self.floor), self.marked()];
        let other = known.into_iter().flatten().find(|known| known.at == floor.at && known.hash != floor.hash)?;
        (floor.at.seq > 0).then_some(Contradiction::Entry { at: floor.at, ticket: floor.hash, known: other.hash })
    }
}
