//! Bringing the index in step with the truth, beside everything else: opening it, filling it from the layouts log, cutting
//! again what the log does not know. Invariant: the store answers rightly meanwhile, because a table of the log stands in
//! for the index, from before anything is thrown away until that has all that the table has; nobody but this thread touches
//! sled before. An index that is whole is never emptied. What ends it early, a kill or a close, leaves an index that the next
//! opening goes on with or fills again.

use crate::{
    contract::{Damage, StoreError, Upkeep},
    disk::lock,
    index::{Found, Index, Mark},
    journal::Log,
    layouts,
    objects::Objects,
    table::Table,
};
use rayon::prelude::*;
use softservice_protocol::{chunk::ChunkRef, id::ObjectId, limits};
use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Room that a new index needs to begin: sled grows in segments of half a megabyte.
const INDEX_ROOM: u64 = 2 << 20;
/// Places entered between two looks whether it is to stop.
const STEP: usize = 1000;
/// Places after which what was entered is written, so that sled keeps no more of it in memory.
const FLUSH: u64 = 50_000;
/// After a filling that failed, the next one waits so long: a full disk does not empty itself.
const AGAIN: Duration = Duration::from_secs(10);

/// Who closes a store waits so long for the end of it, because a life that did not come to it was not in order, and costs
/// the next one more than that.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a filling is; a test waits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing was touched yet.
    Begun,
    /// So many places were entered.
    Filled(u64),
    /// The index answers; what the log does not know is looked for.
    Adopting,
}

/// Hears of every step before it is taken.
pub(crate) type Watch = Arc<dyn Fn(Step) + Send + Sync>;

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Open what an earlier life left, and look for objects that the log does not know if there may be any.
    Open { found: Found, adopt: bool },
    /// It broke, or is wrong: begin anew.
    Anew,
    /// It is whole; only look for objects that the log does not know.
    Adopt,
}

/// How it stands.
#[derive(Debug, Default)]
struct State {
    going: bool,
    /// When it failed the last time, if nothing came right since.
    failed: Option<Instant>,
}

/// What the thread needs.
pub(crate) struct Parts {
    pub(crate) objects: Arc<Objects>,
    pub(crate) index: Arc<Index>,
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) notes: Arc<Mutex<Vec<Damage>>>,
    pub(crate) watch: Option<Watch>,
}

/// The one thread that does it.
pub(crate) struct Rebuild {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    parts: Parts,
    state: Mutex<State>,
    ended: Condvar,
    stop: AtomicBool,
    /// How often something happened that may leave objects here which the log does not know; and how many of these times
    /// they were looked for since.
    doubts: AtomicU64,
    settled: AtomicU64,
    patience: Duration,
    /// Past the index: what the log does not know is looked for.
    adopting: AtomicBool,
    done: AtomicU64,
    of: AtomicU64,
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rebuild({:?})", lock(&self.shared.state))
    }
}

/// Objects that the log knows, as far as it was read. Whoever brings an object says how it is cut; what is cut again here
/// is only for those of which nobody said so, and must never be the newer word.
#[derive(Default)]
struct Known {
    objects: HashSet<ObjectId>,
    read: Mark,
}

impl Known {
    fn of(table: &Table) -> Self {
        Self { objects: table.known().collect(), read: table.read() }
    }
    fn catch_up(&mut self, log: &Log) -> Result<(), StoreError> {
        let from = if self.read.0 == log.tag() { self.read.1 } else { Log::start() };
        self.objects.extend(layouts::decode(&log.read(from)?).map(|l| l.object));
        self.read = (log.tag(), log.end());
        Ok(())
    }
}

/// Why a filling ended before its end.
enum End {
    Stopped,
    Broken,
    Failed(StoreError),
}

impl From<StoreError> for End {
    fn from(e: StoreError) -> Self {
        Self::Failed(e)
    }
}

