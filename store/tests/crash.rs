//! Stores whose process is killed, and stores on a full disk. Invariant: what was acknowledged before is there after,
//! and a restart fetches at most 8 MiB again.
//!
//! The victim is this test program itself, started as a child: it prints a line after each acknowledged step, and the
//! parent kills it after a chosen line. A kill keeps the page cache; what a power cut may take is argued in `DESIGN.md`.

mod cast;

use cast::noise;
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    feed::{Head, Position},
    id::{Digest, FeedId, ObjectId, PublisherId},
    io::Record,
};
use softservice_store::{Findings, Layout, Store, StoreError, open};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PUBLISHER: PublisherId = PublisherId([6; 32]);
const STORE: &str = "SOFTSERVICE_TEST_STORE";
/// Bytes of the large object that is being fetched.
const LARGE: usize = 24 << 20;
const PIECE: usize = 64 << 10;
const AGAIN: usize = 8 << 20;

fn record(seq: u64) -> Record {
    Record::Reserved {
        publisher: PUBLISHER,
        head: Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) },
    }
}

fn large() -> (Layout, Vec<Verified>) {
    let bytes = noise(LARGE, 1);
    let parts: Vec<Verified> = bytes.chunks(PIECE).map(|c| Verified::own(c.to_vec())).collect();
    let chunks = parts.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    (Layout { object: ObjectId::of(&bytes), size: LARGE as u64, chunks }, parts)
}

fn small(number: u64) -> (Layout, Verified) {
    let part = Verified::own(noise(3_000 + number as usize, 1_000 + number));
    let only = ChunkRef { id: part.id(), len: part.bytes().len() as u32 };
    (Layout { object: ObjectId(part.id().0), size: u64::from(only.len), chunks: vec![only] }, part)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "did {line}").and_then(|()| out.flush()).unwrap();
}

/// What the victim does, for as long as it lives. Not a test of its own: without its variable it does nothing.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let dir = PathBuf::from(dir);
    let store = open(&dir.join("store")).unwrap();
    let (layout, parts) = large();
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let source = dir.join("source");
    for (number, part) in (0u64..).zip(&parts) {
        store.put(part).unwrap();
        say(&format!("put {number}"));
        if number % 8 == 0 {
            let seq = number / 8 + 1;
            store.keep(&record(seq)).unwrap();
            say(&format!("keep {seq}"));
            let (layout, part) = small(number);
            store.expect(std::slice::from_ref(&layout)).unwrap();
            store.put(&part).unwrap();
            store.assemble(std::slice::from_ref(&layout)).unwrap();
            say(&format!("whole {}", layout.object));
            std::fs::create_dir_all(&source).unwrap();
            std::fs::write(source.join(format!("file{number}")), noise(40_000, number)).unwrap();
            let tree = store.ingest(&source, &[], &|_| true).unwrap().tree;
            say(&format!("whole {}", tree.manifest));
        }
    }
    store.assemble(std::slice::from_ref(&layout)).unwrap();
    say(&format!("whole {}", layout.object));
    // Nothing that takes away what was acknowledged may follow: the victim runs ahead of whoever reads its lines.
    say("end");
}

/// Lets the victim live for so many lines. Answers them, and whether it reached its end.
fn run(dir: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
        .env(STORE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(did) = line.strip_prefix("did ") {
            said.push(did.to_owned());
        }
        if said.len() == lines {
            child.kill().unwrap();
            break;
        }
    }
    child.wait().unwrap();
    said
}

