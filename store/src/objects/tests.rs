//! Stories of names that are not durable yet.

use super::*;

fn arrival(objects: &Objects, bytes: &[u8]) -> Arrival {
    let (file, mut open) = objects.create_temp(0o444).unwrap();
    std::io::Write::write_all(&mut open, bytes).unwrap();
    Arrival { file, object: ObjectId::of(bytes), executable: false }
}

/// Whoever finds an object whose name another call did not come to sync cannot acknowledge it without that sync.
#[test]
fn a_name_that_was_not_synced_is_not_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let (lost, other) = (arrival(&objects, b"lost"), arrival(&objects, b"other"));
    let (of_lost, of_other) = (lost.object, other.object);
    let shard = objects.path(of_lost, false).parent().unwrap().to_owned();
    std::fs::remove_dir(&shard).unwrap();
    objects.admit(&[other]).unwrap();
    objects.admit(&[lost]).unwrap_err();
    objects.settle([of_lost]).unwrap_err();
    objects.settle([of_other]).unwrap();
    std::fs::create_dir(&shard).unwrap();
    objects.settle([of_lost]).unwrap();
    assert!(objects.settle_all() && objects.unsettled().objects.is_empty());
}

/// A life that was killed may have named what it did not sync.
#[test]
fn what_a_killed_life_named_is_synced_before_it_is_relied_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    assert!(!store.objects.unsettled().all, "there is nothing to doubt in a new store");
    store.add_bytes(b"one").unwrap();
    drop(store);
    let store = crate::open(dir.path()).unwrap();
    assert!(!store.objects.unsettled().all, "it ended in order");
    drop(store);
    std::fs::remove_file(dir.path().join("index.seal")).unwrap();
    let store = crate::open(dir.path()).unwrap();
    assert!(store.objects.unsettled().all);
    store.add_bytes(b"one").unwrap();
    assert!(!store.objects.unsettled().all);
}
