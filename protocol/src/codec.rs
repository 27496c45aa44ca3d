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
    /// Looks at the bytes behind the version before anything is allocated for them: where many small elements fit into the
    /// limit, their number is held against what the kind may have.
    ///
    /// # Errors
    /// Why nothing that begins so can be one.
    fn admits(_body: &[u8]) -> Result<(), &'static str> {
        Ok(())
    }
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

impl CodecError {
    /// The step of verification that this is.
    pub(crate) fn step(&self) -> crate::io::Step {
        match self {
            Self::TooLong { .. } => crate::io::Step::Length,
            _ => crate::io::Step::Form,
        }
    }
}

fn config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_little_endian().with_limit::<LIMIT>()
}

/// More than any value has.
const UNBOUNDED: usize = crate::limits::MANIFEST_BYTES + 1;

/// Reads with a bound that fits the input: the library allocates a text of the length that it claims before it looks for
/// its bytes, so that under one bound for all kinds a gossip message of 300 bytes cost 128 MiB. The library takes bounds
/// as constants only, hence three of them, each with room for twice the input.
fn read<T: Wire>(body: &[u8]) -> Result<(T, usize), bincode::error::DecodeError> {
    const SMALL: usize = crate::limits::ENTRY_BYTES + (8 << 10);
    const MEDIUM: usize = crate::limits::SNAPSHOT_BYTES;
    if body.len() <= SMALL {
        bincode::serde::decode_from_slice(body, config::<{ 2 * SMALL }>())
    } else if body.len() <= MEDIUM {
        bincode::serde::decode_from_slice(body, config::<{ 2 * MEDIUM }>())
    } else {
        bincode::serde::decode_from_slice(body, config::<UNBOUNDED>())
    }
}

/// The canonical bytes of a value.
///
/// # Errors
/// [`CodecError::TooLong`] when the value does not fit its kind's limit.
pub fn encode<T: Wire>(value: &T) -> Result<Vec<u8>, CodecError> {
    let malformed = |e| CodecError::Malformed { what: T::NAME, why: unwritable(e) };
    let mut bytes = vec![T::VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, config::<UNBOUNDED>()).map_err(malformed)?;
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
    T::admits(body).map_err(|why| CodecError::Malformed { what: T::NAME, why: why.into() })?;
    let malformed = |e| CodecError::Malformed { what: T::NAME, why: unreadable(e) };
    let (value, used) = read::<T>(body).map_err(malformed)?;
    let mut left = Same(body);
    let spelt = bincode::serde::encode_into_std_write(&value, &mut left, config::<UNBOUNDED>());
    if used != body.len() || spelt.is_err() || !left.0.is_empty() {
        return Err(CodecError::NotCanonical { what: T::NAME });
    }
    Ok(value)
}

/// Takes only the bytes that it expects: what a value is spelt with is compared while it is spelt. A second copy of a large
/// manifest beside it was refused.
struct Same<'a>(&'a [u8]);

impl std::io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(std::io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The library's own words are the names of its variants, which say nothing to people.
fn unreadable(error: bincode::error::DecodeError) -> String {
    use bincode::error::DecodeError::*;
    match error {
        UnexpectedEnd { .. } => "it ends too early".into(),
        LimitExceeded => "a length in it is beyond every limit".into(),
        UnexpectedVariant { found, .. } => format!("it names a choice, number {found}, that does not exist"),
        InvalidBooleanValue(found) => format!("a yes or no in it is {found}"),
        Utf8 { .. } | InvalidCharEncoding(_) => "a text in it is not UTF-8".into(),
        OutsideUsizeRange(found) => format!("a length in it is {found}"),
        OtherString(why) if why.contains("variant index") => "it names a choice that does not exist".into(),
        Other(why) => why.into(),
        OtherString(why) => why,
        _ => "its bytes spell no such thing".into(),
    }
}

fn unwritable(error: bincode::error::EncodeError) -> String {
    use bincode::error::EncodeError::*;
    match error {
        Other(why) => why.into(),
        OtherString(why) => why,
        _ => "it holds what cannot be written".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::PublicKey, message::Message, root::Root, sign::Envelope, time::Time};
    use std::collections::BTreeSet;

    /// Whatever is cut off or overwritten, the reason reads as a sentence, not as a piece of a program.
    #[test]
    fn reasons_are_for_people() {
        let [root, release, fresh, revoke] = [1, 2, 3, 4].map(|n| PublicKey([n; 32]));
        let good = encode(&Root::first(root, release, fresh, revoke, Time(1), Time(2))).unwrap();
        let cut = (0..good.len()).map(|end| good[..end].to_vec());
        let overwritten = (0..good.len()).map(|at| [&good[..at], &[0xff], &good[at + 1..]].concat());
        let reasons: BTreeSet<String> = cut
            .chain(overwritten)
            .flat_map(|bytes| {
                [decode::<Root>(&bytes).err(), decode::<Message>(&bytes).err(), decode::<Envelope>(&bytes).err()]
            })
            .flatten()
            .map(|error| error.to_string())
            .collect();
        assert!(reasons.len() >= 6, "{reasons:#?}");
        for reason in reasons {
            let words = reason.split(|c: char| !c.is_alphanumeric()).filter(|w| *w != "UTF");
            let camel = words.filter(|w| w.chars().skip(1).any(char::is_uppercase)).count();
            assert!(camel == 0 && !reason.contains(['{', '}', '(', '"', '`', '<']), "{reason}");
        }
    }
}
