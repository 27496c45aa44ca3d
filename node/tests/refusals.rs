//! What a node refuses to start with, each by name; and peers that lie.

mod village;

use softservice_node::{HomeError, NetError, StartError, identity::KeyError, start_on};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    feed::Head,
    id::{FeedId, ObjectId},
    io::Record,
    release::ReleaseRef,
    tree::Manifest,
};
use softservice_store::{
    Compared, Findings, Ingested, Layout, Materialised, MemoryStore, Progress, Store, StoreError, Swept,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Condvar, Mutex},
};
use village::{Villager, equal_to, folder, quiet, settle, settle_on, soon};

const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::test]
async fn one_home_is_one_node() {
    let alice = settle().await;
    let second = start_on(quiet(alice.home.path(), LOOPBACK), alice.store.clone()).await;
    assert!(matches!(second, Err(StartError::Home(HomeError::InUse(_)))), "{second:?}");
    let home = alice.home.clone();
    soon("the end", alice.node.stop()).await;
    start_on(quiet(home.path(), LOOPBACK), alice.store).await.unwrap().stop().await;
}

#[tokio::test]
async fn damaged_keys_swarm_keys_and_impossible_addresses_are_named() {
    let home = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    std::fs::write(home.path().join("node.key"), "not a key\n").unwrap();
    let refused = start_on(quiet(home.path(), LOOPBACK), store.clone()).await;
    assert!(matches!(refused, Err(StartError::Key(KeyError::Damaged { .. }))), "{refused:?}");
    std::fs::remove_file(home.path().join("node.key")).unwrap();

    let mut config = quiet(home.path(), LOOPBACK);
    config.swarm_key = Some("swarm.key".into());
    assert!(matches!(start_on(config, store.clone()).await, Err(StartError::SwarmKey(_))));
    let mut config = quiet(home.path(), LOOPBACK);
    config.peers = vec!["192.0.2.1:4001".into()];
    assert!(matches!(start_on(config, store.clone()).await, Err(StartError::PeerAddress { .. })));
    let refused = start_on(quiet(home.path(), "127.0.0.1:4001"), store.clone()).await;
    assert!(matches!(refused, Err(StartError::Net(NetError::Address { .. }))), "{refused:?}");
    // An address of nobody here (RFC 5737).
    let refused = start_on(quiet(home.path(), "/ip4/192.0.2.1/tcp/4001"), store).await;
    assert!(matches!(refused, Err(StartError::Net(NetError::Listen { .. }))), "{refused:?}");
}

/// How a store misbehaves.
#[derive(Debug)]
enum Bent {
    /// Gives others something else than what they asked for.
    Lies,
    /// Gives others nothing until the gate opens.
    Stalls(Arc<Gate>),
    /// Takes no chunk.
    Full,
}

/// Closed until opened, or dropped by a story that fails.
#[derive(Debug, Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}
struct Opener(Arc<Gate>);
impl Drop for Opener {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A store that is fine but for one thing.
#[derive(Debug)]
struct Odd(MemoryStore, Bent);

impl Store for Odd {
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut found = self.0.read(chunks)?;
        match &self.1 {
            Bent::Lies => found.iter_mut().flatten().flatten().for_each(|b| *b = !*b),
            Bent::Stalls(gate) => gate.pass(),
            Bent::Full => {}
        }
        Ok(found)
    }
    fn put(&self, chunk: &Verified) -> Result<(), StoreError> {
        match &self.1 {
            Bent::Full => Err(StoreError::Full { needed: chunk.bytes().len() as u64, path: "store".into() }),
            _ => self.0.put(chunk),
        }
    }
    fn keep(&self, record: &Record) -> Result<(), StoreError> {
        self.0.keep(record)
    }
    fn records(&self) -> Result<Vec<Record>, StoreError> {
        self.0.records()
    }
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError> {
        self.0.mark(feed)
    }
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        self.0.raise_mark(feed, head)
    }
    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        self.0.survey(chunks)
    }
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.0.expect(layouts)
    }
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        self.0.assemble(layouts)
    }
    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        self.0.add(bytes)
    }
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError> {
        self.0.object(id, limit)
    }
    fn has_object(&self, id: ObjectId) -> bool {
        self.0.has_object(id)
    }
    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.0.ingest(dir, exclude, progress)
    }
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError> {
        self.0.materialise(manifest, target)
    }
    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError> {
        self.0.compare(manifest, tree, mend)
    }
    fn fsck(&self, progress: Progress<'_>) -> Result<Findings, StoreError> {
        self.0.fsck(progress)
    }
    fn let_go(&self) {
        self.0.let_go();
    }
    fn gc(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        self.0.gc(keep)
    }
    fn totals(&self) -> Result<(u64, u64), StoreError> {
        self.0.totals()
    }
}

/// Alice publishes, Mallory has it as well but his store is odd; Carol knows both.
async fn alice_mallory_and_carol(odd: Bent) -> (Villager, Villager, Villager, ReleaseRef, tempfile::TempDir) {
    let (alice, carol) = (settle().await, settle().await);
    let mallory = settle_on(Arc::new(Odd(MemoryStore::default(), odd)), LOOPBACK).await;
    let publisher = alice.own().await;
    let shelf = folder("shelf", 20, 500_000);
    let (release, _) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    for villager in [&mallory, &carol] {
        soon("the publisher", villager.handle().follow(alice.ticket(publisher))).await.unwrap();
    }
    mallory.fetch(release).await.unwrap();
    // A late look ahead would meet the oddity before the story begins.
    carol.has_looked_ahead(publisher).await;
    carol.handle().dial(mallory.node.addresses().remove(0)).await.unwrap();
    carol.meets("alice and mallory", |peers| peers == 2).await;
    (alice, mallory, carol, release, shelf)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carol_finishes_although_mallory_lies_and_mallory_is_sent_away() {
    let (alice, _mallory, carol, release, shelf) = alice_mallory_and_carol(Bent::Lies).await;
    let figures = carol.fetch(release).await.unwrap();
    equal_to(&*carol.store, release, shelf.path());
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&alice.node.peer()]);
    carol.meets("alice alone", |peers| peers == 1).await;
    let left = carol.handle().status().await.unwrap().peers;
    assert_eq!(left.first().map(|p| p.device.clone()), Some(alice.node.peer().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carol_finishes_although_mallory_never_answers() {
    let gate = Arc::new(Gate::default());
    let _opener = Opener(gate.clone());
    let (alice, _mallory, carol, release, shelf) = alice_mallory_and_carol(Bent::Stalls(gate)).await;
    let figures = carol.fetch(release).await.unwrap();
    equal_to(&*carol.store, release, shelf.path());
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&alice.node.peer()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_nobody_is_blamed() {
    let alice = settle().await;
    let bob = settle_on(Arc::new(Odd(MemoryStore::default(), Bent::Full)), LOOPBACK).await;
    let publisher = alice.own().await;
    let (release, _) = alice.publish(publisher, "1.0.0", folder("shelf", 3, 1000).path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    let error = bob.fetch(release).await.unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    bob.meets("alice still", |peers| peers == 1).await;
}
