//! Why there is no backup, or none that can be used. Invariant: each says what and where, and what a person can do.

use softservice_protocol::archive::ArchiveError;
use std::path::PathBuf;

/// What is wrong with a backup, or with making one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another file has the name.
    #[error("{path} exists; a backup overwrites nothing: name another file", path = .0.display())]
    Exists(PathBuf),
    /// No age file.
    #[error("{path} is no backup: {why}", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// Encrypted for somebody else.
    #[error(
        "{path} cannot be opened with {tried}; name the key that it was made for with --identity, or its passphrase with --passphrase-file",
        path = path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// The keys that were tried.
        tried: String,
    },
    /// A key, recipient or passphrase that is none.
    #[error("{what}: {why}")]
    Key {
        /// Which.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A backup of something else, or of another layout.
    #[error("{path} does not fit: {why}", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Cut off, flipped, or made by somebody who means harm.
    #[error("{path} is damaged: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// Data that went on changing while it was read.
    #[error("{path} changed while it was read; is something else writing there?", path = .0.display())]
    Changed(PathBuf),
    /// Data that did not come back as it was.
    #[error("{path} is not what it was when the backup was made", path = .0.display())]
    Differs(PathBuf),
    /// Something that no backup can hold.
    #[error("{path} cannot be kept in a backup: it {why}", path = path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// No room.
    #[error("{path} has {free} bytes free, and {needed} are needed: make room first", path = path.display())]
    Space {
        /// Where.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Nobody waits for it any more.
    #[error("it was called off")]
    CalledOff,
}

/// What this folder's functions answer.
pub(super) type Result<T> = std::result::Result<T, BackupError>;

/// For `map_err`: what was being done to what.
pub(super) fn io(
    action: &'static str,
    path: impl AsRef<std::path::Path>,
) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.as_ref().to_owned();
    move |source| BackupError::Io { action, path, source }
}

/// For `map_err`: the archive in this file is not sound.
pub(super) fn damaged(path: &std::path::Path) -> impl FnOnce(ArchiveError) -> BackupError + '_ {
    move |error| match error {
        ArchiveError::Foreign => BackupError::Foreign { path: path.into(), why: "it holds something else".into() },
        other => BackupError::Damaged { path: path.into(), why: other.to_string() },
    }
}
