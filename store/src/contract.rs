//! The contract that every store keeps, and the words it speaks. Invariant: nothing here knows how bytes are kept;
//! `tests/contract.rs` runs one suite over every implementation.

use crate::look::Look;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    feed::Head,
    id::{FeedId, ObjectId, ReleaseId},
    io::{Record, Setback},
    limits,
    tree::{Manifest, TreeRef},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// A whole object to be put together from chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// Its chunks in order; together `size` bytes.
    pub chunks: Vec<ChunkRef>,
}

/// What an ingest made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// The tree, ready for a release.
    pub tree: TreeRef,
    /// Bytes of its files, read now or known from before.
    pub bytes: u64,
    /// Of these, bytes that no chunk here had before.
    pub new_bytes: u64,
}

/// Where one damaged thing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The object, when it is one: what a repair refetches.
    pub object: Option<ObjectId>,
    /// What is wrong, for people.
    pub what: String,
}

/// What `fsck` saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Objects read and hashed.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong; damaged objects are set aside, so that nobody serves or links them.
    pub damaged: Vec<Damage>,
    /// What the log of records lost, now or in an earlier life: told by every check until [`Store::acknowledge`].
    pub losses: Vec<Damage>,
    /// What was cut off the end of the log of records at the last opening and is no loss: a record that was being written, and
    /// nobody was told of. Told once.
    pub unheard: Option<Damage>,
    /// Index entries that were wrong or missing and are right now.
    pub reindexed: u64,
}

/// Work that a store does by itself, beside everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// What it is, for people.
    pub what: &'static str,
    /// Steps done.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

/// What `gc` did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Objects kept.
    pub kept: u64,
    /// Objects removed.
    pub removed: u64,
    /// Bytes freed.
    pub freed: u64,
    /// Removed objects, of this sweep or one before, that the log of layouts still names, as there was no room to write it
    /// anew: the next sweep does. Nothing is wrong with the store meanwhile.
    pub unlogged: u64,
}

/// Who says what a sweep keeps, while it goes on.
pub trait Keeper {
    /// Takes one step of a sweep, some milliseconds: nothing may begin to be needed until it returns that is not in what
    /// `take` is given.
    ///
    /// # Errors
    /// What `take` says, and [`StoreError::Stopped`] to end the sweep before its end.
    fn step(&mut self, take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>) -> Result<(), StoreError>;
    /// Somebody makes something of several intakes just now, so that what the first of them brought is needed although
    /// none of them goes on.
    fn builds(&self) -> bool {
        false
    }
    /// So many more objects were looked at.
    fn looked(&mut self, objects: u64) {
        let _ = objects;
    }
}

/// The same from the beginning to the end.
impl Keeper for &BTreeSet<ObjectId> {
    fn step(&mut self, take: &mut dyn FnMut(&BTreeSet<ObjectId>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        take(self)
    }
}

/// How a tree came into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Materialised {
    /// Hard links made.
    pub linked: u64,
    /// Reflinks made.
    pub cloned: u64,
    /// Copies made.
    pub copied: u64,
    /// Bytes of the tree.
    pub bytes: u64,
}

/// How a tree stands beside its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// What is not as the manifest says, with the object that should stand there if it is a file.
    pub damaged: Vec<Damage>,
    /// Of these, what is right now.
    pub mended: Vec<PathBuf>,
}

