//! Entries of the have log, and puts that come late. Invariant: what looked at the places that wait before somebody else
//! filled them is the same call that a thread makes, only slower.

use super::{
    have::{ENTRY, decode, encode},
    *,
};
use crate::contract::Store;
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_entry_says_what_was_written_or_nothing(
        object: [u8; 32],
        offset: u64,
        id: [u8; 32],
        len: u32,
        at in 0usize..ENTRY,
        bit in 0u8..8,
    ) {
        let spot = Spot::new(ObjectId(object), offset, ChunkRef { id: ChunkId(id), len });
        let mut bytes = encode(&spot);
        prop_assert_eq!(decode(&bytes), Some(spot));
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decode(&bytes), None);
    }
}

#[test]
fn a_chunk_that_another_fetch_brought_is_no_error_when_its_file_cannot_be_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Objects::open(dir.path()).unwrap());
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    let parts: Vec<Verified> = (0..2).map(|n| Verified::own(vec![n; 20_000])).collect();
    let chunks: Vec<ChunkRef> = parts.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
    let layout = Layout { object: ObjectId([7; 32]), size: 40_000, chunks };
    partials.expect(&[&layout]);
    // Both look what waits, one is quicker, and its object is being made whole: the file is read-only by then. Here
    // it is a folder, which root cannot write either.
    let late = partials.waiting(&parts[0]);
    partials.put(&parts[0], &objects).unwrap();
    partials.release(|_| true);
    std::fs::remove_file(partials.path(layout.object)).unwrap();
    std::fs::create_dir(partials.path(layout.object)).unwrap();
    partials.put_into(late, &parts[0], &objects).unwrap();
    // One that nobody brought is told of.
    assert!(partials.put(&parts[1], &objects).is_err());
}

#[test]
fn a_small_object_that_is_here_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Objects::open(dir.path()).unwrap());
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    let part = Verified::own(vec![1; 500]);
    let only = ChunkRef { id: part.id(), len: 500 };
    let layout = Layout { object: ObjectId(part.id().0), size: 500, chunks: vec![only] };
    partials.expect(&[&layout]);
    let late = partials.waiting(&part);
    partials.put(&part, &objects).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(partials.path(layout.object)).unwrap());
    let synced = inode();
    partials.put_into(late, &part, &objects).unwrap();
    assert_eq!(inode(), synced, "what may be synced and about to get its name became another file");
    assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 0);
}

/// Chunks of 20,000 bytes, and the object that they are.
fn several(seed: u8, n: u8) -> (Vec<Verified>, Layout) {
    let parts: Vec<Verified> = (0..n).map(|k| Verified::own(vec![seed.wrapping_add(k); 20_000])).collect();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let chunks: Vec<ChunkRef> = parts.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
    (parts, Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks })
}

/// Whether an object has its name; whatever stands there is that object.
fn is_there(store: &crate::DiskStore, object: ObjectId) -> bool {
    std::fs::read(store.objects.path(object, false)).is_ok_and(|bytes| {
        assert_eq!(ObjectId::of(&bytes), object, "{} other bytes stand under a name", bytes.len());
        true
    })
}

#[test]
fn a_liars_chunks_do_not_get_the_name_of_an_honest_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let honest = Verified::own((0..40_000u32).map(|n| (n % 251) as u8).collect());
    let object = ObjectId(honest.id().0);
    let good = Layout { object, size: 40_000, chunks: vec![ChunkRef { id: honest.id(), len: 40_000 }] };
    let evil: Vec<Verified> = (0..2).map(|n| Verified::own(vec![n + 100; 20_000])).collect();
    let chunks = evil.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
    let lie = Layout { object, size: 40_000, chunks };
    store.expect(std::slice::from_ref(&lie)).unwrap();
    evil.iter().for_each(|p| store.put(p).unwrap());
    let refused = store.assemble(std::slice::from_ref(&lie));
    assert!(matches!(refused, Err(StoreError::Unsound { .. })), "{refused:?}");
    store.expect(std::slice::from_ref(&good)).unwrap();
    store.put(&honest).unwrap();
    // The first time tells that another had the name; the fetch looks again, and asks again.
    let first = store.assemble(std::slice::from_ref(&good));
    assert!(matches!(first, Err(StoreError::Incomplete { .. })), "{first:?}");
    assert!(!is_there(&store, object));
    store.put(&honest).unwrap();
    store.assemble(std::slice::from_ref(&good)).unwrap();
    assert!(is_there(&store, object));
}

