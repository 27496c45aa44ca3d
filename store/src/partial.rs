//! Objects on their way in: each chunk written once, at its place, in `partial/`. Invariant: a chunk counts as here only
//! when its bytes were verified and written by this life, or when the have log, synced after those bytes, says so; and
//! it is hashed again whenever it is read.
//!
//! An object of one chunk needs no log: its name is its hash. It is written under another name and renamed, so that a
//! kill leaves all of it or nothing; after a power cut its hash tells.

use crate::{
    contract::{Damage, Layout, StoreError},
    objects::{self, Objects},
    tree::{self, SYNC_EACH},
};
use rayon::prelude::*;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    id::{ChunkId, ObjectId},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes put between two syncs. Two of these may be under way at a kill, so a restart fetches at most 8 MiB again.
const COMMIT: u64 = 4 << 20;
/// `object[32] offset[8] chunk[32] len[4] sum[16]`: of fixed length, so that a damaged entry costs itself only.
const ENTRY: usize = 92;

/// A chunk's place in a partial file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) object: ObjectId,
    pub(crate) offset: u64,
    pub(crate) chunk: ChunkRef,
}

#[derive(Debug)]
struct Open {
    layout: Layout,
    have: Bitmap,
}

#[derive(Debug, Default)]
struct State {
    expected: HashMap<ObjectId, Open>,
    /// Places that wait for a chunk: (object, number, offset).
    wanted: HashMap<ChunkId, Vec<(ObjectId, u32, u64)>>,
    /// Chunks that can be read out of a partial file.
    present: HashMap<ChunkId, Spot>,
    /// What the have log of an earlier life says of objects that nobody expected yet.
    recovered: HashMap<ObjectId, Vec<Spot>>,
    /// Files of an earlier life without entries: one-chunk objects, still to be hashed, or waste.
    unproved: HashSet<ObjectId>,
    /// Written, not yet synced.
    uncommitted: Vec<Spot>,
    bytes: u64,
}

/// The folder of partial files.
#[derive(Debug)]
pub(crate) struct Partials {
    dir: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
    /// Held by whoever syncs.
    commit: Mutex<File>,
}

fn encode(spot: &Spot) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    out[..32].copy_from_slice(&spot.object.0);
    out[32..40].copy_from_slice(&spot.offset.to_le_bytes());
    out[40..72].copy_from_slice(&spot.chunk.id.0);
    out[72..76].copy_from_slice(&spot.chunk.len.to_le_bytes());
    let sum = blake3::hash(&out[..76]);
    out[76..].copy_from_slice(&sum.as_bytes()[..16]);
    out
}

fn decode(entry: &[u8]) -> Option<Spot> {
    let (body, sum) = entry.split_at_checked(76)?;
    if blake3::hash(body).as_bytes().get(..16)? != sum {
        return None;
    }
    let (object, rest) = body.split_first_chunk::<32>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (chunk, len) = rest.split_first_chunk::<32>()?;
    let chunk = ChunkRef { id: ChunkId(*chunk), len: u32::from_le_bytes(len.try_into().ok()?) };
    Some(Spot { object: ObjectId(*object), offset: u64::from_le_bytes(*offset), chunk })
}

fn is_single(layout: &Layout) -> bool {
    layout.chunks.len() == 1
}

