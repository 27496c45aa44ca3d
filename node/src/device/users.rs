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

    /// Gives back the numbers of all but these softservices: of any other, nothing is left on the disk.
    pub(super) fn keep(&self, softservices: &[String]) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given = self.read()?;
        let before = given.users.len();
        given.users.retain(|name, _| softservices.contains(name));
        if given.users.len() == before { Ok(()) } else { durable::write_json(&self.path, &given) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_number_stays_until_it_is_given_back_and_nobody_shares_it() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("users.json");
        let users = Users::new(path.clone());
        let numbers: Vec<u32> = (0..50).map(|n| users.of(&format!("service-{n}")).expect("a number")).collect();
        assert!(numbers.iter().all(|n| USERS.contains(n)));
        assert_eq!(numbers.iter().collect::<std::collections::BTreeSet<_>>().len(), 50);
        // Another life of the node.
        let users = Users::new(path.clone());
        users.forget("service-7").expect("forgotten");
        for (n, number) in numbers.iter().enumerate().filter(|(n, _)| *n != 7) {
            assert_eq!(users.of(&format!("service-{n}")).expect("a number"), *number);
        }
        // The same start in a file where that number is taken.
        let taken = Given { users: BTreeMap::from([("other".into(), numbers[7])]) };
        durable::write_json(&path, &taken).expect("written");
        assert_ne!(Users::new(path.clone()).of("service-7").expect("a number"), numbers[7]);
        // One whose removal was cut off before its number was given back.
        let users = Users::new(path);
        users.keep(&["service-7".to_owned()]).expect("kept");
        assert_eq!(users.read().expect("read").users.into_keys().collect::<Vec<_>>(), ["service-7"]);
    }

    #[test]
    fn what_is_given_is_given_whole_and_no_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED, needs root: giving files away");
            return;
        }
        let scratch = tempfile::tempdir().expect("a folder");
        let (volume, outside) = (scratch.path().join("volume"), scratch.path().join("outside"));
        std::fs::create_dir_all(volume.join("deep/er")).expect("a folder");
        std::fs::create_dir(&outside).expect("a folder");
        for file in [volume.join("deep/er/file"), outside.join("file")] {
            std::fs::write(file, "text").expect("a file");
        }
        symlink(&outside, volume.join("way")).expect("a link");
        symlink(outside.join("file"), volume.join("deep/way")).expect("a link");
        let owner = |path: &Path| path.symlink_metadata().expect("it is there").uid();
        give(&volume, USERS.start, Depth::Top).expect("given");
        for path in ["", "deep", "deep/er", "deep/er/file", "way", "deep/way"] {
            assert_eq!(owner(&volume.join(path)), USERS.start, "{path}");
        }
        assert_eq!((owner(&outside), owner(&outside.join("file"))), (0, 0), "nothing behind a link");
        // A folder that is given is not looked into; all of it is when that is asked for.
        std::fs::write(volume.join("new"), "text").expect("a file");
        give(&volume, USERS.start, Depth::Top).expect("given");
        assert_eq!(owner(&volume.join("new")), 0);
        give(&volume, USERS.start, Depth::All).expect("given");
        assert_eq!(owner(&volume.join("new")), USERS.start);
    }
}
