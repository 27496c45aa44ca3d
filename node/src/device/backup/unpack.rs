//! An archive to folders. Invariant: it writes below one new, empty folder and nowhere else, through no link; what it
//! leaves there is whole and on the disk when it answers, and is removed by whoever asked when it fails.

use super::{
    error::{BackupError, Result, damaged, io},
    pack::ServiceUser,
};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid, openat2};
use softservice_protocol::archive::{Entry, Header, Item, Kind, Owner, Part, Reader};
use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

/// Room that an entry takes beside its data, at most: a block, and its place in a folder.
const ENTRY_ROOM: u64 = 4096 + 256;

/// Where a part lies below the folder that was unpacked to.
pub(super) fn place(part: &Part) -> PathBuf {
    match part {
        Part::Volume(key) => Path::new("volumes").join(key),
        Part::Hook(role) => Path::new("hooks").join(role),
        Part::Secrets => "secrets".into(),
        Part::Overlay => "overlay".into(),
    }
}

/// Reads an archive to its end and hands each item on. The first error is told; nothing that was handed on before it
/// may be believed.
pub(super) fn read(path: &Path, mut stream: impl Read, each: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
    let (mut reader, mut buffer) = (Reader::new(), Vec::new());
    // The decryption finds flips and cuts before the archive does.
    let broken = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData | std::io::ErrorKind::Other => {
            BackupError::Damaged { path: path.into(), why: "it was cut off, or some of its bytes changed".into() }
        }
        _ => io("read", path)(e),
    };
    while reader.wants() > 0 {
        buffer.resize(reader.wants(), 0);
        stream.read_exact(&mut buffer).map_err(broken)?;
        if let Some(item) = reader.take(&buffer).map_err(damaged(path))? {
            each(item)?;
        }
    }
    reader.end().map_err(damaged(path))?;
    match stream.read(&mut [0]).map_err(broken)? {
        0 => Ok(()),
        _ => Err(BackupError::Damaged { path: path.into(), why: "it goes on after its end".into() }),
    }
}

/// Makes folders below an empty one.
pub(super) struct Unpacking<'a> {
    /// The archive, for errors.
    archive: &'a Path,
    root: OwnedFd,
    at: PathBuf,
    user: ServiceUser,
    /// Only root gives files away.
    gives: bool,
    header: Option<Header>,
    /// Folders that are open, outermost first: their modes and times are set when nothing more comes into them.
    folders: Vec<(PathBuf, Entry)>,
    file: Option<(File, PathBuf, Entry, u64)>,
    shared: Vec<PathBuf>,
    bytes: u64,
    /// Refuses a header before anything is written, and is told how far it is.
    watch: &'a mut dyn Watch,
}

/// Who looks on.
pub(super) trait Watch {
    /// The header; an error ends it before anything is written.
    fn header(&mut self, header: &Header) -> Result<()>;
    /// So many bytes of data are through, of all; false calls it off.
    fn told(&mut self, bytes: u64, of: u64) -> bool;
}

