//! What outlives the process, beside content. Invariant: envelopes are kept as the exact bytes that came.

use crate::{
    codec,
    feed::{Equivocation, Head, Revocation},
    id::{Digest, PublisherId, ReleaseId},
};
use serde::{Deserialize, Serialize};

/// What outlives the process, beside content. Envelopes are exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A publisher is followed, with the ticket's pin and floor.
    Followed {
        /// Whom.
        publisher: PublisherId,
        /// The root document that the ticket pins: version and digest. Kept, so that a restart before the first root
        /// came does not widen what is accepted.
        root: (u64, Digest),
        /// Newest root version and head that may ever be gone behind.
        floor: Head,
        /// First peers.
        addresses: Vec<String>,
    },
    /// It is followed no more.
    Unfollowed {
        /// Whom.
        publisher: PublisherId,
    },
    /// A root document.
    Root {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// A head entry with its snapshot, where a feed begins on this device.
    Onboarded {
        /// Whose.
        publisher: PublisherId,
        /// The head's envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
        /// Snapshot bytes.
        #[serde(with = "serde_bytes")]
        snapshot: Vec<u8>,
    },
    /// The next entry.
    Entry {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// The newest freshness statement.
    Fresh {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// This number will be signed next: kept before signing, so that no crash signs it twice.
    Reserved {
        /// Whose.
        publisher: PublisherId,
        /// The position and the digest of the payload that will stand there.
        head: Head,
    },
    /// The publisher spoke twice.
    Proof {
        /// An encoded [`crate::feed::Equivocation`].
        #[serde(with = "serde_bytes")]
        proof: Vec<u8>,
    },
    /// A peer that served us.
    Address {
        /// With `/p2p/`.
        address: String,
    },
    /// An entry that was handed out to be signed elsewhere: kept before it leaves, so that its number is spoken for.
    Requested {
        /// Whose.
        publisher: PublisherId,
        /// What is to be signed.
        #[serde(with = "serde_bytes")]
        payload: Vec<u8>,
    },
    /// A revocation that stays although a root gave up what said it: written where the records that tell of it are dropped.
    Revoked {
        /// Whose.
        publisher: PublisherId,
        /// The epoch that gave it up.
        epoch: u32,
        /// The release.
        release: ReleaseId,
        /// How hard, and what people are told.
        revocation: Revocation,
    },
}
impl Record {
    /// The publisher that it is about, if any.
    pub fn publisher(&self) -> Option<PublisherId> {
        match self {
            Self::Followed { publisher, .. }
            | Self::Unfollowed { publisher }
            | Self::Root { publisher, .. }
            | Self::Onboarded { publisher, .. }
            | Self::Entry { publisher, .. }
            | Self::Fresh { publisher, .. }
            | Self::Reserved { publisher, .. }
            | Self::Requested { publisher, .. }
            | Self::Revoked { publisher, .. } => Some(*publisher),
            Self::Proof { proof } => codec::decode::<Equivocation>(proof).ok().map(|p| p.publisher),
            Self::Address { .. } => None,
        }
    }
}
impl crate::codec::Wire for Record {
    const NAME: &'static str = "log record";
    const LIMIT: usize = crate::limits::SNAPSHOT_BYTES + (128 << 10);
}
