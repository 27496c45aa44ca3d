//! A thousand flipped bits, each in a copy of a closed store with a bit of everything: objects, logs, marks, index, what is on
//! its way and what is known of folders. Invariant: wrong bytes are never given out, by whatever way they are asked for;
//! nothing panics and nothing hangs; and with an honest peer everything is whole again in the end.

mod cast;

use cast::{noise, publish, scratch, transfer};
use softservice_protocol::{
    chunk::Verified,
    feed::{Head, Position},
    id::{ChunkId, Digest, FeedId, ObjectId, PublisherId},
    io::{Depth, Record, Stage},
    release::ReleaseRef,
    tree::{Manifest, Node, TreeRef},
};
use softservice_store::{DiskStore, Layout, Store, StoreError, closure, manifests, open};
use std::{
    collections::BTreeMap,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

const PUBLISHER: PublisherId = PublisherId([5; 32]);
const RECORDS: u64 = 12;
/// How many bits; the first of them are the same whatever the number is.
const FLIPS: &str = "SOFTSERVICE_FLIPS";
/// What one of them may take before it counts as a hang: far more than it needs.
const DEADLINE: Duration = Duration::from_secs(120);

fn head(seq: u64) -> Head {
    Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) }
}

/// A closed store, and another one that has the same content.
struct Kept {
    dir: tempfile::TempDir,
    source: tempfile::TempDir,
    peer: DiskStore,
    _peer: tempfile::TempDir,
    release: ReleaseRef,
    trees: [TreeRef; 2],
    manifest: Arc<Manifest>,
    /// An object that was on its way.
    half: (Layout, Vec<u8>),
}

fn kept() -> Kept {
    let (dir, source, other) = (scratch(), scratch(), scratch());
    let (store, peer) = (open(dir.path()).unwrap(), open(other.path()).unwrap());
    for (name, len) in [("tiny", 10), ("small", 9_000), ("other", 14_000), ("medium", 120_000), ("large", 400_000)] {
        std::fs::write(source.path().join(name), noise(len, len as u64)).unwrap();
    }
    let both = [&store, &peer].map(|store| {
        let tree = store.ingest(source.path(), &[], &|_| true).unwrap().tree;
        let old = store.ingest(&old(), &[], &|_| true).unwrap().tree;
        let document = cast::document("kept", vec![("any".into(), tree.clone())], old.clone(), vec![]);
        (publish(store, &document), [tree, old])
    });
    let [(release, [tree, old]), _] = both;
    for seq in 1..=RECORDS {
        store.keep(&Record::Reserved { publisher: PUBLISHER, head: head(seq) }).unwrap();
    }
    let bytes = noise(300_000, 77);
    let layout = cast::layout_of(&bytes);
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let mut at = 0;
    for chunk in &layout.chunks[..layout.chunks.len() - 1] {
        store.put(&Verified::own(bytes[at..at + chunk.len as usize].to_vec())).unwrap();
        at += chunk.len as usize;
    }
    let manifest = manifests::of_tree(&peer, &tree).unwrap();
    drop(store);
    Kept { dir, source, peer, _peer: other, release, trees: [tree, old], manifest, half: (layout, bytes) }
}

/// A folder whose files did not change lately: only such are not read again.
fn old() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/partial")
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

/// Where one bit is flipped.
#[derive(Debug, Clone)]
struct Flip {
    file: PathBuf,
    bit: u64,
    /// The store is taken for one whose process was killed: nothing tells what its index was.
    killed: bool,
}