impl<'a> Unpacking<'a> {
    /// Below `at`, an empty folder.
    pub(super) fn new(archive: &'a Path, at: &Path, user: ServiceUser, watch: &'a mut dyn Watch) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(at, flags, Mode::empty()).map_err(|e| io("open", at)(e.into()))?;
        Ok(Self {
            archive,
            root,
            at: at.into(),
            user,
            gives: rustix::process::geteuid().is_root(),
            header: None,
            folders: Vec::new(),
            file: None,
            shared: Vec::new(),
            bytes: 0,
            watch,
        })
    }

    pub(super) fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Header(header) => self.begin(header),
            Item::Entry(entry) => self.entry(entry),
            Item::Data(piece) => self.data(&piece),
            Item::Hole(length) => {
                if let Some((file, path, _, at)) = &mut self.file {
                    *at += length;
                    file.seek(SeekFrom::Start(*at)).map_err(io("write", path))?;
                }
                Ok(())
            }
            Item::Whole(_) => self.end_file(),
            Item::End => self.close_until(|_| false),
        }
    }

    /// What the archive said of itself. Returns when all of it is on the disk.
    pub(super) fn finish(self) -> Result<Header> {
        // One call for all files: a sync each would take minutes for a folder of many.
        rustix::fs::syncfs(&self.root).map_err(|e| io("sync", &self.at)(e.into()))?;
        let cut = || BackupError::Damaged { path: self.archive.into(), why: "it has no header".into() };
        self.header.ok_or_else(cut)
    }

    fn begin(&mut self, header: Header) -> Result<()> {
        self.watch.header(&header)?;
        let needed = header.bytes.saturating_add(header.entries.saturating_mul(ENTRY_ROOM));
        let stat = rustix::fs::fstatvfs(&self.root).map_err(|e| io("look at", &self.at)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed > free {
            return Err(BackupError::Space { path: self.at.clone(), needed, free });
        }
        for above in ["volumes", "hooks"] {
            let path = self.at.join(above);
            std::fs::create_dir(&path).map_err(io("create folder", &path))?;
        }
        self.header = Some(header);
        Ok(())
    }

    /// Where an entry goes, below the root.
    fn path(&self, entry: &Entry) -> Result<PathBuf> {
        let part = self.header.as_ref().and_then(|h| h.parts.get(usize::from(entry.part)));
        // The reader has seen to it.
        let nowhere = || BackupError::Damaged { path: self.archive.into(), why: "an entry has no part".into() };
        let place = place(part.ok_or_else(nowhere)?);
        if entry.path.is_empty() { Ok(place) } else { Ok(place.join(OsStr::from_bytes(&entry.path))) }
    }

    /// A folder below the root that was made before; nothing on the way may be a link.
    fn folder(&self, path: &Path) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(|e| io("open", self.at.join(path))(e.into()))
    }

    fn entry(&mut self, entry: Entry) -> Result<()> {
        let path = self.path(&entry)?;
        self.close_until(|open| path.starts_with(open) && path != *open)?;
        let parent = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        let failed = |action| {
            let full = self.at.join(&path);
            move |e: rustix::io::Errno| io(action, full)(e.into())
        };
        match &entry.kind {
            Kind::Folder => {
                rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(failed("create folder"))?;
                self.folders.push((path, entry));
            }
            Kind::File { size, shared } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
                let file = File::from(file.map_err(failed("create"))?);
                file.set_len(*size).map_err(io("make room in", self.at.join(&path)))?;
                if *shared {
                    self.shared.push(path.clone());
                }
                self.file = Some((file, path, entry, 0));
            }
            Kind::Again(number) => {
                let of = usize::try_from(*number).ok().and_then(|n| self.shared.get(n));
                // The reader has seen to it.
                let nothing = || BackupError::Damaged { path: self.archive.into(), why: "a name of no file".into() };
                let of = of.ok_or_else(nothing)?;
                let beside = self.folder(of.parent().unwrap_or(Path::new("")))?;
                let old = of.file_name().unwrap_or_default();
                rustix::fs::linkat(&beside, old, &parent, name, AtFlags::empty()).map_err(failed("link"))?;
            }
            Kind::Link(target) => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name).map_err(failed("link"))?;
                self.dress_at(&parent, name, &path, &entry)?;
            }
            Kind::Pipe => {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::mknodat(&parent, name, FileType::Fifo, mode, 0).map_err(failed("create"))?;
                self.dress_at(&parent, name, &path, &entry)?;
                let mode = Mode::from_raw_mode(entry.mode);
                rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).map_err(failed("set the mode of"))?;
            }
        }
        Ok(())
    }

    fn data(&mut self, piece: &[u8]) -> Result<()> {
        if let Some((file, path, _, at)) = &mut self.file {
            file.write_all(piece).map_err(io("write", path))?;
            *at += piece.len() as u64;
        }
        self.bytes += piece.len() as u64;
        let of = self.header.as_ref().map_or(0, |h| h.bytes);
        if self.watch.told(self.bytes, of) { Ok(()) } else { Err(BackupError::CalledOff) }
    }

    fn end_file(&mut self) -> Result<()> {
        match self.file.take() {
            Some((file, path, entry, _)) => self.dress(&file, &path, &entry),
            None => Ok(()),
        }
    }

    /// Gives open folders their modes, innermost first, until one is to stay open.
    fn close_until(&mut self, stays: impl Fn(&Path) -> bool) -> Result<()> {
        while let Some((path, entry)) = self.folders.pop() {
            if stays(&path) {
                self.folders.push((path, entry));
                return Ok(());
            }
            let folder = self.folder(&path)?;
            self.dress(&folder, &path, &entry)?;
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        let (user, group) = match entry.owner {
            Owner::Service => self.user,
            Owner::Other { user, group } => (user, group),
        };
        // Made by somebody who is not root, everything is theirs.
        self.gives.then(|| (Uid::from_raw(user), Gid::from_raw(group)))
    }

    /// Owner, mode and time, in this order: a new owner takes bits of the mode away, and both are changes.
    fn dress(&self, of: &impl AsFd, path: &Path, entry: &Entry) -> Result<()> {
        let failed = |action| {
            let full = self.at.join(path);
            move |e: rustix::io::Errno| io(action, full)(e.into())
        };
        if let Some((user, group)) = self.owner(entry) {
            rustix::fs::fchown(of, Some(user), Some(group)).map_err(failed("give away"))?;
        }
        rustix::fs::fchmod(of, mode(entry)).map_err(failed("set the mode of"))?;
        rustix::fs::futimens(of, &times(entry)).map_err(failed("set the time of"))
    }

    fn dress_at(&self, parent: &OwnedFd, name: &OsStr, path: &Path, entry: &Entry) -> Result<()> {
        let failed = |action| {
            let full = self.at.join(path);
            move |e: rustix::io::Errno| io(action, full)(e.into())
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((user, group)) = self.owner(entry) {
            rustix::fs::chownat(parent, name, Some(user), Some(group), flags).map_err(failed("give away"))?;
        }
        rustix::fs::utimensat(parent, name, &times(entry), flags).map_err(failed("set the time of"))
    }
}

/// Permission bits. A program that runs as whom it belongs to may be the service's, of nobody else: whoever wrote the
/// archive names owners as he likes.
fn mode(entry: &Entry) -> Mode {
    let mode = Mode::from_raw_mode(entry.mode);
    match (&entry.kind, entry.owner) {
        (Kind::Folder, _) | (_, Owner::Service) => mode,
        (_, Owner::Other { .. }) => mode - (Mode::SUID | Mode::SGID),
    }
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.changed.seconds, tv_nsec: entry.changed.nanos.into() },
    }
}