#[test]
fn a_lie_about_its_end_does_not_cut_an_object_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let (parts, good) = several(1, 3);
    store.expect(std::slice::from_ref(&good)).unwrap();
    parts.iter().for_each(|p| store.put(p).unwrap());
    let lie = Layout { object: good.object, size: 40_000, chunks: good.chunks[..2].to_vec() };
    assert!(store.assemble(std::slice::from_ref(&lie)).is_err());
    assert!(!is_there(&store, good.object));
    assert!(store.assemble(std::slice::from_ref(&good)).is_err());
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&good)).unwrap();
    assert!(is_there(&store, good.object));
}

#[test]
fn a_writer_that_began_before_a_sweep_brings_nothing_to_what_is_expected_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let (parts, good) = several(1, 2);
    store.expect(std::slice::from_ref(&good)).unwrap();
    // A put has come as far as to have the file ...
    let spot = store.partials.waiting(&parts[0])[0].0;
    let file = store.partials.file(&spot).unwrap().unwrap();
    store.let_go();
    store.gc(&Default::default()).unwrap();
    store.expect(std::slice::from_ref(&good)).unwrap();
    // ... and goes on.
    file.write(&[parts[0].bytes()], spot.offset).unwrap();
    assert!(store.partials.mark(&mut store.partials.state(), &spot).is_none());
    store.partials.account(&[spot], false).unwrap();
    assert!(store.partials.state().unlogged.spots.is_empty(), "a kill would leave a claim that nothing stands behind");
    store.put(&parts[1]).unwrap();
    let early = store.assemble(std::slice::from_ref(&good));
    assert!(matches!(early, Err(StoreError::Incomplete { .. })), "{early:?}");
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&good)).unwrap();
    assert!(is_there(&store, good.object));
}

#[test]
fn after_a_failed_sync_all_of_its_file_is_wanted_again_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let ((parts, one), (others, two)) = (several(1, 3), several(50, 2));
    store.expect(&[one.clone(), two.clone()]).unwrap();
    store.put(&parts[0]).unwrap();
    let path = store.partials.path(one.object);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    // Either this sync fails, or the thread's did before.
    let _ = store.partials.commit();
    assert_eq!(store.partials.lacking(one.object).len(), 3);
    others.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&two)).unwrap();
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&one)).unwrap();
    assert!(is_there(&store, one.object) && is_there(&store, two.object));
}

#[test]
fn the_hash_of_a_whole_is_taken_on_the_way_in_whatever_order_its_chunks_come() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Objects::open(dir.path()).unwrap());
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    // Lengths that end in the middle of groups, before and behind their borders.
    let part = |n: u32| Verified::own(vec![n as u8; 17_000 + 13_331 * (n as usize % 7)]);
    let parts: Vec<Verified> = (0..40).map(part).collect();
    let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    let layout = Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks };
    partials.expect(&[&layout]);
    // The end first, one by one and several at once, and the start last.
    let spans = [30..40, 20..21, 7..19, 19..20, 21..30, 1..7, 0..1];
    for span in spans {
        partials.put_all(&parts[span], &objects).into_iter().for_each(Result::unwrap);
    }
    let run = partials.state().expected.get(layout.object).unwrap().run().unwrap();
    assert_eq!(lock(&run).left(), 0, "groups are left for the end");
    let file = partials.last(layout.object).unwrap().unwrap();
    assert_eq!(partials.digest(layout.object, &file), Some(layout.object));
    // A chunk that is wanted again takes back what was known, and what was not known is read.
    partials.forget(&Spot::new(layout.object, 0, layout.chunks[0]));
    partials.put(&parts[0], &objects).unwrap();
    let run = partials.state().expected.get(layout.object).unwrap().run().unwrap();
    assert!(lock(&run).left() > 0);
    assert_eq!(partials.digest(layout.object, &file), Some(layout.object));
}

