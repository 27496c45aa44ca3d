//! A village of real nodes in one process: each has a home of its own, a store in memory and loopback addresses.
//! Invariant: nobody finds anybody by chance; who knows whom is said in the story.
#![allow(dead_code, unreachable_pub, reason = "each story uses a part of the village")]

pub mod odd;

use softservice_node::{
    Config, Node,
    handle::{Catalogue, CommandError, Handle, Known},
    start_on,
};
use softservice_protocol::{
    codec,
    feed::{Head, Listing},
    id::{ObjectId, PublisherId, ReleaseId},
    release::{Allow, Artifact, Release, ReleaseRef, Role, Update},
    ticket::Ticket,
    time::Span,
};
use softservice_store::{MemoryStore, Store};
use std::{path::Path, sync::Arc, time::Duration};

/// Longest wait for anything; stories end long before.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something that must come.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come in {DEADLINE:?}"),
    }
}

/// One node and what it lives on.
pub struct Villager {
    pub node: Node,
    pub store: Arc<dyn Store>,
    pub home: Arc<tempfile::TempDir>,
    config: Config,
}

/// A node that listens on TCP.
pub async fn settle() -> Villager {
    settle_on(Arc::new(MemoryStore::default()), "/ip4/127.0.0.1/tcp/0").await
}

/// A node over this store, listening there.
pub async fn settle_on(store: Arc<dyn Store>, listen: &str) -> Villager {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let config = quiet(home.path(), listen);
    let node = start_on(config.clone(), store.clone()).await.unwrap();
    Villager { node, store, home, config }
}

/// A node's settings without any way to find others by itself.
pub fn quiet(home: &Path, listen: &str) -> Config {
    Config {
        home: home.into(),
        listen: vec![listen.into()],
        mdns: false,
        dht: false,
        units: false,
        ..Config::default()
    }
}

