//! Sweeps beside everything else, each held between two steps. Invariant of every story: what anybody relies on is there
//! when the sweep is over.

use crate::{DiskStore, Keeper, Layout, Store, StoreError, open};
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    id::ObjectId,
};
use std::collections::BTreeSet;

/// An object of two chunks.
fn object(n: u16) -> (Layout, Vec<Verified>) {
    let parts: Vec<Verified> =
        (0..2u8).map(|part| Verified::own([n as u8, (n >> 8) as u8, part, 1].repeat(5000))).collect();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    (Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks }, parts)
}
fn announce(store: &DiskStore, n: u16) {
    store.expect(&[object(n).0]).unwrap();
}
fn bring(store: &DiskStore, n: u16) {
    let (layout, parts) = object(n);
    store.expect(std::slice::from_ref(&layout)).unwrap();
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(&[layout]).unwrap();
}
fn has(store: &DiskStore, n: u16) -> bool {
    let (layout, parts) = object(n);
    let read = store.read(&layout.chunks).unwrap();
    let whole = parts.iter().zip(read).all(|(part, read)| read.as_deref() == Some(part.bytes()));
    assert_eq!(whole, store.has_object(layout.object), "object {n}");
    whole
}

/// What happens before the first step, and may add to what is kept.
type First<'a> = Box<dyn FnOnce(&mut BTreeSet<ObjectId>) + 'a>;

/// Does something before the first step, and may stop the sweep after some.
struct Between<'a> {
    keep: BTreeSet<ObjectId>,
    first: Option<First<'a>>,
    steps: usize,
}

impl<'a> Between<'a> {
    fn new(first: impl FnOnce(&mut BTreeSet<ObjectId>) + 'a) -> Self {
        Self { keep: BTreeSet::new(), first: Some(Box::new(first)), steps: usize::MAX }
    }
}

impl Keeper for Between<'_> {
    fn step(&mut self, take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if let Some(first) = self.first.take() {
            first(&mut self.keep);
        }
        self.steps = self.steps.checked_sub(1).ok_or(StoreError::Stopped)?;
        take(&self.keep)
    }
}

#[test]
fn a_fetch_goes_on_between_the_steps_and_keeps_what_it_announced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..20).for_each(|n| bring(&store, n));
    let mut keeper = Between::new(|_| {
        // One that it builds upon, one that it makes whole, one that is on its way when the sweep goes on.
        announce(&store, 3);
        bring(&store, 50);
        announce(&store, 50);
        let (layout, parts) = object(51);
        store.expect(&[layout]).unwrap();
        store.put(&parts[0]).unwrap();
    });
    let (swept, gone) = store.gc_in_steps(&mut keeper).unwrap();
    assert_eq!((swept.kept, swept.removed), (2, 19));
    assert_eq!(gone.len(), 19);
    assert!(!gone.contains(&object(3).0.object));
    assert!(has(&store, 3) && has(&store, 50) && !has(&store, 4));
    assert_eq!(store.survey(&object(51).0.chunks).unwrap().count(), 1, "what came of it is still there");
}

#[test]
fn what_becomes_a_root_meanwhile_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..20).for_each(|n| bring(&store, n));
    let mut keeper = Between::new(|keep| keep.extend((5..9).map(|n| object(n).0.object)));
    let (swept, _) = store.gc_in_steps(&mut keeper).unwrap();
    assert_eq!((swept.kept, swept.removed), (4, 16));
    assert!((5..9).all(|n| has(&store, n)));
}

#[test]
fn an_ingest_beside_a_sweep_and_the_next_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let add = || store.add(b"a document").unwrap();
    let before = add();
    store.gc(&BTreeSet::new()).unwrap();
    let mut keeper = Between::new(|_| assert_eq!(add(), before));
    store.gc_in_steps(&mut keeper).unwrap();
    assert!(store.has_object(before));
    struct Building;
    impl Keeper for Building {
        fn step(
            &mut self,
            take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>,
        ) -> Result<(), StoreError> {
            take(&BTreeSet::new())
        }
        fn builds(&self) -> bool {
            true
        }
    }
    // However often one sweeps while something is being made of it.
    (0..3).for_each(|_| assert_eq!(store.gc_in_steps(&mut Building).unwrap().0.removed, 0));
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!(store.gc(&BTreeSet::new()).unwrap().removed, 1);
}

