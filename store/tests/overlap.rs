//! Fetches side by side on one store, those that were given up, and sweeps between them. Invariant: whatever happens at
//! once, nothing of a fetch that is over stays on its way.

mod cast;

use cast::{Folder, noise, release_of, scratch, transfer};
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    id::ObjectId,
    io::{Depth, Stage},
};
use softservice_store::{Layout, MemoryStore, Store, closure, open};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// An object of pieces of 20,000 bytes, and its pieces.
fn object(pieces: usize, seed: u64) -> (Layout, Vec<Verified>) {
    let bytes = noise(pieces * 20_000, seed);
    let parts: Vec<Verified> = bytes.chunks(20_000).map(|c| Verified::own(c.to_vec())).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
    (Layout { object: ObjectId::of(&bytes), size: bytes.len() as u64, chunks }, parts)
}

fn on_their_way(dir: &Path) -> (usize, u64) {
    let partial = std::fs::read_dir(dir.join("partial")).unwrap().count();
    (partial, std::fs::metadata(dir.join("logs/have")).unwrap().len())
}

/// Looking, putting and making whole at once: two fetches of the same release on one device.
#[test]
fn nothing_stays_expected_or_partial_when_two_fetches_of_the_same_are_over() {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    // What is whole already makes looking take long, as in a large closure.
    let small = |n: u32| (n.to_le_bytes(), store.add(&n.to_le_bytes()).unwrap());
    let whole: Vec<Layout> = (0..400)
        .map(small)
        .map(|(bytes, object)| {
            let only = ChunkRef { id: Verified::own(bytes.to_vec()).id(), len: 4 };
            Layout { object, size: 4, chunks: vec![only] }
        })
        .collect();
    for round in 0..150 {
        let objects: Vec<(Layout, Vec<Verified>)> = (0..3).map(|n| object(1 + n, round * 10 + n as u64)).collect();
        let layouts: Vec<Layout> = objects.iter().map(|(layout, _)| layout.clone()).collect();
        let put = || objects.iter().flat_map(|(_, parts)| parts).for_each(|part| store.put(part).unwrap());
        store.expect(&layouts).unwrap();
        put();
        std::thread::scope(|scope| {
            scope.spawn(|| store.assemble(&layouts).unwrap());
            scope.spawn(|| {
                let all = [layouts.as_slice(), &whole].concat();
                (0..6).for_each(|_| store.expect(&all).unwrap());
            });
            scope.spawn(|| (0..4).for_each(|_| put()));
        });
        assert!(layouts.iter().all(|l| store.has_object(l.object)));
        assert_eq!(on_their_way(dir.path()), (0, 0), "round {round}");
    }
    assert!(store.fsck(&|_| true).unwrap().damaged.is_empty());
}

#[test]
fn what_somebody_else_brought_whole_leaves_no_part_behind() {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    let (layout, parts) = object(3, 1);
    store.expect(std::slice::from_ref(&layout)).unwrap();
    store.put(&parts[0]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    std::fs::write(folder.path().join("file"), whole).unwrap();
    store.ingest(folder.path(), &[], &|_| true).unwrap();
    store.assemble(std::slice::from_ref(&layout)).unwrap();
    assert_eq!(on_their_way(dir.path()), (0, 0));
}

#[test]
fn a_sweep_forgets_no_layout_of_what_becomes_whole_meanwhile() {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    let kept: Vec<(Layout, Vec<Verified>)> = (0..120).map(|n| object(2, n)).collect();
    let keep: BTreeSet<ObjectId> = kept.iter().map(|(layout, _)| layout.object).collect();
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seed in 10_000.. {
                let (layout, parts) = object(2, seed);
                store.expect(std::slice::from_ref(&layout)).unwrap();
                parts.iter().for_each(|p| store.put(p).unwrap());
                store.assemble(&[layout]).unwrap();
                store.gc(&keep).unwrap();
                if !busy.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        for (layout, parts) in &kept {
            store.expect(std::slice::from_ref(layout)).unwrap();
            parts.iter().for_each(|p| store.put(p).unwrap());
            store.assemble(std::slice::from_ref(layout)).unwrap();
        }
        busy.store(false, Ordering::Release);
    });
    drop(store);
    // The index of another life knows what the log says.
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path()).unwrap();
    let lost = kept.iter().filter(|(layout, _)| !store.survey(&layout.chunks).unwrap().is_full()).count();
    assert_eq!(lost, 0, "so many objects are whole, and their chunks are not found");
}

