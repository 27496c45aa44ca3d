//! Whole objects, one file each. Invariant: a file under `objects/` was complete, verified and synced before it got its
//! name; its name never names other bytes. Two variants exist, plain (0444) and executable (0555, `.x`), each made from
//! the other when first needed, because a hard link shares its mode.

use crate::{
    contract::StoreError,
    copies::Originals,
    names::Names,
    sizes::Sizes,
    syncs::{self, SYNC_EACH},
    tree::{self, Place, Placed, Wanted},
};
use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Folders that one sync of the file system replaces.
const SYNC_FOLDERS: usize = 8;

/// The folder of objects and the folder for files on their way into it.
#[derive(Debug)]
pub(crate) struct Objects {
    root: PathBuf,
    temp: PathBuf,
    /// The folder of objects: names below it are short, so that the kernel has little to walk; and for syncs of the whole
    /// file system.
    handle: File,
    /// The folder of the store, above both.
    base: File,
    names: Arc<Names>,
    sizes: Sizes,
    /// A new file gets exactly the mode that it is made with: no umask, no default rights of the folder.
    exact: bool,
    /// Held while links are made; exclusively while a variant changes its name and mode or a sweep removes.
    pub(crate) gate: RwLock<()>,
    counter: AtomicU64,
    room: Room,
    /// One sync makes all of the file system durable.
    whole: bool,
    /// Objects whose names may be here and not durable yet.
    unsettled: Mutex<Unsettled>,
    /// Files that were hashed in this life, by a part of their object's id: no tree gets another one before it is.
    proved: RwLock<HashSet<u64>>,
}

fn proof(object: ObjectId, executable: bool) -> u64 {
    let part = object.0.last_chunk().copied().map_or(0, u64::from_le_bytes);
    part ^ u64::from(executable)
}

/// Names that everybody sees and a power cut may take.
#[derive(Debug, Default)]
struct Unsettled {
    /// Named, and the sync of the folder goes on or failed; by how many calls.
    objects: HashMap<ObjectId, u32>,
    /// An earlier life ended before it could sync what it had named: it may be any of them.
    all: bool,
}

/// A file that is ready to become an object: complete and verified, its mode set, not yet synced.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) file: PathBuf,
    pub(crate) object: ObjectId,
    pub(crate) executable: bool,
}

/// An object's file as found in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) object: ObjectId,
    pub(crate) executable: bool,
}

/// Free space that is never touched: a full root file system stops more than this program.
#[derive(Debug)]
struct Room {
    reserve: u64,
    /// Bytes that may be written before asking the file system again.
    step: u64,
    left: AtomicU64,
}

