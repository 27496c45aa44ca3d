//! What the layouts log says, in memory: where every chunk is, 48 bytes each. It answers for the index while that is being
//! opened or filled, and a check compares the index with it. Invariant: it says only what the log said, or was told since,
//! and names no object that is not here.

use crate::{
    contract::Layout,
    disk::lock,
    index::{Location, Mark, places},
    objects::Objects,
};
use rayon::prelude::*;
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

/// A chunk of the log. Its object is a number, so that a place is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    chunk: ChunkId,
    object: u32,
    len: u32,
    offset: u64,
}

/// What came and went since the log was read.
#[derive(Debug, Default)]
struct Since {
    entered: HashMap<ChunkId, Vec<Location>>,
    /// Places that turned out wrong.
    denied: HashMap<ChunkId, Vec<Location>>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    objects: Arc<Objects>,
    /// How far the log was read.
    read: Mark,
    /// Objects of the log, with where the record of each ends there.
    known: Vec<(ObjectId, u64)>,
    /// Ascending by chunk, so that an index is filled from one end to the other: sled grows to half the size that way, in
    /// a fifth of the time.
    entries: Vec<Entry>,
    since: Mutex<Since>,
}

/// Gathers layouts in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    known: Vec<(ObjectId, u64)>,
    entries: Vec<Entry>,
}

impl Gathered {
    /// Takes in a layout whose record ends at `end`.
    pub(crate) fn add(&mut self, layout: &Layout, end: u64) {
        let object = self.known.len() as u32;
        self.known.push((layout.object, end));
        self.entries.extend(places(layout).map(|(chunk, at)| Entry {
            chunk: chunk.id,
            object,
            len: chunk.len,
            offset: at.offset,
        }));
    }
    /// The table of all of them.
    pub(crate) fn table(mut self, objects: Arc<Objects>, read: Mark) -> Table {
        self.entries.shrink_to_fit();
        self.entries.sort_unstable();
        Table { objects, read, known: self.known, entries: self.entries, since: Mutex::default() }
    }
}

