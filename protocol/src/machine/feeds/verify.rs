//! Verification in the order of `protocol/SPEC.md`: known publisher, no proof against it, signature by the role of the
//! current root, canonical form, place in the feed, and only then anything is kept.
//! Invariant: a function here that returns an error has changed nothing that lasts.

use super::feed::{Anchor, Batch, Feed};
use crate::{
    codec::{self, CodecError},
    feed::{
        Action, Conflict, Entry, FeedError, FeedState, Fresh, Head, Listing, Position, Signer, verify_beginning,
        verify_fresh,
    },
    id::{Digest, PublicKey, PublisherId},
    io::Step,
    root::{FeedStart, Root, RootError, TrustedRoot},
    sign::{Envelope, Kind, SignatureError},
};
use std::sync::Arc;

/// Why something that a publisher is said to have said is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("{0}")]
    Refused(&'static str),
    /// Nothing is wrong with it: see [`super::purse`].
    #[error("its publisher has had so much kept here lately that the rest waits")]
    Later,
    /// Signed, but not what a ticket names.
    #[error("the feed is not the one of the ticket's floor")]
    OtherFloor,
    /// Signed, but not what was verified here once.
    #[error("this device verified another entry at this place before its log lost it")]
    OtherMark,
}

impl Fault {
    /// The step of verification that this is; none where nothing is refused: it is known, or what comes before it is missing.
    pub(super) fn step(&self) -> Option<Step> {
        Some(match self {
            Self::Codec(error) | Self::Root(RootError::Codec(error)) | Self::Feed(FeedError::Codec(error)) => {
                error.step()
            }
            Self::Root(RootError::Signature(error)) | Self::Feed(FeedError::Signature(error)) => match error {
                SignatureError::TooLong { .. } => Step::Length,
                SignatureError::Codec(error) => error.step(),
                _ => Step::Signature,
            },
            Self::Feed(FeedError::Known(_) | FeedError::Gap { .. }) => return None,
            Self::Later => Step::Limits,
            Self::Root(_) | Self::Feed(_) | Self::Refused(_) | Self::OtherFloor | Self::OtherMark => Step::Place,
        })
    }
}

impl From<SignatureError> for Fault {
    fn from(error: SignatureError) -> Self {
        Self::Feed(error.into())
    }
}

impl Batch {
    pub(super) fn root_bytes(&mut self, feed: &Feed, publisher: PublisherId, bytes: &[u8]) -> Result<(), Fault> {
        let envelope: Envelope = codec::decode(bytes)?;
        let digest = envelope.digest();
        if feed.has_root(digest) || self.root.as_ref().is_some_and(|r| r.digest == digest) {
            return Ok(());
        }
        let root = match &self.root {
            None => TrustedRoot::first(publisher, &envelope)?,
            Some(trusted) => trusted.next(&envelope)?,
        };
        if feed.pin.is_some_and(|(version, digest)| version == root.root.version && digest != root.digest) {
            return Err(Fault::Refused("the root document is not the one that the ticket pins"));
        }
        // What was signed by both, as a change of keys is.
        let counts =
            |key: &PublicKey| [self.root.as_ref(), Some(&root)].into_iter().flatten().any(|r| r.names(Kind::Root, key));
        let bare = envelope.pruned(counts).and_then(|bare| codec::encode(&bare).ok());
        let before = self.root.replace(root);
        self.roots.push(bare.unwrap_or_else(|| bytes.to_vec()));
        self.stand(feed, before.as_ref());
        Ok(())
    }

    /// Something that a page brought, as it is to be kept.
    pub(super) fn came(&self, bytes: &[u8]) -> Result<(Envelope, Vec<u8>), Fault> {
        let envelope: Envelope = codec::decode(bytes)?;
        let bare = self.root.as_ref().and_then(|root| pruned(root, &envelope));
        Ok(bare.unwrap_or_else(|| (envelope, bytes.to_vec())))
    }

