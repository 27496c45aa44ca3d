//! How fast a store is with a tree of many files and with a large one. Not judged, only printed:
//! `cargo bench -p softservice-store` (works in the present folder; `TMPDIR` is often in memory and says nothing of disks).

#[path = "../tests/cast/mod.rs"]
mod cast;

use cast::{noise, publish};
use softservice_protocol::{
    chunk::Verified,
    io::{Depth, Stage},
};
use softservice_store::{Store, closure, manifests, open};
use std::{path::Path, time::Instant};

fn timed<T>(what: &str, bytes: u64, files: u64, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let answer = work();
    let seconds = begun.elapsed().as_secs_f64();
    let rate = bytes as f64 / seconds / f64::from(1 << 20);
    println!("{what:<28} {seconds:8.3} s {rate:8.0} MiB/s {:10.0} files/s", files as f64 / seconds);
    answer
}

fn story(name: &str, source: &Path) {
    let dir = tempfile::tempdir_in(".").unwrap();
    println!("-- {name}");
    let ann = open(&dir.path().join("ann")).unwrap();
    let begun = Instant::now();
    let made = ann.ingest(source, &[], &|_| true).unwrap();
    let (bytes, files) = (made.bytes, u64::from(made.tree.files));
    println!("{bytes} bytes, {files} files; ingest took {:.3} s", begun.elapsed().as_secs_f64());
    timed("ingest again", bytes, files, || ann.ingest(source, &[], &|_| true).unwrap());
    let release =
        publish(&ann, &cast::document("figures", vec![("any".into(), made.tree.clone())], made.tree.clone(), vec![]));
    let bob = open(&dir.path().join("bob")).unwrap();
    loop {
        let list = timed("expand", bytes, files, || closure::expand(&bob, release, Depth::Content, "x").unwrap());
        let bytes: u64 = list.chunks.iter().map(|c| u64::from(c.len)).sum();
        let wanted: Vec<_> = list.have.zeros().map(|i| list.chunks[i]).collect();
        let read = timed("read at the seeder", bytes, files, || {
            wanted.chunks(64).flat_map(|part| ann.read(part).unwrap()).collect::<Vec<_>>()
        });
        let read: Vec<Verified> = read.into_iter().map(|b| Verified::own(b.unwrap())).collect();
        timed("put", bytes, files, || {
            std::thread::scope(|scope| {
                for part in read.chunks(read.len().div_ceil(2)) {
                    let bob = &bob;
                    scope.spawn(move || part.iter().for_each(|chunk| bob.put(chunk).unwrap()));
                }
            });
        });
        drop(read);
        timed("assemble", bytes, files, || closure::assemble(&bob, release, list.stage, "x").unwrap());
        if list.stage == Stage::Content {
            break;
        }
    }
    timed("expand when all is here", bytes, files, || closure::expand(&bob, release, Depth::Content, "x").unwrap());
    timed("held", bytes, files, || closure::held(&bob, release.id).unwrap().unwrap());
    let manifest = manifests::of_tree(&bob, &made.tree).unwrap();
    let placed = timed("materialise", bytes, files, || bob.materialise(&manifest, &dir.path().join("tree")).unwrap());
    println!("{placed:?}");
    timed("materialise again", bytes, files, || bob.materialise(&manifest, &dir.path().join("tree2")).unwrap());
    timed("check", bytes, files, || assert_eq!(bob.fsck(&|_| true).unwrap().damaged, vec![]));
    timed("close", bytes, files, || drop(bob));
    let bob = timed("open", bytes, files, || open(&dir.path().join("bob")).unwrap());
    drop(bob);
    std::fs::remove_file(dir.path().join("bob/index.seal")).unwrap();
    timed("open after a kill", bytes, files, || open(&dir.path().join("bob")).unwrap());
    std::fs::remove_dir_all(dir.path().join("bob/index")).unwrap();
    timed("open without an index", bytes, files, || open(&dir.path().join("bob")).unwrap());
}

fn many_small_files() {
    let source = tempfile::tempdir_in(".").unwrap();
    for n in 0..16_000u64 {
        let folder = source.path().join(format!("d{}", n % 300));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(n.to_string()), noise(500 + (n as usize * 7919) % 12_000, n)).unwrap();
    }
    story("many small files", source.path());
}

fn large_files() {
    let source = tempfile::tempdir_in(".").unwrap();
    for n in 0..4u64 {
        std::fs::write(source.path().join(n.to_string()), noise(100 << 20, n)).unwrap();
    }
    story("large files", source.path());
}

fn main() {
    many_small_files();
    large_files();
}
