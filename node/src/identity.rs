//! The node's own key: who it is on the network. Signs transport handshakes, nothing else.
//! Invariant: `node.key` is either whole or refused; a damaged key is never replaced silently, as peers know the old one.

use crate::home::{write_new_private, write_private};
use ed25519_dalek::SigningKey;
use softservice_protocol::id::Peer;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a key file is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not what was written.
    #[error("key file {path} is damaged: {why}; restore it from a backup, or remove it to become somebody new", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The disk said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for a new key: {0}")]
    Random(String),
}

/// A fresh secret key.
pub(crate) fn new_key() -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| KeyError::Random(e.to_string()))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads a key file: 64 hex digits of secret, 64 of public key, so that a flipped bit shows. None when there is none.
pub(crate) fn read_key(path: &Path) -> Result<Option<SigningKey>, KeyError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            return Err(KeyError::Damaged { path: path.to_owned(), why: "it is not text" });
        }
        Err(source) => return Err(KeyError::Io { action: "read", path: path.to_owned(), source }),
    };
    let damaged = |why| KeyError::Damaged { path: path.to_owned(), why };
    let mut lines = text.lines();
    let mut line = || {
        let id: Peer = lines.next()?.parse().ok()?;
        Some(id.0)
    };
    let (Some(secret), Some(public)) = (line(), line()) else {
        return Err(damaged("it does not hold two lines of 64 hexadecimal digits"));
    };
    let key = SigningKey::from_bytes(&secret);
    if key.verifying_key().to_bytes() != public {
        return Err(damaged("its two halves do not belong together"));
    }
    Ok(Some(key))
}

/// Writes a key file, private and durable.
pub(crate) fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_private(path, text(key).as_bytes()).map_err(|source| KeyError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// The same in a file that must not be there yet.
pub(crate) fn write_new_key(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_new_private(path, text(key).as_bytes()).map_err(|source| KeyError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

fn text(key: &SigningKey) -> String {
    format!("{}\n{}\n", Peer(key.to_bytes()), Peer(key.verifying_key().to_bytes()))
}

/// The node's key: read, or made on the first start.
pub(crate) fn node_key(home: &Path) -> Result<SigningKey, KeyError> {
    let path = home.join("node.key");
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let key = new_key()?;
    write_key(&path, &key)?;
    Ok(key)
}