    /// What a new root leaves of the state: of another epoch, it may give up the branch that is here; with other keys for
    /// entries, whoever comes later can verify nothing that only the old ones signed.
    fn stand(&mut self, feed: &Feed, before: Option<&TrustedRoot>) {
        let Some(root) = &self.root else { return };
        let open = root.root.feed;
        if open.rank(self.state.head).is_none() {
            self.go_back(feed, open);
        } else if before.is_some_and(|b| b.root.feed == open && still_sign(b, root)) {
            return;
        }
        self.rotated_at = self.state.head.at.seq;
        self.anchor = self.beginning(feed);
    }
    /// Back to the entry that the root names, if the state at it can be had again; otherwise to the start, for peers to
    /// bring it.
    fn go_back(&mut self, feed: &Feed, open: FeedStart) {
        let named = Head { at: Position { epoch: 0, seq: open.from_seq }, hash: open.from_hash };
        let more = if self.onboarded { &[][..] } else { self.entries.as_slice() };
        // What an earlier root of this batch gave up is still in the trail, and leads nowhere.
        let cut = self.cut.unwrap_or(u64::MAX);
        let found = feed.trail.state_at(named, cut, more).filter(|_| !self.onboarded);
        let state = found.unwrap_or_default();
        self.cut = Some(state.head.at.seq.min(cut));
        if state.head.at.seq == 0 {
            (self.onboarded, self.base) = (true, Some(Arc::new(state.clone())));
        }
        self.entries.retain(|(seq, _)| *seq <= state.head.at.seq);
        self.added.clear();
        self.state = Arc::new(state);
    }
    /// The head, if a newcomer may begin with it.
    fn beginning(&self, feed: &Feed) -> Option<Anchor> {
        let seq = self.state.head.at.seq;
        let bytes = self.entries.iter().rev().find(|(s, _)| *s == seq).map(|(_, b)| b.as_slice());
        let bytes = bytes.or_else(|| feed.trail.get(seq))?;
        let envelope: Envelope = codec::decode(bytes).ok()?;
        let begins =
            envelope.digest() == self.state.head.hash && verify_beginning(self.root.as_ref()?, &envelope).is_ok();
        begins.then(|| Anchor::new(&self.state, bytes))
    }

    /// The digest of the catalogue at this entry, where it is one to begin with.
    pub(super) fn begins_at(&self, feed: &Feed, envelope: &Envelope) -> Result<Digest, Fault> {
        let root = self.root.as_ref().ok_or(Fault::Refused("no root is known"))?;
        let entry = verify_beginning(root, envelope)?;
        self.may_begin(feed, root.root.feed, Head { at: entry.at, hash: envelope.digest() })?;
        Ok(entry.state_root)
    }
    /// Whether this head may take the place of ours; true where its catalogue need not continue the one that is here.
    fn may_begin(&self, feed: &Feed, open: FeedStart, head: Head) -> Result<bool, Fault> {
        check_floor(feed.floor, open, head)?;
        let old = self.state.head;
        feed.check_mark(open, old, head)?;
        // Where nobody who speaks now signed our head, it may be a thief's: what they signed for its place takes it. Places
        // never go back, and what was revoked stays so.
        let unsigned = self.anchor.is_none() && old.at.seq > 0;
        let (new, known) = (open.rank(head), open.rank(old));
        let takes_place = unsigned && new == known && head.hash != old.hash;
        if new <= known && !takes_place {
            return Err(FeedError::Known(head.at.seq).into());
        }
        Ok(unsigned || open.names(head))
    }

    pub(super) fn onboard_bytes(
        &mut self,
        feed: &Feed,
        envelope: &Envelope,
        bytes: &[u8],
        snapshot: &[u8],
    ) -> Result<(), Fault> {
        let root = self.root.as_ref().ok_or(Fault::Refused("no root is known"))?;
        let state = FeedState::onboard(root, envelope, snapshot)?;
        let open = root.root.feed;
        let vouched = self.may_begin(feed, open, state.head)?;
        let old = &self.state;
        if state.head.at.epoch == old.head.at.epoch && !vouched && !continues(old, &state) {
            return Err(Fault::Refused("the snapshot does not continue the catalogue that is known"));
        }
        let known = old.snapshot.listings.len();
        let added = state.snapshot.listings.iter().skip(known).cloned();
        self.added.extend(added);
        self.entries = vec![(state.head.at.seq, bytes.to_vec())];
        self.onboarded = true;
        self.state = Arc::new(state);
        self.anchor = Some(Anchor::new(&self.state, bytes));
        self.base = Some(self.state.clone());
        Ok(())
    }

