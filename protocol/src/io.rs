//! The outside world as two enums: what happened ([`Input`]) and what to do ([`Output`]). Read this file first.
//!
//! A driver owns a [`crate::machine::Core`], hands it inputs in the order in which they happened, and carries out the
//! outputs in the order in which they came. There are two drivers: `node/src/driver.rs` and `simulations/src/world.rs`.
//! Invariant: whatever a driver does with an output, its answer comes back as an input; the core never waits.

mod event;
mod figures;
mod provision;
mod record;
mod refusals;

pub use event::{Asked, Cause, Event};
pub use figures::{Carried, FetchFigures, LimitedBy, Phases, Spent, Volume, Waits};
pub use provision::{Effect, Generation, ProvisionEvent, ProvisionInput, ProvisionStep};
pub use record::Record;
pub use refusals::{Refusals, Step};

use crate::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    feed::{Action, Head},
    id::{FeedId, Peer, PublicKey, PublisherId, ReleaseId},
    release::ReleaseRef,
    sign::{Kind, Signature},
    ticket::Ticket,
    time::{Span, Time},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

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
    /// A peer broke the protocol below the messages: frames of impossible lengths, more streams than are allowed, and the like.
    Broke {
        /// Who.
        peer: Peer,
        /// What it did, for people.
        why: String,
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
    /// A gossip message arrived and waits for [`Output::Judge`], which may come only when what it says is durable.
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
    /// Ask connected peers now what is newest of this publisher. Answered by [`Event::Refreshed`].
    Refresh {
        /// The caller's number.
        job: Job,
        /// Whose.
        publisher: PublisherId,
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
    /// The highest place of a feed that the disk's mark remembers: of own and followed ones before anything else is done with
    /// them, and of one that is followed anew with it. A log that lost its end must not make this node say a second word for
    /// a number, nor take an older word for the newest.
    Marked {
        /// Whose feed.
        publisher: PublisherId,
        /// What stood there, was reserved for it, or was a ticket's floor.
        head: Head,
    },
    /// Whether the log of records lost something that nobody has dealt with yet. Comes behind the restored records: a number
    /// that such a log only reserves may have been signed all the same.
    Lossy(bool),
    /// Append to an own feed, durably: a release that is already in the store, or a revocation. Answered by
    /// [`Event::Published`], [`Event::Unsigned`] or [`Event::Refused`].
    Publish {
        /// The caller's number for the answer.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// What the entry does.
        action: Action,
        /// Where too few keys are here, hand out a request to sign it elsewhere. It speaks for its number: the same
        /// publication again gives the same request, any other is refused.
        request: bool,
    },
    /// Append a release to an own feed by a delegated key of this device alone: how build machines publish. Answered like
    /// [`Input::Publish`].
    PublishBy {
        /// The caller's number for the answer.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// The key, to which the newest root delegates this.
        key: PublicKey,
        /// What the entry does.
        action: Action,
    },
    /// Append to an own feed what was signed elsewhere: a request of [`Event::Unsigned`] with enough signatures. It is
    /// verified as anybody's. Answered by [`Event::Published`] or [`Event::Refused`].
    Append {
        /// The caller's number for the answer.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// An encoded [`crate::sign::Envelope`].
        envelope: Vec<u8>,
    },
    /// Sign the head of an own feed anew with the keys that its newest root names, as the core does by itself when such
    /// a root comes. Answered by [`Event::Published`], [`Event::Unsigned`] or [`Event::Refused`].
    Resign {
        /// The caller's number for the answer.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// Where too few keys are here, hand out a request to sign it elsewhere.
        request: bool,
    },
    /// The owner says that nobody will sign any more what a request of this feed asked for: its number is free for
    /// something else. If somebody did sign it, two entries stand at one number, and the feed freezes.
    Withdraw {
        /// Whose feed.
        publisher: PublisherId,
    },
    /// The clock was set back: from now on it shows so much less than the times at which inputs come. Dates and ages go by what
    /// it shows; pauses go on.
    SetBack {
        /// How much less, in all.
        behind: Span,
    },
    /// State now, with the keys at hand, that the head of an own feed is current: what the core does by itself long before
    /// its last statement runs out.
    Freshen {
        /// Whose feed.
        publisher: PublisherId,
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
        list: Result<WantList, Setback>,
    },
    /// A span request ended.
    Delivered {
        /// From whom.
        peer: Peer,
        /// Which.
        request: Request,
        /// What came.
        outcome: Delivery,
        /// What it took, as far as the driver measures.
        spent: Spent,
    },
    /// Answer to [`Output::Assemble`].
    Assembled {
        /// Which fetch.
        job: Job,
        /// Done, or why not.
        result: Result<(), Setback>,
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
    /// What is here that resembles what is not.
    pub alike: Alike,
}

/// Chunks that are here and resemble missing ones, most of all those of an older version of the same file: a sender
/// that has them as well writes its answer against them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alike {
    /// Chunks that are here, files one after the other.
    pub chunks: Vec<ChunkRef>,
    /// For the number of a missing chunk: which of `chunks` resemble it. Others have no entry.
    pub of: BTreeMap<u32, Range<u32>>,
}

/// Why the store could not go on with a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// For people.
    pub why: String,
    /// Something that the fetch counted on is gone or damaged: looking again shows what has to be asked for once more.
    /// When false, a second try would end like the first.
    pub again: bool,
}

impl Setback {
    /// Nothing that another look would mend.
    pub fn last(why: impl Into<String>) -> Self {
        Self { why: why.into(), again: false }
    }
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
        /// Bytes in which they came: fewer when they were compressed, or written against what is here.
        wire: u64,
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
    /// Sign with those of `keys` that this node has.
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
        /// Who may sign it, by the newest root, most wanted first.
        keys: Vec<PublicKey>,
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
        /// What is here that resembles them; within [`crate::limits::BASE_CHUNKS`] and [`crate::limits::BASE_BYTES`].
        base: Vec<ChunkRef>,
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
