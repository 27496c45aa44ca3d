//! Tickets: one line that pins a publisher, its newest root, an anti-rollback floor and some peers.
//! Invariant: only characters of QR's alphanumeric set, at most [`crate::limits::TICKET_CHARS`], closed by a checksum;
//! what a ticket says is the trust anchor, so a damaged one is refused, never repaired.

use crate::{
    feed::Head,
    id::{Digest, PublisherId},
};

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The publisher.
    pub publisher: PublisherId,
    /// One distro that is meant, if any.
    pub distro: Option<String>,
    /// Newest root version, and the digest of its payload.
    pub root: (u64, Digest),
    /// The feed must be at least here.
    pub floor: Head,
    /// Multiaddresses with `/p2p/`, as text.
    pub addresses: Vec<String>,
}
