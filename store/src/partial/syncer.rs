//! Making what was put durable while more of it comes. Invariant: a sync that failed makes everything that stands in the
//! files it was about wanted again, whatever came since; nobody waits for a sync unless [`MOST`] bytes wait for one already.

use super::{Partials, Shared, Spot, State, StoreError, lock};
use crate::syncs::{self, SYNC_EACH};
use softservice_protocol::{id::ObjectId, limits};
use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

/// From so many bytes on a sync begins. A kill does not lose them; a power cut does.
const SYNC: u64 = 16 << 20;
/// The longest that anything waits for one.
const LONGEST: Duration = Duration::from_secs(1);
/// Bytes that may wait for a sync, or be in one: the most that a power cut costs. A disk that is slower than its peers
/// makes them wait here.
const MOST: u64 = 64 << 20;

impl Partials {
    /// Starts the thread that syncs, once there is something to sync.
    pub(super) fn start_syncer(&self) {
        let mut syncer = lock(&self.syncer);
        if syncer.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        match std::thread::Builder::new().name("sync".into()).spawn(move || shared.keep_syncing()) {
            Ok(thread) => {
                *syncer = Some(thread);
                lock(&self.shared.state).syncing = true;
            }
            Err(e) => tracing::warn!("content is synced by whoever brings it: {e}"),
        }
    }
}

impl Drop for Partials {
    fn drop(&mut self) {
        lock(&self.shared.state).ending = true;
        self.shared.wake.notify_all();
        if let Some(thread) = lock(&self.syncer).take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn keep_syncing(&self) {
        let mut state = lock(&self.state);
        loop {
            if state.ending {
                return;
            }
            let Some(first) = state.first else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = first.elapsed();
            if state.bytes < SYNC && waited < LONGEST {
                let left = LONGEST - waited;
                state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(state);
            if let Err(e) = self.commit() {
                tracing::warn!("what came last will be fetched again: {e}");
            }
            state = lock(&self.state);
            self.drained.notify_all();
        }
    }
    /// Something was written and waits for a sync. Waits while too much waits.
    pub(super) fn written(&self, mut state: MutexGuard<'_, State>, bytes: u64) -> Result<(), StoreError> {
        state.bytes += bytes;
        let first = state.first.is_none();
        state.first.get_or_insert_with(Instant::now);
        if !state.syncing {
            let full = state.bytes >= SYNC;
            drop(state);
            return if full { self.commit() } else { Ok(()) };
        }
        if first || state.bytes >= SYNC {
            self.wake.notify_one();
        }
        while state.bytes + state.under_way > MOST && !state.ending {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
    /// Logs what is written and not logged yet; from then on a kill does not lose it.
    pub(super) fn log_written(&self) -> Result<(), StoreError> {
        let mut have = lock(&self.have);
        let unlogged = std::mem::take(&mut lock(&self.state).unlogged);
        have.append(&unlogged.spots).inspect_err(|_| unlogged.spots.iter().for_each(|s| self.forget(s)))
    }

    /// Makes what was put durable, then says so in the have log.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.committing);
        self.hear();
        self.log_written()?;
        let place = lock(&self.have).place();
        let spots = {
            let mut state = lock(&self.state);
            state.under_way = std::mem::take(&mut state.bytes);
            state.first = None;
            std::mem::take(&mut state.unsynced)
        };
        let files: BTreeSet<ObjectId> = spots.iter().map(|s| s.object).collect();
        let done = if files.is_empty() { Ok(()) } else { self.sync(&files) };
        let done = done.and_then(|()| lock(&self.have).synced(place));
        lock(&self.state).under_way = 0;
        done.inspect_err(|_| {
            self.give_up(&files);
            self.hear();
        })?;
        self.name(&spots)
    }
    /// Small objects of one chunk that are synced get their names while others still come: a fetch of many small files would
    /// otherwise end with as many renames, one after the other. Larger ones wait for their layouts to be logged.
    pub(super) fn name(&self, spots: &[Spot]) -> Result<(), StoreError> {
        // Somebody else heard of a failed sync while these were synced: it may have been about them, and whoever finds a
        // name does not ask how its bytes were synced.
        if self.syncs.failures() != self.heard() {
            return Ok(());
        }
        let ready: Vec<_> = {
            let state = lock(&self.state);
            let whole = |s: &&Spot| {
                let open = state.expected.get(s.object).filter(|_| s.chunk.len as usize <= limits::CHUNK_MIN);
                open.is_some_and(|open| open.is_single() && open.life() == s.life && open.has(s))
            };
            spots.iter().filter(whole).map(|s| (s.object, self.path(s.object), u64::from(s.chunk.len))).collect()
        };
        if ready.is_empty() { Ok(()) } else { self.finish(&self.objects.name_early(&ready)) }
    }
    /// Where a sync that others rely on failed for anybody, all that is on its way is wanted again: whoever asks next, would be
    /// told that all is well. Only for whoever holds the syncs.
    pub(crate) fn hear(&self) {
        let failures = self.syncs.failures();
        if self.heard.swap(failures, Ordering::SeqCst) != failures {
            let objects = lock(&self.state).expected.objects().collect();
            self.give_up(&objects);
        }
    }
    /// Failed syncs that what is here now knows of.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }
    fn sync(&self, files: &BTreeSet<ObjectId>) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("sync", &self.dir, e);
        if files.len() > SYNC_EACH && syncs::has_whole(&self.folder) {
            return self.syncs.whole(&self.folder, &self.dir);
        }
        for object in files {
            let path = self.path(*object);
            match std::fs::File::open(&path).and_then(|f| f.sync_data()) {
                Ok(()) => {}
                // Assembled in the meantime, and synced for that.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("sync", &path, e)),
            }
        }
        self.folder.sync_all().map_err(failed)
    }
    /// What is said of these need not be logged nor synced any more.
    pub(super) fn drop_written(&self, state: &mut State, gone: impl Fn(&Spot) -> bool) {
        state.unlogged.spots.retain(|s| !gone(s));
        state.unlogged.bytes = state.unlogged.spots.iter().map(|s| u64::from(s.chunk.len)).sum();
        state.unsynced.retain(|s| !gone(s));
        if state.unsynced.is_empty() {
            state.bytes = 0;
            state.first = None;
            self.drained.notify_all();
        }
    }
}
