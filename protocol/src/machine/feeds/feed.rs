//! One publisher's state: what is durable, and beside it the batch of what is verified but not yet kept.
//! Invariant: everything is verified against the batch, shown from the durable part; the batch replaces it at once
//! when its last record is durable, so nobody ever sees half of it.

use super::{
    promised::Promised,
    purse::Purse,
    stays::Stays,
    trail::Trail,
    verify::{Fault, holds, proves, spoken as says},
};
use crate::{
    codec,
    feed::{
        Behind, Conflict, Difference, Entry, Equivocation, FeedError, FeedState, Fresh, Freshness, Head, Listing,
        Moment, Position, Revocation, Term,
    },
    id::{Digest, Peer, PublisherId, ReleaseId},
    io::{Event, Record, Token},
    machine::desk::Desk,
    root::{RootError, TrustedRoot},
    sign::{Envelope, Kind},
    time::Time,
};
use std::{collections::BTreeSet, sync::Arc};

/// Two envelopes that prove that the publisher spoke twice.
pub(super) type Clash = Option<(Envelope, Envelope)>;

/// Where a newcomer may begin. The entry is here by itself: what build machines appended since may be more than the trail
/// keeps, and nobody could begin any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The state at the entry.
    pub(crate) state: Arc<FeedState>,
    /// The entry as it came.
    pub(crate) entry: Arc<[u8]>,
}

impl Anchor {
    pub(super) fn new(state: &Arc<FeedState>, entry: &[u8]) -> Self {
        Self { state: state.clone(), entry: entry.into() }
    }
}

/// What is told of how far a feed may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Telling {
    freshness: Freshness,
    term: Option<Term>,
    behind: Option<Behind>,
    needs: Option<u16>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) own: bool,
    pub(crate) followed: bool,
    pub(crate) follow_kept: bool,
    /// The owner waits for [`Event::Followed`].
    pub(crate) owes_followed: bool,
    pub(crate) addresses: Vec<String>,
    /// The newest root that a ticket named.
    pub(crate) pin: Option<(u64, Digest)>,
    pub(crate) floor: Head,
    pub(super) promised: Option<Promised>,
    pub(crate) root: Option<TrustedRoot>,
    /// Envelopes of the root chain, version 1 first.
    pub(crate) roots: Vec<Vec<u8>>,
    root_digests: BTreeSet<Digest>,
    /// What a peer brings of the chain, page by page, while it does not reach the pin. See [`super::take`].
    pub(super) on_trial: Option<(Peer, Batch)>,
    /// Shared with a batch, so that beginning one costs nothing however long the catalogue is.
    pub(crate) state: Arc<FeedState>,
    /// The state where a newcomer may begin: see [`Batch::anchor`].
    pub(crate) anchor: Option<Anchor>,
    /// The state as it is shown: what was revoked here stays revoked, even if a root gave up the entry that said so.
    pub(crate) shown: Arc<FeedState>,
    /// Revocations that the state no longer has.
    pub(crate) stays: Stays,
    /// Newest entries, as received.
    pub(crate) trail: Trail,
    /// What may be kept of it now.
    pub(crate) purse: Purse,
    /// The head when keys that sign entries changed last: nobody who comes later can verify what is before it.
    pub(crate) rotated_at: u64,
    pub(crate) batch: Option<Batch>,
    pub(crate) fresh: Option<(Fresh, Vec<u8>)>,
    pub(crate) proof: Option<Equivocation>,
    proof_epoch: u32,
    /// Two root documents of one version were seen.
    pub(crate) forked: bool,
    /// The number that was signed last, or will be signed next.
    pub(crate) reserved: Option<Head>,
    /// An entry that was handed out to be signed elsewhere: what it will be, and its payload.
    pub(crate) requested: Option<(Head, Vec<u8>)>,
    /// What the disk's mark remembered when this life began.
    pub(crate) mark: Option<Head>,
    /// The furthest place that a kept word speaks of, where what leads there is not here.
    pub(super) spoken_of: Option<Head>,
    /// The log lost something, so that a number which it only reserves may have been signed all the same.
    pub(crate) lossy: bool,
    /// Something of a batch with entries could not be kept, while its entries may be on the disk.
    unsure: bool,
    /// Somebody showed another entry for the place of the mark.
    pub(crate) rival: bool,
    /// The protocol that a root document asks for and this program does not speak.
    pub(crate) needs: Option<u16>,
    told: Option<Telling>,
    /// What the clock shows when there is more to tell.
    pub(crate) told_until: Option<Time>,
}

