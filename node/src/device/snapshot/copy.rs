//! A copy of a folder that is the same in everything that a program could notice: names, bytes, holes, modes, owners, times,
//! extended attributes, links of both kinds. Invariant: no link is followed on either side, and nothing of the source is
//! changed; what cannot be copied as it is, is an error, but for sockets, pipes and devices, which hold no data and are
//! told by name.

use super::super::error::{Result, io};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, ioctl_ficlone, linkat,
        mkdirat, open, openat, openat2, readlinkat, seek, statat, symlinkat, syncfs, utimensat,
    },
    io::Errno,
};
use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
};

/// Bytes read at a time.
const BUFFER: usize = 256 << 10;
/// Entries whose names are told when they could not be copied.
const TOLD: usize = 16;
/// What a file or folder takes beside its content.
const ENTRY_BYTES: u64 = 4 << 10;

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Measure {
    /// Bytes that a copy takes.
    pub(super) bytes: u64,
    /// Sockets, pipes and devices: the first few.
    pub(super) skipped: Vec<String>,
}

/// What a folder holds; an error when something of it could not be copied.
pub(super) fn measure(folder: &Path) -> Result<Measure> {
    let mut seen = Measure::default();
    let mut linked = BTreeMap::new();
    walk(folder, &mut |entry| {
        seen.bytes += ENTRY_BYTES;
        let stat = entry.stat;
        if entry.kind == FileType::RegularFile {
            let again = stat.st_nlink > 1 && linked.insert((stat.st_dev, stat.st_ino), ()).is_some();
            seen.bytes += if again { 0 } else { stat.st_blocks as u64 * 512 };
            readable(entry, 0o400)?;
        } else if entry.kind == FileType::Directory {
            readable(entry, 0o500)?;
        }
        seen.skip(entry);
        Ok(())
    })?;
    Ok(seen)
}

impl Measure {
    fn skip(&mut self, entry: &Entry<'_>) {
        let plain = matches!(entry.kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
        if !plain && self.skipped.len() < TOLD {
            self.skipped.push(entry.path.display().to_string());
        }
    }
}

/// An ordinary user cannot read what it took the right to read from itself: better told before than in the middle.
fn readable(entry: &Entry<'_>, bits: u32) -> Result<()> {
    let me = rustix::process::geteuid();
    if me.is_root() || entry.stat.st_mode & bits == bits {
        return Ok(());
    }
    Err(io("read", entry.root.join(entry.path))(Errno::ACCESS.into()))
}

/// Copies the folder `from` to `to`, which is made, or is empty; with `clone`, blocks are shared where that works. On the disk
/// when this returns.
pub(super) fn tree(from: &Path, to: &Path, clone: bool) -> Result<Measure> {
    match mkdirat(CWD, to, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(io("create folder", to)(e.into())),
    }
    let target = root(to)?;
    let mut copied = Measure::default();
    // By the file's number: where its first name was copied to.
    let mut linked: BTreeMap<_, PathBuf> = BTreeMap::new();
    let mut folders: Vec<(PathBuf, Stat)> = Vec::new();
    walk(from, &mut |entry| {
        let at = |action: &'static str| io(action, to.join(entry.path));
        let (parent, name) = (entry.path.parent().unwrap_or(Path::new("")), entry.name);
        let into = beneath(&target, parent, to)?;
        match entry.kind {
            FileType::Directory => {
                // The root's own entry has no name: it was made above.
                if !name.is_empty() {
                    mkdirat(&into, name, Mode::RWXU).map_err(|e| at("create folder")(e.into()))?;
                }
                folders.push((entry.path.to_owned(), entry.stat));
            }
            FileType::Symlink => link(entry, &into).map_err(|e| at("create link")(e.into()))?,
            FileType::RegularFile => {
                let number = (entry.stat.st_dev, entry.stat.st_ino);
                match linked.get(&number) {
                    Some(first) => {
                        linkat(&target, first, &into, name, AtFlags::empty()).map_err(|e| at("link")(e.into()))?;
                    }
                    None => {
                        copied.bytes += file(entry, &into, clone).map_err(at("copy to"))?;
                        if entry.stat.st_nlink > 1 {
                            linked.insert(number, entry.path.to_owned());
                        }
                    }
                }
            }
            _ => {}
        }
        copied.skip(entry);
        Ok(())
    })?;
    // From within to without: a folder's time changes with its entries, and its mode may forbid entering it.
    let origin = root(from)?;
    for (path, stat) in folders.iter().rev() {
        let (source, folder) = (beneath(&origin, path, from)?, beneath(&target, path, to)?);
        attributes(&source, &folder, stat).map_err(io("set the attributes of", to.join(path)))?;
    }
    syncfs(&target).map_err(|e| io("sync", to)(e.into()))?;
    Ok(copied)
}

/// Something in a folder.
struct Entry<'a> {
    root: &'a Path,
    /// Below the root; empty for the root itself.
    path: &'a Path,
    name: &'a CStr,
    /// The folder that it is in; the root itself for the root.
    parent: &'a OwnedFd,
    stat: Stat,
    kind: FileType,
}

