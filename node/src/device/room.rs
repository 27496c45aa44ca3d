//! Room for the way back: bytes of the disk that belong to a softservice, so that one that fills the disk cannot keep its owner
//! from what was before. Invariant: they are taken before anything that runs is touched, and given up only when nothing of
//! the new generation runs any more, which would have them at once.
//!
//! On a full disk the way back begins with what needs none: the front turns back to a table that is there already, services
//! end, data is renamed into its place, and lines that the journal has no room for are kept in memory. What comes then
//! writes - records, tasks of keepers, their status and logs - and has this room. Refused: a share of the disk that is left
//! free, which only whoever counts leaves alone; and lines and files that are made ahead for all that could be written, which
//! a keeper of the previous generation could not use.
//!
//! Services of before, which run on, may take what is given up. Then a step may fail for want of room, and the life is stuck:
//! told as that, and tried again when the owner has made room.

use super::{
    durable,
    error::{DeviceError, Result, io},
    layout::Place,
};
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Bytes for each softservice. Starting one service takes about 24 KiB where blocks have 4: folder, task, launch, status and
/// the keeper's own log.
const ROOM: u64 = 512 << 10;

impl Place {
    /// Takes the room, unless it is taken.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take_room(&self) -> Result<()> {
        let path = self.room();
        if std::fs::metadata(&path).is_ok_and(|about| about.len() == ROOM) {
            return Ok(());
        }
        // Half of one, of a life that was cut off, tells itself by its length.
        durable::remove(&path)?;
        let taken = taken(&path).map_err(io("keep room for the way back in", &path));
        if taken.is_err() {
            // Half of it is of use to others only.
            durable::remove(&path)?;
        }
        taken?;
        durable::sync_parent(&path)
    }

    /// Gives it to whoever writes next.
    pub(super) fn give_room(&self) {
        if let Err(error) = durable::remove(&self.room()) {
            tracing::warn!(softservice = self.name, %error, "the room for the way back could not be given up");
        }
    }

    /// Takes it again, if there is some: the next life is not begun without.
    pub(super) fn retake_room(&self) {
        if let Err(error) = self.take_room() {
            tracing::warn!(softservice = self.name, %error, "there is no room yet for the next way back");
        }
    }

    /// Gives it up where there is no more than that, for what an owner asks for and others do: keepers that are started.
    pub(super) fn ease(&self) {
        let free = statvfs(self.root()).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if free < ROOM {
            self.give_room();
        }
    }

    /// Does what an owner asks for on a disk that may be full: with the room, should there be no other.
    pub(super) fn with_room<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if is_full(&error) && self.room().exists() => {
                self.give_room();
                work()
            }
            done => done,
        }
    }
}

fn taken(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, ROOM) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&mut file)?,
        allocated => allocated?,
    }
    file.sync_all()
}

/// Fills it with bytes that no file system makes smaller.
fn fill(file: &mut File) -> std::io::Result<()> {
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut bytes = vec![0; 64 << 10];
    for _ in 0..ROOM / bytes.len() as u64 {
        noise.fill(&mut bytes);
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Whether something failed because the disk, or what its owner may have of it, is full.
fn is_full(error: &DeviceError) -> bool {
    let full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    matches!(error, DeviceError::Io { source, .. } if full(source.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, os::unix::fs::MetadataExt};

    #[test]
    fn room_is_really_taken_and_given_up_for_what_finds_none() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = Place::new(scratch.path(), "shelf").expect("a place");
        place.make().expect("folders");
        std::fs::write(place.room(), "half of one").expect("written");
        let blocks = || std::fs::metadata(place.room()).expect("it is there").blocks() * 512;
        for _ in 0..2 {
            place.take_room().expect("taken");
            assert!(blocks() >= ROOM, "{}", blocks());
        }
        let tries = Cell::new(0);
        let no_room = || {
            tries.set(tries.get() + 1);
            match place.room().exists() {
                true => Err(io("write", place.state())(ErrorKind::StorageFull.into())),
                false => Ok(tries.get()),
            }
        };
        assert_eq!(place.with_room(no_room).expect("with the room"), 2);
        let denied = || -> Result<()> { Err(io("write", place.state())(ErrorKind::PermissionDenied.into())) };
        place.take_room().expect("taken again");
        place.with_room(denied).expect_err("room is no help");
        assert!(blocks() >= ROOM, "it is not given up for that");
    }

    #[test]
    fn where_nothing_can_be_allocated_it_is_written() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("room");
        fill(&mut File::create(&path).expect("a file")).expect("filled");
        let about = std::fs::metadata(&path).expect("a file");
        assert!(about.len() == ROOM && about.blocks() * 512 >= ROOM, "{about:?}");
    }
}
