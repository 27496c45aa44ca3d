//! Whole objects, one file each. Invariant: a file under `objects/` was complete, verified and synced before it got its
//! name; its name never names other bytes. Two variants exist, plain (0444) and executable (0555, `.x`), each made from
//! the other when first needed, because a hard link shares its mode.

use crate::{
    contract::{Layout, StoreError},
    names::Names,
    sizes::Sizes,
    syncs::{self, SYNC_EACH, Syncs},
    tree::{self, Wanted},
};
use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    fs::{File, Metadata},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

mod placer;
mod proof;
mod standing;

pub(crate) use placer::Placer;
use proof::proof;

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
    syncs: Arc<Syncs>,
    /// Objects whose names may be here and not durable yet.
    unsettled: Mutex<Unsettled>,
    /// Files that were hashed in this life, by a part of their object's id: no tree gets another one before it is.
    proved: RwLock<HashSet<u64>>,
}

/// Names that everybody sees and a power cut may take.
#[derive(Debug, Default)]
struct Unsettled {
    /// Named, and the sync of the folder goes on; by how many calls.
    objects: HashMap<ObjectId, u32>,
    /// Named, and the sync of the folder failed, or what came before it.
    failed: HashSet<ObjectId>,
    /// Named in this life while the rest of a fetch still came: nobody has acknowledged them, so nobody has synced them.
    early: HashSet<ObjectId>,
    /// An earlier life ended before it could sync what it had named: it may be any of them.
    all: bool,
}

/// A file that is ready to become an object: complete and verified, its mode set, not yet synced.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) file: PathBuf,
    pub(crate) object: ObjectId,
    pub(crate) executable: bool,
    /// Syncs that had failed before the first of its bytes was written.
    pub(crate) since: u64,
}

/// An object's file as found in a listing.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) object: ObjectId,
    pub(crate) executable: bool,
}

