//! Reading somebody else's directory: what is there, and the bytes of each file once. Invariant: what a tree cannot say
//! is refused by name before any content is read, and a file that changes under the reader is refused, not half taken.

use crate::{
    contract::StoreError,
    cutter::{self, SEGMENT, cut_whole},
    glob,
    look::Looking,
    seen::Stamp,
};
use rayon::prelude::*;
use softservice_protocol::{
    chunk::{ChunkRef, Cutting},
    id::ObjectId,
    limits,
    tree::{Manifest, Node, TreeEntry},
};
use std::{
    cell::Cell,
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Something found below the root.
#[derive(Debug)]
pub(crate) struct Found {
    /// Relative, with `/`.
    pub(crate) path: String,
    /// Where to open it.
    pub(crate) place: PathBuf,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Kind {
    File { executable: bool, stamp: Stamp },
    Dir,
    Symlink { target: String },
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) object: ObjectId,
    pub(crate) size: u64,
    pub(crate) chunks: Vec<ChunkRef>,
    /// The rule of whoever looked at it and found it clean; 0 = nobody did.
    pub(crate) clean: u32,
}

impl Content {
    /// As a manifest writes it.
    pub(crate) fn node(self, executable: bool) -> Node {
        let chunks = if self.chunks.len() > 1 { self.chunks } else { Vec::new() };
        Node::File { executable, object: self.object, size: self.size, chunks }
    }
}

fn unfit(path: &Path, rule: impl Into<String>) -> StoreError {
    StoreError::Unfit { path: path.to_owned(), rule: rule.into() }
}

/// Everything below `root`, ascending by path, checked against all rules that do not need content.
pub(crate) fn walk(root: &Path, exclude: &[String]) -> Result<Vec<Found>, StoreError> {
    let meta = std::fs::metadata(root).map_err(|e| StoreError::io("read", root, e))?;
    if !meta.is_dir() {
        return Err(unfit(root, "is not a directory"));
    }
    let count = AtomicUsize::new(0);
    let mut found = folder(root, "", exclude, 0, &count)?;
    found.par_sort_by(|a, b| a.path.cmp(&b.path));
    skeleton(&found).check().map_err(|e| {
        let place = found.iter().find(|f| f.path == e.path).map_or_else(|| root.join(&e.path), |f| f.place.clone());
        unfit(&place, e.rule)
    })?;
    Ok(found)
}

/// The manifest without content: all files empty, so that names are judged before gigabytes are read.
fn skeleton(found: &[Found]) -> Manifest {
    let entries = found
        .iter()
        .map(|f| TreeEntry {
            path: f.path.clone(),
            node: match &f.kind {
                Kind::Dir => Node::Dir,
                Kind::Symlink { target } => Node::Symlink { target: target.clone() },
                Kind::File { executable, .. } => {
                    Node::File { executable: *executable, object: ObjectId::of(b""), size: 0, chunks: Vec::new() }
                }
            },
        })
        .collect();
    Manifest { cutting: Cutting::STANDARD, entries }
}

fn folder(
    dir: &Path,
    prefix: &str,
    exclude: &[String],
    depth: usize,
    count: &AtomicUsize,
) -> Result<Vec<Found>, StoreError> {
    // Checked here as well as in the manifest, because this function calls itself.
    if depth > limits::TREE_DEPTH {
        return Err(unfit(dir, format!("lies more than {} folders deep", limits::TREE_DEPTH)));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| StoreError::io("read", dir, e))? {
        let entry = entry.map_err(|e| StoreError::io("read", dir, e))?;
        let place = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(unfit(&place, "has a name that is not UTF-8; rename it or exclude it"));
        };
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if glob::excluded(exclude, &path) {
            continue;
        }
        if count.fetch_add(1, Ordering::Relaxed) >= limits::TREE_ENTRIES {
            return Err(unfit(&place, format!("is beyond the {} entries that a tree may have", limits::TREE_ENTRIES)));
        }
        let meta = std::fs::symlink_metadata(&place).map_err(|e| StoreError::io("read", &place, e))?;
        found.push(Found { kind: kind(&place, &meta)?, path, place });
    }
    let below: Result<Vec<Vec<Found>>, StoreError> = found
        .par_iter()
        .filter(|f| matches!(f.kind, Kind::Dir))
        .map(|f| folder(&f.place, &f.path, exclude, depth + 1, count))
        .collect();
    found.extend(below?.into_iter().flatten());
    Ok(found)
}