    /// The next entry; or the head itself, signed by the release role as it is now where it was not.
    pub(super) fn entry_bytes(&mut self, feed: &Feed, envelope: &Envelope, bytes: &[u8]) -> Result<(), Fault> {
        let root = self.root.as_ref().ok_or(Fault::Refused("no root is known"))?;
        let head = self.state.head;
        if head.at.seq > 0 && envelope.digest() == head.hash {
            let begins = self.anchor.as_ref().is_some_and(|anchor| anchor.state.head == head);
            let current = verify_beginning(root, envelope).is_ok();
            if begins && current {
                return Err(FeedError::Known(head.at.seq).into());
            }
            // Of an older epoch it is no longer anybody's to sign: the root that names it has done so.
            if begins || !current {
                return Err(match self.state.follow(root, envelope) {
                    Err(FeedError::Signature(error)) => error.into(),
                    _ => FeedError::Known(head.at.seq).into(),
                });
            }
            self.entries.push((head.at.seq, bytes.to_vec()));
            self.anchor = Some(Anchor::new(&self.state, bytes));
            return Ok(());
        }
        let (state, entry, signer) = self.state.follow(root, envelope)?;
        feed.check_place(root.root.feed, head, state.head)?;
        if let Action::Release(listing) = &entry.action {
            self.added.push(listing.clone());
        }
        self.entries.push((entry.at.seq, bytes.to_vec()));
        self.state = Arc::new(state);
        if signer == Signer::Release {
            self.anchor = Some(Anchor::new(&self.state, bytes));
        }
        Ok(())
    }

    /// Takes a statement that is about our head and that `timely` lets pass. One about an older head is late or a lie: an
    /// entry that we verified came after it.
    pub(super) fn fresh_bytes(
        &mut self,
        envelope: &Envelope,
        bytes: &[u8],
        timely: impl FnOnce(&Fresh) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let root = self.root.as_ref().ok_or(Fault::Refused("no root is known"))?;
        let fresh = verify_fresh(root, envelope)?;
        let open = root.root.feed;
        if open.rank(fresh.head).is_none() {
            return Err(Fault::Refused("the statement speaks of a branch that was given up"));
        }
        if open.rank(fresh.head) > open.rank(self.state.head) {
            let (wanted, found) = (self.state.head.at.seq.saturating_add(1), fresh.head.at.seq);
            return Err(FeedError::Gap { wanted, found }.into());
        }
        if open.rank(fresh.head) < open.rank(self.state.head) {
            return Err(FeedError::Known(fresh.head.at.seq).into());
        }
        if fresh.head.at == self.state.head.at && fresh.head.hash != self.state.head.hash {
            return Err(FeedError::Equivocation(fresh.head.at.seq).into());
        }
        timely(&fresh)?;
        self.fresh = Some((fresh, bytes.to_vec()));
        Ok(())
    }
}

/// What is to be kept and passed on of something that came: without signatures that are worth nothing here, if there are
/// such; see [`Envelope::pruned`]. Of the entry that a root names every good one stays: the root's own vouch for it, and
/// whose keys those were it does not say. What was kept by an earlier program stays as it is.
pub(super) fn pruned(root: &TrustedRoot, envelope: &Envelope) -> Option<(Envelope, Vec<u8>)> {
    let open = root.root.feed;
    let named = envelope.kind == Kind::Entry && open.from_seq > 0 && envelope.digest() == open.from_hash;
    let pruned = envelope.pruned(|key| named || root.names(envelope.kind, key))?;
    let bytes = codec::encode(&pruned).ok()?;
    Some((pruned, bytes))
}

/// Whether a kept statement still speaks under this root: its keys, and of a head that the root did not give up.
pub(super) fn holds(root: &TrustedRoot, (fresh, bytes): &(Fresh, Vec<u8>)) -> bool {
    let signed = codec::decode::<Envelope>(bytes).is_ok_and(|e| verify_fresh(root, &e).is_ok());
    signed && root.root.feed.rank(fresh.head).is_some()
}