#[test]
fn a_writer_of_another_cutting_does_not_write_into_what_is_expected_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let (parts, good) = several(1, 8);
    let mut chunks = good.chunks.clone();
    chunks.swap(0, 5);
    let lie = Layout { chunks, ..good.clone() };
    store.expect(std::slice::from_ref(&lie)).unwrap();
    let late = store.partials.waiting(&parts[0]);
    assert!(store.assemble(std::slice::from_ref(&good)).is_err(), "nothing is here yet");
    parts.iter().for_each(|p| store.put(p).unwrap());
    // Held up until now by a slow disk: `written` waits between two places of one chunk.
    store.partials.put_into(late, &parts[0], &store.objects).unwrap();
    store.assemble(std::slice::from_ref(&good)).unwrap();
    assert!(is_there(&store, good.object));
}

#[test]
fn what_somebody_took_away_is_taken_in_again() {
    let (dir, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = crate::open(dir.path()).unwrap();
    std::fs::write(tree.path().join("file"), vec![7; 50_000]).unwrap();
    let whole: fn(&crate::DiskStore, &Path) = |store, tree| drop(store.ingest_anew(tree, &[], &|_| true).unwrap());
    let changed: fn(&crate::DiskStore, &Path) = |store, tree| drop(store.ingest(tree, &[], &|_| true).unwrap());
    let object = ObjectId::of(&[7; 50_000]);
    whole(&store, tree.path());
    for ingest in [whole, changed] {
        assert!(store.has_object(object));
        std::fs::remove_file(store.objects.path(object, false)).unwrap();
        ingest(&store, tree.path());
        assert!(store.object(object, 1 << 20).is_ok(), "acknowledged, and not here");
    }
}

#[test]
fn a_fetch_of_what_somebody_took_away_is_not_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let (parts, layout) = several(1, 3);
    let bring = || {
        store.expect(std::slice::from_ref(&layout)).unwrap();
        parts.iter().for_each(|p| store.put(p).unwrap());
        store.assemble(std::slice::from_ref(&layout)).unwrap();
    };
    bring();
    assert!(store.has_object(layout.object));
    std::fs::remove_file(store.objects.path(layout.object, false)).unwrap();
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let made = store.assemble(std::slice::from_ref(&layout));
    assert!(matches!(made, Err(StoreError::Incomplete { .. })), "{made:?}");
    bring();
    assert!(is_there(&store, layout.object));
}

/// A sync of everything failed for an ingest, and may have been about what a fetch wrote.
#[test]
fn a_failed_sync_that_somebody_else_heard_of_is_not_followed_by_an_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let (parts, layout) = several(1, 8);
    store.expect(std::slice::from_ref(&layout)).unwrap();
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.objects.syncs().broken.store(1, std::sync::atomic::Ordering::SeqCst);
    store.objects.sync_names().unwrap_err();
    assert!(matches!(store.assemble(std::slice::from_ref(&layout)), Err(StoreError::Incomplete { missing: 8, .. })));
    assert!(!is_there(&store, layout.object));
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&layout)).unwrap();
    assert!(is_there(&store, layout.object));
}

