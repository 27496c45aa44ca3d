//! Which chunks every larger object has: a log that is truth enough to fill the index from. Invariant: a layout is
//! logged after its object is durable, and indexed only under the lock of the log, so that a checkpoint never runs ahead
//! of the index; an object without a layout can always be cut again.

use crate::{
    contract::{Layout, StoreError},
    cutter::{Cutter, SEGMENT},
    disk::{DiskStore, lock},
    index::{self, Index},
    journal::{Log, Scan},
    objects::Objects,
    table::{Gathered, Table},
};
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
    limits,
};
use std::{io::Read, sync::Arc};

fn encode_layout(layout: &Layout) -> Vec<u8> {
    let mut out = layout.object.0.to_vec();
    for chunk in &layout.chunks {
        out.extend_from_slice(&chunk.id.0);
        out.extend_from_slice(&chunk.len.to_le_bytes());
    }
    out
}

pub(crate) fn decode_layout(payload: &[u8]) -> Option<Layout> {
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

/// What a log says now, in memory. By this thread alone: it is mostly made under the lock of the log, and the threads that
/// share the cores' work may be waiting for that.
pub(crate) fn table(log: &Log, objects: &Arc<Objects>) -> Result<Table, StoreError> {
    let mut gathered = Gathered::default();
    log.each(&mut |end, payload| {
        if let Some(layout) = decode_layout(payload) {
            gathered.add(&layout, end);
        }
    })?;
    Ok(gathered.table(Arc::clone(objects), (log.tag(), log.end())))
}

/// Logs and indexes layouts of whole objects. Those of small ones are not needed: each is a chunk of its own.
pub(crate) fn record<'a>(
    log: &mut Log,
    index: &Index,
    layouts: impl Iterator<Item = &'a Layout>,
) -> Result<(), StoreError> {
    let layouts: Vec<&Layout> = layouts.filter(|l| l.size > limits::CHUNK_MIN as u64).collect();
    if layouts.is_empty() {
        return Ok(());
    }
    let payloads: Vec<Vec<u8>> = layouts.iter().map(|l| encode_layout(l)).collect();
    log.append(payloads.iter().map(Vec::as_slice))?;
    index.insert(layouts.iter().flat_map(|l| index::places(l)));
    if layouts.len() > 1 {
        // A single one is replayed from the log after a crash; a flush for each would cost more than that.
        index.checkpoint((log.tag(), log.end()));
    }
    Ok(())
}

/// The standard layout of a whole object; None when it is small, gone or damaged. `go_on` is asked for each segment.
pub(crate) fn recut<E: From<StoreError>>(
    objects: &Objects,
    object: ObjectId,
    go_on: impl Fn() -> Result<(), E>,
) -> Result<Option<Layout>, E> {
    if objects.size(object).is_none_or(|size| size <= limits::CHUNK_MIN as u64) {
        return Ok(None);
    }
    let Some(mut file) = objects.open_object(object)? else { return Ok(None) };
    let mut cutter = Cutter::new();
    let mut bytes = Vec::with_capacity(SEGMENT);
    loop {
        bytes.clear();
        let got = (&mut file).take(SEGMENT as u64).read_to_end(&mut bytes);
        if got.map_err(|e| StoreError::io("read", &objects.path(object, false), e))? == 0 {
            break;
        }
        cutter.push(&bytes);
        go_on()?;
    }
    let (id, size, chunks) = cutter.finish();
    Ok((id == object).then_some(Layout { object, size, chunks }))
}

impl DiskStore {
    /// Every layout in the log of one object, the newest last.
    pub(crate) fn layouts_of(&self, object: ObjectId) -> Result<Vec<Layout>, StoreError> {
        let mut layouts = Vec::new();
        lock(&self.layout_log).each(&mut |_, payload| {
            if payload.starts_with(&object.0) {
                layouts.extend(decode_layout(payload));
            }
        })?;
        Ok(layouts)
    }
    /// Logs and indexes layouts of whole objects.
    pub(crate) fn record_layouts<'a>(&self, layouts: impl Iterator<Item = &'a Layout>) -> Result<(), StoreError> {
        record(&mut lock(&self.layout_log), &self.index, layouts)
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
