//! What the swarm is made of, and its limits. Invariant: gossip is validated by us before it is passed on, connections
//! and memory are limited, and the hash table speaks a protocol of its own.

use super::{NetError, door::Door, gossip, transport};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, allow_block_list, identify, identity, kad, mdns, memory_connection_limits,
    ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use std::time::Duration;

/// Connections live as long as the peers want: updates may be days apart, a handshake costs more than a ping.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// How long a handshake may take: some round trips over the slowest of links.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Share of the machine's memory from which on this process takes no new connections.
const MEMORY_SHARE: f64 = 0.8;
/// Round trips are measured and dead peers noticed so often.
const PING: Duration = Duration::from_secs(15);
/// Provider records that strangers may put here: the library's own 1024 counts per key, not per peer.
const PROVIDED_KEYS: usize = 1024;
/// Records of values are not used; one is the smallest that the store takes.
const RECORDS: usize = 1;
/// A provider says again that it is here, and is forgotten when it does not: hours, not the library's two days, so that
/// dead early providers do not hide live ones.
const PROVIDER_AGAIN: Duration = Duration::from_secs(30 * 60);
/// See [`PROVIDER_AGAIN`].
const PROVIDER_GONE: Duration = Duration::from_secs(2 * 3600);

/// All behaviours. Limits come first, as the first that refuses a connection ends it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) door: Door,
    memory: memory_connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) gossip: gossip::Measured,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) kad: Toggle<kad::Behaviour<kad::store::MemoryStore>>,
    pub(crate) stream: libp2p_stream::Behaviour,
}

/// Which optional parts a node has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) mdns: bool,
    pub(crate) dht: bool,
}

/// A swarm over TCP, and over QUIC for who cannot be reached otherwise.
pub(crate) fn swarm(key: identity::Keypair, parts: Parts) -> Result<Swarm<Behaviour>, NetError> {
    let stack = |e: &dyn std::fmt::Display| NetError::Stack(e.to_string());
    let behaviour = behaviour(&key, parts)?;
    let tcp = transport::tcp(&key).map_err(|e| stack(&e))?;
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic_config(transport::bounded)
        .with_other_transport(|_| tcp)
        .map_err(|e| stack(&e))?
        .with_behaviour(|_| behaviour)
        .map_err(|e| stack(&e))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok(swarm)
}

fn behaviour(key: &identity::Keypair, parts: Parts) -> Result<Behaviour, NetError> {
    let me = key.public().to_peer_id();
    let mdns = if parts.mdns {
        let found = mdns::tokio::Behaviour::new(mdns::Config::default(), me);
        // Without multicast (a container, a locked-down host) the other ways to find peers remain.
        found.inspect_err(|e| tracing::warn!("no multicast DNS: {e}")).ok()
    } else {
        None
    };
    Ok(Behaviour {
        door: Door::default(),
        memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
        blocked: Default::default(),
        identify: identify::Behaviour::new(
            identify::Config::new("/softservice/1".into(), key.public())
                .with_agent_version(concat!("softservice/", env!("CARGO_PKG_VERSION")).into())
                .with_push_listen_addr_updates(true),
        ),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING)),
        gossip: gossip::behaviour()?,
        mdns: mdns.into(),
        kad: parts.dht.then(|| table(me)).into(),
        stream: libp2p_stream::Behaviour::new(),
    })
}

/// The hash table of a node.
pub(super) fn table(me: libp2p::PeerId) -> kad::Behaviour<kad::store::MemoryStore> {
    let bounds = kad::store::MemoryStoreConfig {
        max_records: RECORDS,
        max_value_bytes: 1024,
        max_provided_keys: PROVIDED_KEYS,
        ..Default::default()
    };
    let mut config = kad::Config::new(StreamProtocol::new("/softservice/kad/1"));
    config
        // Who is in it is ours to say: the library knows nothing of networks.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .disjoint_query_paths(true)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_provider_publication_interval(Some(PROVIDER_AGAIN))
        .set_provider_record_ttl(Some(PROVIDER_GONE));
    let mut table = kad::Behaviour::with_config(me, kad::store::MemoryStore::with_config(me, bounds), config);
    // Every node is a full member of this small, private table; the automatic mode would wait for a public address.
    table.set_mode(Some(kad::Mode::Server));
    table
}
