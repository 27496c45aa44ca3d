//! What targets share. Invariant: a target asserts what the thing promises, not only that nothing breaks.

#[path = "../../protocol/tests/cast/mod.rs"]
mod cast;
pub mod content;
pub mod frames;
pub mod requests;
pub mod script;
pub mod site;
#[path = "../../protocol/tests/specimens/mod.rs"]
mod specimens;
pub mod talk;
pub mod walk;

use softservice_protocol::codec::{self, Wire};

/// What stands here for the node's: a target writes nothing, and keeps what would be written.
mod home {
    use std::{cell::RefCell, io, path::Path};

    thread_local! {
        static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    pub(crate) fn write_private(_: &Path, bytes: &[u8]) -> io::Result<()> {
        WRITTEN.set(bytes.to_vec());
        Ok(())
    }
    pub(crate) fn written() -> Vec<u8> {
        WRITTEN.take()
    }
}

/// Bytes that decode are the only spelling of their value. The value, if the bytes are one; panics when it has another spelling too.
pub fn one_spelling<T: Wire>(bytes: &[u8]) -> Option<T> {
    let value = codec::decode::<T>(bytes).ok()?;
    let again = codec::encode(&value).expect("what was decoded fits its limit");
    assert_eq!(again, bytes, "{} has two spellings", T::NAME);
    Some(value)
}
