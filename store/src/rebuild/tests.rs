//! The index is held in the middle of being filled, by a gate and not by time. Invariant of every story: whatever is
//! whole is found and read all the while.

use super::*;
use crate::{
    DiskStore, Layout, Store,
    disk::{open, open_watched},
};
use softservice_protocol::chunk::{ChunkRef, Verified};
use std::{path::Path, sync::mpsc};

/// Objects of 20 chunks each.
fn object(n: u8) -> (Layout, Vec<Verified>) {
    let parts: Vec<Verified> = (0..20).map(|part| Verified::own([n, part].repeat(1000))).collect();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    (Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks }, parts)
}
fn bring(store: &DiskStore, n: u8) {
    let (layout, parts) = object(n);
    store.expect(std::slice::from_ref(&layout)).unwrap();
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(&[layout]).unwrap();
}
/// All of it is found and read.
fn assert_has(store: &DiskStore, n: u8) {
    let (layout, parts) = object(n);
    assert!(store.survey(&layout.chunks).unwrap().is_full(), "object {n} seems missing");
    let read = store.read(&layout.chunks).unwrap();
    for (part, read) in parts.iter().zip(read) {
        assert_eq!(read.as_deref(), Some(part.bytes()));
    }
}
fn filled(dir: &Path) {
    let store = open(dir).unwrap();
    (0..60).for_each(|n| bring(&store, n));
}
fn entries(store: &DiskStore) -> Vec<(softservice_protocol::id::ChunkId, crate::index::Location)> {
    let mut all = Vec::new();
    store.index.entries(|entry| all.push(entry.unwrap()));
    all
}

/// Holds a filling at a step until it is dropped.
struct Gate {
    reached: mpsc::Receiver<()>,
    _go: mpsc::Sender<()>,
}

impl Gate {
    /// Until the step is reached.
    fn wait(&self) {
        self.reached.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

fn gate(at: impl Fn(Step) -> bool + Send + Sync + 'static) -> (Gate, Watch) {
    let (tell, reached) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let watch = move |step| {
        if at(step) {
            let _ = tell.send(());
            // Nobody left to say so is a go as well.
            let _ = lock(&wait).recv();
        }
    };
    (Gate { reached, _go: go }, Arc::new(watch))
}

#[test]
fn everything_is_found_while_a_destroyed_index_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let before = entries(&{
        let store = open(dir.path()).unwrap();
        store.settle();
        store
    });
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (gate, watch) = gate(|step| matches!(step, Step::Filled(_)));
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    // Goes before the store, also when something is not as it should be.
    let gate = gate;
    gate.wait();
    let upkeep = store.upkeep().expect("it says that it goes on");
    assert_eq!((upkeep.done, upkeep.of), (1000, 1200));
    (0..60).for_each(|n| assert_has(&store, n));
    // What comes meanwhile is found at once, what goes is not.
    bring(&store, 60);
    assert_has(&store, 60);
    let gone = object(3).0;
    store.objects.remove(gone.object).unwrap();
    assert_eq!(store.survey(&gone.chunks).unwrap().count(), 0);
    bring(&store, 3);
    drop(gate);
    store.settle();
    assert_eq!(store.upkeep(), None);
    assert!(store.index.table().is_none(), "sled answers again");
    (0..=60).for_each(|n| assert_has(&store, n));
    let mut after = entries(&store);
    let last = object(60).0.object;
    assert_eq!(after.iter().filter(|(_, at)| at.object == last).count(), 20);
    after.retain(|(_, at)| at.object != last);
    assert_eq!(after, before);
    assert_eq!(store.fsck(&|_| true).unwrap().reindexed, 0);
}

#[test]
fn closing_in_the_middle_ends_it_and_the_next_life_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (gate, watch) = gate(|step| matches!(step, Step::Filled(_)));
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    // Goes before the store, also when something is not as it should be.
    let gate = gate;
    gate.wait();
    // As closing says it first.
    store.rebuild.shared.stop.store(true, Ordering::Release);
    drop(gate);
    drop(store);
    assert!(!dir.path().join("index.seal").exists());
    let store = open(dir.path()).unwrap();
    (0..60).for_each(|n| assert_has(&store, n));
    store.settle();
    assert!(store.index.table().is_none());
    (0..60).for_each(|n| assert_has(&store, n));
    let found = store.fsck(&|_| true).unwrap();
    assert_eq!((found.reindexed, found.damaged), (0, vec![]), "a filling that was cut short is no damage");
}

