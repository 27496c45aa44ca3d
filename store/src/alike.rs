//! What is here that resembles what a fetch misses: the chunks of an older version of the same file, by path, or by a
//! name that differs in its numbers only. Invariant: a guess for speed and nothing else: whatever is written against it
//! is hashed like everything that comes, and a wrong guess costs bytes.
//!
//! Resemblance by content (sketches of every chunk that is here) was refused: releases of one distro keep their names,
//! and an index of sketches costs more than the rest of the index together.

use crate::{
    closure,
    contract::{Store, StoreError},
    manifests,
};
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId, ReleaseId},
    io::{Alike, Stage, WantList},
    release::Release,
    tree::{Manifest, Node, TreeRef},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

/// Older trees that are looked at for each new one.
const OLDER: usize = 3;
/// A run of the older file that is not longer is taken whole.
const WHOLE: u64 = 512 << 10;
/// Of a longer one, what lies so far around the same place: content moves when code before it grows.
const AROUND: u64 = 448 << 10;

/// A tree's place in a closure: distro, role and artifact, platform. The source has none of the latter.
type Place = (String, String, String);

fn places(documents: &[(ReleaseId, Arc<Release>)]) -> Vec<(Place, TreeRef)> {
    let mut found = Vec::new();
    for (_, release) in documents {
        for role in &release.roles {
            for artifact in &role.artifacts {
                let name = format!("{}/{}", role.name, artifact.name);
                let trees = artifact.trees.iter();
                found
                    .extend(trees.map(|(on, tree)| ((release.distro.clone(), name.clone(), on.clone()), tree.clone())));
            }
        }
        found.push(((release.distro.clone(), String::new(), String::new()), release.source.clone()));
    }
    found
}

/// What is here of `kin`, newest first, that resembles what `list` misses of a release.
///
/// # Errors
/// What the store says; a relative that is damaged or not here is passed over.
pub fn find(store: &dyn Store, release: ReleaseId, list: &WantList, kin: &[ReleaseId]) -> Result<Alike, StoreError> {
    if kin.is_empty() || list.stage == Stage::Releases || list.have.is_full() {
        return Ok(Alike::default());
    }
    let mut older: BTreeMap<Place, Vec<TreeRef>> = BTreeMap::new();
    for id in kin {
        let Ok(documents) = closure::documents(store, *id) else { continue };
        for (place, tree) in places(&documents) {
            let known = older.entry(place).or_default();
            if known.len() < OLDER && !known.contains(&tree) && store.has_object(tree.manifest) {
                known.push(tree);
            }
        }
    }
    let mut finder = Finder::new(store, list);
    let mut seen = BTreeSet::new();
    for (place, tree) in places(&closure::documents(store, release)?) {
        let Some(older) = older.get(&place).filter(|_| seen.insert(tree.manifest)) else { continue };
        match list.stage {
            Stage::Content => finder.tree(&tree, older),
            _ => finder.manifest(&tree, older),
        }
    }
    Ok(finder.alike)
}

struct Finder<'a> {
    store: &'a dyn Store,
    /// Missing chunks and their numbers.
    missing: HashMap<ChunkId, u32>,
    alike: Alike,
    /// Missing chunks of trees that were looked at. A release's source mostly has what its artifacts have, and nothing more is
    /// found for it among older sources.
    tried: HashSet<u32>,
    /// Where the chunks of an older object begin in `alike`; none when it is not here.
    taken: HashMap<ObjectId, Option<u32>>,
}

impl<'a> Finder<'a> {
    fn new(store: &'a dyn Store, list: &WantList) -> Self {
        let number = |i: usize| Some((list.chunks.get(i)?.id, i as u32));
        let missing = list.have.zeros().filter_map(number).collect();
        Self { store, missing, alike: Alike::default(), tried: HashSet::new(), taken: HashMap::new() }
    }

    fn manifest(&mut self, tree: &TreeRef, older: &[TreeRef]) {
        if let Some(old) = older.iter().find(|old| old.manifest != tree.manifest) {
            self.file(&tree.chunks, old.manifest, &old.chunks);
        }
    }

    fn tree(&mut self, tree: &TreeRef, older: &[TreeRef]) {
        let Ok(new) = manifests::of_tree(self.store, tree) else { return };
        let mut open: Vec<(&str, u64, Vec<ChunkRef>)> = Vec::new();
        for entry in &new.entries {
            let Node::File { size, .. } = &entry.node else { continue };
            let chunks = entry.node.chunk_list();
            let mut untried = false;
            for number in chunks.iter().filter_map(|c| self.missing.get(&c.id)) {
                untried |= self.tried.insert(*number);
            }
            if untried {
                open.push((&entry.path, *size, chunks));
            }
        }
        for old in older.iter().filter(|old| old.manifest != tree.manifest) {
            if open.is_empty() {
                return;
            }
            let Ok(old) = manifests::of_tree(self.store, old) else { continue };
            let names = Names::new(&old, open.iter().map(|(path, ..)| *path));
            open.retain(|(path, size, chunks)| {
                let Some((object, older)) = names.like(path, *size) else { return true };
                !self.file(chunks, object, &older)
            });
        }
    }

    /// Enters what of an older file resembles the missing chunks of a newer one; false when the older is not here.
    fn file(&mut self, new: &[ChunkRef], object: ObjectId, old: &[ChunkRef]) -> bool {
        let start = match self.taken.get(&object) {
            Some(known) => *known,
            None => {
                let start = self.store.has_object(object).then_some(self.alike.chunks.len() as u32);
                if start.is_some() {
                    self.alike.chunks.extend_from_slice(old);
                }
                self.taken.insert(object, start);
                start
            }
        };
        let Some(start) = start else { return false };
        for (at, range) in align(new, old) {
            let number = new.get(at).and_then(|c| self.missing.get(&c.id));
            if let (Some(number), false) = (number, range.is_empty()) {
                let range = start + range.start as u32..start + range.end as u32;
                self.alike.of.entry(*number).or_insert(range);
            }
        }
        true
    }
}

