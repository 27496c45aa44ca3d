//! Chunks in and out of a disk: what is here, reading it, and making objects of what came. Invariant: bytes are hashed
//! on their way out, whatever any log or index says; an object appears only after the whole of it was hashed.

use crate::{
    contract::{Layout, StoreError},
    digest,
    disk::{DiskStore, lock},
    expected::Spot,
    index::Location,
    objects::Arrival,
    tree,
};
use rayon::prelude::*;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
    limits,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
};

/// Chunks that are read together while an object is filled: at most 4 MiB.
const FILL: usize = 16;

/// Where a chunk can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Site {
    Partial(Spot),
    Object(Location),
}

impl DiskStore {
    fn locate(&self, chunk: &ChunkRef) -> Option<Site> {
        if let Some(spot) = self.partials.find(chunk) {
            return Some(Site::Partial(spot));
        }
        if chunk.len as usize > limits::CHUNK_MIN
            && let Some(location) = self.index.get(chunk)
        {
            return Some(Site::Object(location));
        }
        // An object that fits a span is a chunk of its own; this needs no index, and most files are such objects.
        let object = ObjectId(chunk.id.0);
        if self.objects.size(object) == Some(u64::from(chunk.len)) {
            return Some(Site::Object(Location { object, offset: 0, len: chunk.len }));
        }
        // Last, because only tails of larger files are so small and not their own object.
        if chunk.len as usize > limits::CHUNK_MIN { None } else { self.index.get(chunk).map(Site::Object) }
    }

    pub(crate) fn survey_chunks(&self, chunks: &[ChunkRef]) -> Result<Bitmap, StoreError> {
        // A second time when the index broke on the way: what it held is still here.
        for _ in 0..2 {
            self.mend()?;
            let found: Vec<bool> = chunks.par_iter().with_min_len(64).map(|c| self.locate(c).is_some()).collect();
            if self.index.is_dumb() {
                continue;
            }
            let mut map = Bitmap::empty(chunks.len());
            found.into_iter().enumerate().for_each(|(i, here)| map.set(i, here));
            return Ok(map);
        }
        let what = "it breaks whenever it is rebuilt; check the disk".to_owned();
        Err(StoreError::Damaged { path: self.dir().join("index"), object: None, what })
    }

    pub(crate) fn read_chunks(&self, chunks: &[ChunkRef]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.mend()?;
        let mut last = None;
        let read = |chunk: &ChunkRef| {
            if chunk.len as usize > limits::SPAN_BYTES {
                return Ok(None);
            }
            let mut bytes = vec![0; chunk.len as usize];
            Ok(self.read_chunk(chunk, &mut bytes, &mut last)?.then_some(bytes))
        };
        chunks.iter().map(read).collect()
    }
    /// One after the other in `room`, which is not cleared before.
    pub(crate) fn read_chunks_into(&self, chunks: &[ChunkRef], room: &mut [u8]) -> Result<Bitmap, StoreError> {
        self.mend()?;
        let (mut held, mut last) = (Bitmap::empty(chunks.len()), None);
        let mut free = room;
        for (at, chunk) in chunks.iter().enumerate() {
            // What there is no room for is left out, as what is not here.
            let Some(bytes) = free.get_mut(..chunk.len as usize) else { continue };
            if self.read_chunk(chunk, bytes, &mut last)? {
                held.set(at, true);
                free = free.split_at_mut(chunk.len as usize).1;
            }
        }
        Ok(held)
    }
    /// Whether the chunk is here, and then in `bytes`, which are as long as it. Adjacent chunks mostly stand in one file: the
    /// `last` one stays open.
    fn read_chunk(
        &self,
        chunk: &ChunkRef,
        bytes: &mut [u8],
        last: &mut Option<(Site, File)>,
    ) -> Result<bool, StoreError> {
        // Each failed try takes a wrong answer away, or finds that the file moved on; the bound is against the unknown.
        for _ in 0..4 {
            let Some(site) = self.locate(chunk) else { return Ok(false) };
            let (object, offset) = match site {
                Site::Partial(spot) => (spot.object, spot.offset),
                Site::Object(location) => (location.object, location.offset),
            };
            let same = |known: &Site| match (known, &site) {
                (Site::Partial(a), Site::Partial(b)) => a.object == b.object,
                (Site::Object(a), Site::Object(b)) => a.object == b.object,
                _ => false,
            };
            if !last.as_ref().is_some_and(|(known, _)| same(known)) {
                *last = match site {
                    Site::Partial(_) => File::open(self.partials.path(object)).ok(),
                    Site::Object(_) => self.objects.open_object(object)?,
                }
                .map(|file| (site, file));
            }
            let read = last.as_ref().is_some_and(|(_, file)| file.read_exact_at(bytes, offset).is_ok());
            if read && ChunkId::of(bytes) == chunk.id {
                return Ok(true);
            }
            *last = None;
            match site {
                // Between the look and the read it became whole: the same bytes at the same place, under another name,
                // which the index learns only when all of its fetch is whole.
                Site::Partial(spot) if self.objects.has(spot.object) => {
                    if self.read_whole(&spot, bytes)? {
                        return Ok(true);
                    }
                }
                Site::Partial(spot) => self.partials.forget(&spot),
                // A sweep took it between the look and the reading; nobody is to blame.
                Site::Object(location) if !self.objects.has(location.object) => {
                    self.index.remove(chunk, &location);
                }
                Site::Object(location) => {
                    let good = self.suspect(location.object)?;
                    if good || !self.objects.has(location.object) {
                        // The object is not to blame, or gone: the entry is wrong.
                        self.index.remove(chunk, &location);
                    }
                }
            }
        }
        Ok(false)
    }

