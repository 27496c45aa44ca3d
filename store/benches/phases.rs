//! What each phase of the content path costs a store alone, without a network: seconds, CPU seconds of user and system.
//! Nothing is judged, only printed.
//!
//! `cargo bench -p softservice-store --bench phases` makes its own content, in the present folder. Others can be named:
//! `PHASES_DIR=/dev/shm PHASES_CORPORA=/data/C1:/data/C2 PHASES_ROUNDS=3 cargo bench -p softservice-store --bench phases`.

#[path = "../tests/cast/mod.rs"]
mod cast;

use cast::{noise, publish};
use rayon::prelude::*;
use softservice_protocol::{
    chunk::{self, Verified},
    id::ChunkId,
    io::{Depth, Stage},
    limits,
};
use softservice_store::{Store, closure, open};
use std::{
    collections::VecDeque,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Threads that put, as a node's blocking threads do.
const PUTTERS: usize = 4;
/// Bytes read at once by the bare pass.
const SEGMENT: usize = 1 << 20;

/// CPU seconds of this process: user and system.
fn cpu() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
    (ticks(11), ticks(12))
}

fn timed<T>(what: &str, bytes: u64, files: u64, work: impl FnOnce() -> T) -> T {
    let (begun, before) = (Instant::now(), cpu());
    let answer = work();
    let (seconds, after) = (begun.elapsed().as_secs_f64(), cpu());
    let rate = bytes as f64 / seconds / f64::from(1 << 20);
    println!(
        "{what:<24} {seconds:8.3} s  cpu {:6.2} + {:5.2} s {rate:8.0} MiB/s {:10.0} files/s",
        after.0 - before.0,
        after.1 - before.1,
        files as f64 / seconds
    );
    answer
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), out);
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
}

/// One pass over a file: FastCDC, and BLAKE3 of each chunk on whatever cores are free. A large file is read and cut on
/// one thread while others hash what was cut before.
fn bare(path: &Path, sum: &AtomicU64) {
    let mut file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    if len <= 4 << 20 {
        let mut bytes = Vec::with_capacity(len as usize + 1);
        file.read_to_end(&mut bytes).unwrap();
        let mut at = 0;
        for len in chunk::cut(&bytes) {
            let id = ChunkId::of(&bytes[at..at + len as usize]);
            sum.fetch_xor(u64::from(id.0[0]), Ordering::Relaxed);
            at += len as usize;
        }
        return;
    }
    rayon::in_place_scope(|scope| {
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let mut bytes = Vec::with_capacity(SEGMENT + limits::CHUNK_MAX);
            bytes.extend_from_slice(&rest);
            let got = (&mut file).take(SEGMENT as u64).read_to_end(&mut bytes).unwrap();
            let (mut at, mut cuts) = (0, Vec::new());
            for len in chunk::cut(&bytes) {
                if got != 0 && at + limits::CHUNK_MAX > bytes.len() {
                    break;
                }
                cuts.push(at..at + len as usize);
                at += len as usize;
            }
            rest = bytes[at..].to_vec();
            scope.spawn(move |_| {
                for cut in cuts {
                    sum.fetch_xor(u64::from(ChunkId::of(&bytes[cut]).0[0]), Ordering::Relaxed);
                }
            });
            if got == 0 {
                break;
            }
        }
    });
}

fn story(name: &str, source: &Path, dir: &Path) {
    println!("-- {name}");
    let mut list = Vec::new();
    files(source, &mut list);
    let bytes: u64 = list.iter().map(|f| f.metadata().unwrap().len()).sum();
    let count = list.len() as u64;
    let sum = AtomicU64::new(0);
    timed("bare single pass", bytes, count, || list.par_iter().for_each(|f| bare(f, &sum)));
    let ann = timed("open, empty", bytes, count, || open(&dir.join("ann")).unwrap());
    let made = timed("ingest", bytes, count, || ann.ingest(source, &[], &|_| true).unwrap());
    timed("ingest, no change", bytes, count, || ann.ingest(source, &[], &|_| true).unwrap());
    let release =
        publish(&ann, &cast::document("figures", vec![("any".into(), made.tree.clone())], made.tree.clone(), vec![]));
    let bob = open(&dir.join("bob")).unwrap();
    loop {
        let list = timed("expand", bytes, count, || closure::expand(&bob, release, Depth::Content, "x").unwrap());
        let wanted: Vec<_> = list.have.zeros().map(|i| list.chunks[i]).collect();
        let last = list.stage == Stage::Content;
        let mut spans: VecDeque<Vec<Verified>> = VecDeque::new();
        let read =
            || wanted.chunks(64).flat_map(|part| ann.read(part).unwrap()).map(|b| b.unwrap()).collect::<Vec<_>>();
        let read = if last { timed("read at the seeder", bytes, count, read) } else { read() };
        let mut filled = limits::SPAN_BYTES;
        for part in read {
            if filled + part.len() > limits::SPAN_BYTES || spans.back().is_some_and(|s| s.len() == limits::SPAN_CHUNKS)
            {
                spans.push_back(Vec::new());
                filled = 0;
            }
            filled += part.len();
            spans.back_mut().unwrap().push(Verified::own(part));
        }
        let queue = Mutex::new(spans);
        let put = || {
            std::thread::scope(|scope| {
                for _ in 0..PUTTERS {
                    scope.spawn(|| {
                        while let Some(span) = { queue.lock().unwrap().pop_front() } {
                            bob.put_all(&span).into_iter().for_each(|answer| answer.unwrap());
                        }
                    });
                }
            });
        };
        let assemble = || closure::assemble(&bob, release, list.stage, "x").unwrap();
        if !last {
            put();
            assemble();
            continue;
        }
        timed("put", bytes, count, put);
        timed("assemble", bytes, count, assemble);
        break;
    }
    let manifest = closure::manifest(&bob, &made.tree).unwrap();
    timed("materialise", bytes, count, || bob.materialise(&manifest, &dir.join("tree")).unwrap());
    timed("materialise again", bytes, count, || bob.materialise(&manifest, &dir.join("tree2")).unwrap());
    timed("close", bytes, count, || drop(bob));
    timed("open", bytes, count, || drop(open(&dir.join("bob")).unwrap()));
}

/// Content of three kinds, smaller than what the tables of `docs/benchmarks.md` are about.
fn own(dir: &Path) -> Vec<PathBuf> {
    let kinds = [("one-large", 1, 256 << 20), ("a-tree", 4_000, 40_000), ("many-small", 12_000, 4_500)];
    kinds
        .into_iter()
        .map(|(name, count, mean)| {
            for n in 0..count {
                let folder = dir.join(name).join((n % 100).to_string());
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(n.to_string()), noise(mean / 2 + (n * 7919) % mean, n as u64)).unwrap();
            }
            dir.join(name)
        })
        .collect()
}

fn main() {
    let at = std::env::var("PHASES_DIR").unwrap_or_else(|_| ".".into());
    let dir = tempfile::tempdir_in(at).unwrap();
    let corpora: Vec<PathBuf> = match std::env::var("PHASES_CORPORA") {
        Ok(named) => named.split(':').map(PathBuf::from).collect(),
        Err(_) => own(&dir.path().join("content")),
    };
    let rounds = std::env::var("PHASES_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for _ in 0..rounds {
        for source in &corpora {
            let work = tempfile::tempdir_in(dir.path()).unwrap();
            story(&source.file_name().unwrap_or_default().to_string_lossy(), source, work.path());
        }
    }
}
