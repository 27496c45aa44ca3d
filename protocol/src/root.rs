//! Root documents: which keys speak for a publisher, and how they change hands.
//! Invariant: version N+1 is signed by the thresholds of N and of N+1; version 1 is the publisher's name.
//! Source: the TUF specification, section 5.3, with the differences that `protocol/SPEC.md` lists.

use crate::{
    codec::{self, CodecError, Wire},
    feed::Action,
    id::{Digest, FeedId, PublicKey, PublisherId},
    limits, name,
    sign::{Envelope, Kind, SignatureError},
    time::Time,
};
use serde::{Deserialize, Serialize};

/// The protocol that this program speaks: what `min_protocol` is held against.
pub const PROTOCOL: u16 = 1;

/// Who may do one kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Distinct keys that must sign, at least 1.
    pub threshold: u8,
    /// Strictly ascending.
    pub keys: Vec<PublicKey>,
}

/// The four roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Changes keys and reopens feeds.
    pub root: Role,
    /// Appends releases.
    pub release: Role,
    /// Restates that the head is current.
    pub fresh: Role,
    /// Stops a release.
    pub revoke: Role,
}

/// A build machine's limited right to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// The machine's key.
    pub key: PublicKey,
    /// Channels that begin so.
    pub channel_prefix: String,
    /// Distros by name.
    pub distros: Vec<String>,
    /// End of the right.
    pub not_after: Time,
    /// Entries that it may append.
    pub max_entries: u32,
}

/// Where the feed stands open: a new epoch begins after a named entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStart {
    /// The epoch that is open.
    pub epoch: u32,
    /// The last entry of the epochs before that still counts; 0 in the first.
    pub from_seq: u64,
    /// That entry's digest; zero in the first.
    pub from_hash: Digest,
}

impl Delegation {
    /// Whether it lets its key publish this, by an entry of that time.
    ///
    /// # Errors
    /// What it does not allow.
    pub fn permits(&self, action: &Action, at: Time) -> Result<(), &'static str> {
        let Action::Release(listing) = action else { return Err("a delegated key may only publish") };
        if !listing.channel.starts_with(&self.channel_prefix) {
            return Err("the delegation does not reach this channel");
        }
        if !self.distros.contains(&listing.distro) {
            return Err("the delegation does not name this distro");
        }
        if at > self.not_after {
            return Err("the delegation has ended");
        }
        Ok(())
    }
    fn check(&self) -> Result<(), RootError> {
        let named = self.distros.iter().all(|d| name::check(d).is_ok()) && name::check(&self.channel_prefix).is_ok();
        if !named || self.distros.is_empty() || self.distros.len() > limits::DELEGATED_DISTROS {
            return Err(RootError::Invalid("a delegation's distros or channel are too many, none or no names"));
        }
        if !self.distros.is_sorted_by(|a, b| a < b) || self.max_entries == 0 {
            return Err(RootError::Invalid("a delegation's distros are not ascending, or it allows no entry"));
        }
        Ok(())
    }
}

/// One root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// 1, 2, 3 ... without gaps.
    pub version: u64,
    /// Digest of the document before; zero in version 1.
    pub prev: Digest,
    /// Whose document this is; zero in version 1, whose digest is the name.
    pub publisher: PublisherId,
    /// Lowest protocol that this publisher's objects may be read with; never lowered.
    pub min_protocol: u16,
    /// Keys by role.
    pub roles: Roles,
    /// Rights of build machines.
    pub delegations: Vec<Delegation>,
    /// The open epoch.
    pub feed: FeedStart,
    /// When it was made.
    pub issued_at: Time,
    /// When it should have been renewed.
    pub expires_at: Time,
    /// Digest of the next root role, if the publisher commits to it beforehand.
    pub next_keys: Option<Digest>,
}

impl Wire for Root {
    const NAME: &'static str = "root document";
    const LIMIT: usize = limits::ROOT_BYTES;
}

/// Why a root document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// A rule inside one document is broken.
    #[error("root document is invalid: {0}")]
    Invalid(&'static str),
    /// It asks for a later protocol than this program speaks.
    #[error("publisher needs protocol {needed}, this program speaks {PROTOCOL}: update softservice")]
    Protocol {
        /// The lowest that will do.
        needed: u16,
    },
    /// It is not the successor of the one that is trusted.
    #[error("root version {found} cannot follow version {trusted}")]
    NotNext {
        /// The trusted version.
        trusted: u64,
        /// The version offered.
        found: u64,
    },
    /// Its digest is not the publisher's name, or `prev` does not match.
    #[error("root document belongs to another chain")]
    OtherChain,
    /// Two valid documents of one version.
    #[error("publisher has two root documents of version {0}")]
    Fork(u64),
    /// Signatures.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The name of the publisher whose first root document has these bytes.
pub fn publisher_of(first: &[u8]) -> PublisherId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softdist/v1/publisher\0").update(first);
    PublisherId(*hasher.finalize().as_bytes())
}

