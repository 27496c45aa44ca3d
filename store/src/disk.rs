//! The store on a disk: what it is made of, how it opens, and how the index is kept in step with the truth.
//! Invariant: the order of every change is file → sync → name → sync → log → sync → index, so that at any moment what is
//! named is whole, what is acknowledged is named, and the index knows at most as much as the log.

use crate::{
    condense,
    contract::{
        Compared, Damage, Findings, Ingested, Keeper, Layout, Materialised, Progress, Store, StoreError, Swept, Upkeep,
    },
    copies, digest,
    index::{self, Index},
    intake::Way,
    journal::{self, Cost, Flaw, Log},
    layouts,
    look::Look,
    losses::Losses,
    marks::Marks,
    objects::{Objects, Placer},
    partial::Partials,
    proofs::{Proofs, is_proof},
    rebuild::{Parts, Rebuild, Task, Watch},
    record, syncs,
    tally::Tally,
    tree,
};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    codec,
    feed::Head,
    id::{FeedId, ObjectId},
    io::Record,
    tree::Manifest,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A store in a directory. One process has it at a time.
#[derive(Debug)]
pub struct DiskStore {
    dir: PathBuf,
    pub(crate) objects: Arc<Objects>,
    pub(crate) partials: Partials,
    tally: Tally,
    records: Mutex<Log>,
    /// Where the log of records is looked at for what nothing needs: see [`condense`].
    condense_at: AtomicU64,
    proofs: Mutex<Proofs>,
    losses: Mutex<Losses>,
    /// What was cut off the log of records and costs nothing, for the next check to tell.
    unheard: Mutex<Option<Damage>>,
    /// Held while a layout goes into log *and* index, so that a checkpoint never runs ahead of the index.
    pub(crate) layout_log: Arc<Mutex<Log>>,
    marks: Mutex<Marks>,
    pub(crate) index: Arc<Index>,
    pub(crate) rebuild: Rebuild,
    pub(crate) flight: Mutex<Flight>,
    /// Damage found while opening or reading, for the next check to report.
    pub(crate) notes: Arc<Mutex<Vec<Damage>>>,
    /// Held while a damaged file is set aside, and never while one is hashed.
    healing: Mutex<()>,
    /// Held by whoever makes wholes, or takes away: two fetches may share objects, and one file has one name at a time.
    pub(crate) assembling: Mutex<()>,
    /// Locked as long as this lives. Last: fields are dropped in order, and the index still writes when it closes.
    _lock: File,
}

/// Objects that a sweep spares although nothing keeps them.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// Announced by a fetch and not yet assembled, or whole and built upon; with the number of the last announcement.
    pub(crate) leased: BTreeMap<ObjectId, u64>,
    /// Announcements so far.
    pub(crate) announced: u64,
    /// Met by ingests or `add`s that are going on, by how many.
    pub(crate) intakes: BTreeMap<ObjectId, u32>,
    /// Brought by an ingest or `add` that ended since the last sweep.
    pub(crate) recent: BTreeSet<ObjectId>,
    /// Sweeps that are prepared or go on.
    pub(crate) sweeps: usize,
    /// Made whole by fetches since the first of these began.
    pub(crate) arrived: BTreeSet<ObjectId>,
    /// Removed by a sweep, and still in the log of layouts.
    pub(crate) unlogged: BTreeSet<ObjectId>,
}

/// Locks; a panic elsewhere does not make what the lock guards wrong, because all of it is checked when read.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the store in this directory, or makes one.
///
/// # Errors
/// [`StoreError::Locked`] while another process has it, and what the disk says. Damage is no error: what is left is
/// opened, and [`Store::fsck`] tells.
pub fn open(dir: &Path) -> Result<DiskStore, StoreError> {
    open_watched(dir, None)
}

