//! What looking for secrets costs an ingest, and what it finds in software that has none. Not a benchmark of the usual
//! kind: `cargo bench -p softservice-store --bench secrets -- cost DIR [ROUNDS]` ingests a folder with and without a look, in
//! turns, into new stores; `… -- find DIR…` prints every finding in folders, and how many files were looked at.

use softservice_protocol::secrets::{Finding, Place, Scanner, Weight};
use softservice_store::{Look, Looking, Store, open};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

#[derive(Default)]
struct Watch(Mutex<Vec<Finding>>);
struct Watched<'a>(&'a Watch, Scanner);

impl Look for Watch {
    fn rule(&self, path: &str) -> u32 {
        Place::of(path).rule()
    }
    fn open<'a>(&'a self, path: &str) -> Box<dyn Looking + 'a> {
        Box::new(Watched(self, Scanner::new(path)))
    }
    fn lets_in(&self) -> bool {
        true
    }
}
impl Watched<'_> {
    fn done(&self, found: Vec<Finding>) -> bool {
        let clean = found.is_empty();
        self.0.0.lock().expect("no panic").extend(found);
        clean
    }
}
impl Looking for Watched<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.1.push(piece);
    }
    fn end(self: Box<Self>) -> bool {
        let Self(watch, scanner) = *self;
        Watched(watch, Scanner::new("")).done(scanner.finish())
    }
    fn whole(self: Box<Self>, bytes: &[u8]) -> bool {
        let Self(watch, scanner) = *self;
        Watched(watch, Scanner::new("")).done(scanner.whole(bytes))
    }
}

/// Processor seconds of this process.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a process");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|n| fields[*n].parse::<u64>().expect("ticks")).sum();
    ticks as f64 / 100.0
}

/// One ingest into a new store: processor and wall seconds.
fn ingest(dir: &Path, look: bool) -> (f64, f64) {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = open(scratch.path()).expect("a store");
    let watch = Watch::default();
    let (began, before) = (Instant::now(), processor());
    if look {
        store.ingest_looked(dir, &[], &|_| true, false, &watch).expect("ingest");
    } else {
        store.ingest(dir, &[], &|_| true).expect("ingest");
    }
    (processor() - before, began.elapsed().as_secs_f64())
}

fn cost(dir: &Path, rounds: usize) {
    ingest(dir, false);
    let (mut plain, mut looked) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(ingest(dir, false));
        looked.push(ingest(dir, true));
    }
    let median = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = all.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (what, of) in [("cpu", (|t| t.0) as fn(&(f64, f64)) -> f64), ("wall", |t| t.1)] {
        let (without, with) = (median(&plain, of), median(&looked, of));
        println!("{what}: {without:.3} s without, {with:.3} s with a look, ratio {:.3}", with / without);
    }
    let mut files = Vec::new();
    gather(dir, &mut files);
    let contents: Vec<(String, Vec<u8>)> =
        files.into_iter().filter_map(|f| Some((f.to_str()?.to_owned(), fs::read(&f).ok()?))).collect();
    let bytes: usize = contents.iter().map(|(_, b)| b.len()).sum();
    for _ in 0..3 {
        let (began, before) = (Instant::now(), processor());
        let found: usize = contents.iter().map(|(path, bytes)| Scanner::new(path).whole(bytes).len()).sum();
        println!(
            "the look alone, in memory: {} files, {bytes} bytes, {:.3} s, {:.3} s of a processor, {found} findings",
            contents.len(),
            began.elapsed().as_secs_f64(),
            processor() - before
        );
    }
}

fn gather(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => gather(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

fn find(dirs: &[String]) {
    for dir in dirs {
        let mut files = Vec::new();
        gather(Path::new(dir), &mut files);
        let (mut refused, mut told, mut bytes, mut read) = (0, 0, 0, 0);
        for file in &files {
            let (Some(name), Ok(content)) = (file.to_str(), fs::read(file)) else { continue };
            (bytes, read) = (bytes + content.len(), read + 1);
            for finding in Scanner::new(name.trim_start_matches('/')).whole(&content) {
                let weight = if finding.weight == Weight::Refused { &mut refused } else { &mut told };
                *weight += 1;
                println!("{:?} {}", finding.weight, finding.describe());
            }
        }
        println!("{dir}: {read} files, {bytes} bytes: {refused} refused, {told} told");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.split_first() {
        Some((what, [dir, rounds @ ..])) if what == "cost" => {
            cost(Path::new(dir), rounds.first().and_then(|r| r.parse().ok()).unwrap_or(5));
        }
        Some((what, dirs)) if what == "find" => find(dirs),
        _ => println!("cost DIR [ROUNDS], or find DIR…"),
    }
}