fn kind(place: &Path, meta: &Metadata) -> Result<Kind, StoreError> {
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(Kind::Dir)
    } else if kind.is_file() {
        Ok(Kind::File { executable: meta.mode() & 0o100 != 0, stamp: Stamp::of(meta) })
    } else if kind.is_symlink() {
        let target = std::fs::read_link(place).map_err(|e| StoreError::io("read", place, e))?;
        match target.into_os_string().into_string() {
            Ok(target) => Ok(Kind::Symlink { target }),
            Err(_) => Err(unfit(place, "links to a name that is not UTF-8")),
        }
    } else {
        Err(unfit(place, "is neither a file, a folder nor a symbolic link; remove it or exclude it"))
    }
}

fn open_file(place: &Path) -> Result<(File, Stamp), StoreError> {
    let read = |e: std::io::Error| StoreError::io("read", place, e);
    // Without these flags a file that was swapped for a link or a pipe would be followed or waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(place).map_err(read)?;
    let before = file.metadata().map_err(read)?;
    if !before.is_file() {
        return Err(unfit(place, "changed while it was read"));
    }
    Ok((file, Stamp::of(&before)))
}

/// Shows a file to somebody who looks at it, in pieces.
pub(crate) fn show_file(place: &Path, mut looking: Box<dyn Looking + '_>) -> Result<(), StoreError> {
    let (file, _) = open_file(place)?;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let got = (&file).take(SEGMENT as u64).read_to_end(&mut bytes);
        if got.map_err(|e| StoreError::io("read", place, e))? == 0 {
            looking.end();
            return Ok(());
        }
        looking.take(&bytes);
    }
}

/// Reads a file once. `whole` gets a file that fits in memory after it was hashed, so that it can leave out what is here
/// already; `segment` gets the parts of a larger one with their places, from several threads. Answers what the file
/// system said of it before and after.
pub(crate) fn read_file(
    place: &Path,
    mut progress: impl FnMut(u64) -> Result<(), StoreError> + Send,
    whole: impl FnOnce(&Content, &[u8]) -> Result<(), StoreError>,
    segment: impl Fn(&[u8], u64) -> Result<(), StoreError> + Sync,
) -> Result<(Content, Stamp), StoreError> {
    let read = |e: std::io::Error| StoreError::io("read", place, e);
    let (mut file, stamp) = open_file(place)?;
    if stamp.size() > SEGMENT as u64 {
        let more = |bytes: &mut Vec<u8>| {
            let got = (&file).take(SEGMENT as u64).read_to_end(bytes).map_err(read)?;
            progress(got as u64)?;
            Ok(got)
        };
        let (object, size, chunks) = cutter::stream(more, segment)?;
        unchanged(&file, &stamp, size, place)?;
        return Ok((Content { object, size, chunks, clean: 0 }, stamp));
    }
    // One buffer for each thread: new ones for thousands of files cost more than reading them.
    let mut bytes = BUFFER.take();
    bytes.clear();
    bytes.reserve_exact(stamp.size() as usize);
    let content = (|| -> Result<Content, StoreError> {
        // A file that grew is refused below, so nobody needs to ask for more than it had.
        (&mut file).take(stamp.size()).read_to_end(&mut bytes).map_err(read)?;
        progress(bytes.len() as u64)?;
        let (object, chunks) = cut_whole(&bytes);
        let content = Content { object, size: bytes.len() as u64, chunks, clean: 0 };
        unchanged(&file, &stamp, content.size, place)?;
        whole(&content, &bytes)?;
        Ok(content)
    })();
    if bytes.capacity() <= KEPT {
        BUFFER.set(bytes);
    }
    Ok((content?, stamp))
}

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}
/// Larger buffers are given back.
const KEPT: usize = 1 << 20;

fn unchanged(file: &File, before: &Stamp, size: u64, place: &Path) -> Result<(), StoreError> {
    let after = Stamp::of(&file.metadata().map_err(|e| StoreError::io("read", place, e))?);
    if after != *before || before.size() != size {
        return Err(unfit(place, "changed while it was read; try again when nothing writes to it"));
    }
    Ok(())
}
