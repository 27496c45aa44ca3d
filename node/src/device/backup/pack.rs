//! Folders to an archive. Invariant: what is read is what was surveyed; links are noted, never followed, also when whoever
//! writes to a folder meanwhile means harm: everything is opened below the part's own folder, by its descriptor.

use super::error::{BackupError, Result, io};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, openat2, readlinkat, statat};
use softservice_protocol::archive::{ArchiveError, Entry, Header, Kind, Owner, PIECE, Part, Stamp, Writer};
use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr},
    fs::File,
    io::Read,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

/// Folders inside each other; the archive's own rule is stricter where paths are long.
const DEPTH: usize = 256;

/// A folder that becomes a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) part: Part,
    pub(super) folder: PathBuf,
}

/// Whose files count as the softservice's own: (user, group).
pub(super) type ServiceUser = (u32, u32);

/// Where the bytes go.
pub(super) trait Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// So many bytes of data are through; false calls it off.
    fn told(&mut self, bytes: u64) -> bool;
}

/// Packs all sources. `header` says everything but parts and sums, which are counted here.
pub(super) fn pack(header: Header, sources: &[Source], user: ServiceUser, sink: &mut dyn Sink) -> Result<Header> {
    let mut sources = sources.to_vec();
    sources.sort_by(|a, b| a.part.cmp(&b.part));
    let mut survey = Survey::default();
    let mut shared = BTreeMap::new();
    for source in &sources {
        let mut walk = Walk { root: open_root(&source.folder)?, source, user, shared, out: &mut survey };
        walk.all()?;
        shared = walk.shared;
    }
    let parts = sources.iter().map(|s| s.part.clone()).collect();
    let header = Header { parts, entries: survey.entries, bytes: survey.bytes, ..header };
    let wrong = |e: ArchiveError| BackupError::Unfit { path: PathBuf::from("the backup"), why: e.to_string() };
    let (writer, bytes) = Writer::begin(header.clone()).map_err(wrong)?;
    sink.write(&bytes)?;
    let mut out = Packing { writer, sink, part: 0, bytes: 0, buffer: vec![0; PIECE] };
    let mut shared = BTreeMap::new();
    for (part, source) in (0_u16..).zip(&sources) {
        out.part = part;
        let mut walk = Walk { root: open_root(&source.folder)?, source, user, shared, out: &mut out };
        walk.all()?;
        shared = walk.shared;
    }
    let Packing { writer, sink, .. } = out;
    let last = sources.last().map_or_else(PathBuf::new, |s| s.folder.clone());
    // Fewer files than were counted: some went away in between.
    let bytes = writer.end().map_err(|_| BackupError::Changed(last))?;
    sink.write(&bytes)?;
    Ok(header)
}

fn open_root(folder: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| io("open", folder)(e.into()))
}

/// What a walk meets.
trait Out {
    /// An entry; of a file, its descriptor.
    fn entry(&mut self, entry: Entry, file: Option<OwnedFd>, at: &Path) -> Result<()>;
}

struct Walk<'a, O> {
    root: OwnedFd,
    source: &'a Source,
    user: ServiceUser,
    /// Files with several names, by device and number: how many such came before.
    shared: BTreeMap<(u64, u64), u64>,
    out: &'a mut O,
}

impl<O: Out> Walk<'_, O> {
    fn all(&mut self) -> Result<()> {
        self.folder(&mut Vec::new(), 0)
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        self.source.folder.join(OsStr::from_bytes(path))
    }

    /// Something below the root; nothing on the way may be a link.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let name = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat2(&self.root, OsStr::from_bytes(name), flags, Mode::empty(), resolve)
            .map_err(|e| io("open", self.place(path))(e.into()))
    }

    fn folder(&mut self, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let place = self.place(path);
        if depth > DEPTH {
            return Err(BackupError::Unfit { path: place, why: format!("lies more than {DEPTH} folders deep") });
        }
        let folder = self.open(path, OFlags::DIRECTORY)?;
        let stat = rustix::fs::fstat(&folder).map_err(|e| io("look at", &place)(e.into()))?;
        let entry = self.describe(path, Kind::Folder, &stat);
        self.out.entry(entry, None, &place)?;
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&folder).map_err(|e| io("list", &place)(e.into()))? {
            let name = entry.map_err(|e| io("list", &place)(e.into()))?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let stat = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(|e| io("look at", place.join(OsStr::from_bytes(name.to_bytes())))(e.into()))?;
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => self.folder(path, depth + 1)?,
                _ => self.other(path, &folder, &name, &stat)?,
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn other(&mut self, path: &[u8], folder: &OwnedFd, name: &CString, stat: &rustix::fs::Stat) -> Result<()> {
        let place = self.place(path);
        let (kind, file) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let identity = (stat.st_dev, stat.st_ino);
                let several = stat.st_nlink > 1;
                match self.shared.get(&identity).filter(|_| several) {
                    Some(number) => (Kind::Again(*number), None),
                    None => {
                        if several {
                            let number = self.shared.len() as u64;
                            self.shared.insert(identity, number);
                        }
                        let file = self.open(path, OFlags::empty())?;
                        let now = rustix::fs::fstat(&file).map_err(|e| io("look at", &place)(e.into()))?;
                        if (now.st_dev, now.st_ino) != identity {
                            return Err(BackupError::Changed(place));
                        }
                        let size = u64::try_from(now.st_size).unwrap_or(0);
                        (Kind::File { size, shared: several }, Some(file))
                    }
                }
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(|e| io("read", &place)(e.into()))?;
                (Kind::Link(target.into_bytes()), None)
            }
            FileType::Fifo => (Kind::Pipe, None),
            // A socket is an address, not data: whoever listened there makes it anew.
            FileType::Socket => return Ok(()),
            _ => return Err(BackupError::Unfit { path: place, why: "is a device".into() }),
        };
        let entry = self.describe(path, kind, stat);
        self.out.entry(entry, file, &place)
    }

    fn describe(&self, path: &[u8], kind: Kind, stat: &rustix::fs::Stat) -> Entry {
        let owner = match (stat.st_uid, stat.st_gid) {
            (user, group) if (user, group) == self.user => Owner::Service,
            (user, group) => Owner::Other { user, group },
        };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let changed = Stamp { seconds: stat.st_mtime, nanos };
        Entry { part: 0, path: path.to_vec(), kind, mode: stat.st_mode & 0o7777, owner, changed }
    }
}

