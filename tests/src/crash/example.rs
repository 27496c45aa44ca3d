//! What is crashed: an example of this repository in editions. Invariant: which edition a process, an answer or a volume belongs
//! to can be read off it from outside, so that a mixture shows.
//!
//! | edition | what it tries |
//! |---|---|
//! | 1 | where all begin |
//! | 2 | roles without data are new, and take over beside the old ones |
//! | 3 | roles with data are new as well, and start instead of the old ones |
//! | 4 | as the highest that the example has, but never confirmed: it must go back, data too |

use super::{book::Book, deed::Deed, imprint::Imprint, postgresql::Postgresql, processes::Process, site::Site};
use crate::{Node, sources::put};
use serde_json::Value;
use std::{fs, path::Path};

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(pub u32);

/// Where all begin.
pub const FIRST: Edition = Edition(1);
/// Start-first: nothing with data changes.
pub const BESIDE: Edition = Edition(2);
/// Stop-first: what has data changes.
pub const INSTEAD: Edition = Edition(3);
/// Never confirmed.
pub const BAD: Edition = Edition(4);

impl Edition {
    /// The edition of a version that the node names.
    pub fn of(version: &str) -> Option<Self> {
        version.strip_suffix(".0.0")?.parse().ok().map(Self)
    }
    /// Its version.
    pub fn version(self) -> String {
        format!("{}.0.0", self.0)
    }
    /// The edition whose mark is the first in a text; see [`Self::mark`].
    pub fn marked(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("edition ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..digits)?.parse().ok().map(Self)
    }
    /// What an edition puts into its texts.
    pub fn mark(self) -> String {
        format!("edition {}", self.0)
    }
}

/// A softservice that can be crashed. Its folder, `softservice`, and what `ps` shows of it, `info`, are handed in.
pub trait Example: std::fmt::Debug {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// What can be done to it.
    fn deeds(&self) -> Vec<Deed>;
    /// Publishes all editions from `node`'s own home; sources are written below `folder`.
    fn publish(&mut self, node: &Node, folder: &Path);
    /// Its services in an edition, and since which edition each is what it is.
    fn services(&self, edition: Edition) -> Vec<(&'static str, Edition)>;
    /// Whether it has roles without data, before which a front stands.
    fn has_front(&self) -> bool;
    /// Which edition each of the processes is of that run `service`; what cannot be told is told in words.
    fn running(&self, service: &str, all: &[Process]) -> Vec<Result<Edition, String>>;
    /// Puts data in that is worth keeping, once; the entries that are there now.
    fn plant(&self, softservice: &Path, info: &Value) -> Vec<String>;
    /// Writes an entry; whether that was acknowledged. None = it has no data.
    fn write(&self, softservice: &Path, info: &Value, words: &str) -> Option<bool>;
    /// The edition that answers, and the entries.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    fn read(&self, softservice: &Path, info: &Value) -> Result<(Edition, Vec<String>), String>;
    /// Data of which every bit must be as it was where no confirmed edition may have changed it.
    fn data(&self, softservice: &Path) -> Imprint;
    /// Whether a change between these, once confirmed, writes to that data by itself.
    fn rewrites(&self, from: Edition, to: Edition) -> bool;
}

/// The examples by name.
pub const NAMES: [&str; 3] = ["guestbook", "postgresql", "nginx-site"];

/// An example by its name; `trees` makes the folder of those out of Debian's packages, or says why not.
///
/// # Errors
/// There is none of that name, or it cannot be had here.
pub fn named(
    name: &str,
    trees: impl FnOnce() -> Result<std::path::PathBuf, String>,
) -> Result<Box<dyn Example>, String> {
    match name {
        "guestbook" => Ok(Box::new(Book)),
        "postgresql" => Ok(Box::new(Postgresql::new(&trees()?))),
        "nginx-site" => Ok(Box::new(Site::new(&trees()?))),
        _ => Err(format!("there is no example {name}; there are {}", NAMES.join(", "))),
    }
}

/// Changes a text file.
pub(super) fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let old = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // The file may be one with its original: it is written anew, never over.
    fs::remove_file(path).expect("the old one can go");
    put(path, &change(old));
}

/// Replaces words that must be there: an example that was changed must not make a deed tame.
pub(super) fn swap(text: String, old: &str, new: &str) -> String {
    assert!(text.contains(old), "the example says {old:?}: {text}");
    text.replacen(old, new, 1)
}
