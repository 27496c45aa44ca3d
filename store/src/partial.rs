//! Objects on their way in: each chunk written once, at its place, in `partial/`. Invariant: a chunk counts as here only
//! when its bytes were verified and written by this life, or when the have log, synced after those bytes, says so; and
//! it is hashed again whenever it is read.
//!
//! An object of one chunk needs no log: its name is its hash, which tells in a next life whether all of it is there.
//! Each expectation of an object is a life of its own: what was begun for an earlier one counts for nothing.

use crate::{
    contract::{Damage, Layout, StoreError},
    expected::{Expected, Open, Spot},
    objects::Objects,
    syncs::{self, Syncs},
    tree,
};
use have::Have;
use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    id::{ChunkId, ObjectId},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fs::File,
    io::{IoSlice, Write},
    ops::Deref,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    thread::JoinHandle,
    time::Instant,
};

pub(crate) mod have;
mod syncer;
mod whole;

pub(crate) use whole::Run;

/// Bytes put between two writes of the have log. Two of these may be under way at a kill, and what is on the wire then is
/// lost as well: together well below 8 MiB from a peer on a local network.
const LOG: u64 = 1 << 20;
/// From so many names on, the folder is listed instead of asked for each.
const LISTED: usize = 256;
/// Files of larger objects that are kept open: chunks of one mostly come together.
const HANDLES: usize = 16;

/// Written, and not in the have log yet.
#[derive(Debug, Default)]
struct Unlogged {
    spots: Vec<Spot>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    expected: Expected,
    /// What the have log of an earlier life says of objects that nobody expected yet.
    recovered: HashMap<ChunkId, Vec<Spot>>,
    /// Files of an earlier life that nobody expected yet; true when the have log knows them.
    left: HashMap<ObjectId, bool>,
    unlogged: Unlogged,
    /// Written, not yet synced; how many bytes, and since when.
    unsynced: Vec<Spot>,
    bytes: u64,
    first: Option<Instant>,
    /// Bytes of the sync that goes on.
    under_way: u64,
    /// A thread syncs.
    syncing: bool,
    ending: bool,
}

/// The folder of partial files.
#[derive(Debug)]
pub(crate) struct Partials {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

/// What those who put share with the thread that syncs.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    folder: File,
    objects: Arc<Objects>,
    state: Mutex<State>,
    /// Locked before the state, never after it.
    have: Mutex<Have>,
    /// Held by whoever syncs.
    committing: Mutex<()>,
    syncs: Arc<Syncs>,
    /// Failed syncs that all of this knows of. Changed only by whoever syncs.
    heard: AtomicU64,
    handles: Mutex<Handles>,
    /// Something waits for a sync, or it all ends.
    wake: Condvar,
    /// A sync is done.
    drained: Condvar,
}

/// Open files by object and expectation: what is begun anew is another file.
type Handles = VecDeque<((ObjectId, u64), Arc<Out>)>;

/// A file that chunks are written to. The kernel lets one writer at it, and has the others spin on their cores until that
/// one is done; here they sleep.
#[derive(Debug)]
struct Out {
    file: File,
    turn: Mutex<()>,
}

impl Out {
    fn write(&self, parts: &[&[u8]], offset: u64) -> std::io::Result<()> {
        let _turn = lock(&self.turn);
        write_parts(&self.file, parts, offset)
    }
}

