//! A tree that was materialised once, held against its manifest. Invariant: nothing of it is believed that was not read: a
//! file counts as whole when it is one with an object of the store, which a check has read, or when its own bytes
//! hash to that object; a file is mended by a rename, so whoever opens it gets the old bytes or the right ones.
//!
//! Hard links are why this exists. A flipped byte is in the object and in every tree at once; the check sets the
//! object's name aside, a repair brings a new file of that name, and the trees would keep the damaged one for ever.

use crate::{
    contract::{Compared, Damage, StoreError},
    digest,
    tree::{self, Place, Wanted},
};
use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use softservice_protocol::{
    id::ObjectId,
    tree::{Manifest, Node, TreeEntry},
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Where the right files come from.
pub(crate) trait Originals: Place {
    /// Whether this very file is the object's own.
    fn is_own(&self, file: &Wanted, found: &Stat) -> bool;
    /// Whether the object is here as a whole.
    fn has(&self, object: ObjectId) -> bool;
}

/// Compares the tree at `root`; with `mend`, what is wrong is made right as far as its objects are here.
pub(crate) fn compare(
    manifest: &Manifest,
    root: &Path,
    originals: &dyn Originals,
    mend: bool,
) -> Result<Compared, StoreError> {
    manifest.check()?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| StoreError::io("open", root, e))?;
    let look = |entry| examine(dir.as_fd(), root, entry, originals);
    let looked: Result<Vec<_>, StoreError> = manifest.entries.par_iter().map(look).collect();
    let mut found = Compared::default();
    // In the manifest's order, in which a folder stands before what is in it.
    for (entry, what) in manifest.entries.iter().zip(looked?) {
        let Some(what) = what else { continue };
        let file = root.join(&entry.path);
        let object = wanted(entry).map(|file| file.object);
        if mend && object.is_none_or(|id| originals.has(id)) {
            replace(dir.as_fd(), root, entry, originals)?;
            found.mended.push(file.clone());
        }
        found.damaged.push(Damage { file, object, what: what.into() });
    }
    Ok(found)
}

fn wanted(entry: &TreeEntry) -> Option<Wanted> {
    match entry.node {
        Node::File { executable, object, size, .. } => Some(Wanted { object, size, executable }),
        _ => None,
    }
}

/// The folder that an entry stands in; None when there is none.
fn folder(root: BorrowedFd<'_>, above: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match tree::beneath(root, above) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What is wrong with an entry, if anything.
fn examine(
    root: BorrowedFd<'_>,
    at: &Path,
    entry: &TreeEntry,
    originals: &dyn Originals,
) -> Result<Option<&'static str>, StoreError> {
    let read = |e: Errno| StoreError::io("read", &at.join(&entry.path), e);
    let (above, name) = tree::split(&entry.path);
    let Some(dir) = folder(root, above).map_err(read)? else { return Ok(Some("is missing")) };
    let found = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Some("is missing")),
        Err(e) => return Err(read(e)),
    };
    let kind = FileType::from_raw_mode(found.st_mode);
    match &entry.node {
        Node::Dir => Ok((!kind.is_dir()).then_some("is no folder")),
        Node::Symlink { target } => {
            let same = kind.is_symlink()
                && rustix::fs::readlinkat(&dir, name, Vec::new()).map_err(read)?.as_bytes() == target.as_bytes();
            Ok((!same).then_some("is not the link that it was"))
        }
        Node::File { .. } if !kind.is_file() => Ok(Some("is no file")),
        Node::File { executable, object, size, .. } => {
            let file = Wanted { object: *object, size: *size, executable: *executable };
            if originals.is_own(&file, &found) {
                return Ok(None);
            }
            if found.st_mode & 0o7777 != tree::mode(*executable) {
                return Ok(Some("has another mode than it had"));
            }
            let path = at.join(&entry.path);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = File::from(rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(read)?);
            // A file that cannot be read to its end is as bad as one that reads wrong.
            let same = found.st_size as u64 == *size
                && digest::of_file(&open, |_| Ok(()), &path).is_ok_and(|read| read == *object);
            Ok((!same).then_some("its bytes are not those of the release"))
        }
    }
}

/// Puts the right thing in the place of whatever stands there, durably.
fn replace(root: BorrowedFd<'_>, at: &Path, entry: &TreeEntry, originals: &dyn Originals) -> Result<(), StoreError> {
    /// No tree has a name like this: names have no control characters.
    const FRESH: &str = ".\u{1}mended";
    let path = at.join(&entry.path);
    let write = |e: Errno| StoreError::io("mend", &path, e);
    let (above, name) = tree::split(&entry.path);
    let dir = tree::beneath(root, above).map_err(write)?;
    match rustix::fs::unlinkat(&dir, FRESH, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(write(e)),
    }
    match (&entry.node, wanted(entry)) {
        (_, Some(file)) => {
            originals.place(dir.as_fd(), FRESH, &file)?;
            rustix::fs::renameat(&dir, FRESH, &dir, name).map_err(write)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&dir, name, flags, Mode::empty()).and_then(rustix::fs::fsync).map_err(write)?;
        }
        (Node::Symlink { target }, _) => {
            rustix::fs::symlinkat(target.as_str(), &dir, FRESH).map_err(write)?;
            rustix::fs::renameat(&dir, FRESH, &dir, name).map_err(write)?;
        }
        _ => {
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(write(e)),
            }
            rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).map_err(write)?;
            rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(write)?;
        }
    }
    rustix::fs::fsync(&dir).map_err(write)
}
