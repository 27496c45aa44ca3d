//! A directory comes in. Invariant: the source may change at any moment, so its bytes are copied, never linked; nothing
//! of an ingest that fails becomes visible, and all of one that returns is durable.

use crate::{
    contract::{self, Ingested, Layout, Progress, StoreError},
    cutter,
    disk::{DiskStore, lock},
    look::Look,
    objects::Arrival,
    seen::{Seen, Stamp},
    tree,
    walk::{self, Content, Found, Kind},
};
use rayon::prelude::*;
use softservice_protocol::{
    chunk::{ChunkRef, Cutting},
    codec,
    id::{ChunkId, ObjectId},
    tree::{Manifest, Node, TreeEntry, TreeRef},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// How a directory is read.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) progress: Progress<'a>,
    /// Whatever is known of its files.
    pub(crate) anew: bool,
    /// Who looks at them.
    pub(crate) look: Option<&'a dyn Look>,
}

/// Files of an ingest on their way; removed unless they became objects.
#[derive(Default)]
struct Intake {
    arrivals: Mutex<Vec<Arrival>>,
    layouts: Mutex<Vec<Layout>>,
    /// Objects that no sweep may take.
    relied: Mutex<BTreeSet<ObjectId>>,
    /// Objects and chunks that this ingest read before.
    met: Mutex<(BTreeSet<ObjectId>, BTreeSet<ChunkId>)>,
    /// Syncs that had failed before it began.
    since: u64,
    bytes: AtomicU64,
    new_bytes: AtomicU64,
    /// What is known of its folder, and what it knows now.
    seen: Option<Seen>,
    read: Mutex<Vec<(String, Stamp, Content)>>,
}

impl Drop for Intake {
    fn drop(&mut self) {
        for arrival in lock(&self.arrivals).drain(..) {
            let _ = std::fs::remove_file(arrival.file);
        }
    }
}

impl DiskStore {
    pub(crate) fn add_bytes(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        let (object, chunks) = contract::small(bytes);
        self.intake(None, |intake| {
            self.take(intake, object, bytes, chunks, false)?;
            self.admit(intake)?;
            Ok(object)
        })
    }

    /// Does the work of one intake. Until it is over no sweep takes what it met, however long it lasts and however many
    /// sweeps there are; the first sweep afterwards spares it once more.
    fn intake<T>(
        &self,
        seen: Option<Seen>,
        work: impl FnOnce(&Intake) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut intake = Intake::default();
        (intake.seen, intake.since) = (seen, self.objects.syncs().since());
        let result = work(&intake);
        let relied = std::mem::take(&mut *lock(&intake.relied));
        let mut flight = lock(&self.flight);
        for object in relied {
            flight.recent.insert(object);
            if let Some(count) = flight.intakes.get_mut(&object) {
                *count -= 1;
                if *count == 0 {
                    flight.intakes.remove(&object);
                }
            }
        }
        result
    }

    pub(crate) fn ingest_dir(&self, dir: &Path, exclude: &[String], way: Way<'_>) -> Result<Ingested, StoreError> {
        self.mend()?;
        let began = SystemTime::now();
        let found = walk::walk(dir, exclude)?;
        let folders = found.iter().filter(|f| matches!(f.kind, Kind::Dir)).map(|f| f.path.as_str());
        let known = Seen::open_with(&self.dir().join("seen"), dir, folders);
        self.intake(Some(known), |intake| {
            let made = self.ingest_found(found, intake, way)?;
            if let Some(known) = &intake.seen {
                known.keep(std::mem::take(&mut *lock(&intake.read)), began);
            }
            Ok(made)
        })
    }

