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

/// Entries that are kept together, of about 200 bytes each: an older and a newer tree of 50,000 files. A single larger
/// manifest is kept alone.
const ENTRIES: usize = 120_000;

static RECENT: Mutex<Vec<(ObjectId, Arc<Manifest>)>> = Mutex::new(Vec::new());

fn recent() -> MutexGuard<'static, Vec<(ObjectId, Arc<Manifest>)>> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut recent = recent();
    let at = recent.iter().position(|(known, _)| *known == id)?;
    let entry = recent.remove(at);
    recent.insert(0, entry.clone());
    Some(entry.1)
}

fn remember(id: ObjectId, manifest: Arc<Manifest>) {
    let mut recent = recent();
    recent.retain(|(known, _)| *known != id);
    recent.insert(0, (id, manifest));
    let mut entries = 0;
    let kept = recent.iter().take_while(|(_, manifest)| {
        entries += manifest.entries.len();
        entries <= ENTRIES
    });
    let kept = kept.count().max(1);
    recent.truncate(kept);
}

/// Whoever needed them has what it wanted: nobody reads them again soon.
pub fn forget() {
    recent().clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

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
}
