//! Chunk → where its bytes are, in sled. The only file that touches sled. Invariant: nothing here is truth: every value
//! proves itself, every panic, error, hang or mismatch only means "broken", and a broken index is moved aside and filled
//! again from the layouts. While it is opened or filled, a table of the layouts log stands in for it, and it is nobody's
//! but the filler's.
//!
//! Why so careful: sled 0.34.7's flush is no fsync, large batches eat memory, and a flipped bit makes keys vanish
//! silently or panics. So: batches of at most 100, the `db` file is synced by us after each flush, and a sealed digest
//! of the files tells at the next opening whether they are what a clean end left.

use crate::{
    contract::{Layout, StoreError},
    journal::{self, Log},
    layouts,
    objects::Objects,
    table::Table,
};
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
};
use std::{
    fs::File,
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// Larger batches make sled keep pages alive without bound.
const BATCH: usize = 100;
/// What sled may cache; it is a wish, so it is small.
const CACHE: u64 = 16 << 20;
/// Opening reads the log of the index; five million entries took 3.4 s.
const DEADLINE: Duration = Duration::from_secs(60);
const POSITION: &[u8] = b"position";

/// Where a chunk's bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) object: ObjectId,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// How far the layouts log is in the index: which log, and behind which record.
pub(crate) type Mark = ([u8; 8], u64);

/// What a folder looked like before sled touched it.
#[derive(Debug)]
pub(crate) struct Found {
    existed: bool,
    seal: Option<Vec<u8>>,
}

/// What an opening of sled found.
#[derive(Debug)]
pub(crate) struct Opened {
    /// How far it may be believed; None when it must be filled from the start.
    pub(crate) mark: Option<Mark>,
    /// Why it was begun anew.
    pub(crate) broken: Option<&'static str>,
}

/// The index.
pub(crate) struct Index {
    dir: PathBuf,
    aside: PathBuf,
    db: RwLock<Option<sled::Db>>,
    broken: AtomicBool,
    /// Answers as long as it is here.
    table: RwLock<Option<Arc<Table>>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({})", self.dir.display())
    }
}

fn proof(key: &[u8], value: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softservice/index/1\0").update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
    let mut proof = [0; 16];
    hasher.finalize_xof().fill(&mut proof);
    proof
}

fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    [proof(key, value).as_slice(), value].concat()
}

fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (mark, value) = bytes.split_first_chunk::<16>()?;
    (proof(key, value) == *mark).then_some(value)
}

impl Location {
    fn encode(&self, chunk: ChunkId) -> Vec<u8> {
        let mut value = self.object.0.to_vec();
        value.extend_from_slice(&self.offset.to_le_bytes());
        value.extend_from_slice(&self.len.to_le_bytes());
        seal(&chunk.0, &value)
    }
    fn decode(chunk: &[u8], bytes: &[u8]) -> Option<Self> {
        let value = unseal(chunk, bytes)?;
        let (object, rest) = value.split_first_chunk::<32>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let len = u32::from_le_bytes(rest.try_into().ok()?);
        Some(Self { object: ObjectId(*object), offset: u64::from_le_bytes(*offset), len })
    }
}

/// The chunks of a layout with their places. An object that is its own only chunk needs no entry.
pub(crate) fn places(layout: &Layout) -> impl Iterator<Item = (ChunkRef, Location)> + '_ {
    let mut offset = 0;
    let skip = if layout.chunks.len() == 1 { 1 } else { 0 };
    layout.chunks.iter().skip(skip).map(move |chunk| {
        let location = Location { object: layout.object, offset, len: chunk.len };
        offset += u64::from(chunk.len);
        (*chunk, location)
    })
}

/// Runs what may panic or hang on its own thread; None when it did either.
fn guarded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("index".into()).spawn(move || {
        if let Ok(answer) = catch_unwind(AssertUnwindSafe(work)) {
            let _ = send.send(answer);
        }
    });
    thread.ok()?;
    receive.recv_timeout(DEADLINE).ok()
}

fn open_sled(dir: PathBuf) -> Option<sled::Db> {
    guarded(move || {
        let begun = Instant::now();
        loop {
            let db = sled::Config::new()
                .path(&dir)
                .mode(sled::Mode::LowSpace)
                .cache_capacity(CACHE)
                .flush_every_ms(None)
                .open();
            match db {
                Ok(db) => return Some(db),
                // sled gives its lock back some time after the last handle is dropped.
                Err(sled::Error::Io(e)) if e.to_string().contains("lock") && begun.elapsed() < DEADLINE / 6 => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) => {
                    tracing::warn!(index = %dir.display(), "cannot open the index: {e}");
                    return None;
                }
            }
        }
    })
    .flatten()
}

/// One digest over everything in the folder.
fn digest(dir: &Path) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let mut open = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { open.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let name = path.strip_prefix(dir).unwrap_or(&path).as_os_str().as_encoded_bytes().to_vec();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(&name);
        let mut file = File::open(&path)?;
        hasher.update(&file.metadata()?.len().to_le_bytes());
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            };
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