impl Kept {
    /// So many flips, in equal shares of all kinds of files; within a kind every file as often.
    fn flips(&self, count: usize) -> Vec<Flip> {
        let mut kinds: BTreeMap<String, Vec<(PathBuf, u64)>> = BTreeMap::new();
        for file in files(self.dir.path()) {
            let relative = file.strip_prefix(self.dir.path()).unwrap().to_owned();
            let len = file.metadata().unwrap().len();
            let top = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
            let kind = match top.as_str() {
                "marks.a" | "marks.b" => "marks".into(),
                // Small, and of the same use.
                "logs" if relative.ends_with("records.told") => "marks".into(),
                "logs" => relative.display().to_string(),
                "index.seal" => "index".into(),
                _ => top,
            };
            if len > 0 {
                kinds.entry(kind).or_default().push((relative, len));
            }
        }
        let kinds: Vec<_> = kinds.into_values().collect();
        assert_eq!(kinds.len(), 8, "objects, records, layouts, have, marks, index, partial, seen");
        let draw = |n: usize| u64::from_le_bytes(noise(8, n as u64).try_into().unwrap());
        let flip = |n: usize| {
            let kind = &kinds[n % kinds.len()];
            let (file, len) = &kind[n / kinds.len() % kind.len()];
            let mut bit = draw(n) % (len * 8);
            // The headers of a log are mostly padding.
            if *len > 8192 && file.starts_with("logs") && draw(n + 1_000_000) % 4 != 0 {
                bit = 8192 * 8 + bit % ((len - 8192) * 8);
            }
            Flip { file: file.clone(), bit, killed: (n / 7).is_multiple_of(3) }
        };
        (0..count).map(flip).collect()
    }
    fn harmed(&self, flip: &Flip) -> tempfile::TempDir {
        let to = scratch();
        for file in files(self.dir.path()) {
            let target = to.path().join("store").join(file.strip_prefix(self.dir.path()).unwrap());
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(&file, target).unwrap();
        }
        let path = to.path().join("store").join(&flip.file);
        let mut byte = [0];
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        file.read_exact_at(&mut byte, flip.bit / 8).unwrap();
        byte[0] ^= 1 << (flip.bit % 8);
        file.write_all_at(&byte, flip.bit / 8).unwrap();
        if flip.killed {
            let _ = std::fs::remove_file(to.path().join("store/index.seal"));
        }
        to
    }

    /// Whatever a store gives out is right; what it does not, it says so.
    fn use_it(&self, home: &Path, store: &DiskStore, name: &str) {
        let order = closure::content_order(&self.peer, self.release.id).unwrap().unwrap();
        for (chunk, bytes) in order.iter().zip(store.read(&order).unwrap()) {
            assert!(bytes.is_none_or(|b| ChunkId::of(&b) == chunk.id), "a wrong chunk");
        }
        for object in closure::objects(&self.peer, self.release.id).unwrap() {
            match store.object(object, 1 << 20) {
                Ok(bytes) => assert_eq!(ObjectId::of(&bytes), object),
                Err(StoreError::Damaged { object: Some(of), .. }) => assert_eq!(of, object),
                Err(StoreError::Missing(of)) => assert_eq!(of, object),
                Err(e) => panic!("{object}: {e}"),
            }
        }
        self.build(home, store, name);
        let records = store.records().unwrap();
        let right: Vec<Record> =
            (1..=RECORDS).map(|seq| Record::Reserved { publisher: PUBLISHER, head: head(seq) }).collect();
        assert!(records.iter().all(|record| right.contains(record)) && records.len() + 1 >= right.len(), "{records:?}");
        assert_eq!(store.mark(FeedId::main(PUBLISHER)).unwrap(), Some(head(RECORDS)), "a mark went down");
    }
    /// A tree is right or is not there.
    fn build(&self, home: &Path, store: &DiskStore, name: &str) {
        let target = home.join(name);
        if let Err(e) = store.materialise(&self.manifest, &target) {
            assert!(!target.exists(), "half a tree");
            assert!(matches!(e, StoreError::Damaged { object: Some(_), .. } | StoreError::Missing(_)), "{e}");
            return;
        }
        for entry in &self.manifest.entries {
            let Node::File { object, .. } = &entry.node else { continue };
            let bytes = std::fs::read(target.join(&entry.path)).unwrap();
            assert_eq!(ObjectId::of(&bytes), *object, "a tree with wrong bytes in {}", entry.path);
        }
    }
    /// What a fetch does.
    fn heal(&self, store: &DiskStore) {
        for _ in 0..8 {
            let list = closure::expand(store, self.release, Depth::Content, "linux/x86_64").unwrap();
            transfer(&self.peer, store, &list);
            match closure::assemble(store, self.release, list.stage, "linux/x86_64") {
                Ok(()) if list.stage == Stage::Content => return,
                Ok(()) => {}
                Err(e) => assert!(e.setback().again, "{e}"),
            }
        }
        panic!("a fetch comes to no end");
    }
    fn finish_half(&self, store: &DiskStore) {
        let (layout, bytes) = &self.half;
        for _ in 0..3 {
            store.expect(std::slice::from_ref(layout)).unwrap();
            let here = store.survey(&layout.chunks).unwrap();
            let mut at = 0;
            for (number, chunk) in layout.chunks.iter().enumerate() {
                let part = &bytes[at..at + chunk.len as usize];
                at += chunk.len as usize;
                if !here.get(number) {
                    store.put(&Verified::own(part.to_vec())).unwrap();
                }
            }
            match store.assemble(std::slice::from_ref(layout)) {
                Ok(()) => break,
                Err(e) => assert!(e.setback().again, "{e}"),
            }
        }
        assert!(store.object(layout.object, 1 << 20).unwrap() == *bytes);
    }

