//! What the rest of the node asks of the driver: typed commands with their answers.
//! Invariant: every command is answered exactly once, also when the driver stops.

use softservice_protocol::{
    feed::{FeedState, Freshness, Head, Listing},
    id::{Peer, PublisherId},
    io::{Depth, FetchFigures, Generation, ProvisionEvent, Stage},
    release::ReleaseRef,
    ticket::Ticket,
};
use std::collections::BTreeMap;

/// A connected peer.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PeerInfo {
    /// Who, as hex.
    pub device: String,
    /// Where.
    pub address: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// Last ping in seconds.
    pub rtt: Option<f64>,
    /// Through a relay.
    pub relayed: bool,
    /// Content bytes sent to it.
    pub sent: u64,
    /// Content bytes received from it.
    pub received: u64,
}

/// A fetch that goes on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Transfer {
    /// The release, as hex.
    pub release: String,
    /// Bytes of the present stage that are here.
    pub bytes: u64,
    /// Bytes of the present stage.
    pub of: u64,
    /// Peers that serve it.
    pub peers: usize,
}

/// The driver's view.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who we are.
    pub me: Peer,
    /// Where we listen, with `/p2p/`.
    pub addresses: Vec<String>,
    /// Who is here.
    pub peers: Vec<PeerInfo>,
    /// What is being fetched.
    pub transfers: Vec<Transfer>,
}

/// What is known of a followed or own publisher.
#[derive(Debug, Clone)]
pub struct Known {
    /// Newest verified root version; 0 while not even the first has come.
    pub root_version: u64,
    /// Digest of that root's payload.
    pub root_digest: softservice_protocol::id::Digest,
    /// Head and catalogue.
    pub feed: FeedState,
    /// How far it may be believed.
    pub freshness: Freshness,
    /// It spoke twice.
    pub frozen: bool,
    /// Addresses that served it.
    pub addresses: Vec<String>,
}

/// All publishers by id.
pub type Catalogue = BTreeMap<PublisherId, Known>;

/// Progress of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchProgress {
    /// The stage.
    pub stage: Stage,
    /// Bytes here.
    pub bytes: u64,
    /// Bytes of the stage.
    pub of: u64,
    /// Peers connected.
    pub peers: usize,
}

/// Why a command came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// No connected peer has what is missing.
    #[error("{0}")]
    NoPeer(String),
    /// Anything else, for people.
    #[error("{0}")]
    Failed(String),
}

/// The driver, from outside. Cheap to clone. The methods' bodies are in `driver.rs`' language: each sends a command
/// over a bounded channel and waits for the answer.
#[derive(Debug, Clone)]
pub struct Handle {
    // to be filled by the driver's author: a bounded sender of commands, a watch receiver of the catalogue
}

#[allow(unused_variables)]
impl Handle {
    /// This node publishes as `publisher`: root envelopes, version 1 first.
    pub async fn own(&self, publisher: PublisherId, roots: Vec<Vec<u8>>) -> Result<(), CommandError> {
        unreachable!()
    }
    /// Appends a release that is in the store; returns when it is durable and announced.
    pub async fn publish(&self, publisher: PublisherId, listing: Listing) -> Result<Head, CommandError> {
        unreachable!()
    }
    /// Follows the ticket's publisher; returns when its root is verified and its head known, or after 30 s without.
    pub async fn follow(&self, ticket: Ticket) -> Result<Known, CommandError> {
        unreachable!()
    }
    /// Follows it no more.
    pub async fn unfollow(&self, publisher: PublisherId) -> Result<(), CommandError> {
        unreachable!()
    }
    /// Brings a closure here, durably. Waits for peers up to 30 s without any progress. Dropping the future abandons it.
    pub async fn fetch(
        &self,
        release: ReleaseRef,
        depth: Depth,
        progress: Option<tokio::sync::watch::Sender<Option<FetchProgress>>>,
    ) -> Result<FetchFigures, CommandError> {
        unreachable!()
    }
    /// Runs a generation's life to its end: the core decides, `device::Device` performs.
    pub async fn provision(&self, generation: Generation, previous: Option<u32>) -> Result<ProvisionEvent, CommandError> {
        unreachable!()
    }
    /// Connects to an address.
    pub async fn dial(&self, address: String) -> Result<(), CommandError> {
        unreachable!()
    }
    /// The driver's view.
    pub async fn status(&self) -> Result<Status, CommandError> {
        unreachable!()
    }
    /// What is known of publishers, as of now.
    pub fn catalogue(&self) -> Catalogue {
        unreachable!()
    }
    /// Waits until the catalogue differs from what this handle saw last.
    pub async fn catalogue_changed(&mut self) -> Result<(), CommandError> {
        unreachable!()
    }
}