#[test]
fn an_object_without_a_record_is_looked_for_beside_everything_else_and_again_when_that_was_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    // As a kill between name and record leaves it.
    let orphan: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let id = ObjectId::of(&orphan);
    std::fs::write(dir.path().join(format!("objects/{}/{id}", &id.to_string()[..2])), &orphan).unwrap();
    std::fs::remove_file(dir.path().join("index.seal")).unwrap();
    let first = gate(|step| step == Step::Adopting);
    let store = open_watched(dir.path(), Some(first.1)).unwrap();
    first.0.wait();
    (0..60).for_each(|n| assert_has(&store, n));
    store.rebuild.shared.stop.store(true, Ordering::Release);
    drop(first.0);
    drop(store);
    assert!(!dir.path().join("index.seal").exists());
    let store = open(dir.path()).unwrap();
    store.settle();
    let layout = layouts::recut(&store.objects, id, || Ok::<(), StoreError>(())).unwrap().unwrap();
    assert!(layout.chunks.len() > 1);
    assert!(store.survey(&layout.chunks).unwrap().is_full());
    assert_eq!(store.layouts_of(id).unwrap(), [layout]);
    drop(store);
    assert!(dir.path().join("index.seal").exists());
}

#[test]
fn what_is_cut_again_is_never_the_newer_word() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, watch) = gate(|step| step == Step::Adopting);
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    // Goes before the store, also when something is not as it should be.
    let gate = gate;
    gate.wait();
    // It looks through the folders from now on, and finds what comes meanwhile.
    (0..60).for_each(|n| bring(&store, n));
    drop(gate);
    store.settle();
    for n in 0..60 {
        let (layout, _) = object(n);
        assert_eq!(store.layouts_of(layout.object).unwrap(), [layout]);
    }
}

#[test]
fn an_index_that_breaks_in_use_is_filled_beside_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (gate, watch) = gate(|step| matches!(step, Step::Filled(_)));
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    // Goes before the store, also when something is not as it should be.
    let gate = gate;
    store.settle();
    store.index.break_it();
    (0..60).for_each(|n| assert_has(&store, n));
    gate.wait();
    assert!(store.upkeep().is_some());
    (0..60).for_each(|n| assert_has(&store, n));
    drop(gate);
    store.settle();
    assert!(store.index.table().is_none() && !store.index.is_broken());
    (0..60).for_each(|n| assert_has(&store, n));
    let told = store.fsck(&|_| true).unwrap().damaged;
    assert!(told.iter().any(|d| d.what.contains("broke while in use")), "{told:?}");
}

/// A folder whose name is an object's, large enough to be looked at: reading it fails, as a bad sector would.
fn unreadable(dir: &Path) {
    let name = ObjectId([9; 32]).to_string();
    let path = dir.join(format!("objects/{}/{name}", &name[..2]));
    std::fs::create_dir(&path).unwrap();
    for n in 0..2000 {
        std::fs::write(path.join(format!("{n:0200}")), b"").unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() > limits::CHUNK_MIN as u64);
}
fn ten_seconds_later(store: &DiskStore) {
    let mut state = lock(&store.rebuild.shared.state);
    state.failed = state.failed.map(|at| at - AGAIN);
}

#[test]
fn an_index_that_is_whole_stays_when_looking_for_unknown_objects_fails() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    unreadable(dir.path());
    std::fs::remove_file(dir.path().join("index.seal")).unwrap();
    let store = open(dir.path()).unwrap();
    store.settle();
    assert!(store.rebuild.has_adopted(), "one that cannot be read does not hide the others");
    let told = lock(&store.rebuild.shared.parts.notes).clone();
    assert!(told.iter().any(|d| d.object == Some(ObjectId([9; 32]))), "{told:?}");
    assert_has(&store, 1);
    ten_seconds_later(&store);
    // Whoever asks next.
    let _ = store.survey(&object(1).0.chunks);
    store.settle();
    (0..60).for_each(|n| assert_has(&store, n));
}

