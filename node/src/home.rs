//! The home folder: private, and used by one node at a time. Invariant: the lock is held as long as [`Home`] lives and
//! is gone with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another node has it.
    #[error("home {path} is in use by another node", path = .0.display())]
    InUse(PathBuf),
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
}

/// A locked home.
#[derive(Debug)]
pub(crate) struct Home {
    _lock: File,
}

impl Home {
    /// Makes the folder if it is missing, closes it to others, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, HomeError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))?;
        let mut mode = path.metadata().map_err(failed("read", path))?.permissions();
        if mode.mode() & 0o077 != 0 {
            // Keys and secrets lie below: a folder that was made by hand is closed, not trusted.
            mode.set_mode(mode.mode() & !0o077);
            std::fs::set_permissions(path, mode).map_err(failed("close to others", path))?;
        }
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(failed("open", &file))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(HomeError::InUse(path.to_owned())),
            Err(source) => Err(failed("lock", &file)(source.into())),
        }
    }
}

/// Returns when nobody holds this home any more, or it cannot be asked.
///
/// # Errors
/// When the lock file cannot be opened.
pub async fn freed(path: &Path) -> io::Result<()> {
    let lock = OpenOptions::new().write(true).open(path.join("lock"))?;
    let (free, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: nobody can call it back from there, and a pool would wait for it at the end. It lets go at once.
    std::thread::spawn(move || free.send(flock(&lock, FlockOperation::LockExclusive)));
    match wait.await {
        Ok(locked) => Ok(locked?),
        Err(_) => Err(io::Error::other("the thread that waits for the home's lock ended")),
    }
}

/// Writes a small private file so that it is whole or absent after a power cut.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().ok_or_else(|| io::Error::other("path without a folder"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}