fn check(dir: &Path, said: &[String]) {
    let store = open(&dir.join("store")).unwrap();
    let kept = said.iter().filter_map(|l| l.strip_prefix("keep ")).count() as u64;
    let records = store.records().unwrap();
    assert!(records.len() as u64 >= kept, "{kept} records were acknowledged, {} are here", records.len());
    assert_eq!(records, (1..=records.len() as u64).map(record).collect::<Vec<_>>());
    let mark = store.mark(FeedId::main(PUBLISHER)).unwrap().map_or(0, |h| h.at.seq);
    assert!(mark >= kept);
    let whole: Vec<ObjectId> =
        said.iter().filter_map(|l| l.strip_prefix("whole ")).map(|hex| hex.parse().unwrap()).collect();
    let (layout, parts) = large();
    for object in &whole {
        store.object(*object, LARGE).unwrap();
    }
    let findings = store.fsck(&|_| true).unwrap();
    assert!(findings.damaged.iter().all(|d| d.object.is_none()), "{findings:?}");

    // The fetch goes on: nearly all that was put is here, and the rest makes it whole.
    let put = said.iter().filter(|l| l.starts_with("put ")).count();
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let here = store.survey(&layout.chunks).unwrap();
    let lost = put.saturating_sub(here.count()) * PIECE;
    assert!(lost <= AGAIN, "{lost} bytes would be fetched again");
    assert!(put * PIECE <= AGAIN || here.count() > 0);
    let read = store.read(&layout.chunks).unwrap();
    for (number, read) in read.iter().enumerate() {
        assert_eq!(here.get(number), read.is_some(), "chunk {number} is said to be here and cannot be read");
    }
    here.zeros().for_each(|n| store.put(&parts[n]).unwrap());
    store.assemble(std::slice::from_ref(&layout)).unwrap();
    assert_eq!(ObjectId::of(&store.object(layout.object, LARGE).unwrap()), layout.object);
}

#[test]
fn a_kill_at_any_step_loses_nothing_acknowledged() {
    for lines in [1, 2, 3, 4, 5, 9, 40, 130, 200, 333, 480] {
        let dir = cast::scratch();
        let said = run(dir.path(), lines);
        assert_eq!(said.len(), lines, "the victim did not live long enough: {:?}", said.last());
        check(dir.path(), &said);
    }
}

