//! A directory as a list: the manifest of a tree. Invariant: a [`Manifest`] that was checked names only relative
//! paths inside its root, each once (also after case folding), ascending, with sizes that its chunks add up to.
//! No owners, times, setuid, devices, hard links or extended attributes exist in this language.

use crate::{
    chunk::{ChunkRef, Cutting},
    codec::Wire,
    id::ObjectId,
    limits,
};
use serde::{Deserialize, Serialize};

/// A tree as a release pins it: its manifest is an object, cut into chunks like any other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeRef {
    /// BLAKE3 of the manifest's bytes: the tree's id.
    pub manifest: ObjectId,
    /// The chunks of the manifest's bytes, in order.
    pub chunks: Vec<ChunkRef>,
    /// Sum of all file sizes in bytes.
    pub bytes: u64,
    /// Number of files.
    pub files: u32,
}

impl TreeRef {
    /// Bytes of the manifest.
    pub fn manifest_bytes(&self) -> u64 {
        self.chunks.iter().fold(0, |sum, c| sum.saturating_add(c.len.into()))
    }
    /// Checks the pointer by itself, before anything is fetched for it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.chunks.is_empty() || self.manifest_bytes() > limits::MANIFEST_BYTES as u64 {
            return Err("its manifest has no chunks, or more bytes than a manifest may have");
        }
        if self.chunks.iter().any(|c| c.len == 0 || c.len as usize > limits::CHUNK_MAX) {
            return Err("a chunk of its manifest is empty or longer than cutting makes them");
        }
        if matches!(self.chunks.as_slice(), [only] if only.id != self.manifest.into()) {
            return Err("its manifest is one chunk of another id");
        }
        if self.files as usize > limits::TREE_ENTRIES {
            return Err("it promises more than a million files");
        }
        Ok(())
    }
    /// Whether a checked manifest adds up to what this pointer promised: sizes are signed, so that nobody fetches more.
    pub fn agrees(&self, manifest: &Manifest) -> bool {
        manifest.totals() == (self.bytes, self.files)
    }
}

/// A directory's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// How its files were cut.
    pub cutting: Cutting,
    /// Ascending by path bytes; a folder stands before what it holds.
    pub entries: Vec<TreeEntry>,
}
impl Wire for Manifest {
    const NAME: &'static str = "tree manifest";
    const LIMIT: usize = limits::MANIFEST_BYTES;
    /// The number of entries stands behind the cutting. Ten million of the smallest fit into the limit and would weigh a
    /// gigabyte before [`Manifest::check`] counted them.
    fn admits(body: &[u8]) -> Result<(), &'static str> {
        const CUTTING: usize = 1 + 3 * 4;
        let count = body.get(CUTTING..).and_then(|rest| rest.first_chunk()).map(|count| u64::from_le_bytes(*count));
        match count {
            Some(count) if count > limits::TREE_ENTRIES as u64 => Err("it has more than a million entries"),
            _ => Ok(()),
        }
    }
}

/// One path and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Relative, `/` between components, NFC.
    pub path: String,
    /// What it is.
    pub node: Node,
}

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A regular file.
    File {
        /// Mode 0555 instead of 0444.
        executable: bool,
        /// BLAKE3 of its content.
        object: ObjectId,
        /// Bytes.
        size: u64,
        /// Its chunks in order; empty when the file is empty or is one chunk, whose id is then the object's.
        chunks: Vec<ChunkRef>,
    },
    /// A folder; each one that exists is listed.
    Dir,
    /// A symbolic link; relative and staying inside the tree.
    Symlink {
        /// Its text.
        target: String,
    },
}

/// Why a manifest is refused: the path and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tree entry {:?}: {rule}", crate::text::Foreign(.path))]
pub struct TreeError {
    /// The path, cut to 120 characters.
    pub path: String,
    /// The rule.
    pub rule: &'static str,
}

impl Node {
    /// The chunks of a file, the shorthand written out; empty for anything else.
    pub fn chunk_list(&self) -> Vec<ChunkRef> {
        match self {
            Self::File { object, size, chunks, .. } if chunks.is_empty() && *size > 0 => {
                // A single chunk is at most CHUNK_MAX long (checked), so the cast cannot cut.
                vec![ChunkRef { id: (*object).into(), len: *size as u32 }]
            }
            Self::File { chunks, .. } => chunks.clone(),
            _ => Vec::new(),
        }
    }
}

impl Manifest {
    /// Checks every rule of trees.
    ///
    /// # Errors
    /// The first entry that breaks a rule.
    pub fn check(&self) -> Result<(), TreeError> {
        crate::path::check_tree(self)
    }
    /// All chunks in order of first use, each once.
    pub fn chunk_order(&self) -> Vec<ChunkRef> {
        content_order([self])
    }
    /// Sum of file sizes and number of files.
    pub fn totals(&self) -> (u64, u32) {
        self.entries.iter().fold((0, 0), |(bytes, files), e| match &e.node {
            Node::File { size, .. } => (bytes.saturating_add(*size), files + 1),
            _ => (bytes, files),
        })
    }
}

/// The content order of a closure: the chunks of its manifests, in the order given, each once. What
/// [`crate::message::Message::Has`] numbers.
pub fn content_order<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Vec<ChunkRef> {
    let mut seen = std::collections::BTreeSet::new();
    let entries = manifests.into_iter().flat_map(|m| &m.entries);
    entries.flat_map(|e| e.node.chunk_list()).filter(|c| seen.insert(c.id)).collect()
}