#[test]
fn small_objects_get_their_names_once_they_are_synced_and_whoever_relies_on_them_syncs_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let layout = |part: &Verified| {
        let only = ChunkRef { id: part.id(), len: part.bytes().len() as u32 };
        Layout { object: ObjectId(part.id().0), size: part.bytes().len() as u64, chunks: vec![only] }
    };
    let parts: Vec<Verified> = (0..3).map(|n| Verified::own(vec![n; 500])).collect();
    let layouts: Vec<Layout> = parts.iter().map(layout).collect();
    // What is indexed is not among them, nor what has several chunks.
    let indexed = Verified::own(vec![7; 20_000]);
    let (large, whole) = several(9, 2);
    store.expect_layouts(&[&layouts[..], &[whole.clone(), layout(&indexed)]].concat()).unwrap();
    store.partials.put(&indexed, &store.objects).unwrap();
    store.partials.put(&parts[0], &store.objects).unwrap();
    store.partials.put(&parts[1], &store.objects).unwrap();
    large.iter().for_each(|part| store.partials.put(part, &store.objects).unwrap());
    assert!(!layouts.iter().any(|l| store.objects.has(l.object)), "nothing is named before it is synced");
    store.partials.commit().unwrap();
    let named = |l: &&Layout| store.objects.has(l.object);
    assert_eq!(layouts.iter().filter(named).count(), 2);
    assert!(!store.objects.has(whole.object) && !store.objects.has(layout(&indexed).object));
    assert!(!store.partials.path(layouts[0].object).exists());
    assert_eq!(store.objects.unsettled_early(), 2);
    // Neither the chunk again, nor the look of another fetch, brings it back onto the way in.
    store.partials.put(&parts[0], &store.objects).unwrap();
    store.expect_layouts(&layouts[..1]).unwrap();
    assert!(store.partials.state().expected.get(layouts[0].object).is_none());
    assert!(!store.partials.path(layouts[0].object).exists());
    store.partials.put(&parts[2], &store.objects).unwrap();
    store.assemble_layouts(&layouts).unwrap();
    assert_eq!(store.objects.unsettled_early(), 0, "acknowledged without a sync of its name");
    assert_eq!(layouts.iter().filter(named).count(), 3);
    assert_eq!(store.read_chunks(&layouts[1].chunks).unwrap()[0].as_deref(), Some(parts[1].bytes()));
}

#[test]
fn an_object_that_was_named_early_and_taken_away_is_missed_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path()).unwrap();
    let part = Verified::own(vec![1; 500]);
    let only = ChunkRef { id: part.id(), len: 500 };
    let layout = Layout { object: ObjectId(part.id().0), size: 500, chunks: vec![only] };
    store.expect_layouts(std::slice::from_ref(&layout)).unwrap();
    store.partials.put(&part, &store.objects).unwrap();
    store.partials.commit().unwrap();
    // By this store, as a sweep or the setting aside of damage does it.
    store.objects.remove(layout.object).unwrap();
    assert!(matches!(store.assemble_layouts(&[layout]), Err(StoreError::Incomplete { missing: 1, .. })));
}

/// The kernel tells of a failed write once: here an ingest hears of it, between this sync's look and its end.
#[test]
fn what_somebody_elses_failed_sync_may_have_been_about_gets_no_name_early() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(Objects::open(dir.path()).unwrap());
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    let (partials, _) = Partials::open(dir.path(), &objects).unwrap();
    let part = Verified::own(vec![1; 500]);
    let layout =
        Layout { object: ObjectId(part.id().0), size: 500, chunks: vec![ChunkRef { id: part.id(), len: 500 }] };
    partials.expect(&[&layout]);
    let spots = partials.lacking(layout.object);
    partials.put_into(partials.waiting(&part), &part, &objects).unwrap();
    objects.syncs().broken.store(1, std::sync::atomic::Ordering::SeqCst);
    objects.sync_names().unwrap_err();
    partials.name(&spots).unwrap();
    assert!(!objects.has(layout.object), "it has a name, and nobody knows what the disk holds of it");
    // All of it is begun anew.
    partials.commit().unwrap();
    assert_eq!(partials.lacking(layout.object).len(), 1);
}
