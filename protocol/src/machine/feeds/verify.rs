//! Verification in the order of `protocol/SPEC.md`: known publisher, no proof against it, signature by the role of the
//! current root, canonical form, place in the feed, and only then anything is kept.
//! Invariant: a function here that returns an error has changed nothing that lasts.

use super::feed::{Batch, Feed};
use crate::{
    codec::{self, CodecError},
    feed::{Action, Conflict, Entry, FeedError, FeedState, Fresh, Head, Listing, Position, verify_fresh},
    id::{Digest, PublisherId},
    root::{RootError, TrustedRoot},
    sign::{Envelope, SignatureError},
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
        self.root = Some(root);
        self.roots.push(bytes.to_vec());
        Ok(())
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
        check_floor(feed.floor, state.head)?;
        let old = &self.state;
        if state.head.at <= old.head.at {
            return Err(FeedError::Known(state.head.at.seq).into());
        }
        if state.head.at.epoch == old.head.at.epoch && !continues(old, &state) {
            return Err(Fault::Refused("the snapshot does not continue the catalogue that is known"));
        }
        let entry: Entry = envelope.open()?;
        let known = old.snapshot.listings.len();
        let added = state.snapshot.listings.iter().skip(known).cloned();
        self.added.extend(added);
        self.issued_at = entry.issued_at;
        self.entries = vec![(state.head.at.seq, bytes.to_vec())];
        self.onboarded = true;
        self.state = Arc::new(state);
        Ok(())
    }

    pub(super) fn entry_bytes(&mut self, envelope: &Envelope, bytes: &[u8]) -> Result<(), Fault> {
        let root = self.root.as_ref().ok_or(Fault::Refused("no root is known"))?;
        let (state, entry) = self.state.accept(root, envelope)?;
        if let Action::Release(listing) = &entry.action {
            self.added.push(listing.clone());
        }
        self.entries.push((entry.at.seq, bytes.to_vec()));
        self.issued_at = entry.issued_at;
        self.state = Arc::new(state);
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
        if fresh.head.at > self.state.head.at {
            let (wanted, found) = (self.state.head.at.seq.saturating_add(1), fresh.head.at.seq);
            return Err(FeedError::Gap { wanted, found }.into());
        }
        if fresh.head.at < self.state.head.at {
            return Err(FeedError::Known(fresh.head.at.seq).into());
        }
        if fresh.head.hash != self.state.head.hash {
            return Err(FeedError::Equivocation(fresh.head.at.seq).into());
        }
        timely(&fresh)?;
        self.fresh = Some((fresh, bytes.to_vec()));
        Ok(())
    }
}

/// A head behind the ticket's floor, or another one at it, is a rollback.
pub(super) fn check_floor(floor: Head, head: Head) -> Result<(), Fault> {
    if head.at < floor.at {
        return Err(Fault::Refused("the head is behind the floor that the ticket sets"));
    }
    if head.at == floor.at && head.hash != floor.hash {
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

/// Whether the signatures claim enough keys of the role and yet do not hold. Unknown keys may only mean that the
/// sender has a newer root than we, which is no fault.
pub(super) fn is_forged(root: &TrustedRoot, envelope: &Envelope, error: &SignatureError) -> bool {
    match error {
        SignatureError::TooFew { .. } => {
            let role = root.role(envelope.kind);
            envelope.signatures.iter().filter(|s| role.keys.contains(&s.key)).count() >= usize::from(role.threshold)
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

/// What a verified envelope says about a place of the feed.
pub(super) fn claim(root: &TrustedRoot, envelope: &Envelope) -> Option<(Position, Digest)> {
    match crate::feed::claim(root, envelope).ok()? {
        (Conflict::Feed(at), digest) => Some((at, digest)),
        (Conflict::Root(_), _) => None,
    }
}

/// Whether two envelopes prove that the publisher spoke twice in the open epoch.
pub(crate) fn proves(root: &TrustedRoot, one: &Envelope, other: &Envelope) -> bool {
    match (claim(root, one), claim(root, other)) {
        (Some((at, a)), Some((place, b))) => at == place && a != b && at.epoch == root.root.feed.epoch && at.seq > 0,
        _ => false,
    }
}
