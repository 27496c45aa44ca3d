//! Signed envelopes. Invariant: a signature covers the exact bytes that are stored and forwarded, bound to kind,
//! publisher and feed, so that it means nothing anywhere else; nothing that is decoded before a signature holds is believed: its place and
//! its date say what to hold it against, or that it waits; which signatures stand beside a payload is part of nothing, so what is passed on and newly kept has only those that count.
//! Source: `verify_strict` of ed25519-dalek (the plain check accepts small-order keys), DSSE's order of steps.

use crate::{
    codec::{self, CodecError, Wire},
    id::{Digest, FeedId, PublicKey, PublisherId},
    limits,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// What kind of thing is signed; part of the signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A root document.
    Root,
    /// A feed entry.
    Entry,
    /// A freshness statement.
    Fresh,
}

impl Kind {
    /// The name that enters the signed bytes; frozen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Entry => "entry",
            Self::Fresh => "fresh",
        }
    }
    /// Most bytes that a payload of this kind may have.
    pub const fn limit(self) -> usize {
        match self {
            Self::Root => limits::ROOT_BYTES,
            Self::Entry => limits::ENTRY_BYTES,
            Self::Fresh => limits::GOSSIP_BYTES,
        }
    }
}

/// One signature. `algorithm` 1 is ed25519; others are reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signature {
    /// 1 = ed25519.
    pub algorithm: u8,
    /// The key that the signer claims; a hint, trusted only when a root gives it the role.
    pub key: PublicKey,
    /// The signature's bytes (64 for ed25519).
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Payload and signatures, as they travel and are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What the payload is.
    pub kind: Kind,
    /// Whose it is.
    pub publisher: PublisherId,
    /// In which feed.
    pub feed: FeedId,
    /// The exact signed bytes.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// At most [`limits::SIGNATURES`], ascending by key, no key twice.
    pub signatures: Vec<Signature>,
}

impl Wire for Envelope {
    const NAME: &'static str = "signed envelope";
    const LIMIT: usize = limits::ENTRY_BYTES + 4096;
}

