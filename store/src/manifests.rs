//! Tree manifests, decoded and checked once for all who need them within one fetch. Invariant: what is given out was
//! hashed, decoded canonically and checked against every rule of trees, and its object is in the store that was asked.
//!
//! One cache serves every store of a process, as content is addressed by hash. It is emptied when a fetch is whole: an
//! idle node keeps none.

use crate::contract::{Store, StoreError};
use softservice_protocol::{
    codec,
    id::ObjectId,
    limits,
    tree::{Manifest, TreeRef},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries that are kept together, of about 200 bytes each: artifact and source of a release of 50,000 files, and an older
/// one's artifact. A single larger manifest is kept alone.
const ENTRIES: usize = 160_000;

static RECENT: Mutex<Recent> = Mutex::new(Recent { kept: Vec::new(), readers: 0 });

fn recent() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Manifests that were read lately, the last one first.
struct Recent {
    kept: Vec<(ObjectId, Arc<Manifest>)>,
    /// Those who will read them again.
    readers: usize,
}

/// As long as somebody has one, what was read stays known: a fetch and the tree that is made of it read the same.
#[derive(Debug)]
pub struct Reading(());

/// Says that what is read now is read again soon.
pub fn reading() -> Reading {
    recent().readers += 1;
    Reading(())
}

impl Drop for Reading {
    fn drop(&mut self) {
        recent().leave();
    }
}

/// A manifest that is here.
///
/// # Errors
/// [`StoreError::Missing`] when it is not, and every rule that it breaks.
pub fn by_id(store: &dyn Store, id: ObjectId) -> Result<Arc<Manifest>, StoreError> {
    if let Some(known) = known(id) {
        return if store.has_object(id) { Ok(known) } else { Err(StoreError::Missing(id)) };
    }
    let manifest: Manifest = codec::decode(&store.object(id, limits::MANIFEST_BYTES)?)?;
    manifest.check()?;
    let manifest = Arc::new(manifest);
    remember(id, manifest.clone());
    Ok(manifest)
}

/// The same, checked also against the totals that a release pins.
///
/// # Errors
/// See [`by_id`]; and totals that are not those of the reference.
pub fn of_tree(store: &dyn Store, tree: &TreeRef) -> Result<Arc<Manifest>, StoreError> {
    let manifest = by_id(store, tree.manifest)?;
    if tree.agrees(&manifest) {
        return Ok(manifest);
    }
    Err(StoreError::Unsound { object: tree.manifest, rule: "its files are not the totals that are pinned" })
}

fn known(id: ObjectId) -> Option<Arc<Manifest>> {
    recent().known(id)
}

fn remember(id: ObjectId, manifest: Arc<Manifest>) {
    recent().remember(id, manifest);
}

/// Whoever needed them has what it wanted: nobody reads them again soon, but for those who said so.
pub fn forget() {
    recent().forget();
}

impl Recent {
    fn known(&mut self, id: ObjectId) -> Option<Arc<Manifest>> {
        let at = self.kept.iter().position(|(known, _)| *known == id)?;
        let entry = self.kept.remove(at);
        self.kept.insert(0, entry.clone());
        Some(entry.1)
    }
    fn remember(&mut self, id: ObjectId, manifest: Arc<Manifest>) {
        self.kept.retain(|(known, _)| *known != id);
        self.kept.insert(0, (id, manifest));
        let mut entries = 0;
        let kept = self.kept.iter().take_while(|(_, manifest)| {
            entries += manifest.entries.len();
            entries <= ENTRIES
        });
        let kept = kept.count().max(1);
        self.kept.truncate(kept);
    }
    fn forget(&mut self) {
        if self.readers == 0 {
            self.kept.clear();
        }
    }
    fn leave(&mut self) {
        self.readers = self.readers.saturating_sub(1);
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use softservice_protocol::chunk::Cutting;

    #[test]
    fn a_store_without_it_is_not_helped_by_one_that_has_it() {
        let (ann, bob) = (MemoryStore::new(), MemoryStore::new());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "a").unwrap();
        let tree = ann.ingest(dir.path(), &[], &|_| true).unwrap().tree;
        let manifest = of_tree(&ann, &tree).unwrap();
        assert_eq!(manifest.totals(), (1, 1));
        assert!(matches!(by_id(&bob, tree.manifest), Err(StoreError::Missing(id)) if id == tree.manifest));
        assert!(matches!(of_tree(&ann, &TreeRef { files: 2, ..tree }), Err(StoreError::Unsound { .. })));
    }

    #[test]
    fn what_somebody_reads_again_outlives_whoever_has_done_with_it() {
        let mut recent = Recent { kept: Vec::new(), readers: 2 };
        let id = ObjectId([1; 32]);
        recent.remember(id, Arc::new(Manifest { cutting: Cutting::STANDARD, entries: Vec::new() }));
        recent.forget();
        assert!(recent.known(id).is_some());
        recent.leave();
        assert!(recent.known(id).is_some());
        recent.leave();
        assert!(recent.known(id).is_none());
    }
}
