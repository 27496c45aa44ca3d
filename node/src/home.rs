//! The home folder: private, and used by one node at a time. Invariant: the lock is held as long as [`Home`] lives and
//! is gone with the process, however it ends.

use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Names of files that [`write_private`] makes begin so until they are whole.
const NEW_FILE: &str = ".new-";
/// Names of folders begin so in which a publisher's keys are made.
pub(crate) const NEW_PUBLISHER: &str = ".publisher-";

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
            Ok(()) => {
                sweep(path).map_err(failed("clear up", path))?;
                Ok(Self { _lock: lock })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(HomeError::InUse(path.to_owned())),
            Err(source) => Err(failed("lock", &file)(source.into())),
        }
    }
}

/// Removes private files and folders that were being made when an earlier life was cut off: keys may be in them.
fn sweep(home: &Path) -> io::Result<()> {
    let publisher = home.join("publisher");
    let folders = [home.to_owned(), publisher.join("keys"), publisher.join("requests"), publisher];
    folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| sweep_in(folder))
}

fn sweep_in(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [NEW_FILE, NEW_PUBLISHER].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes())) {
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// Returns when nobody holds this home any more, or it cannot be asked.
///
/// # Errors
/// When the lock file cannot be opened.
pub async fn freed(path: &Path) -> io::Result<()> {
    let lock = OpenOptions::new().write(true).open(path.join("lock"))?;
    let (free, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: nobody can call it back from there, and a pool would wait for it at the end. It lets go before it
    // tells: whoever hears of it takes the lock next.
    std::thread::spawn(move || {
        let locked = flock(&lock, FlockOperation::LockExclusive);
        drop(lock);
        free.send(locked)
    });
    match wait.await {
        Ok(locked) => Ok(locked?),
        Err(_) => Err(io::Error::other("the thread that waits for the home's lock ended")),
    }
}

/// Writes a small private file so that it is whole or absent after a power cut.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |file| file.persist(path).map(drop).map_err(|e| e.error))
}
/// The same of a file that must not be there yet.
pub(crate) fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, |file| file.persist_noclobber(path).map(drop).map_err(|e| e.error))
}

fn write(path: &Path, bytes: &[u8], name: impl FnOnce(tempfile::NamedTempFile) -> io::Result<()>) -> io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().ok_or_else(|| io::Error::other("path without a folder"))?;
    let mut file = tempfile::Builder::new()
        .prefix(NEW_FILE)
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    name(file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_being_made_go_with_the_next_start_and_whole_ones_stay() {
        let scratch = tempfile::tempdir().expect("a folder");
        let home = scratch.path().join("home");
        drop(Home::open(&home).expect("opened"));
        write_private(&home.join("node.key"), b"whole").expect("written");
        std::fs::write(home.join(".new-Ab12Cd"), "half").expect("a file");
        std::fs::create_dir(home.join(".publisher-Ab12Cd")).expect("a folder");
        std::fs::write(home.join(".publisher-Ab12Cd/root.key"), "half").expect("a file");
        let taken = Home::open(&home).expect("opened");
        let mut names: Vec<_> = std::fs::read_dir(&home).expect("listed").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", "node.key"]);
        drop(taken);
    }
}