/// A store and, when it has one, its directory.
type Made = (Box<dyn Store>, Option<tempfile::TempDir>);

fn a_fetch_that_was_given_up_is_found_again_until_the_next_sweep(make: fn() -> Made) {
    let (bob, dir) = make();
    let ((wanted, wanted_parts), (unwanted, unwanted_parts)) = (object(3, 1), object(3, 2));
    bob.expect(&[wanted.clone(), unwanted.clone()]).unwrap();
    bob.put(&wanted_parts[1]).unwrap();
    bob.put(&unwanted_parts[1]).unwrap();
    // While a fetch goes on, no sweep touches what came.
    bob.gc(&BTreeSet::new()).unwrap();
    let here = |layout: &Layout| bob.survey(&layout.chunks).unwrap().count();
    assert_eq!((here(&wanted), here(&unwanted)), (1, 1));
    bob.let_go();
    assert_eq!((here(&wanted), here(&unwanted)), (1, 1), "giving up alone takes nothing");
    bob.gc(&BTreeSet::from([wanted.object])).unwrap();
    assert_eq!((here(&wanted), here(&unwanted)), (1, 0), "only what nobody keeps goes");
    if let Some(dir) = &dir {
        assert_eq!(on_their_way(dir.path()).0, 1);
    }
    // Both can be taken up again.
    bob.expect(&[wanted.clone(), unwanted.clone()]).unwrap();
    [&wanted_parts[0], &wanted_parts[2]].into_iter().chain(&unwanted_parts).for_each(|p| bob.put(p).unwrap());
    bob.assemble(&[wanted.clone(), unwanted]).unwrap();
    bob.gc(&BTreeSet::from([wanted.object])).unwrap();
    assert_eq!(bob.totals().unwrap(), (1, 60_000));
}

fn what_was_looked_at_ahead_goes_when_nobody_keeps_it(make: fn() -> Made) {
    let (ann, _ann_dir) = make();
    let (bob, _dir) = make();
    let (root, _) = release_of(&*ann, &Folder::sample());
    loop {
        let list = closure::expand(&*bob, root, Depth::Manifests, "linux/x86_64").unwrap();
        transfer(&*ann, &*bob, &list);
        closure::assemble(&*bob, root, list.stage, "linux/x86_64").unwrap();
        if list.stage == Stage::Manifests {
            break;
        }
    }
    assert!(bob.totals().unwrap().0 > 3);
    bob.let_go();
    bob.gc(&BTreeSet::new()).unwrap();
    assert_eq!(bob.totals().unwrap(), (0, 0));
}

fn a_sweep_in_the_middle_is_a_setback_and_not_the_end(make: fn() -> Made) {
    let (ann, _ann_dir) = make();
    let (bob, _dir) = make();
    let (root, _) = release_of(&*ann, &Folder::sample());
    let expand = || closure::expand(&*bob, root, Depth::Content, "linux/x86_64").unwrap();
    let assemble = |stage| closure::assemble(&*bob, root, stage, "linux/x86_64");
    let mut swept = BTreeSet::new();
    loop {
        let list = expand();
        transfer(&*ann, &*bob, &list);
        if swept.insert(list.stage) {
            bob.let_go();
            bob.gc(&BTreeSet::new()).unwrap();
        }
        match assemble(list.stage) {
            Ok(()) if list.stage == Stage::Content => break,
            Ok(()) => {}
            Err(e) => assert!(e.setback().again, "{e}"),
        }
    }
    assert_eq!(swept.len(), 3, "not every stage was swept");
    assert!(expand().have.is_full());
}

fn memory() -> Made {
    (Box::new(MemoryStore::new()), None)
}

fn disk() -> Made {
    let dir = scratch();
    (Box::new(open(dir.path()).unwrap()), Some(dir))
}

macro_rules! suite {
    ($($story:ident),+ $(,)?) => {
        mod memory_store { $(#[test] fn $story() { super::$story(super::memory) })+ }
        mod disk_store { $(#[test] fn $story() { super::$story(super::disk) })+ }
    };
}
suite!(
    a_fetch_that_was_given_up_is_found_again_until_the_next_sweep,
    what_was_looked_at_ahead_goes_when_nobody_keeps_it,
    a_sweep_in_the_middle_is_a_setback_and_not_the_end,
);
