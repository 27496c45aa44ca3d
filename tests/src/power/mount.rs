//! A model as a file system of this machine. Invariant: what a program did before the chosen moment is all in the model, and
//! from that moment on everything that it asks is answered with an error; so nothing that it says later rests on more.

use super::{
    draw::Draw,
    model::{Body, Image, Model, Node, Refused},
};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::{
    ffi::OsStr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// The kernel is told of nothing that it did not do itself, so it may remember what it likes.
const FOREVER: Duration = Duration::from_secs(3600);
/// A file of this name at the top begins the counting.
pub const BEGIN: &str = "begin";

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process: everything that it did stays.
    Kill,
    /// The power, with a seed for what stays.
    Power(u64),
}

/// How far it is.
#[derive(Debug)]
struct Course {
    model: Model,
    /// Changes and syncs since the counting began.
    done: u64,
    counting: bool,
    /// After so many of them it ends, and how.
    at: Option<(u64, End)>,
    end: Option<Image>,
}

/// The file system, mounted for as long as this lives.
pub struct Mounted {
    course: Arc<Mutex<Course>>,
    session: Option<BackgroundSession>,
}

struct Face(Arc<Mutex<Course>>);

impl Mounted {
    /// Mounts a file system that holds `image`. Counting begins at once, or when [`BEGIN`] appears.
    ///
    /// # Errors
    /// This machine cannot: it takes root and FUSE.
    pub fn new(image: Image, at: &Path, end: Option<(u64, End)>, at_once: bool) -> Result<Self, String> {
        let course = Course { model: Model::new(image), done: 0, counting: at_once, at: end, end: None };
        let course = Arc::new(Mutex::new(course));
        let mut options = Config::default();
        options.mount_options = vec![MountOption::FSName("power".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Face(course.clone()), at, &options).map_err(|e| e.to_string())?;
        Ok(Self { course, session: Some(session) })
    }
    /// Changes and syncs that were counted.
    pub fn done(&self) -> u64 {
        lock(&self.course).done
    }
    /// What is there after the end, if that came.
    pub fn ended(&self) -> Option<Image> {
        lock(&self.course).end.clone()
    }
    /// What programs see.
    pub fn seen(&self) -> Image {
        lock(&self.course).model.killed()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Course {
    /// Before a change or a sync: counts it, and ends everything when it is time.
    fn step(&mut self) -> Result<(), Errno> {
        self.alive()?;
        if !self.counting {
            return Ok(());
        }
        if let Some((at, end)) = self.at
            && self.done >= at
        {
            self.end = Some(match end {
                End::Kill => self.model.killed(),
                End::Power(seed) => self.model.cut(&mut Draw::new(seed, "cut")),
            });
            return Err(Errno::EIO);
        }
        self.done += 1;
        Ok(())
    }
    fn alive(&self) -> Result<(), Errno> {
        if self.end.is_some() { Err(Errno::EIO) } else { Ok(()) }
    }
    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let node = self.model.node(number).ok_or(Errno::ENOENT)?;
        let (kind, size, links) = match &node.body {
            Body::File(bytes) => (FileType::RegularFile, bytes.len() as u64, self.model.links(number)),
            Body::Folder(_) => (FileType::Directory, 0, 2),
            Body::Link(to) => (FileType::Symlink, to.as_os_str().len() as u64, 1),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.changed,
            crtime: node.modified,
            kind,
            perm: node.mode as u16,
            nlink: links,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
    fn make(&mut self, parent: INodeNo, name: &OsStr, body: Body, mode: u32) -> Result<FileAttr, Errno> {
        if parent.0 == super::model::ROOT && name == BEGIN {
            self.counting = true;
        }
        self.step()?;
        let number = self.model.make(parent.0, name, body, mode).map_err(errno)?;
        self.attributes(number)
    }
}

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::Missing => Errno::ENOENT,
        Refused::Taken => Errno::EEXIST,
        Refused::Kind => Errno::EISDIR,
        Refused::Full => Errno::ENOTEMPTY,
    }
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Face {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let course = lock(&self.0);
        let found = course.alive().and_then(|()| {
            let number = course.model.look(parent.0, name).ok_or(Errno::ENOENT)?;
            course.attributes(number)
        });
        entry(reply, found);
    }
    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let course = lock(&self.0);
        match course.alive().and_then(|()| course.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&FOREVER, &attributes),
            Err(e) => reply.error(e),
        }
    }
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut course = lock(&self.0);
        let changed = course.step().and_then(|()| {
            if let Some(mode) = mode {
                course.model.set_mode(ino.0, mode);
            }
            if let Some(size) = size {
                course.model.resize(ino.0, size).map_err(errno)?;
            }
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => course.model.set_modified(ino.0, time),
                Some(TimeOrNow::Now) => course.model.set_modified(ino.0, SystemTime::now()),
                None => {}
            }
            course.attributes(ino.0)
        });
        match changed {
            Ok(attributes) => reply.attr(&FOREVER, &attributes),
            Err(e) => reply.error(e),
        }
    }
    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let course = lock(&self.0);
        match (course.alive(), course.model.node(ino.0)) {
            (Ok(()), Some(Node { body: Body::Link(to), .. })) => reply.data(to.as_os_str().as_encoded_bytes()),
            _ => reply.error(Errno::EIO),
        }
    }
    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, lock(&self.0).make(parent, name, Body::Folder(Default::default()), mode & !umask));
    }
    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut course = lock(&self.0);
        let removed = course.step().and_then(|()| course.model.remove(parent.0, name).map_err(errno));
        answer(reply, removed);
    }
    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut course = lock(&self.0);
        let removed = course.step().and_then(|()| course.model.remove(parent.0, name).map_err(errno));
        answer(reply, removed);
    }
    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        entry(reply, lock(&self.0).make(parent, name, Body::Link(target.to_owned()), 0o777));
    }
    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut course = lock(&self.0);
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let renamed = course
            .step()
            .and_then(|()| course.model.rename((parent.0, name), (new_parent.0, new_name), replace).map_err(errno));
        answer(reply, renamed);
    }
    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut course = lock(&self.0);
        let linked = course.step().and_then(|()| {
            course.model.link(ino.0, parent.0, name).map_err(errno)?;
            course.attributes(ino.0)
        });
        entry(reply, linked);
    }
    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        match lock(&self.0).make(parent, name, Body::File(Arc::default()), mode & !umask) {
            Ok(made) => reply.created(&FOREVER, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(e) => reply.error(e),
        }
    }
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match lock(&self.0).alive() {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(e) => reply.error(e),
        }
    }
    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let course = lock(&self.0);
        match (course.alive(), course.model.node(ino.0).map(|node| &node.body)) {
            (Ok(()), Some(Body::File(bytes))) => {
                let start = (offset as usize).min(bytes.len());
                let end = (start + size as usize).min(bytes.len());
                reply.data(bytes.get(start..end).unwrap_or_default());
            }
            _ => reply.error(Errno::EIO),
        }
    }
    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut course = lock(&self.0);
        match course.step().and_then(|()| course.model.write(ino.0, offset, data).map_err(errno)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(e) => reply.error(e),
        }
    }
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut course = lock(&self.0);
        let synced = course.step().map(|()| course.model.sync_file(ino.0));
        answer(reply, synced);
    }
    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut course = lock(&self.0);
        let synced = course.step().map(|()| course.model.sync_folder(ino.0));
        answer(reply, synced);
    }
    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let course = lock(&self.0);
        let (Ok(()), Some(Body::Folder(names))) = (course.alive(), course.model.node(ino.0).map(|node| &node.body))
        else {
            return reply.error(Errno::EIO);
        };
        // A name's place is its hash, so that a listing goes on where it was whatever was removed meanwhile.
        let place = |name: &OsStr| {
            let hash = blake3::hash(name.as_encoded_bytes());
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default()) >> 2 | 1 << 61
        };
        let mut all: Vec<(u64, &OsStr, u64)> =
            names.iter().map(|(name, node)| (place(name), name.as_os_str(), *node)).collect();
        all.extend([(1, OsStr::new("."), ino.0), (2, OsStr::new(".."), ino.0)]);
        all.sort_unstable();
        for (place, name, number) in all.into_iter().filter(|(place, ..)| *place > offset) {
            let kind = match course.model.node(number).map(|node| &node.body) {
                Some(Body::Folder(_)) => FileType::Directory,
                Some(Body::Link(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }
    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096);
    }
}