/// A head behind the ticket's floor, or another one at it, is a rollback.
pub(super) fn check_floor(floor: Head, open: FeedStart, head: Head) -> Result<(), Fault> {
    let rank = open.rank(head);
    if rank < Some(floor.at) {
        return Err(Fault::Refused("the head is behind the floor that the ticket sets"));
    }
    if rank == Some(floor.at) && head.hash != floor.hash {
        return Err(Fault::Refused("the head is not the one that the ticket names at this place"));
    }
    Ok(())
}

/// Whether a snapshot may be a later one of the same feed: nothing gone, nothing reordered, no revocation taken back.
fn continues(old: &FeedState, new: &FeedState) -> bool {
    let (old, new) = (&old.snapshot.listings, &new.snapshot.listings);
    old.len() <= new.len()
        && old.iter().zip(new).all(|(a, b)| {
            let mut same = b.clone();
            same.revoked = a.revoked.clone();
            let level = |l: &Listing| l.revoked.as_ref().map(|r| r.level);
            same == *a && level(b) >= level(a)
        })
}

/// Whether nobody honest can have taken this for good: the signatures claim enough keys of the role and yet do not hold, or
/// not one holds under whatever key it names. A good one by a key that is unknown here may only mean that the sender has a
/// newer root than we, which is no fault; whatever else stands beside it, anybody can have put there on the way.
pub(super) fn is_forged(root: &TrustedRoot, envelope: &Envelope, error: &SignatureError) -> bool {
    match error {
        SignatureError::TooFew { .. } => {
            let role = root.role(envelope.kind);
            let claimed = envelope.signatures.iter().filter(|s| role.keys.contains(&s.key)).count();
            let signers = envelope.signers();
            let only_known = signers.iter().all(|k| role.keys.contains(k));
            only_known && (claimed >= usize::from(role.threshold) || signers.is_empty())
        }
        _ => true,
    }
}

pub(super) fn signature_error(fault: &Fault) -> Option<&SignatureError> {
    match fault {
        Fault::Feed(FeedError::Signature(e)) | Fault::Root(RootError::Signature(e)) => Some(e),
        _ => None,
    }
}

/// Whether everything that keys of `old` signed holds under `new` as well: a right more takes nothing from anybody.
fn still_sign(old: &TrustedRoot, new: &TrustedRoot) -> bool {
    let (was, is) = (&old.root, &new.root);
    was.roles.release == is.roles.release
        && was.roles.revoke == is.roles.revoke
        && was.delegations.iter().all(|d| is.delegations.contains(d))
}

/// What an envelope says about a place, before anybody looks at its signatures.
pub(super) fn spoken(envelope: &Envelope) -> Option<(Conflict, Digest)> {
    match envelope.kind {
        Kind::Entry => Some((Conflict::Feed(envelope.open::<Entry>().ok()?.at), envelope.digest())),
        Kind::Fresh => envelope.open::<Fresh>().ok().map(|f| (Conflict::Feed(f.head.at), f.head.hash)),
        Kind::Root => Some((Conflict::Root(envelope.open::<Root>().ok()?.version), envelope.digest())),
    }
}

/// Whether two envelopes prove that the publisher spoke twice: in the open epoch of its feed, or about a root document.
/// Both are signed by keys that the newest root names: those that were rotated out prove nothing.
pub(crate) fn proves(root: &TrustedRoot, one: &Envelope, other: &Envelope) -> bool {
    // Signatures are dear, and most pairs say the same or speak of two places.
    if spoken(one).is_none_or(|a| spoken(other).is_none_or(|b| a.0 != b.0 || a.1 == b.1)) {
        return false;
    }
    let (Ok((place, a)), Ok((other_place, b))) = (crate::feed::claim(root, one), crate::feed::claim(root, other))
    else {
        return false;
    };
    let counts = match place {
        Conflict::Feed(at) => at.epoch == root.root.feed.epoch && at.seq > 0,
        Conflict::Root(version) => version > 0,
    };
    counts && place == other_place && a != b
}
