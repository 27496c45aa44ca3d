//! How long a large store takes to open: after a clean end, after a kill, without its index; with everything in memory and
//! with nothing. Nothing is judged, only printed:
//! `OPENING_DIR=/dev/shm OPENING_CHUNKS=1000000 OPENING_OBJECTS=200000 cargo bench -p softservice-store --bench opening`.
//! Each opening is a process of its own, so that its memory is its own. Caches are dropped where the system lets us (root).

#[path = "../tests/cast/mod.rs"]
mod cast;

use cast::noise;
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    id::ObjectId,
};
use softservice_store::{Layout, Store, open};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

/// Chunks of one object, and bytes of each: an object is more than 16 KiB, so its layout is logged.
const CHUNKS: u64 = 100;
const CHUNK: usize = 200;
/// Objects that are announced and made whole at once.
const BATCH: u64 = 500;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The chunks of an object that has several, by its number.
fn pieces(object: u64) -> Vec<Verified> {
    noise(CHUNK * CHUNKS as usize, object).chunks(CHUNK).map(|piece| Verified::own(piece.to_vec())).collect()
}

fn layout(pieces: &[Verified]) -> Layout {
    let whole: Vec<u8> = pieces.iter().flat_map(|p| p.bytes().to_vec()).collect();
    let chunks = pieces.iter().map(|p| ChunkRef { id: p.id(), len: p.bytes().len() as u32 }).collect();
    Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks }
}

/// Fills a store through its own doors, as a fetch does.
fn fill(dir: &Path, chunked: u64, single: u64) {
    let store = open(dir).unwrap();
    let bring = |objects: Vec<Vec<Verified>>| {
        let layouts: Vec<Layout> = objects.iter().map(|o| layout(o)).collect();
        store.expect(&layouts).unwrap();
        objects.iter().for_each(|o| store.put_all(o).into_iter().for_each(|put| put.unwrap()));
        store.assemble(&layouts).unwrap();
    };
    let mut at = 0;
    while at < chunked {
        bring((at..chunked.min(at + BATCH)).map(pieces).collect());
        at += BATCH;
    }
    let mut at = 0;
    while at < single {
        let one = |n: u64| vec![Verified::own(noise(100, (1 << 40) + n))];
        bring((at..single.min(at + 8 * BATCH)).map(one).collect());
        at += 8 * BATCH;
    }
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// One opening, in a process of its own. Prints seconds and MiB.
fn opening(dir: &Path, kill: bool) {
    let objects: Vec<Vec<Verified>> = (0..10).map(pieces).collect();
    let chunks: Vec<ChunkRef> = objects.iter().flat_map(|o| layout(o).chunks).collect();
    let begun = Instant::now();
    let store = open(dir).unwrap();
    let opened = begun.elapsed().as_secs_f64();
    let held = store.survey(&chunks).unwrap();
    let read = store.read(&chunks).unwrap();
    let answered = begun.elapsed().as_secs_f64();
    let right = held.is_full() && read.iter().all(Option::is_some);
    let after = memory("VmRSS");
    store.settle();
    let settled = begun.elapsed().as_secs_f64();
    let (resident, peak) = (memory("VmRSS"), memory("VmHWM"));
    let right = if right { "all found" } else { "SOMETHING MISSING" };
    println!(
        "open {opened:7.3} s  1000 chunks read at {answered:7.3} s ({right})  index whole at {settled:7.3} s  \
         RSS {after} then {resident}, peak {peak} MiB"
    );
    if kill {
        // Something of this life, so that a kill leaves more than nothing; then no end in order.
        store.add(&noise(40_000, u64::from(std::process::id()))).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    let begun = Instant::now();
    drop(store);
    println!("{:>28} {:7.3} s", "closed in", begun.elapsed().as_secs_f64());
}

fn run(what: &str, dir: &Path, kill: bool, cold: bool) {
    if cold {
        rustix::fs::sync();
        if std::fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
            println!("{what}: caches cannot be dropped here");
            return;
        }
    }
    println!("{what}");
    let role = if kill { "kill" } else { "open" };
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child.arg("--opening").arg(role).arg(dir).stdout(Stdio::inherit());
    let status = child.status().unwrap();
    assert!(kill || status.success());
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--opening") {
        return opening(Path::new(&arguments[at + 2]), arguments[at + 1] == "kill");
    }
    let above = std::env::var_os("OPENING_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let (chunks, singles) = (number("OPENING_CHUNKS", 1_000_000), number("OPENING_OBJECTS", 200_000));
    let scratch = tempfile::tempdir_in(above).unwrap();
    let dir = scratch.path().join("store");
    let begun = Instant::now();
    fill(&dir, chunks / CHUNKS, singles);
    println!(
        "{chunks} chunks in {} objects, {singles} small objects: {:.0} s",
        chunks / CHUNKS,
        begun.elapsed().as_secs_f64()
    );
    for cold in [false, true] {
        let warmth = if cold { "cold" } else { "warm" };
        run(&format!("-- after a clean end, {warmth}"), &dir, false, cold);
        run("   (killed)", &dir, true, false);
        run(&format!("-- after a kill, {warmth}"), &dir, false, cold);
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        run(&format!("-- without its index, {warmth}"), &dir, false, cold);
    }
}
