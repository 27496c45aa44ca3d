//! The network: connections, gossip, control messages and bulk content.
//! Invariant: control and facts pass through the swarm's task, bulk bytes never do; every queue is bounded, and only
//! the driver's loop decides anything.

pub(crate) mod behaviour;
pub(crate) mod content;
pub(crate) mod control;
pub(crate) mod discovery;
pub(crate) mod door;
pub(crate) mod frame;
pub(crate) mod gossip;
mod listen;
pub(crate) mod names;
pub(crate) mod neighbours;
pub(crate) mod rate;
pub(crate) mod swarm;
#[cfg(test)]
mod tests;
pub(crate) mod transport;

use softservice_protocol::{
    id::{Peer, PublisherId},
    io::Verdict,
    time::Time,
};

/// Control messages, one stream in each direction.
pub(crate) const CONTROL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/softservice/control/1");
/// Bulk content: span requests one way, answers the other.
pub(crate) const CONTENT: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/softservice/content/2");

/// What the swarm's task is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Dial { address: String },
    Disconnect { peer: Peer, ban_until: Option<Time>, why: String },
    Topic { publisher: PublisherId, join: bool },
    Gossip { publisher: PublisherId, bytes: Vec<u8> },
    Judge { gossip: u64, verdict: Verdict },
}

impl Order {
    /// Whether losing it is healed by the protocol: gossip by the periodic exchange of heads, a verdict by time.
    pub(crate) fn may_be_lost(&self) -> bool {
        matches!(self, Self::Gossip { .. } | Self::Judge { .. })
    }
}

/// Why the network does not come up.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not a multiaddress, or one that this node cannot use.
    #[error("address {address:?} is not a multiaddress: {why}; write it like /ip4/0.0.0.0/tcp/4001")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// Where.
        address: String,
        /// The system's words.
        why: String,
    },
    /// A part of the network stack refused its settings.
    #[error("network stack: {0}")]
    Stack(String),
}
