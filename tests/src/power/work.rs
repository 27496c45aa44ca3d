//! What is done with a store while it is crashed, and what of it was acknowledged. Invariant: a line is said only after the
//! call that it speaks of returned; every work may be begun again at any time, and ends as if nobody had disturbed it.

use super::fixture::{Fixture, PLATFORM, head};
use softservice_protocol::{
    chunk::Verified,
    id::ObjectId,
    io::{Depth, Record, Stage},
};
use softservice_store::{DiskStore, Layout, Store, StoreError, closure, manifests};
use std::{collections::BTreeSet, path::Path};

/// The kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two folders at once, then a third; a tree.
    Ingest,
    /// Two releases at once from another store; a tree.
    Fetch,
    /// Sweeps while something is ingested.
    Gc,
    /// A check of damaged files, and what was lost from another store.
    Repair,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Fetch, Self::Gc, Self::Repair];
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Fetch => "fetch",
            Self::Gc => "gc",
            Self::Repair => "repair",
        }
    }
}

/// Chunks that come at once.
const BATCH: usize = 8;
/// Expansions that a fetch may need: three stages, and a few more when another fetch comes in between.
const ROUNDS: usize = 12;

/// Hears what was acknowledged.
pub type Say<'a> = &'a (dyn Fn(String) + Sync);

/// Does the work in the store of `home`, from wherever an earlier try left it.
///
/// # Errors
/// What the store says.
pub fn work(kind: Kind, home: &Path, store: &DiskStore, fixture: &Fixture, say: Say<'_>) -> Result<(), StoreError> {
    match kind {
        Kind::Ingest => {
            both(|| ingest(store, fixture, "b", say), || ingest(store, fixture, "c", say))?;
            ingest(store, fixture, "d", say)?;
            tree(home, store, fixture, "b", say)?;
        }
        Kind::Fetch => {
            both(|| fetch(store, fixture, "b", say), || fetch(store, fixture, "c", say))?;
            fetch(store, fixture, "d", say)?;
            tree(home, store, fixture, "c", say)?;
        }
        Kind::Gc => {
            sweep(store, fixture, &["a", "b", "d"], say)?;
            both(|| ingest(store, fixture, "d", say), || sweep(store, fixture, &["a", "d"], say))?;
            sweep(store, fixture, &["a", "d"], say)?;
            keep(store, say)?;
            ingest(store, fixture, "b", say)?;
            sweep(store, fixture, &["b", "d"], say)?;
            sweep(store, fixture, &["b", "d"], say)?;
        }
        Kind::Repair => {
            store.fsck(&|_| true)?;
            say("checked".into());
            keep(store, say)?;
            heal(store, fixture, say)?;
            store.acknowledge()?;
            store.fsck(&|_| true)?;
            tree(home, store, fixture, "b", say)?;
        }
    }
    say("end".into());
    Ok(())
}

fn both(
    left: impl FnOnce() -> Result<(), StoreError> + Send,
    right: impl FnOnce() -> Result<(), StoreError> + Send,
) -> Result<(), StoreError> {
    std::thread::scope(|threads| {
        let other = threads.spawn(left);
        let own = right();
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(own)
    })
}

/// One more record.
fn keep(store: &DiskStore, say: Say<'_>) -> Result<(), StoreError> {
    let next = store.mark(super::fixture::feed())?.map_or(1, |head| head.at.seq + 1);
    store.keep(&Record::Reserved { publisher: super::fixture::PUBLISHER, head: head(next) })?;
    say(format!("record {next}"));
    Ok(())
}

fn ingest(store: &DiskStore, fixture: &Fixture, name: &str, say: Say<'_>) -> Result<(), StoreError> {
    let made = store.ingest(&fixture.source(name), &[], &|_| true)?;
    say(format!("object {}", made.tree.manifest));
    let document = fixture.document(name)?;
    let object = store.add(&document)?;
    say(format!("object {object}"));
    say(format!("release {name}"));
    if name != "c" {
        keep(store, say)?;
    }
    Ok(())
}

fn fetch(store: &DiskStore, fixture: &Fixture, name: &str, say: Say<'_>) -> Result<(), StoreError> {
    let (peer, release) = (fixture.peer()?, fixture.release(name));
    for _ in 0..ROUNDS {
        let list = closure::expand(store, release, Depth::Content, PLATFORM)?;
        let missing: Vec<usize> = list.have.zeros().collect();
        for part in missing.chunks(BATCH) {
            let refs: Vec<_> = part.iter().filter_map(|n| list.chunks.get(*n).copied()).collect();
            let chunks: Vec<Verified> = peer.read(&refs)?.into_iter().flatten().map(Verified::own).collect();
            store.put_all(&chunks).into_iter().collect::<Result<(), _>>()?;
        }
        match closure::assemble(store, release, list.stage, PLATFORM) {
            Ok(()) if list.stage == Stage::Content => {
                say(format!("release {name}"));
                return Ok(());
            }
            Ok(()) => {}
            // What damage or another fetch took is asked for again.
            Err(e) if e.setback().again => {}
            Err(e) => return Err(e),
        }
    }
    Err(StoreError::Incomplete { missing: 0, object: release.id.object() })
}

fn tree(home: &Path, store: &DiskStore, fixture: &Fixture, name: &str, say: Say<'_>) -> Result<(), StoreError> {
    let target = home.join("trees").join(name);
    if !target.exists() {
        let tree = fixture.tree(name)?;
        let manifest = manifests::of_tree(store, &tree)?;
        store.materialise(&manifest, &target)?;
    }
    say(format!("tree {name}"));
    Ok(())
}

fn sweep(store: &DiskStore, fixture: &Fixture, kept: &[&str], say: Say<'_>) -> Result<(), StoreError> {
    let mut keep = BTreeSet::new();
    for name in kept {
        keep.extend(fixture.objects(name)?);
    }
    // From here on nothing else is promised.
    say(format!("sweep {}", kept.join(",")));
    store.let_go();
    store.gc(&keep)?;
    say("swept".into());
    Ok(())
}

fn heal(store: &DiskStore, fixture: &Fixture, say: Say<'_>) -> Result<(), StoreError> {
    let wanted: BTreeSet<ObjectId> = ["a", "b"]
        .iter()
        .map(|name| fixture.objects(name))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect();
    let peer = fixture.peer()?;
    for lost in wanted.into_iter().filter(|object| !store.has_object(*object)) {
        let bytes = peer.object(lost, 64 << 20)?;
        let layout = layout_of(lost, &bytes);
        store.expect(std::slice::from_ref(&layout))?;
        let mut rest = bytes.as_slice();
        for chunk in &layout.chunks {
            let (part, after) = rest.split_at(chunk.len as usize);
            store.put(&Verified::own(part.to_vec()))?;
            rest = after;
        }
        store.assemble(&[layout])?;
        say(format!("object {lost}"));
    }
    say("release a".into());
    say("release b".into());
    Ok(())
}

/// The layout that an ingest gives these bytes.
pub fn layout_of(object: ObjectId, bytes: &[u8]) -> Layout {
    use softservice_protocol::{chunk, chunk::ChunkRef, id::ChunkId};
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for len in chunk::cut(bytes) {
        let (part, after) = rest.split_at(len as usize);
        chunks.push(ChunkRef { id: ChunkId::of(part), len });
        rest = after;
    }
    Layout { object, size: bytes.len() as u64, chunks }
}
