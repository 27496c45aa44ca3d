//! The outside world as two enums: what happened ([`Input`]) and what to do ([`Output`]). Read this file first.
//!
//! A driver owns a [`crate::machine::Core`], hands it inputs in the order in which they happened, and carries out the
//! outputs in the order in which they came. There are two drivers: `node/src/driver.rs` and `simulations/src/world.rs`.
//! Invariant: whatever a driver does with an output, its answer comes back as an input; the core never waits.

use crate::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    feed::{Freshness, Head, Listing},
    id::{Digest, FeedId, Peer, PublisherId, ReleaseId},
    release::ReleaseRef,
    sign::{Kind, Signature},
    ticket::Ticket,
    time::Time,
};
use serde::{Deserialize, Serialize};

/// Numbers that tie an answer to its question; chosen by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// A fetch; chosen by whoever asks for it, unique while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Job(pub u64);

/// A span request; chosen by the core, unique while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request(pub u64);

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A record kept in an earlier life; all come before anything else, in the order in which they were kept.
    Restored(Record),
    /// The time asked for by [`Output::Wake`] has come.
    Woke,

    /// A connection stands.
    Connected {
        /// With whom.
        peer: Peer,
        /// Its address, with `/p2p/`.
        address: String,
        /// We dialled.
        outbound: bool,
    },
    /// The last connection to this peer is gone.
    Disconnected {
        /// With whom.
        peer: Peer,
    },
    /// An address was heard of.
    Found {
        /// With `/p2p/`, if the peer is known.
        address: String,
        /// Where.
        source: Source,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The address dialled.
        address: String,
    },
    /// A control message arrived.
    Received {
        /// From whom.
        peer: Peer,
        /// Its bytes, at most [`crate::limits::MESSAGE_BYTES`].
        bytes: Vec<u8>,
    },
    /// A gossip message arrived and waits for [`Output::Judge`].
    Gossiped {
        /// The neighbour that passed it on.
        peer: Peer,
        /// The driver's number for it.
        gossip: u64,
        /// Its bytes, at most [`crate::limits::GOSSIP_BYTES`].
        bytes: Vec<u8>,
    },

    /// The record of [`Output::Keep`] is on the disk.
    Durable(Token),
    /// It could not be kept.
    NotKept {
        /// Which.
        token: Token,
        /// Why, for people.
        why: String,
    },
    /// Signatures asked for by [`Output::Sign`].
    Signed {
        /// Which.
        token: Token,
        /// One for each key of the role that is here.
        signatures: Vec<Signature>,
    },

    /// The owner follows a publisher. Answered by [`Event::Followed`], later perhaps [`Event::Head`].
    Follow {
        /// The publisher, floor and first peers.
        ticket: Ticket,
    },
    /// The owner follows it no more.
    Unfollow {
        /// Whom.
        publisher: PublisherId,
    },
    /// This node publishes as `publisher` from now on: its root chain, as envelopes.
    Own {
        /// Whom.
        publisher: PublisherId,
        /// Root envelopes, version 1 first.
        roots: Vec<Vec<u8>>,
    },
    /// Append a release that is already in the store, durably. Answered by [`Event::Published`] or [`Event::Refused`].
    Publish {
        /// The caller's number for the answer.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// What is listed.
        listing: Listing,
    },
    /// Bring a release's closure here. Answered by [`Event::Fetched`] or [`Event::FetchFailed`].
    Fetch {
        /// The caller's number.
        job: Job,
        /// What.
        release: ReleaseRef,
        /// How much of it.
        depth: Depth,
    },
    /// Stop a fetch; what came stays.
    Abandon {
        /// Which.
        job: Job,
    },
    /// Answer to [`Output::Expand`].
    Expanded {
        /// Which fetch.
        job: Job,
        /// What to fetch in this stage, each chunk once, in content order, and which of it is here.
        list: Result<WantList, String>,
    },
    /// A span request ended.
    Delivered {
        /// From whom.
        peer: Peer,
        /// Which.
        request: Request,
        /// What came.
        outcome: Delivery,
    },
    /// Answer to [`Output::Assemble`].
    Assembled {
        /// Which fetch.
        job: Job,
        /// Done, or why not, for people.
        result: Result<(), String>,
    },
    /// Answer to [`Output::Survey`].
    Surveyed {
        /// Who wanted to know.
        peer: Peer,
        /// About which release.
        release: ReleaseId,
        /// What is here; none when its manifests are not.
        held: Option<Bitmap>,
    },

    /// A generation's life: see [`crate::machine::provision`].
    Provision(ProvisionInput),
}

