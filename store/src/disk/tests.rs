//! Stories of damaged objects, and of more than one who finds them.

use super::*;
use std::{sync::mpsc, time::Duration};

/// Runs this beside; None when it takes longer than anything here can.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    told.recv_timeout(Duration::from_secs(120)).ok()
}

/// Large ones are hashed by several cores, each of which takes up the next object while it waits for another's part.
#[test]
fn a_check_of_several_damaged_objects_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).unwrap());
    store.settle();
    for n in 0..60u32 {
        let path = store.objects.path(ObjectId::of(&n.to_le_bytes()), false);
        File::create(path).unwrap().set_len(8 << 20).unwrap();
    }
    for n in 0..1000u32 {
        let bytes = [n.to_le_bytes(); 5000].concat();
        std::fs::write(store.objects.path(ObjectId::of(&bytes), false), bytes).unwrap();
    }
    let cores = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    let told = in_time(move || cores.install(|| store.fsck(&|_| true).unwrap().damaged));
    let told = told.expect("it hangs");
    let objects: BTreeSet<ObjectId> = told.iter().filter_map(|d| d.object).collect();
    assert_eq!(objects.len(), 60);
}

/// Several find the same one damaged: it is set aside once, and what came in its place stays.
#[test]
fn what_another_one_healed_meanwhile_is_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let object = store.add_bytes(b"whole").unwrap();
    let path = store.objects.path(object, false);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"wrong").unwrap();
    let read = File::open(&path).unwrap();
    assert!(!store.suspect(object).unwrap());
    assert!(store.put_aside(&read, &path, object).is_none(), "nobody is there");
    store.add_bytes(b"whole").unwrap();
    assert!(store.put_aside(&read, &path, object).is_none(), "this one is good");
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    assert!(store.suspect(object).unwrap());
}

/// The rename may be done although what comes after it failed.
#[test]
fn an_object_that_could_not_be_set_aside_in_order_is_looked_for_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.settle();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let (object, tree) = (ObjectId::of(&bytes), tempfile::tempdir().unwrap());
    std::fs::write(tree.path().join("file"), &bytes).unwrap();
    store.ingest(tree.path(), &[], &|_| true).unwrap();
    let path = store.objects.path(object, false);
    assert!(store.has_object(object));
    let chunks = store.layouts_of(object).unwrap().remove(0).chunks;
    assert!(store.index.get(&chunks[0]).is_some());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"wrong").unwrap();
    // Nowhere to be set aside to, so its name stays; then it goes, as when only the sync after it fails.
    std::fs::remove_dir(store.aside()).unwrap();
    store.suspect(object).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(!store.has_object(object));
    assert!(store.index.get(&chunks[0]).is_none());
    assert!(store.take_notes().iter().any(|damage| damage.object == Some(object)));
}