/// When the release role spoke last; the root where it has not, for only a root may speak in its stead. What a build machine
/// or the revoke role dates speaks for what it does, not for the feed: a date ahead would keep a feed fresh that is withheld,
/// and prove good clocks wrong.
///
/// Refusing an entry of the revoke role for its date was refused: what it takes back is taken back, whatever its clock shows.
pub(super) fn spoken(root: Option<&TrustedRoot>, anchor: Option<&FeedState>, state: &FeedState) -> Time {
    let rooted = root.map_or(Time(0), |r| r.root.issued_at);
    let open = root.map(|r| r.root.feed);
    match anchor.filter(|a| a.head.at.seq > 0) {
        _ if state.head.at.seq == 0 => rooted,
        // Whoever signed the entry that a root names: the root was made later.
        Some(anchor) if open.is_some_and(|open| open.names(anchor.head)) => anchor.issued_at.min(rooted),
        Some(anchor) => anchor.issued_at,
        None => state.issued_at.min(rooted),
    }
}

/// Verified, and on its way to the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) root: Option<TrustedRoot>,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) state: Arc<FeedState>,
    /// The state at the newest entry that the release role of the newest root signed, or that the root names: with it
    /// a newcomer may begin. None while the head has only signatures of keys that are gone.
    pub(crate) anchor: Option<Anchor>,
    pub(crate) rotated_at: u64,
    /// The feed begins anew here: entries before are not in memory.
    pub(crate) onboarded: bool,
    /// A root gave up what is behind this number.
    pub(crate) cut: Option<u64>,
    /// The state that the trail goes on from, when it begins anew.
    pub(crate) base: Option<Arc<FeedState>>,
    pub(crate) entries: Vec<(u64, Vec<u8>)>,
    pub(crate) added: Vec<Listing>,
    pub(crate) fresh: Option<(Fresh, Vec<u8>)>,
    pub(crate) waiting: BTreeSet<Token>,
    pub(crate) failed: bool,
}

impl Batch {
    fn is_half_kept(&self) -> bool {
        self.failed && !self.entries.is_empty()
    }
}

