//! Who signed an entry, and what that lets it say. Invariant: what is decoded was signed by a role of the root, or its
//! digest by the root itself; the release role alone speaks for a whole catalogue.

use super::{Action, Entry, FeedError};
use crate::{
    id::Digest,
    root::TrustedRoot,
    sign::{Envelope, Kind},
};

/// Who speaks in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The release role, or the root that names the entry.
    Release,
    /// The revoke role, which only stops things.
    Revoke,
}

/// Signature and canonical form of one entry: the release role may do everything, the revoke role only stop things.
pub(super) fn verify_signed(root: &TrustedRoot, envelope: &Envelope) -> Result<(Entry, Signer), FeedError> {
    let role = root.role(Kind::Entry);
    let released = envelope.verify(Kind::Entry, root.publisher, "release", &role.keys, role.threshold.into());
    let Err(refused) = released else { return Ok((envelope.open()?, Signer::Release)) };
    // Which role is needed stands inside the payload; it is read only after one of the two did sign it.
    let role = &root.root.roles.revoke;
    if envelope.verify(Kind::Entry, root.publisher, "revoke", &role.keys, role.threshold.into()).is_err() {
        return Err(refused.into());
    }
    let entry: Entry = envelope.open()?;
    match entry.action {
        Action::Revoke { .. } => Ok((entry, Signer::Revoke)),
        Action::Release(_) => Err(refused.into()),
    }
}

/// Whether this entry says of the whole catalogue what the root lets it say: see [`FeedState::onboard`].
///
/// # Errors
/// See [`FeedError`].
pub(crate) fn verify_beginning(root: &TrustedRoot, envelope: &Envelope) -> Result<Entry, FeedError> {
    let open = root.root.feed;
    if open.from_seq > 0 && envelope.digest() == open.from_hash {
        // Its keys may be gone; the root's are not, and they signed its digest.
        envelope.place(Kind::Entry, root.publisher)?;
        let entry: Entry = envelope.open()?;
        let place = entry.at.seq == open.from_seq && entry.at.epoch < open.epoch;
        let why = "the root names its digest at another place";
        return if place { Ok(entry) } else { Err(FeedError::Broken { seq: entry.at.seq, why }) };
    }
    match verify_entry(root, envelope)? {
        (entry, Signer::Release) => Ok(entry),
        (entry, Signer::Revoke) => {
            let why = "a device begins only with what the release role itself signed";
            Err(FeedError::Broken { seq: entry.at.seq, why })
        }
    }
}

/// Signature, canonical form and epoch of one entry.
pub(super) fn verify_entry(root: &TrustedRoot, envelope: &Envelope) -> Result<(Entry, Signer), FeedError> {
    let (entry, signer) = verify_signed(root, envelope)?;
    let open = root.root.feed;
    if entry.at.epoch != open.epoch {
        return Err(FeedError::Epoch { open: open.epoch, found: entry.at.epoch });
    }
    if entry.at.seq <= open.from_seq {
        return Err(FeedError::Broken { seq: entry.at.seq, why: "its number lies before the epoch's first" });
    }
    if (entry.at.seq == 1) != (entry.prev == Digest::ZERO) {
        return Err(FeedError::Broken { seq: entry.at.seq, why: "only entry 1 has no predecessor" });
    }
    Ok((entry, signer))
}
