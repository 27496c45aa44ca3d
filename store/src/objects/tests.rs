//! Stories of names that are not durable yet.

use super::*;

fn arrival(objects: &Objects, bytes: &[u8]) -> Arrival {
    let since = objects.syncs().since();
    let (file, mut open) = objects.create_temp(0o444).unwrap();
    std::io::Write::write_all(&mut open, bytes).unwrap();
    Arrival { file, object: ObjectId::of(bytes), executable: false, since }
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
    assert!(objects.unsettled().objects.is_empty());
    std::fs::create_dir(&shard).unwrap();
    objects.settle([of_lost]).unwrap();
    assert!(objects.unsettled().failed.is_empty());
    assert!(objects.settle_all());
}

/// What a sweep took away nobody relies on.
#[test]
fn a_name_that_was_not_synced_is_forgotten_with_its_object() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let lost = arrival(&objects, b"lost");
    let object = lost.object;
    objects.syncs().broken.store(1, Ordering::SeqCst);
    objects.admit(&[lost]).unwrap_err();
    assert!(objects.unsettled().failed.contains(&object));
    objects.remove(object).unwrap();
    assert!(objects.unsettled().failed.is_empty());
}

/// The kernel tells of a failed write once: here somebody else hears of it than who wrote.
#[test]
fn a_failed_sync_that_another_call_heard_of_fails_whoever_had_begun_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let before: Vec<Arrival> = (0..SYNC_EACH + 1).map(|n| arrival(&objects, &n.to_le_bytes())).collect();
    objects.syncs().broken.store(1, Ordering::SeqCst);
    objects.sync_names().unwrap_err();
    objects.admit(&before).unwrap_err();
    assert!(before.iter().all(|arrival| !objects.has(arrival.object)), "none has its name");
    let after: Vec<Arrival> = (0..SYNC_EACH + 1).map(|n| arrival(&objects, &n.to_le_bytes())).collect();
    objects.admit(&after).unwrap();
    objects.admit(&[]).unwrap();
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

/// A look at one object counts, whatever a peer asks for meanwhile that was never here.
#[test]
fn what_was_never_here_keeps_no_size_from_being_known() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let (here, absent) = (arrival(&objects, b"here"), ObjectId::of(b"absent"));
    let object = here.object;
    objects.admit(&[here]).unwrap();
    while objects.names.may_have(absent) {
        std::thread::yield_now();
    }
    let since = objects.sizes.since();
    assert!(objects.open_object(absent).unwrap().is_none());
    objects.sizes.saw(since, object, 4);
    assert_eq!(objects.sizes.get(object), Some(4));
    // One that somebody took away was here: what began to look before that says nothing.
    let since = objects.sizes.since();
    std::fs::remove_file(objects.path(object, false)).unwrap();
    assert!(objects.open_object(object).unwrap().is_none());
    objects.sizes.saw(since, object, 4);
    assert_eq!(objects.sizes.get(object), None);
}
