//! What a node is told by whoever starts it. Invariant: nothing here is read from the environment or a clock.

use crate::clock::Clock;
use std::{path::PathBuf, sync::Arc};

/// A node's settings. [`Config::default`] is what a person gets who says nothing.
#[derive(Debug, Clone)]
pub struct Config {
    /// The home: one home = one node.
    pub home: PathBuf,
    /// Multiaddresses to listen on; empty means every IPv4 interface, TCP and QUIC, on ports that the system chooses.
    pub listen: Vec<String>,
    /// Multiaddresses of peers to connect to at once.
    pub peers: Vec<String>,
    /// Look for peers on the local network.
    pub mdns: bool,
    /// Take part in the distributed hash table.
    pub dht: bool,
    /// Where the web page listens, if anywhere.
    pub web: Option<String>,
    /// A private network's key. Not supported yet: a path here is refused, so that nobody believes to be private.
    pub swarm_key: Option<PathBuf>,
    /// Bytes of content a second that may be sent.
    pub limit_up: Option<u64>,
    /// Bytes of content a second that may be received.
    pub limit_down: Option<u64>,
    /// Other homes of which no program is shown anything, as of this one: a throwaway node stands in for the node of one.
    pub beside: Vec<PathBuf>,
    /// The command that runs a keeper: program and first arguments.
    pub keeper: Vec<String>,
    /// Where systemd runs the machine, services are units of it. What is thrown away soon had better be none.
    pub units: bool,
    /// What tells the time: the wall clock, unless whoever embeds the node lets years pass.
    pub clock: Arc<Clock>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            home: PathBuf::from("softservice"),
            listen: Vec::new(),
            peers: Vec::new(),
            mdns: true,
            dht: true,
            web: None,
            swarm_key: None,
            limit_up: None,
            limit_down: None,
            beside: Vec::new(),
            keeper: Vec::new(),
            units: true,
            clock: Arc::default(),
        }
    }
}

impl Config {
    /// Where to listen when nobody said.
    pub(crate) fn listen_addresses(&self) -> Vec<String> {
        if self.listen.is_empty() {
            vec!["/ip4/0.0.0.0/tcp/0".into(), "/ip4/0.0.0.0/udp/0/quic-v1".into()]
        } else {
            self.listen.clone()
        }
    }
}
