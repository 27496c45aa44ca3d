//! Tickets: one line that pins a publisher, its newest root, an anti-rollback floor and some peers.
//! Invariant: only characters of QR's alphanumeric set, at most [`crate::limits::TICKET_CHARS`], closed by a checksum;
//! what a ticket says is the trust anchor, so a damaged one is refused, never repaired.
//!
//! `SOFTDIST:1/<publisher>/<distro or ->/R<version>.<hash>/F<epoch>.<seq>.<hash>/P<peer>…/C<digest>/X<seconds>/<checksum>`, hashes
//! whole: shortening them to 16 bytes would gain one more peer, and cost that heads compare only by half. `C` and `X` stand there
//! only where there is something to say: a publisher that spoke twice, and an end of the ticket's own life.

use crate::{
    address,
    feed::{Difference, Head, Position},
    id::{Digest, PublisherId},
    limits, name,
    text::Foreign,
    time::{Time, calendar},
};
use data_encoding::BASE32_NOPAD;
use std::{fmt, str::FromStr};

mod contradiction;
mod packed;

pub use contradiction::Contradiction;

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
    /// Multiaddresses with `/p2p/`, as text, best first. Printing leaves out those that do not fit.
    pub addresses: Vec<String>,
    /// Its maker holds a proof that the publisher spoke twice in the floor's epoch: the proof's digest, see [`proof_digest`]. A
    /// whole proof is longer than a ticket can be.
    pub conflict: Option<Digest>,
    /// From this second since 1970 on nobody begins with it; none = it does not age.
    pub expires: Option<u64>,
}

/// Why a text is not a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like one.
    #[error("not a ticket: tickets begin with `SOFTDIST:1/`")]
    NotATicket,
    /// Made by a version that this one does not know.
    #[error("ticket has version {found}, this program reads version 1: a newer program can")]
    Version {
        /// The version found.
        found: String,
    },
    /// Too long to be one.
    #[error("ticket has {characters} characters, at most {} are allowed", limits::TICKET_CHARS)]
    TooLong {
        /// How many it has.
        characters: usize,
    },
    /// A character that tickets do not have.
    #[error("ticket has '{}' as character {at}, which no ticket contains: copy it again", Foreign(.character.to_string()))]
    Character {
        /// The character.
        character: char,
        /// Where it stands, from 1.
        at: usize,
    },
    /// The checksum is not what the rest adds up to.
    #[error("ticket's checksum does not match: a character is missing or mistyped, copy it again")]
    Checksum,
    /// A field is not there.
    #[error("ticket ends before its {field}: copy it whole")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field does not say what it should.
    #[error("ticket's {field} is malformed")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// It is whole, and its time is over.
    #[error("the ticket expired {} UTC: ask whoever gave it for a new one", calendar(*.at))]
    Expired {
        /// Since when, in seconds since 1970.
        at: u64,
    },
}

const PREFIX: &str = "SOFTDIST:";

/// 40 bits over everything before: enough against slips of eye and hand; against people, ids and hashes stand inside.
fn checksum(body: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softdist/v1/ticket\0").update(body.as_bytes());
    BASE32_NOPAD.encode(hasher.finalize().as_bytes().split_at(5).0)
}

/// What a ticket says of a proof of two histories: BLAKE3 over the two digests that contradict each other, in their order.
pub fn proof_digest(difference: &Difference) -> Digest {
    Digest::of(&[difference.one.digest.0, difference.other.digest.0].concat())
}

impl Ticket {
    /// Refuses what is too old to begin with.
    ///
    /// # Errors
    /// [`TicketError::Expired`].
    pub fn refuse_expired(&self, now: Time) -> Result<(), TicketError> {
        match self.expires {
            Some(at) if now.0 / 1000 >= at => Err(TicketError::Expired { at }),
            _ => Ok(()),
        }
    }
    fn head(&self) -> String {
        let base32 = |bytes: &[u8; 32]| BASE32_NOPAD.encode(bytes);
        let named = self.distro.as_deref().filter(|d| name::check(d).is_ok());
        format!(
            "{PREFIX}1/{}/{}/R{}.{}/F{}.{}.{}",
            base32(&self.publisher.0),
            named.unwrap_or("-").to_ascii_uppercase(),
            self.root.0,
            base32(&self.root.1.0),
            self.floor.at.epoch,
            self.floor.at.seq,
            base32(&self.floor.hash.0),
        )
    }
    /// What stands behind the peers.
    fn tail(&self) -> String {
        let conflict = self.conflict.map(|digest| format!("/C{}", BASE32_NOPAD.encode(&digest.0)));
        let expires = self.expires.map(|at| format!("/X{at}"));
        [conflict, expires].into_iter().flatten().collect()
    }
    /// The addresses that the printed ticket carries: in order, without those that are no address or do not fit.
    pub fn carried(&self) -> Vec<String> {
        // `/` and 8 characters of checksum stand behind all of it.
        let room = limits::TICKET_CHARS.saturating_sub(self.head().len() + self.tail().len() + 9);
        let mut kept: Vec<String> = Vec::new();
        for wish in self.addresses.iter().filter(|a| address::is_plausible(a)) {
            if kept.contains(wish) {
                continue;
            }
            kept.push(wish.clone());
            if packed::print(&kept).len() > room {
                kept.pop();
            }
        }
        kept
    }
}