impl Objects {
    /// Opens or makes the folders; what was on its way in an earlier life is dropped.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let (root, temp) = (dir.join("objects"), dir.join("temp"));
        if temp.exists() {
            std::fs::remove_dir_all(&temp).map_err(|e| StoreError::io("clear", &temp, e))?;
        }
        std::fs::create_dir_all(&temp).map_err(|e| StoreError::io("create", &temp, e))?;
        for shard in 0..=255u8 {
            let shard = root.join(format!("{shard:02x}"));
            std::fs::create_dir_all(&shard).map_err(|e| StoreError::io("create", &shard, e))?;
        }
        tree::sync_dir(&root)?;
        let handle = File::open(&root).map_err(|e| StoreError::io("open", &root, e))?;
        let base = File::open(dir).map_err(|e| StoreError::io("open", dir, e))?;
        let exact = keeps_modes(&temp)?;
        let names = Names::open(&root);
        let stat = rustix::fs::fstatvfs(&handle).map_err(|e| StoreError::io("measure", &root, e))?;
        let reserve = (stat.f_blocks * stat.f_frsize / 20).min(256 << 20);
        let room = Room { reserve, step: (reserve / 4).min(16 << 20), left: AtomicU64::new(0) };
        let (gate, counter) = (RwLock::new(()), AtomicU64::new(0));
        let (whole, unsettled, proved) = (syncs::has_whole(&handle), Mutex::default(), RwLock::default());
        let sizes = Sizes::default();
        Ok(Self { root, temp, handle, base, names, sizes, exact, gate, counter, room, whole, unsettled, proved })
    }

    /// Where a variant stands.
    pub(crate) fn path(&self, object: ObjectId, executable: bool) -> PathBuf {
        self.root.join(name(object, executable))
    }
    /// What the file system says of a variant, if it is here.
    fn stat(&self, object: ObjectId, executable: bool) -> Option<Stat> {
        rustix::fs::statat(&self.handle, name(object, executable), AtFlags::SYMLINK_NOFOLLOW).ok()
    }
    /// A new file with exactly this mode, below the folder of the store.
    pub(crate) fn create(&self, dir: BorrowedFd<'_>, name: &str, mode: u32) -> rustix::io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?;
        if !self.exact {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        Ok(file.into())
    }
    /// A new name for a file on its way.
    fn temp(&self) -> PathBuf {
        self.temp.join(self.counter.fetch_add(1, Ordering::Relaxed).to_string())
    }
    /// A new file on its way, with exactly this mode.
    pub(crate) fn create_temp(&self, mode: u32) -> Result<(PathBuf, File), StoreError> {
        let name = format!("temp/{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let path = self.temp.with_file_name(&name);
        let file = self.create(self.base.as_fd(), &name, mode).map_err(|e| StoreError::io("create", &path, e))?;
        Ok((path, file))
    }
    /// Opens either variant.
    pub(crate) fn open_object(&self, object: ObjectId) -> Result<Option<File>, StoreError> {
        // Twice, because a variant may change its name between the two looks.
        for executable in [false, true, false] {
            let path = self.path(object, executable);
            match File::options().read(true).custom_flags(libc_nofollow()).open(&path) {
                Ok(file) => return Ok(Some(file)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("open", &path, e)),
            }
        }
        // Whoever took it was not this store.
        self.sizes.forget(object);
        Ok(None)
    }
    /// The size of an object that is here.
    pub(crate) fn size(&self, object: ObjectId) -> Option<u64> {
        if let Some(size) = self.sizes.get(object) {
            return Some(size);
        }
        if !self.names.may_have(object) {
            return None;
        }
        let since = self.sizes.since();
        // Twice, because a variant may change its name between the two looks.
        let size = [false, true, false].into_iter().find_map(|x| Some(self.stat(object, x)?.st_size as u64))?;
        self.sizes.saw(since, object, size);
        Some(size)
    }
    /// Looks on the disk whether an object is here, whatever is known: before anybody acknowledges it without writing it. This
    /// store did not take it away, but somebody else may have.
    pub(crate) fn stands(&self, object: ObjectId) -> bool {
        self.sizes.drop(object);
        self.has(object)
    }
    /// An object was set aside: it is looked for again.
    pub(crate) fn doubt(&self, object: ObjectId) {
        self.sizes.forget(object);
    }
    /// Whether an object is here.
    pub(crate) fn has(&self, object: ObjectId) -> bool {
        self.size(object).is_some()
    }
    /// Every variant, ascending by object, and what else lies about.
    pub(crate) fn list(&self) -> Result<(Vec<Variant>, Vec<PathBuf>), StoreError> {
        // Whoever lists wants to know what the disk says.
        self.sizes.forget_all();
        let (mut variants, mut strays) = (Vec::new(), Vec::new());
        for shard in 0..=255u8 {
            self.list_shard(shard, &mut variants, &mut strays)?;
        }
        variants.sort_by_key(|v| (v.object, v.executable));
        Ok((variants, strays))
    }
    /// Variants of the objects whose id begins with this byte, in no order, and what else lies about there.
    pub(crate) fn list_shard(
        &self,
        shard: u8,
        variants: &mut Vec<Variant>,
        strays: &mut Vec<PathBuf>,
    ) -> Result<(), StoreError> {
        let shard = self.root.join(format!("{shard:02x}"));
        let read = |e| StoreError::io("read", &shard, e);
        for entry in std::fs::read_dir(&shard).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let (hex, executable) = name.strip_suffix(".x").map_or((name, false), |hex| (hex, true));
            match hex.parse() {
                Ok(object) if self.path(object, executable) == path => {
                    // Also what somebody put back by hand counts as here from now on.
                    self.names.enter(object);
                    variants.push(Variant { object, executable })
                }
                _ => strays.push(path),
            }
        }
        Ok(())
    }

    /// This file's bytes were hashed just now, and are right.
    pub(crate) fn prove(&self, object: ObjectId, executable: bool) {
        self.proved.write().unwrap_or_else(PoisonError::into_inner).insert(proof(object, executable));
    }
    /// A file may rot while nobody runs: what this life has not hashed yet, is hashed before a tree gets it.
    fn proven(&self, file: &Wanted, path: &Path) -> Result<(), StoreError> {
        let known = proof(file.object, file.executable);
        if self.proved.read().unwrap_or_else(PoisonError::into_inner).contains(&known) {
            return Ok(());
        }
        let mut open = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
        if hash(&mut open, |_| Ok(()), path)? == file.object {
            self.prove(file.object, file.executable);
            return Ok(());
        }
        let what = "its bytes are not those of its name; set aside, fetch it again".to_owned();
        Err(StoreError::Damaged { path: path.to_owned(), object: Some(file.object), what })
    }
    /// Asks for room for so many bytes.
    pub(crate) fn room_for(&self, bytes: u64) -> Result<(), StoreError> {
        let taken = self.room.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            return Ok(());
        }
        let stat = rustix::fs::fstatvfs(&self.handle).map_err(|e| StoreError::io("measure", &self.root, e))?;
        if stat.f_bavail * stat.f_frsize < self.room.reserve.saturating_add(bytes) {
            return Err(StoreError::Full { needed: bytes, path: self.root.clone() });
        }
        self.room.left.store(self.room.step, Ordering::Release);
        Ok(())
    }
    /// Whether one sync makes everything on this file system durable.
    pub(crate) fn syncs_whole(&self) -> bool {
        self.whole
    }
    fn sync_whole(&self) -> Result<(), StoreError> {
        rustix::fs::syncfs(&self.handle).map_err(|e| StoreError::io("sync", &self.root, e))
    }
    /// Makes the names of all objects durable, as they are and are not.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        if self.whole { self.sync_whole() } else { self.sync_shards(0..=255) }
    }
    fn sync_shards(&self, shards: impl IntoIterator<Item = u8>) -> Result<(), StoreError> {
        let shards: Vec<PathBuf> = shards.into_iter().map(|shard| self.root.join(format!("{shard:02x}"))).collect();
        if shards.len() > SYNC_FOLDERS && self.whole { self.sync_whole() } else { syncs::sync_each(&shards) }
    }
    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// An earlier life did not end in order: none of the names that it left may be relied on before a sync.
    pub(crate) fn unsettle(&self) {
        self.unsettled().all = true;
    }
    /// Before anybody acknowledges what relies on these: where another call has named one and is about to sync that, or
    /// failed to, or an earlier life did not come to it, it is synced now.
    pub(crate) fn settle(&self, relied: impl IntoIterator<Item = ObjectId>) -> Result<(), StoreError> {
        let (all, shards) = {
            let unsettled = self.unsettled();
            let known = |object: &ObjectId| unsettled.objects.contains_key(object);
            let shards: BTreeSet<u8> = relied.into_iter().filter(known).map(|object| object.0[0]).collect();
            (unsettled.all, shards)
        };
        if all {
            self.sync_names()?;
            self.unsettled().all = false;
            return Ok(());
        }
        self.sync_shards(shards)
    }
    /// Whether every name is durable; makes it so where it is not.
    pub(crate) fn settle_all(&self) -> bool {
        let mut unsettled = self.unsettled();
        if !unsettled.all && unsettled.objects.is_empty() {
            return true;
        }
        let settled = self.sync_names().is_ok();
        if settled {
            *unsettled = Unsettled::default();
        }
        settled
    }
    /// Gives complete files their names, durably. One sync of the file system replaces thousands of small ones.
    pub(crate) fn admit(&self, arrivals: &[Arrival]) -> Result<(), StoreError> {
        if arrivals.len() > SYNC_EACH && self.whole {
            self.sync_whole()?;
        } else if arrivals.len() > SYNC_EACH {
            syncs::sync_each(&arrivals.iter().map(|a| &a.file).collect::<Vec<_>>())?;
        } else {
            arrivals.iter().try_for_each(|arrival| syncs::sync(&arrival.file))?;
        }
        // Known as such before anybody can see a name.
        arrivals.iter().for_each(|arrival| *self.unsettled().objects.entry(arrival.object).or_default() += 1);
        let mut folders = BTreeSet::new();
        let above = self.root.parent().unwrap_or(Path::new("."));
        for arrival in arrivals {
            self.names.enter(arrival.object);
            // Both names relative to open folders; one that is elsewhere is absolute and stays so.
            let file = arrival.file.strip_prefix(above).unwrap_or(&arrival.file);
            rustix::fs::renameat(&self.base, file, &self.handle, name(arrival.object, arrival.executable))
                .map_err(|e| StoreError::io("rename", &arrival.file, e))?;
            folders.insert(arrival.object.0[0]);
        }
        // When this fails they stay unsettled: whoever finds them here syncs again, or fails as well.
        self.sync_shards(folders)?;
        let mut unsettled = self.unsettled();
        for arrival in arrivals {
            if let Entry::Occupied(mut calls) = unsettled.objects.entry(arrival.object) {
                *calls.get_mut() -= 1;
                if *calls.get() == 0 {
                    calls.remove();
                }
            }
        }
        Ok(())
    }
    /// Removes both variants. Answers the bytes that no hard link keeps.
    pub(crate) fn remove(&self, object: ObjectId) -> Result<u64, StoreError> {
        let mut freed = 0;
        for executable in [false, true] {
            let path = self.path(object, executable);
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            let removed = std::fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e));
            self.sizes.forget(object);
            removed?;
            freed += if meta.nlink() == 1 { meta.len() } else { 0 };
        }
        self.sizes.forget(object);
        Ok(freed)
    }

    /// Makes the variant that is not there from the one that is.
    fn make_variant(&self, file: &Wanted) -> Result<(), StoreError> {
        let (have, want) = (self.path(file.object, !file.executable), self.path(file.object, file.executable));
        let mode = std::fs::Permissions::from_mode(tree::mode(file.executable));
        // Whatever stands under that name next, is another file.
        self.proved.write().unwrap_or_else(PoisonError::into_inner).remove(&proof(file.object, file.executable));
        {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if want.exists() {
                return Ok(());
            }
            let Ok(meta) = std::fs::symlink_metadata(&have) else {
                self.sizes.forget(file.object);
                return Err(StoreError::Missing(file.object));
            };
            if meta.nlink() == 1 {
                // Nobody uses the other variant: it becomes this one, and costs nothing. Whoever lists the folder just now
                // may see neither name.
                self.names.enter(file.object);
                std::fs::set_permissions(&have, mode).map_err(|e| StoreError::io("set mode of", &have, e))?;
                return std::fs::rename(&have, &want).map_err(|e| StoreError::io("rename", &have, e));
            }
        }
        let temp = self.temp();
        let from = File::open(&have).map_err(|e| StoreError::io("open", &have, e))?;
        let to = File::create_new(&temp).map_err(|e| StoreError::io("create", &temp, e))?;
        self.room_for(file.size)?;
        copy(&from, &to).map_err(|e| StoreError::io("copy", &temp, e))?;
        to.set_permissions(mode).map_err(|e| StoreError::io("set mode of", &temp, e))?;
        self.admit(&[Arrival { file: temp, object: file.object, executable: file.executable }])
    }
    /// Brings a variant's mode back to what it must be; a link to it may have been used to change it.
    fn mend_mode(&self, path: &Path, executable: bool) -> Result<(), StoreError> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mode = std::fs::Permissions::from_mode(tree::mode(executable));
        std::fs::set_permissions(path, mode).map_err(|e| StoreError::io("set mode of", path, e))
    }
    /// Checks modes and mends them.
    pub(crate) fn check_mode(&self, variant: &Variant) -> Result<(), StoreError> {
        let path = self.path(variant.object, variant.executable);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if tree::bits(&meta) != tree::mode(variant.executable) => {
                self.mend_mode(&path, variant.executable)
            }
            _ => Ok(()),
        }
    }
}