/// Where an address was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// The owner typed it.
    Owner,
    /// A ticket.
    Ticket,
    /// Multicast DNS on the local network.
    Lan,
    /// The provider records of the distributed hash table.
    Dht,
    /// Another peer.
    PeerExchange,
    /// It served us in an earlier life.
    Remembered,
}

/// How much of a closure a fetch brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Depth {
    /// Release documents and tree manifests: enough to plan, and to know what one holds of it.
    Manifests,
    /// Everything.
    Content,
}

/// The stages of a fetch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Release documents of the closure; expanded again until none is missing.
    Releases,
    /// Tree manifests of the closure.
    Manifests,
    /// Content.
    Content,
}

/// What one stage of a fetch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantList {
    /// The stage that the store found to be next.
    pub stage: Stage,
    /// Each chunk once. In stage Content: the content order that bitmaps of [`crate::message::Message::Has`] number.
    pub chunks: Vec<ChunkRef>,
    /// Which are here already.
    pub have: Bitmap,
}

/// How a span request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The answer is whole: bit i = chunk i of the request came, was verified and is in the store.
    Came {
        /// Chunks that came.
        held: Bitmap,
        /// Bytes of content.
        bytes: u64,
    },
    /// The peer sent bytes that are not what their id says, or too many, or broke the protocol. What was good before
    /// is in the store.
    Lied {
        /// Chunks that came whole.
        held: Bitmap,
        /// What it did, for people.
        why: String,
    },
    /// The stream broke, or the driver's deadline passed.
    Broke {
        /// Chunks that came whole.
        held: Bitmap,
    },
    /// Verified, but our own disk did not take it.
    NotStored {
        /// Why, for people.
        why: String,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Give [`Input::Woke`] at this time; an earlier wish that has not come stands as well.
    Wake(Time),
    /// Connect.
    Dial {
        /// Where.
        address: String,
    },
    /// Close all connections.
    Disconnect {
        /// With whom.
        peer: Peer,
        /// Refuse it until this time.
        ban_until: Option<Time>,
        /// Why, for the log.
        why: String,
    },
    /// Send a control message; dropped when the peer is gone.
    Send {
        /// To whom.
        peer: Peer,
        /// Encoded [`crate::message::Message`].
        bytes: Vec<u8>,
    },
    /// Take part in the gossip of this publisher, or leave it.
    Topic {
        /// Whose.
        publisher: PublisherId,
        /// In or out.
        join: bool,
    },
    /// Tell everybody.
    Gossip {
        /// Whose topic.
        publisher: PublisherId,
        /// An encoded envelope.
        bytes: Vec<u8>,
    },
    /// Whether a gossip message is passed on.
    Judge {
        /// The neighbour that passed it on.
        peer: Peer,
        /// The driver's number for it.
        gossip: u64,
        /// Validity, never trust.
        verdict: Verdict,
    },
    /// Keep a record; answer Durable only when it would survive a power cut.
    Keep {
        /// Ties the answer.
        token: Token,
        /// What.
        record: Record,
    },
    /// Sign with the keys that this node has for this kind.
    Sign {
        /// Ties the answer.
        token: Token,
        /// Root, entry or statement.
        kind: Kind,
        /// As whom.
        publisher: PublisherId,
        /// In which feed.
        feed: FeedId,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Find out what the next stage of a fetch is about: read what is here of the closure.
    Expand {
        /// Which fetch.
        job: Job,
        /// Of what.
        release: ReleaseRef,
        /// How deep it goes.
        depth: Depth,
    },
    /// Ask a peer for chunks; verify, store, then answer Delivered.
    Request {
        /// Whom.
        peer: Peer,
        /// Number for the answer.
        request: Request,
        /// For which fetch.
        job: Job,
        /// At most [`crate::limits::SPAN_CHUNKS`] and [`crate::limits::SPAN_BYTES`].
        chunks: Vec<ChunkRef>,
        /// Give up then.
        deadline: Time,
    },
    /// The answer is no longer needed; Delivered still comes.
    Cancel {
        /// Whom.
        peer: Peer,
        /// Which.
        request: Request,
    },
    /// All chunks of a stage are here: make whole objects of them, durably.
    Assemble {
        /// Which fetch.
        job: Job,
        /// Which stage.
        stage: Stage,
    },
    /// Find out what is here of a release, for a peer.
    Survey {
        /// For whom.
        peer: Peer,
        /// Of what.
        release: ReleaseId,
    },
    /// Do one step of a generation's life.
    Perform(ProvisionStep),
    /// Tell the owner.
    Tell(Event),
}

/// What becomes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Valid: pass it on.
    Accept,
    /// Of no use here: not passed on, nobody blamed.
    Ignore,
    /// Invalid: the neighbour is blamed.
    Reject,
}

