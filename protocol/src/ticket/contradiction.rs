//! Where a ticket and a device name two things for one place. Invariant: it decides nothing: which of the two histories is the
//! publisher's, people have to say.

use crate::{feed::Position, id::Digest};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Two root documents of one version.
    #[error(
        "the ticket is of another history than the one known here: its root document {version} is {ticket}, the one here is {known}",
        ticket = .ticket.short(), known = .known.short()
    )]
    Root {
        /// The version.
        version: u64,
        /// The one that the ticket pins.
        ticket: Digest,
        /// The one that is known here.
        known: Digest,
    },
    /// Two entries for one place.
    #[error(
        "the ticket is of another history than the one known here: its entry {seq} is {ticket}, the one here is {known}",
        seq = .at.seq, ticket = .ticket.short(), known = .known.short()
    )]
    Entry {
        /// The place.
        at: Position,
        /// The entry that the ticket names.
        ticket: Digest,
        /// The one that is known here.
        known: Digest,
    },
}