#[test]
fn kills_one_after_the_other_on_the_same_store() {
    let dir = cast::scratch();
    for lines in [150, 3, 60] {
        let said = run(dir.path(), lines);
        let store = open(&dir.path().join("store")).unwrap();
        for line in said.iter().filter_map(|l| l.strip_prefix("whole ")) {
            assert!(store.has_object(line.parse().unwrap()));
        }
        assert!(store.fsck(&|_| true).unwrap().damaged.iter().all(|d| d.object.is_none()));
    }
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        mount.is_ok_and(|s| s.success()).then_some(Self(dir))
    }
}
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_answer_and_costs_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(40 << 20) else {
        eprintln!("SKIPPED: a full disk needs root and mount; this machine gives neither");
        return;
    };
    // Large enough that the reserve, a twentieth, is more than the index grows by; then most of it is taken.
    std::fs::write(disk.0.path().join("others"), vec![0; 22 << 20]).unwrap();
    let dir = disk.0.path().join("store");
    let store = open(&dir).unwrap();
    let (layout, parts) = large();
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let mut kept = 0;
    let mut put = 0;
    let full = parts.iter().enumerate().find_map(|(n, part)| {
        if n % 10 == 0 {
            store.keep(&record(kept + 1)).unwrap();
            kept += 1;
        }
        let refused = store.put(part).err();
        put += usize::from(refused.is_none());
        refused
    });
    assert!(matches!(full, Some(StoreError::Full { .. })), "24 MiB went into 18: {full:?}");
    assert!(put * PIECE > 8 << 20, "only {put} chunks fitted");
    assert!(matches!(store.assemble(std::slice::from_ref(&layout)), Err(StoreError::Incomplete { .. })));
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("big"), noise(6 << 20, 3)).unwrap();
    assert!(matches!(store.ingest(source.path(), &[], &|_| true), Err(StoreError::Full { .. })));
    assert!(matches!(store.add(&noise(1 << 20, 4)), Err(StoreError::Full { .. })));
    assert_eq!(std::fs::read_dir(dir.join("temp")).unwrap().count(), 0, "a refused ingest leaves files behind");
    // The reserve still takes what must never be lost.
    store.keep(&record(kept + 1)).unwrap();
    kept += 1;

    // Now truly full: even records are refused, and then not said to be kept.
    let ballast = disk.0.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let refused = (0..2_000).find_map(|_| match store.keep(&record(kept + 1)) {
        Ok(()) => {
            kept += 1;
            None
        }
        Err(e) => Some(e),
    });
    assert!(matches!(refused, Some(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(store.records().unwrap().len() as u64, kept);
    drop(store);
    drop(file);
    std::fs::remove_file(ballast).unwrap();

    let store = open(&dir).unwrap();
    assert_eq!(store.records().unwrap(), (1..=kept).map(record).collect::<Vec<_>>());
    assert!(store.mark(FeedId::main(PUBLISHER)).unwrap().is_some_and(|h| h.at.seq >= kept));
    store.expect(std::slice::from_ref(&layout)).unwrap();
    let here = store.survey(&layout.chunks).unwrap().count();
    assert!((put - here) * PIECE <= AGAIN, "{put} were put, {here} are here");
    store.keep(&record(kept + 1)).unwrap();
}

/// What goes is linked elsewhere, as objects of generations are, so that no room comes of it.
#[test]
fn a_sweep_on_a_full_disk_does_its_work_and_says_what_is_left_to_do() {
    let Some(disk) = SmallDisk::mount(64 << 20) else {
        eprintln!("SKIPPED: a full disk needs root and mount; this machine gives neither");
        return;
    };
    let dir = disk.0.path().join("store");
    let store = open(&dir).unwrap();
    let source = tempfile::tempdir().unwrap();
    let (kept, gone): (Vec<u64>, Vec<u64>) = ((0..10).collect(), (10..40).collect());
    kept.iter()
        .chain(&gone)
        .for_each(|n| std::fs::write(source.path().join(n.to_string()), noise(100_000, *n)).unwrap());
    store.ingest(source.path(), &[], &|_| true).unwrap();
    let object = |n: &u64| ObjectId::of(&noise(100_000, *n));
    let all: BTreeSet<ObjectId> = kept.iter().chain(&gone).map(object).collect();
    // What was read in since the last sweep is spared by the next one, which then takes nothing: not even the manifest.
    store.gc(&all).unwrap();
    for object in &all {
        let name = object.to_string();
        std::fs::hard_link(dir.join("objects").join(&name[..2]).join(&name), disk.0.path().join(&name)).unwrap();
    }
    let log = dir.join("logs/layouts");
    let before = std::fs::metadata(&log).unwrap().len();
    let ballast = disk.0.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}

    let keep: BTreeSet<ObjectId> = kept.iter().map(object).collect();
    let swept = store.gc(&keep).unwrap();
    assert_eq!((swept.kept, swept.removed), (10, 31), "{swept:?}");
    assert_eq!(swept.unlogged, 31, "there is no room for the log");
    assert_eq!(std::fs::metadata(&log).unwrap().len(), before, "it is what it was");
    let right = |store: &dyn Store| {
        assert!(gone.iter().all(|n| !store.has_object(object(n))));
        kept.iter().for_each(|n| assert_eq!(store.object(object(n), 1 << 20).unwrap(), noise(100_000, *n)));
    };
    right(&store);
    drop(file);
    std::fs::remove_file(ballast).unwrap();
    let swept = store.gc(&keep).unwrap();
    assert_eq!((swept.removed, swept.unlogged), (0, 0), "{swept:?}");
    assert!(std::fs::metadata(&log).unwrap().len() < before, "the log names only what is here");
    right(&store);
    drop(store);
    let store = open(&dir).unwrap();
    right(&store);
    store.fsck(&|_| true).unwrap();
    assert_eq!(store.fsck(&|_| true).unwrap(), Findings { objects: 10, bytes: 1_000_000, ..Findings::default() });
}
