//! Looking after what is kept: the check that reads everything, and the sweep that removes what nobody needs.
//! Invariant: a check never makes worse what it finds: damaged files are moved, never deleted; a sweep removes only what
//! is neither kept nor on its way, and chunks of what is kept are still found afterwards.

use crate::{
    contract::{Damage, Findings, Layout, Progress, StoreError, Swept},
    disk::{DiskStore, lock},
    index,
    journal::{self, Log},
    layouts,
    objects::{self, Variant},
};
use rayon::prelude::*;
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::File,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

impl DiskStore {
    pub(crate) fn check_everything(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        // What it finds on the way is told below.
        self.settle();
        let mut damaged = self.take_notes();
        damaged.extend(self.check_logs()?);
        let (variants, strays) = self.objects.list()?;
        for stray in strays {
            let kept = journal::set_aside(&stray, &self.aside())?;
            let what = format!("is no object; set aside as {}", kept.display());
            damaged.push(Damage { file: stray, object: None, what });
        }
        let bytes = AtomicU64::new(0);
        let read: Result<Vec<()>, StoreError> =
            variants.par_iter().map(|variant| self.check_object(variant, &bytes, progress)).collect();
        read?;
        // What the reading above found damaged.
        damaged.extend(self.take_notes());
        let read: BTreeSet<ObjectId> = variants.iter().map(|v| v.object).collect();
        let (_, total) = objects::totals(&self.objects, &self.objects.list()?.0);
        self.rebuild.adopt()?;
        let reindexed = self.check_index()?;
        damaged.extend(self.take_notes());
        let findings = Findings { objects: read.len() as u64, bytes: total, damaged, losses: self.losses(), reindexed };
        let (damaged, losses) = (findings.damaged.len(), findings.losses.len());
        tracing::info!(objects = findings.objects, damaged, losses, reindexed, "store checked");
        Ok(findings)
    }
    fn check_object(&self, variant: &Variant, bytes: &AtomicU64, progress: Progress<'_>) -> Result<(), StoreError> {
        let path = self.objects.path(variant.object, variant.executable);
        // Swept or renamed in the meantime: nothing to check under this name.
        let Ok(mut file) = File::open(&path) else { return Ok(()) };
        self.objects.check_mode(variant)?;
        let count = |got| {
            let all = bytes.fetch_add(got, Ordering::Relaxed) + got;
            if progress(all) { Ok(()) } else { Err(StoreError::Stopped) }
        };
        match objects::hash(&mut file, count, &path) {
            Ok(id) if id == variant.object => {
                self.objects.prove(variant.object, variant.executable);
                Ok(())
            }
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            // Wrong bytes or none: the second reading decides and sets aside.
            _ => self.suspect(variant.object).map(drop),
        }
    }
    /// Compares the index with the layouts of what is here; begins it anew when anything differs. Answers how many
    /// entries were wrong, missing or superfluous.
    fn check_index(&self) -> Result<u64, StoreError> {
        self.mend()?;
        self.settle();
        let log = lock(&self.layout_log);
        let right = layouts::table(&log, &self.objects)?;
        let here: HashSet<ObjectId> = right.known().filter(|o| self.objects.has(*o)).collect();
        let mut good = 0;
        let mut wrong = 0;
        // A chunk may stand in several objects; any of its places is right.
        self.index.entries(|entry| match entry {
            Some((chunk, at)) if here.contains(&at.object) && right.has(chunk, &at) => good += 1,
            _ => wrong += 1,
        });
        let missing = right.count(&here).saturating_sub(good);
        drop(log);
        if wrong + missing > 0 || self.index.is_broken() {
            self.reindex();
            let what = format!("{wrong} entries were wrong and {missing} missing; rebuilt");
            self.note(Damage { file: self.dir().join("index"), object: None, what });
        }
        Ok(wrong + missing)
    }

    /// What stands aside under an object's name while no whole one is here. A check tells of damage once, when it sets it
    /// aside; this tells of it until it is mended.
    pub(crate) fn list_lost(&self) -> Result<Vec<Damage>, StoreError> {
        let aside = self.aside();
        let list = |e| StoreError::io("list", &aside, e);
        let mut lost = BTreeMap::new();
        for entry in std::fs::read_dir(&aside).map_err(list)? {
            let file = entry.map_err(list)?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let object: Option<ObjectId> = name.split('.').next().and_then(|id| id.parse().ok());
            if let Some(object) = object.filter(|id| !self.objects.has(*id)) {
                let what = "was damaged and set aside; no whole one came since".to_owned();
                lost.insert(object, Damage { file, object: Some(object), what });
            }
        }
        Ok(lost.into_values().collect())
    }

    pub(crate) fn sweep(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        self.mend()?;
        // What is being filled in must not name what is about to go.
        self.settle();
        // What an assembly found here, it counts on to its end.
        let _turn = lock(&self.assembling);
        let recent = std::mem::take(&mut lock(&self.flight).recent);
        let mut objects: Vec<ObjectId> = self.objects.list()?.0.into_iter().map(|v| v.object).collect();
        objects.dedup();
        let mut swept = Swept::default();
        let mut gone = BTreeSet::new();
        for object in objects {
            // The decision and the removal are one step for whoever begins to rely on this object.
            let flight = lock(&self.flight);
            let spared = [&flight.leased, &flight.recent, &recent, keep].iter().any(|set| set.contains(&object))
                || flight.intakes.contains_key(&object);
            if spared {
                swept.kept += 1;
                continue;
            }
            let _gate = self.objects.gate.write().unwrap_or_else(PoisonError::into_inner);
            swept.freed += self.objects.remove(object)?;
            swept.removed += 1;
            gone.insert(object);
        }
        {
            // Held, so that a fetch that begins now finds all of it or none.
            let flight = lock(&self.flight);
            self.partials.sweep(|object| flight.leased.contains(object) || keep.contains(object));
        }
        self.forget_aside(keep)?;
        if gone.is_empty() {
            return Ok(swept);
        }
        self.objects.sync_names()?;
        self.move_entries(&gone)?;
        Ok(swept)
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