impl Rebuild {
    pub(crate) fn new(parts: Parts) -> Self {
        let watched = parts.watch.is_some();
        let shared = Shared {
            parts,
            state: Mutex::default(),
            ended: Condvar::new(),
            stop: AtomicBool::new(false),
            doubts: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            // Who watches says itself how long it takes.
            patience: if watched { Duration::ZERO } else { PATIENCE },
            adopting: AtomicBool::new(false),
            done: AtomicU64::new(0),
            of: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), thread: Mutex::default() }
    }
    /// Begins, unless it goes on already. Says whether it does, so that this was not begun.
    pub(crate) fn begin(&self, task: Task) -> bool {
        if let Task::Open { adopt: true, .. } = task {
            self.doubt();
        }
        self.begin_with(|_| Some(task))
    }
    /// Begins what is left to do, if anything is and nothing goes on: the look and the beginning are one step. After one
    /// that failed that waits a while.
    pub(crate) fn begin_due(&self) {
        self.begin_with(|state| {
            if state.failed.is_some_and(|at| at.elapsed() < AGAIN) {
                return None;
            }
            // Whatever has no table and did not break answers for itself, and is never emptied.
            let index = &self.shared.parts.index;
            if index.is_broken() || index.table().is_some() {
                return Some(Task::Anew);
            }
            (!self.has_adopted()).then_some(Task::Adopt)
        });
    }
    fn begin_with(&self, task: impl FnOnce(&State) -> Option<Task>) -> bool {
        let mut thread = lock(&self.thread);
        let mut state = lock(&self.shared.state);
        if self.shared.stop.load(Ordering::Acquire) {
            return false;
        }
        if state.going {
            return true;
        }
        let Some(task) = task(&state) else { return false };
        let shared = Arc::clone(&self.shared);
        match std::thread::Builder::new().name("rebuild".into()).spawn(move || shared.run(task)) {
            Ok(handle) => {
                state.going = true;
                // The one before has ended.
                *thread = Some(handle);
            }
            Err(e) => {
                state.failed = Some(Instant::now());
                tracing::warn!("the index is not opened: {e}");
            }
        }
        false
    }
    /// Waits until nothing is going on.
    pub(crate) fn settle(&self) {
        let mut state = lock(&self.shared.state);
        while state.going {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
    /// Ends it as soon as it can.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there left an index without its mark.
            let _ = thread.join();
        }
    }
    /// Something ended between an object's name and its record in the log: nobody would say again how it is cut. So it is
    /// looked for, the next time that anything is asked of the index; and by the next life, if this one does not come to it.
    pub(crate) fn doubt(&self) {
        self.shared.doubts.fetch_add(1, Ordering::AcqRel);
    }
    /// Every object that is here is in the log.
    pub(crate) fn has_adopted(&self) -> bool {
        self.shared.has_adopted()
    }
    /// How far it is, while it goes on.
    pub(crate) fn progress(&self) -> Option<Upkeep> {
        if !lock(&self.shared.state).going {
            return None;
        }
        let adopting = self.shared.adopting.load(Ordering::Acquire);
        let what = if adopting { "looking for objects that the log does not know" } else { "filling the index" };
        let [done, of] = [&self.shared.done, &self.shared.of].map(|n| n.load(Ordering::Relaxed));
        Some(Upkeep { what, done, of })
    }
    /// Cuts objects again that the log does not know: a crash came between their name and their record, or the record
    /// is damaged. An object that was cut otherwise by its publisher is found under our own cuts from then on.
    pub(crate) fn adopt(&self) -> Result<(), StoreError> {
        match self.shared.adopt(Known::default()) {
            Err(End::Failed(e)) => Err(e),
            Ok(()) | Err(End::Stopped | End::Broken) => Ok(()),
        }
    }
}

