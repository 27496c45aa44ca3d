//! What every decoder promises, as one function. Invariant: bytes that decode are the only spelling of their value.

use softservice_protocol::codec::{self, Wire};

/// The value, if the bytes are one; panics when it has another spelling too.
pub fn one_spelling<T: Wire>(bytes: &[u8]) -> Option<T> {
    let value = codec::decode::<T>(bytes).ok()?;
    let again = codec::encode(&value).expect("what was decoded fits its limit");
    assert_eq!(again, bytes, "{} has two spellings", T::NAME);
    Some(value)
}
