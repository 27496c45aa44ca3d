//! A backup's content as a stream of bytes: a header that says what it is, folders and files in one order, and an end
//! that proves that nothing is missing. Invariant: a stream has one reading; whatever the reader lets pass names only
//! places below its own parts, in the order of a walk, no more of it than the header said, and hashes to what was written.
//!
//! ```text
//! stream  = "softbkp\n"  frame*                 frame = length (u32, little-endian), canonical bytes of a [`Record`]
//! records = Header  (Entry  (Data | Hole)* Hash?)*  End
//! ```
//! Every bound is checked on the length, before anything is allocated. A file of millions of names costs the reader no
//! memory: entries come in the order of a walk, so it remembers the open folders only. Tar was refused: four dialects,
//! no end that proves anything, links that lead out of it, and a length that a hostile archive may invent.
//!
//! Encryption is around it, not in it: the node puts the stream into an age file (`node/src/device/backup/`).

mod entry;
mod order;
mod reader;
mod writer;

pub use entry::{Entry, Kind, Owner, Stamp};
pub use reader::{ArchiveError, Item, Reader};
pub use writer::Writer;

use crate::{
    codec::Wire,
    id::{ObjectId, PublisherId},
    limits, name,
    release::ReleaseRef,
};
use serde::{Deserialize, Serialize};

/// What every stream begins with.
pub const MAGIC: [u8; 8] = *b"softbkp\n";
/// Bytes of a frame's length.
pub const LENGTH: usize = 4;
/// Bytes of one piece of a file, at most.
pub const PIECE: usize = 256 << 10;
/// Parts of one archive: volumes, folders of hooks, secrets and overlay.
const PARTS: usize = 4 * limits::CLOSURE;
/// Bytes of a part's key: it names a folder.
const KEY_BYTES: usize = 240;

/// What the archive is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Seconds since the Unix epoch when the data was as it is here.
    pub made_at: u64,
    /// The version of the program that wrote it.
    pub program: String,
    /// The softservice.
    pub softservice: String,
    /// Who published what it ran.
    pub publisher: PublisherId,
    /// The top distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release: everything else of the closure is pinned by it.
    pub release: ReleaseRef,
    /// The layout of its data.
    pub epoch: u32,
    /// The owner's answers, ascending by name.
    pub answers: Vec<(String, String)>,
    /// What is in it, ascending; entries name a part by its place in this list.
    pub parts: Vec<Part>,
    /// Entries that follow.
    pub entries: u64,
    /// Bytes of data that follow; holes are not counted.
    pub bytes: u64,
}

/// A folder of its own in the archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// A volume as it was on the disk, by its key.
    Volume(String),
    /// What the backup hook of a role wrote, by the role's key: stands for the role's volumes.
    Hook(String),
    /// Secrets: one file each. Without them much data is of no use.
    Secrets,
    /// The owner's own files and variables.
    Overlay,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    Header(Box<Header>),
    Entry(Entry),
    /// The next bytes of the file that was opened last.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// So many zeros that take no room on the disk.
    Hole(u64),
    /// BLAKE3 of that file's data, holes left out: without holes, what `b3sum` prints.
    Hash(ObjectId),
    /// BLAKE3 of every byte before this frame.
    End(ObjectId),
}

impl Wire for Record {
    const NAME: &'static str = "backup record";
    // Answers are the longest: LIST of them with a line each.
    const LIMIT: usize = 2 << 20;
}

const _: () = assert!(PIECE + 64 < Record::LIMIT && limits::LIST * limits::LINE_BYTES < Record::LIMIT);

impl Header {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        let ascending = |mut pairs: Box<dyn Iterator<Item = bool> + '_>| pairs.all(|less| less);
        if name::check(&self.softservice).is_err() || name::check(&self.distro).is_err() {
            return Err("names a softservice or a distro in a way that no name is");
        }
        if self.version.len() > limits::VERSION_BYTES || semver::Version::parse(&self.version).is_err() {
            return Err("has a version that is none");
        }
        if self.program.len() > limits::VERSION_BYTES {
            return Err("has a program's version that is too long");
        }
        if self.release.size as usize > limits::RELEASE_BYTES {
            return Err("names a release longer than releases may be");
        }
        if self.answers.len() > limits::LIST
            || self.answers.iter().any(|(n, v)| name::check(n).is_err() || v.len() > limits::LINE_BYTES)
        {
            return Err("has answers that no release asks for");
        }
        if !ascending(Box::new(self.answers.windows(2).map(|w| matches!(w, [a, b] if a.0 < b.0)))) {
            return Err("has an answer twice, or answers out of order");
        }
        if self.parts.len() > PARTS || !self.parts.iter().all(Part::is_sound) {
            return Err("has a part that no softservice has");
        }
        if !ascending(Box::new(self.parts.windows(2).map(|w| matches!(w, [a, b] if a < b)))) {
            return Err("has a part twice, or parts out of order");
        }
        Ok(())
    }
}

impl Part {
    /// Keys are names joined by dots.
    fn is_sound(&self) -> bool {
        match self {
            Self::Volume(key) | Self::Hook(key) => {
                key.len() <= KEY_BYTES && key.split('.').all(|part| name::check(part).is_ok())
            }
            Self::Secrets | Self::Overlay => true,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(key) => write!(f, "volume {key}"),
            Self::Hook(key) => write!(f, "backup of role {key}"),
            Self::Secrets => f.write_str("secrets"),
            Self::Overlay => f.write_str("overlay"),
        }
    }
}

#[cfg(test)]
mod tests;
