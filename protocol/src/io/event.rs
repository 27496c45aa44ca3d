//! What the owner may want to know. Invariant: an event is told after what it tells is durable.

use super::{Job, ProvisionEvent, Stage};
use crate::{
    feed::{Freshness, Head, Listing},
    id::{Peer, PublisherId},
};
use serde::Serialize;

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
    /// Connected peers have said what they know of a publisher, and it is durable here.
    Refreshed {
        /// The caller's number.
        job: Job,
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
    /// Bytes in which answers came: fewer than content where it was compressed, or written against what was here.
    pub wire_bytes: u64,
    /// Bytes that came twice.
    pub duplicates: u64,
    /// Bytes that came and were not what their id says.
    pub wasted: u64,
    /// Useful bytes by peer.
    pub by_peer: std::collections::BTreeMap<Peer, u64>,
    /// Milliseconds from the request to the end.
    pub millis: u64,
    /// What they went into.
    pub phases: Phases,
}

/// Milliseconds that each phase of a fetch took, all its stages together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Phases {
    /// The store looked what is here and what is missing.
    pub looking: u64,
    /// Peers were asked, and what came was verified and written.
    pub transferring: u64,
    /// The store made whole objects, durably.
    pub assembling: u64,
}
