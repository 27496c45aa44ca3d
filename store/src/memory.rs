//! The contract in memory: what simulations give each of their nodes, and the model that the disk is tested against.
//! Invariant: it answers every call as a disk that never fails would. Stores of one [`Pool`] keep equal chunks once, so
//! that ten thousand nodes with the same release cost one release.

use crate::{
    contract::{Compared, Findings, Ingested, Layout, Materialised, Progress, Store, StoreError, Swept},
    copies::{self, Originals},
    cutter,
    look::Look,
    record,
    tree::{self, Place, Placed, Wanted},
    walk::{self, Content, Kind},
};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Cutting, Verified},
    codec,
    feed::Head,
    id::{ChunkId, FeedId, ObjectId},
    io::Record,
    limits,
    tree::{Manifest, TreeEntry, TreeRef},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::fd::BorrowedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Chunks that several stores share. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pool(Arc<Mutex<BTreeMap<ChunkId, Weak<[u8]>>>>);

impl Pool {
    fn intern(&self, id: ChunkId, bytes: &[u8]) -> Arc<[u8]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = known.get(&id).and_then(Weak::upgrade) {
            return bytes;
        }
        let bytes: Arc<[u8]> = bytes.into();
        known.insert(id, Arc::downgrade(&bytes));
        bytes
    }
}
impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    marks: BTreeMap<FeedId, Head>,
    /// Bytes of every chunk that an object or an expected object has.
    chunks: BTreeMap<ChunkId, Arc<[u8]>>,
    objects: BTreeMap<ObjectId, Layout>,
    expected: BTreeMap<ObjectId, Layout>,
    /// Objects that a fetch announced: it brings them, or builds on them.
    leased: BTreeMap<ObjectId, u64>,
    /// Announcements so far.
    announced: u64,
    /// Chunks that some expected object waits for.
    awaited: BTreeSet<ChunkId>,
    /// Objects that an ingest or `add` brought since the last sweep.
    recent: BTreeSet<ObjectId>,
}

/// A store that forgets everything when dropped.
#[derive(Default)]
pub struct MemoryStore {
    pool: Pool,
    state: Mutex<State>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({} objects)", self.state().objects.len())
    }
}

impl State {
    /// A chunk's bytes: from the chunks, or an object that is small enough to be one of its own.
    fn chunk(&self, chunk: &ChunkRef) -> Option<Vec<u8>> {
        if let Some(bytes) = self.chunks.get(&chunk.id) {
            return (bytes.len() == chunk.len as usize).then(|| bytes.to_vec());
        }
        let layout = self.objects.get(&ObjectId(chunk.id.0))?;
        let fits = layout.size == u64::from(chunk.len) && chunk.len as usize <= limits::SPAN_BYTES;
        fits.then(|| self.bytes(layout)).flatten()
    }
    fn has(&self, chunk: &ChunkRef) -> bool {
        match self.chunks.get(&chunk.id) {
            Some(bytes) => bytes.len() == chunk.len as usize,
            None => {
                let fits = |l: &Layout| l.size == u64::from(chunk.len) && chunk.len as usize <= limits::SPAN_BYTES;
                self.objects.get(&ObjectId(chunk.id.0)).is_some_and(fits)
            }
        }
    }
    fn bytes(&self, layout: &Layout) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(layout.size as usize);
        for chunk in &layout.chunks {
            out.extend_from_slice(self.chunks.get(&chunk.id)?);
        }
        Some(out)
    }
}

