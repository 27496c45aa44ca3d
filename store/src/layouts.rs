//! Which chunks every larger object has: a log that is truth enough to fill the index from. Invariant: a layout is
//! logged after its object is durable, and indexed only under the lock of the log, so that a checkpoint never runs ahead
//! of the index; an object without a layout can always be cut again.

use crate::{
    contract::{Damage, Layout, StoreError},
    cutter::{Cutter, SEGMENT},
    disk::{DiskStore, lock},
    index,
    journal::{Log, Scan},
};
use rayon::prelude::*;
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
    limits,
};
use std::{collections::BTreeSet, io::Read};

/// Room that a new index needs to begin: sled grows in segments of half a megabyte.
const INDEX_ROOM: u64 = 2 << 20;

fn encode_layout(layout: &Layout) -> Vec<u8> {
    let mut out = layout.object.0.to_vec();
    for chunk in &layout.chunks {
        out.extend_from_slice(&chunk.id.0);
        out.extend_from_slice(&chunk.len.to_le_bytes());
    }
    out
}

fn decode_layout(payload: &[u8]) -> Option<Layout> {
    let (object, rest) = payload.split_first_chunk::<32>()?;
    let parts = rest.chunks_exact(36);
    if !parts.remainder().is_empty() {
        return None;
    }
    let mut chunks = Vec::with_capacity(parts.len());
    for part in parts {
        let (id, len) = part.split_first_chunk::<32>()?;
        chunks.push(ChunkRef { id: ChunkId(*id), len: u32::from_le_bytes(len.try_into().ok()?) });
    }
    let size = chunks.iter().map(|c| u64::from(c.len)).sum();
    let layout = Layout { object: ObjectId(*object), size, chunks };
    layout.check().is_ok().then_some(layout)
}

/// The layouts of a log, the newest of an object last.
pub(crate) fn decode(found: &Scan) -> impl Iterator<Item = Layout> + '_ {
    found.records.iter().filter_map(|(_, payload)| decode_layout(payload))
}