impl Root {
    /// A first document with one key in each role's place. Keys differ per role, as a key may stand in one role only.
    pub fn first(
        root: PublicKey,
        release: PublicKey,
        fresh: PublicKey,
        revoke: PublicKey,
        now: Time,
        expires: Time,
    ) -> Self {
        let role = |key| Role { threshold: 1, keys: vec![key] };
        Self {
            version: 1,
            prev: Digest::ZERO,
            publisher: PublisherId([0; 32]),
            min_protocol: 1,
            roles: Roles { root: role(root), release: role(release), fresh: role(fresh), revoke: role(revoke) },
            delegations: Vec::new(),
            feed: FeedStart { epoch: 1, from_seq: 0, from_hash: Digest::ZERO },
            issued_at: now,
            expires_at: expires,
            next_keys: None,
        }
    }

    /// Checks every rule of one document by itself.
    ///
    /// # Errors
    /// [`RootError::Protocol`] when it asks for more than this program knows, else [`RootError::Invalid`].
    pub fn check(&self) -> Result<(), RootError> {
        if self.min_protocol > PROTOCOL {
            return Err(RootError::Protocol { needed: self.min_protocol });
        }
        if self.min_protocol == 0 {
            return Err(RootError::Invalid("protocols are numbered from 1"));
        }
        let roles = [&self.roles.root, &self.roles.release, &self.roles.fresh, &self.roles.revoke];
        let mut seen = std::collections::BTreeSet::new();
        for role in roles {
            if role.threshold == 0 || usize::from(role.threshold) > role.keys.len() {
                return Err(RootError::Invalid("a threshold is zero or above the number of keys"));
            }
            if role.keys.len() > limits::ROLE_KEYS || !role.keys.is_sorted_by(|a, b| a < b) {
                return Err(RootError::Invalid("keys of a role are too many, repeated or not ascending"));
            }
            if !role.keys.iter().all(|k| seen.insert(*k)) {
                return Err(RootError::Invalid("a key stands in two roles"));
            }
        }
        if self.delegations.len() > limits::DELEGATIONS || !self.delegations.iter().all(|d| seen.insert(d.key)) {
            return Err(RootError::Invalid("delegations are too many, or give a key a second role"));
        }
        self.delegations.iter().try_for_each(Delegation::check)?;
        if self.version == 0 || (self.version == 1) != (self.publisher == PublisherId([0; 32])) {
            return Err(RootError::Invalid("version and publisher do not agree"));
        }
        if (self.version == 1) != (self.prev == Digest::ZERO) || self.feed.epoch == 0 {
            return Err(RootError::Invalid("version, previous document and epoch do not agree"));
        }
        if (self.feed.from_seq == 0) != (self.feed.from_hash == Digest::ZERO)
            || (self.feed.epoch == 1 && self.feed.from_seq != 0)
        {
            return Err(RootError::Invalid("the open epoch's beginning does not agree with its number"));
        }
        if self.expires_at <= self.issued_at {
            return Err(RootError::Invalid("it expires before it was issued"));
        }
        Ok(())
    }
}

/// A verified root document with the bytes it came in: the newest link of a verified chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    /// Whose it is.
    pub publisher: PublisherId,
    /// Digest of its bytes.
    pub digest: Digest,
    /// The document.
    pub root: Root,
}

