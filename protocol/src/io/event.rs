//! What the owner may want to know. Invariant: an event is told after what it tells is durable.

use super::{FetchFigures, Job, ProvisionEvent, Stage};
use crate::{
    feed::{Freshness, Head, Listing},
    id::{Peer, PublisherId},
};

/// How many peers a question went to. Few of them, or all in one place, may be one liar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Peers that were asked.
    pub peers: u32,
    /// Parts of the network that those who answered are in.
    pub groups: u32,
    /// Peers that follow the publisher and answered in time.
    pub answered: u32,
}

/// What stands against a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The feed's safety: signing now could be a second word.
    Safety,
    /// Something is wrong with it, or went wrong.
    Fault,
}

/// What the owner may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The publisher is followed and its root verified.
    Followed {
        /// Whom.
        publisher: PublisherId,
    },
    /// A newer root document was verified and kept.
    Rooted {
        /// Whose.
        publisher: PublisherId,
        /// Its version.
        version: u64,
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
        /// Who was asked, and who answered.
        asked: Asked,
    },
    /// Freshness changed, or how long it lasts.
    Freshness {
        /// Whose.
        publisher: PublisherId,
        /// Now.
        freshness: Freshness,
    },
    /// The freshness of an own feed could not be stated anew: too few keys of its fresh role are here, and no other home
    /// stated it until half of its time was over. Told once, until somebody does.
    Unstated {
        /// Whose.
        publisher: PublisherId,
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
        /// What stands against it.
        cause: Cause,
        /// Why, for people.
        why: String,
    },
    /// Not published: too few of the keys that may sign it are on this device.
    Unsigned {
        /// The caller's number.
        job: Job,
        /// Under which publisher.
        publisher: PublisherId,
        /// What is to be signed elsewhere: an encoded [`crate::sign::Envelope`] with the signatures that are here. Its
        /// number is spoken for. None unless the publication asked for it.
        request: Option<Vec<u8>>,
        /// Signatures that are here, of the role that lacks fewest.
        have: usize,
        /// Signatures that the role needs.
        threshold: usize,
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
