//! What the rest of the node asks of the driver: typed commands with their answers.
//! Invariant: every command is answered exactly once, also when the driver stops.

use softservice_protocol::{
    feed::{Action, Behind, Difference, FeedState, Freshness, Head, Moment, Position, Revocation, Term},
    id::{Peer, PublicKey, PublisherId, ReleaseId},
    io::{Asked, Depth, FetchFigures, Generation, ProvisionEvent, ProvisionStep, Stage},
    release::ReleaseRef,
    ticket::{Contradiction, Ticket},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a command waits for peers without any progress.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

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
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The release, as hex.
    pub release: String,
    /// The present stage; none while the store is asked.
    pub stage: Option<Stage>,
    /// Bytes of the present stage that are here.
    pub bytes: u64,
    /// Bytes of the present stage.
    pub of: u64,
    /// Peers that serve it.
    pub peers: usize,
    /// Nobody asked for it: this device looks what it holds of a new release.
    pub ahead: bool,
    /// Bytes of content a second, lately.
    pub rate: Option<u64>,
    /// What it cost until now.
    pub figures: FetchFigures,
}

/// Content bytes since the node started.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Traffic {
    /// Sent to peers.
    pub sent: u64,
    /// Received from peers.
    pub received: u64,
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
    /// What went over the network.
    pub traffic: Traffic,
    /// What is being fetched.
    pub transfers: Vec<Transfer>,
    /// What the core refused.
    pub refusals: softservice_protocol::io::Refusals,
}

/// What is known of a followed or own publisher.
#[derive(Debug, Clone)]
pub struct Known {
    /// Newest verified root version; 0 while not even the first has come.
    pub root_version: u64,
    /// Digest of that root's payload.
    pub root_digest: softservice_protocol::id::Digest,
    /// Head and catalogue: shared with the core, as a catalogue is long and this is told at every change of any.
    pub feed: Arc<FeedState>,
    /// Until when its newest word holds; none while nothing of it may be shown. Kept instead of what it comes to: that
    /// changes while nothing happens.
    pub term: Option<Term>,
    /// This node publishes as it.
    pub own: bool,
    /// A newcomer can verify its head: keys that its newest root names signed it.
    pub signed: bool,
    /// Something newer of it was verified here once and is lost.
    pub behind: Option<Behind>,
    /// The protocol that its newest root document asks for, where this program does not speak it.
    pub needs: Option<u16>,
    /// It spoke twice.
    pub frozen: bool,
    /// Where its two histories part, if that is proven.
    pub difference: Option<Difference>,
    /// It is this home's own, and the keys here do not suffice to say that it is current.
    pub unstated: bool,
    /// A ticket tells of this root version and this place, and nobody has shown both.
    pub promised: Option<(u64, Position)>,
    /// Addresses that served it.
    pub addresses: Vec<String>,
}

impl Known {
    /// How far it may be believed now.
    pub fn freshness(&self, now: Moment) -> Freshness {
        // What a lost entry said may be the very opposite of what still is here.
        let least = if self.behind.is_some() { Freshness::Stale } else { Freshness::Fresh };
        self.term.map_or(Freshness::Stale, |t| t.at(now).max(least))
    }
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

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is durable and announced.
    Published(Head),
    /// Too few of the keys that may sign it are here.
    Unsigned {
        /// What is to be signed elsewhere, an encoded envelope; none unless it was asked for.
        request: Option<Vec<u8>>,
        /// Signatures that are here.
        have: usize,
        /// Signatures that it needs.
        threshold: usize,
    },
}

impl Appended {
    /// Where it stands.
    ///
    /// # Errors
    /// When signatures are lacking.
    pub fn published(self) -> Result<Head, CommandError> {
        match self {
            Self::Published(head) => Ok(head),
            Self::Unsigned { have, threshold, .. } => Err(CommandError::Failed(format!(
                "{have} of the {threshold} signatures that it needs can be made here"
            ))),
        }
    }
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
    /// Refused, so that no harm is done.
    #[error("{0}")]
    Refused(String),
    /// A ticket names another history than the one known here.
    #[error(transparent)]
    Contradicted(#[from] Contradiction),
    /// Anything else, for people.
    #[error("{0}")]
    Failed(String),
}

/// Where an answer goes. Dropping it is an answer as well: the node is stopping.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;
/// Where a fetch tells how far it is.
pub type ProgressSender = watch::Sender<Option<FetchProgress>>;

/// What the driver is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Own { publisher: PublisherId, roots: Vec<Vec<u8>>, reply: Reply<()> },
    Roots { publisher: PublisherId, reply: Reply<Vec<Vec<u8>>> },
    Publish { publisher: PublisherId, action: Action, request: bool, reply: Reply<Appended> },
    PublishBy { publisher: PublisherId, action: Action, by: PublicKey, reply: Reply<Appended> },
    Append { publisher: PublisherId, envelope: Vec<u8>, reply: Reply<Appended> },
    Freshen { publisher: PublisherId, reply: Reply<()> },
    Resign { publisher: PublisherId, request: bool, reply: Reply<Appended> },
    Withdraw { publisher: PublisherId, reply: Reply<()> },
    DealtWith { reply: Reply<()> },
    ReopensAt { publisher: PublisherId, seq: u64, reply: Reply<Option<Head>> },
    Unsaid { publisher: PublisherId, reply: Reply<Vec<(ReleaseId, Revocation)>> },
    Compare { ticket: Ticket, reply: Reply<()> },
    Follow { ticket: Ticket, mark: Option<Head>, reply: Reply<()> },
    Refresh { publisher: PublisherId, reply: Reply<Asked> },
    Unfollow { publisher: PublisherId, reply: Reply<()> },
    Fetch { release: ReleaseRef, depth: Depth, progress: Option<ProgressSender>, reply: Reply<FetchFigures> },
    Provision { generation: Generation, previous: Option<u32>, reply: Reply<ProvisionEvent> },
    TryAgain { step: ProvisionStep, reply: Reply<ProvisionEvent> },
    Dial { address: String, reply: Reply<()> },
    Status { reply: Reply<Status> },
}

