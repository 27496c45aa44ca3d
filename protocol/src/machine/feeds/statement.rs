//! Statements that a head is current: which are taken, and when one would be welcome. Invariant: a statement that was taken is
//! about the head that is here, dated after the one before, and says more than that.

use super::{
    feed::{self, Batch, Clash, Feed},
    verify::{Fault, holds},
};
use crate::{
    feed::{FeedError, Fresh, Freshness, Moment, VALID_FOR},
    id::PublisherId,
    io::Record,
    machine::desk::Desk,
    sign::Envelope,
    time::{Span, Time},
};

/// What a statement must say more than the one before to be kept.
const WORTH: Span = Span::seconds(3600);

impl Feed {
    /// Takes a statement; `ours` when it was signed here.
    pub(super) fn take_fresh(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        publisher: PublisherId,
        (envelope, bytes): (&Envelope, &[u8]),
        clash: &mut Clash,
        ours: bool,
    ) -> Result<(), Fault> {
        if !ours {
            self.purse.admit(desk.now)?;
        }
        let anchor = batch.anchor.as_ref().map(|a| &*a.state);
        let spoken = feed::spoken(batch.root.as_ref(), anchor, &batch.state);
        let ahead = |f: &Fresh| desk.moment().is_ahead(f.issued_at, spoken);
        // One that was taken under a wrong clock does not stand in the way of better ones.
        let newest = batch.fresh.as_ref().or(self.fresh.as_ref());
        // Under a root that is on its way, what a dropped key said bars nobody.
        let same = self.root.as_ref().map(|r| r.digest) == batch.root.as_ref().map(|r| r.digest);
        let newest = newest.filter(|said| same || batch.root.as_ref().is_some_and(|root| holds(root, said)));
        let newest = newest.map(|(f, _)| f.clone()).filter(|f| !ahead(f));
        let root = batch.root.as_ref().map_or(0, |r| r.root.version);
        let timely = |f: &Fresh| match newest {
            _ if ahead(f) => Err(Fault::Refused("the statement is from the future")),
            Some(newest) if newest.issued_at >= f.issued_at => Err(FeedError::Known(f.head.at.seq).into()),
            Some(newest) if !ours && !says_more(&newest, f, root) => Err(FeedError::Known(f.head.at.seq).into()),
            _ => Ok(()),
        };
        match batch.fresh_bytes(envelope, bytes, timely) {
            Ok(()) => {
                self.purse.pay_statement(desk.now);
                batch.waiting.insert(desk.keep(Record::Fresh { publisher, envelope: bytes.to_vec() }));
                Ok(())
            }
            Err(Fault::Feed(error @ (FeedError::Equivocation(_) | FeedError::Known(_)))) => {
                // One that is late may still name what never stood there.
                let ours = batch.state.head.at.seq;
                if !matches!(error, FeedError::Known(seq) if seq >= ours) {
                    self.clashes(batch, envelope, clash);
                }
                Err(error.into())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether a newer statement would be welcome: none yet, or the newest was said long ago. How long it claims to hold does
    /// not matter: one that somebody made with a stolen key must not keep us from hearing of the root that ends it.
    pub(crate) fn wants_fresh(&self, now: Moment) -> bool {
        let said = self.term(now).map_or(Time(0), |t| t.said);
        // Whoever does not know the time cannot say what is long ago.
        now.is_lost() || self.freshness(now).0 != Freshness::Fresh || now.time().since(said).0 >= VALID_FOR.0 / 2
    }
}

/// Whether a newer statement says so much more than the newest one here that it is worth a place on the disk: it is about
/// another head, said an hour later or holds an hour longer; or it is the first to name a newer root, which is how that gets
/// around. `root` is the newest one here. With a key for statements somebody else could have one kept each millisecond.
fn says_more(newest: &Fresh, later: &Fresh, root: u64) -> bool {
    let ends = |f: &Fresh| f.issued_at + f.valid_for;
    later.head != newest.head
        || later.issued_at.since(newest.issued_at) >= WORTH
        || ends(later).since(ends(newest)) >= WORTH
        || (later.root_version > newest.root_version && newest.root_version <= root)
}