impl Partials {
    /// Reads what an earlier life left.
    pub(crate) fn open(dir: &Path, objects: &Objects) -> Result<(Self, Vec<Damage>), StoreError> {
        let folder = dir.join("partial");
        std::fs::create_dir_all(&folder).map_err(|e| StoreError::io("create", &folder, e))?;
        let mut state = State::default();
        for entry in std::fs::read_dir(&folder).map_err(|e| StoreError::io("read", &folder, e))? {
            let path = entry.map_err(|e| StoreError::io("read", &folder, e))?.path();
            let object: Option<ObjectId> = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            match object {
                Some(object) if !objects.has(object) => {
                    state.unproved.insert(object);
                }
                _ => {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        let log = dir.join("logs").join("have");
        let bytes =
            if log.exists() { std::fs::read(&log).map_err(|e| StoreError::io("read", &log, e))? } else { Vec::new() };
        let entries = bytes.chunks_exact(ENTRY);
        let torn = entries.remainder().len() as u64;
        let mut damaged = 0;
        let mut known = HashSet::new();
        for entry in entries {
            let Some(spot) = decode(entry) else {
                damaged += 1;
                continue;
            };
            if state.unproved.contains(&spot.object) {
                known.insert(spot.object);
                state.present.insert(spot.chunk.id, spot);
                state.recovered.entry(spot.object).or_default().push(spot);
            }
        }
        state.unproved.retain(|object| !known.contains(object));
        let file = File::options().create(true).append(true).open(&log).map_err(|e| StoreError::io("open", &log, e))?;
        file.set_len(bytes.len() as u64 - torn).map_err(|e| StoreError::io("truncate", &log, e))?;
        let mut notes = Vec::new();
        if damaged > 0 {
            let what = format!("{damaged} entries do not add up; their chunks will be fetched again");
            notes.push(Damage { file: log.clone(), object: None, what });
        }
        Ok((Self { dir: folder, log, state: Mutex::new(state), commit: Mutex::new(file) }, notes))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The file of an object on its way.
    pub(crate) fn path(&self, object: ObjectId) -> PathBuf {
        self.dir.join(object.to_string())
    }
    /// Where a chunk can be read.
    pub(crate) fn find(&self, chunk: &ChunkRef) -> Option<Spot> {
        self.state().present.get(&chunk.id).filter(|s| s.chunk.len == chunk.len).copied()
    }
    /// Begins objects that are not whole; what an earlier life put there counts.
    pub(crate) fn expect(&self, layouts: &[&Layout]) {
        // Hashed without the lock: there may be thousands.
        let candidates: Vec<&Layout> = {
            let state = self.state();
            layouts.iter().copied().filter(|l| state.unproved.contains(&l.object)).collect()
        };
        let proved: HashSet<ObjectId> =
            candidates.par_iter().filter(|l| is_single(l) && self.proves(l)).map(|l| l.object).collect();
        let mut state = self.state();
        for layout in layouts {
            if state.expected.contains_key(&layout.object) {
                continue;
            }
            let mut have = Bitmap::empty(layout.chunks.len());
            if state.unproved.remove(&layout.object) {
                if proved.contains(&layout.object) {
                    have.set(0, true);
                } else {
                    let _ = std::fs::remove_file(self.path(layout.object));
                }
            }
            let known: HashSet<(u64, ChunkRef)> = state
                .recovered
                .remove(&layout.object)
                .map(|spots| spots.into_iter().map(|s| (s.offset, s.chunk)).collect())
                .unwrap_or_default();
            let mut offset = 0;
            for (i, chunk) in layout.chunks.iter().enumerate() {
                if have.get(i) || known.contains(&(offset, *chunk)) {
                    have.set(i, true);
                    let spot = Spot { object: layout.object, offset, chunk: *chunk };
                    state.present.entry(chunk.id).or_insert(spot);
                }
                state.wanted.entry(chunk.id).or_default().push((layout.object, i as u32, offset));
                offset += u64::from(chunk.len);
            }
            state.expected.insert(layout.object, Open { layout: (*layout).clone(), have });
        }
    }
    fn proves(&self, layout: &Layout) -> bool {
        std::fs::read(self.path(layout.object)).is_ok_and(|b| ObjectId::of(&b) == layout.object)
    }

    /// Writes a chunk to every place that waits for it. Says whether anybody did.
    pub(crate) fn put(&self, chunk: &Verified, objects: &Objects) -> Result<bool, StoreError> {
        let places: Vec<(ObjectId, u32, u64, bool)> = {
            let state = self.state();
            let Some(places) = state.wanted.get(&chunk.id()) else { return Ok(false) };
            let open = |o: &ObjectId, n: u32| state.expected.get(o).filter(|open| !open.have.get(n as usize));
            places.iter().filter_map(|(o, n, at)| Some((*o, *n, *at, is_single(&open(o, *n)?.layout)))).collect()
        };
        let reference = ChunkRef { id: chunk.id(), len: chunk.bytes().len() as u32 };
        for (object, number, offset, single) in places {
            objects.room_for(u64::from(reference.len))?;
            match self.write(object, offset, single, chunk.bytes(), objects) {
                // Somebody who had the same chunk made it whole, and its file cannot be written any more.
                Err(_) if objects.has(object) => continue,
                written => written?,
            }
            let mut state = self.state();
            let Some(open) = state.expected.get_mut(&object) else {
                // Assembled in the meantime by somebody who had the same chunk: nothing of this may stay.
                drop(state);
                let _ = std::fs::remove_file(self.path(object));
                continue;
            };
            open.have.set(number as usize, true);
            let spot = Spot { object, offset, chunk: reference };
            state.present.insert(reference.id, spot);
            state.uncommitted.push(spot);
            state.bytes += u64::from(reference.len);
            if state.bytes >= COMMIT {
                drop(state);
                self.commit(objects)?;
            }
        }
        Ok(true)
    }
    fn write(
        &self,
        object: ObjectId,
        offset: u64,
        single: bool,
        bytes: &[u8],
        objects: &Objects,
    ) -> Result<(), StoreError> {
        let path = self.path(object);
        if single {
            let temp = objects.temp();
            let mut file = objects::create_file(&temp, tree::mode(false))?;
            let written = file.write_all(bytes).map_err(|e| StoreError::io("write", &temp, e));
            let named =
                written.and_then(|()| std::fs::rename(&temp, &path).map_err(|e| StoreError::io("rename", &temp, e)));
            return named.inspect_err(|_| drop(std::fs::remove_file(&temp)));
        }
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        file.and_then(|f| f.write_all_at(bytes, offset)).map_err(|e| StoreError::io("write", &path, e))
    }

    /// Makes what was put durable, then says so in the have log.
    pub(crate) fn commit(&self, objects: &Objects) -> Result<(), StoreError> {
        let mut log = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let (spots, files, single) = {
            let mut state = self.state();
            let spots = std::mem::take(&mut state.uncommitted);
            state.bytes = 0;
            let files: BTreeSet<ObjectId> = spots.iter().map(|s| s.object).collect();
            let single: HashSet<ObjectId> = files
                .iter()
                .filter(|o| state.expected.get(o).is_none_or(|open| is_single(&open.layout)))
                .copied()
                .collect();
            (spots, files, single)
        };
        if spots.is_empty() {
            return Ok(());
        }
        let done = self.sync(&files, objects).and_then(|()| {
            let logged = spots.iter().filter(|s| !single.contains(&s.object));
            let entries: Vec<u8> = logged.flat_map(encode).collect();
            let write = |e| StoreError::io("append to", &self.log, e);
            log.write_all(&entries).map_err(write)?;
            log.sync_data().map_err(write)
        });
        // After a failed sync nobody knows what the disk holds of these: they are wanted again.
        done.inspect_err(|_| spots.iter().for_each(|s| self.forget(s)))
    }
    fn sync(&self, files: &BTreeSet<ObjectId>, objects: &Objects) -> Result<(), StoreError> {
        if files.len() > SYNC_EACH {
            return objects.sync_all();
        }
        for object in files {
            let path = self.path(*object);
            match File::open(&path).and_then(|f| f.sync_all()) {
                Ok(()) => {}
                // Assembled in the meantime, and synced for that.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StoreError::io("sync", &path, e)),
            }
        }
        tree::sync_dir(&self.dir)
    }
    /// A chunk turned out not to be what was written: it is wanted again.
    pub(crate) fn forget(&self, spot: &Spot) {
        let mut state = self.state();
        if state.present.get(&spot.chunk.id) == Some(spot) {
            state.present.remove(&spot.chunk.id);
        }
        if let Some(open) = state.expected.get_mut(&spot.object) {
            let mut offset = 0;
            for (i, chunk) in open.layout.chunks.iter().enumerate() {
                if offset == spot.offset && *chunk == spot.chunk {
                    open.have.set(i, false);
                }
                offset += u64::from(chunk.len);
            }
        }
        if let Some(spots) = state.recovered.get_mut(&spot.object) {
            spots.retain(|s| s != spot);
        }
    }
    /// Places of an expected object that nothing was written to.
    pub(crate) fn lacking(&self, object: ObjectId) -> Vec<Spot> {
        let state = self.state();
        let Some(open) = state.expected.get(&object) else { return Vec::new() };
        let mut offset = 0;
        let mut spots = Vec::new();
        for (i, chunk) in open.layout.chunks.iter().enumerate() {
            if !open.have.get(i) {
                spots.push(Spot { object, offset, chunk: *chunk });
            }
            offset += u64::from(chunk.len);
        }
        spots
    }
    /// Writes a chunk that was read from elsewhere in the store.
    pub(crate) fn fill(&self, spot: &Spot, bytes: &[u8], objects: &Objects) -> Result<(), StoreError> {
        let single = self.state().expected.get(&spot.object).is_some_and(|open| is_single(&open.layout));
        objects.room_for(bytes.len() as u64)?;
        self.write(spot.object, spot.offset, single, bytes, objects)?;
        let mut state = self.state();
        if let Some(open) = state.expected.get_mut(&spot.object) {
            let mut offset = 0;
            for (i, chunk) in open.layout.chunks.iter().enumerate() {
                if offset == spot.offset {
                    open.have.set(i, true);
                }
                offset += u64::from(chunk.len);
            }
        }
        Ok(())
    }
    /// Objects that became whole elsewhere are on their way no more.
    pub(crate) fn finish(&self, done: &HashSet<ObjectId>) -> Result<(), StoreError> {
        let mut state = self.state();
        let mut touched = HashSet::new();
        for object in done {
            if let Some(open) = state.expected.remove(object) {
                touched.extend(open.layout.chunks.iter().map(|c| c.id));
            }
            state.recovered.remove(object);
        }
        for id in touched {
            if let Some(places) = state.wanted.get_mut(&id) {
                places.retain(|(o, ..)| !done.contains(o));
                if places.is_empty() {
                    state.wanted.remove(&id);
                }
            }
        }
        state.present.retain(|_, s| !done.contains(&s.object));
        state.uncommitted.retain(|s| !done.contains(&s.object));
        let idle = state.expected.is_empty() && state.recovered.is_empty();
        drop(state);
        if idle {
            // Nothing refers to the log any more; a crash before this is as good as after it.
            let log = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
            let empty = { self.state().expected.is_empty() };
            if empty {
                log.set_len(0).map_err(|e| StoreError::io("truncate", &self.log, e))?;
            }
        }
        Ok(())
    }
    /// Removes files that nobody expects. Called by a sweep.
    pub(crate) fn sweep(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let gone: Vec<ObjectId> = state.unproved.drain().collect();
        let stale: Vec<ObjectId> = state.recovered.drain().map(|(object, _)| object).collect();
        let gone: HashSet<ObjectId> = gone.into_iter().chain(stale).collect();
        state.present.retain(|_, s| !gone.contains(&s.object));
        for object in &gone {
            let _ = std::fs::remove_file(self.path(*object));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_says_what_was_written_or_nothing(object: [u8; 32], offset: u64, id: [u8; 32], len: u32, at in 0usize..ENTRY, bit in 0u8..8) {
            let spot = Spot { object: ObjectId(object), offset, chunk: ChunkRef { id: ChunkId(id), len } };
            let mut bytes = encode(&spot);
            prop_assert_eq!(decode(&bytes), Some(spot));
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