/// What outlives the process, beside content. Envelopes are exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A publisher is followed, with the ticket's pin and floor.
    Followed {
        /// Whom.
        publisher: PublisherId,
        /// The root document that the ticket pins: version and digest. Kept, so that a restart before the first root
        /// came does not widen what is accepted.
        root: (u64, Digest),
        /// Newest root version and head that may ever be gone behind.
        floor: Head,
        /// First peers.
        addresses: Vec<String>,
    },
    /// It is followed no more.
    Unfollowed {
        /// Whom.
        publisher: PublisherId,
    },
    /// A root document.
    Root {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// A head entry with its snapshot, where a feed begins on this device.
    Onboarded {
        /// Whose.
        publisher: PublisherId,
        /// The head's envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
        /// Snapshot bytes.
        #[serde(with = "serde_bytes")]
        snapshot: Vec<u8>,
    },
    /// The next entry.
    Entry {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// The newest freshness statement.
    Fresh {
        /// Whose.
        publisher: PublisherId,
        /// Its envelope.
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    /// This number will be signed next: kept before signing, so that no crash signs it twice.
    Reserved {
        /// Whose.
        publisher: PublisherId,
        /// The position and the digest of the payload that will stand there.
        head: Head,
    },
    /// The publisher spoke twice.
    Proof {
        /// An encoded [`crate::feed::Equivocation`].
        #[serde(with = "serde_bytes")]
        proof: Vec<u8>,
    },
    /// A peer that served us.
    Address {
        /// With `/p2p/`.
        address: String,
    },
}
impl crate::codec::Wire for Record {
    const NAME: &'static str = "log record";
    const LIMIT: usize = crate::limits::SNAPSHOT_BYTES + (128 << 10);
}

/// What the owner may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The publisher is followed and its root verified.
    Followed {
        /// Whom.
        publisher: PublisherId,
    },
    /// A newer head was verified and kept.
    Head {
        /// Whose.
        publisher: PublisherId,
        /// Newest.
        head: Head,
        /// What the entries added, oldest first.
        added: Vec<Listing>,
    },
    /// Freshness changed.
    Freshness {
        /// Whose.
        publisher: PublisherId,
        /// Now.
        freshness: Freshness,
    },
    /// A publisher spoke twice; its feed is frozen.
    Frozen {
        /// Whose.
        publisher: PublisherId,
    },
    /// Published: durable and announced.
    Published {
        /// The caller's number.
        job: Job,
        /// The entry's place and digest.
        head: Head,
    },
    /// Not published.
    Refused {
        /// The caller's number.
        job: Job,
        /// Why, for people.
        why: String,
    },
    /// A fetch moved on.
    Progress {
        /// Which.
        job: Job,
        /// Which stage.
        stage: Stage,
        /// Bytes of this stage that are here.
        bytes: u64,
        /// Bytes of this stage.
        of: u64,
    },
    /// A fetch is complete and durable.
    Fetched {
        /// Which.
        job: Job,
        /// Its figures.
        figures: FetchFigures,
    },
    /// A fetch cannot go on.
    FetchFailed {
        /// Which.
        job: Job,
        /// Why, for people.
        why: String,
        /// True when no connected peer has what is missing.
        no_peer: bool,
    },
    /// A peer lied and was sent away.
    Liar {
        /// Who.
        peer: Peer,
        /// How.
        why: String,
    },
    /// A generation's life went on.
    Provision(ProvisionEvent),
}

/// What a fetch cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FetchFigures {
    /// Bytes of all stages, as content.
    pub bytes: u64,
    /// Of these, what was not here before.
    pub new_bytes: u64,
    /// Bytes that came twice.
    pub duplicates: u64,
    /// Bytes that came and were not what their id says.
    pub wasted: u64,
    /// Useful bytes by peer.
    pub by_peer: std::collections::BTreeMap<Peer, u64>,
    /// Milliseconds from the request to the end.
    pub millis: u64,
}

