//! How much is here, without a look at every object. Invariant: what was counted in a folder is used again only while the file
//! system says that no name came to it or went since, and only where it says so by itself; everything else is counted anew. So
//! nobody who adds or takes away an object has to tell, and a crash or a stranger's hand makes no figure wrong.
//!
//! A figure in the index that every writer keeps was refused: after a kill it would have to be doubted, and counting a million
//! objects is what it is there to avoid. The file beside the objects is a cache: it proves itself or is empty, is not
//! synced, and may be deleted at any time.

use crate::{contract::StoreError, seen};
use rayon::prelude::*;
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeSet, HashMap},
    fs::Metadata,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

const MAGIC: &[u8; 8] = b"softtly1";
/// Folders that objects are in, by the first byte of their id.
const SHARDS: usize = 256;
/// Numbers that are kept of one folder.
const FIELDS: usize = 8;

/// What the file system says of a folder to which no name came and from which none went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([u64; 6]);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(|t| t as u64);
        let [modified, modified_ns, changed, changed_ns] = times;
        Self([meta.dev(), meta.ino(), modified, modified_ns, changed, changed_ns])
    }
    /// Both times lie so long before this one that the next change will show in them.
    fn settled(&self, at: SystemTime) -> bool {
        let limit = at.checked_sub(seen::RACY).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let limit = limit.map_or(0, |d| d.as_secs() as i64);
        [self.0[2], self.0[4]].into_iter().all(|seconds| (seconds as i64) < limit)
    }
}

/// One folder, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    stamp: Stamp,
    objects: u64,
    bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    root: PathBuf,
    file: PathBuf,
    /// None until somebody asks: then what an earlier life wrote down is read.
    known: Mutex<Option<Vec<Option<Counted>>>>,
}

impl Tally {
    /// Of the store in this folder. Nothing is read yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { root: dir.join("objects"), file: dir.join("tally"), known: Mutex::new(None) }
    }
    /// Objects and their bytes, each object once.
    pub(crate) fn totals(&self) -> Result<(u64, u64), StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = seen::dates(&self.root);
        let mut before = match known.take() {
            Some(known) => known,
            None => read(&self.file),
        };
        if !believed {
            before = vec![None; SHARDS];
        }
        let began = SystemTime::now();
        let counted: Result<Vec<Counted>, StoreError> =
            (0..SHARDS).into_par_iter().map(|shard| self.shard(shard, before.get(shard).copied().flatten())).collect();
        let counted = counted?;
        let sum = |of: fn(&Counted) -> u64| counted.iter().map(of).fold(0, u64::saturating_add);
        let totals = (sum(|c| c.objects), sum(|c| c.bytes));
        let kept = |c: &Counted| (believed && c.stamp.settled(began)).then_some(*c);
        let now: Vec<Option<Counted>> = counted.iter().map(kept).collect();
        let news = now != before && now.iter().any(Option::is_some);
        if let Some(e) = news.then(|| write(&self.file, &now)).and_then(Result::err) {
            tracing::debug!(file = %self.file.display(), "what was counted is not remembered: {e}");
        }
        *known = Some(now);
        Ok(totals)
    }
    /// Bytes on the disk of all of this: objects, logs, index, what stands aside, what is known of folders, and what came so
    /// far of objects on their way that are not in `coming`.
    pub(crate) fn used(&self, coming: &BTreeSet<ObjectId>) -> Result<u64, StoreError> {
        let (_, objects) = self.totals()?;
        let dir = self.file.parent().unwrap_or(Path::new("."));
        let on_its_way = |name: &str| name.parse().is_ok_and(|object: ObjectId| coming.contains(&object));
        let folders = ["logs", "index", "damaged", "seen"].map(|folder| below(&dir.join(folder), &|_| false));
        let partial = below(&dir.join("partial"), &on_its_way);
        Ok(folders.into_iter().chain([partial]).fold(objects, u64::saturating_add))
    }
    /// One folder, counted when something happened to it since.
    fn shard(&self, shard: usize, before: Option<Counted>) -> Result<Counted, StoreError> {
        let path = self.root.join(format!("{shard:02x}"));
        // Before the listing: what comes or goes meanwhile leaves another stamp.
        let meta = std::fs::metadata(&path).map_err(|e| StoreError::io("look at", &path, e))?;
        let stamp = Stamp::of(&meta);
        if let Some(counted) = before.filter(|c| c.stamp == stamp) {
            return Ok(counted);
        }
        let list = |e| StoreError::io("read", &path, e);
        let mut sizes: HashMap<ObjectId, u64> = HashMap::new();
        for entry in std::fs::read_dir(&path).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let Ok(object) = name.strip_suffix(".x").unwrap_or(name).parse::<ObjectId>() else { continue };
            // Swept in the meantime: the next look sees another stamp.
            if let Ok(meta) = entry.metadata() {
                sizes.insert(object, meta.len());
            }
        }
        Ok(Counted { stamp, objects: sizes.len() as u64, bytes: sizes.values().sum() })
    }
}

/// What files below a folder take of the disk, those aside that are `left_out`; a file has holes where nothing came yet. What
/// goes meanwhile takes nothing.
fn below(folder: &Path, left_out: &dyn Fn(&str) -> bool) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => below(&entry.path(), left_out),
        Ok(meta) if !left_out(&entry.file_name().to_string_lossy()) => meta.blocks() * 512,
        _ => 0,
    };
    entries.map(one).fold(0, u64::saturating_add)
}

