//! Trees of generations, held against the releases that they are of. Invariant: nothing that runs is stopped; a file is put
//! right by a rename, so a program that has the damaged one open keeps it until it starts anew.

use super::{
    Device, Slot, blocking,
    error::{DeviceError, Result},
    locked, overlay,
    record::Standing,
};
use softservice_protocol::{id::ObjectId, instance};
use softservice_store::{Compared, Damage, manifests};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// Trees of a softservice that were looked at.
type Seen = Mutex<BTreeSet<ObjectId>>;

/// What the trees of all generations look like.
#[derive(Debug, Default)]
pub struct TreeFindings {
    /// Files that are not as their release says, and generations of which nobody can say.
    pub damaged: Vec<Damage>,
    /// Of these, what is right now.
    pub mended: Vec<PathBuf>,
    /// Softservices that were left out, because a generation of theirs is on its way.
    pub busy: Vec<String>,
}

impl Device {
    /// Compares the trees of every generation with its release; with `mend`, puts right what the store has whole. The
    /// store's own check comes first: files that are one with an object are not read again.
    ///
    /// # Errors
    /// The softservices of this home cannot be listed.
    pub async fn check_trees(&self, mend: bool) -> Result<TreeFindings> {
        let mut all = TreeFindings::default();
        for name in super::names(&self.0.softservices)? {
            let slot = match self.existing(&name) {
                Ok(slot) => slot,
                // Only data is left of it.
                Err(DeviceError::Unknown { .. }) => continue,
                Err(DeviceError::Removing { .. }) => {
                    all.busy.push(name);
                    continue;
                }
                Err(e) => return Err(e),
            };
            // Generations come and go only under this lock.
            let Ok(_calm) = slot.calm().await else {
                all.busy.push(name);
                continue;
            };
            // Most generations share most of their trees.
            let seen = Arc::new(Mutex::new(BTreeSet::new()));
            for number in slot.place.numbers()? {
                let (device, slot, seen) = (self.clone(), Arc::clone(&slot), Arc::clone(&seen));
                let folder = slot.place.generation(number).path;
                let checked = blocking(move || device.check_generation(&slot, number, mend, &seen)).await;
                match checked {
                    Ok(found) => {
                        all.damaged.extend(found.damaged);
                        all.mended.extend(found.mended);
                    }
                    Err(e) => {
                        let what = format!("cannot be checked: {e}");
                        all.damaged.push(Damage { file: folder, object: None, what });
                    }
                }
            }
        }
        Ok(all)
    }

    fn check_generation(&self, slot: &Slot, number: u32, mend: bool, seen: &Seen) -> Result<Compared> {
        let (store, place) = (self.0.store.as_ref(), &slot.place);
        let failed = |source| DeviceError::Store { name: place.name.clone(), source: Box::new(source) };
        let unresolved = |source| DeviceError::Instance { name: place.name.clone(), source: Box::new(source) };
        let (top, answers, closure) = overlay::inputs(store, place, number)?;
        let needs = instance::needs(&closure, top, &answers, &super::layout::platform()).map_err(unresolved)?;
        // One that never was confirmed may have been cut off before its trees were made.
        let whole = matches!(place.record(number)?.state, Standing::Committed | Standing::Superseded);
        let mut found = Compared::default();
        for need in needs.trees.iter().filter(|n| locked(seen).insert(n.tree.manifest)) {
            let tree = place.tree(need.tree.manifest);
            let manifest = manifests::by_id(store, need.tree.manifest).map_err(failed)?;
            if tree.exists() {
                let compared = store.compare(&manifest, &tree, mend).map_err(failed)?;
                found.damaged.extend(compared.damaged);
                found.mended.extend(compared.mended);
            } else if whole {
                found.damaged.push(Damage { file: tree.clone(), object: None, what: "is missing".into() });
                if mend && store.materialise(&manifest, &tree).is_ok() {
                    found.mended.push(tree);
                }
            }
        }
        Ok(found)
    }
}