impl DiskStore {
    /// Every layout in the log, the newest of an object last.
    pub(crate) fn layouts(&self) -> Result<Vec<Layout>, StoreError> {
        let found = lock(&self.layout_log).read(Log::start())?;
        Ok(decode(&found).collect())
    }
    /// Logs and indexes layouts of whole objects. Those of small ones are not needed: each is a chunk of its own.
    pub(crate) fn record_layouts<'a>(&self, layouts: impl Iterator<Item = &'a Layout>) -> Result<(), StoreError> {
        let layouts: Vec<&Layout> = layouts.filter(|l| l.size > limits::CHUNK_MIN as u64).collect();
        if layouts.is_empty() {
            return Ok(());
        }
        let mut log = lock(&self.layout_log);
        let payloads: Vec<Vec<u8>> = layouts.iter().map(|l| encode_layout(l)).collect();
        log.append(payloads.iter().map(Vec::as_slice))?;
        self.index.insert(layouts.iter().flat_map(|l| index::places(l)));
        if layouts.len() > 1 {
            // A single one is replayed from the log after a crash; a flush for each would cost more than that.
            self.index.checkpoint((log.tag(), log.end()));
        }
        Ok(())
    }
    /// Brings the index up to the end of the log.
    pub(crate) fn catch_up(&self, mark: Option<index::Mark>) -> Result<(), StoreError> {
        let log = lock(&self.layout_log);
        let from = match mark {
            Some((tag, at)) if tag == log.tag() && (Log::start()..=log.end()).contains(&at) => at,
            Some(_) => {
                self.index.renew()?;
                Log::start()
            }
            None => Log::start(),
        };
        let whole = from == Log::start() && mark.is_none();
        if from == log.end() && !whole {
            return Ok(());
        }
        self.replay(&log, from)?;
        if self.index.is_broken() {
            self.index.renew()?;
            self.replay(&log, Log::start())?;
        }
        Ok(())
    }
    fn replay(&self, log: &Log, from: u64) -> Result<(), StoreError> {
        let found = log.read(from)?;
        let layouts: Vec<Layout> = decode(&found).collect();
        let here: Vec<&Layout> = layouts.par_iter().filter(|l| self.objects.has(l.object)).collect();
        self.index.insert(here.into_iter().flat_map(index::places));
        self.index.checkpoint((log.tag(), log.end()));
        Ok(())
    }
    /// Rebuilds the index when it broke.
    pub(crate) fn mend(&self) -> Result<(), StoreError> {
        if self.index.is_broken() {
            let log = lock(&self.layout_log);
            if self.index.is_broken() {
                // Most of all an index breaks because the disk is full; then that is the answer.
                self.objects.room_for(INDEX_ROOM)?;
                self.index.renew()?;
                self.replay(&log, Log::start())?;
                let what = "it broke while in use; rebuilt".to_owned();
                self.note(Damage { file: self.dir().join("index"), object: None, what });
            }
        }
        Ok(())
    }
    /// Begins the index anew from the log.
    pub(crate) fn reindex(&self) -> Result<(), StoreError> {
        let log = lock(&self.layout_log);
        self.index.renew()?;
        self.replay(&log, Log::start())
    }
    /// Cuts objects again that the log does not know: a crash came between their name and their record, or the record
    /// is damaged. An object that was cut otherwise by its publisher is found under our own cuts from then on.
    pub(crate) fn adopt(&self) -> Result<(), StoreError> {
        let known: BTreeSet<ObjectId> = self.layouts()?.into_iter().map(|l| l.object).collect();
        let mut unknown: Vec<ObjectId> = self.objects.list()?.0.into_iter().map(|v| v.object).collect();
        unknown.dedup();
        unknown.retain(|o| !known.contains(o));
        let cut: Result<Vec<Option<Layout>>, StoreError> = unknown.par_iter().map(|o| self.recut(*o)).collect();
        let cut: Vec<Layout> = cut?.into_iter().flatten().collect();
        self.record_layouts(cut.iter())
    }
    /// The standard layout of a whole object; None when it is small, gone or damaged.
    fn recut(&self, object: ObjectId) -> Result<Option<Layout>, StoreError> {
        if self.objects.size(object).is_none_or(|size| size <= limits::CHUNK_MIN as u64) {
            return Ok(None);
        }
        let Some(mut file) = self.objects.open_object(object)? else { return Ok(None) };
        let mut cutter = Cutter::new();
        let mut bytes = Vec::with_capacity(SEGMENT);
        loop {
            bytes.clear();
            let got = (&mut file).take(SEGMENT as u64).read_to_end(&mut bytes);
            if got.map_err(|e| StoreError::io("read", &self.objects.path(object, false), e))? == 0 {
                break;
            }
            cutter.push(&bytes);
        }
        let (id, size, chunks) = cutter.finish();
        Ok((id == object).then_some(Layout { object, size, chunks }))
    }

    /// Writes the layouts log anew with these only, and says so to the index.
    pub(crate) fn rewrite_layouts<'a>(
        &self,
        log: &mut Log,
        layouts: impl Iterator<Item = &'a Layout>,
    ) -> Result<(), StoreError> {
        let payloads: Vec<Vec<u8>> = layouts.map(encode_layout).collect();
        log.rewrite(payloads.iter().map(Vec::as_slice))?;
        self.index.checkpoint((log.tag(), log.end()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_layout_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(layout) = decode_layout(&bytes) {
                prop_assert!(layout.check().is_ok());
                prop_assert_eq!(encode_layout(&layout), bytes);
            }
        }
        #[test]
        fn what_is_written_is_read(object: [u8; 32], parts in prop::collection::vec((any::<[u8; 32]>(), 1u32..1_000_000), 2..30)) {
            let chunks: Vec<ChunkRef> = parts.into_iter().map(|(id, len)| ChunkRef { id: ChunkId(id), len }).collect();
            let size = chunks.iter().map(|c| u64::from(c.len)).sum();
            let layout = Layout { object: ObjectId(object), size, chunks };
            prop_assert_eq!(decode_layout(&encode_layout(&layout)), Some(layout));
        }
    }
}
