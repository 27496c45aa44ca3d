//! A store that is fine but for one thing. Invariant: the oddity is all that differs from a store in memory.

use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    feed::Head,
    id::{FeedId, ObjectId},
    io::Record,
    tree::Manifest,
};
use softservice_store::{
    Compared, Findings, Ingested, Layout, Look, Materialised, MemoryStore, Progress, Store, StoreError, Swept,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Documents and manifests of the stories are smaller.
fn is_content(sizes: impl Iterator<Item = usize>) -> bool {
    sizes.sum::<usize>() > 200_000
}

/// How a store misbehaves.
#[derive(Debug)]
pub enum Bent {
    /// Gives others something else than what they asked for.
    Lies,
    /// Gives others nothing until the gate opens.
    Stalls(Arc<Gate>),
    /// Takes no chunk.
    Full,
    /// Takes its time to give out a span of content.
    Reads(Duration),
    /// Takes its time to take one.
    Writes(Duration),
    /// Is checked, and checked, until it is told to stop; says when that begins and ends.
    Checks(std::sync::mpsc::Sender<&'static str>),
}

/// Closed until opened, or dropped by a story that fails.
#[derive(Debug, Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}
pub struct Opener(pub Arc<Gate>);
impl Drop for Opener {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A store that is fine but for one thing.
#[derive(Debug)]
pub struct Odd(pub MemoryStore, pub Bent);

impl Store for Odd {
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut found = self.0.read(chunks)?;
        match &self.1 {
            Bent::Lies => found.iter_mut().flatten().flatten().for_each(|b| *b = !*b),
            Bent::Stalls(gate) => gate.pass(),
            Bent::Reads(pause) if is_content(chunks.iter().map(|c| c.len as usize)) => std::thread::sleep(*pause),
            _ => {}
        }
        Ok(found)
    }
    fn put_all(&self, chunks: &[Verified]) -> Vec<Result<(), StoreError>> {
        match &self.1 {
            Bent::Writes(pause) if is_content(chunks.iter().map(|c| c.bytes().len())) => std::thread::sleep(*pause),
            _ => {}
        }
        chunks.iter().map(|chunk| self.put(chunk)).collect()
    }
    fn put(&self, chunk: &Verified) -> Result<(), StoreError> {
        match &self.1 {
            Bent::Full => Err(StoreError::Full { needed: chunk.bytes().len() as u64, path: "store".into() }),
            _ => self.0.put(chunk),
        }
    }
    fn keep(&self, record: &Record) -> Result<(), StoreError> {
        self.0.keep(record)
    }
    fn records(&self) -> Result<Vec<Record>, StoreError> {
        self.0.records()
    }
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError> {
        self.0.mark(feed)
    }
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        self.0.raise_mark(feed, head)
    }
    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        self.0.survey(chunks)
    }
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.0.expect(layouts)
    }
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.0.assemble(layouts)
    }
    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        self.0.add(bytes)
    }
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError> {
        self.0.object(id, limit)
    }
    fn has_object(&self, id: ObjectId) -> bool {
        self.0.has_object(id)
    }
    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.0.ingest(dir, exclude, progress)
    }
    fn ingest_looked(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        anew: bool,
        look: &dyn Look,
    ) -> Result<Ingested, StoreError> {
        self.0.ingest_looked(dir, exclude, progress, anew, look)
    }
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError> {
        self.0.materialise(manifest, target)
    }
    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError> {
        self.0.compare(manifest, tree, mend)
    }
    fn fsck(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        if let Bent::Checks(tell) = &self.1 {
            tell.send("begun").unwrap();
            // A story that fails is to end as well.
            let end = std::time::Instant::now() + super::DEADLINE * 2;
            while progress(1) && std::time::Instant::now() < end {
                std::thread::yield_now();
            }
            // Nobody hears it then.
            let _ = tell.send("stopped");
            return Err(StoreError::Stopped);
        }
        self.0.fsck(progress)
    }
    fn let_go(&self) {
        self.0.let_go();
    }
    fn gc(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        self.0.gc(keep)
    }
    fn totals(&self) -> Result<(u64, u64), StoreError> {
        self.0.totals()
    }
}
