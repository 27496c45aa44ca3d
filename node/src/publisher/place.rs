//! Which folder of keys this is, by what no copy of it has. Invariant: a folder that was copied, brought back from a backup into
//! another place or moved to another file system never takes itself for the one that it came from; one that was only renamed, or is
//! mounted elsewhere, never takes itself for a copy.
//!
//! The file `place` says when the folder was made, as the file system dates it: nothing that copies or restores files can set
//! that, and neither a new name nor a new mount changes it. Numbers of inodes were refused as the first choice: some file systems
//! give them out anew at every mount, and a restore into an empty one may well give out the same. Where no such date is kept, the
//! number of the folder and when the first root document was last changed have to do. The device's own key was refused: whoever
//! copies a home copies it too. A clone of a whole disk, a snapshot of a virtual machine, and older files
//! that are written back into this very folder share all of this and are not told apart.

use super::PublisherError;
use crate::{home::write_private, identity::KeyError};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::{fs, io, io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path};

/// Says which folder this is.
const FILE: &str = "place";
/// In place of a date: these keys take part in a publisher that another home made.
const JOINED: &str = "joined\n";
/// Any `place` is shorter.
const MOST: u64 = 256;

/// What a home knows of where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where its publisher was made, or where its owner said that it speaks from now on.
    Home,
    /// Somewhere else: the keys were copied, brought back or moved, and may still be where they were.
    Copied,
    /// It took part in a publisher that another home made.
    Joined,
}

/// What no copy of this folder has.
fn here(folder: &Path) -> io::Result<String> {
    let born = statx(CWD, folder, AtFlags::empty(), StatxFlags::BTIME)
        .ok()
        .filter(|about| StatxFlags::from_bits_retain(about.stx_mask).contains(StatxFlags::BTIME))
        .map(|about| about.stx_btime)
        .filter(|born| born.tv_sec != 0);
    match born {
        Some(born) => Ok(format!("born {}.{:09}\n", born.tv_sec, born.tv_nsec)),
        None => {
            let (number, first) = (fs::metadata(folder)?.ino(), fs::metadata(folder.join("root-1"))?);
            Ok(format!("inode {number} since {}.{:09}\n", first.ctime(), first.ctime_nsec()))
        }
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublisherError {
    let path = path.to_owned();
    move |source| PublisherError::Key(KeyError::Io { action, path, source })
}

fn write(folder: &Path, what: &str) -> Result<(), PublisherError> {
    let path = folder.join(FILE);
    write_private(&path, what.as_bytes()).map_err(io("write", &path))
}

/// Writes down that this folder is the one that speaks; its first root document is there already.
pub(super) fn stay(folder: &Path) -> Result<(), PublisherError> {
    write(folder, &here(folder).map_err(io("look at", folder))?)
}
/// Writes down that another home made this publisher.
pub(super) fn join(folder: &Path) -> Result<(), PublisherError> {
    write(folder, JOINED)
}

/// The same for a folder that never said where it is: there was no such file once, and nobody says that it was copied.
pub(super) fn settle(folder: &Path) {
    let missing = folder.join(FILE).symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    if missing && let Err(error) = stay(folder) {
        tracing::warn!(%error, "a copy of the publisher's folder could not be told from it");
    }
}

/// What this folder says of where it is, held against where it is.
pub(super) fn of(folder: &Path) -> Place {
    let path = folder.join(FILE);
    let read = || -> io::Result<String> {
        let short = fs::metadata(&path)?.len() <= MOST;
        if short { fs::read_to_string(&path) } else { Ok(String::new()) }
    };
    match (read(), here(folder)) {
        (Ok(said), _) if said == JOINED => Place::Joined,
        (Ok(said), Ok(here)) if said == here => Place::Home,
        (Err(error), _) if error.kind() == ErrorKind::NotFound => Place::Home,
        _ => Place::Copied,
    }
}
