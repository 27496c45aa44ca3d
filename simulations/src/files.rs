//! Files without bytes: trees of the sizes that real trees have, as lists of named chunks, and their manifests.
//! Invariant: a manifest made here keeps the protocol's rules; chunk names are drawn, so they collide with none.

use crate::{corpus::encoded, dice::Dice};
use softservice_protocol::{
    chunk::{self, ChunkRef, Cutting},
    id::{ChunkId, ObjectId},
    tree::{Manifest, Node, TreeEntry, TreeRef},
};

/// Files as lists of chunks.
#[derive(Debug)]
pub(crate) struct Files {
    lists: Vec<Vec<ChunkRef>>,
}

impl Files {
    pub(crate) fn draw(dice: &mut Dice, bytes: u64) -> Self {
        let mut lists = Vec::new();
        let mut left = bytes;
        while left > 0 {
            // Sizes as in real trees: many small files, most bytes in few large ones.
            let size = if dice.chance(0.5) { dice.between(500, 16_000) } else { dice.between(16_000, 4_000_000) };
            let mut rest = size.min(left);
            left -= rest;
            let mut list = Vec::new();
            while rest > 0 {
                let len = if rest <= 16_384 { rest } else { dice.between(16_384, 112_000).min(rest) };
                rest -= len;
                list.push(synthetic(dice, len as u32));
            }
            lists.push(list);
        }
        Self { lists }
    }

    /// Replaces all but a share of the chunks.
    pub(crate) fn change(&mut self, dice: &mut Dice, shared: f64) {
        for chunk in self.lists.iter_mut().flatten() {
            if !dice.chance(shared) {
                *chunk = synthetic(dice, chunk.len);
            }
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let mut entries = vec![TreeEntry { path: "data".into(), node: Node::Dir }];
        entries.extend(self.lists.iter().enumerate().map(|(i, list)| {
            let mut hasher = blake3::Hasher::new();
            list.iter().for_each(|c| {
                hasher.update(&c.id.0);
            });
            let (object, chunks) = match list.as_slice() {
                [only] => (ObjectId(only.id.0), Vec::new()),
                many => (ObjectId(*hasher.finalize().as_bytes()), many.to_vec()),
            };
            let size = list.iter().map(|c| u64::from(c.len)).sum();
            TreeEntry {
                path: format!("data/{i:06}"),
                node: Node::File { executable: i % 16 == 0, object, size, chunks },
            }
        }));
        Manifest { cutting: Cutting::STANDARD, entries }
    }
}

/// A chunk whose bytes nobody ever needs: a name that collides with none.
pub(crate) fn synthetic(dice: &mut Dice, len: u32) -> ChunkRef {
    let mut id = [0; 32];
    id.copy_from_slice(&dice.bytes(32));
    ChunkRef { id: ChunkId(id), len }
}

/// A manifest as a release pins it, and its bytes.
pub(crate) fn tree_of(manifest: &Manifest) -> (TreeRef, Vec<u8>) {
    let bytes = encoded(manifest);
    let mut start = 0;
    let chunks = chunk::cut(&bytes).into_iter().map(|len| {
        let piece = bytes.get(start..start + len as usize).unwrap_or_default();
        start += len as usize;
        ChunkRef { id: ChunkId::of(piece), len }
    });
    let chunks = chunks.collect();
    let (total, files) = manifest.totals();
    (TreeRef { manifest: ObjectId::of(&bytes), chunks, bytes: total, files }, bytes)
}