#[test]
fn looking_for_unknown_objects_is_tried_again_and_the_index_stays() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    std::fs::remove_file(dir.path().join("index.seal")).unwrap();
    let (gate, watch) = gate(|step| step == Step::Adopting);
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    let gate = gate;
    gate.wait();
    let folders = (0..=255u8).map(|shard| dir.path().join(format!("objects/{shard:02x}")));
    let empty = folders.into_iter().find(|f| std::fs::read_dir(f).unwrap().next().is_none()).unwrap();
    std::fs::remove_dir(&empty).unwrap();
    drop(gate);
    store.settle();
    assert!(!store.rebuild.has_adopted());
    ten_seconds_later(&store);
    std::fs::create_dir(&empty).unwrap();
    // As every question does.
    store.mend().unwrap();
    assert!(store.index.table().is_none(), "the index is whole, and goes on answering");
    store.settle();
    assert!(store.rebuild.has_adopted());
    assert_eq!(entries(&store).len(), 1200);
    (0..60).for_each(|n| assert_has(&store, n));
}

#[test]
fn closing_does_not_wait_until_a_large_object_is_cut_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let orphan: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    let id = ObjectId::of(&orphan);
    std::fs::write(dir.path().join(format!("objects/{}/{id}", &id.to_string()[..2])), &orphan).unwrap();
    std::fs::remove_file(dir.path().join("index.seal")).unwrap();
    // One for each folder up to its own, then one for each segment of it.
    let steps = AtomicU64::new(0);
    let (gate, watch) =
        gate(move |step| step == Step::Adopting && steps.fetch_add(1, Ordering::Relaxed) == u64::from(id.0[0]) + 1);
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    let gate = gate;
    gate.wait();
    store.rebuild.shared.stop.store(true, Ordering::Release);
    drop(gate);
    store.settle();
    assert_eq!(store.layouts_of(id).unwrap(), [], "not to its end");
    drop(store);
    let store = open(dir.path()).unwrap();
    store.settle();
    assert_eq!(store.layouts_of(id).unwrap().len(), 1, "the next life looks again");
}

#[test]
fn an_index_that_two_begin_to_fill_at_once_is_not_emptied_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (gate, watch) = gate(|step| matches!(step, Step::Filled(_)));
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    let gate = gate;
    store.settle();
    store.index.break_it();
    store.mend().unwrap();
    gate.wait();
    // Two saw that it was due; the second one comes to this line while the first one's filling goes on.
    assert!(store.rebuild.begin(Task::Anew));
    let table = store.index.table().unwrap();
    let stands = store.index.stand_in(&lock(&store.layout_log), &store.objects).unwrap();
    assert!(Arc::ptr_eq(&table, &stands), "what it was told is in no other");
    drop(gate);
    store.settle();
    // Whoever asks next, and what the next life makes of it.
    let _ = store.survey(&object(1).0.chunks);
    store.settle();
    let left = entries(&store).len();
    drop(store);
    let sealed = dir.path().join("index.seal").exists();
    let store = open(dir.path()).unwrap();
    store.settle();
    assert_eq!((left, entries(&store).len()), (1200, 1200), "now, and in the next life; sealed: {sealed}");
}

/// Runs this beside; None when it takes longer than anything here can.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(Duration::from_secs(60)).ok()
}

/// As objects are completed: by all cores, each of which asks the store for what stands elsewhere.
#[test]
fn an_index_that_breaks_under_work_of_all_cores_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).unwrap());
    let many: Vec<ChunkRef> =
        (0..200_000u32).map(|n| ChunkRef { id: Verified::own(n.to_le_bytes().to_vec()).id(), len: 20_000 }).collect();
    let layouts: Vec<Layout> = many
        .chunks(1000)
        .enumerate()
        .map(|(n, chunks)| Layout { object: ObjectId([n as u8; 32]), size: 20_000_000, chunks: chunks.to_vec() })
        .collect();
    store.record_layouts(layouts.iter()).unwrap();
    store.settle();
    let asked = many[0];
    store.index.break_it();
    let ended = in_time(move || {
        // Somebody surveys, from a thread of its own ...
        let beside = {
            let store = Arc::clone(&store);
            std::thread::spawn(move || store.survey(&[asked]).map(drop))
        };
        while store.layout_log.try_lock().is_ok() && !beside.is_finished() {}
        // ... while an assembly completes several objects.
        (0..64).into_par_iter().for_each(|_| drop(store.read(&[asked]).unwrap()));
        beside.join().unwrap().unwrap();
    });
    assert!(ended.is_some(), "it hangs");
}