/// Called with bytes done so far; returns false to stop.
pub type Progress<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// The contract. Calls block; a node calls them from blocking threads. All are safe from many threads.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Appends a record; returns when it would survive a power cut. Records that carry a head also raise the mark.
    fn keep(&self, record: &Record) -> Result<(), StoreError>;
    /// All records, oldest first, as far as the log is whole.
    fn records(&self) -> Result<Vec<Record>, StoreError>;
    /// The highest head ever kept for this feed; outlives the index.
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError>;
    /// Raises the mark, durably, before anything built on it is activated; never lowers it.
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError>;

    /// Which of these chunks are here, in whole or partial objects.
    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError>;
    /// Chunks by id, hashed again before they are given out; a damaged or missing one is None.
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;
    /// The same, those that are here one after the other from the start of `room`; what there is no room for is missing. What
    /// stands behind them means nothing.
    fn read_into(&self, chunks: &[ChunkRef], room: &mut [u8]) -> Result<Bitmap, StoreError> {
        let (mut held, mut free) = (Bitmap::empty(chunks.len()), room);
        for (at, (bytes, chunk)) in self.read(chunks)?.into_iter().zip(chunks).enumerate() {
            let fits = |bytes: &Vec<u8>| bytes.len() == chunk.len as usize && bytes.len() <= free.len();
            let Some(bytes) = bytes.filter(fits) else { continue };
            let (to, rest) = free.split_at_mut(bytes.len());
            to.copy_from_slice(&bytes);
            held.set(at, true);
            free = rest;
        }
        Ok(held)
    }
    /// Announces objects that chunks will be put into; repeating it is harmless, and after a restart it finds what an
    /// earlier life had already put. A sweep spares them, the whole ones too, until they are assembled.
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError>;
    /// Writes a chunk into every expected object that has it. Visible to `survey` and `read` at once. The end of this
    /// process loses at most the last 2 MiB of what was put, a power cut at most the last 64 MiB; all of it is durable
    /// after the next `assemble`.
    fn put(&self, chunk: &Verified) -> Result<(), StoreError>;
    /// The same for several chunks, best as they stand in their objects: neighbours are written at once. Answers what
    /// became of each.
    fn put_all(&self, chunks: &[Verified]) -> Vec<Result<(), StoreError>> {
        chunks.iter().map(|chunk| self.put(chunk)).collect()
    }
    /// Completes expected objects: fills in chunks that are here from other objects, checks the whole hash, syncs and
    /// makes them visible. All are durable on return.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] names how many chunks are missing.
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError>;

    /// Adds one small object (a release document) durably.
    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError>;
    /// A whole object's bytes, checked. For release documents and manifests, up to `limit` bytes.
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError>;
    /// Whether a whole object is here.
    fn has_object(&self, id: ObjectId) -> bool;

    /// Hashes files of a tree, by object and whether they are executable, that nobody hashed in this life, as long as `going`
    /// says so: then making the tree need not. What is not here, or not what its name says, is told by making it.
    fn prove(&self, _files: &[(ObjectId, bool)], _going: &(dyn Fn() -> bool + Sync)) {}

    /// Reads a directory in parallel into objects and a manifest, durably. `exclude` are glob patterns of paths below it.
    /// A file that is what it was when it was read the last time, by all that the file system says of it, is not read again.
    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError>;
    /// The same, reading every file whatever is known of it.
    fn ingest_anew(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.ingest(dir, exclude, progress)
    }
    /// The same, `anew` or not, shown to somebody who looks at every file that is not known to be clean by the same rule.
    ///
    /// # Errors
    /// [`StoreError::NotLetIn`] when it is not let in; then nothing of it is here that was not before.
    fn ingest_looked(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        anew: bool,
        look: &dyn Look,
    ) -> Result<Ingested, StoreError>;
    /// Writes a tree as a directory that must not exist yet: hard links, reflinks or copies, in that order; built in a
    /// staging directory beside it, which is synced and renamed. Never follows a link, never leaves the target. What this
    /// life has not hashed yet is hashed first: a damaged object is set aside and becomes part of no tree.
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError>;

    /// Holds a tree that was materialised once against its manifest. With `mend`, what is missing or wrong is put there
    /// anew, as far as its objects are here; what is there beside is left alone. Reads only what is not one file with an
    /// object here: damage of objects is what [`Store::fsck`] finds, and it comes first.
    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError>;

    /// Reads and hashes everything, rebuilds the index from the truth, sets damaged objects aside.
    fn fsck(&self, progress: Progress<'_>) -> Result<Findings, StoreError>;
    /// Objects that were damaged once, were set aside, and are not here again: what a repair still has to fetch.
    fn lost(&self) -> Result<Vec<Damage>, StoreError> {
        Ok(Vec::new())
    }
    /// Says that lost records are dealt with: no check tells of those again.
    fn acknowledge(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// No fetch goes on: what was announced and never assembled was given up. The next sweep spares it no more, unless it
    /// is kept; until then a fetch that takes it up finds what had come.
    fn let_go(&self);
    /// Somebody begins to find out what a sweep is to keep. Until [`Self::end_sweep`], what fetches make whole is spared: what
    /// a document lists that comes meanwhile, nobody could say beforehand. Answers what was announced so far, as a number for
    /// [`Self::let_go_of`].
    fn begin_sweep(&self) -> u64 {
        0
    }
    /// That sweep is over, or given up; once for each beginning.
    fn end_sweep(&self) {}
    /// What was announced up to this number and is not in `except` was given up: the next sweep spares it no more, as after
    /// [`Self::let_go`]. Fetches may go on: `except` is what theirs are about, and what they announce later counts anew.
    fn let_go_of(&self, announced: u64, except: &BTreeSet<ObjectId>) {
        let _ = (announced, except);
    }
    /// Removes every object that is not in `keep`, unless it is expected or younger than this run; and what had come of
    /// objects that were let go.
    fn gc(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError>;
    /// The same in steps; between them everything else goes on, and the keeper is asked again. Answers also what was
    /// removed. What is stopped, or crashes, between two steps has removed whole objects only.
    fn gc_in_steps(&self, keeper: &mut dyn Keeper) -> Result<(Swept, BTreeSet<ObjectId>), StoreError> {
        let mut swept = Swept::default();
        keeper.step(&mut |keep| {
            swept = self.gc(keep)?;
            Ok(())
        })?;
        Ok((swept, BTreeSet::new()))
    }
    /// What the log of records lost, now or in an earlier life, until [`Store::acknowledge`].
    fn losses(&self) -> Vec<Damage> {
        Vec::new()
    }
    /// What goes on by itself just now, if anything. Everything can be asked meanwhile.
    fn upkeep(&self) -> Option<Upkeep> {
        None
    }
    /// Objects and bytes here. Cheap: folders of objects to which nothing happened are not looked into again.
    fn totals(&self) -> Result<(u64, u64), StoreError>;
    /// Bytes that all of this takes on its disk: objects, logs, index, what stands aside, and what has come so far of objects
    /// that are not in `coming`.
    fn used(&self, coming: &BTreeSet<ObjectId>) -> Result<u64, StoreError> {
        let _ = coming;
        Ok(self.totals()?.1)
    }
}

/// What goes wrong. Corruption is one of them, never a panic.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done, "write", "rename" ...
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// No space, or the reserve of free space would be touched.
    #[error("no space left for {needed} bytes in {path}", path = path.display())]
    Full {
        /// Bytes wanted.
        needed: u64,
        /// Where.
        path: PathBuf,
    },
    /// A stored thing is not what it was.
    #[error("{path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The object, if it is one.
        object: Option<ObjectId>,
        /// How.
        what: String,
    },
    /// Not here.
    #[error("object {0} is not in this store")]
    Missing(ObjectId),
    /// Chunks are missing.
    #[error("{missing} chunks are missing, {object} among the objects")]
    Incomplete {
        /// How many.
        missing: usize,
        /// One of the objects.
        object: ObjectId,
    },
    /// The source directory holds something that a tree cannot say.
    #[error("{path}: {rule}", path = path.display())]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why.
        rule: String,
    },
    /// Whoever looked at it does not want it here.
    #[error("it was looked at, and is not to be kept")]
    NotLetIn,
    /// The caller stopped it.
    #[error("stopped")]
    Stopped,
    /// Another process has this store.
    #[error("store {path} is in use by another process", path = path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// Longer than its limit, or otherwise against the protocol.
    #[error(transparent)]
    Codec(#[from] softservice_protocol::codec::CodecError),
    /// A layout cannot be kept.
    #[error("layout of object {object}: {rule}")]
    Unsound {
        /// The object.
        object: ObjectId,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A release, or something that it pins, is not what was pinned.
    #[error("release {release}: {rule}")]
    Closure {
        /// The release.
        release: ReleaseId,
        /// The rule it breaks.
        rule: String,
    },
    /// A manifest breaks a rule.
    #[error(transparent)]
    Tree(#[from] softservice_protocol::tree::TreeError),
}

impl StoreError {
    /// What this means for the fetch that met it: when something is not here that was here, or is not what it was, looking
    /// again finds out what to ask for.
    pub fn setback(&self) -> Setback {
        let again = matches!(self, Self::Missing(_) | Self::Incomplete { .. } | Self::Damaged { object: Some(_), .. });
        Setback { why: self.to_string(), again }
    }
    /// A system error with what was being done to which path. A full disk gets its own kind, because a person can act.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        let full = matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        if full {
            Self::Full { needed: 0, path: path.to_owned() }
        } else {
            Self::Io { action, path: path.to_owned(), source }
        }
    }
}

