//! Who signed an entry, and what that lets it say. Invariant: what is decoded was signed by a role of the root, or its
//! digest by the root itself; the release role alone speaks for a whole catalogue.

use super::{Action, Entry, FeedError, Snapshot};
use crate::{
    id::Digest,
    root::{Delegation, TrustedRoot},
    sign::{Envelope, Kind},
};

/// Who speaks in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The release role, or the root that names the entry.
    Release,
    /// The revoke role, which only stops things.
    Revoke,
    /// A delegated key by itself, within its right.
    Delegate,
}

/// Signature and canonical form of one entry: the release role may do everything, the revoke role only stop things, a
/// delegated key publish what the root lets it. What is left of its budget only a state can tell: [`within_budget`].
pub(super) fn verify_signed(root: &TrustedRoot, envelope: &Envelope) -> Result<(Entry, Signer), FeedError> {
    let role = root.role(Kind::Entry);
    let released = envelope.verify(Kind::Entry, root.publisher, "release", &role.keys, role.threshold.into());
    let Err(refused) = released else { return Ok((envelope.open()?, Signer::Release)) };
    // Which role is needed stands inside the payload; it is read only after one of the two did sign it.
    let role = &root.root.roles.revoke;
    if envelope.verify(Kind::Entry, root.publisher, "revoke", &role.keys, role.threshold.into()).is_err() {
        return verify_delegated(root, envelope).ok_or(refused)?;
    }
    let entry: Entry = envelope.open()?;
    match entry.action {
        Action::Revoke { .. } => Ok((entry, Signer::Revoke)),
        Action::Release(_) => Err(refused.into()),
    }
}

/// An entry that a delegated key signed; none when no such key did.
fn verify_delegated(root: &TrustedRoot, envelope: &Envelope) -> Option<Result<(Entry, Signer), FeedError>> {
    let signed = |d: &&Delegation| {
        envelope.signatures.iter().any(|s| s.key == d.key)
            && envelope.verify(Kind::Entry, root.publisher, "delegated", &[d.key], 1).is_ok()
    };
    let delegation = root.root.delegations.iter().find(signed)?;
    let entry: Entry = match envelope.open() {
        Ok(entry) => entry,
        Err(error) => return Some(Err(error.into())),
    };
    let broken = |why| FeedError::Broken { seq: entry.at.seq, why };
    if entry.by != Some(delegation.key) {
        return Some(Err(broken("another delegated key signed it than the one that it names")));
    }
    let permitted = delegation.permits(&entry.action, entry.issued_at).map_err(broken);
    Some(permitted.map(|()| (entry, Signer::Delegate)))
}

/// Whether the key that this entry names has not appended more than the root lets it, this entry included.
///
/// # Errors
/// When it has.
pub(super) fn within_budget(root: &TrustedRoot, entry: &Entry, after: &Snapshot) -> Result<(), &'static str> {
    let Some(delegation) = entry.by.and_then(|key| root.delegation(key)) else { return Ok(()) };
    let spent = after.spent.iter().find(|s| s.key == delegation.key).map_or(0, |s| s.entries);
    if spent > delegation.max_entries {
        return Err("its delegated key has appended as many entries as it may");
    }
    Ok(())
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
        (entry, Signer::Revoke | Signer::Delegate) => {
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
