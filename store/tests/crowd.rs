//! Many threads on one store. Invariant: whatever happens at once, what is acknowledged is there, nothing hangs, and a
//! sweep takes nothing that somebody relies on.

mod cast;

use cast::{Folder, noise, publish, scratch};
use softservice_protocol::{
    chunk::Verified,
    codec,
    id::ObjectId,
    io::{Depth, Stage},
    release::ReleaseRef,
    tree::{Manifest, Node},
};
use softservice_store::{Store, StoreError, closure, manifests, open};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

/// Ends the sweeper also when a story fails, so that it fails instead of hanging.
struct Ends<'a>(&'a AtomicBool);
impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[test]
fn four_fetches_an_ingest_and_a_sweeper_at_once() {
    let (ann_dir, bob_dir) = (scratch(), scratch());
    let ann = open(ann_dir.path()).unwrap();
    let releases: Vec<_> = (0..4)
        .map(|n| {
            let tree = ann.ingest(Folder::with(n / 2).path(), &["large".into()], &|_| true).unwrap().tree;
            publish(&ann, &cast::document(&format!("d{n}"), vec![("any".into(), tree.clone())], tree, vec![]))
        })
        .collect();
    let keep: BTreeSet<ObjectId> = releases.iter().flat_map(|r| closure::objects(&ann, r.id).unwrap()).collect();
    let bob = open(bob_dir.path()).unwrap();
    let busy = AtomicBool::new(true);
    let (removed, strays) = std::thread::scope(|scope| {
        let ends = Ends(&busy);
        let sweeper = scope.spawn(|| {
            let mut swept = 0;
            while busy.load(Ordering::Acquire) {
                swept += bob.gc(&keep).unwrap().removed;
            }
            swept
        });
        let litterer = scope.spawn(|| {
            let mut strays = 0;
            while busy.load(Ordering::Acquire) && strays < 500 {
                bob.add(format!("stray {strays}").as_bytes()).unwrap();
                strays += 1;
            }
            strays
        });
        let fetchers: Vec<_> = releases.iter().map(|release| scope.spawn(|| fetch(&ann, &bob, *release))).collect();
        let tree = bob.ingest(Folder::with(9).path(), &[], &|_| true).unwrap().tree;
        fetchers.into_iter().for_each(|f| f.join().unwrap());
        drop(ends);
        // Nobody but the sweeper may know the ingested tree: it is gone or whole, never a part of it.
        assert!(!bob.has_object(tree.manifest) || manifests::of_tree(&bob, &tree).is_ok());
        (sweeper.join().unwrap(), litterer.join().unwrap())
    });
    for release in &releases {
        assert!(closure::held(&bob, release.id).unwrap().unwrap().is_full());
    }
    let findings = bob.fsck(&|_| true).unwrap();
    assert!(findings.damaged.is_empty(), "{findings:?}");
    bob.gc(&keep).unwrap();
    let last = bob.gc(&keep).unwrap();
    assert_eq!(last.kept, keep.len() as u64);
    assert!(strays > 0 && removed <= strays + 20);
}

fn fetch(ann: &dyn Store, bob: &dyn Store, release: ReleaseRef) {
    loop {
        let list = closure::expand(bob, release, Depth::Content, "any").unwrap();
        for number in list.have.zeros() {
            let bytes = ann.read(&list.chunks[number..=number]).unwrap().remove(0).unwrap();
            bob.put(&Verified::check(list.chunks[number], bytes).unwrap()).unwrap();
        }
        closure::assemble(bob, release, list.stage, "any").unwrap();
        if list.stage == Stage::Content {
            return;
        }
    }
}

#[test]
fn two_trees_want_one_object_in_both_modes_at_once() {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    let (manifest, _) = cast::tree_of(&store, &Folder::sample());
    let other: Manifest = {
        let mut other = manifest.clone();
        for entry in &mut other.entries {
            if let Node::File { executable, .. } = &mut entry.node {
                *executable = !*executable;
            }
        }
        other
    };
    // The same place as the store's, so that links are possible.
    let trees = tempfile::tempdir_in(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (store, trees) = (&store, trees.path());
            let manifest = if n % 2 == 0 { &manifest } else { &other };
            scope.spawn(move || store.materialise(manifest, &trees.join(n.to_string())).unwrap());
        }
    });
    for n in 0..6 {
        let wanted = if n % 2 == 0 { &manifest } else { &other };
        let again = store.ingest(&trees.path().join(n.to_string()), &[], &|_| true).unwrap().tree;
        assert_eq!(again.manifest, ObjectId::of(&codec::encode(wanted).unwrap()), "tree {n} is not its manifest");
    }
}

#[test]
fn a_file_may_have_more_names_than_links() {
    // Not in memory: only a disk's file system has the limit, 65,000 on ext4.
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store")).unwrap();
    let object = store.add(b"same").unwrap();
    let file = Node::File { executable: false, object, size: 4, chunks: vec![] };
    let names = (0..66_000).map(|n| format!("f{n:06}"));
    let entries = names.map(|path| softservice_protocol::tree::TreeEntry { path, node: file.clone() }).collect();
    let manifest = Manifest { cutting: softservice_protocol::chunk::Cutting::STANDARD, entries };
    let placed = store.materialise(&manifest, &dir.path().join("tree")).unwrap();
    assert_eq!(placed.linked + placed.cloned + placed.copied, 66_000);
    assert_eq!(std::fs::read(dir.path().join("tree/f065999")).unwrap(), b"same");
    assert_eq!(std::fs::read_dir(dir.path().join("tree")).unwrap().count(), 66_000);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let (dir, source) = (scratch(), scratch());
    let store = open(dir.path()).unwrap();
    let path = source.path().join("log");
    std::fs::write(&path, noise(9 << 20, 1)).unwrap();
    // The first progress comes after the first segment: the rest of the file is another one then.
    let once = AtomicBool::new(false);
    let change = |_: u64| {
        if !once.swap(true, Ordering::AcqRel) {
            use std::io::Write;
            std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        }
        true
    };
    match store.ingest(source.path(), &[], &change) {
        Err(StoreError::Unfit { path: named, .. }) => assert_eq!(named, path),
        other => panic!("a changing file was taken: {other:?}"),
    }
    assert_eq!(store.totals().unwrap().0, 0);
    assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 0);
}