/// The same; somebody watches how the index is brought in step.
pub(crate) fn open_watched(dir: &Path, watch: Option<Watch>) -> Result<DiskStore, StoreError> {
    let (aside, logs) = (dir.join("damaged"), dir.join("logs"));
    for folder in [dir, &aside, &logs] {
        syncs::create_dir(folder)?;
    }
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| StoreError::io("open", &path, e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked { path: dir.to_owned() }),
        Err(e) => return Err(StoreError::io("lock", &path, e)),
    }
    let fresh = !dir.join("objects").exists();
    let objects = Arc::new(Objects::open(dir)?);
    let mut notes = Vec::new();
    let mut losses = Losses::open(&logs)?;
    let path = logs.join("records");
    if dir.join("marks.a").exists() && !path.exists() {
        losses.note("the whole log is gone; begun anew")?;
    }
    let mut unheard = None;
    let mut records = Log::open_told(&path, &aside, &mut |flaw| {
        match flaw.cost {
            Cost::Records => losses.note(&flaw.what)?,
            Cost::Nothing => notes.push(damage(&path, flaw)),
            Cost::Unheard => unheard = Some(damage(&path, flaw)),
        }
        Ok(())
    })?;
    let mut seen = BTreeMap::new();
    let kept = decode_records(&records)?;
    for (feed, head) in kept.iter().filter_map(record::head_of) {
        record::raise(&mut seen, feed, head);
    }
    let proofs = Proofs::open(&logs, &aside, &kept, &mut |path, flaw| notes.push(damage(path, flaw)))?;
    let (marks, found) = Marks::open(dir, seen)?;
    notes.extend(found);
    // After the marks: they know then what the records that go had seen.
    if let Err(e) = condense::condense(&mut records) {
        tracing::warn!("the log of records stays as long as it is: {e}");
    }
    let path = logs.join("layouts");
    let mut whole = path.exists();
    let layouts = Log::open(&path, &aside, &mut |flaw| {
        // Layouts are cut again from their objects: what was lost of them is only told.
        whole = false;
        notes.push(damage(&path, flaw));
        Ok(())
    })?;
    let (partials, found) = Partials::open(dir, &objects)?;
    notes.extend(found);
    let (index, found) = Index::new(&dir.join("index"), &aside, layouts::table(&layouts, &objects)?)?;
    tree::sync_dir(dir)?;
    let (index, layout_log, notes) = (Arc::new(index), Arc::new(Mutex::new(layouts)), Arc::new(Mutex::new(notes)));
    let parts = Parts {
        objects: Arc::clone(&objects),
        index: Arc::clone(&index),
        log: Arc::clone(&layout_log),
        notes: Arc::clone(&notes),
        watch,
    };
    let store = DiskStore {
        dir: dir.to_owned(),
        _lock: file,
        objects,
        partials,
        tally: Tally::new(dir),
        condense_at: AtomicU64::new(condense::due(records.end())),
        records: Mutex::new(records),
        proofs: Mutex::new(proofs),
        losses: Mutex::new(losses),
        unheard: Mutex::new(unheard),
        layout_log,
        marks: Mutex::new(marks),
        index,
        rebuild: Rebuild::new(parts),
        flight: Mutex::default(),
        notes,
        healing: Mutex::new(()),
        assembling: Mutex::new(()),
    };
    if !found.is_sealed() && !fresh {
        store.objects.unsettle();
    }
    let adopt = !found.is_sealed() || !whole;
    store.rebuild.begin(Task::Open { found, adopt });
    Ok(store)
}

fn damage(file: &Path, flaw: Flaw) -> Damage {
    tracing::warn!(file = %file.display(), "{}", flaw.what);
    Damage { file: file.to_owned(), object: None, what: flaw.what }
}

/// Records that decode. Others are whole, so a later version wrote them: it will read them again.
fn decode_records(log: &Log) -> Result<Vec<Record>, StoreError> {
    let mut known = Vec::new();
    for (end, payload) in log.read(Log::start())?.records {
        match codec::decode(&payload) {
            Ok(record) => known.push(record),
            Err(e) => tracing::warn!(log = %log.path().display(), end, "a record is passed over: {e}"),
        }
    }
    Ok(known)
}

