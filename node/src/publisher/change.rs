//! The successor of a root document, from what its publisher wishes. Invariant: what was not asked for stays as it is; nothing
//! here signs or writes.

use super::{
    request::{RequestError, successor},
    role::RoleName,
};
use softservice_protocol::{
    id::{Digest, PublicKey},
    limits,
    root::{Delegation, FeedStart, Role, Root, RootError, TrustedRoot, keys_commitment},
    time::{Span, Time},
};
use std::collections::BTreeMap;

/// How long a root document holds unless told otherwise: long enough for a yearly habit, short enough that a lost publisher
/// shows.
pub const ROOT_VALID: Span = Span::days(400);
/// The longest that may be asked for.
pub const ROOT_VALID_AT_MOST: Span = Span::days(3650);

/// What changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Keys of roles, in place of those before.
    pub keys: BTreeMap<RoleName, Vec<PublicKey>>,
    /// Signatures that a role needs.
    pub thresholds: BTreeMap<RoleName, u8>,
    /// The root role that the document after this one must have.
    pub promise: Option<Role>,
    /// The lowest protocol.
    pub min_protocol: Option<u16>,
    /// How long it holds.
    pub valid_for: Option<Span>,
    /// Build machines' rights that come; one for a key that has one already takes its place.
    pub delegate: Vec<Delegation>,
    /// Keys whose rights go.
    pub dismiss: Vec<PublicKey>,
    /// A new epoch begins behind this entry.
    pub reopen: Option<(u64, Digest)>,
}

/// Why there is no such successor.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A role needs more signatures than it has keys.
    #[error("the {role} role needs {threshold} signatures and would have {keys}: say --threshold {role}=N as well")]
    Threshold {
        /// The role.
        role: RoleName,
        /// Its threshold.
        threshold: u8,
        /// Its keys.
        keys: usize,
    },
    /// A dismissed key that has no right.
    #[error("no build machine has key {0}")]
    NoDelegation(PublicKey),
    /// The root role is not the promised one.
    #[error(
        "root version {version} promised the root role of the next one, and this is another: give exactly the promised keys and threshold"
    )]
    Promise {
        /// The version that promised.
        version: u64,
    },
    /// A promised role that no document could have.
    #[error(
        "the promised root role could not be kept: it would need {needed} signatures, or has {keys} keys; both are 16 at most"
    )]
    Unkeepable {
        /// Signatures of the document that keeps it.
        needed: usize,
        /// Its keys.
        keys: usize,
    },
    /// Minimum protocol falls.
    #[error("the minimum protocol is {now} and never falls")]
    Protocol {
        /// What it is.
        now: u16,
    },
    /// It would hold no time, or for ever.
    #[error("a root document holds 1 to 3650 days")]
    Validity,
    /// There are no more numbers.
    #[error("the publisher has used up all epochs")]
    Epochs,
    /// The document breaks a rule.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The document cannot be signed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Change {
    /// The document that would follow `before`, not signed yet.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn apply(&self, before: &TrustedRoot, now: Time) -> Result<Root, ChangeError> {
        let mut root = before.root.clone();
        root.version = root.version.saturating_add(1);
        (root.prev, root.publisher) = (before.digest, before.publisher);
        for (role, keys) in &self.keys {
            role.of_mut(&mut root.roles).keys = ascending(keys.clone());
        }
        for (role, threshold) in &self.thresholds {
            role.of_mut(&mut root.roles).threshold = *threshold;
        }
        for role in RoleName::ALL {
            let Role { threshold, keys } = role.of(&root.roles);
            if usize::from(*threshold) > keys.len() {
                return Err(ChangeError::Threshold { role, threshold: *threshold, keys: keys.len() });
            }
        }
        for key in &self.dismiss {
            if root.delegations.iter().all(|d| d.key != *key) {
                return Err(ChangeError::NoDelegation(*key));
            }
        }
        let replaced = |d: &Delegation| self.dismiss.contains(&d.key) || self.delegate.iter().any(|n| n.key == d.key);
        root.delegations.retain(|d| !replaced(d));
        root.delegations.extend(self.delegate.iter().cloned());
        if let Some(lowest) = self.min_protocol {
            if lowest < root.min_protocol {
                return Err(ChangeError::Protocol { now: root.min_protocol });
            }
            root.min_protocol = lowest;
        }
        if let Some((from_seq, from_hash)) = self.reopen {
            let epoch = root.feed.epoch.checked_add(1).ok_or(ChangeError::Epochs)?;
            root.feed = FeedStart { epoch, from_seq, from_hash };
        }
        let valid_for = self.valid_for.unwrap_or(ROOT_VALID);
        if valid_for < Span::days(1) || valid_for > ROOT_VALID_AT_MOST {
            return Err(ChangeError::Validity);
        }
        root.issued_at = now.max(before.root.issued_at);
        root.expires_at = root.issued_at + valid_for;
        root.next_keys = match &self.promise {
            Some(role) => {
                // Judged as the document would be that keeps it: what cannot be kept ends the publisher.
                let (needed, keys) = (signatures(&root.roles.root, role), role.keys.len());
                if needed > limits::SIGNATURES || keys > limits::ROLE_KEYS {
                    return Err(ChangeError::Unkeepable { needed, keys });
                }
                Some(commitment(role)?)
            }
            None => None,
        };
        if let Some(promised) = before.root.next_keys
            && promised != commitment(&root.roles.root)?
        {
            return Err(ChangeError::Promise { version: before.root.version });
        }
        Ok(successor(before, root)?)
    }
}

fn commitment(role: &Role) -> Result<Digest, RootError> {
    Ok(keys_commitment(role)?)
}

/// How many signatures a root document carries whose root role follows another one: those who stand in both count for both.
pub(super) fn signatures(old: &Role, new: &Role) -> usize {
    let both = old.keys.iter().filter(|k| new.keys.contains(k)).count();
    let needed = usize::from(old.threshold) + usize::from(new.threshold).saturating_sub(both);
    needed.max(new.threshold.into())
}

/// As root documents list keys.
pub fn ascending(mut keys: Vec<PublicKey>) -> Vec<PublicKey> {
    keys.sort();
    keys.dedup();
    keys
}