/// The name of a variant below the folder of objects.
fn name(object: ObjectId, executable: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = String::with_capacity(69);
    for (at, byte) in object.0.iter().enumerate() {
        let digits = [byte >> 4, byte & 15].map(|d| char::from(DIGITS[usize::from(d)]));
        name.extend(digits);
        if at == 0 {
            name.push('/');
            name.extend(digits);
        }
    }
    if executable {
        name.push_str(".x");
    }
    name
}

/// Whether a file in this folder gets exactly the mode that it is made with. Then nobody needs to set it after each.
fn keeps_modes(dir: &Path) -> Result<bool, StoreError> {
    let probe = dir.join("mode");
    let create = |e| StoreError::io("create", &probe, e);
    let file = File::options().write(true).create_new(true).mode(tree::mode(true)).open(&probe).map_err(create)?;
    let exact = tree::bits(&file.metadata().map_err(create)?) == tree::mode(true);
    std::fs::remove_file(&probe).map_err(create)?;
    Ok(exact)
}

fn libc_nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

/// Bytes of one file into another: shared blocks where the file system can, else inside the kernel, else by hand.
/// Answers whether blocks are shared.
fn copy(from: &File, to: &File) -> std::io::Result<bool> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(true);
    }
    let mut source = from;
    // The standard library tries copy_file_range first and falls back by itself.
    std::io::copy(&mut source, &mut { to })?;
    Ok(false)
}