    fn ingest_found(&self, found: Vec<Found>, intake: &Intake, way: Way<'_>) -> Result<Ingested, StoreError> {
        let entries: Result<Vec<TreeEntry>, StoreError> =
            found.into_par_iter().map(|f| self.ingest_one(f, intake, way)).collect();
        let manifest = Manifest { cutting: Cutting::STANDARD, entries: entries? };
        if way.look.is_some_and(|look| !look.lets_in()) {
            return Err(StoreError::NotLetIn);
        }
        manifest.check()?;
        let encoded = codec::encode(&manifest)?;
        let (bytes, files) = manifest.totals();
        let (object, chunks) = cutter::cut_whole(&encoded);
        // A manifest's chunks are no file's content: they do not count.
        let counted = (intake.bytes.load(Ordering::Relaxed), intake.new_bytes.load(Ordering::Relaxed));
        self.take(intake, object, &encoded, chunks.clone(), false)?;
        self.admit(intake)?;
        let tree = TreeRef { manifest: object, chunks, bytes, files };
        Ok(Ingested { tree, bytes: counted.0, new_bytes: counted.1 })
    }

    fn ingest_one(&self, found: Found, intake: &Intake, way: Way<'_>) -> Result<TreeEntry, StoreError> {
        let node = match found.kind {
            Kind::Dir => Node::Dir,
            Kind::Symlink { target } => Node::Symlink { target },
            Kind::File { executable, stamp } => {
                let known = intake.seen.as_ref().filter(|_| !way.anew).and_then(|seen| seen.get(&found.path, &stamp));
                // Nor is known what somebody wants to look at and has not, by the rule that holds now.
                let known = known.filter(|known| way.look.is_none_or(|look| look.rule(&found.path) == known.clean));
                // Known is not enough: its object must be here, and no sweep may take it from now on.
                let known = known.filter(|content| {
                    self.rely_on(intake, content.object);
                    self.objects.stands(content.object) && self.objects.size(content.object) == Some(content.size)
                });
                let (content, stamp) = match known {
                    Some(content) => {
                        self.advance(intake, content.size, way.progress)?;
                        (content, stamp)
                    }
                    None => self.ingest_file(&found, executable, intake, way)?,
                };
                lock(&intake.read).push((found.path.clone(), stamp, content.clone()));
                content.node(executable)
            }
        };
        Ok(TreeEntry { path: found.path, node })
    }
    fn advance(&self, intake: &Intake, got: u64, progress: Progress<'_>) -> Result<(), StoreError> {
        let all = intake.bytes.fetch_add(got, Ordering::Relaxed) + got;
        if progress(all) { Ok(()) } else { Err(StoreError::Stopped) }
    }

    fn ingest_file(
        &self,
        found: &Found,
        executable: bool,
        intake: &Intake,
        way: Way<'_>,
    ) -> Result<(Content, Stamp), StoreError> {
        // Shown at once, or piece after piece; a lock for what one thread does at a time, which the compiler cannot know.
        let looking = Mutex::new(way.look.map(|look| look.open(&found.path)));
        let clean = AtomicBool::new(false);
        // A large file goes to the disk while it is cut, before its id is known.
        let large: OnceLock<(PathBuf, File)> = OnceLock::new();
        let making = Mutex::new(());
        let read = walk::read_file(
            &found.place,
            |got| self.advance(intake, got, way.progress),
            |content, bytes| {
                if let Some(looking) = lock(&looking).take() {
                    clean.store(looking.whole(bytes), Ordering::Relaxed);
                }
                self.take(intake, content.object, bytes, content.chunks.clone(), executable)
            },
            |piece, at| {
                if let Some(looking) = lock(&looking).as_mut() {
                    looking.take(piece);
                }
                self.objects.room_for(piece.len() as u64)?;
                if large.get().is_none() {
                    let _one = lock(&making);
                    if large.get().is_none() {
                        let _ = large.set(self.objects.create_temp(tree::mode(executable))?);
                    }
                }
                let Some((path, file)) = large.get() else { return Ok(()) };
                file.write_all_at(piece, at).map_err(|e| StoreError::io("write", path, e))
            },
        );
        let large = large.into_inner().map(|(path, _)| path);
        let (mut content, stamp) = read.inspect_err(|_| {
            if let Some(path) = &large {
                let _ = std::fs::remove_file(path);
            }
        })?;
        if let Some(looking) = lock(&looking).take() {
            clean.store(looking.end(), Ordering::Relaxed);
        }
        if let Some(look) = way.look.filter(|_| clean.load(Ordering::Relaxed)) {
            content.clean = look.rule(&found.path);
        }
        if let Some(file) = large {
            self.take_file(intake, &content, file, executable);
        }
        Ok((content, stamp))
    }

