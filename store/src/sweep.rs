//! The sweep that removes what nobody needs, in steps; between two of them everything else goes on. Invariant: it removes
//! only what is neither kept, nor on its way, nor relied on by an intake, each asked again for every step; chunks of what
//! is kept are still found afterwards. A crash between any two lines costs nothing but the sweep: names go first, and an
//! entry or a layout without its object is known to be of no use.

use crate::{
    contract::{Keeper, Layout, StoreError, Swept},
    disk::{DiskStore, lock},
    index,
    journal::Log,
    layouts,
};
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{PoisonError, TryLockError},
};

/// Objects that one step looks at: some milliseconds, for which assemblies wait.
const STEP: usize = 256;

impl DiskStore {
    pub(crate) fn sweep(&self, keeper: &mut dyn Keeper) -> Result<(Swept, BTreeSet<ObjectId>), StoreError> {
        self.mend()?;
        // What is being filled in must not name what is about to go.
        self.settle();
        let recent = {
            let mut flight = lock(&self.flight);
            if keeper.builds() { flight.recent.clone() } else { std::mem::take(&mut flight.recent) }
        };
        let (mut swept, mut gone) = (Swept::default(), BTreeSet::new());
        let steps = self.take_unneeded(keeper, &recent, &mut swept, &mut gone);
        // Also when it was stopped or failed: what is gone by now must not be looked for any more.
        swept.unlogged = self.forget_layouts(&gone)?;
        steps?;
        Ok((swept, gone))
    }
    /// The log of layouts stops naming what is gone, by this sweep or one before. Answers how many objects it still names: on
    /// a full disk it cannot be written anew. The sweep did its work all the same, and layouts without an object are known to
    /// be of no use; so that is no failure, but told, and the next sweep's to do.
    fn forget_layouts(&self, gone: &BTreeSet<ObjectId>) -> Result<u64, StoreError> {
        let mut named = std::mem::take(&mut lock(&self.flight).unlogged);
        named.extend(gone);
        if named.is_empty() {
            return Ok(0);
        }
        let synced = self.objects.sync_names();
        // Also when nobody knows whether the names are gone for good: whatever comes back is looked for, and cut again.
        synced.as_ref().err().into_iter().for_each(|_| self.rebuild.doubt());
        let moved = self.move_entries(&named);
        let done = synced.and(moved);
        let left = named.len() as u64;
        match done {
            Ok(()) => Ok(0),
            Err(e) => {
                lock(&self.flight).unlogged.append(&mut named);
                if matches!(e, StoreError::Full { .. }) { Ok(left) } else { Err(e) }
            }
        }
    }
    fn take_unneeded(
        &self,
        keeper: &mut dyn Keeper,
        recent: &BTreeSet<ObjectId>,
        swept: &mut Swept,
        gone: &mut BTreeSet<ObjectId>,
    ) -> Result<(), StoreError> {
        for shard in 0..=255u8 {
            let mut variants = Vec::new();
            self.objects.list_shard(shard, &mut variants, &mut Vec::new())?;
            let objects: BTreeSet<ObjectId> = variants.into_iter().map(|v| v.object).collect();
            let objects: Vec<ObjectId> = objects.into_iter().collect();
            // An empty folder is a step as well: whoever stops a sweep need not wait for a full one.
            for part in objects.chunks(STEP).chain(objects.is_empty().then_some(&[] as &[ObjectId])) {
                let mut taken = false;
                while !taken {
                    keeper.step(&mut |keep| {
                        // What an assembly found here, it counts on to its end. It may take minutes, and whoever waits for
                        // the keeper is not to wait for that.
                        let _turn = match self.assembling.try_lock() {
                            Ok(turn) => turn,
                            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                            Err(TryLockError::WouldBlock) => return Ok(()),
                        };
                        taken = true;
                        self.take_step(part, recent, keep, swept, gone)
                    })?;
                    if !taken {
                        drop(lock(&self.assembling));
                    }
                }
                keeper.looked(part.len() as u64);
            }
        }
        keeper.step(&mut |keep| {
            // Held, so that a fetch that begins now finds all of it or none.
            let flight = lock(&self.flight);
            self.partials.sweep(|object| flight.leased.contains_key(object) || keep.contains(object));
            drop(flight);
            self.forget_aside(keep)
        })
    }
    fn take_step(
        &self,
        objects: &[ObjectId],
        recent: &BTreeSet<ObjectId>,
        keep: &BTreeSet<ObjectId>,
        swept: &mut Swept,
        gone: &mut BTreeSet<ObjectId>,
    ) -> Result<(), StoreError> {
        for object in objects {
            // The decision and the removal are one step for whoever begins to rely on this object.
            let flight = lock(&self.flight);
            let spared = [&flight.recent, &flight.arrived, recent, keep].iter().any(|set| set.contains(object))
                || flight.leased.contains_key(object)
                || flight.intakes.contains_key(object);
            if spared {
                swept.kept += 1;
                continue;
            }
            let _gate = self.objects.gate.write().unwrap_or_else(PoisonError::into_inner);
            swept.freed += self.objects.remove(*object)?;
            swept.removed += 1;
            gone.insert(*object);
        }
        Ok(())
    }
    /// Damaged copies of objects that nobody needs are no longer worth a repair.
    fn forget_aside(&self, keep: &BTreeSet<ObjectId>) -> Result<(), StoreError> {
        let aside = self.aside();
        for entry in std::fs::read_dir(&aside).map_err(|e| StoreError::io("read", &aside, e))? {
            let path = entry.map_err(|e| StoreError::io("read", &aside, e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let object: Option<ObjectId> = name.get(..64).and_then(|hex| hex.parse().ok());
            if object.is_some_and(|id| !keep.contains(&id)) {
                std::fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            }
        }
        Ok(())
    }
    /// Points index entries of removed objects to kept ones that have the same chunk, or takes them out. Under the lock of
    /// the log from the first look on: what another fetch makes whole meanwhile is logged and indexed after this.
    fn move_entries(&self, gone: &BTreeSet<ObjectId>) -> Result<(), StoreError> {
        let mut log = lock(&self.layout_log);
        // The newest layout of an object is the one to keep.
        let layouts: BTreeMap<ObjectId, Layout> =
            layouts::decode(&log.read(Log::start())?).map(|l| (l.object, l)).collect();
        // One that was fetched again since it was removed is here.
        let removed = |l: &Layout| gone.contains(&l.object) && !self.objects.has(l.object);
        let (removed, kept): (Vec<Layout>, Vec<Layout>) = layouts.into_values().partition(removed);
        let mut orphans = HashSet::new();
        for (chunk, location) in removed.iter().flat_map(index::places) {
            // Nothing is known of it where an earlier life took an entry out and did not come to putting another one in.
            if self.index.remove(&chunk, &location) || self.index.get(&chunk).is_none() {
                orphans.insert(chunk.id);
            }
        }
        self.index.insert(kept.iter().flat_map(index::places).filter(|(chunk, _)| orphans.contains(&chunk.id)));
        self.rewrite_layouts(&mut log, kept.iter())
    }
}

#[cfg(test)]
mod tests;