/// A generation: the softservice's name and its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// The softservice.
    pub name: String,
    /// Its number, from 1.
    pub number: u32,
}

/// One step of a generation's life: an effect on the device, safe to repeat, journaled before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvisionStep {
    /// Whose life.
    pub generation: Generation,
    /// The generation that was current before, if any.
    pub previous: Option<u32>,
    /// What to do.
    pub effect: Effect,
}

/// The effects, in the order of a good life; then the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Materialise trees, render files, make secrets, check ports: nothing that runs is touched.
    Stage,
    /// Start the services of roles without volumes on spare ports and ask their health, the old ones still serving.
    Rehearse,
    /// Stop the services of the previous generation, newest dependency first.
    StopPrevious,
    /// Make it current: rename the pointer, sync the folder.
    Point,
    /// Start its services, dependencies first.
    Start,
    /// Health, tests, and `settle`.
    Confirm,
    /// Write it down as good; older generations may go.
    Commit,
    /// Way back: stop the new services.
    StopNew,
    /// Way back: point to the previous generation, or to none.
    PointBack,
    /// Way back: start the previous services.
    StartPrevious,
    /// Way back: write it down as failed; its logs stay.
    MarkFailed,
}

/// What happens to generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisionInput {
    /// The owner said yes to a plan: begin this generation.
    Begin {
        /// The new generation.
        generation: Generation,
        /// The current one.
        previous: Option<u32>,
    },
    /// An earlier life ended in the middle: the last step that was journaled.
    Interrupted {
        /// The step.
        step: ProvisionStep,
    },
    /// A step is done.
    Done {
        /// Which.
        step: ProvisionStep,
    },
    /// A step failed.
    Failed {
        /// Which.
        step: ProvisionStep,
        /// Why, for people.
        why: String,
    },
}

/// Told about generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvisionEvent {
    /// It is current and confirmed.
    Committed {
        /// Which.
        generation: Generation,
    },
    /// It failed; the previous one runs again.
    Reverted {
        /// Which.
        generation: Generation,
        /// Why, for people.
        why: String,
    },
    /// It failed, and so did the way back: the owner is needed.
    Stuck {
        /// Which.
        generation: Generation,
        /// Why, for people.
        why: String,
    },
}