impl Found {
    /// Whether the last life ended in order.
    pub(crate) fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }
}

impl Index {
    /// Takes note of the folder. Until [`Self::take_over`] the table answers, which has what the log has.
    pub(crate) fn new(dir: &Path, aside: &Path, table: Table) -> Result<(Self, Found), StoreError> {
        let sealed = dir.with_extension("seal");
        let existed = dir.exists();
        let seal = if existed { std::fs::read(&sealed).ok() } else { None };
        // From here on the store changes, and sled may write at any time.
        match std::fs::remove_file(&sealed) {
            Ok(()) => crate::tree::sync_dir(dir.parent().unwrap_or(Path::new(".")))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("remove", &sealed, e)),
        }
        let index = Self {
            dir: dir.to_owned(),
            aside: aside.to_owned(),
            db: RwLock::new(None),
            broken: AtomicBool::new(false),
            table: RwLock::new(Some(Arc::new(table))),
        };
        Ok((index, Found { existed, seal }))
    }
    /// Opens sled, if its files are what the last clean end left; else begins an empty one.
    pub(crate) fn open(&self, found: &Found) -> Result<Opened, StoreError> {
        let intact = found.seal.as_ref().map(|seal| digest(&self.dir).is_ok_and(|d| d.as_slice() == seal));
        if intact != Some(false)
            && let Some(db) = open_sled(self.dir.clone())
        {
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db);
            let mark = self.mark();
            if mark.is_some() || !found.existed {
                return Ok(Opened { mark, broken: None });
            }
            if !self.is_broken() && self.is_unmarked() {
                // The life that filled it for the first time was cut short. What it entered may be gone since.
                self.renew()?;
                return Ok(Opened { mark: None, broken: None });
            }
        }
        let broken = match intact {
            Some(false) => "its files are not what the last clean end left",
            _ => "it does not open, or does not know how far it goes",
        };
        self.renew()?;
        Ok(Opened { mark: None, broken: Some(broken) })
    }
    /// What stands in for it now.
    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// From now on a table of the log answers. One that does already stays, because it was told what is in no other. The
    /// log is to be held.
    pub(crate) fn stand_in(&self, log: &Log, objects: &Arc<Objects>) -> Result<Arc<Table>, StoreError> {
        if let Some(table) = self.table() {
            return Ok(table);
        }
        let table = Arc::new(layouts::table(log, objects)?);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&table));
        Ok(table)
    }
    /// From now on sled answers: it has all that the table has. To be called under the lock of the log.
    pub(crate) fn take_over(&self) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Moves what is there aside and begins an empty index.
    pub(crate) fn renew(&self) -> Result<(), StoreError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = db.take() {
            // Dropping may panic or hang as well; its thread is left to itself then.
            let _ = guarded(move || drop(old));
        }
        if self.dir.exists() {
            let kept = journal::set_aside(&self.dir, &self.aside)?;
            // It can be filled again at any time, so a second copy of a broken one is of no use to anybody.
            let _ = std::fs::remove_dir_all(kept);
        }
        let Some(fresh) = open_sled(self.dir.clone()) else {
            let what = "a fresh index does not open".to_owned();
            return Err(StoreError::Damaged { path: self.dir.clone(), object: None, what });
        };
        *db = Some(fresh);
        self.broken.store(false, Ordering::Release);
        Ok(())
    }

    /// Opens what was just filled again, because sled keeps in memory what it wrote, whatever it was told.
    pub(crate) fn reopen(&self) {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = db.take() {
            let _ = guarded(move || drop(old));
        }
        *db = open_sled(self.dir.clone());
        if db.is_none() {
            self.give_up(&"it does not open again");
        }
    }
    /// Whether something went wrong since it was opened or renewed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
    /// Whether it cannot answer: it broke, and nothing stands in for it yet.
    pub(crate) fn is_dumb(&self) -> bool {
        self.is_broken() && self.table.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }
    fn give_up(&self, why: &dyn std::fmt::Display) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            tracing::warn!(index = %self.dir.display(), "index is broken and will be rebuilt: {why}");
        }
    }
    /// Breaks it, as a disk would.
    #[cfg(test)]
    pub(crate) fn break_it(&self) {
        self.give_up(&"a test says so");
    }
    /// Does something with sled; None when that failed in any way, and then the index counts as broken.
    fn attempt<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Option<T> {
        if self.is_broken() {
            return None;
        }
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref()?;
        match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(e)) => {
                self.give_up(&e);
                None
            }
            Err(_) => {
                self.give_up(&"sled panicked");
                None
            }
        }
    }

    /// Where a chunk is, if it is known.
    pub(crate) fn get(&self, chunk: &ChunkRef) -> Option<Location> {
        if let Some(table) = self.table() {
            return table.get(chunk);
        }
        self.entry(chunk)
    }
    /// What sled says of a chunk.
    fn entry(&self, chunk: &ChunkRef) -> Option<Location> {
        let bytes = self.attempt(|db| db.get(chunk.id.0)).flatten()?;
        match Location::decode(&chunk.id.0, &bytes) {
            Some(location) => (location.len == chunk.len).then_some(location),
            None => {
                self.give_up(&"a value does not prove itself");
                None
            }
        }
    }
    /// Enters places that were logged. To be called under the lock of the log.
    pub(crate) fn insert(&self, places: impl IntoIterator<Item = (ChunkRef, Location)>) {
        match self.table() {
            Some(table) => table.enter(places),
            None => self.fill(places),
        }
    }
    /// Enters places into sled, whatever stands in for it.
    pub(crate) fn fill(&self, places: impl IntoIterator<Item = (ChunkRef, Location)>) {
        let mut batch = sled::Batch::default();
        let mut filled = 0;
        for (chunk, location) in places {
            batch.insert(&chunk.id.0, location.encode(chunk.id));
            filled += 1;
            if filled == BATCH {
                let full = std::mem::take(&mut batch);
                filled = 0;
                if self.attempt(|db| db.apply_batch(full)).is_none() {
                    return;
                }
            }
        }
        if filled > 0 {
            self.attempt(|db| db.apply_batch(batch));
        }
    }
    /// Takes a place out, if that is what it knows of the chunk. Answers whether it did.
    pub(crate) fn remove(&self, chunk: &ChunkRef, location: &Location) -> bool {
        if let Some(table) = self.table() {
            table.deny(chunk.id, location);
            return true;
        }
        self.drain(chunk, location)
    }
    /// Takes a place out of sled, whatever stands in for it.
    pub(crate) fn drain(&self, chunk: &ChunkRef, location: &Location) -> bool {
        let known = self.entry(chunk) == Some(*location);
        known && self.attempt(|db| db.remove(chunk.id.0)).is_some()
    }
    /// Every entry; None where one does not prove itself.
    pub(crate) fn entries(&self, mut each: impl FnMut(Option<(ChunkId, Location)>)) {
        self.attempt(|db| {
            for entry in db.iter() {
                let (key, value) = entry?;
                let id = <[u8; 32]>::try_from(key.as_ref()).ok().map(ChunkId);
                each(id.and_then(|id| Some((id, Location::decode(&id.0, &value)?))));
            }
            Ok(())
        });
    }

    fn mark(&self) -> Option<Mark> {
        let bytes = self.attempt(|db| db.open_tree("meta")?.get(POSITION)).flatten()?;
        let (log, end) = unseal(POSITION, &bytes)?.split_first_chunk::<8>()?;
        Some((*log, u64::from_le_bytes(end.try_into().ok()?)))
    }
    /// Whether no mark was ever written.
    fn is_unmarked(&self) -> bool {
        self.attempt(|db| db.open_tree("meta")?.get(POSITION)).is_some_and(|mark| mark.is_none())
    }
    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
    /// Has sled write what it keeps in memory.
    pub(crate) fn flush(&self) {
        self.attempt(|db| db.flush());
    }
    /// Makes everything entered durable.
    pub(crate) fn sync(&self) {
        let file = self.dir.join("db");
        self.attempt(|db| {
            db.flush()?;
            File::open(&file)?.sync_all()?;
            Ok(())
        });
    }
    /// Makes everything entered durable, and then the mark that says so. Nothing while something stands in for it: what
    /// it was told then, sled does not know.
    pub(crate) fn checkpoint(&self, mark: Mark) {
        if self.table().is_none() {
            self.commit(mark);
        }
    }
    /// The same, whatever stands in for it: all that the log says up to the mark was filled in.
    pub(crate) fn commit(&self, mark: Mark) {
        self.sync();
        let value = [mark.0.as_slice(), &mark.1.to_le_bytes()].concat();
        self.attempt(|db| db.open_tree("meta")?.insert(POSITION, seal(POSITION, &value)));
        self.sync();
    }
    /// Ends: closes sled, and with `seal` writes down what its files are now, which says that this life ended in order.
    pub(crate) fn close(&self, seal: bool) {
        let Some(db) = self.db.write().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if self.is_broken() || self.table().is_some() || !seal {
            let _ = guarded(move || drop(db));
            return;
        }
        let flushed = guarded(move || {
            let good = db.flush().is_ok();
            drop(db);
            good
        });
        // The lock is free when every thread of sled let go of the file: nothing writes to it from then on.
        if flushed == Some(true) && self.wait_for_lock() {
            let seal = digest(&self.dir).and_then(|digest| {
                let (path, temp) = (self.dir.with_extension("seal"), self.dir.with_extension("seal.new"));
                let mut file = File::create(&temp)?;
                file.write_all(&digest)?;
                file.sync_all()?;
                std::fs::rename(temp, path)
            });
            if let Err(e) = seal {
                tracing::debug!(index = %self.dir.display(), "not sealed: {e}");
            }
        }
    }
    fn wait_for_lock(&self) -> bool {
        let Ok(file) = File::open(self.dir.join("db")) else { return false };
        let begun = Instant::now();
        while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            if begun.elapsed() > DEADLINE / 6 {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}