/// What an earlier life wrote down; nothing of it when that does not prove itself.
fn read(file: &Path) -> Vec<Option<Counted>> {
    let none = || vec![None; SHARDS];
    let Ok(bytes) = std::fs::read(file) else { return none() };
    let Some((head, rest)) = bytes.split_at_checked(MAGIC.len() + 32) else { return none() };
    let proves = head.starts_with(MAGIC) && head.ends_with(blake3::hash(rest).as_bytes());
    if !proves || rest.len() != SHARDS * FIELDS * 8 {
        return none();
    }
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let one = |bytes: &[u8]| {
        let mut fields = [0; FIELDS];
        for (field, bytes) in fields.iter_mut().zip(bytes.chunks_exact(8)) {
            *field = number(bytes);
        }
        let [device, inode, modified, modified_ns, changed, changed_ns, objects, bytes] = fields;
        let stamp = Stamp([device, inode, modified, modified_ns, changed, changed_ns]);
        (inode != 0).then_some(Counted { stamp, objects, bytes })
    };
    rest.chunks_exact(FIELDS * 8).map(one).collect()
}

fn write(file: &Path, known: &[Option<Counted>]) -> std::io::Result<()> {
    let Some(dir) = file.parent() else { return Ok(()) };
    let mut rest = Vec::with_capacity(SHARDS * FIELDS * 8);
    for counted in known {
        let fields = counted.map_or([0; FIELDS], |c| {
            let [device, inode, modified, modified_ns, changed, changed_ns] = c.stamp.0;
            [device, inode, modified, modified_ns, changed, changed_ns, c.objects, c.bytes]
        });
        fields.iter().for_each(|field| rest.extend_from_slice(&field.to_le_bytes()));
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(blake3::hash(&rest).as_bytes());
    bytes.extend_from_slice(&rest);
    let mut temp = tempfile::NamedTempFile::new_in(dir.join("temp"))?;
    temp.write_all(&bytes)?;
    temp.persist(file).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A folder as a store has it, and a place for what is on its way.
    fn folders() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("temp")).unwrap();
        for shard in 0..SHARDS {
            std::fs::create_dir_all(dir.path().join(format!("objects/{shard:02x}"))).unwrap();
        }
        dir
    }
    fn place(dir: &Path, bytes: &[u8], ending: &str) -> PathBuf {
        let name = ObjectId::of(bytes).to_string();
        let path = dir.join("objects").join(&name[..2]).join(format!("{name}{ending}"));
        std::fs::write(&path, bytes).unwrap();
        path
    }
    /// As if nothing had happened to any folder for a minute.
    fn rest(dir: &Path) {
        let known = std::fs::read_dir(dir.join("objects")).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        for folder in known {
            let folder = std::fs::File::open(folder.unwrap().path()).unwrap();
            folder.set_modified(long_ago).unwrap();
        }
    }

    #[test]
    fn each_object_counts_once_and_strays_not_at_all() {
        let dir = folders();
        place(dir.path(), b"one", "");
        place(dir.path(), b"one", ".x");
        place(dir.path(), b"three", ".x");
        std::fs::write(dir.path().join("objects/00/stray"), "much more").unwrap();
        assert_eq!(Tally::new(dir.path()).totals().unwrap(), (2, 8));
    }

    #[test]
    fn what_is_used_is_more_than_objects_and_leaves_out_what_is_counted_elsewhere() {
        let dir = folders();
        place(dir.path(), b"one", "");
        let (log, coming) = (dir.path().join("logs"), ObjectId::of(b"coming"));
        std::fs::create_dir_all(dir.path().join("partial")).unwrap();
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join("records"), vec![1; 8192]).unwrap();
        std::fs::write(dir.path().join("partial").join(coming.to_string()), vec![1; 16384]).unwrap();
        let tally = Tally::new(dir.path());
        let (all, without) = (tally.used(&BTreeSet::new()).unwrap(), tally.used(&BTreeSet::from([coming])).unwrap());
        assert!(without >= 3 + 8192 && all >= without + 16384, "{all} {without}");
    }

    #[test]
    fn what_came_and_went_is_counted_however_soon() {
        let dir = folders();
        let tally = Tally::new(dir.path());
        for round in 0..50u64 {
            let path = place(dir.path(), b"one", "");
            place(dir.path(), &round.to_le_bytes(), "");
            assert_eq!(tally.totals().unwrap(), (round + 2, 8 * (round + 1) + 3));
            std::fs::remove_file(path).unwrap();
            assert_eq!(tally.totals().unwrap().0, round + 1);
        }
    }

    #[test]
    fn a_folder_that_rests_is_not_counted_again_also_by_the_next_life() {
        let dir = folders();
        let file = dir.path().join("tally");
        let path = place(dir.path(), b"one", "");
        rest(dir.path());
        // Its change time is that of just now, so nothing may be kept yet.
        assert_eq!(Tally::new(dir.path()).totals().unwrap(), (1, 3));
        assert!(!file.exists(), "a change within the grain of times would not show");
        let shard = path.parent().unwrap();
        let stamp = Stamp::of(&std::fs::metadata(shard).unwrap());
        let mut known = vec![None; SHARDS];
        let at = usize::from(ObjectId::of(b"one").0[0]);
        known[at] = Some(Counted { stamp, objects: 70, bytes: 7000 });
        write(&file, &known).unwrap();
        assert_eq!(Tally::new(dir.path()).totals().unwrap(), (70, 7000), "it was believed");
        let mut bytes = std::fs::read(&file).unwrap();
        for at in [0, 9, 60, bytes.len() - 1] {
            bytes[at] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(Tally::new(dir.path()).totals().unwrap(), (1, 3), "a flip at {at}");
            bytes[at] ^= 1;
        }
        std::fs::write(&file, &bytes).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(Tally::new(dir.path()).totals().unwrap(), (0, 0), "another stamp");
    }
}