impl DiskStore {
    /// Where it lives.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub(crate) fn aside(&self) -> PathBuf {
        self.dir.join("damaged")
    }
    pub(crate) fn note(&self, damage: Damage) {
        tracing::warn!(file = %damage.file.display(), "{}", damage.what);
        lock(&self.notes).push(damage);
    }
    pub(crate) fn take_notes(&self) -> Vec<Damage> {
        std::mem::take(&mut lock(&self.notes))
    }
    pub(crate) fn take_unheard(&self) -> Option<Damage> {
        lock(&self.unheard).take()
    }

    /// Waits until the index is open and has all that it should have. Nothing else needs to wait for that: see
    /// [`Store::upkeep`].
    pub fn settle(&self) {
        self.rebuild.settle();
    }
    /// Has the index rebuilt when it broke; until then the log answers in its place.
    pub(crate) fn mend(&self) -> Result<(), StoreError> {
        if self.index.is_dumb() {
            let log = lock(&self.layout_log);
            if self.index.is_dumb() {
                self.index.stand_in(&log, &self.objects)?;
                let what = "it broke while in use; rebuilt".to_owned();
                self.note(Damage { file: self.index.dir().to_owned(), object: None, what });
            }
        }
        self.rebuild.begin_due();
        Ok(())
    }
    /// Begins the index anew from the log, and waits for it.
    pub(crate) fn reindex(&self) {
        self.settle();
        // What somebody else began does not count: it may be about to end.
        while self.rebuild.begin(Task::Anew) {
            self.settle();
        }
        self.settle();
    }

    /// Reads an object that gave wrong bytes as a whole; sets its damaged variants aside. Says whether a good one is left.
    pub(crate) fn suspect(&self, object: ObjectId) -> Result<bool, StoreError> {
        let (mut good, mut done) = (false, Ok(()));
        for executable in [false, true] {
            let path = self.objects.path(object, executable);
            // Another one may have it healed meanwhile; more than a few times is a fault.
            for _ in 0..8 {
                let Ok(file) = File::open(&path) else { break };
                // Without a lock: several cores hash, and one that waits for another's half takes up other work meanwhile,
                // which may be to suspect the next object. A file that cannot be read to its end is as bad as a wrong one.
                let what = match digest::of_file(&file, |_| Ok(()), &path) {
                    Ok(id) if id == object => {
                        good = true;
                        break;
                    }
                    Ok(_) => "its bytes are not those of its name".to_owned(),
                    Err(e) => e.to_string(),
                };
                if let Some(kept) = self.put_aside(&file, &path, object) {
                    let what = match kept {
                        Ok(kept) => format!("{what}; set aside as {}", kept.display()),
                        Err(e) => {
                            let told = format!("{what}; {e}");
                            done = Err(e);
                            told
                        }
                    };
                    self.note(Damage { file: path, object: Some(object), what });
                    break;
                }
            }
        }
        if !good {
            for layout in self.layouts_of(object)? {
                for (chunk, location) in index::places(&layout) {
                    self.index.remove(&chunk, &location);
                }
            }
        }
        done.map(|()| good)
    }
    /// Sets a damaged file aside; None when its name is another file's by now, or nobody's.
    fn put_aside(&self, file: &File, path: &Path, object: ObjectId) -> Option<Result<PathBuf, StoreError>> {
        let _one_at_a_time = lock(&self.healing);
        // Nor does it become the other variant meanwhile.
        let _gate = self.objects.gate.write().unwrap_or_else(PoisonError::into_inner);
        let (read, named) = (file.metadata().ok()?, std::fs::metadata(path).ok()?);
        if (read.dev(), read.ino()) != (named.dev(), named.ino()) {
            return None;
        }
        let kept = journal::set_aside(path, &self.aside());
        // Also when that failed: the name may be gone all the same.
        self.objects.doubt(object);
        Some(kept)
    }
    /// Checks the logs and the marks on the disk; what is damaged is written anew without what is lost. Lost records go
    /// to the losses, everything else is answered.
    pub(crate) fn check_logs(&self) -> Result<Vec<Damage>, StoreError> {
        let mut damaged = lock(&self.marks).check()?;
        if let Some(file) = lock(&self.records).check_told()? {
            let what = "does not add up; written anew".to_owned();
            damaged.push(damage(&file, Flaw { what, cost: Cost::Nothing }));
        }
        damaged.extend(self.check_log(&mut lock(&self.records), "records")?);
        damaged.extend(self.check_log(&mut lock(&self.layout_log), "layouts")?);
        let kept = decode_records(&lock(&self.records))?;
        let mut proofs = lock(&self.proofs);
        if let Some(log) = proofs.log() {
            damaged.extend(self.check_log(log, "proofs")?);
        }
        proofs.add(&kept);
        Ok(damaged)
    }
    fn check_log(&self, log: &mut Log, kind: &str) -> Result<Vec<Damage>, StoreError> {
        let mut damaged = Vec::new();
        let found = log.read(Log::start())?;
        let headers = log.headers_good()?;
        if found.holes.is_empty() && headers {
            return Ok(damaged);
        }
        for flaw in found.holes.iter().map(journal::hole_flaw) {
            match kind {
                "records" => lock(&self.losses).note(&flaw.what)?,
                _ => damaged.push(damage(log.path(), flaw)),
            }
        }
        if !headers {
            let what = "a header does not add up; written anew".to_owned();
            damaged.push(damage(log.path(), Flaw { what, cost: Cost::Nothing }));
        }
        let copy = journal::free_name(&self.aside(), kind);
        std::fs::copy(log.path(), &copy).map_err(|e| {
            // On a full disk each check would leave a part of one more.
            let _ = std::fs::remove_file(&copy);
            StoreError::io("copy", &copy, e)
        })?;
        log.rewrite(found.records.iter().map(|(_, payload)| payload.as_slice()))?;
        Ok(damaged)
    }
}