/// The driver, from outside. Cheap to clone: each method sends a command over a bounded channel and waits for the answer.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    catalogue: watch::Receiver<Catalogue>,
    peers: watch::Receiver<usize>,
}

impl Handle {
    pub(crate) fn new(
        commands: mpsc::Sender<Command>,
        catalogue: watch::Receiver<Catalogue>,
        peers: watch::Receiver<usize>,
    ) -> Self {
        Self { commands, catalogue, peers }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| CommandError::Stopping)?;
        answer.await.unwrap_or(Err(CommandError::Stopping))
    }

    /// This node publishes as `publisher`: root envelopes, version 1 first.
    ///
    /// # Errors
    /// When the roots are not a chain of this publisher, or the node stops.
    pub async fn own(&self, publisher: PublisherId, roots: Vec<Vec<u8>>) -> Result<(), CommandError> {
        self.ask(|reply| Command::Own { publisher, roots, reply }).await
    }
    /// The root envelopes of a followed or own publisher, version 1 first: what is durable here.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn roots(&self, publisher: PublisherId) -> Result<Vec<Vec<u8>>, CommandError> {
        self.ask(|reply| Command::Roots { publisher, reply }).await
    }
    /// Appends to an own feed: a release that is in the store, or a revocation; returns when it is durable and announced.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn publish(&self, publisher: PublisherId, action: Action) -> Result<Head, CommandError> {
        self.ask(|reply| Command::Publish { publisher, action, request: false, reply }).await?.published()
    }
    /// The same; where too few keys are here, the answer says so, with what is to be signed elsewhere if a `request` is
    /// wanted. Its number is spoken for then.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn publish_or_request(
        &self,
        publisher: PublisherId,
        action: Action,
        request: bool,
    ) -> Result<Appended, CommandError> {
        self.ask(|reply| Command::Publish { publisher, action, request, reply }).await
    }
    /// Appends a release by a delegated key of this device alone.
    ///
    /// # Errors
    /// Why it was refused, for people: the right may not reach so far, or be used up.
    pub async fn publish_by(
        &self,
        publisher: PublisherId,
        action: Action,
        by: PublicKey,
    ) -> Result<Head, CommandError> {
        self.ask(|reply| Command::PublishBy { publisher, action, by, reply }).await?.published()
    }
    /// Appends to an own feed what was signed elsewhere.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn append(&self, publisher: PublisherId, envelope: Vec<u8>) -> Result<Head, CommandError> {
        self.ask(|reply| Command::Append { publisher, envelope, reply }).await?.published()
    }
    /// States with the keys at hand that the head of an own feed is current; durable when a refresh of it is over.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn freshen(&self, publisher: PublisherId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Freshen { publisher, reply }).await
    }
    /// Signs the head of an own feed anew with the keys that its newest root names, as the core does by itself where it has
    /// them.
    ///
    /// # Errors
    /// Why it was refused, for people.
    pub async fn resign(&self, publisher: PublisherId, request: bool) -> Result<Appended, CommandError> {
        self.ask(|reply| Command::Resign { publisher, request, reply }).await
    }
    /// What stands at this number of a feed, where its catalogue can be had again here: where a root may reopen it.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn reopens_at(&self, publisher: PublisherId, seq: u64) -> Result<Option<Head>, CommandError> {
        self.ask(|reply| Command::ReopensAt { publisher, seq, reply }).await
    }
    /// Revocations that a new epoch gave up, of releases that are still listed: whoever opens it says them again.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn unsaid(&self, publisher: PublisherId) -> Result<Vec<(ReleaseId, Revocation)>, CommandError> {
        self.ask(|reply| Command::Unsaid { publisher, reply }).await
    }
    /// Frees the number of a request that nobody will sign any more.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn withdraw(&self, publisher: PublisherId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Withdraw { publisher, reply }).await
    }
    /// Whether a ticket is of the history that is known here.
    ///
    /// # Errors
    /// [`CommandError::Contradicted`] when it is of another one.
    pub async fn compare(&self, ticket: Ticket) -> Result<(), CommandError> {
        self.ask(|reply| Command::Compare { ticket, reply }).await
    }
    /// What the log of records lost was dealt with: what it only reserves nobody signed.
    ///
    /// # Errors
    /// Only when the node stops.
    pub(crate) async fn dealt_with(&self) -> Result<(), CommandError> {
        self.ask(|reply| Command::DealtWith { reply }).await
    }
    /// Follows the ticket's publisher; returns when its root is verified and its head known, or after 30 s without.
    ///
    /// # Errors
    /// [`CommandError::NoPeer`] when no peer knew the publisher in time; it is followed all the same.
    /// [`CommandError::Contradicted`] when the ticket is of another history than the one known here; nothing changes then.
    pub async fn follow(&self, ticket: Ticket) -> Result<Known, CommandError> {
        self.follow_from(ticket, None).await
    }
    /// The same of a publisher of whose feed the store remembers a mark: a log that lost that it was followed may have lost
    /// entries too.
    ///
    /// # Errors
    /// As [`Handle::follow`].
    pub async fn follow_from(&self, ticket: Ticket, mark: Option<Head>) -> Result<Known, CommandError> {
        let (publisher, floor, root) = (ticket.publisher, ticket.floor.at, ticket.root.0);
        self.ask(|reply| Command::Follow { ticket, mark, reply }).await?;
        let mut catalogue = self.catalogue.clone();
        let there = |known: &Known| known.root_version >= root.max(1) && known.feed.head.at >= floor;
        let arrived = catalogue.wait_for(|all| all.get(&publisher).is_some_and(there));
        match tokio::time::timeout(PATIENCE, arrived).await {
            Ok(Ok(all)) => all.get(&publisher).cloned().ok_or(CommandError::Stopping),
            Ok(Err(_)) => Err(CommandError::Stopping),
            Err(_) => match self.catalogue().remove(&publisher) {
                Some(known) if known.root_version > 0 => Ok(known),
                _ => Err(CommandError::NoPeer(format!(
                    "no peer told of publisher {} within {} s; it is followed and will be looked for",
                    publisher.short(),
                    PATIENCE.as_secs()
                ))),
            },
        }
    }
    /// Asks connected peers what is newest of a publisher; returns when they have said it, or after a few seconds, with how
    /// many there were.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn refresh(&self, publisher: PublisherId) -> Result<Asked, CommandError> {
        self.ask(|reply| Command::Refresh { publisher, reply }).await
    }
    /// How many peers are connected, now or as soon as there is one; 0 when none came in time.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn company(&self, patience: std::time::Duration) -> Result<usize, CommandError> {
        let mut peers = self.peers.clone();
        match tokio::time::timeout(patience, peers.wait_for(|count| *count > 0)).await {
            Ok(Ok(count)) => Ok(*count),
            Ok(Err(_)) => Err(CommandError::Stopping),
            Err(_) => Ok(0),
        }
    }
    /// Follows it no more.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn unfollow(&self, publisher: PublisherId) -> Result<(), CommandError> {
        self.ask(|reply| Command::Unfollow { publisher, reply }).await
    }
    /// Brings a closure here, durably. Waits for peers up to 30 s without any progress. Dropping the future abandons it.
    ///
    /// # Errors
    /// [`CommandError::NoPeer`] when nobody has what is missing; anything else in words.
    pub async fn fetch(
        &self,
        release: ReleaseRef,
        depth: Depth,
        progress: Option<ProgressSender>,
    ) -> Result<FetchFigures, CommandError> {
        self.ask(|reply| Command::Fetch { release, depth, progress, reply }).await
    }
    /// Runs a generation's life to its end: the core decides, `device::Device` performs.
    ///
    /// # Errors
    /// Only when the node stops; a life that failed is an event like the others.
    pub async fn provision(
        &self,
        generation: Generation,
        previous: Option<u32>,
    ) -> Result<ProvisionEvent, CommandError> {
        self.ask(|reply| Command::Provision { generation, previous, reply }).await
    }
    /// Has a life tried again that stuck in this step, as the device says; whoever asks holds its turn.
    ///
    /// # Errors
    /// Only when the node stops; a life that failed is an event like the others.
    pub async fn try_again(&self, step: ProvisionStep) -> Result<ProvisionEvent, CommandError> {
        self.ask(|reply| Command::TryAgain { step, reply }).await
    }
    /// Connects to an address; returns when it is being tried.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn dial(&self, address: String) -> Result<(), CommandError> {
        self.ask(|reply| Command::Dial { address, reply }).await
    }
    /// The driver's view.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn status(&self) -> Result<Status, CommandError> {
        self.ask(|reply| Command::Status { reply }).await
    }
    /// What is known of publishers, as of now.
    pub fn catalogue(&self) -> Catalogue {
        self.catalogue.borrow().clone()
    }
    /// Waits until the catalogue differs from what this handle saw last.
    ///
    /// # Errors
    /// Only when the node stops.
    pub async fn catalogue_changed(&mut self) -> Result<(), CommandError> {
        self.catalogue.changed().await.map_err(|_| CommandError::Stopping)
    }
}
