//! Trees of a softservice, each once, whatever generations are made of it. Invariant: a generation's link to a tree is on
//! the disk before the tree is, so a tree without a link is nobody's; trees come and go only while the softservice's work is
//! locked.
//!
//! A generation that changes one file of one tree costs that tree's folders and links; the other trees are where they were,
//! and programs that run on find them there. Refused: a folder of links for each generation, which for a root tree of
//! 20,000 files is as many new names and a second of work at each update.

use super::{
    durable,
    error::{DeviceError, Result, io},
    layout::{Folder, Place},
};
use softservice_protocol::id::ObjectId;
use softservice_store::{Store, manifests};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// What trees are made from, and where.
pub(super) struct Trees<'a> {
    pub(super) place: &'a Place,
    pub(super) store: &'a dyn Store,
}

impl Trees<'_> {
    /// Makes the trees of a generation that are not here yet. `needed`: key and manifest of each.
    pub(super) fn make<'n>(&self, folder: &Folder, needed: impl Iterator<Item = (&'n str, ObjectId)>) -> Result<()> {
        let failed = |source| DeviceError::Store { name: self.place.name.clone(), source: Box::new(source) };
        durable::folder(&folder.tree_links(), 0o755)?;
        durable::folder(&self.place.trees(), 0o700)?;
        for (key, id) in needed {
            let (link, tree) = (folder.tree_links().join(key), self.place.tree(id));
            let target = Path::new("../../../trees").join(id.to_string());
            if !fs::read_link(&link).is_ok_and(|there| there == target) {
                durable::point(&link, &target)?;
            }
            if tree.exists() {
                continue;
            }
            let manifest = manifests::by_id(self.store, id).map_err(failed)?;
            let made = self.store.materialise(&manifest, &tree).map_err(failed)?;
            tracing::debug!(tree = key, ?made, "materialised");
        }
        manifests::forget();
        Ok(())
    }
}

/// Trees that are here whole.
pub(super) fn here(place: &Place, needed: impl Iterator<Item = ObjectId>) -> Vec<ObjectId> {
    needed.filter(|id| place.tree(*id).is_dir()).collect()
}

/// Removes trees that no generation is made of any more.
pub(super) fn sweep(place: &Place) -> Result<()> {
    let mut needed: BTreeSet<OsString> = BTreeSet::new();
    for number in place.numbers()? {
        for link in listed(&place.generation(number).tree_links())? {
            let target = fs::read_link(&link).map_err(io("read", &link))?;
            needed.extend(target.file_name().map(OsString::from));
        }
    }
    for tree in listed(&place.trees())? {
        if tree.file_name().is_none_or(|name| !needed.contains(name)) {
            tracing::info!(softservice = place.name, tree = %tree.display(), "removing a tree of no generation");
            durable::let_go(&tree)?;
        }
    }
    Ok(())
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| Ok(e.map_err(io("list", folder))?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(io("list", folder)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_with_the_last_generation_that_is_made_of_it() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = Place::new(scratch.path(), "shelf").expect("a name");
        place.make().expect("made");
        let (shared, own) = (ObjectId([1; 32]), ObjectId([2; 32]));
        for (number, ids) in [(1, vec![shared, own]), (2, vec![shared])] {
            let links = place.generation(number).tree_links();
            fs::create_dir_all(&links).expect("a folder");
            for id in ids {
                fs::create_dir_all(place.tree(id).join("bin")).expect("a folder");
                durable::point(&links.join(id.short()), &Path::new("../../../trees").join(id.to_string()))
                    .expect("a link");
                assert!(links.join(id.short()).join("bin").is_dir(), "the link leads to the tree");
            }
        }
        // What a removal that was cut off left is nobody's either.
        fs::create_dir(place.trees().join(".half.new")).expect("a folder");
        sweep(&place).expect("swept");
        assert_eq!(here(&place, [shared, own].into_iter()), [shared, own]);
        assert!(!place.trees().join(".half.new").exists());
        durable::remove_folder(&place.generation(1).path).expect("removed");
        sweep(&place).expect("swept");
        assert_eq!(here(&place, [shared, own].into_iter()), [shared]);
        durable::remove_folder(&place.generation(2).path).expect("removed");
        sweep(&place).expect("swept");
        assert_eq!(listed(&place.trees()).expect("listed").len(), 0);
    }
}
