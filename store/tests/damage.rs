//! Files of a store that somebody or something changed. Invariant: whatever is done to any file, opening and checking
//! end with an answer, damaged content is never given out, and what can be rebuilt is right again afterwards.

mod cast;

use cast::{noise, publish, scratch};
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    feed::{Head, Position},
    id::{Digest, FeedId, ObjectId, PublisherId, ReleaseId},
    io::Record,
    tree::TreeRef,
};
use softservice_store::{DiskStore, Findings, Layout, Store, StoreError, closure, open};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

const PUBLISHER: PublisherId = PublisherId([5; 32]);
const RECORDS: u64 = 12;

/// A closed store with a bit of everything in it.
struct Kept {
    dir: tempfile::TempDir,
    release: ReleaseId,
    /// An object that was on its way when the store was closed.
    half: Layout,
}

fn head(seq: u64) -> Head {
    Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) }
}

fn kept() -> Kept {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    let source = scratch();
    for (name, len) in [("tiny", 10), ("small", 9_000), ("medium", 150_000), ("large", 700_000)] {
        std::fs::write(source.path().join(name), noise(len, len as u64)).unwrap();
    }
    let tree = store.ingest(source.path(), &[], &|_| true).unwrap().tree;
    let document = cast::document("kept", vec![("any".into(), tree.clone())], tree, vec![]);
    let release = publish(&store, &document).id;
    for seq in 1..=RECORDS {
        store.keep(&Record::Reserved { publisher: PUBLISHER, head: head(seq) }).unwrap();
    }
    let bytes = noise(300_000, 77);
    let parts: Vec<Verified> = bytes.chunks(60_000).map(|c| Verified::own(c.to_vec())).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    let half = Layout { object: ObjectId::of(&bytes), size: 300_000, chunks };
    store.expect(std::slice::from_ref(&half)).unwrap();
    parts[..3].iter().for_each(|p| store.put(p).unwrap());
    drop(store);
    Kept { dir, release, half }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(files(&path)) } else { out.push(path) }
    }
    out.sort();
    out
}