/// One line, upper case. A distro that is no name is printed as `-`.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = format!("{}{}{}", self.head(), packed::print(&self.carried()), self.tail());
        write!(f, "{body}/{}", checksum(&body))
    }
}

/// Reads a ticket in either case, with space around it. Whatever a printed ticket would not look like is refused.
impl FromStr for Ticket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let characters = text.chars().count();
        // Before anything is read: what is far too long is not looked at.
        if characters > limits::TICKET_CHARS {
            return Err(TicketError::TooLong { characters });
        }
        let text = text.to_ascii_uppercase();
        let rest = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "-./:".contains(c);
        if let Some((at, character)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            return Err(TicketError::Character { character, at: at + 1 });
        }
        let (version, _) = rest.split_once('/').ok_or(TicketError::Missing { field: "publisher" })?;
        if version != "1" {
            return Err(TicketError::Version { found: version.into() });
        }
        let (body, sum) = text.rsplit_once('/').ok_or(TicketError::Missing { field: "checksum" })?;
        if sum != checksum(body) {
            return Err(TicketError::Checksum);
        }
        let ticket = read_body(body)?;
        // One spelling for each ticket: numbers with leading zeros or addresses packed in another way end here.
        if ticket.to_string() != text {
            return Err(TicketError::Field { field: "spelling" });
        }
        Ok(ticket)
    }
}

fn read_body(body: &str) -> Result<Ticket, TicketError> {
    let mut fields = body.split('/').skip(1);
    let mut next = |field| fields.next().ok_or(TicketError::Missing { field });
    let publisher = PublisherId(hash(next("publisher")?, "publisher")?);
    let distro = match next("distro")? {
        "-" => None,
        text => {
            let distro = text.to_ascii_lowercase();
            name::check(&distro).map_err(|_| TicketError::Field { field: "distro" })?;
            Some(distro)
        }
    };
    let wrong = |field| move || TicketError::Field { field };
    let root = next("root")?.strip_prefix('R').and_then(|r| r.split_once('.')).ok_or_else(wrong("root"))?;
    let root = (number(root.0, "root")?, Digest(hash(root.1, "root")?));
    let floor = next("floor")?.strip_prefix('F').ok_or_else(wrong("floor"))?;
    let (epoch, floor) = floor.split_once('.').ok_or_else(wrong("floor"))?;
    let (seq, floor) = floor.split_once('.').ok_or_else(wrong("floor"))?;
    let epoch = u32::try_from(number(epoch, "floor")?).map_err(|_| wrong("floor")())?;
    let at = Position { epoch, seq: number(seq, "floor")? };
    let floor = Head { at, hash: Digest(hash(floor, "floor")?) };
    let mut ticket = Ticket { publisher, distro, root, floor, addresses: Vec::new(), conflict: None, expires: None };
    // In any order, and twice: whatever is not the one spelling is refused when all of it is read.
    for field in fields {
        if let Some(digest) = field.strip_prefix('C') {
            ticket.conflict = Some(Digest(hash(digest, "conflict")?));
        } else if let Some(at) = field.strip_prefix('X') {
            ticket.expires = Some(number(at, "expiry")?);
        } else {
            let peer = field.strip_prefix('P').ok_or_else(wrong("peer"))?;
            ticket.addresses.extend(packed::read(peer).ok_or_else(wrong("peer"))?);
        }
    }
    Ok(ticket)
}

fn hash(text: &str, field: &'static str) -> Result<[u8; 32], TicketError> {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| TicketError::Field { field })?;
    bytes.try_into().map_err(|_| TicketError::Field { field })
}

fn number(text: &str, field: &'static str) -> Result<u64, TicketError> {
    text.parse().map_err(|_| TicketError::Field { field })
}

#[cfg(test)]
mod tests;
