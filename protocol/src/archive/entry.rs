//! A folder, file or link in an archive, and the rules of its path. Invariant: a path that passes stays below its part:
//! components are plain names. They are bytes, not text: data is kept as it is, whatever its names are.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Bytes of one path in its part: what systems allow.
const PATH_BYTES: usize = 4096;
/// Bytes of one component.
const COMPONENT_BYTES: usize = 255;
/// Folders inside each other; more would not fit into a path of most programs.
const DEPTH: usize = 256;

/// One thing in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The part's place in the header's list.
    pub part: u16,
    /// Its path below the part, `/` between components; empty for the part's own folder.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, with set-user-id and the like; of no matter for links.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// When it was changed last.
    pub changed: Stamp,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file: its data and holes follow, then its hash.
    File {
        /// Its length.
        size: u64,
        /// Further names of it follow; such files count from 0 in the order in which they come.
        shared: bool,
    },
    /// Another name of a file that came before: the number of that shared file.
    Again(u64),
    /// A symbolic link. Where it leads is data: it is made, never followed.
    Link(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A named pipe.
    Pipe,
}

/// Whose a file is. Numbers of one device mean nothing on another, so the softservice's own user is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The user that the softservice's programs run as.
    Service,
    /// Another.
    Other {
        /// Its number.
        user: u32,
        /// The group's number.
        group: u32,
    },
}

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds since the Unix epoch; before it, negative.
    pub seconds: i64,
    /// Billionths of a second after that, below a billion.
    pub nanos: u32,
}

impl Entry {
    /// What is wrong with it by itself, if anything.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        check_path(&self.path)?;
        if self.path.is_empty() && self.kind != Kind::Folder {
            return Err("is the root of its part, but no folder");
        }
        if self.mode > 0o7777 {
            return Err("has a mode with more than permission bits");
        }
        if self.changed.nanos >= 1_000_000_000 {
            return Err("was changed at a time that is none");
        }
        match &self.kind {
            Kind::Link(target) if target.is_empty() || target.len() > PATH_BYTES || target.contains(&0) => {
                Err("is a link to something that is no path")
            }
            _ => Ok(()),
        }
    }

    /// The order of a walk: a folder before what is in it, names ascending by their bytes.
    pub(super) fn walk_order(&self, other: &Self) -> Ordering {
        self.part.cmp(&other.part).then_with(|| components(&self.path).cmp(components(&other.path)))
    }

    /// The folder that it is in; none for the root of a part.
    pub(super) fn parent(&self) -> Option<&[u8]> {
        if self.path.is_empty() {
            return None;
        }
        let slash = self.path.iter().rposition(|b| *b == b'/');
        Some(slash.and_then(|at| self.path.get(..at)).unwrap_or_default())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty())
}

fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_BYTES {
        return Err("is longer than 4096 bytes");
    }
    let parts = path.split(|b| *b == b'/');
    if parts.clone().count() > DEPTH {
        return Err("lies more than 256 folders deep");
    }
    for component in parts {
        match component {
            b"" => return Err("has an empty component"),
            b"." | b".." => return Err("has `.` or `..` as a component"),
            long if long.len() > COMPONENT_BYTES => return Err("has a component longer than 255 bytes"),
            odd if odd.contains(&0) => return Err("has a zero byte"),
            _ => {}
        }
    }
    Ok(())
}
