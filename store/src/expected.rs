//! What is expected, in memory: objects on their way and the places that wait for each chunk. Invariant: every chunk of
//! every expected object is found under its id, each place once. Ten gigabytes in flight are 160,000 places, so a place
//! is two numbers.

use crate::{contract::Layout, partial::Run};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A chunk's place in a partial file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Spot {
    pub(crate) object: ObjectId,
    pub(crate) offset: u64,
    pub(crate) chunk: ChunkRef,
    /// Of which expectation of the object this speaks; 0 of none in particular. Whoever began to write for an earlier one
    /// may have written into a file that is gone.
    pub(crate) life: u64,
}

impl Spot {
    /// A place in an object, whenever that is expected.
    pub(crate) fn new(object: ObjectId, offset: u64, chunk: ChunkRef) -> Self {
        Self { object, offset, chunk, life: 0 }
    }
    /// The same place, whatever expectation either speaks of.
    pub(crate) fn is_place_of(&self, other: &Self) -> bool {
        (self.object, self.offset, self.chunk) == (other.object, other.offset, other.chunk)
    }
}

/// A spot, and how it stands with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) spot: Spot,
    /// Its bytes are written.
    pub(crate) here: bool,
    /// Its object has no other chunk.
    pub(crate) single: bool,
}

/// An expected object.
#[derive(Debug)]
pub(crate) struct Open {
    layout: Layout,
    /// Where each chunk begins.
    starts: Vec<u64>,
    have: Bitmap,
    /// Its hash, as far as it was taken on the way.
    run: Option<Arc<Mutex<Run>>>,
    /// Which expectation it is; no two are the same, nor 0.
    life: u64,
}

/// The last expectation's number.
static LIVES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy)]
struct Number {
    slot: u32,
    chunk: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    objects: HashMap<ObjectId, u32>,
    /// One place of each chunk, and further ones where it has several.
    first: HashMap<ChunkId, Number>,
    more: HashMap<ChunkId, Vec<Number>>,
}

impl Open {
    pub(crate) fn new(layout: &Layout) -> Self {
        let mut at = 0;
        let start = |c: &ChunkRef| {
            at += u64::from(c.len);
            at - u64::from(c.len)
        };
        let starts = layout.chunks.iter().map(start).collect();
        let life = LIVES.fetch_add(1, Ordering::Relaxed) + 1;
        Self { layout: layout.clone(), starts, have: Bitmap::empty(layout.chunks.len()), run: None, life }
    }
    fn spot(&self, number: usize) -> Option<Spot> {
        let (chunk, offset) = (*self.layout.chunks.get(number)?, *self.starts.get(number)?);
        Some(Spot { object: self.layout.object, offset, chunk, life: self.life })
    }
    /// Says of a spot whether its bytes are here; a spot of another cutting changes nothing.
    pub(crate) fn mark(&mut self, spot: &Spot, here: bool) {
        if let Ok(number) = self.starts.binary_search(&spot.offset)
            && self.spot(number).is_some_and(|own| own.is_place_of(spot) && [0, own.life].contains(&spot.life))
        {
            self.have.set(number, here);
            if !here {
                // What was hashed of it may not be what comes to stand there.
                self.run = None;
            }
        }
    }
    /// Which expectation this is.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }
    /// What is expected.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }
    /// What is known of its hash, if anything is.
    pub(crate) fn run(&self) -> Option<Arc<Mutex<Run>>> {
        self.run.clone()
    }
    /// What is known of its hash from now on; an object of one chunk is hashed already.
    pub(crate) fn begin_run(&mut self) -> Option<Arc<Mutex<Run>>> {
        if self.is_single() {
            return None;
        }
        Some(self.run.get_or_insert_with(|| Arc::new(Mutex::new(Run::new(self.layout.size)))).clone())
    }
    /// Whether all chunks that have bytes in this range are here.
    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let end = self.starts.partition_point(|start| *start < range.end);
        (first..end).all(|number| self.have.get(number))
    }
    /// Whether a spot's bytes are here.
    pub(crate) fn has(&self, spot: &Spot) -> bool {
        self.starts
            .binary_search(&spot.offset)
            .is_ok_and(|number| self.have.get(number) && self.spot(number).is_some_and(|own| own.is_place_of(spot)))
    }
    /// All of it is here.
    pub(crate) fn fill_all(&mut self) {
        self.have = Bitmap::full(self.layout.chunks.len());
    }
    /// Spots whose bytes are not here.
    pub(crate) fn lacking(&self) -> Vec<Spot> {
        self.have.zeros().filter_map(|number| self.spot(number)).collect()
    }
    pub(crate) fn is_single(&self) -> bool {
        self.layout.chunks.len() == 1
    }
}