/// Places files of one tree. Links stop being tried once the target turned out to be on another file system.
pub(crate) struct Placer<'a> {
    objects: &'a Objects,
    no_links: AtomicBool,
}

impl<'a> Placer<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        Self { objects, no_links: AtomicBool::new(false) }
    }
    /// Tries to link; None when links cannot do it here.
    fn link(&self, dir: BorrowedFd<'_>, name: &str, from: &str) -> Result<Option<()>, StoreError> {
        use rustix::io::Errno;
        if self.no_links.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let _gate = self.objects.gate.read().unwrap_or_else(PoisonError::into_inner);
        match rustix::fs::linkat(&self.objects.handle, from, dir, name, AtFlags::empty()) {
            Ok(()) => Ok(Some(())),
            // A file may have about 65,000 links; others of this tree may still be linked.
            Err(Errno::MLINK) => Ok(None),
            Err(Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {
                self.no_links.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(e) => Err(StoreError::io("link", &self.objects.root.join(from), e)),
        }
    }
}

impl Place for Placer<'_> {
    fn place(&self, dir: BorrowedFd<'_>, to: &str, file: &Wanted) -> Result<Placed, StoreError> {
        let from = name(file.object, file.executable);
        let path = || self.objects.root.join(&from);
        // The variant may be changed away by another tree between two looks; more than a few times is a fault.
        for _ in 0..8 {
            let Some(stat) = self.objects.stat(file.object, file.executable) else {
                self.objects.make_variant(file)?;
                continue;
            };
            if stat.st_size as u64 != file.size {
                let what = format!("it has {} bytes, the manifest says {}", stat.st_size, file.size);
                return Err(StoreError::Damaged { path: path(), object: Some(file.object), what });
            }
            match self.objects.proven(file, &path()) {
                Ok(()) => {}
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
            if stat.st_mode & 0o7777 != tree::mode(file.executable) {
                self.objects.mend_mode(&path(), file.executable)?;
            }
            match self.link(dir, to, &from) {
                Ok(Some(())) => return Ok(Placed::Linked),
                Ok(None) => {}
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
            let Some(source) = self.objects.open_object(file.object)? else { continue };
            let copied = tree::create(dir, to, tree::mode(file.executable))
                .map_err(|e| StoreError::io("create", Path::new(to), e))?;
            let shared = copy(&source, &copied).map_err(|e| StoreError::io("copy", &path(), e))?;
            return Ok(if shared { Placed::Cloned } else { Placed::Copied });
        }
        let what = "its variants keep changing; try again".to_owned();
        Err(StoreError::Damaged { path: path(), object: Some(file.object), what })
    }
}

impl Originals for Placer<'_> {
    fn is_own(&self, file: &Wanted, found: &rustix::fs::Stat) -> bool {
        let own = self.objects.stat(file.object, file.executable);
        own.is_some_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
    fn has(&self, object: ObjectId) -> bool {
        self.objects.has(object)
    }
}

/// Hashes what an open file holds. Large files keep all cores busy.
pub(crate) fn hash(
    file: &mut File,
    mut progress: impl FnMut(u64) -> Result<(), StoreError>,
    path: &Path,
) -> Result<ObjectId, StoreError> {
    let read = |e| StoreError::io("read", path, e);
    let len = file.metadata().map_err(read)?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(usize::MAX).clamp(1, 2 << 20)];
    loop {
        let got = file.read(&mut buffer).map_err(read)?;
        if got == 0 {
            return Ok(ObjectId(*hasher.finalize().as_bytes()));
        }
        progress(got as u64)?;
        let part = buffer.get(..got).unwrap_or_default();
        if got > 256 << 10 {
            hasher.update_rayon(part)
        } else {
            hasher.update(part)
        };
    }
}

/// Objects and bytes of a listing, each object once.
pub(crate) fn totals(objects: &Objects, variants: &[Variant]) -> (u64, u64) {
    let unique: BTreeSet<ObjectId> = variants.iter().map(|v| v.object).collect();
    let bytes = unique.par_iter().filter_map(|o| objects.size(*o)).sum();
    (unique.len() as u64, bytes)
}

#[cfg(test)]
mod tests;
