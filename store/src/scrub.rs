//! Looking after what is kept: the check that reads everything. Invariant: it never makes worse what it finds: damaged
//! files are moved, never deleted.

use crate::{
    contract::{Damage, Findings, Progress, Store as _, StoreError},
    digest,
    disk::{DiskStore, lock},
    journal, layouts,
    objects::Variant,
};
use rayon::prelude::*;
use softservice_protocol::id::ObjectId;
use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

impl DiskStore {
    pub(crate) fn check_everything(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        // What it finds on the way is told below.
        self.settle();
        let mut damaged = self.take_notes();
        let findings = self.check_all(&mut damaged, progress);
        if findings.is_err() {
            // Nobody hears of it now: the next check tells.
            lock(&self.notes).append(&mut damaged);
        }
        findings
    }
    fn check_all(&self, damaged: &mut Vec<Damage>, progress: Progress<'_>) -> Result<Findings, StoreError> {
        damaged.extend(self.check_logs()?);
        let (mut variants, strays) = self.objects.list()?;
        for stray in strays {
            let kept = journal::set_aside(&stray, &self.aside())?;
            let what = format!("is no object; set aside as {}", kept.display());
            damaged.push(Damage { file: stray, object: None, what });
        }
        let bytes = AtomicU64::new(0);
        let read: Result<Vec<Option<u64>>, StoreError> =
            variants.par_iter().map(|variant| self.check_object(variant, &bytes, progress)).collect();
        let good: BTreeMap<ObjectId, u64> =
            variants.iter().zip(read?).filter_map(|(variant, size)| Some((variant.object, size?))).collect();
        // What the reading above found damaged.
        damaged.extend(self.take_notes());
        variants.dedup_by_key(|v| v.object);
        let total = good.values().sum();
        self.rebuild.adopt()?;
        let reindexed = self.check_index()?;
        damaged.extend(self.take_notes());
        let damaged = std::mem::take(damaged);
        let (objects, losses, unheard) = (variants.len() as u64, self.losses(), self.take_unheard());
        let findings = Findings { objects, bytes: total, damaged, losses, unheard, reindexed };
        let (damaged, losses) = (findings.damaged.len(), findings.losses.len());
        tracing::info!(objects = findings.objects, damaged, losses, reindexed, "store checked");
        Ok(findings)
    }
    /// Answers the size of what is right.
    fn check_object(
        &self,
        variant: &Variant,
        bytes: &AtomicU64,
        progress: Progress<'_>,
    ) -> Result<Option<u64>, StoreError> {
        let path = self.objects.path(variant.object, variant.executable);
        // Swept or renamed in the meantime: nothing to check under this name.
        let Some(file) = self.objects.open_variant(variant) else { return Ok(None) };
        let found = file.metadata().map_err(|e| StoreError::io("look at", &path, e))?;
        self.objects.check_mode(variant, &found, &path)?;
        let count = |got| {
            let all = bytes.fetch_add(got, Ordering::Relaxed) + got;
            if progress(all) { Ok(()) } else { Err(StoreError::Stopped) }
        };
        match digest::of_file(&file, count, &path) {
            Ok(id) if id == variant.object => {
                self.objects.prove(variant.object, variant.executable);
                Ok(Some(found.len()))
            }
            Err(StoreError::Stopped) => Err(StoreError::Stopped),
            // Wrong bytes or none: the second reading decides and sets aside.
            _ => self.suspect(variant.object).map(|_| None),
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
}
