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

/// A life that has hashed nothing yet, and two trees at once: one runs a large file, the other reads it. Each hashes it, for
/// longer than the other takes to change its name.
#[test]
fn two_trees_get_both_variants_of_what_nobody_has_hashed_yet() {
    use crate::tree::Place as _;
    let dir = tempfile::tempdir().unwrap();
    let bytes = vec![7; 48 << 20];
    let size = bytes.len() as u64;
    let large = {
        let objects = Objects::open(dir.path()).unwrap();
        let large = arrival(&objects, &bytes);
        let object = large.object;
        objects.admit(&[large]).unwrap();
        object
    };
    for round in 0..3 {
        let objects = Objects::open(dir.path()).unwrap();
        let _ = std::fs::remove_file(objects.path(large, true));
        let (trees, begin) = (tempfile::tempdir_in(dir.path()).unwrap(), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            for executable in [false, true] {
                let (objects, begin, trees) = (&objects, &begin, trees.path());
                scope.spawn(move || {
                    let tree = File::open(trees).unwrap();
                    let file = Wanted { object: large, size, executable };
                    begin.wait();
                    let placed = Placer::new(objects).place(tree.as_fd(), &executable.to_string(), &file);
                    placed.unwrap_or_else(|e| panic!("round {round}: {e}"));
                });
            }
        });
        for executable in [false, true] {
            let meta = std::fs::metadata(trees.path().join(executable.to_string())).unwrap();
            assert_eq!((tree::bits(&meta), meta.len()), (tree::mode(executable), size));
        }
    }
}

/// What turns out to be damaged when it is hashed leaves nothing behind.
#[test]
fn a_damaged_file_is_in_no_tree() {
    use crate::tree::Place as _;
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let good = arrival(&objects, b"good");
    let object = good.object;
    objects.admit(&[good]).unwrap();
    std::fs::write(dir.path().join("bad"), b"evil").unwrap();
    std::fs::rename(dir.path().join("bad"), objects.path(object, false)).unwrap();
    let trees = tempfile::tempdir_in(dir.path()).unwrap();
    let tree = File::open(trees.path()).unwrap();
    for no_links in [false, true] {
        let placer = Placer::new(&objects);
        placer.no_links.store(no_links, Ordering::Relaxed);
        let file = Wanted { object, size: 4, executable: false };
        let placed = placer.place(tree.as_fd(), "file", &file);
        assert!(matches!(placed, Err(StoreError::Damaged { object: Some(id), .. }) if id == object), "{placed:?}");
        assert_eq!(std::fs::read_dir(trees.path()).unwrap().count(), 0);
    }
}

/// What is hashed ahead is not hashed when a tree gets it; what has rotted is not believed, and what is gone is passed over.
#[test]
fn files_of_a_tree_are_hashed_ahead_as_long_as_somebody_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let [good, rotten, late] = [&b"good"[..], b"rotten", b"late"].map(|bytes| store.add_bytes(bytes).unwrap());
    let objects = Objects::open(dir.path()).unwrap();
    let path = objects.path(rotten, false);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"r0tten").unwrap();
    let gone = ObjectId::of(b"gone");
    objects.prove_all(&[(good, false), (gone, false), (good, true), (rotten, false)], &|| true);
    assert!(objects.is_proved(good, false));
    assert!(!objects.is_proved(good, true) && !objects.is_proved(rotten, false) && !objects.is_proved(gone, false));
    objects.prove_all(&[(late, false)], &|| false);
    assert!(!objects.is_proved(late, false));
    let wanted = |object, size| Wanted { object, size, executable: false };
    objects.proven(&wanted(good, 4), || File::open(&path)).expect("the file is not read again");
    assert!(matches!(objects.proven(&wanted(rotten, 6), || File::open(&path)), Err(StoreError::Damaged { .. })));
}
