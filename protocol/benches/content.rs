//! What the path of content costs without disk and network: cutting and hashing, the codec, comparing two manifests,
//! and the decisions of a whole fetch. `cargo bench -p softservice-protocol`; nothing here is judged by a test.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{self, ChunkRef, Cutting},
    codec,
    id::{ChunkId, ObjectId, Peer, ReleaseId},
    io::{Alike, Delivery, Depth, Input, Job, Output, Spent, Stage, WantList},
    machine::{Core, Settings},
    message::Message,
    release::ReleaseRef,
    time::Time,
    tree::{Manifest, Node, TreeEntry},
};
use std::{collections::BTreeSet, hint::black_box};

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn cutting(c: &mut Criterion) {
    let bytes = noise(64 << 20, 1);
    let mut group = c.benchmark_group("64 MiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(20);
    group.bench_function("hash", |b| b.iter(|| ObjectId::of(black_box(&bytes))));
    group.bench_function("cut", |b| b.iter(|| chunk::cut(black_box(&bytes))));
    group.bench_function("cut, and hash each chunk", |b| {
        b.iter(|| {
            let mut rest = bytes.as_slice();
            for len in chunk::cut(&bytes) {
                let (part, after) = rest.split_at(len as usize);
                black_box(ChunkId::of(part));
                rest = after;
            }
        });
    });
    group.finish();
}

/// A tree of 20,000 files of a chunk each, every `changed`-th of another version.
fn manifest(version: u32, changed: u32) -> Manifest {
    let mut entries = Vec::new();
    for folder in 0..200 {
        entries.push(TreeEntry { path: format!("d{folder:04}"), node: Node::Dir });
        for file in 0..100 {
            let number: u32 = folder * 100 + file;
            let version = if number.is_multiple_of(changed) { version } else { 0 };
            let object = ObjectId::of(&[number.to_le_bytes(), version.to_le_bytes()].concat());
            let node = Node::File { executable: false, object, size: 4000, chunks: Vec::new() };
            entries.push(TreeEntry { path: format!("d{folder:04}/f{file:04}.txt"), node });
        }
    }
    Manifest { cutting: Cutting::STANDARD, entries }
}

fn manifests(c: &mut Criterion) {
    let (old, new) = (manifest(1, 50), manifest(2, 50));
    let bytes = codec::encode(&new).expect("a manifest encodes");
    let mut group = c.benchmark_group("a manifest of 20,000 files");
    group.throughput(Throughput::Elements(20_000));
    group.bench_function("encode", |b| b.iter(|| codec::encode(black_box(&new))));
    group.bench_function("decode", |b| b.iter(|| codec::decode::<Manifest>(black_box(&bytes))));
    group.bench_function("check", |b| b.iter(|| black_box(&new).check()));
    group.bench_function("what is new in it", |b| {
        b.iter(|| {
            let known: BTreeSet<ChunkId> = old.chunk_order().iter().map(|c| c.id).collect();
            new.chunk_order().iter().filter(|c| !known.contains(&c.id)).count()
        });
    });
    group.finish();
}

/// Chunks of a fetch of 1 GiB.
const CHUNKS: usize = 16_384;

/// A core with one connected peer that has all, and a fetch whose list it was just given.
fn begun() -> (Core, Vec<Output>, Peer) {
    let peer = Peer([2; 32]);
    let mut core = Core::new(Settings { me: Peer([1; 32]), seed: 7, outbound: 8, built: Time(0) });
    let (now, job) = (Time(1_000_000), Job(1));
    let release = ReleaseRef { id: ReleaseId([3; 32]), size: 100 };
    core.handle(now, Input::Connected { peer, address: "/memory/1".into(), outbound: true });
    core.handle(now, Input::Fetch { job, release, depth: Depth::Content });
    let id = |i: usize| ChunkId::of(&i.to_le_bytes());
    let chunks: Vec<ChunkRef> = (0..CHUNKS).map(|i| ChunkRef { id: id(i), len: 65_536 }).collect();
    let list = WantList { stage: Stage::Content, chunks, have: Bitmap::empty(CHUNKS), alike: Alike::default() };
    let mut outputs = core.handle(now, Input::Expanded { job, list: Ok(list) });
    let has = Message::Has { release: release.id, chunks: Some(Bitmap::full(CHUNKS)) };
    let bytes = codec::encode(&has).expect("a message encodes");
    outputs.extend(core.handle(now, Input::Received { peer, bytes }));
    (core, outputs, peer)
}

/// Answers every request at once, until the fetch wants whole objects.
fn carried((mut core, mut outputs, peer): (Core, Vec<Output>, Peer)) -> usize {
    let (mut now, mut came) = (Time(1_000_000), 0);
    loop {
        let mut next = Vec::new();
        for output in outputs {
            match output {
                Output::Request { request, chunks, .. } => {
                    now.0 += 2;
                    came += chunks.len();
                    let bytes = chunks.iter().map(|c| u64::from(c.len)).sum();
                    let outcome = Delivery::Came { held: Bitmap::full(chunks.len()), bytes, wire: bytes };
                    next.extend(core.handle(now, Input::Delivered { peer, request, outcome, spent: Spent::default() }));
                }
                Output::Assemble { .. } => return came,
                _ => {}
            }
        }
        if next.is_empty() {
            now.0 += 250;
            next = core.handle(now, Input::Woke);
        }
        outputs = next;
    }
}

fn planner(c: &mut Criterion) {
    assert_eq!(carried(begun()), CHUNKS, "every chunk is asked for once");
    let mut group = c.benchmark_group("a fetch of 1 GiB in 16,384 chunks");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    group.bench_function("every decision of the core", |b| b.iter_batched(begun, carried, BatchSize::LargeInput));
    group.finish();
}

criterion_group!(benches, cutting, manifests, planner);
criterion_main!(benches);