impl MemoryStore {
    /// An empty store on its own.
    pub fn new() -> Self {
        Self::default()
    }
    /// An empty store that shares equal chunks with the others of this pool.
    pub fn sharing(pool: &Pool) -> Self {
        Self { pool: pool.clone(), state: Mutex::default() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Takes in an object whose bytes are at hand. Answers the bytes that no chunk here had.
    fn take(&self, object: ObjectId, chunks: Vec<ChunkRef>, bytes: &[u8]) -> u64 {
        let mut state = self.state();
        state.recent.insert(object);
        let mut new = 0;
        let mut rest = bytes;
        for chunk in &chunks {
            let Some((part, after)) = rest.split_at_checked(chunk.len as usize) else { break };
            rest = after;
            if !state.has(chunk) {
                new += part.len() as u64;
            }
            state.chunks.entry(chunk.id).or_insert_with(|| self.pool.intern(chunk.id, part));
        }
        state.objects.entry(object).or_insert(Layout { object, size: bytes.len() as u64, chunks });
        new
    }
}

impl MemoryStore {
    fn read_in(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        look: Option<&dyn Look>,
    ) -> Result<Ingested, StoreError> {
        let (mut bytes, mut new_bytes) = (0, 0);
        let (mut entries, mut files) = (Vec::new(), Vec::new());
        for found in walk::walk(dir, exclude)? {
            let node = match found.kind {
                Kind::Dir => softservice_protocol::tree::Node::Dir,
                Kind::Symlink { target } => softservice_protocol::tree::Node::Symlink { target },
                Kind::File { executable, .. } => {
                    let (large, mut small) = (Mutex::new(Vec::new()), None);
                    let (content, _) = walk::read_file(
                        &found.place,
                        |n| {
                            bytes += n;
                            if progress(bytes) { Ok(()) } else { Err(StoreError::Stopped) }
                        },
                        |_, whole| {
                            small = Some(whole.to_vec());
                            Ok(())
                        },
                        |part, at| {
                            let mut large = large.lock().unwrap_or_else(PoisonError::into_inner);
                            let end = at as usize + part.len();
                            if large.len() < end {
                                large.resize(end, 0);
                            }
                            large[at as usize..end].copy_from_slice(part);
                            Ok(())
                        },
                    )?;
                    let large = large.into_inner().unwrap_or_else(PoisonError::into_inner);
                    let whole = small.unwrap_or(large);
                    if let Some(look) = look {
                        look.open(&found.path).whole(&whole);
                    }
                    files.push((content.clone(), whole));
                    Content::node(content, executable)
                }
            };
            entries.push(TreeEntry { path: found.path, node });
        }
        if look.is_some_and(|look| !look.lets_in()) {
            return Err(StoreError::NotLetIn);
        }
        for (content, whole) in files {
            new_bytes += self.take(content.object, content.chunks, &whole);
        }
        let manifest = Manifest { cutting: Cutting::STANDARD, entries };
        manifest.check()?;
        let encoded = codec::encode(&manifest)?;
        let (object, chunks) = cutter::cut_whole(&encoded);
        self.take(object, chunks.clone(), &encoded);
        let (total, files) = manifest.totals();
        Ok(Ingested { tree: TreeRef { manifest: object, chunks, bytes: total, files }, bytes, new_bytes })
    }
}

impl Store for MemoryStore {
    fn keep(&self, record: &Record) -> Result<(), StoreError> {
        codec::encode(record)?;
        let mut state = self.state();
        state.records.push(record.clone());
        if let Some((feed, head)) = record::head_of(record) {
            record::raise(&mut state.marks, feed, head);
        }
        Ok(())
    }
    fn records(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.state().records.clone())
    }
    fn mark(&self, feed: FeedId) -> Result<Option<Head>, StoreError> {
        Ok(self.state().marks.get(&feed).copied())
    }
    fn raise_mark(&self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        record::raise(&mut self.state().marks, feed, head);
        Ok(())
    }

    fn survey(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        let state = self.state();
        let mut map = Bitmap::empty(chunks.len());
        for (i, chunk) in chunks.iter().enumerate() {
            map.set(i, state.has(chunk));
        }
        Ok(map)
    }
    fn read(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let state = self.state();
        Ok(chunks.iter().map(|c| state.chunk(c)).collect())
    }
    fn expect(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        layouts.iter().try_for_each(Layout::check)?;
        let mut state = self.state();
        state.announced += 1;
        for layout in layouts {
            let number = state.announced;
            state.leased.insert(layout.object, number);
            if !state.objects.contains_key(&layout.object) && !state.expected.contains_key(&layout.object) {
                state.awaited.extend(layout.chunks.iter().map(|c| c.id));
                state.expected.insert(layout.object, layout.clone());
            }
        }
        Ok(())
    }
    fn put(&self, chunk: &Verified) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.awaited.contains(&chunk.id()) {
            let bytes = self.pool.intern(chunk.id(), chunk.bytes());
            state.chunks.insert(chunk.id(), bytes);
        }
        Ok(())
    }
    fn assemble(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        layouts.iter().try_for_each(Layout::check)?;
        let mut state = self.state();
        let open: Vec<&Layout> = layouts.iter().filter(|l| !state.objects.contains_key(&l.object)).collect();
        let mut missing = BTreeSet::new();
        let mut lacking = None;
        for layout in &open {
            let before = missing.len();
            missing.extend(layout.chunks.iter().filter(|c| !state.has(c)).map(|c| c.id));
            if missing.len() > before {
                lacking = lacking.or(Some(layout.object));
            }
        }
        if let Some(object) = lacking {
            return Err(StoreError::Incomplete { missing: missing.len(), object });
        }
        for layout in open {
            let mut hasher = blake3::Hasher::new();
            for chunk in &layout.chunks {
                let Some(bytes) = state.chunk(chunk) else { continue };
                hasher.update(&bytes);
                let shared = self.pool.intern(chunk.id, &bytes);
                state.chunks.insert(chunk.id, shared);
            }
            if *hasher.finalize().as_bytes() != layout.object.0 {
                return Err(StoreError::Unsound { object: layout.object, rule: "its chunks do not spell it" });
            }
            state.objects.insert(layout.object, layout.clone());
            state.expected.remove(&layout.object);
        }
        for layout in layouts {
            state.leased.remove(&layout.object);
        }
        state.awaited = state.expected.values().flat_map(|l| &l.chunks).map(|c| c.id).collect();
        Ok(())
    }