    /// A chunk of an object that was on its way a moment ago, if it is what it was.
    fn read_whole(&self, spot: &Spot, bytes: &mut [u8]) -> Result<bool, StoreError> {
        let Some(file) = self.objects.open_object(spot.object)? else { return Ok(false) };
        Ok(file.read_exact_at(bytes, spot.offset).is_ok() && ChunkId::of(bytes) == spot.chunk.id)
    }

    /// Whether nobody has logged how an object that is here is cut: a crash, or another call that goes on, may stand between its
    /// name and that. Whoever acknowledges it logs it then; else its chunks would be missed after the next start, until it is
    /// cut again.
    pub(crate) fn lacks_layout(&self, chunks: &[ChunkRef]) -> bool {
        let ends = [chunks.first(), chunks.last()];
        chunks.len() > 1 && ends.into_iter().flatten().any(|chunk| self.locate(chunk).is_none())
    }

    pub(crate) fn expect_layouts(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        layouts.iter().try_for_each(Layout::check)?;
        // Leased before looking what is here, so that no sweep comes in between.
        {
            let mut flight = lock(&self.flight);
            flight.announced += 1;
            let number = flight.announced;
            flight.leased.extend(layouts.iter().map(|l| (l.object, number)));
        }
        let open: Vec<&Layout> = layouts.par_iter().with_min_len(64).filter(|l| !self.objects.has(l.object)).collect();
        self.partials.expect(&open);
        // Looked at again: what another fetch made whole between the look and now was let go before it was entered, and
        // would be expected for ever.
        let late = open.par_iter().with_min_len(64).filter(|l| self.objects.has(l.object)).map(|l| l.object);
        let late: HashSet<ObjectId> = late.collect();
        if late.is_empty() { Ok(()) } else { self.partials.finish(&late) }
    }