/// Counts.
#[derive(Default)]
struct Survey {
    entries: u64,
    bytes: u64,
}

impl Out for Survey {
    fn entry(&mut self, entry: Entry, file: Option<OwnedFd>, at: &Path) -> Result<()> {
        self.entries += 1;
        if let (Kind::File { size, .. }, Some(file)) = (&entry.kind, file) {
            pieces(&file, *size, at, &mut |piece| {
                if let Piece::Data { length, .. } = piece {
                    self.bytes += length;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Writes.
struct Packing<'s> {
    writer: Writer,
    sink: &'s mut dyn Sink,
    part: u16,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Out for Packing<'_> {
    fn entry(&mut self, entry: Entry, file: Option<OwnedFd>, at: &Path) -> Result<()> {
        let wrong = |e: ArchiveError| match e {
            // More than was counted, or a file that is not as long as it was.
            ArchiveError::Order { .. } => BackupError::Changed(at.into()),
            other => BackupError::Unfit { path: at.into(), why: other.to_string() },
        };
        let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
        let frame = self.writer.entry(Entry { part: self.part, ..entry }).map_err(wrong)?;
        self.sink.write(&frame)?;
        let Some(fd) = file else { return Ok(()) };
        let mut file = File::from(fd);
        let reading = file.try_clone().map_err(io("open", at))?;
        pieces(&reading.into(), size, at, &mut |piece| match piece {
            Piece::Hole { length } => self.sink.write(&self.writer.hole(length).map_err(wrong)?),
            Piece::Data { from, length } => {
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from)).map_err(io("read", at))?;
                let mut left = length;
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                    let buffer = self.buffer.get_mut(..most).unwrap_or_default();
                    file.read_exact(buffer).map_err(|e| match e.kind() {
                        std::io::ErrorKind::UnexpectedEof => BackupError::Changed(at.into()),
                        _ => io("read", at)(e),
                    })?;
                    self.sink.write(&self.writer.data(buffer).map_err(wrong)?)?;
                    left -= most as u64;
                    self.bytes += most as u64;
                    if !self.sink.told(self.bytes) {
                        return Err(BackupError::CalledOff);
                    }
                }
                // The next piece is looked for from its own place.
                Ok(())
            }
        })?;
        self.sink.write(&self.writer.end_file().map_err(wrong)?)
    }
}

/// A stretch of a file.
enum Piece {
    Data { from: u64, length: u64 },
    Hole { length: u64 },
}

/// The stretches of a file in their order. Where a file system knows no holes, all of it is data.
fn pieces(file: &OwnedFd, size: u64, at: &Path, each: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
    let find = |whence: SeekFrom| match rustix::fs::seek(file, whence) {
        Ok(found) => Ok(Some(found.min(size))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    };
    let mut from = 0;
    while from < size {
        let data = match find(SeekFrom::Data(from)) {
            Ok(found) => found.unwrap_or(size),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {
                return each(Piece::Data { from, length: size - from });
            }
            Err(e) => return Err(io("read", at)(e.into())),
        };
        if data > from {
            each(Piece::Hole { length: data - from })?;
        }
        if data >= size {
            return Ok(());
        }
        let end = find(SeekFrom::Hole(data)).map_err(|e| io("read", at)(e.into()))?.unwrap_or(size).max(data + 1);
        each(Piece::Data { from: data, length: end - data })?;
        from = end;
    }
    Ok(())
}