impl Villager {
    pub fn handle(&self) -> Handle {
        self.node.handle()
    }
    /// Ends the node and starts it again in the same home.
    pub async fn restart(self) -> Self {
        let Self { node, store, home, config } = self;
        soon("the end of a node", node.stop()).await;
        let node = start_on(config.clone(), store.clone()).await.unwrap();
        Self { node, store, home, config }
    }
    /// Becomes a publisher.
    pub async fn own(&self) -> PublisherId {
        let publisher = self.node.keys().create(softservice_node::clock::Clock::default().moment().time()).unwrap();
        self.handle().own(publisher, self.node.keys().roots()).await.unwrap();
        publisher
    }
    /// Copies the publisher of this home, keys and all, into another one, as a backup that was brought back would.
    pub fn copy_publisher_to(&self, other: &Path) {
        let to = other.join("publisher");
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(self.home.path().join("publisher")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    /// Publishes a folder as one distro's version.
    pub async fn publish(&self, publisher: PublisherId, version: &str, folder: &Path) -> (ReleaseRef, Head) {
        let (release, listing) = compile(&*self.store, publisher, version, folder);
        let head =
            soon("publication", self.handle().publish(publisher, softservice_protocol::feed::Action::Release(listing)))
                .await
                .unwrap();
        (release, head)
    }
    /// Signs a listing of a folder's release that says something else than its document, which `whose` made.
    pub async fn lies(
        &self,
        publisher: PublisherId,
        whose: PublisherId,
        version: &str,
        folder: &Path,
        lie: impl FnOnce(&mut Listing),
    ) {
        let (_, mut listing) = compile(&*self.store, whose, version, folder);
        lie(&mut listing);
        let action = softservice_protocol::feed::Action::Release(listing);
        soon("publication", self.handle().publish(publisher, action)).await.unwrap();
    }
    /// What a verb answers.
    pub async fn verb(
        &self,
        verb: &str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value, softservice_node::verbs::failure::Failure> {
        let (context, talk) = (self.node.context(), softservice_node::api::talk::Talk::alone());
        soon(verb, softservice_node::verbs::run(&context, verb, arguments, &talk)).await
    }
    /// A ticket for this publisher with this node's address in it.
    pub fn ticket(&self, publisher: PublisherId) -> Ticket {
        let known = self.known(publisher).expect("own publisher is known");
        Ticket {
            publisher,
            distro: None,
            root: (known.root_version, known.root_digest),
            floor: known.feed.head,
            addresses: self.node.addresses(),
            conflict: None,
            expires: None,
        }
    }
    pub fn known(&self, publisher: PublisherId) -> Option<Known> {
        self.handle().catalogue().remove(&publisher)
    }
    /// Waits until the catalogue is as wished.
    pub async fn learns(&self, what: &str, wished: impl Fn(&Catalogue) -> bool) {
        let mut handle = self.handle();
        soon(what, async {
            while !wished(&handle.catalogue()) {
                handle.catalogue_changed().await.unwrap();
            }
        })
        .await;
    }
    /// Waits until this node's peers are as wished.
    pub async fn meets(&self, what: &str, wished: impl Fn(usize) -> bool) {
        let handle = self.handle();
        soon(what, async {
            while !wished(handle.status().await.unwrap().peers.len()) {
                // The driver has no event for people to wait on; each question is a turn of its loop.
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    /// Waits until this node has heard of a publisher's releases, and brings nothing any more that it looks ahead at.
    pub async fn has_looked_ahead(&self, publisher: PublisherId) {
        // It begins to look in the very turn in which it hears.
        let listed = |c: &Catalogue| c.get(&publisher).is_some_and(|k| !k.feed.snapshot.listings.is_empty());
        self.learns("what is listed", listed).await;
        let handle = self.handle();
        soon("the end of looking ahead", async {
            while !handle.status().await.unwrap().transfers.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    pub async fn fetch(&self, release: ReleaseRef) -> Result<softservice_protocol::io::FetchFigures, CommandError> {
        let depth = softservice_protocol::io::Depth::Content;
        soon("a fetch", self.handle().fetch(release, depth, None)).await
    }
}

/// A folder with `files` files of noise that no two seeds share.
pub fn folder(seed: &str, files: usize, size: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..files {
        let mut bytes = vec![0; size + number];
        blake3::Hasher::new().update(format!("{seed} {number}").as_bytes()).finalize_xof().fill(&mut bytes);
        let place = dir.path().join(format!("part{}", number % 3));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(format!("file{number}")), bytes).unwrap();
    }
    dir
}

/// Ingests a folder and compiles a release of it: one role, one tree.
pub fn compile(store: &dyn Store, publisher: PublisherId, version: &str, folder: &Path) -> (ReleaseRef, Listing) {
    let ingested = store.ingest(folder, &[], &|_| true).unwrap();
    let role = Role {
        name: "main".into(),
        devices_min: 1,
        devices_max: None,
        needs_memory: None,
        needs_disk: None,
        imports: vec![],
        exports: vec![],
        artifacts: vec![Artifact { name: "site".into(), trees: vec![("any".into(), ingested.tree.clone())] }],
        volumes: vec![],
        ports: vec![],
        files: vec![],
        services: vec![],
        allow: Allow::default(),
        hooks: vec![],
    };
    let release = Release {
        publisher,
        distro: "shelf".into(),
        version: version.into(),
        revision: 1,
        summary: "a shelf of files".into(),
        platforms: vec![],
        epoch: 1,
        parents: vec![],
        includes: vec![],
        params: vec![],
        secrets: vec![],
        roles: vec![role],
        tests: vec![],
        update: Update { order: vec![], settle: Span::seconds(1), migrate: None },
        source: ingested.tree,
    };
    let bytes = codec::encode(&release).unwrap();
    store.add(&bytes).unwrap();
    let id = ReleaseId::of(&bytes);
    let size = bytes.len() as u32;
    let listing = Listing {
        distro: release.distro,
        version: version.into(),
        revision: 1,
        channel: "stable".into(),
        release: id,
        size,
        summary: release.summary,
        parents: vec![],
        revoked: None,
    };
    (ReleaseRef { id, size }, listing)
}

/// Writes a release's only tree out of a store and compares every file with the folder it came from.
pub fn equal_to(store: &dyn Store, release: ReleaseRef, original: &Path) {
    let bytes = store.object(ObjectId(release.id.0), 1 << 20).unwrap();
    let release: Release = codec::decode(&bytes).unwrap();
    let manifest = softservice_store::manifests::of_tree(store, &release.source).unwrap();
    let target = tempfile::tempdir().unwrap();
    let out = target.path().join("out");
    store.materialise(&manifest, &out).unwrap();
    let mut files = 0;
    for part in std::fs::read_dir(original).unwrap() {
        for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let copy = out.join(file.strip_prefix(original).unwrap());
            assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&copy).unwrap(), "{}", copy.display());
            files += 1;
        }
    }
    assert!(files > 0);
}
