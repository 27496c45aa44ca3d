//! Objects on their way in: each chunk written once, at its place, in `partial/`. Invariant: a chunk counts as here only
//! when its bytes were verified and written by this life, or when the have log, synced after those bytes, says so; and
//! it is hashed again whenever it is read.
//!
//! An object of one chunk needs no log: its name is its hash. It is written under another name and renamed, so that a
//! kill leaves all of it or nothing; after a power cut its hash tells.

use crate::{
    contract::{Damage, Layout, StoreError},
    expected::{Expected, Open, Spot},
    objects::{self, Objects},
    tree::{self, SYNC_EACH},
};
use rayon::prelude::*;
use softservice_protocol::{
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

/// Bytes put between two syncs. Two of these may be under way at a kill, and what is on the wire then is lost as well:
/// together well below 8 MiB from a peer on a local network.
const COMMIT: u64 = 1 << 20;
/// `object[32] offset[8] chunk[32] len[4] sum[16]`: of fixed length, so that a damaged entry costs itself only.
const ENTRY: usize = 92;

#[derive(Debug, Default)]
struct State {
    expected: Expected,
    /// What the have log of an earlier life says of objects that nobody expected yet.
    recovered: HashMap<ChunkId, Vec<Spot>>,
    /// Files of an earlier life that nobody expected yet; true when the have log knows them.
    left: HashMap<ObjectId, bool>,
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
                    state.left.insert(object, false);
                }
                _ => {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        let log = dir.join("logs").join("have");
        let read = |e| StoreError::io("read", &log, e);
        let bytes = if log.exists() { std::fs::read(&log).map_err(read)? } else { Vec::new() };
        let entries = bytes.chunks_exact(ENTRY);
        let torn = entries.remainder().len() as u64;
        let mut damaged = 0;
        for entry in entries {
            match decode(entry) {
                None => damaged += 1,
                Some(spot) => {
                    if let Some(known) = state.left.get_mut(&spot.object) {
                        *known = true;
                        state.recovered.entry(spot.chunk.id).or_default().push(spot);
                    }
                }
            }
        }
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
        let state = self.state();
        let here = state.expected.places(chunk.id).find_map(|place| place.here.then_some(place.spot));
        let here = here.or_else(|| state.recovered.get(&chunk.id)?.first().copied());
        here.filter(|s| s.chunk.len == chunk.len)
    }

    /// Begins objects that are not whole; what an earlier life put there counts.
    pub(crate) fn expect(&self, layouts: &[&Layout]) {
        // Hashed without the lock: there may be thousands.
        let candidates: Vec<&Layout> = {
            let state = self.state();
            let left = |l: &&Layout| l.chunks.len() == 1 && state.left.contains_key(&l.object);
            layouts.iter().copied().filter(left).collect()
        };
        let proved: HashSet<ObjectId> = candidates.par_iter().filter(|l| self.proves(l)).map(|l| l.object).collect();
        let mut state = self.state();
        for layout in layouts {
            if state.expected.get(layout.object).is_some() {
                continue;
            }
            let mut open = Open::new(layout);
            match state.left.remove(&layout.object) {
                Some(_) if proved.contains(&layout.object) => open.fill_all(),
                Some(true) => {
                    for chunk in &layout.chunks {
                        let Some(spots) = state.recovered.get_mut(&chunk.id) else { continue };
                        spots.iter().filter(|s| s.object == layout.object).for_each(|s| open.mark(s, true));
                        spots.retain(|s| s.object != layout.object);
                        if spots.is_empty() {
                            state.recovered.remove(&chunk.id);
                        }
                    }
                }
                Some(false) => drop(std::fs::remove_file(self.path(layout.object))),
                None => {}
            }
            state.expected.enter(open);
        }
    }
    fn proves(&self, layout: &Layout) -> bool {
        std::fs::read(self.path(layout.object)).is_ok_and(|b| ObjectId::of(&b) == layout.object)
    }

    /// Writes a chunk to every place that waits for it.
    pub(crate) fn put(&self, chunk: &Verified, objects: &Objects) -> Result<(), StoreError> {
        self.put_into(self.waiting(chunk), chunk, objects)
    }
    /// Places that wait for a chunk; true where the object has no other.
    fn waiting(&self, chunk: &Verified) -> Vec<(Spot, bool)> {
        let state = self.state();
        state.expected.places(chunk.id()).filter(|p| !p.here).map(|p| (p.spot, p.single)).collect()
    }
    fn put_into(&self, open: Vec<(Spot, bool)>, chunk: &Verified, objects: &Objects) -> Result<(), StoreError> {
        for (spot, single) in open {
            if spot.chunk.len as usize != chunk.bytes().len() {
                // A layout that says another length of the same bytes lies; its object can never become whole.
                continue;
            }
            objects.room_for(u64::from(spot.chunk.len))?;
            match self.write(&spot, single, chunk.bytes(), objects) {
                // Another fetch brought the same chunk, and its object is whole or about to be: such a file cannot be
                // written any more.
                Err(_) if self.is_here(&spot) || objects.has(spot.object) => continue,
                written => written?,
            }
            let mut state = self.state();
            let Some(open) = state.expected.get_mut(spot.object) else {
                // Assembled in the meantime by somebody who had the same chunk: nothing of this may stay. Removed under
                // the lock, so that it is never what somebody puts there anew.
                let _ = std::fs::remove_file(self.path(spot.object));
                continue;
            };
            open.mark(&spot, true);
            state.uncommitted.push(spot);
            state.bytes += u64::from(spot.chunk.len);
            if state.bytes >= COMMIT {
                drop(state);
                self.commit(objects)?;
            }
        }
        Ok(())
    }
    fn write(&self, spot: &Spot, single: bool, bytes: &[u8], objects: &Objects) -> Result<(), StoreError> {
        let path = self.path(spot.object);
        if single {
            let temp = objects.temp();
            let mut file = objects::create_file(&temp, tree::mode(false))?;
            let written = file.write_all(bytes).map_err(|e| StoreError::io("write", &temp, e));
            let place = |()| {
                // Under the lock, and only while it is waited for: one that is here may be synced by now and about to get
                // its name, and must not become another file that is not.
                let state = self.state();
                if state.expected.get(spot.object).is_some_and(|open| open.has(spot)) {
                    return std::fs::remove_file(&temp).map_err(|e| StoreError::io("remove", &temp, e));
                }
                std::fs::rename(&temp, &path).map_err(|e| StoreError::io("rename", &temp, e))
            };
            return written.and_then(place).inspect_err(|_| drop(std::fs::remove_file(&temp)));
        }
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        file.and_then(|f| f.write_all_at(bytes, spot.offset)).map_err(|e| StoreError::io("write", &path, e))
    }

    fn is_here(&self, spot: &Spot) -> bool {
        self.state().expected.get(spot.object).is_some_and(|open| open.has(spot))
    }

    /// Makes what was put durable, then says so in the have log.
    pub(crate) fn commit(&self, objects: &Objects) -> Result<(), StoreError> {
        let mut log = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let (spots, files, logged) = {
            let mut state = self.state();
            let spots = std::mem::take(&mut state.uncommitted);
            state.bytes = 0;
            let files: BTreeSet<ObjectId> = spots.iter().map(|s| s.object).collect();
            let larger = |o: &&ObjectId| state.expected.get(**o).is_some_and(|open| !open.is_single());
            let logged: HashSet<ObjectId> = files.iter().filter(larger).copied().collect();
            (spots, files, logged)
        };
        if spots.is_empty() {
            return Ok(());
        }
        let done = self.sync(&files, objects).and_then(|()| {
            let entries: Vec<u8> = spots.iter().filter(|s| logged.contains(&s.object)).flat_map(encode).collect();
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
        if let Some(open) = state.expected.get_mut(spot.object) {
            open.mark(spot, false);
        }
        if let Some(spots) = state.recovered.get_mut(&spot.chunk.id) {
            spots.retain(|s| s != spot);
            if spots.is_empty() {
                state.recovered.remove(&spot.chunk.id);
            }
        }
    }
    /// Places of an expected object that nothing was written to.
    pub(crate) fn lacking(&self, object: ObjectId) -> Vec<Spot> {
        self.state().expected.get(object).map(Open::lacking).unwrap_or_default()
    }
    /// Writes a chunk that was read from elsewhere in the store.
    pub(crate) fn fill(&self, spot: &Spot, bytes: &[u8], objects: &Objects) -> Result<(), StoreError> {
        let single = self.state().expected.get(spot.object).is_some_and(Open::is_single);
        objects.room_for(bytes.len() as u64)?;
        self.write(spot, single, bytes, objects)?;
        if let Some(open) = self.state().expected.get_mut(spot.object) {
            open.mark(spot, true);
        }
        Ok(())
    }
    /// Objects that became whole are on their way no more. What still stands under their names came after they did, from
    /// another fetch, or was begun before somebody else brought the whole.
    pub(crate) fn finish(&self, done: &HashSet<ObjectId>) -> Result<(), StoreError> {
        let idle = |state: &State| state.expected.is_empty() && state.left.is_empty();
        let mut state = self.state();
        for object in done {
            if state.expected.leave(*object) {
                let _ = std::fs::remove_file(self.path(*object));
            }
        }
        state.uncommitted.retain(|s| !done.contains(&s.object));
        let empty = idle(&state);
        drop(state);
        if empty {
            let log = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
            if idle(&self.state()) {
                // Nothing refers to the log any more; a crash before this is as good as after it.
                log.set_len(0).map_err(|e| StoreError::io("truncate", &self.log, e))?;
            }
        }
        Ok(())
    }
    /// Removes what is on its way for nobody: what an earlier life left, and what was let go in this one.
    pub(crate) fn sweep(&self, spared: impl Fn(&ObjectId) -> bool) {
        let mut state = self.state();
        let State { expected, recovered, left, uncommitted, .. } = &mut *state;
        let mut gone: HashSet<ObjectId> = left.extract_if(|object, _| !spared(object)).map(|(o, _)| o).collect();
        recovered.retain(|_, spots| {
            spots.retain(|s| !gone.contains(&s.object));
            !spots.is_empty()
        });
        let given_up: Vec<ObjectId> = expected.objects().filter(|o| !spared(o)).collect();
        gone.extend(given_up.into_iter().filter(|o| expected.leave(*o)));
        uncommitted.retain(|s| !gone.contains(&s.object));
        for object in gone {
            let _ = std::fs::remove_file(self.path(object));
        }
    }
}

#[cfg(test)]
mod tests;