    /// Marks an object before anybody looks whether it is here, so that no sweep takes what this ingest relies on.
    fn rely_on(&self, intake: &Intake, object: ObjectId) {
        if lock(&intake.relied).insert(object) {
            *lock(&self.flight).intakes.entry(object).or_insert(0) += 1;
        }
    }
    /// Counts what is new and says whether the object must be written.
    fn meet(&self, intake: &Intake, object: ObjectId, chunks: &[ChunkRef]) -> bool {
        self.rely_on(intake, object);
        let first = lock(&intake.met).0.insert(object);
        let here = self.objects.stands(object);
        if !here {
            let held = self.survey_chunks(chunks).ok();
            let mut met = lock(&intake.met);
            let fresh = |(i, c): &(usize, &ChunkRef)| !held.as_ref().is_some_and(|h| h.get(*i)) && met.1.insert(c.id);
            let new: u64 = chunks.iter().enumerate().filter(fresh).map(|(_, c)| u64::from(c.len)).sum();
            intake.new_bytes.fetch_add(new, Ordering::Relaxed);
        } else if first && self.lacks_layout(chunks) {
            let size = chunks.iter().map(|c| u64::from(c.len)).sum();
            lock(&intake.layouts).push(Layout { object, size, chunks: chunks.to_vec() });
        }
        first && !here
    }
    fn take(
        &self,
        intake: &Intake,
        object: ObjectId,
        bytes: &[u8],
        chunks: Vec<ChunkRef>,
        executable: bool,
    ) -> Result<(), StoreError> {
        if !self.meet(intake, object, &chunks) {
            return Ok(());
        }
        self.objects.room_for(bytes.len() as u64)?;
        let (file, mut open) = self.objects.create_temp(tree::mode(executable))?;
        lock(&intake.arrivals).push(Arrival { file: file.clone(), object, executable, since: intake.since });
        open.write_all(bytes).map_err(|e| StoreError::io("write", &file, e))?;
        lock(&intake.layouts).push(Layout { object, size: bytes.len() as u64, chunks });
        Ok(())
    }
    fn take_file(&self, intake: &Intake, content: &Content, file: PathBuf, executable: bool) {
        if self.meet(intake, content.object, &content.chunks) {
            lock(&intake.arrivals).push(Arrival { file, object: content.object, executable, since: intake.since });
            let layout = Layout { object: content.object, size: content.size, chunks: content.chunks.clone() };
            lock(&intake.layouts).push(layout);
        } else {
            let _ = std::fs::remove_file(file);
        }
    }
    fn admit(&self, intake: &Intake) -> Result<(), StoreError> {
        // Some may have their names by then: whoever tries again finds them here, and does not say how they are cut.
        self.name_arrivals(intake).inspect_err(|_| self.rebuild.doubt())
    }
    fn name_arrivals(&self, intake: &Intake) -> Result<(), StoreError> {
        self.objects.admit(&lock(&intake.arrivals))?;
        lock(&intake.arrivals).drain(..).for_each(|a| self.objects.prove(a.object, a.executable));
        // What another ingest or fetch has named and not synced yet, this one is about to acknowledge.
        self.objects.settle(lock(&intake.relied).iter().copied())?;
        let layouts = std::mem::take(&mut *lock(&intake.layouts));
        self.record_layouts(layouts.iter())
    }
}

#[cfg(test)]
mod tests;
