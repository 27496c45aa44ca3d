//! Clearing of folders that somebody else has filled. Invariant: nothing outside of the folder is touched: no link is
//! followed, nothing that is mounted is entered; and whoever filled it cannot keep it from being cleared by modes that
//! forbid that, or by depth: three descriptors are open at most, and no path is longer than a name.
//!
//! Folders deep inside are moved up to right below the top, one after the other, and emptied there. Refused: a descriptor for
//! each level, of which a program can make more than a process may open, and the way up by `..`, which leads elsewhere when
//! somebody moves a folder meanwhile.

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmod, fstat, open, openat, openat2, renameat, statat,
        unlinkat,
    },
    io::Errno,
};
use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// How often a folder is emptied that fills again: somebody lives there still.
const ROUNDS: usize = 100;
/// What is needed to empty a folder, or to move it.
const OPEN: u32 = 0o700;

/// Removes a folder, file or link, if it is there, with all that is in it.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    let name = CString::new(name.as_bytes())?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent?,
    };
    if gone(&parent, &name)? {
        return Ok(());
    }
    let top = opened(&parent, &name)?;
    for _ in 0..ROUNDS {
        hollow(&top)?;
        if gone(&parent, &name)? {
            return Ok(());
        }
    }
    Err(told(&name, Errno::NOTEMPTY))
}

/// Removes all that is in a folder, which stays. It may be a mount, or a link that its owner made.
pub(super) fn empty(folder: &Path) -> io::Result<()> {
    let top = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..ROUNDS {
        hollow(&top)?;
        if swept(&top)?.is_empty() {
            return Ok(());
        }
    }
    Err(told(c".", Errno::NOTEMPTY))
}

fn told(name: &CStr, error: Errno) -> io::Error {
    let why = match error {
        Errno::XDEV | Errno::BUSY => "something is mounted there; unmount it first".to_owned(),
        error => io::Error::from(error).to_string(),
    };
    io::Error::new(io::Error::from(error).kind(), format!("{}: {why}", name.to_string_lossy()))
}

/// Removes an entry unless it is a folder with something in it; whether it is gone.
fn gone(parent: impl AsFd, name: &CStr) -> io::Result<bool> {
    let removed = match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) => unlinkat(&parent, name, AtFlags::empty()),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(told(name, error)),
    }
}

/// Removes everything below a folder, as long as nobody adds to it.
fn hollow(top: &OwnedFd) -> io::Result<()> {
    let mut left = swept(top)?;
    let mut moved = 0_u64;
    while let Some(name) = left.pop() {
        let folder = opened(top, &name)?;
        let mut rounds = 0..ROUNDS;
        loop {
            for deeper in swept(&folder)? {
                left.push(moved_up(&folder, &deeper, top, &mut moved)?);
            }
            if gone(top, &name)? {
                break;
            }
            rounds.next().ok_or_else(|| told(&name, Errno::NOTEMPTY))?;
        }
    }
    Ok(())
}

/// Removes all entries of a folder but folders with something in them, whose names it answers.
fn swept(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut left = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode))
            }
            kind => Ok(kind),
        };
        let done = match kind {
            Ok(FileType::Directory) => gone(folder, name)?,
            Ok(_) => match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => true,
                Err(error) => return Err(told(name, error)),
            },
            Err(Errno::NOENT) => true,
            Err(error) => return Err(told(name, error)),
        };
        if !done {
            left.push(name.to_owned());
        }
    }
    Ok(left)
}