/// Visits a folder and all that is in it, folders before their entries.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    let top = root(folder)?;
    let said = |action: &'static str, path: &Path, e: Errno| io(action, folder.join(path))(e.into());
    let stat = rustix::fs::fstat(&top).map_err(|e| said("look at", Path::new(""), e))?;
    let (kind, device) = (FileType::Directory, stat.st_dev);
    visit(&Entry { root: folder, path: Path::new(""), name: c"", parent: &top, stat, kind })?;
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let parent = beneath(&top, &path, folder)?;
        let entries = Dir::read_from(&parent).map_err(|e| said("list", &path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| said("list", &path, e))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| said("look at", &below, e))?;
            if stat.st_dev != device {
                // A copy would put its files onto this disk, and the way back could not move it.
                let why = "another file system is mounted there; mount it elsewhere, or make it the whole volume";
                return Err(io("copy", folder.join(&below))(std::io::Error::other(why)));
            }
            let kind = FileType::from_raw_mode(stat.st_mode);
            visit(&Entry { root: folder, path: &below, name, parent: &parent, stat, kind })?;
            if kind == FileType::Directory {
                left.push(below);
            }
        }
    }
    Ok(())
}

fn root(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(folder, flags, Mode::empty()).map_err(|e| io("open", folder)(e.into()))
}

/// A folder below another, with no link on the way.
fn beneath(root: &OwnedFd, path: &Path, shown: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let relative = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    openat2(root, relative, flags, Mode::empty(), rules).map_err(|e| io("open", shown.join(path))(e.into()))
}

fn link(entry: &Entry<'_>, into: &OwnedFd) -> rustix::io::Result<()> {
    let target = readlinkat(entry.parent, entry.name, Vec::new())?;
    symlinkat(&target, into, entry.name)?;
    let (uid, gid) = owner(&entry.stat);
    if uid.is_some() || gid.is_some() {
        chownat(into, entry.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    utimensat(into, entry.name, &times(&entry.stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// Copies one file; answers how many bytes were copied, none when its blocks are shared.
fn file(entry: &Entry<'_>, into: &OwnedFd, clone: bool) -> std::io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = openat(entry.parent, entry.name, flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(into, entry.name, flags, Mode::RUSR | Mode::WUSR)?;
    let (from, to) = (File::from(from), File::from(to));
    let copied = match clone && ioctl_ficlone(&to, &from).is_ok() {
        true => 0,
        false => content(&from, &to)?,
    };
    attributes(&from, &to, &entry.stat)?;
    Ok(copied)
}

/// Copies what is in a file and leaves out its holes.
fn content(from: &File, to: &File) -> std::io::Result<u64> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut buffer = vec![0; BUFFER];
    let (mut at, mut copied) = (0, 0);
    while at < len {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?.min(len);
        at = start;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let read = match buffer.get_mut(..room) {
                Some(room) => from.read_at(room, at)?,
                None => 0,
            };
            if read == 0 {
                return Err(std::io::Error::other("it became shorter while it was copied"));
            }
            to.write_all_at(buffer.get(..read).unwrap_or_default(), at)?;
            at += read as u64;
            copied += read as u64;
        }
    }
    Ok(copied)
}

/// Owner, extended attributes, mode and times, in an order in which none undoes another.
fn attributes(from: &impl AsFd, to: &impl AsFd, stat: &Stat) -> std::io::Result<()> {
    let (uid, gid) = owner(stat);
    if uid.is_some() || gid.is_some() {
        fchown(to, uid, gid)?;
    }
    extended(from, to)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    futimens(to, &times(stat))?;
    Ok(())
}

/// The owner, where it is not already that of everything we make.
fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    let (me, us) = (rustix::process::geteuid(), rustix::process::getegid());
    let uid = (stat.st_uid != me.as_raw()).then(|| Uid::from_raw(stat.st_uid));
    // A folder with the set-group-id bit gives its own group to what is made in it: as root it is always said.
    let gid = (stat.st_gid != us.as_raw() || me.is_root()).then(|| Gid::from_raw(stat.st_gid));
    (uid, gid)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds as _, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn extended(from: &impl AsFd, to: &impl AsFd) -> std::io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(from, &mut names) {
        Ok(length) => length,
        // A file system without them.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    names.truncate(length);
    let mut value = vec![0; 64 << 10];
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let length = fgetxattr(from, name, &mut value)?;
        let wanted = value.get(..length).unwrap_or_default();
        if let Err(e) = fsetxattr(to, name, wanted, XattrFlags::empty()) {
            // Labels of the system's own may not be set by everybody, but are given by themselves.
            let mut there = vec![0; 64 << 10];
            let same = fgetxattr(to, name, &mut there).is_ok_and(|n| there.get(..n) == Some(wanted));
            if !same {
                return Err(e.into());
            }
        }
    }
    Ok(())
}

/// Whether blocks can be shared between files of two folders; found out by trying, with files that have no name.
pub(super) fn can_clone(from: &Path, to: &Path) -> bool {
    let nameless = |folder: &Path| {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        open(folder, flags, Mode::RUSR | Mode::WUSR).map(File::from).ok()
    };
    let (Some(from), Some(to)) = (nameless(from), nameless(to)) else { return false };
    from.write_all_at(&[1; 4096], 0).is_ok() && ioctl_ficlone(&to, &from).is_ok()
}