/// Writes all of these one after the other from a place on.
fn write_parts(file: &File, parts: &[&[u8]], mut offset: u64) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        // The system takes at most 1024 pieces at once.
        let written = match rustix::io::pwritev(file, left.get(..1024.min(left.len())).unwrap_or_default(), offset) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        offset += written as u64;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Deref for Partials {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Partials {
    /// Reads what an earlier life left.
    pub(crate) fn open(dir: &Path, objects: &Arc<Objects>) -> Result<(Self, Vec<Damage>), StoreError> {
        let path = dir.join("partial");
        std::fs::create_dir_all(&path).map_err(|e| StoreError::io("create", &path, e))?;
        let mut state = State::default();
        for entry in std::fs::read_dir(&path).map_err(|e| StoreError::io("read", &path, e))? {
            let path = entry.map_err(|e| StoreError::io("read", &path, e))?.path();
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
        let (have, known, damage) = Have::open(dir.join("logs").join("have"), have::boot(), || {
            // The next mark speaks for what is there as well.
            if objects.syncs_whole() {
                return objects.sync_names();
            }
            let files: Vec<PathBuf> = state.left.keys().map(|object| path.join(object.to_string())).collect();
            syncs::sync_each(&files)?;
            syncs::sync_each(&[path.clone(), dir.join("logs/have")])
        })?;
        for spot in known {
            if let Some(known) = state.left.get_mut(&spot.object) {
                *known = true;
                state.recovered.entry(spot.chunk.id).or_default().push(spot);
            }
        }
        let folder = File::open(&path).map_err(|e| StoreError::io("open", &path, e))?;
        let shared = Shared {
            dir: path,
            folder,
            objects: Arc::clone(objects),
            state: Mutex::new(state),
            have: Mutex::new(have),
            committing: Mutex::default(),
            heard: AtomicU64::new(objects.syncs().since()),
            syncs: Arc::clone(objects.syncs()),
            handles: Mutex::default(),
            wake: Condvar::new(),
            drained: Condvar::new(),
        };
        Ok((Self { shared: Arc::new(shared), syncer: Mutex::default() }, damage.into_iter().collect()))
    }
    /// Writes a chunk to every place that waits for it.
    pub(crate) fn put(&self, chunk: &Verified, objects: &Objects) -> Result<(), StoreError> {
        self.start_syncer();
        self.put_into(self.waiting(chunk), chunk, objects)
    }
    /// The same for several. Neighbours in one object are written at once: a file has one writer at a time, and others
    /// would wait for it sixteen times as often.
    pub(crate) fn put_all(&self, chunks: &[Verified], objects: &Objects) -> Vec<Result<(), StoreError>> {
        self.start_syncer();
        let mut answers = Vec::with_capacity(chunks.len());
        while let Some(chunk) = chunks.get(answers.len()) {
            let first = self.waiting(chunk);
            let rest = chunks.get(answers.len()..).unwrap_or_default();
            let run = self.run_of(&first, rest);
            if run.len() > 1 && self.put_run(&run, rest, objects).is_ok() {
                answers.extend(run.iter().map(|_| Ok(())));
                continue;
            }
            // By itself: what is wrong is told of the chunk that it is wrong with.
            answers.push(self.put_into(first, chunk, objects));
        }
        answers
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
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
                    let mut seen = HashSet::new();
                    for chunk in layout.chunks.iter().filter(|chunk| seen.insert(chunk.id)) {
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
        let path = self.path(layout.object);
        // Another layout may have left a file of any length.
        std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == layout.size)
            && std::fs::read(path).is_ok_and(|b| ObjectId::of(&b) == layout.object)
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
            self.account(&[spot], single)?;
        }
        Ok(())
    }
    /// How many of these chunks, from the first on, stand one after the other in one object, and nowhere else.
    fn run_of(&self, first: &[(Spot, bool)], chunks: &[Verified]) -> Vec<Spot> {
        let [(spot, false)] = first else { return Vec::new() };
        let mut run: Vec<Spot> = Vec::new();
        let state = self.state();
        let mut at = *spot;
        for chunk in chunks {
            let mut places = state.expected.places(chunk.id()).filter(|p| !p.here);
            let (Some(place), None) = (places.next(), places.next()) else { break };
            let follows = place.spot.object == at.object && place.spot.offset == at.offset;
            if !follows || place.spot.chunk.len as usize != chunk.bytes().len() {
                break;
            }
            run.push(place.spot);
            at.offset += u64::from(place.spot.chunk.len);
        }
        run
    }
    fn put_run(&self, run: &[Spot], chunks: &[Verified], objects: &Objects) -> Result<(), StoreError> {
        let Some(first) = run.first() else { return Ok(()) };
        let size = run.iter().map(|s| u64::from(s.chunk.len)).sum();
        objects.room_for(size)?;
        let Some(file) = self.file(first)? else { return Ok(()) };
        let parts: Vec<&[u8]> = chunks.iter().take(run.len()).map(Verified::bytes).collect();
        file.write(&parts, first.offset).map_err(|e| StoreError::io("write", &self.path(first.object), e))?;
        let goes_on = {
            let mut state = self.state();
            run.iter().map(|spot| self.mark(&mut state, spot)).last().flatten()
        };
        if let Some(goes_on) = goes_on {
            self.advance(&goes_on, &file.file, run, &parts);
        }
        self.account(run, false)
    }
    /// Written chunks of one object wait for log and sync.
    fn account(&self, spots: &[Spot], single: bool) -> Result<(), StoreError> {
        let mut state = self.state();
        if spots.first().is_none_or(|s| state.expected.get(s.object).is_none_or(|open| open.life() != s.life)) {
            return Ok(());
        }
        let size: u64 = spots.iter().map(|s| u64::from(s.chunk.len)).sum();
        state.unsynced.extend_from_slice(spots);
        if !single {
            state.unlogged.spots.extend_from_slice(spots);
            state.unlogged.bytes += size;
        }
        if state.unlogged.bytes >= LOG {
            // Before anybody waits for the disk: a kill is not to cost more.
            drop(state);
            self.log_written()?;
            state = self.state();
        }
        self.written(state, size)
    }
    /// Writes a chunk to its place, and from then on it is here.
    fn write(&self, spot: &Spot, single: bool, bytes: &[u8], objects: &Objects) -> Result<(), StoreError> {
        if single {
            return self.write_single(spot, bytes, objects);
        }
        let Some(file) = self.file(spot)? else { return Ok(()) };
        file.write(&[bytes], spot.offset).map_err(|e| StoreError::io("write", &self.path(spot.object), e))?;
        let run = self.mark(&mut self.state(), spot);
        if let Some(run) = run {
            self.advance(&run, &file.file, &[*spot], &[bytes]);
        }
        Ok(())
    }
    /// An object of one chunk. A kill may leave a part of it: its hash tells when it is expected again.
    fn write_single(&self, spot: &Spot, bytes: &[u8], objects: &Objects) -> Result<(), StoreError> {
        let name = spot.object.to_string();
        let path = || self.dir.join(&name);
        let write = |e| StoreError::io("write", &path(), e);
        match objects.create(self.folder.as_fd(), &name, tree::mode(false)) {
            Ok(mut file) => {
                let written = file.write_all(bytes);
                drop(file);
                let mut state = self.state();
                if written.is_err() && !state.expected.get(spot.object).is_some_and(|open| open.has(spot)) {
                    let _ = std::fs::remove_file(path());
                }
                written.map_err(write)?;
                self.mark(&mut state, spot);
                return Ok(());
            }
            // Somebody is at it, or what was there is wanted again: the whole of it takes that place at once.
            Err(Errno::EXIST) => {}
            Err(e) => return Err(write(e.into())),
        }
        let (temp, mut file) = objects.create_temp(tree::mode(false))?;
        let placed = file.write_all(bytes).and_then(|()| {
            // Under the lock, and only while it is waited for: one that is here may be synced by now and about to get its
            // name, and must not become another file that is not.
            let mut state = self.state();
            if state.expected.get(spot.object).is_some_and(|open| open.has(spot)) {
                return std::fs::remove_file(&temp);
            }
            std::fs::rename(&temp, path())?;
            self.mark(&mut state, spot);
            Ok(())
        });
        placed.map_err(|e| {
            let _ = std::fs::remove_file(&temp);
            StoreError::io("write", &temp, e)
        })
    }
    /// A chunk is at its place. Answers the hash of its object that goes on.
    fn mark(&self, state: &mut State, spot: &Spot) -> Option<Arc<Mutex<Run>>> {
        let Some(open) = state.expected.get_mut(spot.object) else {
            // Assembled in the meantime by somebody who had the same chunk: nothing of this may stay. Removed under the
            // lock, so that it is never what somebody puts there anew.
            let _ = rustix::fs::unlinkat(&self.folder, spot.object.to_string(), AtFlags::empty());
            self.release(|object| *object == spot.object);
            return None;
        };
        if spot.life != open.life() {
            // It is expected anew since this was begun, and what was written may stand in a file that is gone.
            return None;
        }
        open.mark(spot, true);
        open.begin_run()
    }
    /// The file of an object on its way, for a place in it; None when that is expected no more, or anew. Under the lock of what
    /// is expected: who looked for places before something was begun anew must not write into what was begun.
    fn file(&self, spot: &Spot) -> Result<Option<Arc<Out>>, StoreError> {
        let state = self.state();
        if state.expected.get(spot.object).is_none_or(|open| open.life() != spot.life) {
            return Ok(None);
        }
        let mut handles = lock(&self.handles);
        let key = (spot.object, spot.life);
        if let Some((_, file)) = handles.iter().find(|(of, _)| *of == key) {
            return Ok(Some(Arc::clone(file)));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, spot.object.to_string(), flags, Mode::from_raw_mode(0o644))
            .map_err(|e| StoreError::io("open", &self.path(spot.object), e))?;
        let file = Arc::new(Out { file: file.into(), turn: Mutex::new(()) });
        if handles.len() == HANDLES {
            handles.pop_front();
        }
        handles.push_back((key, Arc::clone(&file)));
        Ok(Some(file))
    }
    /// The file of an object that is about to be completed; None when it is gone. Nobody gets it from here any more.
    pub(crate) fn last(&self, object: ObjectId) -> Result<Option<File>, StoreError> {
        self.release(|of| *of == object);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, object.to_string(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(StoreError::io("open", &self.path(object), e)),
        }
    }
    /// Nobody gets this file again from here: it is about to become an object, or something else under the same name.
    pub(crate) fn release(&self, gone: impl Fn(&ObjectId) -> bool) {
        lock(&self.handles).retain(|((object, _), _)| !gone(object));
    }

    fn is_here(&self, spot: &Spot) -> bool {
        self.state().expected.get(spot.object).is_some_and(|open| open.has(spot))
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
        self.write(spot, single, bytes, objects)
    }
    /// Objects that became whole are on their way no more. What still stands under their names came after they did, from
    /// another fetch, or was begun before somebody else brought the whole.
    pub(crate) fn finish(&self, done: &HashSet<ObjectId>) -> Result<(), StoreError> {
        let idle = |state: &State| state.expected.is_empty() && state.left.is_empty();
        let mut state = self.state();
        let left: Vec<ObjectId> = done.iter().filter(|object| state.expected.leave(**object)).copied().collect();
        self.clear(&left);
        // After the names: a writer that came late may have opened a file just before.
        self.release(|object| done.contains(object));
        self.drop_written(&mut state, |s| done.contains(&s.object));
        let empty = idle(&state);
        drop(state);
        if empty {
            let mut have = lock(&self.have);
            if idle(&self.state()) {
                have.empty()?;
            }
        }
        Ok(())
    }
    /// Takes away what stands under these names; mostly nothing does. Many are looked for by one listing.
    fn clear(&self, objects: &[ObjectId]) {
        let names = objects.iter().map(ToString::to_string);
        let stand: Vec<String> = match std::fs::read_dir(&self.dir) {
            Ok(folder) if objects.len() > LISTED => {
                let names: HashSet<String> = names.collect();
                let found = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                found.filter(|name| names.contains(name)).collect()
            }
            _ => names.collect(),
        };
        for name in stand {
            let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
    /// Removes what is on its way for nobody: what an earlier life left, and what was let go in this one.
    pub(crate) fn sweep(&self, spared: impl Fn(&ObjectId) -> bool) {
        let mut state = self.state();
        let State { expected, recovered, left, .. } = &mut *state;
        let mut gone: HashSet<ObjectId> = left.extract_if(|object, _| !spared(object)).map(|(o, _)| o).collect();
        recovered.retain(|_, spots| {
            spots.retain(|s| !gone.contains(&s.object));
            !spots.is_empty()
        });
        let given_up: Vec<ObjectId> = expected.objects().filter(|o| !spared(o)).collect();
        gone.extend(given_up.into_iter().filter(|o| expected.leave(*o)));
        self.drop_written(&mut state, |s| gone.contains(&s.object));
        for object in &gone {
            let _ = std::fs::remove_file(self.path(*object));
        }
        self.release(|object| gone.contains(object));
    }
    /// Whether an object is expected with exactly these chunks.
    pub(crate) fn agrees(&self, layout: &Layout) -> bool {
        self.state().expected.get(layout.object).is_some_and(|open| open.layout() == layout)
    }
    /// Expects these objects as nothing of them were here: what stands under their names is not to be trusted.
    pub(crate) fn begin_anew(&self, layouts: &[Layout]) {
        let objects: HashSet<ObjectId> = layouts.iter().map(|l| l.object).collect();
        let mut state = self.state();
        for layout in layouts {
            state.expected.leave(layout.object);
            let _ = rustix::fs::unlinkat(&self.folder, layout.object.to_string(), AtFlags::empty());
            state.expected.enter(Open::new(layout));
        }
        self.release(|object| objects.contains(object));
        self.drop_written(&mut state, |s| objects.contains(&s.object));
    }
    /// A sync failed that was about these: nobody knows what the disk holds of their files, also of what came since.
    pub(crate) fn give_up(&self, objects: &BTreeSet<ObjectId>) {
        let layouts: Vec<Layout> = {
            let state = self.state();
            objects.iter().filter_map(|o| Some(state.expected.get(*o)?.layout().clone())).collect()
        };
        self.begin_anew(&layouts);
    }
    /// While this lives nothing is synced beside whoever holds it: what fails then, fails for that one.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        lock(&self.committing)
    }
}

#[cfg(test)]
mod tests;