impl Layout {
    /// Checks that chunks add up to the size, each of a length that a span can carry, and that an only chunk is the
    /// object itself.
    ///
    /// # Errors
    /// [`StoreError::Unsound`] with the first rule that is broken.
    pub fn check(&self) -> Result<(), StoreError> {
        let unsound = |rule| Err(StoreError::Unsound { object: self.object, rule });
        if self.chunks.iter().any(|c| c.len == 0 || c.len as usize > limits::SPAN_BYTES) {
            return unsound("a chunk is empty or longer than a span");
        }
        if self.chunks.iter().map(|c| u64::from(c.len)).sum::<u64>() != self.size {
            return unsound("the chunks do not add up to the size");
        }
        match self.chunks.as_slice() {
            [only] if only.id.0 != self.object.0 => unsound("the only chunk is not the object"),
            _ => Ok(()),
        }
    }
}

/// How `add` cuts: a document that fits one span is one chunk, whatever its length, so that it can be asked by its id.
pub(crate) fn small(bytes: &[u8]) -> (ObjectId, Vec<ChunkRef>) {
    if bytes.len() > limits::SPAN_BYTES {
        return crate::cutter::cut_whole(bytes);
    }
    let object = ObjectId::of(bytes);
    let only = ChunkRef { id: object.into(), len: bytes.len() as u32 };
    (object, if bytes.is_empty() { Vec::new() } else { vec![only] })
}

/// An object is longer than its reader allows.
pub(crate) fn too_long(size: u64, limit: usize) -> StoreError {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    StoreError::Codec(softservice_protocol::codec::CodecError::TooLong { what: "object", size, limit })
}