    fn add(&self, bytes: &[u8]) -> Result<ObjectId, StoreError> {
        let (object, chunks) = crate::contract::small(bytes);
        self.take(object, chunks, bytes);
        Ok(object)
    }
    fn object(&self, id: ObjectId, limit: usize) -> Result<Vec<u8>, StoreError> {
        let state = self.state();
        let layout = state.objects.get(&id).ok_or(StoreError::Missing(id))?;
        if layout.size > limit as u64 {
            return Err(crate::contract::too_long(layout.size, limit));
        }
        state.bytes(layout).ok_or(StoreError::Missing(id))
    }
    fn has_object(&self, id: ObjectId) -> bool {
        self.state().objects.contains_key(&id)
    }

    fn ingest(&self, dir: &Path, exclude: &[String], progress: Progress<'_>) -> Result<Ingested, StoreError> {
        self.read_in(dir, exclude, progress, None)
    }
    fn ingest_looked(
        &self,
        dir: &Path,
        exclude: &[String],
        progress: Progress<'_>,
        _anew: bool,
        look: &dyn Look,
    ) -> Result<Ingested, StoreError> {
        self.read_in(dir, exclude, progress, Some(look))
    }
    fn materialise(&self, manifest: &Manifest, target: &Path) -> Result<Materialised, StoreError> {
        tree::build(manifest, target, self)
    }

    fn compare(&self, manifest: &Manifest, tree: &Path, mend: bool) -> Result<Compared, StoreError> {
        copies::compare(manifest, tree, self, mend)
    }
    fn fsck(&self, _progress: Progress<'_>) -> Result<Findings, StoreError> {
        let (objects, bytes) = self.totals()?;
        Ok(Findings { objects, bytes, ..Findings::default() })
    }
    fn let_go(&self) {
        self.state().leased.clear();
    }
    fn begin_sweep(&self) -> u64 {
        self.state().announced
    }
    fn let_go_of(&self, announced: u64, except: &BTreeSet<ObjectId>) {
        self.state().leased.retain(|object, last| *last > announced || except.contains(object));
    }
    fn gc(&self, keep: &BTreeSet<ObjectId>) -> Result<Swept, StoreError> {
        let mut state = self.state();
        let State { expected, leased, awaited, .. } = &mut *state;
        expected.retain(|id, _| keep.contains(id) || leased.contains_key(id));
        *awaited = expected.values().flat_map(|l| &l.chunks).map(|c| c.id).collect();
        let mut spared = std::mem::take(&mut state.recent);
        spared.extend(state.leased.keys());
        let mut swept = Swept::default();
        state.objects.retain(|id, layout| {
            if keep.contains(id) || spared.contains(id) {
                swept.kept += 1;
                return true;
            }
            swept.removed += 1;
            swept.freed += layout.size;
            false
        });
        let used: BTreeSet<ChunkId> =
            state.objects.values().chain(state.expected.values()).flat_map(|l| &l.chunks).map(|c| c.id).collect();
        state.chunks.retain(|id, _| used.contains(id));
        Ok(swept)
    }
    fn totals(&self) -> Result<(u64, u64), StoreError> {
        let state = self.state();
        Ok((state.objects.len() as u64, state.objects.values().map(|l| l.size).sum()))
    }
}

impl Originals for MemoryStore {
    fn is_own(&self, _: &Wanted, _: &rustix::fs::Stat) -> bool {
        false
    }
    fn has(&self, object: ObjectId) -> bool {
        self.has_object(object)
    }
}

impl Place for MemoryStore {
    fn place(&self, dir: BorrowedFd<'_>, name: &str, file: &Wanted) -> Result<Placed, StoreError> {
        let bytes = self.object(file.object, usize::MAX)?;
        let path = Path::new(name);
        if bytes.len() as u64 != file.size {
            return Err(StoreError::Unsound { object: file.object, rule: "its size is not what the manifest says" });
        }
        let mut out =
            tree::create(dir, name, tree::mode(file.executable)).map_err(|e| StoreError::io("materialise", path, e))?;
        out.write_all(&bytes).map_err(|e| StoreError::io("write", path, e))?;
        Ok(Placed::Copied)
    }
}
