//! Names that cannot be confused: one newtype for each kind of identifier.
//! Invariant: an id is 32 bytes, printed as 64 lower-case hex digits, and never changes kind silently.

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, found {:?}", crate::text::Foreign(.found))]
pub struct BadId {
    /// What stood there, cut to 80 characters.
    pub found: String,
}

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..4])
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = || BadId { found: text.chars().take(80).collect() };
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| bad())?;
                Ok(Self(bytes.try_into().map_err(|_| bad())?))
            }
        }
    )+};
}

id! {
    /// Content of one file: plain BLAKE3 of its bytes, what `b3sum` prints.
    ObjectId,
    /// A content-defined piece of an object: BLAKE3 of its bytes. A file that is one chunk has equal ids.
    ChunkId,
    /// BLAKE3 of a release's canonical bytes. Release bytes are stored as an object of the same id.
    ReleaseId,
    /// A publisher: BLAKE3 over its first root document, so that it outlives every key.
    PublisherId,
    /// One feed of a publisher.
    FeedId,
    /// BLAKE3 of exact signed bytes: of an entry, a root document, a statement.
    Digest,
    /// An ed25519 public key that signs roots, entries or statements.
    PublicKey,
    /// A peer on the network: the ed25519 public key of its node. Signs nothing but transport handshakes.
    Peer,
}

impl ObjectId {
    /// The id of these bytes as one object.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
impl ChunkId {
    /// The id of these bytes as one chunk.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
impl Digest {
    /// The digest of these exact bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
    /// All zeros: stands where nothing precedes.
    pub const ZERO: Self = Self([0; 32]);
}
impl ReleaseId {
    /// The id of a release's canonical bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
    /// The object that holds the release's bytes.
    pub fn object(self) -> ObjectId {
        ObjectId(self.0)
    }
}
impl From<ObjectId> for ChunkId {
    /// The id of an object's only chunk.
    fn from(id: ObjectId) -> Self {
        Self(id.0)
    }
}
impl FeedId {
    /// The one feed that a publisher has in this version.
    pub fn main(publisher: PublisherId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softdist/v1/feed\0main\0").update(&publisher.0);
        Self(*hasher.finalize().as_bytes())
    }
}
