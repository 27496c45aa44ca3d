//! How fast a store is checked, beside a bare parallel BLAKE3 of the same files in the same run; and how long it takes to say
//! how much is here. Nothing is judged, only printed:
//! `CHECKING_SOURCES=/corpora/C1,/corpora/C2 CHECKING_DIR=. cargo bench -p softservice-store --bench checking`, and with
//! `CHECKING_OBJECTS=1000000` a store of so many small objects. Without sources it makes some of its own. Caches are dropped where
//! the system lets us (root). The two take turns, and the median of four counts.

#[path = "../tests/cast/mod.rs"]
mod cast;

use cast::noise;
use rayon::prelude::*;
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    id::ObjectId,
};
use softservice_store::{Layout, Store, StoreError, open};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

/// Even, as each of the two begins in half of them.
const ROUNDS: usize = 4;
/// A file that is longer is hashed by all cores at once, and read in pieces of this length.
const PIECE: usize = 2 << 20;

fn files(dir: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { files(&entry.path(), found) } else { found.push((entry.path(), meta.len())) }
    }
}

/// The least that anybody must do: read each file once and hash it, on all cores.
fn bare(files: &[(PathBuf, u64)]) -> u64 {
    let one = |(path, len): &(PathBuf, u64)| {
        let mut file = File::open(path).unwrap();
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; (*len as usize).clamp(1, PIECE)];
        let mut all = 0;
        loop {
            let mut got = 0;
            while got < buffer.len() {
                match file.read(&mut buffer[got..]).unwrap() {
                    0 => break,
                    n => got += n,
                }
            }
            if got == 0 {
                break;
            }
            all += got as u64;
            if *len > PIECE as u64 / 4 {
                hasher.update_rayon(&buffer[..got])
            } else {
                hasher.update(&buffer[..got])
            };
        }
        std::hint::black_box(hasher.finalize());
        all
    };
    files.par_iter().map(one).sum()
}

/// Drops caches; false where the system does not let us.
fn cold() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Of an even number of them.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let upper = seconds.len() / 2;
    (seconds[upper - 1] + seconds[upper]) / 2.0
}

fn compare(name: &str, dir: &Path) {
    let store = open(dir).unwrap();
    store.settle();
    let mut objects = Vec::new();
    files(&dir.join("objects"), &mut objects);
    let bytes: u64 = objects.iter().map(|(_, len)| len).sum();
    println!("-- {name}: {} objects, {} MiB", objects.len(), bytes >> 20);
    for warmth in ["warm", "cold"] {
        let drop_caches = warmth == "cold";
        if drop_caches && !cold() {
            println!("caches cannot be dropped here");
            return;
        }
        if !drop_caches {
            bare(&objects);
        }
        let (mut plain, mut check) = (Vec::new(), Vec::new());
        for turn in 0..2 * ROUNDS {
            if drop_caches {
                cold();
            }
            // This one, that one; that one, this one.
            if turn.div_ceil(2) % 2 == 0 {
                plain.push(timed(|| assert_eq!(bare(&objects), bytes)));
            } else {
                check.push(timed(|| assert!(store.fsck(&|_| true).unwrap().damaged.is_empty())));
            }
        }
        let (plain, check) = (median(plain), median(check));
        let rate = |seconds: f64| bytes as f64 / seconds / f64::from(1 << 20);
        println!(
            "{warmth}  bare BLAKE3 {plain:7.3} s {:6.0} MiB/s   fsck {check:7.3} s {:6.0} MiB/s   speed {:.2} of it",
            rate(plain),
            rate(check),
            plain / check
        );
    }
}

/// How long a store takes to say how much it holds: at first, again, after something came, and in a next life.
fn totals(above: &Path, count: u64) {
    const BATCH: u64 = 4000;
    let scratch = tempfile::tempdir_in(above).unwrap();
    let dir = scratch.path().join("store");
    let store = open(&dir).unwrap();
    let mut at = 0;
    while at < count {
        let pieces: Vec<Verified> =
            (at..count.min(at + BATCH)).map(|n| Verified::own(noise(100, (1 << 40) + n))).collect();
        let layout = |p: &Verified| {
            let chunks = vec![ChunkRef { id: p.id(), len: p.bytes().len() as u32 }];
            Layout { object: ObjectId::of(p.bytes()), size: p.bytes().len() as u64, chunks }
        };
        let layouts: Vec<Layout> = pieces.iter().map(layout).collect();
        store.expect(&layouts).unwrap();
        store.put_all(&pieces).into_iter().for_each(|put| put.unwrap());
        store.assemble(&layouts).unwrap();
        at += BATCH;
    }
    println!("-- how much is here, {count} objects");
    let told = |what: &str, store: &dyn Store| {
        let mut answer = (0, 0);
        let seconds = timed(|| answer = store.totals().unwrap());
        println!("{what:<44} {:9.2} ms  {} objects", seconds * 1000.0, answer.0);
    };
    told("every folder was written to just now", &store);
    // The grain of a file system's times is at most this.
    std::thread::sleep(std::time::Duration::from_secs(5));
    told("all of it counted once more", &store);
    told("nothing happened since", &store);
    store.add(&noise(100, 1)).unwrap();
    told("one object came", &store);
    drop(store);
    let store = open(&dir).unwrap();
    told("in the next life", &store);
    if cold() {
        drop(store);
        cold();
        let store = open(&dir).unwrap();
        told("in a next life, nothing in memory", &store);
        std::fs::remove_file(dir.join("tally")).unwrap();
        drop(store);
        std::fs::remove_file(dir.join("tally")).ok();
        cold();
        let store = open(&dir).unwrap();
        told("the same, every object looked at", &store);
    }
}

fn main() {
    let above = std::env::var_os("CHECKING_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    if let Some(count) = std::env::var("CHECKING_OBJECTS").ok().and_then(|n| n.parse().ok()) {
        return totals(&above, count);
    }
    let scratch = tempfile::tempdir_in(&above).unwrap();
    let named = std::env::var("CHECKING_SOURCES").unwrap_or_default();
    let mut sources: Vec<PathBuf> = named.split(',').filter(|s| !s.is_empty()).map(PathBuf::from).collect();
    if sources.is_empty() {
        for (name, count, len) in [("one large file", 1, 512 << 20), ("20,000 small files", 20_000, 4_000)] {
            let dir = scratch.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            (0..count).for_each(|n| std::fs::write(dir.join(n.to_string()), noise(len, n)).unwrap());
            sources.push(dir);
        }
    }
    for source in sources {
        let dir = scratch.path().join("store");
        let store = open(&dir).unwrap();
        if let Err(StoreError::Unfit { .. }) = store.ingest(&source, &[], &|_| true) {
            // Links out of the tree, and names that some systems cannot have, are no content: its files under other names.
            let plain = scratch.path().join("plain");
            let mut found = Vec::new();
            files(&source, &mut found);
            for (number, (file, _)) in found.iter().enumerate() {
                let to = plain.join((number % 256).to_string());
                std::fs::create_dir_all(&to).unwrap();
                if file.symlink_metadata().unwrap().is_file() {
                    std::fs::copy(file, to.join(number.to_string())).unwrap();
                }
            }
            store.ingest(&plain, &[], &|_| true).unwrap();
            std::fs::remove_dir_all(plain).unwrap();
        }
        drop(store);
        compare(&source.display().to_string(), &dir);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