#[test]
fn one_that_is_stopped_leaves_a_store_that_knows_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..200).for_each(|n| bring(&store, n));
    let mut keeper = Between::new(|_| ());
    keeper.steps = 100;
    assert!(matches!(store.gc_in_steps(&mut keeper), Err(StoreError::Stopped)));
    let here = (0..200).filter(|n| has(&store, *n)).count();
    assert!(here > 0 && here < 200, "{here}");
    let surveyed = (0..200).filter(|n| store.survey(&object(*n).0.chunks).unwrap().is_full()).count();
    assert_eq!(surveyed, here);
    let findings = store.fsck(&|_| true).unwrap();
    assert_eq!((findings.damaged, findings.reindexed), (vec![], 0));
}

#[test]
fn what_was_given_up_goes_and_what_a_fetch_is_about_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..4).for_each(|n| bring(&store, n));
    announce(&store, 0);
    announce(&store, 1);
    let announced = store.begin_sweep();
    announce(&store, 2);
    store.let_go_of(announced, &BTreeSet::from([object(1).0.object]));
    store.gc(&BTreeSet::new()).unwrap();
    assert_eq!([0, 1, 2, 3].map(|n| has(&store, n)), [false, true, true, false]);
}

#[test]
fn who_reads_what_a_sweep_takes_gets_nothing_and_nobody_is_blamed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.settle();
    bring(&store, 1);
    let (layout, _) = object(1);
    // As it is between the name's removal and that of its entries.
    store.objects.remove(layout.object).unwrap();
    assert_eq!(store.read(&layout.chunks).unwrap(), [None, None]);
    assert!(matches!(store.object(layout.object, 1 << 20), Err(StoreError::Missing(_))));
    assert_eq!(store.take_notes(), []);
    assert_eq!(store.survey(&layout.chunks).unwrap().count(), 0);
}

/// A node's keeper holds up whoever begins to need something, so it must not wait for an assembly in the meantime.
#[test]
fn a_step_beside_an_assembly_ends_at_once_and_is_taken_when_that_is_over() {
    struct Telling(std::sync::mpsc::Sender<()>);
    impl Keeper for Telling {
        fn step(
            &mut self,
            take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>,
        ) -> Result<(), StoreError> {
            take(&BTreeSet::new())?;
            let _ = self.0.send(());
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    bring(&store, 1);
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let assembly = store.assembling.lock().unwrap();
        let sweep = scope.spawn(|| store.gc_in_steps(&mut Telling(tell)).unwrap());
        let told = ended.recv_timeout(std::time::Duration::from_secs(30));
        assert!(has(&store, 1), "nothing is taken from under an assembly");
        drop(assembly);
        assert_eq!(sweep.join().unwrap().0.removed, 1);
        told.expect("the keeper waits for an assembly");
    });
}

/// What is gone is gone, also when nobody knows for how long: it is not looked for where it was.
#[test]
fn a_sweep_whose_sync_fails_knows_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.settle();
    (0..5).for_each(|n| bring(&store, n));
    store.objects.syncs().broken.store(1, std::sync::atomic::Ordering::SeqCst);
    store.gc(&BTreeSet::new()).unwrap_err();
    // Asked before anything else is: the next question makes the store look for them.
    assert!(!store.rebuild.has_adopted(), "a power cut may bring them back, and the log does not know them");
    for n in 0..5 {
        let layout = object(n).0;
        assert!(!store.has_object(layout.object));
        assert_eq!(store.survey(&layout.chunks).unwrap().count(), 0, "object {n} is looked for where it was");
    }
    // Once all that is on its way has heard of it, a fetch brings them again.
    store.partials.commit().unwrap();
    (0..5).for_each(|n| bring(&store, n));
    assert!((0..5).all(|n| has(&store, n)));
}

/// A fetch goes on while somebody finds out what is kept: what its document lists, nobody could say beforehand.
#[test]
fn what_comes_while_it_is_found_out_what_is_kept_is_spared_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    bring(&store, 1);
    store.begin_sweep();
    bring(&store, 2);
    let (swept, _) = store.gc_in_steps(&mut Between::new(|_| bring(&store, 3))).unwrap();
    assert_eq!((swept.removed, has(&store, 1), has(&store, 2), has(&store, 3)), (1, false, true, true));
    store.end_sweep();
    store.begin_sweep();
    let (swept, _) = store.gc_in_steps(&mut Between::new(|_| ())).unwrap();
    store.end_sweep();
    assert_eq!((swept.removed, has(&store, 2), has(&store, 3)), (2, false, false));
}