impl Expected {
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
    /// All that are expected.
    pub(crate) fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.objects.keys().copied()
    }
    pub(crate) fn get(&self, object: ObjectId) -> Option<&Open> {
        self.slots.get(*self.objects.get(&object)? as usize)?.as_ref()
    }
    pub(crate) fn get_mut(&mut self, object: ObjectId) -> Option<&mut Open> {
        self.slots.get_mut(*self.objects.get(&object)? as usize)?.as_mut()
    }
    /// Every place of a chunk.
    pub(crate) fn places(&self, chunk: ChunkId) -> impl Iterator<Item = Place> + '_ {
        let more = self.more.get(&chunk).into_iter().flatten();
        self.first.get(&chunk).into_iter().chain(more).filter_map(|number| {
            let open = self.slots.get(number.slot as usize)?.as_ref()?;
            let chunk = number.chunk as usize;
            Some(Place { spot: open.spot(chunk)?, here: open.have.get(chunk), single: open.is_single() })
        })
    }
    /// Takes in an object that is not expected yet.
    pub(crate) fn enter(&mut self, open: Open) {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        for (number, chunk) in open.layout.chunks.iter().enumerate() {
            let number = Number { slot, chunk: number as u32 };
            match self.first.entry(chunk.id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(number);
                }
                Entry::Occupied(_) => self.more.entry(chunk.id).or_default().push(number),
            }
        }
        self.objects.insert(open.layout.object, slot);
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = Some(open),
            None => self.slots.push(Some(open)),
        }
    }
    /// Lets an object go; false when it was not expected.
    pub(crate) fn leave(&mut self, object: ObjectId) -> bool {
        let Some(slot) = self.objects.remove(&object) else { return false };
        let Some(open) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return false };
        self.free.push(slot);
        // Each chunk once: two images of zeros have the same one a hundred thousand times each.
        let (mut seen, single) = (HashSet::new(), open.is_single());
        for chunk in open.layout.chunks.iter().filter(|chunk| single || seen.insert(chunk.id)) {
            let mut rest = self.more.remove(&chunk.id).unwrap_or_default();
            rest.retain(|n| n.slot != slot);
            if self.first.get(&chunk.id).is_some_and(|n| n.slot == slot) {
                match rest.pop() {
                    Some(next) => self.first.insert(chunk.id, next),
                    None => self.first.remove(&chunk.id),
                };
            }
            if !rest.is_empty() {
                self.more.insert(chunk.id, rest);
            }
        }
        if self.objects.is_empty() {
            // A large fetch is over: give its memory back.
            *self = Self::default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn layout(object: u8, chunks: &[u8]) -> Layout {
        let chunks: Vec<ChunkRef> =
            chunks.iter().map(|c| ChunkRef { id: ChunkId([*c; 32]), len: u32::from(*c) + 1 }).collect();
        Layout { object: ObjectId([object; 32]), size: chunks.iter().map(|c| u64::from(c.len)).sum(), chunks }
    }

    proptest! {
        /// Against the plainest model: a map of layouts, searched from end to end.
        #[test]
        fn places_are_those_of_the_objects_inside(
            steps in prop::collection::vec((any::<bool>(), 0u8..6, prop::collection::vec(0u8..5, 0..8)), 1..40)
        ) {
            let mut expected = Expected::default();
            let mut model: BTreeMap<u8, Layout> = BTreeMap::new();
            for (enter, object, chunks) in steps {
                if !enter {
                    model.remove(&object);
                    expected.leave(ObjectId([object; 32]));
                } else if let std::collections::btree_map::Entry::Vacant(vacant) = model.entry(object) {
                    let layout = layout(object, &chunks);
                    expected.enter(Open::new(&layout));
                    vacant.insert(layout);
                }
                for chunk in 0..5 {
                    let id = ChunkId([chunk; 32]);
                    let mut found: Vec<_> = expected.places(id).map(|p| (p.spot.object, p.spot.offset)).collect();
                    found.sort();
                    let mut right = Vec::new();
                    for layout in model.values() {
                        let mut at = 0;
                        for c in &layout.chunks {
                            if c.id == id {
                                right.push((layout.object, at));
                            }
                            at += u64::from(c.len);
                        }
                    }
                    prop_assert_eq!(found, right);
                }
                prop_assert_eq!(expected.is_empty(), model.is_empty());
            }
        }
    }

    /// Two images of zeros: one chunk, again and again. If each of one's places were held against each of the other's, this
    /// would take an hour.
    #[test]
    fn one_chunk_may_have_a_million_places() {
        let mut expected = Expected::default();
        let zeros = |object| layout(object, &[7; 1_000_000]);
        (0..3).for_each(|object| expected.enter(Open::new(&zeros(object))));
        assert_eq!(expected.places(ChunkId([7; 32])).count(), 3_000_000);
        assert!(expected.leave(ObjectId([0; 32])));
        assert!(expected.leave(ObjectId([2; 32])));
        let left: Vec<_> = expected.places(ChunkId([7; 32])).map(|p| (p.spot.object, p.spot.offset)).collect();
        let mut offsets: Vec<u64> = left.iter().map(|(_, offset)| *offset).collect();
        offsets.sort_unstable();
        assert!(left.iter().all(|(object, _)| *object == ObjectId([1; 32])));
        assert!(offsets.iter().copied().eq((0..1_000_000).map(|n| n * 8)));
    }
}