    /// One flip, from the first opening until all is whole. `number` decides what comes first.
    fn trial(&self, flip: &Flip, number: usize) {
        let home = self.harmed(flip);
        let dir = home.path().join("store");
        let store = open(&dir).unwrap();
        let object = flip.file.starts_with("objects");
        let check = |store: &DiskStore| {
            let findings = store.fsck(&|_| true).unwrap();
            assert!(object || findings.damaged.iter().all(|d| d.object.is_none()), "{findings:?}");
            findings
        };
        match number / 8 % 4 {
            0 => self.use_it(home.path(), &store, "first"),
            1 => drop(check(&store)),
            2 => self.build(home.path(), &store, "first"),
            _ => {
                // What was read once and has not changed is not read again; the tree is the same whatever was damaged.
                self.ingest(&store);
            }
        }
        self.use_it(home.path(), &store, "second");
        let found = check(&store).damaged;
        let name = flip.file.file_name().unwrap().to_string_lossy();
        let said = || found.iter().any(|d| d.object.is_some_and(|o| name.starts_with(&o.to_string())));
        let whole = || number / 8 % 4 == 1 && store.lost().unwrap().len() == 1;
        assert!(!object || said() || whole() || store.lost().unwrap().len() == 1, "it was not found: {found:?}");
        self.heal(&store);
        self.finish_half(&store);
        drop(store);

        let store = open(&dir).unwrap();
        self.use_it(home.path(), &store, "third");
        assert!(home.path().join("third").exists(), "all is here, and no tree can be made of it");
        assert!(closure::held(&store, self.release.id).unwrap().unwrap().is_full());
        let findings = check(&store);
        assert_eq!((findings.damaged, findings.reindexed), (vec![], 0));
        assert_eq!(store.lost().unwrap(), vec![]);
        let log = flip.file.ends_with("logs/records");
        assert!(log || (findings.losses.is_empty() && store.records().unwrap().len() as u64 == RECORDS));
        assert!(!log || !findings.losses.is_empty() || store.records().unwrap().len() as u64 == RECORDS);
        self.ingest(&store);
    }
    fn ingest(&self, store: &DiskStore) {
        let folders = [self.source.path().to_owned(), old()];
        assert_eq!(folders.map(|folder| store.ingest(&folder, &[], &|_| true).unwrap().tree), self.trees);
    }
}

/// Makes a trial on a thread of its own. Answers what was wrong.
fn tried(kept: &Arc<Kept>, flip: &Flip, number: usize) -> Option<String> {
    let (ended, end) = mpsc::channel();
    let (kept, of) = (kept.clone(), flip.clone());
    let thread = std::thread::spawn(move || {
        kept.trial(&of, number);
        let _ = ended.send(());
    });
    match end.recv_timeout(DEADLINE) {
        Ok(()) => None,
        Err(mpsc::RecvTimeoutError::Timeout) => Some(format!("{flip:?}, number {number}, hangs")),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().expect_err("it did not come to its end");
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            Some(format!("{flip:?}, number {number}: {text}"))
        }
    }
}

#[test]
fn a_thousand_flipped_bits_are_found_before_use_and_healed() {
    let count = std::env::var(FLIPS).map_or(1_000, |n| n.parse().expect("a number"));
    let kept = Arc::new(kept());
    let flips = kept.flips(count);
    let panics: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // sled panics on what it cannot read; that is caught, and its index counts as broken.
        if !panic.location().is_some_and(|at| at.file().contains("/sled-")) {
            panics.lock().unwrap().push(panic.to_string());
        }
    }));
    // Threads of their own: the store's work needs those that rayon has.
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get() + 1) {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(flip) = flips.get(number) else { return };
                    faults.lock().unwrap().extend(tried(&kept, flip, number));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    std::panic::set_hook(usual);
    let panics = panics.lock().unwrap();
    assert!(faults.is_empty(), "{} of {count} flips:\n{}", faults.len(), faults.join("\n"));
    assert!(panics.is_empty(), "somewhere beside: {panics:?}");
}