/// Why an envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Fewer good signatures by keys of the role than its threshold.
    #[error("{good} of the {needed} signatures that the {role} role needs are good")]
    TooFew {
        /// The role asked for.
        role: &'static str,
        /// Good ones by distinct keys.
        good: usize,
        /// The threshold.
        needed: usize,
    },
    /// Too many signatures, or not strictly ascending by key.
    #[error("signatures are out of order, repeated or more than {}", limits::SIGNATURES)]
    Disorder,
    /// The payload is too long for its kind.
    #[error("{kind} of {size} bytes exceeds its limit of {limit}")]
    TooLong {
        /// The kind.
        kind: &'static str,
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The envelope says it is something or somebody else's.
    #[error("envelope is for another kind, publisher or feed")]
    Elsewhere,
    /// The envelope or its payload does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The bytes that a key signs: domain, kind, publisher, feed, length, payload.
pub fn signed_bytes(kind: Kind, publisher: PublisherId, feed: FeedId, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    out.extend_from_slice(b"softdist/v1/");
    out.extend_from_slice(kind.name().as_bytes());
    out.push(0);
    out.extend_from_slice(&publisher.0);
    out.extend_from_slice(&feed.0);
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Signs with one key.
pub fn sign(key: &SigningKey, kind: Kind, publisher: PublisherId, feed: FeedId, payload: &[u8]) -> Signature {
    Signature {
        algorithm: 1,
        key: PublicKey(key.verifying_key().to_bytes()),
        bytes: key.sign(&signed_bytes(kind, publisher, feed, payload)).to_bytes().to_vec(),
    }
}

impl Envelope {
    /// Seals a payload with the given keys, one signature each.
    pub fn seal(kind: Kind, publisher: PublisherId, feed: FeedId, payload: Vec<u8>, keys: &[&SigningKey]) -> Self {
        let mut signatures: Vec<_> = keys.iter().map(|k| sign(k, kind, publisher, feed, &payload)).collect();
        signatures.sort();
        signatures.dedup_by(|a, b| a.key == b.key);
        Self { kind, publisher, feed, payload, signatures }
    }
    /// The digest of the signed payload: what `prev` and equivocation compare.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }
    /// Checks that at least `threshold` distinct keys of `keys` signed this payload as `kind` for `publisher`.
    ///
    /// # Errors
    /// Each way in which the envelope is out of bounds, elsewhere, or not signed by enough keys of the role.
    pub fn verify(
        &self,
        kind: Kind,
        publisher: PublisherId,
        role: &'static str,
        keys: &[PublicKey],
        threshold: usize,
    ) -> Result<(), SignatureError> {
        self.place(kind, publisher)?;
        if !self.is_ordered() {
            return Err(SignatureError::Disorder);
        }
        let message = signed_bytes(kind, publisher, self.feed, &self.payload);
        let good = self.signatures.iter().filter(|s| keys.contains(&s.key) && is_good(s, &message)).count();
        if threshold == 0 || good < threshold {
            return Err(SignatureError::TooFew { role, good, needed: threshold.max(1) });
        }
        Ok(())
    }
    fn is_ordered(&self) -> bool {
        self.signatures.len() <= limits::SIGNATURES && self.signatures.is_sorted_by(|a, b| a.key < b.key)
    }
    /// The same with no signature but those that hold, by keys that count; none when there are no others. Whoever passes a
    /// message on could add some, or spoil one that is not needed: a message that many spell differently is many messages.
    /// What a single signature is worth, or what stands out of order, shows when it is verified.
    pub fn pruned(&self, counts: impl Fn(&PublicKey) -> bool) -> Option<Self> {
        if self.signatures.len() < 2 || !self.is_ordered() {
            return None;
        }
        let message = signed_bytes(self.kind, self.publisher, self.feed, &self.payload);
        // Whether a key counts costs nothing to see, so it is looked at first.
        let needed = |s: &&Signature| counts(&s.key) && is_good(s, &message);
        let signatures: Vec<Signature> = self.signatures.iter().filter(needed).cloned().collect();
        (signatures.len() < self.signatures.len()).then(|| Self { signatures, ..self.clone() })
    }
    /// Keys that really signed this payload, whosever they are.
    pub fn signers(&self) -> Vec<PublicKey> {
        let message = signed_bytes(self.kind, self.publisher, self.feed, &self.payload);
        let looked_at = self.signatures.iter().take(limits::SIGNATURES);
        looked_at.filter(|s| is_good(s, &message)).map(|s| s.key).collect()
    }
    /// Checks that this is of that kind, of that publisher, and no longer than its kind may be.
    ///
    /// # Errors
    /// [`SignatureError::TooLong`] and [`SignatureError::Elsewhere`].
    pub fn place(&self, kind: Kind, publisher: PublisherId) -> Result<(), SignatureError> {
        if self.payload.len() > kind.limit() {
            return Err(SignatureError::TooLong { kind: kind.name(), size: self.payload.len(), limit: kind.limit() });
        }
        if self.kind != kind || self.publisher != publisher || self.feed != FeedId::main(publisher) {
            return Err(SignatureError::Elsewhere);
        }
        Ok(())
    }
    /// The payload's value, after [`Envelope::verify`] held.
    ///
    /// # Errors
    /// What [`codec::decode`] says of the payload.
    pub fn open<T: Wire>(&self) -> Result<T, CodecError> {
        codec::decode(&self.payload)
    }
}

/// Whether one signature holds over these bytes: the only place where a signature is judged, by ed25519's strict rule.
pub fn is_good(signature: &Signature, message: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 64]>::try_from(signature.bytes.as_slice()) else { return false };
    let Ok(key) = VerifyingKey::from_bytes(&signature.key.0) else { return false };
    signature.algorithm == 1 && key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok()
}
