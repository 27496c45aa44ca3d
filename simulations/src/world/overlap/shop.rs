//! The device's store and the tasks that are under way on it. Invariant: tasks are done one at a time in an order that
//! the dice draw, but where a task goes to the store, another one may be done from its beginning to its end: that is
//! what threads side by side can do to each other, made repeatable.
//!
//! Only calls that every walk makes alike are such places. Reading documents was refused as one: what was decoded
//! lately is remembered for the whole process, so that a second run would read less often and draw other numbers.

use crate::dice::Dice;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    feed::Head,
    id::{FeedId, ObjectId, Peer},
    io::{Delivery, Depth, Input, Job, Record, Request, Setback, Spent, Stage},
    release::ReleaseRef,
    tree::{Manifest, TreeRef},
};
use softservice_store::{
    Compared, Damage, Findings, Ingested, Layout, Look, Materialised, Progress, Store, StoreError, Swept, closure,
    manifests,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What the device's releases are for.
pub(super) const PLATFORM: &str = "linux/x86_64";
/// Tasks inside tasks at most.
const DEPTH: usize = 2;
/// How often another task comes in between.
const BETWEEN: f64 = 0.3;

/// What the store is to do.
#[derive(Debug)]
pub(super) enum Task {
    Expand {
        job: Job,
        release: ReleaseRef,
        depth: Depth,
    },
    Assemble {
        job: Job,
        release: ReleaseRef,
        stage: Stage,
    },
    /// Chunks that came, each with its number in the request; true when the answer is whole.
    Put {
        peer: Peer,
        request: Request,
        asked: usize,
        came: Vec<(usize, Verified)>,
        whole: bool,
    },
    /// What was worth keeping, and whether nothing was being fetched, when somebody looked.
    Sweep {
        keep: BTreeSet<ObjectId>,
        idle: bool,
    },
}

/// How often the disk fails.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Disk {
    /// A chunk that was taken is forgotten: the sync of what others put failed.
    pub forgets: f64,
    /// A chunk is not taken.
    pub refuses: f64,
    /// Objects cannot be made whole.
    pub fails: f64,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    disk: Disk,
    tasks: Vec<Task>,
    answers: Vec<Input>,
    depth: usize,
    /// What the store answered to fetches that could not go on.
    refusals: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shop {
    store: Arc<dyn Store>,
    state: Mutex<State>,
}

impl Shop {
    pub(super) fn new(store: Arc<dyn Store>, disk: Disk, seed: u64) -> Self {
        let dice = Dice::new(seed, "shop");
        let state = State { dice, disk, tasks: Vec::new(), answers: Vec::new(), depth: 0, refusals: Vec::new() };
        Self { store, state: Mutex::new(state) }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn push(&self, task: Task) {
        self.state().tasks.push(task);
    }
    pub(super) fn is_idle(&self) -> bool {
        self.state().tasks.is_empty()
    }
    pub(super) fn refusals(&self) -> Vec<String> {
        self.state().refusals.clone()
    }
    /// Does any one of the tasks; gives the answers of all that were done.
    pub(super) fn work(&self) -> Vec<Input> {
        self.one(1.0);
        std::mem::take(&mut self.state().answers)
    }

    fn one(&self, probability: f64) {
        let task = {
            let mut state = self.state();
            let State { dice, tasks, depth, .. } = &mut *state;
            if tasks.is_empty() || *depth > DEPTH || !dice.chance(probability) {
                return;
            }
            *depth += 1;
            let any = dice.below(tasks.len() as u64) as usize;
            tasks.swap_remove(any)
        };
        let answer = self.perform(task);
        let mut state = self.state();
        state.depth -= 1;
        state.answers.extend(answer);
    }
    /// Others may do something here.
    fn between(&self) {
        self.one(BETWEEN);
    }
    /// Whether the disk fails in one of its ways now.
    fn fails(&self, way: impl Fn(&Disk) -> f64) -> bool {
        let mut state = self.state();
        let probability = way(&state.disk);
        probability > 0.0 && state.dice.chance(probability)
    }
    /// The disk fails no more.
    pub(super) fn calm(&self) {
        self.state().disk = Disk::default();
    }

    fn perform(&self, task: Task) -> Option<Input> {
        match task {
            Task::Expand { job, release, depth } => {
                let list = closure::expand(self, release, depth, PLATFORM).map_err(|e| self.refused(&e));
                Some(Input::Expanded { job, list })
            }
            Task::Assemble { job, release, stage } => {
                let result = closure::assemble(self, release, stage, PLATFORM).map_err(|e| self.refused(&e));
                Some(Input::Assembled { job, result })
            }
            Task::Put { peer, request, asked, came, whole } => {
                let mut held = Bitmap::empty(asked);
                let (mut bytes, mut full) = (0, None);
                for (at, chunk) in came {
                    match self.put(&chunk) {
                        Ok(()) => {
                            held.set(at, true);
                            bytes += chunk.bytes().len() as u64;
                        }
                        Err(e) => full = full.or(Some(e.to_string())),
                    }
                }
                let outcome = match full {
                    Some(why) => Delivery::NotStored { why },
                    None if whole => Delivery::Came { held, bytes, wire: bytes },
                    None => Delivery::Broke { held },
                };
                Some(Input::Delivered { peer, request, outcome, spent: Spent::default() })
            }
            Task::Sweep { keep, idle } => {
                if idle {
                    self.let_go();
                }
                if let Err(e) = self.store.gc(&keep) {
                    self.refused(&e);
                }
                None
            }
        }
    }
    fn refused(&self, error: &StoreError) -> Setback {
        self.state().refusals.push(error.to_string());
        error.setback()
    }
    fn broken(&self) -> StoreError {
        let source = std::io::Error::other("the disk failed, as fated");
        StoreError::Io { action: "write", path: "store".into(), source }
    }
}

impl Store for Shop {
    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        self.between();
        self.store.survey(chunks)
    }
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.between();
        self.store.expect(layouts)
    }
    fn put(&self, chunk: &Verified) -> Result<(), StoreError> {
        self.between();
        if self.fails(|disk| disk.refuses) {
            return Err(self.broken());
        }
        if self.fails(|disk| disk.forgets) {
            return Ok(());
        }
        self.store.put(chunk)
    }
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.between();
        if self.fails(|disk| disk.fails) {
            return Err(self.broken());
        }
        self.store.assemble(layouts)
    }
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store.read(chunks)
    }
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError> {
        self.store.object(id, limit)
    }
    fn has_object(&self, id: ObjectId) -> bool {
        self.store.has_object(id)
    }
    fn keep(&self, record: &Record) -> Result<(), StoreError> {
        self.store.keep(record)
    }
    fn records(&self) -> Result<Vec<Record>, StoreError> {
        self.store.records()
    }
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError> {
        self.store.mark(feed)
    }
    fn losses(&self) -> Vec<Damage> {
        self.store.losses()
    }
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        self.store.raise_mark(feed, head)
    }
    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        self.store.add(bytes)
    }
    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.store.ingest(dir, exclude, progress)
    }
    fn ingest_looked(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        anew: bool,
        look: &dyn Look,
    ) -> Result<Ingested, StoreError> {
        self.store.ingest_looked(dir, exclude, progress, anew, look)
    }
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError> {
        self.store.materialise(manifest, target)
    }
    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError> {
        self.store.compare(manifest, tree, mend)
    }
    fn fsck(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        self.store.fsck(progress)
    }
    fn let_go(&self) {
        self.store.let_go();
    }
    fn gc(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        self.store.gc(keep)
    }
    fn totals(&self) -> Result<(u64, u64), StoreError> {
        self.store.totals()
    }
}

/// That a tree is whole and every file of it is what its name says.
pub(super) fn whole_tree(store: &dyn Store, tree: &TreeRef) -> Result<(), StoreError> {
    for entry in &manifests::of_tree(store, tree)?.entries {
        if let softservice_protocol::tree::Node::File { object, .. } = entry.node {
            store.object(object, usize::MAX)?;
        }
    }
    Ok(())
}
