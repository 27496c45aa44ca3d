//! The only door between values and bytes. Invariant: a value has exactly one encoding: a version byte, then bincode
//! with fixed-size little-endian integers; whatever decodes re-encodes to the same bytes, and nothing is left over.
//!
//! bincode's default configuration was refused: varints have several encodings of one number, trailing bytes are
//! accepted and a nine-byte input can ask for a terabyte (RUSTSEC-2025-0141 lists the crate as
//! unmaintained; golden files and this single door keep a change of library a small step).
#![expect(clippy::disallowed_methods, reason = "this is the door")]

use serde::{Serialize, de::DeserializeOwned};

/// A type with canonical bytes.
pub trait Wire: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const NAME: &'static str;
    /// Most bytes that its encoding may have.
    const LIMIT: usize;
    /// The format's number, the first byte on the wire.
    const VERSION: u8 = 1;
}

/// Why bytes are not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than this kind may be.
    #[error("{what} of {size} bytes exceeds its limit of {limit}")]
    TooLong {
        /// The kind.
        what: &'static str,
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Written by a version that this one does not know.
    #[error("{what} has format version {found}, this program reads {known}")]
    Version {
        /// The kind.
        what: &'static str,
        /// The version byte found.
        found: u8,
        /// The version byte known.
        known: u8,
    },
    /// The bytes do not spell a value.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The kind.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
    /// The bytes spell a value, but not in its one encoding.
    #[error("{what} is not in canonical form")]
    NotCanonical {
        /// The kind.
        what: &'static str,
    },
}

fn config() -> impl bincode::config::Config {
    // One bound for all kinds guards preallocation; each kind's own, smaller limit is checked on the input's length.
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_little_endian()
        .with_limit::<{ crate::limits::MANIFEST_BYTES + 1 }>()
}

/// The canonical bytes of a value.
///
/// # Errors
/// [`CodecError::TooLong`] when the value does not fit its kind's limit.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, CodecError> {
    let malformed = |e: bincode::error::EncodeError| CodecError::Malformed { what: T::NAME, why: e.to_string() };
    let mut bytes = vec![T::VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, config()).map_err(malformed)?;
    if bytes.len() > T::LIMIT {
        return Err(CodecError::TooLong { what: T::NAME, size: bytes.len(), limit: T::LIMIT });
    }
    Ok(bytes)
}

/// The value that these canonical bytes spell.
///
/// # Errors
/// Every way in which the bytes are not exactly one value in its one encoding.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > T::LIMIT {
        return Err(CodecError::TooLong { what: T::NAME, size: bytes.len(), limit: T::LIMIT });
    }
    let Some((&version, body)) = bytes.split_first() else {
        return Err(CodecError::Malformed { what: T::NAME, why: "empty".into() });
    };
    if version != T::VERSION {
        return Err(CodecError::Version { what: T::NAME, found: version, known: T::VERSION });
    }
    let malformed = |e: bincode::error::DecodeError| CodecError::Malformed { what: T::NAME, why: e.to_string() };
    let (value, used): (T, usize) = bincode::serde::decode_from_slice(body, config()).map_err(malformed)?;
    if used != body.len() || encode(&value)? != bytes {
        return Err(CodecError::NotCanonical { what: T::NAME });
    }
    Ok(value)
}
