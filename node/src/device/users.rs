//! A user and group of its own for each softservice, where the node is root. Invariant: a number belongs to one
//! softservice as long as any folder of it is there: it is on the disk before it is used, and given back only when
//! nothing is left that it could own.
//!
//! Numbers come from a range that neither people, nor containers, nor systemd use; where in it a softservice's number
//! lies follows from its home and name, so that two homes of one device do not share users.

use super::{
    durable,
    error::{DeviceError, Result, io},
};
use crate::sandbox::USERS;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat},
    path::Arg,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The users of one home.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    writing: Mutex<()>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Given {
    users: BTreeMap<String, u32>,
}

impl Users {
    /// Those written in this file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, writing: Mutex::default() }
    }

    fn read(&self) -> Result<Given> {
        Ok(durable::read_json(&self.path)?.unwrap_or_default())
    }

    /// The number of a softservice, given now if it has none.
    pub(super) fn of(&self, softservice: &str) -> Result<u32> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given = self.read()?;
        if let Some(user) = given.users.get(softservice) {
            return Ok(*user);
        }
        let hash = blake3::hash(self.path.join(softservice).as_os_str().as_encoded_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        let free = |n: &u32| given.users.values().all(|taken| taken != n);
        let start = u32::from_be_bytes([a, b, c, d]);
        let count = USERS.end - USERS.start;
        let user = (0..count).map(|step| USERS.start + start.wrapping_add(step) % count).find(free);
        let user = user.ok_or_else(|| DeviceError::Damaged { path: self.path.clone(), why: "it is full".into() })?;
        given.users.insert(softservice.to_owned(), user);
        durable::write_json(&self.path, &given)?;
        Ok(user)
    }

    /// Gives the number back: nothing of the softservice is left on the disk.
    pub(super) fn forget(&self, softservice: &str) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given = self.read()?;
        match given.users.remove(softservice) {
            Some(_) => durable::write_json(&self.path, &given),
            None => Ok(()),
        }
    }
}

/// How far a giving looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// A folder that belongs to the user is taken as given, with all that is in it: its top is given last, so that a
    /// giving that was cut off begins anew.
    Top,
    /// Everything is looked at.
    All,
}

/// Gives a file, or a folder with all that is in it, to a user. Links are given, never followed.
pub(super) fn give(path: &Path, user: u32, depth: Depth) -> Result<()> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return Ok(()) };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let given = openat(CWD, parent, flags, Mode::empty()).and_then(|dir| give_entry(dir.as_fd(), name, user, depth));
    given.map_err(|e| io("give to its service", path)(e.into()))
}

fn give_entry(dir: BorrowedFd<'_>, name: impl Arg + Copy, user: u32, depth: Depth) -> rustix::io::Result<()> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let given = stat.st_uid == user && stat.st_gid == user;
    if given && depth == Depth::Top {
        return Ok(());
    }
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(dir, name, flags, Mode::empty())?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                give_entry(folder.as_fd(), entry.file_name(), user, depth)?;
            }
        }
    }
    if given {
        return Ok(());
    }
    chownat(dir, name, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)), AtFlags::SYMLINK_NOFOLLOW)
}
