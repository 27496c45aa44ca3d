//! A node's beginning and end. Invariant: a node that started is whole: its home is locked, its records are restored and
//! it listens; a node that cannot start leaves nothing running, and one that stopped has flushed what it acknowledged.

use crate::{
    config::Config,
    context::Context,
    device::Device,
    disk::Disk,
    driver::{Driver, Parts, Sources},
    handle::{Catalogue, Handle},
    home::{Home, HomeError},
    identity::{KeyError, node_key},
    net::{
        NetError, behaviour,
        content::{Content, Limits},
        swarm,
    },
    publisher::{Keys, PublisherError},
    shutdown::Stop,
};
use softservice_protocol::{
    id::{FeedId, Peer},
    io::{Input, Source},
};
use softservice_store::{Store, StoreError};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

/// Facts of the swarm on their way to the loop: a burst from every peer; beyond it the swarm waits, and so do peers.
const FACTS: usize = 1024;
/// Answers of disk, device and content on their way to the loop; whoever answers waits.
const ANSWERS: usize = 256;
/// Commands on their way to the loop; whoever asks waits.
const COMMANDS: usize = 64;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The publisher's keys.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The softservices of this home.
    #[error("softservices below {home}: {source}", home = home.display())]
    Device {
        /// The home.
        home: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// Asked for something that this version cannot do.
    #[error("private networks by swarm key ({file}) are not supported yet; leave --swarm-key out to join the open network", file = .0.display())]
    SwarmKey(PathBuf),
    /// The TLS library would write session secrets to a file.
    #[error(
        "SSLKEYLOGFILE is set: the secrets of every TLS session would be written to that file; unset it and start again"
    )]
    KeyLog,
    /// A peer's address makes no sense.
    #[error("peer address {address:?} is not a multiaddress: {why}; write it like /ip4/192.0.2.1/tcp/4001")]
    PeerAddress {
        /// As it was given.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// A thread of the start ended early.
    #[error("start was cut off: {0}")]
    CutOff(String),
}

/// A running node. Dropping it asks it to stop; [`Node::stop`] also waits until it has.
#[derive(Debug)]
pub struct Node {
    context: Context,
    addresses: watch::Receiver<Vec<String>>,
    me: Peer,
    driver: Option<JoinHandle<()>>,
    swarm: Option<JoinHandle<()>>,
    /// Locked until the store is closed, so that whoever gets the home next finds it free.
    home: Option<Home>,
}

/// Starts a node in its home, over the store in `home/store`.
///
/// # Errors
/// Every part that cannot begin, by name.
pub async fn start(config: Config) -> Result<Node, StartError> {
    let (config, home) = admit(config)?;
    let path = config.home.join("store");
    let opened = tokio::task::spawn_blocking(move || softservice_store::open(&path)).await;
    let store: Arc<dyn Store> = Arc::new(opened.map_err(|e| StartError::CutOff(e.to_string()))??);
    run(config, home, store).await
}

/// Starts a node in its home, over a store that is open already.
///
/// # Errors
/// Every part that cannot begin, by name.
pub async fn start_on(config: Config, store: Arc<dyn Store>) -> Result<Node, StartError> {
    let (config, home) = admit(config)?;
    run(config, home, store).await
}

/// Checks what was asked for and takes the home.
fn admit(config: Config) -> Result<(Config, Home), StartError> {
    if std::env::var_os("SSLKEYLOGFILE").is_some_and(|file| !file.is_empty()) {
        return Err(StartError::KeyLog);
    }
    if let Some(file) = &config.swarm_key {
        return Err(StartError::SwarmKey(file.clone()));
    }
    for address in &config.peers {
        if let Err(e) = address.parse::<libp2p::Multiaddr>() {
            return Err(StartError::PeerAddress { address: address.clone(), why: e.to_string() });
        }
    }
    let home = Home::open(&config.home)?;
    Ok((config, home))
}