/// Waits until whoever has the store in `dir` open has closed it: its last writes are done then.
///
/// # Errors
/// When the store's lock cannot be opened.
pub fn wait_closed(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join("lock");
    let file = File::open(&path).map_err(|e| StoreError::io("open", &path, e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| StoreError::io("lock", &path, e))
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if let Err(e) = self.partials.commit() {
            tracing::warn!("chunks put last will be fetched again: {e}");
        }
        self.rebuild.stop();
        let log = lock(&self.layout_log);
        self.index.checkpoint((log.tag(), log.end()));
        // The next life must look for what the log does not know, if this one did not come to the end of that; and sync
        // what it finds, if this one could not.
        let settled = self.objects.settle_all();
        self.index.close(self.rebuild.has_adopted() && settled);
    }
}

impl Store for DiskStore {
    fn keep(&self, record: &Record) -> Result<(), StoreError> {
        let bytes = codec::encode(record)?;
        if is_proof(record) {
            lock(&self.proofs).add(std::slice::from_ref(record));
        }
        let mut log = lock(&self.records);
        log.append([bytes.as_slice()])?;
        if log.end() >= self.condense_at.load(Ordering::Relaxed) {
            // The record is kept, whatever comes of this.
            if let Err(e) = condense::condense(&mut log) {
                tracing::warn!("the log of records stays as long as it is: {e}");
            }
            self.condense_at.store(condense::due(log.end()), Ordering::Relaxed);
        }
        drop(log);
        match record::head_of(record) {
            Some((feed, head)) => lock(&self.marks).raise(feed, head),
            None => Ok(()),
        }
    }
    fn records(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = decode_records(&lock(&self.records))?;
        let apart = lock(&self.proofs).read()?;
        let lost: Vec<Record> = apart.into_iter().filter(|proof| !records.contains(proof)).collect();
        records.extend(lost);
        Ok(records)
    }
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError> {
        Ok(lock(&self.marks).get(feed))
    }
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        lock(&self.marks).raise(feed, head)
    }
    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        self.survey_chunks(chunks)
    }
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read_chunks(chunks)
    }
    fn read_into(&self, chunks: &[ChunkRef], room: &mut [u8]) -> Result<Bitmap, StoreError> {
        self.read_chunks_into(chunks, room)
    }
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.expect_layouts(layouts)
    }
    fn put(&self, chunk: &Verified) -> Result<(), StoreError> {
        self.partials.put(chunk, &self.objects)
    }
    fn put_all(&self, chunks: &[Verified]) -> Vec<Result<(), StoreError>> {
        self.partials.put_all(chunks, &self.objects)
    }
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.assemble_layouts(layouts)
    }
    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        self.add_bytes(bytes)
    }
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError> {
        let Some(mut file) = self.objects.open_object(id)? else { return Err(StoreError::Missing(id)) };
        let path = self.objects.path(id, false);
        let read = |e| StoreError::io("read", &path, e);
        let size = file.metadata().map_err(read)?.len();
        if size > limit as u64 {
            return Err(crate::contract::too_long(size, limit));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        file.read_to_end(&mut bytes).map_err(read)?;
        if ObjectId::of(&bytes) == id {
            return Ok(bytes);
        }
        self.suspect(id)?;
        let what = "its bytes are not those of its name; set aside, fetch it again".to_owned();
        Err(StoreError::Damaged { path, object: Some(id), what })
    }
    fn has_object(&self, id: ObjectId) -> bool {
        self.objects.has(id)
    }
    fn prove(&self, files: &[(ObjectId, bool)], going: &(dyn Fn() -> bool + Sync)) {
        self.objects.prove_all(files, going);
    }
    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.ingest_dir(dir, exclude, Way { progress, anew: false, look: None })
    }
    fn ingest_anew(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.ingest_dir(dir, exclude, Way { progress, anew: true, look: None })
    }
    fn ingest_looked(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        anew: bool,
        look: &dyn Look,
    ) -> Result<Ingested, StoreError> {
        self.ingest_dir(dir, exclude, Way { progress, anew, look: Some(look) })
    }
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError> {
        let built = tree::build(manifest, target, &Placer::new(&self.objects));
        if let Err(StoreError::Damaged { object: Some(object), .. }) = &built {
            self.suspect(*object)?;
        }
        built
    }
    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError> {
        copies::compare(manifest, tree, &Placer::new(&self.objects), mend)
    }
    fn fsck(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        self.check_everything(progress)
    }
    fn lost(&self) -> Result<Vec<Damage>, StoreError> {
        self.list_lost()
    }
    fn losses(&self) -> Vec<Damage> {
        lock(&self.losses).list()
    }
    fn acknowledge(&self) -> Result<(), StoreError> {
        lock(&self.losses).acknowledge()
    }
    fn let_go(&self) {
        let _turn = lock(&self.assembling);
        lock(&self.flight).leased.clear();
    }
    fn begin_sweep(&self) -> u64 {
        let mut flight = lock(&self.flight);
        flight.sweeps += 1;
        flight.announced
    }
    fn end_sweep(&self) {
        let mut flight = lock(&self.flight);
        flight.sweeps = flight.sweeps.saturating_sub(1);
        if flight.sweeps == 0 {
            flight.arrived.clear();
        }
    }
    fn let_go_of(&self, announced: u64, except: &BTreeSet<ObjectId>) {
        let _turn = lock(&self.assembling);
        lock(&self.flight).leased.retain(|object, last| *last > announced || except.contains(object));
    }
    fn gc(&self, mut keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        Ok(self.sweep(&mut keep)?.0)
    }
    fn gc_in_steps(&self, keeper: &mut dyn Keeper) -> Result<(Swept, BTreeSet<ObjectId>), StoreError> {
        self.sweep(keeper)
    }
    fn upkeep(&self) -> Option<Upkeep> {
        self.rebuild.progress()
    }
    fn totals(&self) -> Result<(u64, u64), StoreError> {
        self.tally.totals()
    }
    fn used(&self, coming: &BTreeSet<ObjectId>) -> Result<u64, StoreError> {
        self.tally.used(coming)
    }
}

#[cfg(test)]
mod tests;