/// An older tree's files by path; and by name without its numbers, those that are asked for so.
struct Names<'a> {
    tree: &'a Manifest,
    alike: HashMap<String, Vec<usize>>,
}

impl<'a> Names<'a> {
    /// To be asked for these paths.
    fn new<'b>(tree: &'a Manifest, asked: impl Iterator<Item = &'b str>) -> Self {
        let mut names = Self { tree, alike: HashMap::new() };
        for path in asked {
            if names.same(path).is_some() {
                continue;
            }
            names.alike.insert(blank(path), Vec::new());
            names.alike.insert(blank(file_name(path)), Vec::new());
        }
        if names.alike.is_empty() {
            return names;
        }
        let files = tree.entries.iter().enumerate();
        let mut name = String::new();
        for (at, entry) in files.filter(|(_, e)| matches!(e.node, Node::File { size, .. } if size > 0)) {
            for of in [&entry.path, file_name(&entry.path)] {
                name.clear();
                blank_into(of, &mut name);
                if let Some(files) = names.alike.get_mut(&name) {
                    files.push(at);
                }
            }
        }
        names
    }
    /// The file of the same path, unless it is empty.
    fn same(&self, path: &str) -> Option<usize> {
        let at = self.tree.entries.binary_search_by(|e| e.path.as_str().cmp(path)).ok()?;
        self.size(at).is_some_and(|size| size > 0).then_some(at)
    }
    /// The file of the same path; else one that differs in numbers only; else one of the same name elsewhere. Of several
    /// the one nearest in size.
    fn like(&self, path: &str, size: u64) -> Option<(ObjectId, Vec<ChunkRef>)> {
        let nearest = |name: String| {
            let files = self.alike.get(&name)?.iter().copied();
            files.min_by_key(|at| self.size(*at).map_or(u64::MAX, |s| s.abs_diff(size)))
        };
        let at = self.same(path).or_else(|| nearest(blank(path))).or_else(|| nearest(blank(file_name(path))))?;
        let node = &self.tree.entries.get(at)?.node;
        let Node::File { object, .. } = node else { return None };
        Some((*object, node.chunk_list()))
    }
    fn size(&self, at: usize) -> Option<u64> {
        match self.tree.entries.get(at)?.node {
            Node::File { size, .. } => Some(size),
            _ => None,
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A name with each number in it as one mark: versions differ there.
fn blank(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    blank_into(name, &mut out);
    out
}
fn blank_into(name: &str, out: &mut String) {
    for c in name.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
}

/// For each chunk of a new file that the old one has not: the chunks of the old one that stand where it should be.
/// What both have frames what changed in between.
fn align(new: &[ChunkRef], old: &[ChunkRef]) -> Vec<(usize, Range<usize>)> {
    let place: HashMap<ChunkId, usize> = old.iter().enumerate().rev().map(|(at, c)| (c.id, at)).collect();
    let starts = offsets(old);
    let mut out = Vec::new();
    let mut at = 0;
    let mut left = 0;
    while let Some(chunk) = new.get(at) {
        if let Some(found) = place.get(&chunk.id) {
            left = found + 1;
            at += 1;
            continue;
        }
        let run = at..at + new.iter().skip(at).take_while(|c| !place.contains_key(&c.id)).count();
        let right = new.get(run.end).and_then(|c| place.get(&c.id)).copied().unwrap_or(old.len());
        // The content behind was moved before the content ahead: only the beginning is a frame.
        let right = if right < left { old.len() } else { right };
        window(&new[run.clone()], run.start, left..right, &starts, &mut out);
        at = run.end;
    }
    out
}

/// Where each chunk begins, and where the last one ends.
fn offsets(chunks: &[ChunkRef]) -> Vec<u64> {
    let mut at = 0;
    let ends = chunks.iter().map(|c| {
        at += u64::from(c.len);
        at
    });
    std::iter::once(0).chain(ends).collect()
}

/// Gives each chunk of a run its part of the older run.
fn window(run: &[ChunkRef], first: usize, old: Range<usize>, starts: &[u64], out: &mut Vec<(usize, Range<usize>)>) {
    let start_of = |at: usize| starts.get(at).copied().unwrap_or_default();
    let (begin, end) = (start_of(old.start), start_of(old.end));
    let (mut at, of) = (0, run.iter().map(|c| u64::from(c.len)).sum::<u64>());
    for (n, chunk) in run.iter().enumerate() {
        let len = u64::from(chunk.len);
        let range = if end - begin <= WHOLE {
            old.clone()
        } else {
            // A file that ends otherwise is not stretched: places are those from the beginning then.
            let wide = u128::from(at) * u128::from(end - begin) / u128::from(of.max(1));
            let scaled = if end - begin > 4 * of { at } else { u64::try_from(wide).unwrap_or(u64::MAX) };
            let (low, high) = ((begin + scaled).saturating_sub(AROUND), begin + scaled + len + AROUND);
            let from = starts.partition_point(|s| *s <= low).saturating_sub(1);
            let to = starts.partition_point(|s| *s < high);
            from.clamp(old.start, old.end)..to.clamp(old.start, old.end)
        };
        out.push((first + n, range));
        at += len;
    }
}

#[cfg(test)]
mod tests;