impl TrustedRoot {
    /// Accepts a first document: its bytes must hash to `publisher` and be signed by its own root role.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn first(publisher: PublisherId, envelope: &Envelope) -> Result<Self, RootError> {
        if publisher_of(&envelope.payload) != publisher {
            return Err(RootError::OtherChain);
        }
        // The name is the hash of the payload, so decoding before the signature check trusts nothing new.
        let root: Root = codec::decode(&envelope.payload)?;
        root.check()?;
        if root.version != 1 {
            return Err(RootError::NotNext { trusted: 0, found: root.version });
        }
        let role = &root.roles.root;
        envelope.verify(Kind::Root, publisher, "root", &role.keys, role.threshold.into())?;
        Ok(Self { publisher, digest: envelope.digest(), root })
    }

    /// Accepts the successor: signed by the root role of this document and by its own.
    ///
    /// # Errors
    /// See [`RootError`]; an equal version with another digest is [`RootError::Fork`].
    pub fn next(&self, envelope: &Envelope) -> Result<Self, RootError> {
        let old = &self.root.roles.root;
        envelope.verify(Kind::Root, self.publisher, "root", &old.keys, old.threshold.into())?;
        let root: Root = codec::decode(&envelope.payload)?;
        root.check()?;
        if root.version == self.root.version && envelope.digest() != self.digest {
            return Err(RootError::Fork(root.version));
        }
        if root.version != self.root.version.saturating_add(1) || root.version > limits::ROOT_STEPS {
            return Err(RootError::NotNext { trusted: self.root.version, found: root.version });
        }
        if root.publisher != self.publisher || root.prev != self.digest {
            return Err(RootError::OtherChain);
        }
        let new = &root.roles.root;
        envelope.verify(Kind::Root, self.publisher, "root", &new.keys, new.threshold.into())?;
        if root.min_protocol < self.root.min_protocol {
            return Err(RootError::Invalid("minimum protocol goes back"));
        }
        let (before, after) = (self.root.feed, root.feed);
        let reopened = before.epoch.checked_add(1) == Some(after.epoch) && after.from_seq >= before.from_seq;
        if after != before && !reopened {
            return Err(RootError::Invalid("epoch goes back, skips a number, or changes where it began"));
        }
        if let Some(promised) = self.root.next_keys
            && promised != keys_commitment(new)?
        {
            return Err(RootError::Invalid("root keys are not those that the document before committed to"));
        }
        Ok(Self { publisher: self.publisher, digest: envelope.digest(), root })
    }

    /// Walks a whole chain, version 1 first: how a device that slept for years catches up. Documents on the way may
    /// have expired.
    ///
    /// # Errors
    /// See [`RootError`]; an empty chain is [`RootError::NotNext`].
    pub fn walk<'a>(publisher: PublisherId, chain: impl IntoIterator<Item = &'a Envelope>) -> Result<Self, RootError> {
        let mut chain = chain.into_iter();
        let first = chain.next().ok_or(RootError::NotNext { trusted: 0, found: 0 })?;
        chain.try_fold(Self::first(publisher, first)?, |trusted, next| trusted.next(next))
    }
    /// The keys and threshold that may sign `kind`; entries that revoke may be signed by the revoke role as well.
    pub fn role(&self, kind: Kind) -> &Role {
        match kind {
            Kind::Root => &self.root.roles.root,
            Kind::Entry => &self.root.roles.release,
            Kind::Fresh => &self.root.roles.fresh,
        }
    }
    /// Whose signature an entry that does this may carry, most wanted first: who can only stop things stops them, so
    /// that the keys that can release need not be at hand.
    pub fn signers(&self, action: &Action) -> Vec<PublicKey> {
        let roles = &self.root.roles;
        match action {
            Action::Release(_) => roles.release.keys.clone(),
            Action::Revoke { .. } => roles.revoke.keys.iter().chain(&roles.release.keys).copied().collect(),
        }
    }
    /// Whether a signature by this key can be worth anything under something of that kind.
    pub fn names(&self, kind: Kind, key: &PublicKey) -> bool {
        let roles = &self.root.roles;
        match kind {
            Kind::Root => roles.root.keys.contains(key),
            Kind::Entry => {
                let role = roles.release.keys.contains(key) || roles.revoke.keys.contains(key);
                role || self.delegation(*key).is_some()
            }
            Kind::Fresh => roles.fresh.keys.contains(key),
        }
    }
    /// The right of a build machine's key, if it has one.
    pub fn delegation(&self, key: PublicKey) -> Option<&Delegation> {
        self.root.delegations.iter().find(|d| d.key == key)
    }
    /// The feed that this root opens.
    pub fn feed(&self) -> FeedId {
        FeedId::main(self.publisher)
    }
}

/// What `next_keys` of a document promises about the root role of its successor.
///
/// # Errors
/// Only when the role does not fit a root document.
pub fn keys_commitment(role: &Role) -> Result<Digest, CodecError> {
    Ok(Digest::of(&codec::encode(&Commitment(role.clone()))?))
}

#[derive(Serialize, Deserialize)]
struct Commitment(Role);
impl Wire for Commitment {
    const NAME: &'static str = "key commitment";
    const LIMIT: usize = limits::ROOT_BYTES;
}
