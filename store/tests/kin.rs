//! What is here of older releases is found for what a newer one misses, and never named when it is not here.

mod cast;

use cast::{document, noise, publish, transfer};
use softservice_protocol::{
    id::{ObjectId, ReleaseId},
    io::{Alike, Depth, Stage, WantList},
    release::ReleaseRef,
    tree::TreeRef,
};
use softservice_store::{MemoryStore, Store, alike, closure};
use std::{collections::BTreeSet, path::Path};

const HERE: &str = "linux/x86_64";

fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Names like those of a kernel and its modules, a large file and a page.
fn tree(store: &dyn Store, version: u32, large: &[u8]) -> TreeRef {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data/large.bin", large);
    let module = [noise(30_000, 7), noise(500, version.into())].concat();
    write(dir.path(), &format!("lib/modules/6.1.0-{version}-amd64/net.ko"), &module);
    write(dir.path(), "page.html", format!("<p>version {version}</p>").as_bytes());
    write(dir.path(), "same.txt", b"always the same");
    store.ingest(dir.path(), &[], &|_| true).unwrap().tree
}

fn released(store: &dyn Store, version: u32, large: &[u8]) -> ReleaseRef {
    let tree = tree(store, version, large);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "distro.toml", format!("version = {version}").as_bytes());
    let source = store.ingest(dir.path(), &[], &|_| true).unwrap().tree;
    publish(store, &document("server", vec![(HERE.into(), tree)], source, vec![]))
}

/// The next stage of what bob fetches, with what resembles it.
fn next(bob: &dyn Store, release: ReleaseRef, kin: &[ReleaseId]) -> (WantList, Alike) {
    let list = closure::expand(bob, release, Depth::Content, HERE).unwrap();
    let found = alike::find(bob, release.id, &list, kin).unwrap();
    (list, found)
}

fn fetch(ann: &dyn Store, bob: &dyn Store, release: ReleaseRef, until: Option<Stage>) {
    loop {
        let list = closure::expand(bob, release, Depth::Content, HERE).unwrap();
        if Some(list.stage) == until {
            return;
        }
        transfer(ann, bob, &list);
        closure::assemble(bob, release, list.stage, HERE).unwrap();
        if list.stage == Stage::Content {
            return;
        }
    }
}

/// Ann has two versions, bob the first, and the manifests of the second.
fn ann_and_bob() -> (MemoryStore, MemoryStore, [ReleaseRef; 2]) {
    let (ann, bob) = (MemoryStore::new(), MemoryStore::new());
    let old = noise(3_000_000, 1);
    let new = [&old[..1_000_000], &noise(20_000, 2), &old[1_000_000..]].concat();
    let releases = [released(&ann, 28, &old), released(&ann, 30, &new)];
    fetch(&ann, &bob, releases[0], None);
    (ann, bob, releases)
}

#[test]
fn every_file_is_compared_with_its_older_self() {
    let (ann, bob, [old, new]) = ann_and_bob();
    fetch(&ann, &bob, new, Some(Stage::Manifests));
    let (list, found) = next(&bob, new, &[old.id]);
    assert_eq!(list.stage, Stage::Manifests);
    assert_eq!(found.of.len(), list.have.zeros().count(), "manifests resemble the older ones");
    fetch(&ann, &bob, new, Some(Stage::Content));
    let (list, found) = next(&bob, new, &[new.id, old.id]);
    assert_eq!(list.stage, Stage::Content);
    let missing: Vec<usize> = list.have.zeros().collect();
    assert!(missing.len() >= 3 && missing.len() < 12, "{}", missing.len());
    for number in missing {
        let range = found.of.get(&(number as u32)).expect("something like it is here");
        assert!(!range.is_empty() && range.end as usize <= found.chunks.len());
    }
    assert!(bob.survey(&found.chunks).unwrap().is_full(), "what is named is here");
}

#[test]
fn nothing_is_named_that_is_not_here() {
    let (ann, bob, [old, new]) = ann_and_bob();
    fetch(&ann, &bob, new, Some(Stage::Content));
    let manifests: BTreeSet<ObjectId> = closure::objects(&bob, new.id).unwrap();
    // The older release is swept but for its document and manifests, as one that was only looked at ahead.
    let keep = manifests.into_iter().chain(documents_of(&bob, old)).collect();
    bob.let_go();
    bob.gc(&keep).unwrap();
    let (list, found) = next(&bob, new, &[old.id]);
    assert_eq!(list.stage, Stage::Content);
    assert!(bob.survey(&found.chunks).unwrap().is_full());
    let (_, none) = next(&bob, new, &[]);
    assert_eq!(none, Alike::default());
    let (_, none) = next(&bob, new, &[ReleaseId([9; 32])]);
    assert_eq!(none, Alike::default());
}

fn documents_of(store: &dyn Store, release: ReleaseRef) -> BTreeSet<ObjectId> {
    let all = closure::closure(store, release.id).unwrap();
    let trees = |(id, r): &(ReleaseId, softservice_protocol::release::Release)| {
        let trees = r.roles.iter().flat_map(|r| &r.artifacts).flat_map(|a| &a.trees).map(|(_, t)| t.manifest);
        [id.object(), r.source.manifest].into_iter().chain(trees).collect::<Vec<_>>()
    };
    all.iter().flat_map(trees).collect()
}