    pub(crate) fn assemble_layouts(&self, layouts: &[Layout]) -> Result<(), StoreError> {
        let _turn = lock(&self.assembling);
        // Whoever syncs also gives names: what is found open here stays so. And the disk tells of a failed write once: whoever
        // hears of it must not be another one than who acknowledges.
        let _syncs = self.partials.hold_syncs();
        // What is acknowledged without being written is looked at once more.
        self.objects.look_again(&self.objects.named_before(layouts));
        self.expect_layouts(layouts)?;
        let open: Vec<&Layout> = layouts.par_iter().with_min_len(64).filter(|l| !self.objects.has(l.object)).collect();
        let open: Vec<&Layout> =
            open.into_iter().map(|l| (l.object, l)).collect::<BTreeMap<_, _>>().into_values().collect();
        // Two fetches announced other chunks under one name: all cut alike, so one of the two lies, and what it put there
        // is not to become part of the other's.
        let other: Vec<Layout> = open.iter().filter(|l| !self.partials.agrees(l)).map(|l| (*l).clone()).collect();
        self.partials.begin_anew(&other);
        self.all_here(&open)?;
        let arrivals: Result<Vec<Arrival>, StoreError> = open.par_iter().map(|l| self.complete(l)).collect();
        let arrivals = arrivals?;
        let named = self.name_wholes(layouts, &open, &arrivals);
        // Some may have their names by now: whoever tries again finds them here, and does not say how they are cut.
        named.inspect_err(|_| self.rebuild.doubt())?;
        self.partials.finish(&layouts.iter().map(|l| l.object).collect::<HashSet<_>>())?;
        let mut flight = lock(&self.flight);
        for layout in layouts {
            flight.leased.remove(&layout.object);
        }
        // No longer announced, and perhaps unknown to whoever said what is kept before this came.
        if flight.sweeps > 0 {
            flight.arrived.extend(layouts.iter().map(|l| l.object));
        }
        Ok(())
    }
    /// From files that are ready to objects that are acknowledged.
    fn name_wholes(&self, layouts: &[Layout], open: &[&Layout], arrivals: &[Arrival]) -> Result<(), StoreError> {
        let admitted = self.objects.admit(arrivals);
        admitted.inspect_err(|_| self.partials.give_up(&open.iter().map(|l| l.object).collect()))?;
        arrivals.iter().for_each(|arrival| self.objects.prove(arrival.object, arrival.executable));
        // What another call has named and not synced yet, this one is about to acknowledge.
        self.objects.settle(layouts.iter().map(|l| l.object))?;
        let named: HashSet<ObjectId> = open.iter().map(|l| l.object).collect();
        let unlogged = layouts.iter().filter(|l| !named.contains(&l.object) && self.lacks_layout(&l.chunks));
        self.record_layouts(open.iter().copied().chain(unlogged))
    }
    /// Refuses before anything is written when a chunk is nowhere.
    fn all_here(&self, open: &[&Layout]) -> Result<(), StoreError> {
        self.partials.hear();
        // Each chunk once: an image of zeros lacks the same one a hundred thousand times.
        let mut seen = HashSet::new();
        let lacking = open.iter().flat_map(|l| self.partials.lacking(l.object));
        let lacking: Vec<Spot> = lacking.filter(|spot| seen.insert(spot.chunk)).collect();
        let here = self.survey_chunks(&lacking.iter().map(|s| s.chunk).collect::<Vec<_>>())?;
        let missing: HashSet<ChunkId> = here.zeros().filter_map(|i| Some(lacking.get(i)?.chunk.id)).collect();
        match here.zeros().next().and_then(|i| lacking.get(i)) {
            Some(first) => Err(StoreError::Incomplete { missing: missing.len(), object: first.object }),
            None => Ok(()),
        }
    }
    /// Fills in what is elsewhere in the store, hashes the whole and sets the mode.
    fn complete(&self, layout: &Layout) -> Result<Arrival, StoreError> {
        // Each chunk is read once, however many places it has.
        let (mut chunks, mut places) = (Vec::new(), HashMap::<ChunkRef, Vec<Spot>>::new());
        for spot in self.partials.lacking(layout.object) {
            let known = places.entry(spot.chunk).or_default();
            chunks.extend(known.is_empty().then_some(spot.chunk));
            known.push(spot);
        }
        for part in chunks.chunks(FILL) {
            for (chunk, bytes) in part.iter().zip(self.read_chunks(part)?) {
                // The survey found it, so its object was damaged just now.
                let Some(bytes) = bytes else {
                    return Err(StoreError::Incomplete { missing: 1, object: layout.object });
                };
                for spot in places.get(chunk).into_iter().flatten() {
                    self.partials.fill(spot, &bytes, &self.objects)?;
                }
            }
        }
        let since = self.partials.heard();
        let arrival = |file| Arrival { file, object: layout.object, executable: false, since };
        if layout.chunks.is_empty() {
            if layout.object != ObjectId::of(b"") {
                return Err(StoreError::Unsound { object: layout.object, rule: "its chunks do not spell it" });
            }
            return Ok(arrival(self.objects.create_temp(tree::mode(false))?.0));
        }
        let path = self.partials.path(layout.object);
        if layout.chunks.len() == 1 {
            // Written whole from bytes that were hashed, in this life or when it was expected.
            return Ok(arrival(path));
        }
        let io = |action, e| StoreError::io(action, &path, e);
        // A write that came late went into a file that a sweep had taken meanwhile.
        let Some(file) = self.partials.last(layout.object)? else { return Err(self.gone(layout)) };
        file.set_len(layout.size).map_err(|e| io("truncate", e))?;
        // Taken while the chunks came; when it is not right, the file itself is asked before anybody is blamed.
        if self.partials.digest(layout.object, &file) != Some(layout.object) {
            let whole = File::open(&path).map_err(|e| io("open", e))?;
            if digest::of_file(&whole, |_| Ok(()), &path)? != layout.object {
                return Err(self.blame(layout, &file));
            }
        }
        file.set_permissions(Permissions::from_mode(tree::mode(false))).map_err(|e| io("set mode of", e))?;
        Ok(arrival(path))
    }
    /// A file on its way that is not there: all of it is wanted again.
    fn gone(&self, layout: &Layout) -> StoreError {
        let mut offset = 0;
        for chunk in &layout.chunks {
            self.partials.forget(&Spot::new(layout.object, offset, *chunk));
            offset += u64::from(chunk.len);
        }
        StoreError::Incomplete { missing: layout.chunks.len(), object: layout.object }
    }
    /// A whole that hashes wrong: chunks that are damaged are wanted again; when none is, the layout lies.
    fn blame(&self, layout: &Layout, file: &File) -> StoreError {
        let mut offset = 0;
        let mut missing = 0;
        for chunk in &layout.chunks {
            let mut bytes = vec![0; chunk.len as usize];
            if file.read_exact_at(&mut bytes, offset).is_err() || ChunkId::of(&bytes) != chunk.id {
                self.partials.forget(&Spot::new(layout.object, offset, *chunk));
                missing += 1;
            }
            offset += u64::from(chunk.len);
        }
        match missing {
            0 => {
                // It is nobody's any more: whoever has the right chunks is not to find these.
                self.partials.begin_anew(std::slice::from_ref(layout));
                StoreError::Unsound { object: layout.object, rule: "its chunks do not spell it" }
            }
            _ => StoreError::Incomplete { missing, object: layout.object },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::chunk::Verified;

    /// A life that was cut off between an object's name and its layout.
    #[test]
    fn whoever_acknowledges_an_object_logs_how_it_is_cut_where_nobody_came_to_it() {
        let bytes: Vec<u8> = (0..700_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("large"), &bytes).unwrap();
        let (_, chunks) = crate::cutter::cut_whole(&bytes);
        assert!(chunks.len() > 2);
        let layout = Layout { object: ObjectId::of(&bytes), size: bytes.len() as u64, chunks };
        type Acknowledged<'a> = &'a dyn Fn(&DiskStore);
        let by_ingest: Acknowledged<'_> =
            &|store| drop(crate::Store::ingest(store, source.path(), &[], &|_| true).unwrap());
        let by_fetch: Acknowledged<'_> = &|store| store.assemble_layouts(std::slice::from_ref(&layout)).unwrap();
        for acknowledge in [by_ingest, by_fetch] {
            let dir = tempfile::tempdir().unwrap();
            let store = crate::open(dir.path()).unwrap();
            let (file, mut open) = store.objects.create_temp(tree::mode(false)).unwrap();
            std::io::Write::write_all(&mut open, &bytes).unwrap();
            store.objects.admit(&[Arrival { file, object: layout.object, executable: false, since: 0 }]).unwrap();
            acknowledge(&store);
            assert!(store.read_chunks(&layout.chunks).unwrap().iter().all(Option::is_some));
            acknowledge(&store);
            // The store may have come to it by itself, beside.
            let logged = store.layouts_of(layout.object).unwrap();
            assert!((1..=2).contains(&logged.len()) && logged.iter().all(|l| *l == layout), "{}", logged.len());
        }
    }

    #[test]
    fn chunks_are_read_while_their_object_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::open(dir.path()).unwrap();
        let parts: Vec<Verified> = (0..2).map(|n| Verified::own(vec![n; 20_000])).collect();
        let whole: Vec<u8> = parts.iter().flat_map(|p| p.bytes().to_vec()).collect();
        let chunks: Vec<ChunkRef> = parts.iter().map(|p| ChunkRef { id: p.id(), len: 20_000 }).collect();
        let layout = Layout { object: ObjectId::of(&whole), size: 40_000, chunks };
        store.expect_layouts(std::slice::from_ref(&layout)).unwrap();
        parts.iter().for_each(|part| store.partials.put(part, &store.objects).unwrap());
        // Between the new name and the moment in which the index knows of it, which is a sync or two later.
        let file = store.partials.path(layout.object);
        store.objects.admit(&[Arrival { file, object: layout.object, executable: false, since: 0 }]).unwrap();
        for (part, read) in parts.iter().zip(store.read_chunks(&layout.chunks).unwrap()) {
            assert_eq!(read.as_deref(), Some(part.bytes()));
        }
    }

    /// As of an image of zeros whose older version is here: the chunk is looked for once, and has fifty thousand places.
    #[test]
    fn a_chunk_with_many_places_is_filled_in_from_elsewhere() {
        const PLACES: usize = 50_000;
        let dir = tempfile::tempdir().unwrap();
        let store = crate::open(dir.path()).unwrap();
        let part = Verified::own(vec![0]);
        let chunk = ChunkRef { id: part.id(), len: 1 };
        let image = |places: usize| Layout {
            object: ObjectId::of(&vec![0; places]),
            size: places as u64,
            chunks: vec![chunk; places],
        };
        let (older, newer) = (image(PLACES), image(PLACES + 1));
        store.expect_layouts(std::slice::from_ref(&older)).unwrap();
        store.partials.put(&part, &store.objects).unwrap();
        store.assemble_layouts(&[older]).unwrap();
        store.expect_layouts(std::slice::from_ref(&newer)).unwrap();
        store.assemble_layouts(std::slice::from_ref(&newer)).unwrap();
        assert!(store.objects.has(newer.object));
    }
}
