//! A directory comes in. Invariant: the source may change at any moment, so its bytes are copied, never linked; nothing
//! of an ingest that fails becomes visible, and all of one that returns is durable.

use crate::{
    contract::{self, Ingested, Layout, Progress, StoreError},
    cutter,
    disk::{DiskStore, lock},
    objects::Arrival,
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
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Files of an ingest on their way; removed unless they became objects.
#[derive(Default)]
struct Intake {
    arrivals: Mutex<Vec<Arrival>>,
    layouts: Mutex<Vec<Layout>>,
    /// Objects and chunks that this ingest met before.
    met: Mutex<(BTreeSet<ObjectId>, BTreeSet<ChunkId>)>,
    bytes: AtomicU64,
    new_bytes: AtomicU64,
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
        self.intake(|intake| {
            self.take(intake, object, bytes, chunks, false)?;
            self.admit(intake)?;
            Ok(object)
        })
    }

    /// Does the work of one intake. Until it is over no sweep takes what it met, however long it lasts and however many
    /// sweeps there are; the first sweep afterwards spares it once more.
    fn intake<T>(&self, work: impl FnOnce(&Intake) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let intake = Intake::default();
        let result = work(&intake);
        let met = std::mem::take(&mut lock(&intake.met).0);
        let mut flight = lock(&self.flight);
        for object in met {
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

    pub(crate) fn ingest_dir(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
    ) -> Result<Ingested, StoreError> {
        self.mend()?;
        let found = walk::walk(dir, exclude)?;
        self.intake(|intake| self.ingest_found(found, intake, progress))
    }

    fn ingest_found(&self, found: Vec<Found>, intake: &Intake, progress: Progress<'_>) -> Result<Ingested, StoreError> {
        let entries: Result<Vec<TreeEntry>, StoreError> =
            found.into_par_iter().map(|f| self.ingest_one(f, intake, progress)).collect();
        let manifest = Manifest { cutting: Cutting::STANDARD, entries: entries? };
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

    fn ingest_one(&self, found: Found, intake: &Intake, progress: Progress<'_>) -> Result<TreeEntry, StoreError> {
        let node = match found.kind {
            Kind::Dir => Node::Dir,
            Kind::Symlink { target } => Node::Symlink { target },
            Kind::File { executable } => self.ingest_file(&found.place, executable, intake, progress)?,
        };
        Ok(TreeEntry { path: found.path, node })
    }

    fn ingest_file(
        &self,
        place: &Path,
        executable: bool,
        intake: &Intake,
        progress: Progress<'_>,
    ) -> Result<Node, StoreError> {
        let taken = Cell::new(false);
        // A large file goes to the disk while it is cut, before its id is known.
        let large: RefCell<Option<(PathBuf, File)>> = RefCell::new(None);
        let content = walk::read_file(
            place,
            |got| {
                let all = intake.bytes.fetch_add(got, Ordering::Relaxed) + got;
                if progress(all) { Ok(()) } else { Err(StoreError::Stopped) }
            },
            |content, bytes| {
                taken.set(true);
                self.take(intake, content.object, bytes, content.chunks.clone(), executable)
            },
            |segment| {
                self.objects.room_for(segment.len() as u64)?;
                let mut large = large.borrow_mut();
                let (path, file) = match &mut *large {
                    Some(open) => open,
                    none => none.insert(self.objects.create_temp(tree::mode(executable))?),
                };
                file.write_all(segment).map_err(|e| StoreError::io("write", path, e))
            },
        );
        let large = large.into_inner().map(|(path, _)| path);
        let content = content.inspect_err(|_| {
            if let Some(path) = &large {
                let _ = std::fs::remove_file(path);
            }
        })?;
        if let Some(file) = large {
            self.take_file(intake, &content, file, executable);
        } else if !taken.get() {
            // It was larger than a segment when looked at and empty when read; the reader refuses that.
            return Err(StoreError::Unfit { path: place.to_owned(), rule: "changed while it was read".into() });
        }
        Ok(content.node(executable))
    }

    /// Counts what is new and says whether the object must be written. Marked before looking, so that no sweep takes an
    /// object that this ingest relies on.
    fn meet(&self, intake: &Intake, object: ObjectId, chunks: &[ChunkRef]) -> bool {
        let first = lock(&intake.met).0.insert(object);
        if first {
            *lock(&self.flight).intakes.entry(object).or_insert(0) += 1;
        }
        let here = self.objects.has(object);
        if !here {
            let held = self.survey_chunks(chunks).ok();
            let mut met = lock(&intake.met);
            let fresh = |(i, c): &(usize, &ChunkRef)| !held.as_ref().is_some_and(|h| h.get(*i)) && met.1.insert(c.id);
            let new: u64 = chunks.iter().enumerate().filter(fresh).map(|(_, c)| u64::from(c.len)).sum();
            intake.new_bytes.fetch_add(new, Ordering::Relaxed);
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
        lock(&intake.arrivals).push(Arrival { file: file.clone(), object, executable });
        open.write_all(bytes).map_err(|e| StoreError::io("write", &file, e))?;
        lock(&intake.layouts).push(Layout { object, size: bytes.len() as u64, chunks });
        Ok(())
    }
    fn take_file(&self, intake: &Intake, content: &Content, file: PathBuf, executable: bool) {
        if self.meet(intake, content.object, &content.chunks) {
            lock(&intake.arrivals).push(Arrival { file, object: content.object, executable });
            let layout = Layout { object: content.object, size: content.size, chunks: content.chunks.clone() };
            lock(&intake.layouts).push(layout);
        } else {
            let _ = std::fs::remove_file(file);
        }
    }
    fn admit(&self, intake: &Intake) -> Result<(), StoreError> {
        self.objects.admit(&lock(&intake.arrivals))?;
        lock(&intake.arrivals).clear();
        let layouts = std::mem::take(&mut *lock(&intake.layouts));
        self.record_layouts(layouts.iter())
    }
}
