//! Trees that somebody or something changed after they were materialised. Invariant: what differs is named, what is mended
//! is right again byte for byte, and a damaged object does not live on in the trees that were linked to it.

mod cast;

use cast::{Folder, layout_of, scratch, tree_of};
use softservice_protocol::chunk::Verified;
use softservice_store::{Compared, MemoryStore, Store, open};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

fn named(found: &Compared, root: &Path) -> BTreeSet<PathBuf> {
    found.damaged.iter().map(|d| d.file.strip_prefix(root).expect("it is below").to_owned()).collect()
}

fn write(path: &Path, mode: u32, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn what_differs_is_named_and_mended() {
    let dir = scratch();
    let stores: [Box<dyn Store>; 2] = [Box::new(MemoryStore::new()), Box::new(open(dir.path()).unwrap())];
    for store in stores {
        let folder = Folder::sample();
        let (manifest, _) = tree_of(&*store, &folder);
        let parent = tempfile::tempdir_in(dir.path()).unwrap();
        let tree = parent.path().join("tree");
        store.materialise(&manifest, &tree).unwrap();
        assert_eq!(store.compare(&manifest, &tree, true).unwrap(), Compared::default());

        let at = |name: &str| tree.join(name);
        write(&at("a.txt"), 0o444, b"other words");
        write(&at("bin/serve"), 0o555, &fs::read(at("bin/serve")).unwrap()); // as it was, no link any more
        write(&at("bin/serve.data"), 0o666, &fs::read(at("bin/serve.data")).unwrap());
        write(&at("deep/copy.txt"), 0o444, b"hello 2");
        fs::remove_file(at("large")).unwrap();
        fs::remove_file(at("bin/link")).unwrap();
        symlink("elsewhere", at("bin/link")).unwrap();
        fs::remove_dir_all(at("deep/er")).unwrap();
        symlink("/tmp", at("deep/er")).unwrap();
        fs::remove_dir(at("empty")).unwrap();
        fs::write(at("empty"), b"a file now").unwrap();
        let changed = "a.txt bin/serve.data deep/copy.txt large bin/link deep/er deep/er/est deep/er/est/medium empty";
        let changed: BTreeSet<PathBuf> = changed.split(' ').map(PathBuf::from).collect();

        let found = store.compare(&manifest, &tree, false).unwrap();
        assert_eq!((named(&found, &tree), found.mended.len()), (changed.clone(), 0));
        let found = store.compare(&manifest, &tree, true).unwrap();
        assert_eq!(named(&found, &tree), changed);
        assert_eq!(found.mended.len(), changed.len(), "{found:?}");
        assert_eq!(store.compare(&manifest, &tree, true).unwrap(), Compared::default());
        folder.assert_same(&tree, &[]);
    }
}

/// Written through a tree's file, as a careless root process does it: the object and two trees have it at once.
#[test]
fn a_flipped_byte_does_not_live_on_in_trees_that_were_linked_to_it() {
    let dir = scratch();
    let store = open(&dir.path().join("store")).unwrap();
    let folder = Folder::sample();
    let (manifest, _) = tree_of(&store, &folder);
    let trees = [dir.path().join("one"), dir.path().join("two")];
    for tree in &trees {
        assert!(store.materialise(&manifest, tree).unwrap().linked > 0);
    }
    let victims = ["large", "bin/serve", "a.txt"];
    let healthy: Vec<Vec<u8>> = victims.iter().map(|name| fs::read(trees[0].join(name)).unwrap()).collect();
    for name in victims {
        let path = trees[0].join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 4;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, mode).unwrap();
    }
    assert_eq!(store.fsck(&|_| true).unwrap().damaged.len(), victims.len());
    // What has no whole object stays as it is. One has: its plain variant stands under another name of the tree.
    for tree in &trees {
        let found = store.compare(&manifest, tree, true).unwrap();
        assert!(found.damaged.len() > victims.len(), "two files have one object: {found:?}");
        assert_eq!(found.mended, [tree.join("bin/serve")]);
    }
    for bytes in &healthy {
        let layout = layout_of(bytes);
        store.expect(std::slice::from_ref(&layout)).unwrap();
        let mut at = 0;
        for chunk in &layout.chunks {
            store.put(&Verified::own(bytes[at..at + chunk.len as usize].to_vec())).unwrap();
            at += chunk.len as usize;
        }
        store.assemble(&[layout]).unwrap();
    }
    for tree in &trees {
        let found = store.compare(&manifest, tree, true).unwrap();
        assert_eq!((found.mended.len(), found.damaged.len()), (3, 3), "{found:?}");
        assert_eq!(store.compare(&manifest, tree, false).unwrap(), Compared::default());
        folder.assert_same(tree, &[]);
    }
    let inode = |tree: &Path| fs::metadata(tree.join("large")).unwrap().ino();
    assert_eq!(inode(&trees[0]), inode(&trees[1]), "linked again, not copied");
    drop(store);
    assert_eq!(open(&dir.path().join("store")).unwrap().fsck(&|_| true).unwrap().damaged, vec![]);
}