impl Table {
    fn location(&self, entry: &Entry) -> Option<Location> {
        let (object, _) = *self.known.get(entry.object as usize)?;
        Some(Location { object, offset: entry.offset, len: entry.len })
    }
    fn logged(&self, chunk: ChunkId) -> impl Iterator<Item = Location> + '_ {
        let first = self.entries.partition_point(|e| e.chunk < chunk);
        let rest = self.entries.get(first..).unwrap_or_default();
        rest.iter().take_while(move |e| e.chunk == chunk).filter_map(|e| self.location(e))
    }
    /// Whether the log, as it was read, has this chunk at this place.
    pub(crate) fn has(&self, chunk: ChunkId, at: &Location) -> bool {
        self.logged(chunk).any(|known| known == *at)
    }
    /// Where a chunk is, if it is here.
    pub(crate) fn get(&self, chunk: &ChunkRef) -> Option<Location> {
        let (entered, denied) = {
            let since = lock(&self.since);
            let of = |map: &HashMap<ChunkId, Vec<Location>>| map.get(&chunk.id).cloned().unwrap_or_default();
            (of(&since.entered), of(&since.denied))
        };
        let mut all = self.logged(chunk.id).chain(entered);
        all.find(|at| at.len == chunk.len && !denied.contains(at) && self.objects.has(at.object))
    }
    /// Enters what became whole since the log was read.
    pub(crate) fn enter(&self, places: impl IntoIterator<Item = (ChunkRef, Location)>) {
        let mut since = lock(&self.since);
        for (chunk, at) in places {
            // It is there anew, whatever was found wrong with it before.
            if let Some(denied) = since.denied.get_mut(&chunk.id) {
                denied.retain(|known| *known != at);
            }
            let known = since.entered.entry(chunk.id).or_default();
            if !known.contains(&at) {
                known.push(at);
            }
        }
    }
    /// A place turned out wrong.
    pub(crate) fn deny(&self, chunk: ChunkId, at: &Location) {
        lock(&self.since).denied.entry(chunk).or_default().push(*at);
    }
    /// What came since the log was read, then what went.
    pub(crate) fn since(&self) -> [Vec<(ChunkRef, Location)>; 2] {
        let since = lock(&self.since);
        [&since.entered, &since.denied].map(|map| {
            let each = |(id, all): (&ChunkId, &Vec<Location>)| {
                let id = *id;
                all.clone().into_iter().map(move |at| (ChunkRef { id, len: at.len }, at))
            };
            map.iter().flat_map(each).collect()
        })
    }
    /// Objects of the log, each as often as it has records.
    pub(crate) fn known(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.known.iter().map(|(object, _)| *object)
    }
    /// How many different chunks it has of objects that are here, and each of them with one of its places, ascending: of
    /// records that end behind `from` only.
    pub(crate) fn from(&self, from: u64) -> impl Iterator<Item = (ChunkRef, Location)> + '_ {
        let here: Vec<bool> =
            self.known.par_iter().map(|(object, end)| *end > from && self.objects.has(*object)).collect();
        self.first_of(here)
    }
    /// How many different chunks these objects have. By this thread alone, because a check asks it under the lock of the log.
    pub(crate) fn count(&self, objects: &HashSet<ObjectId>) -> u64 {
        self.first_of(self.known().map(|object| objects.contains(&object)).collect()).count() as u64
    }
    fn first_of(&self, here: Vec<bool>) -> impl Iterator<Item = (ChunkRef, Location)> + '_ {
        let mut last = None;
        self.entries.iter().filter_map(move |entry| {
            if last == Some(entry.chunk) || !here.get(entry.object as usize).copied().unwrap_or_default() {
                return None;
            }
            last = Some(entry.chunk);
            Some((ChunkRef { id: entry.chunk, len: entry.len }, self.location(entry)?))
        })
    }
    /// Chunks of objects that the log knows and that are not here, with the place there and another one, if there is any.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (ChunkRef, Location, Option<Location>)> + '_ {
        let gone: Vec<bool> = self.known.par_iter().map(|(object, _)| !self.objects.has(*object)).collect();
        let lost = move |entry: &&Entry| gone.get(entry.object as usize).copied().unwrap_or_default();
        self.entries.iter().filter(lost).filter_map(|entry| {
            let chunk = ChunkRef { id: entry.chunk, len: entry.len };
            Some((chunk, self.location(entry)?, self.get(&chunk)))
        })
    }
    /// How far the log was read.
    pub(crate) fn read(&self) -> Mark {
        self.read
    }
    /// Entries in all.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(object: u8, chunks: &[u8]) -> Layout {
        let chunks: Vec<ChunkRef> = chunks.iter().map(|c| ChunkRef { id: ChunkId([*c; 32]), len: 100 }).collect();
        Layout { object: ObjectId([object; 32]), size: 100 * chunks.len() as u64, chunks }
    }

    #[test]
    fn a_chunk_is_where_an_object_that_is_here_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Arc::new(Objects::open(dir.path()).unwrap());
        let mut gathered = Gathered::default();
        gathered.add(&layout(1, &[7, 8]), 100);
        gathered.add(&layout(2, &[8, 9]), 200);
        let table = gathered.table(objects.clone(), ([0; 8], 0));
        let chunk = |n: u8| ChunkRef { id: ChunkId([n; 32]), len: 100 };
        assert_eq!(table.get(&chunk(8)), None, "none of the objects is here");
        let put = |n: u8| {
            std::fs::write(objects.path(ObjectId([n; 32]), false), b"").unwrap();
            objects.list().unwrap();
        };
        put(2);
        let second = Location { object: ObjectId([2; 32]), offset: 0, len: 100 };
        assert_eq!(table.get(&chunk(8)), Some(second));
        assert_eq!(table.get(&ChunkRef { len: 99, ..chunk(8) }), None);
        table.deny(chunk(8).id, &second);
        assert_eq!(table.get(&chunk(8)), None);
        put(1);
        let first = Location { object: ObjectId([1; 32]), offset: 100, len: 100 };
        assert_eq!(table.get(&chunk(8)), Some(first));
        let filled: Vec<u8> = table.from(0).map(|(chunk, _)| chunk.id.0[0]).collect();
        assert_eq!(filled, [7, 8, 9]);
        let filled: Vec<u8> = table.from(100).map(|(chunk, _)| chunk.id.0[0]).collect();
        assert_eq!(filled, [8, 9]);
        assert_eq!(table.moved().count(), 0);
        objects.remove(ObjectId([1; 32])).unwrap();
        let moved: Vec<_> = table.moved().map(|(chunk, gone, at)| (chunk.id.0[0], gone.object.0[0], at)).collect();
        assert_eq!(moved, [(7, 1, None), (8, 1, None)], "the place of 8 in the other object was denied");
        table.enter([(chunk(8), second), (chunk(5), second)]);
        assert_eq!(table.moved().nth(1).unwrap().2, Some(second));
        assert_eq!(table.get(&chunk(5)), Some(second));
        assert_eq!(table.since()[1], []);
    }
}