impl Kept {
    fn copy(&self) -> tempfile::TempDir {
        let to = scratch();
        for file in files(self.dir.path()) {
            let target = to.path().join(file.strip_prefix(self.dir.path()).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(&file, target).unwrap();
        }
        to
    }
    /// Files relative to the store, without its lock.
    fn files(&self) -> Vec<PathBuf> {
        let all = files(self.dir.path());
        let all = all.iter().map(|f| f.strip_prefix(self.dir.path()).unwrap().to_owned());
        all.filter(|f| f != Path::new("lock")).collect()
    }
    /// Everything in a store that was opened after damage to `file`, and checked: right, or said to be gone.
    fn assert_sane(&self, store: &DiskStore, file: &Path, findings: &Findings) {
        let feed = FeedId::main(PUBLISHER);
        let records = store.records().unwrap();
        let heads: Vec<u64> = records
            .iter()
            .map(|r| match r {
                Record::Reserved { head, .. } => head.at.seq,
                other => panic!("a record that nobody kept: {other:?}"),
            })
            .collect();
        assert!(heads.is_sorted() && heads.windows(2).all(|w| w[0] < w[1]));
        let log = file.ends_with("logs/records");
        assert!(log || heads.len() as u64 == RECORDS, "{file:?} cost records");
        assert_eq!(store.mark(feed).unwrap(), Some(head(RECORDS)), "{file:?} lowered a mark");
        let object: Option<ObjectId> = object_of(file);
        if object.is_none() {
            let held = closure::held(store, self.release).unwrap().unwrap();
            assert!(held.is_full(), "{file:?} is no object, but chunks are missing: {findings:?}");
            let order = closure::content_order(store, self.release).unwrap().unwrap();
            assert!(store.read(&order).unwrap().iter().all(Option::is_some));
        }
        let again = store.fsck(&|_| true).unwrap();
        assert_eq!(again.damaged, vec![], "the second check after damage to {file:?} still finds something");
        assert_eq!(again.reindexed, 0);
        assert_eq!(again.losses, findings.losses, "what is lost is told by every check");
        let silent = findings.losses.is_empty();
        assert!(if log { !silent || heads.len() as u64 == RECORDS } else { silent }, "{file:?}: {findings:?}");
    }
}

fn object_of(file: &Path) -> Option<ObjectId> {
    let name = file.file_name()?.to_str()?;
    file.starts_with("objects").then(|| name.trim_end_matches(".x").parse().ok()).flatten()
}

#[derive(Debug, Clone, Copy)]
enum Harm {
    Halve,
    Empty,
    Zero,
    Delete,
    Flip(u64),
    Append,
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = std::fs::read(path).unwrap();
    let len = bytes.len();
    match harm {
        Harm::Halve => bytes.truncate(len / 2),
        Harm::Empty => bytes.clear(),
        Harm::Zero => bytes.fill(0),
        Harm::Delete => return std::fs::remove_file(path).unwrap(),
        Harm::Flip(seed) if len > 0 => {
            let at = u64::from_le_bytes(noise(8, seed).try_into().unwrap()) % (len as u64 * 8);
            bytes[(at / 8) as usize] ^= 1 << (at % 8);
        }
        Harm::Flip(_) => {}
        Harm::Append => bytes.extend_from_slice(b"more"),
    }
    // Objects are read-only, and on a hard link this is what a careless root process does.
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_file_may_be_harmed_in_every_way() {
    let kept = kept();
    let mut trials = 0;
    for file in kept.files() {
        for how in [Harm::Halve, Harm::Empty, Harm::Zero, Harm::Delete, Harm::Append, Harm::Flip(1), Harm::Flip(2)] {
            let copy = kept.copy();
            let path = copy.path().join(&file);
            let before = std::fs::read(&path).unwrap();
            harm(&path, how);
            let changed = !path.exists() || std::fs::read(&path).unwrap() != before;
            let store = match open(copy.path()) {
                Ok(store) => store,
                Err(e) => panic!("{how:?} of {file:?} keeps the store from opening: {e}"),
            };
            let findings = store.fsck(&|_| true).unwrap();
            if let (Some(object), true) = (object_of(&file), changed) {
                let said = findings.damaged.iter().any(|d| d.object == Some(object));
                assert!(said || matches!(how, Harm::Delete), "{how:?} of {file:?} was not found: {findings:?}");
                assert!(
                    !store.has_object(object) && matches!(store.object(object, 1 << 20), Err(StoreError::Missing(_)))
                );
            }
            kept.assert_sane(&store, &file, &findings);
            trials += 1;
        }
    }
    assert!(trials > 80, "the store has fewer files than it should: {trials} trials");
}

#[test]
fn every_flipped_bit_of_an_object_is_found_and_healed() {
    let kept = kept();
    let objects: Vec<PathBuf> = kept.files().into_iter().filter(|f| object_of(f).is_some()).collect();
    let healthy = open(kept.dir.path()).unwrap();
    for seed in 0..60 {
        let copy = kept.copy();
        let file = &objects[seed as usize % objects.len()];
        let object = object_of(file).unwrap();
        if std::fs::metadata(copy.path().join(file)).unwrap().len() == 0 {
            continue;
        }
        harm(&copy.path().join(file), Harm::Flip(seed));
        let store = open(copy.path()).unwrap();
        if seed % 2 == 0 {
            // Found by the check ...
            let found = store.fsck(&|_| true).unwrap().damaged;
            assert_eq!(found.iter().filter(|d| d.object == Some(object)).count(), 1);
        } else {
            // ... or by the first who reads it.
            assert!(matches!(store.object(object, 1 << 20), Err(StoreError::Damaged { .. })));
            let found = store.fsck(&|_| true).unwrap().damaged;
            assert_eq!(
                found.iter().filter(|d| d.object == Some(object)).count(),
                1,
                "what a reader met is reported too"
            );
        }
        assert!(!store.has_object(object));
        // Told once by a check, and until it is mended by this; a restart forgets nothing of it.
        assert_eq!(store.lost().unwrap().iter().map(|d| d.object).collect::<Vec<_>>(), vec![Some(object)]);
        drop(store);
        let store = open(copy.path()).unwrap();
        assert_eq!(store.lost().unwrap().iter().map(|d| d.object).collect::<Vec<_>>(), vec![Some(object)]);
        let layout = cast::layout_of(&healthy.object(object, 1 << 20).unwrap());
        store.expect(std::slice::from_ref(&layout)).unwrap();
        for chunk in store.survey(&layout.chunks).unwrap().zeros() {
            let bytes = healthy.read(&layout.chunks[chunk..=chunk]).unwrap().remove(0);
            let bytes = bytes.unwrap_or_else(|| healthy.object(object, 1 << 20).unwrap());
            store.put(&Verified::own(bytes)).unwrap();
        }
        store.assemble(&[layout]).unwrap();
        assert_eq!(store.object(object, 1 << 20).unwrap(), healthy.object(object, 1 << 20).unwrap());
        assert_eq!(store.fsck(&|_| true).unwrap().damaged, vec![]);
        assert_eq!(store.lost().unwrap(), vec![]);
    }
}

#[test]
fn every_flipped_bit_of_the_index_is_found() {
    let kept = kept();
    let index: Vec<PathBuf> = kept.files().into_iter().filter(|f| f.starts_with("index")).collect();
    assert!(!index.is_empty());
    for seed in 0..40 {
        let copy = kept.copy();
        let file = &index[seed as usize % index.len()];
        if std::fs::metadata(copy.path().join(file)).unwrap().len() == 0 {
            continue;
        }
        harm(&copy.path().join(file), Harm::Flip(seed));
        let store = open(copy.path()).unwrap();
        let findings = store.fsck(&|_| true).unwrap();
        assert!(findings.damaged.iter().any(|d| d.file.ends_with("index")), "flip {seed} in {file:?} was not found");
        kept.assert_sane(&store, file, &findings);
    }
}

#[test]
fn a_flipped_bit_of_an_index_that_was_not_closed_costs_nothing() {
    let kept = kept();
    for seed in 0..12 {
        let copy = kept.copy();
        // As after a kill: nothing says what the files should be.
        std::fs::remove_file(copy.path().join("index.seal")).unwrap();
        let file = Path::new("index/db");
        harm(&copy.path().join(file), Harm::Flip(seed));
        let store = open(copy.path()).unwrap();
        let findings = store.fsck(&|_| true).unwrap();
        kept.assert_sane(&store, file, &findings);
    }
}

#[test]
fn a_damaged_partial_chunk_is_wanted_again_and_never_served() {
    let kept = kept();
    for seed in 0..8 {
        let copy = kept.copy();
        let partial = copy.path().join("partial").join(kept.half.object.to_string());
        harm(&partial, Harm::Flip(seed));
        let store = open(copy.path()).unwrap();
        store.expect(std::slice::from_ref(&kept.half)).unwrap();
        assert_eq!(store.survey(&kept.half.chunks).unwrap().count(), 3, "the have log says three");
        let good: Vec<bool> = store.read(&kept.half.chunks).unwrap().iter().map(Option::is_some).collect();
        assert_eq!(good.iter().filter(|g| **g).count(), 2);
        assert_eq!(store.survey(&kept.half.chunks).unwrap().count(), 2, "the damaged one is wanted again");
        let bytes = noise(300_000, 77);
        for (chunk, here) in bytes.chunks(60_000).zip(good) {
            if !here {
                store.put(&Verified::own(chunk.to_vec())).unwrap();
            }
        }
        store.assemble(std::slice::from_ref(&kept.half)).unwrap();
        assert_eq!(store.object(kept.half.object, 300_000).unwrap(), bytes);
    }
}

#[test]
fn a_damaged_partial_chunk_that_nobody_read_is_found_when_assembled() {
    let kept = kept();
    let partial = kept.dir.path().join("partial").join(kept.half.object.to_string());
    harm(&partial, Harm::Flip(3));
    let store = open(kept.dir.path()).unwrap();
    store.expect(std::slice::from_ref(&kept.half)).unwrap();
    let bytes = noise(300_000, 77);
    let parts: Vec<Verified> = bytes.chunks(60_000).map(|c| Verified::own(c.to_vec())).collect();
    parts[3..].iter().for_each(|p| store.put(p).unwrap());
    assert!(matches!(store.assemble(std::slice::from_ref(&kept.half)), Err(StoreError::Incomplete { missing: 1, .. })));
    parts.iter().for_each(|p| store.put(p).unwrap());
    store.assemble(std::slice::from_ref(&kept.half)).unwrap();
    assert_eq!(store.object(kept.half.object, 300_000).unwrap(), bytes);
}

/// Whatever became of the log of records is told through restarts and checks, until somebody says that it is dealt with.
#[test]
fn lost_records_are_told_until_they_are_acknowledged() {
    let kept = kept();
    let log = Path::new("logs/records");
    for how in [Harm::Halve, Harm::Empty, Harm::Zero, Harm::Delete, Harm::Flip(5)] {
        let copy = kept.copy();
        harm(&copy.path().join(log), how);
        // Lives that come and go without a check: the first one cuts the log, or begins it anew.
        let said = open(copy.path()).unwrap().fsck(&|_| true).unwrap().losses;
        assert_eq!(said.len(), 1, "{how:?}");
        assert!(said[0].file.ends_with(log) && said[0].object.is_none(), "{said:?}");
        for _ in 0..2 {
            drop(open(copy.path()).unwrap());
            let store = open(copy.path()).unwrap();
            store.keep(&Record::Reserved { publisher: PUBLISHER, head: head(RECORDS + 1) }).unwrap();
            assert_eq!(store.fsck(&|_| true).unwrap().losses, said, "{how:?}");
        }
        let store = open(copy.path()).unwrap();
        store.acknowledge().unwrap();
        assert_eq!(store.fsck(&|_| true).unwrap().losses, vec![]);
        drop(store);
        assert_eq!(open(copy.path()).unwrap().fsck(&|_| true).unwrap().losses, vec![]);
    }
}

#[test]
fn a_loss_that_happens_under_a_running_store_is_told_by_every_later_check() {
    let kept = kept();
    let store = open(kept.dir.path()).unwrap();
    let log = kept.dir.path().join("logs/records");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = 8192 + (bytes.len() - 8192) / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let said = store.fsck(&|_| true).unwrap().losses;
    assert_eq!(said.len(), 1);
    assert_eq!(store.records().unwrap().len() as u64, RECORDS - 1);
    drop(store);
    assert_eq!(open(kept.dir.path()).unwrap().fsck(&|_| true).unwrap().losses, said);
}

#[test]
fn two_stores_cannot_share_a_directory() {
    let dir = scratch();
    let first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Locked { .. })));
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_swept_store_finds_shared_chunks_after_reopening() {
    let dir = scratch();
    let store = open(dir.path()).unwrap();
    let mut bytes = noise(600_000, 9);
    let old = store.ingest(folder_with(&bytes).path(), &[], &|_| true).unwrap().tree;
    bytes[590_000] ^= 1;
    let new = store.ingest(folder_with(&bytes).path(), &[], &|_| true).unwrap().tree;
    let keep =
        |tree: TreeRef| publish(&store, &cast::document("one", vec![("any".into(), tree.clone())], tree, vec![])).id;
    let (old, new) = (keep(old), keep(new));
    let keep: BTreeSet<ObjectId> = closure::objects(&store, new).unwrap();
    store.gc(&keep).unwrap();
    let swept = store.gc(&keep).unwrap();
    assert_eq!(swept.removed, 3, "document, manifest and file of the old release");
    let check = |store: &DiskStore| {
        assert!(closure::held(store, new).unwrap().unwrap().is_full());
        assert_eq!(closure::held(store, old).unwrap(), None);
        assert_eq!(store.fsck(&|_| true).unwrap().reindexed, 0);
    };
    check(&store);
    drop(store);
    check(&open(dir.path()).unwrap());
}

fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
    let dir = scratch();
    std::fs::write(dir.path().join("file"), bytes).unwrap();
    dir
}

#[test]
fn a_check_that_is_stopped_leaves_what_it_found_to_the_next_one() {
    let kept = kept();
    let log = kept.dir.path().join("logs/layouts");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let store = open(kept.dir.path()).unwrap();
    for _ in 0..2 {
        assert!(matches!(store.fsck(&|_| false), Err(StoreError::Stopped)));
    }
    let found = store.fsck(&|_| true).unwrap();
    assert!(found.damaged.iter().any(|d| d.file == log), "{found:?}");
    assert_eq!(store.fsck(&|_| true).unwrap().damaged, []);
}

/// What a damaged document or manifest listed is needed as before, and nobody knows what that is: a sweep by what is left of
/// the lists would take all of it.
#[test]
fn what_a_damaged_list_names_is_not_called_superfluous() {
    for manifest in [false, true] {
        let kept = kept();
        let store = open(kept.dir.path()).unwrap();
        let release = closure::closure(&store, kept.release).unwrap().remove(0).1;
        let whole = closure::needed(&store, kept.release).unwrap();
        assert_eq!(whole, closure::objects(&store, kept.release).unwrap());
        let list = if manifest { release.source.manifest } else { kept.release.object() };
        let bytes = store.object(list, 1 << 20).unwrap();
        let name = list.to_string();
        let path = kept.dir.path().join("objects").join(&name[..2]).join(&name);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, noise(bytes.len(), 1)).unwrap();
        // Each reads a manifest once, and remembers it.
        softservice_store::manifests::forget();
        // Found by reading it, then set aside, then known to a check and to the next life.
        for _ in 0..2 {
            let needed = closure::needed(&store, kept.release);
            assert!(matches!(&needed, Err(StoreError::Damaged { object: Some(o), .. }) if *o == list), "{needed:?}");
        }
        store.fsck(&|_| true).unwrap();
        drop(store);
        let store = open(kept.dir.path()).unwrap();
        assert!(matches!(closure::needed(&store, kept.release), Err(StoreError::Damaged { .. })));
        // What never came lists nothing.
        assert_eq!(closure::needed(&store, ReleaseId([9; 32])).unwrap().len(), 1);
        assert_eq!(store.add(&bytes).unwrap(), list);
        assert_eq!(closure::needed(&store, kept.release).unwrap(), whole);
    }
}