async fn run(config: Config, home: Home, store: Arc<dyn Store>) -> Result<Node, StartError> {
    let started = std::time::Instant::now();
    let key = node_key(&config.home)?;
    let me = Peer(key.verifying_key().to_bytes());
    let keys = Keys::open(&config.home)?;
    keys.agree(&*store)?;
    let open = if config.units { Device::open_with_units } else { Device::open };
    let device = open(config.home.clone(), store.clone(), config.keeper.clone())
        .map_err(|source| StartError::Device { home: config.home.clone(), source })?
        .beside(config.beside.clone());
    let reader = store.clone();
    let records = tokio::task::spawn_blocking(move || reader.records()).await;
    let records = records.map_err(|e| StartError::CutOff(e.to_string()))??;
    let interrupted = device.recover().await;

    let (clock, stop) = (Arc::clone(&config.clock), Stop::default());
    let (facts_in, facts) = mpsc::channel(FACTS);
    let (disk_in, disk) = mpsc::channel(ANSWERS);
    let (device_in, device_answers) = mpsc::channel(ANSWERS);
    let (delivered_in, delivered) = mpsc::channel(ANSWERS);
    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (catalogue, watching) = watch::channel(Catalogue::new());
    let (peers, connected) = watch::channel(0);

    let parts = behaviour::Parts { mdns: config.mdns, dht: config.dht };
    let listen = config.listen_addresses();
    let (net, streams) = swarm::start(key.to_bytes(), &listen, parts, facts_in, clock.clone(), stop.clone()).await?;
    let rates = Limits { up: config.limit_up, down: config.limit_down };
    let content =
        Content::start(streams.control, streams.content, store.clone(), net.desk.clone(), delivered_in, rates);
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|e| KeyError::Random(e.to_string()))?;

    let mut driver = Driver::new(
        Parts {
            me,
            seed: u64::from_le_bytes(seed),
            clock,
            disk: Disk::start(store.clone(), keys.clone(), disk_in),
            device: device.clone(),
            device_answers: device_in,
            keys: keys.clone(),
            orders: net.orders.clone(),
            neighbours: net.neighbours.clone(),
            addresses: net.addresses.clone(),
            content,
            catalogue,
            peers,
        },
        Sources { disk, device: device_answers, delivered, facts, commands },
    );
    driver.begin(records.into_iter().map(Input::Restored));
    driver.begin((!store.losses().is_empty()).then_some(Input::Lossy(true)));
    // The marks first: whoever has lost the end of a feed neither speaks in it nor takes an old word for the newest before
    // that is known.
    let known: BTreeSet<_> = driver.known().into_iter().chain(keys.publisher()).collect();
    for publisher in known {
        let mark = store.mark(FeedId::main(publisher))?;
        driver.begin(mark.map(|head| Input::Marked { publisher, head }));
    }
    driver.begin(interrupted.into_iter().map(Input::Provision));
    let own = keys.publisher().map(|publisher| Input::Own { publisher, roots: keys.roots() });
    driver.begin(own);
    let known = config.peers.iter().cloned();
    driver.begin(known.map(|address| Input::Found { address, source: Source::Owner }));
    let driver = tokio::spawn(driver.run(stop.clone()));

    let context = Context {
        looks: Default::default(),
        handle: Handle::new(commands_in, watching, connected),
        device,
        store,
        keys,
        home: config.home.clone(),
        config: Arc::new(config),
        started,
        holds: crate::holds::Holds::default(),
        quotas: crate::quota::Quotas::default(),
        refused: net.desk.refused.clone(),
        stop,
    };
    let node =
        Node { context, addresses: net.addresses, me, driver: Some(driver), swarm: Some(net.task), home: Some(home) };
    tracing::info!(device = %node.me, "node started");
    // Beside it: services of a trial have their grace periods, and nobody waits for them.
    let config = Arc::clone(&node.context.config);
    tokio::spawn(async move { crate::verbs::sweep_trials(&config).await });
    Ok(node)
}

/// How long a stopping node waits for the last who uses its store.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);

impl Node {
    /// The driver.
    pub fn handle(&self) -> Handle {
        self.context.handle.clone()
    }
    /// The softservices of this home.
    pub fn device(&self) -> Device {
        self.context.device.clone()
    }
    /// The content.
    pub fn store(&self) -> Arc<dyn Store> {
        self.context.store.clone()
    }
    /// The publisher identity of this home.
    pub fn keys(&self) -> Keys {
        self.context.keys.clone()
    }
    /// The home.
    pub fn home(&self) -> &Path {
        &self.context.home
    }
    /// Everything that verbs work with.
    pub fn context(&self) -> Context {
        self.context.clone()
    }
    /// Who it is on the network.
    pub fn peer(&self) -> Peer {
        self.me
    }
    /// Where it listens, with `/p2p/`, reachable ones first.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }
    /// Returns when somebody asked the node to stop, through the API for example.
    pub async fn stop_asked(&self) {
        self.context.stop.wait().await;
    }
    /// Stops in order: connections are closed so that peers notice, records are flushed, open commands are answered.
    /// What keepers run goes on.
    pub async fn stop(mut self) {
        self.context.stop.ask();
        for task in [self.driver.take(), self.swarm.take()].into_iter().flatten() {
            // An error is a panic in the task, which was reported where it happened.
            let _ = task.await;
        }
        let (store, home) = (self.context.home.join("store"), self.home.take());
        drop(self);
        // Whoever served a peer may hold the store a moment longer, and its closing still writes: until then the home
        // cannot be opened again, or removed. A thread of its own, as a pool would wait for it for ever.
        let (closed, wait) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || closed.send(softservice_store::wait_closed(&store)));
        match tokio::time::timeout(CLOSING, wait).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::debug!("the store is none of ours"),
            Err(_) => tracing::warn!("the store is still in use after {} s", CLOSING.as_secs()),
        }
        drop(home);
        tracing::info!("node stopped");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.context.stop.ask();
    }
}