impl Feed {
    pub(crate) fn is_known(&self) -> bool {
        self.own || self.followed
    }
    /// Whether the root chain reaches what the ticket pins.
    pub(crate) fn is_anchored(&self) -> bool {
        self.reaches_pin(self.root.as_ref())
    }
    pub(super) fn reaches_pin(&self, root: Option<&TrustedRoot>) -> bool {
        root.is_some_and(|r| self.pin.is_none_or(|(version, _)| r.root.version >= version))
    }
    /// Whether the head may be shown: anchored, and not behind the ticket's floor. A newer epoch is above any floor of an
    /// older one: the root that opened it was signed after the ticket was made, or gave up what the ticket names.
    pub(crate) fn is_visible(&self) -> bool {
        self.is_anchored() && self.rank(self.state.head) >= Some(self.floor.at)
    }
    /// How far a head is under the newest root; none for what that root gave up.
    pub(crate) fn rank(&self, head: Head) -> Option<Position> {
        self.newest_root().map_or(Some(head.at), |r| r.root.feed.rank(head))
    }
    pub(crate) fn visible_head(&self) -> Head {
        if self.is_visible() { self.state.head } else { Head::START }
    }
    pub(crate) fn is_frozen(&self) -> bool {
        let open = self.root.as_ref().map_or(0, |r| r.root.feed.epoch);
        self.forked || (self.proof.is_some() && self.proof_epoch >= open)
    }
    /// Where the two histories of a publisher part, as far as it is proven.
    pub(crate) fn difference(&self) -> Option<Difference> {
        let proof = self.proof.as_ref().filter(|_| self.is_frozen())?;
        proof.difference(|seq| codec::decode(self.trail.get(seq)?).ok())
    }
    pub(crate) fn freeze(&mut self, proof: Equivocation) {
        self.forked |= proof.one.kind == Kind::Root;
        // Of the root that made it a proof, which may still be on its way to the disk.
        self.proof_epoch = self.newest_root().map_or(u32::MAX, |r| r.root.feed.epoch);
        self.proof = Some(proof);
    }
    /// Takes a proof of an earlier life. One that its own log alone still has comes behind roots that came after it: where
    /// those reopened the feed or took its keys away it freezes nothing, unless a later one makes it a proof again.
    fn refreeze(&mut self, proof: Equivocation) {
        let counts = |root: &TrustedRoot| proof.one.kind == Kind::Root || proves(root, &proof.one, &proof.other);
        let counts = self.root.as_ref().is_none_or(counts);
        if self.forked || (self.is_frozen() && !counts) {
            return;
        }
        self.freeze(proof);
        if !counts {
            self.proof_epoch = 0;
        }
    }
    /// Whether something that was verified is still on its way to the disk.
    pub(crate) fn is_coming(&self) -> bool {
        self.batch.as_ref().is_some_and(|b| !b.waiting.is_empty())
    }
    /// The entry of the newest head, as it came.
    pub(crate) fn newest_entry(&self) -> Option<&[u8]> {
        let seq = self.newest().at.seq;
        let entries = self.batch.as_ref().map(|b| b.entries.as_slice()).unwrap_or_default();
        let coming = entries.iter().rev().find(|(s, _)| *s == seq).map(|(_, bytes)| bytes.as_slice());
        coming.or_else(|| self.trail.get(seq))
    }
    /// The newest verified head, kept or on its way.
    pub(crate) fn newest(&self) -> Head {
        self.batch.as_ref().map_or(self.state.head, |b| b.state.head)
    }
    pub(crate) fn newest_state(&self) -> &FeedState {
        self.batch.as_ref().map_or(self.state.as_ref(), |b| b.state.as_ref())
    }
    pub(crate) fn newest_root(&self) -> Option<&TrustedRoot> {
        self.batch.as_ref().map_or(self.root.as_ref(), |b| b.root.as_ref())
    }
    /// Whether nobody knows what this life wrote down: an entry may be durable that is forgotten here.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure || self.batch.as_ref().is_some_and(Batch::is_half_kept)
    }
    /// A batch is given up. What of it is on the disk counts from the next start on.
    pub(crate) fn give_up(&mut self, batch: &Batch) {
        self.unsure |= batch.is_half_kept();
    }
    /// The place to ask from: the start when the root gave up the branch that is here.
    pub(crate) fn ask_from(&self) -> Head {
        let head = self.newest();
        if self.rank(head).is_some() { head } else { Head::START }
    }
    /// Whether a peer's head lies beyond ours. What the root gave up lies nowhere.
    pub(crate) fn is_ahead(&self, theirs: Head) -> bool {
        self.rank(theirs) > self.rank(self.newest())
    }
    /// Whether the head has no signature that a newcomer could verify: the keys that signed it are gone.
    pub(crate) fn wants_signature(&self) -> bool {
        let anchor = self.batch.as_ref().map_or(&self.anchor, |b| &b.anchor);
        self.newest().at.seq > 0 && anchor.is_none()
    }
    /// Whether an entry of ours counts now that its record is durable; not when something before it could not be kept.
    pub(crate) fn counts(&self, head: Head, again: bool) -> bool {
        let failed = self.batch.as_ref().is_some_and(|b| b.failed);
        !failed
            && self.rank(self.newest()) >= self.rank(head)
            && !(again && self.newest() == head && self.wants_signature())
    }
    /// Whether the newest statement speaks of a root that is not here.
    pub(crate) fn wants_root(&self) -> bool {
        let newest = self.batch.as_ref().and_then(|b| b.fresh.as_ref()).or(self.fresh.as_ref());
        newest.is_some_and(|(f, _)| f.root_version > self.newest_root().map_or(0, |r| r.root.version))
    }
    /// The newest root version that this peer need not send.
    pub(crate) fn root_to_ask_from(&self, peer: Peer) -> u64 {
        self.root_on_trial(peer).or(self.newest_root()).map_or(0, |r| r.root.version)
    }
    pub(super) fn root_on_trial(&self, peer: Peer) -> Option<&TrustedRoot> {
        self.on_trial.as_ref().filter(|(from, _)| *from == peer)?.1.root.as_ref()
    }
    pub(super) fn is_same_proof(&self, other: &Self) -> bool {
        (&self.proof, self.proof_epoch) == (&other.proof, other.proof_epoch)
    }
    pub(crate) fn has_root(&self, digest: Digest) -> bool {
        self.root_digests.contains(&digest)
    }

    /// The batch under way, taken out to be continued, or a new one that begins with the durable state.
    pub(crate) fn batch(&mut self) -> Batch {
        self.batch.take().unwrap_or_else(|| Batch {
            root: self.root.clone(),
            state: self.state.clone(),
            anchor: self.anchor.clone(),
            rotated_at: self.rotated_at,
            ..Batch::default()
        })
    }

    /// Makes a batch the durable state; gives what its entries added.
    pub(crate) fn adopt(&mut self, batch: Batch) -> Vec<Listing> {
        for bytes in &batch.roots {
            if let Ok(envelope) = codec::decode::<Envelope>(bytes) {
                self.root_digests.insert(envelope.digest());
            }
        }
        self.roots.extend(batch.roots);
        if let Some(after) = batch.cut {
            self.trail.cut(after);
        }
        if let Some(base) = batch.onboarded.then(|| batch.base.clone()).flatten() {
            self.trail.restart(base);
        }
        let begin = batch.anchor.as_ref().map_or(u64::MAX, |a| a.state.head.at.seq);
        for (seq, bytes) in batch.entries {
            self.trail.put(seq, bytes, begin);
        }
        let gives_up = batch.cut.is_some() || batch.onboarded;
        if gives_up {
            self.stays.keep(&self.shown, batch.root.as_ref().map_or(0, |r| r.root.feed.epoch));
        }
        // Most records change neither, and a catalogue is long.
        let moves = gives_up || !Arc::ptr_eq(&self.state, &batch.state);
        self.state = batch.state;
        if moves {
            self.shown = self.stays.show(&self.state);
        }
        self.anchor = batch.anchor;
        self.rotated_at = batch.rotated_at;
        if batch.fresh.is_some() {
            self.fresh = batch.fresh;
        }
        let newer = self.root.as_ref().map(|r| r.digest) != batch.root.as_ref().map(|r| r.digest);
        self.root = batch.root;
        if let (true, Some(root)) = (newer, &self.root) {
            // Whoever holds keys that were rotated out says nothing new with them, freezes nobody, and keeps nothing fresh: that
            // is how a stolen one ends.
            self.fresh = self.fresh.take().filter(|said| holds(root, said));
            if let (false, Some(proof)) = (self.forked, &self.proof) {
                if proves(root, &proof.one, &proof.other) {
                    self.proof_epoch = root.root.feed.epoch;
                } else {
                    self.proof = None;
                }
            }
        }
        self.meet();
        batch.added
    }

    /// Revocations that a root gave up, of releases that are still listed: to be said again by their publisher.
    pub(crate) fn unsaid(&self) -> impl Iterator<Item = (ReleaseId, &Revocation)> {
        self.stays.unsaid(&self.state)
    }

    /// Takes a record of an earlier life; it was verified then, and is verified again.
    pub(crate) fn restore(&mut self, publisher: PublisherId, record: Record) -> Result<(), Fault> {
        let mut batch = self.batch();
        match record {
            Record::Followed { root, floor, addresses, .. } => {
                self.followed = true;
                self.follow_kept = true;
                self.heed(root, floor);
                self.addresses = addresses;
                return Ok(());
            }
            Record::Unfollowed { .. } => {
                self.followed = false;
                self.forget_promises();
                return Ok(());
            }
            Record::Reserved { head, .. } => {
                self.reserved = Some(head);
                // Something else took the number, so the request was withdrawn.
                self.requested = self.requested.take().filter(|(r, _)| r.at != head.at || r.hash == head.hash);
                return Ok(());
            }
            Record::Requested { payload, .. } => {
                let entry: Entry = codec::decode(&payload)?;
                self.requested = Some((Head { at: entry.at, hash: Digest::of(&payload) }, payload));
                return Ok(());
            }
            Record::Proof { proof } => {
                self.refreeze(codec::decode(&proof)?);
                return Ok(());
            }
            Record::Revoked { epoch, release, revocation, .. } => {
                self.stays.restore(release, revocation, epoch);
                self.shown = self.stays.show(&self.state);
                return Ok(());
            }
            Record::Address { .. } => return Ok(()),
            Record::Root { envelope, .. } => batch.root_bytes(self, publisher, &envelope)?,
            Record::Onboarded { envelope, snapshot, .. } => {
                let (envelope, bytes) = batch.came(&envelope)?;
                batch.onboard_bytes(self, &envelope, &bytes, &snapshot)?;
            }
            Record::Entry { envelope, .. } => {
                let (envelope, bytes) = batch.came(&envelope)?;
                batch.entry_bytes(self, &envelope, &bytes).inspect_err(|fault| self.note_gap(&envelope, fault))?;
            }
            // Each was judged when it came; the one that was kept last is the newest.
            Record::Fresh { envelope, .. } => {
                let (envelope, bytes) = batch.came(&envelope)?;
                let taken = batch.fresh_bytes(&envelope, &bytes, |_| Ok(()));
                taken.inspect_err(|fault| self.note_gap(&envelope, fault))?;
            }
        }
        self.adopt(batch);
        Ok(())
    }

    /// A kept word that was verified once speaks of a place to which nothing leads any more: what stood there was lost.
    fn note_gap(&mut self, envelope: &Envelope, fault: &Fault) {
        if let (Fault::Feed(FeedError::Gap { .. }), Some((Conflict::Feed(at), hash))) = (fault, says(envelope)) {
            self.spoken_of = self.spoken_of.max(Some(Head { at, hash }));
        }
    }

    /// Verifies and keeps a root document, unless it is known.
    pub(crate) fn take_root(
        &mut self,
        desk: &mut Desk,
        batch: &mut Batch,
        publisher: PublisherId,
        bytes: &[u8],
        clash: &mut Clash,
    ) -> Result<(), Fault> {
        let known = batch.roots.len();
        match batch.root_bytes(self, publisher, bytes) {
            Err(Fault::Root(RootError::Fork(version))) => {
                tracing::error!(%publisher, version, "the publisher has two root documents of one version");
                if self.may_judge_roots() {
                    *clash = self.rival_root(batch, bytes);
                }
                return Err(Fault::Root(RootError::Fork(version)));
            }
            Err(Fault::Root(error @ RootError::Protocol { needed })) => {
                self.note_needs(desk, publisher, needed);
                return Err(Fault::Root(error));
            }
            other => other?,
        }
        if let Some(envelope) = batch.roots.get(known).cloned() {
            batch.waiting.insert(desk.keep(Record::Root { publisher, envelope }));
        }
        Ok(())
    }

    /// Its own root role says so: the signatures were good, or it would not have been read.
    pub(super) fn note_needs(&mut self, desk: &mut Desk, publisher: PublisherId, needed: u16) {
        if self.needs.replace(needed) != Some(needed) {
            tracing::warn!(%publisher, needed, "nothing newer of a publisher can be read: it needs a later protocol");
            self.tell_freshness(desk, publisher);
        }
    }

    /// The newest root document beside another one of its version.
    fn rival_root(&self, batch: &Batch, bytes: &[u8]) -> Clash {
        let ours = batch.roots.last().or(self.roots.last())?;
        Some((codec::decode(ours).ok()?, codec::decode(bytes).ok()?))
    }

    /// Says that the publisher is followed, once it is: kept, and its root verified as far as the ticket demands.
    pub(crate) fn answer_follow(&mut self, desk: &mut Desk, publisher: PublisherId) {
        if self.owes_followed && self.follow_kept && self.is_anchored() {
            self.owes_followed = false;
            desk.tell(Event::Followed { publisher });
            self.tell_freshness(desk, publisher);
        }
    }

    /// When the publisher's release role spoke last, see [`spoken`].
    pub(crate) fn spoken(&self) -> Time {
        spoken(self.root.as_ref(), self.anchor.as_ref().map(|a| &*a.state), &self.state)
    }
    /// The newest statement, unless a clock that came right meanwhile shows its date to be absurd.
    pub(crate) fn statement(&self, now: Moment) -> Option<&Fresh> {
        self.fresh.as_ref().map(|(f, _)| f).filter(|f| !now.is_ahead(f.issued_at, self.spoken()))
    }
    /// Until when the feed's newest word holds; none while nothing of it may be shown.
    pub(crate) fn term(&self, now: Moment) -> Option<Term> {
        let root = self.root.as_ref().filter(|_| self.is_visible())?;
        let term = Term::of(self.statement(now), self.spoken(), &root.root);
        // Somebody told of a newer word, so this one is not the newest, whatever it says of itself.
        Some(if self.promised.is_some() { term.outdated() } else { term })
    }
    /// How far the feed may be believed, and until when this answer holds.
    pub(crate) fn freshness(&self, now: Moment) -> (Freshness, Option<Time>) {
        // A statement about a head that was left behind is an old one, whatever its date.
        let least = if self.behind().is_some() { Freshness::Stale } else { Freshness::Fresh };
        let term = self.term(now);
        term.map_or((Freshness::Stale, None), |t| (t.at(now).max(least), t.holds(now)))
    }

    /// Tells how far the feed may be believed when that is not what was told last: also a later end is news.
    pub(crate) fn tell_freshness(&mut self, desk: &mut Desk, publisher: PublisherId) {
        let now = desk.moment();
        let (freshness, until) = self.freshness(now);
        self.told_until = Some(until.unwrap_or(Time(u64::MAX)));
        let telling = Telling { freshness, term: self.term(now), behind: self.behind(), needs: self.needs };
        if self.is_anchored() && self.told != Some(telling) {
            self.told = Some(telling);
            desk.tell(Event::Freshness { publisher, freshness });
        }
    }
}