#[test]
fn a_chunk_of_two_objects_one_of_which_turns_out_damaged_while_the_index_is_filled_is_found_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let common = Verified::own(vec![77; 20_000]);
    let two: Vec<Layout> = (1..3u8)
        .map(|n| {
            let own = Verified::own(vec![n; 20_000]);
            let whole = [common.bytes(), own.bytes()].concat();
            let chunks: Vec<ChunkRef> = [&common, &own].map(|p| ChunkRef { id: p.id(), len: 20_000 }).to_vec();
            let layout = Layout { object: ObjectId::of(&whole), size: 40_000, chunks };
            store.expect(std::slice::from_ref(&layout)).unwrap();
            [&common, &own].into_iter().for_each(|p| store.put(p).unwrap());
            store.assemble(std::slice::from_ref(&layout)).unwrap();
            layout
        })
        .collect();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (gate, watch) = gate(|step| matches!(step, Step::Filled(_)));
    let store = open_watched(dir.path(), Some(watch)).unwrap();
    let gate = gate;
    gate.wait();
    let asked = two[0].chunks[0];
    let at = store.index.get(&asked).unwrap();
    let path = store.objects.path(at.object, false);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; 40_000]).unwrap();
    assert!(store.read(&[asked]).unwrap()[0].is_some(), "the other one has it");
    drop(gate);
    store.settle();
    assert!(store.read(&[asked]).unwrap()[0].is_some(), "the other one still has it");
}

/// An object that is cut as all are.
fn cut() -> (Layout, Vec<Verified>) {
    let mut whole = vec![0; 300_000];
    blake3::Hasher::new().finalize_xof().fill(&mut whole);
    let (object, chunks) = crate::cutter::cut_whole(&whole);
    let mut rest = whole.as_slice();
    let part = |chunk: &ChunkRef| Verified::own(rest.split_off(..chunk.len as usize).unwrap().to_vec());
    let parts = chunks.iter().map(part).collect();
    (Layout { object, size: whole.len() as u64, chunks }, parts)
}

/// An object gets its name, and then the disk fails before the log says how it is cut. Who tries again finds it whole.
#[test]
fn what_was_named_and_not_logged_is_found_when_it_is_tried_again() {
    for restarted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        store.settle();
        let (layout, parts) = cut();
        store.expect(std::slice::from_ref(&layout)).unwrap();
        parts.iter().for_each(|p| store.put(p).unwrap());
        store.objects.syncs().broken.store(1, Ordering::SeqCst);
        store.assemble(std::slice::from_ref(&layout)).unwrap_err();
        assert!(store.has_object(layout.object), "it has its name");
        store.assemble(std::slice::from_ref(&layout)).unwrap();
        if restarted {
            drop(store);
            store = open(dir.path()).unwrap();
        } else {
            store.survey(&layout.chunks).unwrap();
        }
        store.settle();
        assert!(store.survey(&layout.chunks).unwrap().is_full(), "nobody finds its chunks");
        drop(store);
        // Once: the next life ends in order, and has nothing to look for.
        let store = open(dir.path()).unwrap();
        store.settle();
        assert!(store.rebuild.has_adopted());
        assert!(store.survey(&layout.chunks).unwrap().is_full());
    }
}

/// The same of what is read in.
#[test]
fn what_an_intake_named_and_did_not_log_is_found_when_it_is_tried_again() {
    let (dir, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (layout, parts) = cut();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    std::fs::write(source.path().join("file"), &whole).unwrap();
    let store = open(dir.path()).unwrap();
    store.settle();
    store.objects.syncs().broken.store(1, Ordering::SeqCst);
    store.ingest(source.path(), &[], &|_| true).unwrap_err();
    assert!(store.has_object(layout.object), "it has its name");
    store.ingest(source.path(), &[], &|_| true).unwrap();
    store.survey(&layout.chunks).unwrap();
    store.settle();
    assert!(store.survey(&layout.chunks).unwrap().is_full(), "nobody finds its chunks");
}