/// What is in a folder of objects: variants, and what else lies about.
type Listed = (Vec<Variant>, Vec<PathBuf>);

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
        let (sizes, syncs) = (Sizes::default(), Arc::default());
        Ok(Self { root, temp, handle, base, names, sizes, exact, gate, counter, room, whole, syncs, unsettled, proved })
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
        // Whoever took it was not this store. Of what was never here no size is known, and a peer that asks for it is not to
        // keep others' sizes from being remembered.
        if self.names.may_have(object) {
            self.sizes.forget(object);
        }
        Ok(None)
    }
    /// Opens one variant.
    pub(crate) fn open_variant(&self, variant: &Variant) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = name(variant.object, variant.executable);
        rustix::fs::openat(&self.handle, name, flags, Mode::empty()).ok().map(File::from)
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
        let shard = |shard: u8| {
            let (mut variants, mut strays) = (Vec::new(), Vec::new());
            self.list_shard(shard, &mut variants, &mut strays)?;
            variants.sort_unstable_by_key(|v| (v.object, v.executable));
            Ok((variants, strays))
        };
        let shards: Result<Vec<Listed>, StoreError> = (0..=255u8).into_par_iter().map(shard).collect();
        // A folder is the first byte of its ids: one after the other they are in order.
        let (variants, strays): (Vec<_>, Vec<_>) = shards?.into_iter().unzip();
        Ok((variants.concat(), strays.concat()))
    }
    /// Variants of the objects whose id begins with this byte, in no order, and what else lies about there.
    pub(crate) fn list_shard(
        &self,
        number: u8,
        variants: &mut Vec<Variant>,
        strays: &mut Vec<PathBuf>,
    ) -> Result<(), StoreError> {
        let shard = self.root.join(format!("{number:02x}"));
        let read = |e| StoreError::io("read", &shard, e);
        for entry in std::fs::read_dir(&shard).map_err(read)? {
            let entry = entry.map_err(read)?;
            let file = entry.file_name();
            let known = file.to_str().unwrap_or_default();
            let (hex, executable) = known.strip_suffix(".x").map_or((known, false), |hex| (hex, true));
            match hex.parse::<ObjectId>() {
                // Where it belongs, and written as it is written here.
                Ok(object) if object.0[0] == number && name(object, executable).get(3..) == Some(known) => {
                    // Also what somebody put back by hand counts as here from now on.
                    self.names.enter(object);
                    variants.push(Variant { object, executable })
                }
                _ => strays.push(entry.path()),
            }
        }
        Ok(())
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
        self.syncs.whole(&self.handle, &self.root)
    }
    /// The syncs that others rely on as well.
    pub(crate) fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }
    /// Makes the names of all objects durable, as they are and are not.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        if self.whole { self.sync_whole() } else { self.sync_shards(0..=255) }
    }
    fn sync_shards(&self, shards: impl IntoIterator<Item = u8>) -> Result<(), StoreError> {
        let shards: Vec<PathBuf> = shards.into_iter().map(|shard| self.root.join(format!("{shard:02x}"))).collect();
        if shards.len() > SYNC_FOLDERS && self.whole { self.sync_whole() } else { self.syncs.folders(&shards) }
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
        let since = self.syncs.since();
        let (all, shards, named) = {
            let unsettled = self.unsettled();
            let named = |o: &ObjectId| unsettled.failed.contains(o) || unsettled.early.contains(o);
            let known = |o: &ObjectId| unsettled.objects.contains_key(o) || named(o);
            let known: Vec<ObjectId> = relied.into_iter().filter(known).collect();
            let shards: BTreeSet<u8> = known.iter().map(|object| object.0[0]).collect();
            let named: HashSet<ObjectId> = known.into_iter().filter(named).collect();
            (unsettled.all, shards, named)
        };
        if !all && shards.is_empty() {
            return Ok(());
        }
        if all {
            self.sync_names()?
        } else {
            self.sync_shards(shards)?
        }
        self.syncs.none_failed(since, &self.root)?;
        let mut unsettled = self.unsettled();
        unsettled.all &= !all;
        unsettled.failed.retain(|object| !named.contains(object));
        unsettled.early.retain(|object| !named.contains(object));
        Ok(())
    }
    /// Whether every name is durable; makes it so where it is not.
    pub(crate) fn settle_all(&self) -> bool {
        let mut unsettled = self.unsettled();
        let none = unsettled.failed.is_empty() && unsettled.early.is_empty();
        if !unsettled.all && unsettled.objects.is_empty() && none {
            return true;
        }
        let settled = self.sync_names().is_ok();
        if settled {
            *unsettled = Unsettled::default();
        }
        settled
    }
    /// Gives synced files of one chunk their names, and leaves it to whoever relies on them to make those durable. Answers which
    /// got theirs; another one stays where it is.
    pub(crate) fn name_early(&self, files: &[(ObjectId, PathBuf, u64)]) -> HashSet<ObjectId> {
        // Known as such before anybody can see a name.
        self.unsettled().early.extend(files.iter().map(|(object, ..)| *object));
        let mut named = HashSet::with_capacity(files.len());
        for (object, file, size) in files {
            let since = self.sizes.since();
            if let Err(e) = self.name_one(file, *object, false) {
                tracing::warn!("objects get their names when all of their fetch is here: {e}");
                break;
            }
            self.sizes.saw(since, *object, *size);
            self.prove(*object, false);
            named.insert(*object);
        }
        named
    }
    #[cfg(test)]
    pub(crate) fn unsettled_early(&self) -> usize {
        self.unsettled().early.len()
    }
    /// Those that were not named just now, by this life and for a fetch that still goes on.
    pub(crate) fn named_before<'a>(&self, layouts: &'a [Layout]) -> Vec<&'a Layout> {
        let unsettled = self.unsettled();
        layouts.iter().filter(|l| !unsettled.early.contains(&l.object)).collect()
    }
    /// Gives complete files their names, durably. One sync of the file system replaces thousands of small ones.
    pub(crate) fn admit(&self, arrivals: &[Arrival]) -> Result<(), StoreError> {
        let Some(since) = arrivals.iter().map(|arrival| arrival.since).min() else { return Ok(()) };
        if arrivals.len() > SYNC_EACH && self.whole {
            self.sync_whole()?;
        } else if arrivals.len() > SYNC_EACH {
            syncs::sync_each(&arrivals.iter().map(|a| &a.file).collect::<Vec<_>>())?;
        } else {
            arrivals.iter().try_for_each(|arrival| syncs::sync(&arrival.file))?;
        }
        self.syncs.none_failed(since, &self.temp)?;
        // Known as such before anybody can see a name.
        arrivals.iter().for_each(|arrival| *self.unsettled().objects.entry(arrival.object).or_default() += 1);
        let named = self.name_all(arrivals).and_then(|()| self.syncs.none_failed(since, &self.root));
        let mut unsettled = self.unsettled();
        for arrival in arrivals {
            if let Entry::Occupied(mut calls) = unsettled.objects.entry(arrival.object) {
                *calls.get_mut() -= 1;
                if *calls.get() == 0 {
                    calls.remove();
                }
            }
            // They stay unsettled: whoever finds them here syncs again, or fails as well.
            if named.is_err() {
                unsettled.failed.insert(arrival.object);
            }
        }
        named
    }
    fn name_all(&self, arrivals: &[Arrival]) -> Result<(), StoreError> {
        let mut folders = BTreeSet::new();
        for arrival in arrivals {
            self.name_one(&arrival.file, arrival.object, arrival.executable)?;
            folders.insert(arrival.object.0[0]);
        }
        self.sync_shards(folders)
    }
    fn name_one(&self, file: &Path, object: ObjectId, executable: bool) -> Result<(), StoreError> {
        self.names.enter(object);
        // Both names relative to open folders; one that is elsewhere is absolute and stays so.
        let below = file.strip_prefix(self.root.parent().unwrap_or(Path::new("."))).unwrap_or(file);
        rustix::fs::renameat(&self.base, below, &self.handle, name(object, executable))
            .map_err(|e| StoreError::io("rename", file, e))
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
        let mut unsettled = self.unsettled();
        unsettled.failed.remove(&object);
        unsettled.early.remove(&object);
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
        let (temp, since) = (self.temp(), self.syncs.since());
        let from = File::open(&have).map_err(|e| StoreError::io("open", &have, e))?;
        let to = File::create_new(&temp).map_err(|e| StoreError::io("create", &temp, e))?;
        if !clone(&from, &to) {
            self.room_for(file.size)?;
            copy(&from, &to).map_err(|e| StoreError::io("copy", &temp, e))?;
        }
        to.set_permissions(mode).map_err(|e| StoreError::io("set mode of", &temp, e))?;
        self.admit(&[Arrival { file: temp, object: file.object, executable: file.executable, since }])
    }
    /// Brings a variant's mode back to what it must be; a link to it may have been used to change it.
    fn mend_mode(&self, path: &Path, executable: bool) -> Result<(), StoreError> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mode = std::fs::Permissions::from_mode(tree::mode(executable));
        std::fs::set_permissions(path, mode).map_err(|e| StoreError::io("set mode of", path, e))
    }
    /// Checks a variant's mode and mends it.
    pub(crate) fn check_mode(&self, variant: &Variant, found: &Metadata, path: &Path) -> Result<(), StoreError> {
        if tree::bits(found) == tree::mode(variant.executable) {
            return Ok(());
        }
        // Renamed in the meantime: nothing to mend under this name.
        self.mend_mode(path, variant.executable).or_else(|e| if is_gone(&e) { Ok(()) } else { Err(e) })
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

/// Has one file share the blocks of another, where the file system can.
fn clone(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Bytes of one file into another: inside the kernel, else by hand.
fn copy(from: &File, to: &File) -> std::io::Result<()> {
    let mut source = from;
    // The standard library tries copy_file_range first and falls back by itself.
    std::io::copy(&mut source, &mut { to }).map(drop)
}

/// Whether somebody took it away meanwhile.
fn is_gone(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests;