/// Moves a folder to right below the top; answers its name there.
fn moved_up(from: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<CString> {
    // Whoever is not root needs the right to write to a folder that gets another parent.
    handle(from.as_fd(), name)?;
    loop {
        let above = CString::new(format!(".moved-{moved}"))?;
        *moved += 1;
        match renameat(from, name, top, &above) {
            Ok(()) => return Ok(above),
            // That name is somebody's. An empty folder is replaced, and no loss.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(told(name, error)),
        }
    }
}

/// A folder, for reading.
fn opened(parent: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    let handle = handle(parent.as_fd(), name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(&handle, c".", flags, Mode::empty()).map_err(|e| told(name, e))
}

/// A folder itself, with the modes that it takes to empty it.
fn handle(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let handle = openat2(parent, name, flags, Mode::empty(), rules).map_err(|e| told(name, e))?;
    let mode = fstat(&handle).map_err(|e| told(name, e))?.st_mode;
    if mode & OPEN != OPEN {
        // Of what was opened: by now its name may be another's. Who may not change it hears of that when it is emptied.
        let _ = chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::from_raw_mode(mode & 0o7777 | OPEN));
    }
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        fs::{Gid, Uid, chown, mkdirat},
        process::geteuid,
    };
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// Runs something without the rights of root, in a thread of its own.
    fn as_ordinary_user(work: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if geteuid().is_root() {
                    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
                    rustix::thread::set_thread_res_gid(group, group, group).expect("another group");
                    rustix::thread::set_thread_res_uid(user, user, user).expect("another user");
                }
                work();
            });
            thread.join().expect("no panic");
        });
    }

    #[test]
    fn modes_and_links_keep_nothing_and_lead_nowhere() {
        let scratch = tempfile::tempdir().expect("a folder");
        let outside = scratch.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("file"), "stays").expect("a file");
        mode(&outside, 0o555);
        let here = scratch.path().join("here");
        fs::create_dir(&here).expect("a folder");
        if geteuid().is_root() {
            mode(scratch.path(), 0o755);
            chown(&here, Some(Uid::from_raw(65534)), Some(Gid::from_raw(65534))).expect("given");
        }
        as_ordinary_user(|| {
            let volume = here.join("volume");
            for folder in ["cache/module/deep", "closed/in", "odd/.moved-0", "odd/.moved-1/full", "odd/in/er"] {
                fs::create_dir_all(volume.join(folder)).expect("a folder");
                fs::write(volume.join(folder).join("file"), "goes").expect("a file");
            }
            symlink(&outside, volume.join("way")).expect("a link");
            symlink(outside.join("file"), volume.join("closed/way")).expect("a link");
            fs::set_permissions(volume.join("cache/module/deep/file"), fs::Permissions::from_mode(0o000))
                .expect("chmod");
            for (folder, bits) in
                [("cache/module/deep", 0o555), ("cache/module", 0o500), ("closed/in", 0), ("closed", 0o111)]
            {
                mode(&volume.join(folder), bits);
            }
            mode(&volume, 0o555);
            clear(&volume).expect("cleared");
            assert!(volume.symlink_metadata().is_err());
            clear(&volume).expect("nothing is there");
            // A link, and a file.
            symlink(&outside, &volume).expect("a link");
            clear(&volume).expect("cleared");
            fs::write(&volume, "").expect("a file");
            clear(&volume).expect("cleared");
            assert!(fs::read_dir(&here).expect("listed").next().is_none());
        });
        let bits = fs::metadata(&outside).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((bits, fs::read_to_string(outside.join("file")).expect("a file")), (0o555, "stays".into()));
        mode(&outside, 0o755);
    }

    #[test]
    fn depth_costs_no_descriptors() {
        let scratch = tempfile::tempdir().expect("a folder");
        let volume = scratch.path().join("volume");
        fs::create_dir(&volume).expect("a folder");
        // Deeper than a process may have files open, and than a path may be long.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = open(&volume, flags, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            mkdirat(&at, "d", Mode::RWXU).expect("a folder");
            mkdirat(&at, "beside", Mode::RWXU).expect("a folder");
            at = openat(&at, "d", flags, Mode::empty()).expect("opened");
        }
        drop(at);
        empty(&volume).expect("emptied");
        assert!(fs::read_dir(&volume).expect("listed").next().is_none());
        clear(&volume).expect("cleared");
        assert!(!volume.exists());
    }
}
