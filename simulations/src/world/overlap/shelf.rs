//! What is published in a run of overlapping fetches: distros of distros, nested two deep, that share includes, trees,
//! files and chunks. Invariant: every document, manifest and chunk is real, so that a real store can take and check it.

use crate::{
    corpus::{Author, encoded},
    dice::Dice,
    documents::{Document, include, listing},
    files::tree_of,
};
use softservice_protocol::{
    chunk::{ChunkRef, Cutting},
    feed::Listing,
    id::{ChunkId, ObjectId, ReleaseId},
    release::{Include, ReleaseRef},
    time::Time,
    tree::{Manifest, Node, TreeEntry, TreeRef},
};
use softservice_store::{MemoryStore, Store as _};
use std::collections::BTreeMap;

/// Pieces of content that files are put together from.
const PIECES: usize = 24;
/// Folders in the tree with many: its manifest has several chunks.
const FOLDERS: usize = 700;

/// A release, its name and its version.
#[derive(Debug, Clone)]
pub(super) struct Title {
    pub(super) release: ReleaseRef,
    distro: &'static str,
    version: &'static str,
}

impl Title {
    pub(super) fn listing(&self) -> Listing {
        listing(self.distro, self.version, self.release)
    }
}

/// Everything that seeders have.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) author: Author,
    /// Documents and manifests as a store reads them.
    pub(super) library: MemoryStore,
    /// Every chunk of every stage.
    pub(super) chunks: BTreeMap<ChunkId, Vec<u8>>,
    pub(super) titles: Vec<Title>,
    pieces: Vec<ChunkRef>,
}

impl Shelf {
    pub(super) fn draw(seed: u64, now: Time) -> Self {
        let mut dice = Dice::new(seed, "shelf");
        let author = Author::new(&mut dice, now);
        let (library, chunks) = (MemoryStore::new(), BTreeMap::new());
        let mut shelf = Self { author, library, chunks, titles: Vec::new(), pieces: Vec::new() };
        for _ in 0..PIECES {
            let len = dice.between(16_384, 40_000) as usize;
            let piece = shelf.keep(dice.bytes(len));
            shelf.pieces.push(piece);
        }
        let source = shelf.tree(&mut dice, 2, 0);
        let trees: Vec<TreeRef> = (0..6).map(|n| shelf.tree(&mut dice, 3, if n == 0 { FOLDERS } else { 0 })).collect();
        let tree = |n: usize| trees[n % trees.len()].clone();
        let one = |shelf: &mut Self, distro, version, n, parts: &[usize]| {
            shelf.publish(distro, version, (tree(n), source.clone()), parts)
        };
        // Leaves, distros of two leaves, and distros of those: each level shares some of the one below.
        let (red, green, blue) = (
            one(&mut shelf, "red", "1.0.0", 0, &[]),
            one(&mut shelf, "green", "1.0.0", 1, &[]),
            one(&mut shelf, "blue", "1.0.0", 2, &[]),
        );
        let warm = one(&mut shelf, "warm", "1.0.0", 3, &[red, green]);
        let cold = one(&mut shelf, "cold", "1.0.0", 4, &[green, blue]);
        one(&mut shelf, "all", "1.0.0", 5, &[warm, cold]);
        one(&mut shelf, "some", "1.0.0", 0, &[warm, blue]);
        // The next versions: another leaf or another tree, the rest as it was.
        let green = one(&mut shelf, "green", "2.0.0", 3, &[]);
        let warm = one(&mut shelf, "warm", "2.0.0", 3, &[red, green]);
        one(&mut shelf, "all", "2.0.0", 2, &[warm, cold]);
        shelf
    }

    /// Files a chunk under its name.
    fn keep(&mut self, bytes: Vec<u8>) -> ChunkRef {
        let chunk = ChunkRef { id: ChunkId::of(&bytes), len: bytes.len() as u32 };
        self.chunks.insert(chunk.id, bytes);
        chunk
    }

    /// A tree of some files from shared pieces, some small ones, and so many folders.
    fn tree(&mut self, dice: &mut Dice, files: u64, folders: usize) -> TreeRef {
        let mut entries = Vec::new();
        for file in 0..files {
            let mut list = dice.sample(&self.pieces, 4);
            if dice.chance(0.5) {
                // One of them twice, and an end that only this file has.
                list.push(list[0]);
                let len = dice.between(1, 9000) as usize;
                list.push(self.keep(dice.bytes(len)));
            }
            let bytes: Vec<u8> = list.iter().flat_map(|c| self.chunks[&c.id].clone()).collect();
            let size = bytes.len() as u64;
            let node = Node::File { executable: file == 0, object: ObjectId::of(&bytes), size, chunks: list };
            entries.push(TreeEntry { path: format!("a{file}"), node });
            let small = if dice.chance(0.5) {
                *dice.sample(&self.pieces, 1).first().unwrap_or(&self.pieces[0])
            } else {
                let len = dice.between(1, 3000) as usize;
                self.keep(dice.bytes(len))
            };
            let (object, size) = (ObjectId(small.id.0), u64::from(small.len));
            entries.push(TreeEntry {
                path: format!("b{file}"),
                node: Node::File { executable: false, object, size, chunks: Vec::new() },
            });
        }
        entries.extend((0..folders).map(|n| TreeEntry { path: format!("c{n:060}"), node: Node::Dir }));
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let (tree, bytes) = tree_of(&Manifest { cutting: Cutting::STANDARD, entries });
        let mut rest = bytes.as_slice();
        for chunk in &tree.chunks {
            let (part, after) = rest.split_at(chunk.len as usize);
            self.chunks.insert(chunk.id, part.to_vec());
            rest = after;
        }
        self.shelve(&bytes);
        tree
    }

    fn publish(
        &mut self,
        distro: &'static str,
        version: &'static str,
        trees: (TreeRef, TreeRef),
        parts: &[usize],
    ) -> usize {
        let publisher = self.author.publisher;
        let part = |n: &usize| {
            let title = &self.titles[*n];
            include(publisher, title.distro, title.version, title.release)
        };
        let includes: Vec<Include> = parts.iter().map(part).collect();
        let (tree, source) = trees;
        let bytes = encoded(&Document { publisher, distro, version, tree, source, includes }.release());
        self.shelve(&bytes);
        let release = ReleaseRef { id: ReleaseId::of(&bytes), size: bytes.len() as u32 };
        self.keep(bytes);
        self.titles.push(Title { release, distro, version });
        self.titles.len() - 1
    }

    fn shelve(&self, bytes: &[u8]) {
        self.library.add(bytes).unwrap_or_else(|e| panic!("a store in memory refuses a document: {e}"));
    }
}