impl Shared {
    fn has_adopted(&self) -> bool {
        self.settled.load(Ordering::Acquire) == self.doubts.load(Ordering::Acquire)
    }
    fn reach(&self, begun: Instant, step: Step) -> Result<(), End> {
        if let Step::Filled(done) = step {
            self.done.store(done, Ordering::Relaxed);
        }
        if let Some(watch) = &self.parts.watch {
            watch(step);
        }
        // What is only opened is opened to the end, for the same reason.
        let patient = step == Step::Begun || begun.elapsed() < self.patience;
        if !patient && self.stop.load(Ordering::Acquire) { Err(End::Stopped) } else { Ok(()) }
    }
    fn note(&self, what: String) {
        self.note_of(self.parts.index.dir().to_owned(), None, what);
    }
    fn note_of(&self, file: PathBuf, object: Option<ObjectId>, what: String) {
        tracing::warn!(file = %file.display(), "{what}");
        lock(&self.parts.notes).push(Damage { file, object, what });
    }

    fn run(&self, task: Task) {
        self.adopting.store(false, Ordering::Release);
        self.done.store(0, Ordering::Relaxed);
        let table = self.parts.index.table();
        self.of.store(table.as_ref().map_or(0, |t| t.len() as u64), Ordering::Relaxed);
        let adopt = !self.has_adopted();
        // Taken before the filling, so that the table is not kept for it.
        let known = table.filter(|_| adopt).map(|t| Known::of(&t)).unwrap_or_default();
        let work = || {
            let filled = match task {
                Task::Open { found, .. } => self.open(&found),
                Task::Anew => self.anew(),
                Task::Adopt => Ok(()),
            };
            if let Err(End::Failed(e)) = &filled {
                self.note(format!("it cannot be filled: {e}; chunks are looked up in the log meanwhile"));
            }
            if !adopt || matches!(filled, Err(End::Stopped)) {
                return filled;
            }
            let adopted = self.adopt(known);
            if let Err(End::Failed(e)) = &adopted {
                tracing::warn!("objects that the layouts log does not know are looked for again later: {e}");
            }
            adopted.and(filled)
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let mut state = lock(&self.state);
        state.going = false;
        state.failed = match ended {
            Ok(Ok(()) | Err(End::Stopped)) => None,
            Ok(Err(End::Broken | End::Failed(_))) | Err(_) => Some(Instant::now()),
        };
        self.ended.notify_all();
    }
    /// Opens what an earlier life left, and fills in what is behind its mark.
    fn open(&self, found: &Found) -> Result<(), End> {
        self.reach(Instant::now(), Step::Begun)?;
        let opened = self.parts.index.open(found)?;
        if let Some(what) = opened.broken {
            self.note(format!("{what}; rebuilt"));
        }
        let from = match opened.mark {
            Some((tag, at)) => {
                let log = lock(&self.parts.log);
                (tag == log.tag() && (Log::start()..=log.end()).contains(&at)).then_some(at)
            }
            None => Some(Log::start()),
        };
        let filled = match from {
            Some(from) => {
                let table = self.stand_in()?;
                self.fill(&table, from, opened.mark)
            }
            // It knows of another log than the one that is here.
            None => Err(End::Broken),
        };
        match filled {
            Err(End::Broken) => self.anew(),
            filled => filled,
        }
    }
    /// What answers until the index does. Whoever fills has one before anything is thrown away.
    fn stand_in(&self) -> Result<Arc<Table>, StoreError> {
        self.parts.index.stand_in(&lock(&self.parts.log), &self.parts.objects)
    }
    /// Begins an empty index and fills it.
    fn anew(&self) -> Result<(), End> {
        let table = self.stand_in()?;
        self.of.store(table.len() as u64, Ordering::Relaxed);
        self.reach(Instant::now(), Step::Begun)?;
        // Most of all an index breaks because the disk is full.
        self.parts.objects.room_for(INDEX_ROOM)?;
        self.parts.index.renew()?;
        match self.fill(&table, Log::start(), None) {
            Err(End::Broken) => {
                let what = "it breaks whenever it is filled; check the disk".to_owned();
                let path = self.parts.index.dir().to_owned();
                Err(End::Failed(StoreError::Damaged { path, object: None, what }))
            }
            filled => filled,
        }
    }
    /// Fills in what records behind `from` say, and then lets the index answer in place of the table.
    fn fill(&self, table: &Table, from: u64, mark: Option<Mark>) -> Result<(), End> {
        let index = &self.parts.index;
        let (begun, mut done) = (Instant::now(), 0);
        let behind = mark.is_none_or(|(_, at)| at < lock(&self.parts.log).end());
        let mut places = table.from(if behind { from } else { u64::MAX });
        loop {
            let step: Vec<_> = places.by_ref().take(STEP).collect();
            if step.is_empty() {
                break;
            }
            done += step.len() as u64;
            index.fill(step);
            if done % FLUSH < STEP as u64 {
                index.flush();
            }
            self.reach(begun, Step::Filled(done))?;
            if index.is_broken() {
                return Err(End::Broken);
            }
        }
        if mark.is_some() && !self.has_adopted() {
            // A sweep of that life may have removed objects without moving their entries.
            for (chunk, gone, at) in table.moved() {
                index.drain(&chunk, &gone);
                index.fill(at.map(|at| (chunk, at)));
                done += 1;
                self.reach(begun, Step::Filled(done))?;
            }
        }
        if done > 0 {
            // Without the lock, because this is what takes long.
            index.sync();
        }
        if done >= FLUSH {
            index.reopen();
        }
        let log = lock(&self.parts.log);
        let [entered, denied] = table.since();
        for (chunk, at) in &denied {
            index.drain(chunk, at);
        }
        // What the table answered with, the index must: the place that it got above is perhaps not a good one any more.
        let late: Vec<ChunkRef> = entered.into_iter().chain(denied).map(|(chunk, _)| chunk).collect();
        index.fill(late.iter().filter_map(|chunk| Some((*chunk, table.get(chunk)?))));
        let now = (log.tag(), log.end());
        if !late.is_empty() || done > 0 || mark != Some(now) {
            index.commit(now);
        }
        if index.is_broken() {
            return Err(End::Broken);
        }
        index.take_over();
        Ok(())
    }
    /// Logs layouts of objects that are here and not known, a folder at a time.
    fn adopt(&self, mut known: Known) -> Result<(), End> {
        self.adopting.store(true, Ordering::Release);
        self.of.store(256, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        // What happens from here on may be about a folder that was looked at already.
        let doubts = self.doubts.load(Ordering::Acquire);
        let begun = Instant::now();
        let Parts { objects, index, log, .. } = &self.parts;
        known.catch_up(&lock(log))?;
        for shard in 0..=255u8 {
            self.reach(begun, Step::Adopting)?;
            self.done.store(u64::from(shard), Ordering::Relaxed);
            let mut variants = Vec::new();
            objects.list_shard(shard, &mut variants, &mut Vec::new())?;
            let large = |o: &ObjectId| objects.size(*o).is_some_and(|size| size > limits::CHUNK_MIN as u64);
            let unknown: HashSet<ObjectId> =
                variants.into_par_iter().map(|v| v.object).filter(|o| !known.objects.contains(o) && large(o)).collect();
            for object in unknown {
                // One after the other: whoever else has work for the cores comes first.
                let layout = match layouts::recut(objects, object, || self.reach(begun, Step::Adopting)) {
                    Ok(layout) => layout,
                    // The others are found nevertheless. A check reads this one again, and sets it aside.
                    Err(End::Failed(e)) => {
                        self.note_of(objects.path(object, false), Some(object), format!("it cannot be cut again: {e}"));
                        None
                    }
                    Err(end) => return Err(end),
                };
                if let Some(layout) = layout {
                    let mut log = lock(log);
                    known.catch_up(&log)?;
                    if !known.objects.contains(&object) {
                        layouts::record(&mut log, index, std::iter::once(&layout))?;
                    }
                }
                self.reach(begun, Step::Adopting)?;
            }
        }
        self.settled.fetch_max(doubts, Ordering::AcqRel);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
