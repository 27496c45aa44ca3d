//! What a release is made of, read out of any store: both drivers answer the core's questions with these functions.
//! Invariant: two nodes that hold the same release document and manifests number its content alike, and nothing is
//! taken from a document or manifest before it was hashed, decoded canonically and checked against what pinned it.

use crate::{
    contract::{Damage, Layout, Store, StoreError},
    manifests,
};
use rayon::prelude::*;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    codec::{self, Wire},
    definition,
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    io::{Alike, Depth, Stage, WantList},
    limits,
    release::{Release, ReleaseRef},
    tree::{Manifest, Node, TreeRef},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

fn broken(release: ReleaseId, rule: impl Into<String>) -> StoreError {
    StoreError::Closure { release, rule: rule.into() }
}

/// All trees of a release with the platform that each is for, artifacts as listed, then the source, which is for all.
fn trees(release: &Release) -> impl Iterator<Item = (Option<&str>, &TreeRef)> {
    let artifacts = release.roles.iter().flat_map(|r| &r.artifacts).flat_map(|a| &a.trees);
    artifacts.map(|(platform, tree)| (Some(platform.as_str()), tree)).chain([(None, &release.source)])
}

fn fits(platform: Option<&str>, wanted: &str) -> bool {
    platform.is_none_or(|p| p == wanted || p == "any")
}

/// What is here of a closure's documents, depth first, each checked by itself.
pub(crate) fn documents(store: &dyn Store, id: ReleaseId) -> Result<Vec<(ReleaseId, Arc<Release>)>, StoreError> {
    Ok(walk(store, id, None)?.here)
}

/// Release documents of a closure: those that are here, depth first, and those that are not.
struct Walk {
    here: Vec<(ReleaseId, Arc<Release>)>,
    /// The documents of `here` as objects.
    documents: Vec<Layout>,
    missing: Vec<ReleaseRef>,
}

/// Walks the includes. The size of the first document is checked when it is known.
fn walk(store: &dyn Store, id: ReleaseId, size: Option<u32>) -> Result<Walk, StoreError> {
    let mut walk = Walk { here: Vec::new(), documents: Vec::new(), missing: Vec::new() };
    let mut seen = BTreeSet::new();
    let mut open = vec![(id, size)];
    while let Some((id, size)) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        if seen.len() > limits::CLOSURE {
            return Err(broken(id, format!("its closure has more than {} releases", limits::CLOSURE)));
        }
        if size.is_some_and(|s| s == 0 || s as usize > limits::RELEASE_BYTES) {
            return Err(broken(id, format!("a document of {} bytes is pinned", size.unwrap_or(0))));
        }
        let bytes = match store.object(id.object(), limits::RELEASE_BYTES) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing(_) | StoreError::Damaged { .. }) => {
                walk.missing.push(ReleaseRef { id, size: size.unwrap_or(0) });
                continue;
            }
            Err(e) => return Err(e),
        };
        if size.is_some_and(|s| s as usize != bytes.len()) {
            return Err(broken(id, format!("its document has {} bytes, another size is pinned", bytes.len())));
        }
        let release: Release = codec::decode(&bytes)?;
        release.check().map_err(|e| broken(id, e.to_string()))?;
        // Pushed in reverse, so that the first include comes off first.
        open.extend(release.includes.iter().rev().map(|i| (i.release.id, Some(i.release.size))));
        walk.documents.push(document_layout(ReleaseRef { id, size: bytes.len() as u32 }));
        walk.here.push((id, Arc::new(release)));
    }
    Ok(walk)
}

/// Every release of a closure, depth first, each once, the asked one first. They fit each other: bindings, answers,
/// names and limits were checked.
///
/// # Errors
/// [`StoreError::Missing`] when a document is not here, and every way in which one is not what was pinned.
pub fn closure(store: &dyn Store, id: ReleaseId) -> Result<Vec<(ReleaseId, Release)>, StoreError> {
    let walk = walk(store, id, None)?;
    match walk.missing.first() {
        Some(missing) => Err(StoreError::Missing(missing.id.object())),
        None => {
            let all: BTreeMap<ReleaseId, Release> = walk.here.iter().map(|(id, r)| (*id, (**r).clone())).collect();
            if let Some(top) = all.get(&id) {
                definition::closure::check(top, &all).map_err(|e| broken(id, e.to_string()))?;
            }
            Ok(walk.here.into_iter().map(|(id, r)| (id, Arc::unwrap_or_clone(r))).collect())
        }
    }
}

/// What a decoded closure adds up to.
struct Plan {
    /// Every chunk once, in content order.
    order: Vec<ChunkRef>,
    /// Every file's content once; the first layout found for an object counts.
    layouts: Vec<Layout>,
    /// For each tree: its platform and its layouts by number.
    trees: Vec<(Option<String>, Vec<u32>)>,
    /// Documents and manifests it was read from.
    sources: Vec<ObjectId>,
}

impl Plan {
    fn read(store: &dyn Store, releases: &[(ReleaseId, Arc<Release>)]) -> Result<Self, StoreError> {
        let mut plan = Self { order: Vec::new(), layouts: Vec::new(), trees: Vec::new(), sources: Vec::new() };
        let mut chunks: HashSet<ChunkId> = HashSet::new();
        let mut objects: HashMap<ObjectId, u32> = HashMap::new();
        let mut manifests: BTreeMap<ObjectId, Vec<u32>> = BTreeMap::new();
        for (id, release) in releases {
            plan.sources.push(id.object());
            for (platform, tree) in trees(release) {
                let platform = platform.map(str::to_owned);
                if let Some(known) = manifests.get(&tree.manifest) {
                    plan.trees.push((platform, known.clone()));
                    continue;
                }
                let mut members = Vec::new();
                for entry in &manifests::of_tree(store, tree)?.entries {
                    let Node::File { object, size, .. } = entry.node else { continue };
                    let number = plan.layouts.len() as u32;
                    let number = *objects.entry(object).or_insert(number);
                    if number as usize == plan.layouts.len() {
                        let layout = Layout { object, size, chunks: entry.node.chunk_list() };
                        layout.check()?;
                        plan.order.extend(layout.chunks.iter().filter(|c| chunks.insert(c.id)));
                        plan.layouts.push(layout);
                    }
                    members.push(number);
                }
                plan.sources.push(tree.manifest);
                manifests.insert(tree.manifest, members.clone());
                plan.trees.push((platform, members));
            }
        }
        Ok(plan)
    }
    /// Layouts of the trees that a platform needs, each once.
    fn wanted<'a>(&'a self, platform: &'a str) -> impl Iterator<Item = &'a Layout> + 'a {
        let fitting = self.trees.iter().filter(|(of, _)| fits(of.as_deref(), platform));
        let mut numbers: Vec<u32> = fitting.flat_map(|(_, members)| members.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|n| self.layouts.get(n as usize))
    }
}

/// Decoded closures that were asked for lately. Content is addressed by hash, so one cache serves every store of a
/// process (a simulation has thousands); whether *this* store has the sources is asked each time.
static PLANS: Mutex<Vec<(ReleaseId, Arc<Plan>)>> = Mutex::new(Vec::new());
/// Plans kept at most: the services of one device and what its peers ask about.
const PLANS_KEPT: usize = 8;
/// Chunks that kept plans may have together, about 72 bytes each; one larger plan is kept alone.
const PLAN_CHUNKS: usize = 400_000;

/// The plan of a closure whose documents are all here; None while a manifest is not.
fn plan(store: &dyn Store, id: ReleaseId) -> Result<Option<Arc<Plan>>, StoreError> {
    let known = {
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().position(|(known, _)| *known == id).map(|at| {
            let entry = plans.remove(at);
            plans.insert(0, entry.clone());
            entry.1
        })
    };
    if let Some(plan) = known {
        return Ok(plan.sources.iter().all(|s| store.has_object(*s)).then_some(plan));
    }
    let walk = walk(store, id, None)?;
    if !walk.missing.is_empty() || manifest_layouts(&walk.here)?.iter().any(|l| !store.has_object(l.object)) {
        return Ok(None);
    }
    let plan = Arc::new(Plan::read(store, &walk.here)?);
    let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
    plans.retain(|(known, _)| *known != id);
    plans.insert(0, (id, plan.clone()));
    let mut chunks = 0;
    let kept = plans.iter().take(PLANS_KEPT).take_while(|(_, p)| {
        chunks += p.order.len();
        chunks <= PLAN_CHUNKS
    });
    let kept = kept.count().max(1);
    plans.truncate(kept);
    Ok(Some(plan))
}

fn manifest_layout(release: ReleaseId, tree: &TreeRef) -> Result<Layout, StoreError> {
    let size = tree.manifest_bytes();
    if size == 0 || size > Manifest::LIMIT as u64 {
        return Err(broken(release, format!("tree {} has a manifest of {size} bytes", tree.manifest.short())));
    }
    let layout = Layout { object: tree.manifest, size, chunks: tree.chunks.clone() };
    layout.check()?;
    Ok(layout)
}

fn manifest_layouts(releases: &[(ReleaseId, Arc<Release>)]) -> Result<Vec<Layout>, StoreError> {
    let mut seen = BTreeSet::new();
    let mut layouts = Vec::new();
    for (id, release) in releases {
        for (_, tree) in trees(release) {
            if seen.insert(tree.manifest) {
                layouts.push(manifest_layout(*id, tree)?);
            }
        }
    }
    Ok(layouts)
}

fn document_layout(release: ReleaseRef) -> Layout {
    let only = ChunkRef { id: release.id.object().into(), len: release.size };
    Layout { object: release.id.object(), size: u64::from(release.size), chunks: vec![only] }
}

/// A want list over these layouts: each chunk once. A chunk counts as here when it is, or when no layout that is still
/// to be assembled needs it.
fn want(
    store: &dyn Store,
    stage: Stage,
    order: Vec<ChunkRef>,
    needed: impl Iterator<Item = Layout>,
) -> Result<WantList, StoreError> {
    let needed: Vec<Layout> = needed.collect();
    // Announced before the survey: what an earlier life put there is found by it. Whole objects are announced as well,
    // so that no sweep takes them from under the fetch.
    store.expect(&needed)?;
    let open = needed.iter().filter(|l| !store.has_object(l.object));
    let needed: HashSet<ChunkId> = open.flat_map(|l| &l.chunks).map(|c| c.id).collect();
    let (numbers, asked): (Vec<usize>, Vec<ChunkRef>) =
        order.iter().enumerate().filter(|(_, c)| needed.contains(&c.id)).map(|(i, c)| (i, *c)).unzip();
    let held = store.survey(&asked)?;
    let mut have = Bitmap::full(order.len());
    for (at, &number) in numbers.iter().enumerate() {
        have.set(number, held.get(at));
    }
    Ok(WantList { stage, chunks: order, have, alike: Alike::default() })
}

fn unique(layouts: &[Layout]) -> Vec<ChunkRef> {
    let mut seen = HashSet::new();
    layouts.iter().flat_map(|l| &l.chunks).filter(|c| seen.insert(c.id)).copied().collect()
}

/// What the next stage of a fetch is about. The layouts of the stage are announced to the store, so that chunks can be
/// put at once. When all of the wanted depth is here as whole objects, the last stage comes with every bit set.
///
/// # Errors
/// Whatever in the closure is not what was pinned, or against a limit; and what the store says.
pub fn expand(store: &dyn Store, release: ReleaseRef, depth: Depth, platform: &str) -> Result<WantList, StoreError> {
    let walk = walk(store, release.id, Some(release.size))?;
    let documents = walk.documents.iter().cloned();
    if !walk.missing.is_empty() {
        let layouts: Vec<Layout> = walk.missing.iter().map(|r| document_layout(*r)).collect();
        return want(store, Stage::Releases, unique(&layouts), documents.chain(layouts));
    }
    let manifests = manifest_layouts(&walk.here)?;
    if depth == Depth::Manifests || manifests.iter().any(|l| !store.has_object(l.object)) {
        return want(store, Stage::Manifests, unique(&manifests), documents.chain(manifests));
    }
    let Some(plan) = plan(store, release.id)? else {
        // Only a sweep between the lines above and here does this; the caller's next try sees it.
        return Err(gone(store, release.id, &walk)?);
    };
    let content = plan.wanted(platform).cloned();
    want(store, Stage::Content, plan.order.clone(), documents.chain(manifests).chain(content))
}

/// What a sweep, or damage, took of a closure that was read before.
fn gone(store: &dyn Store, release: ReleaseId, walk: &Walk) -> Result<StoreError, StoreError> {
    let manifests = manifest_layouts(&walk.here)?.into_iter().map(|l| l.object);
    let mut all = walk.missing.iter().map(|r| r.id.object()).chain(manifests);
    // All of it may be back by now: another look tells.
    Ok(StoreError::Missing(all.find(|o| !store.has_object(*o)).unwrap_or(release.object())))
}

/// Those of the missing documents whose bytes are here. The others were in no want list of this fetch: another fetch
/// made whole what this one was bringing, and only now it shows what is included there. The next stage asks for them.
fn brought(store: &dyn Store, missing: Vec<ReleaseRef>) -> Result<Vec<Layout>, StoreError> {
    let layouts: Vec<Layout> = missing.into_iter().map(document_layout).collect();
    let here = store.survey(&layouts.iter().flat_map(|l| l.chunks.clone()).collect::<Vec<_>>())?;
    Ok(layouts.into_iter().enumerate().filter(|(at, _)| here.get(*at)).map(|(_, layout)| layout).collect())
}

/// Makes whole objects of a stage's chunks, durably; what is whole already is left alone. Another fetch of the same
/// documents may have been quicker: then this stage has nothing left to do, and the next expansion shows what follows.
///
/// # Errors
/// [`StoreError::Incomplete`] when chunks are missing, and what the store says.
pub fn assemble(store: &dyn Store, release: ReleaseRef, stage: Stage, platform: &str) -> Result<(), StoreError> {
    let walk = walk(store, release.id, Some(release.size))?;
    let layouts: Vec<Layout> = match stage {
        Stage::Releases => brought(store, walk.missing)?,
        Stage::Manifests => manifest_layouts(&walk.here)?,
        Stage::Content => match plan(store, release.id)? {
            // Documents and manifests come along, because only now the fetch lets go of them.
            Some(plan) => {
                let manifests = manifest_layouts(&walk.here)?;
                walk.documents.into_iter().chain(manifests).chain(plan.wanted(platform).cloned()).collect()
            }
            None => return Err(gone(store, release.id, &walk)?),
        },
    };
    store.assemble(&layouts)?;
    if stage == Stage::Content {
        manifests::forget();
    }
    Ok(())
}

/// Every chunk of a closure's content once: artifacts of all platforms and the source of every release, depth first.
/// Bitmaps of [`softservice_protocol::message::Message::Has`] number it. None while a document or manifest is missing.
///
/// # Errors
/// Whatever in the closure is not what was pinned.
pub fn content_order(store: &dyn Store, release: ReleaseId) -> Result<Option<Vec<ChunkRef>>, StoreError> {
    Ok(plan(store, release)?.map(|p| p.order.clone()))
}

/// Which chunks of a closure's content order are here; None while its documents or manifests are not.
///
/// # Errors
/// Whatever in the closure is not what was pinned.
pub fn held(store: &dyn Store, release: ReleaseId) -> Result<Option<Bitmap>, StoreError> {
    plan(store, release)?.map(|p| store.survey(&p.order)).transpose()
}

/// Bytes of content that a device of this platform would still fetch, each chunk once.
///
/// # Errors
/// [`StoreError::Missing`] while a document or manifest is not here, and whatever in the closure is not what was pinned.
pub fn missing_bytes(store: &dyn Store, release: ReleaseId, platform: &str) -> Result<u64, StoreError> {
    let Some(plan) = plan(store, release)? else {
        return Err(gone(store, release, &walk(store, release, None)?)?);
    };
    let wanted: Vec<&Layout> = plan.wanted(platform).collect();
    let open: Vec<&Layout> = wanted.into_par_iter().with_min_len(64).filter(|l| !store.has_object(l.object)).collect();
    let mut seen = HashSet::new();
    let chunks: Vec<ChunkRef> =
        open.into_iter().flat_map(|l| &l.chunks).filter(|c| seen.insert(c.id)).copied().collect();
    let held = store.survey(&chunks)?;
    Ok(held.zeros().filter_map(|at| chunks.get(at)).map(|c| u64::from(c.len)).sum())
}

/// The files of the trees that a device of this platform makes of a release, each once: object, and whether it is executable.
///
/// # Errors
/// Whatever in the closure is not what was pinned, or not here.
pub fn tree_files(store: &dyn Store, release: ReleaseId, platform: &str) -> Result<Vec<(ObjectId, bool)>, StoreError> {
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    for (_, release) in documents(store, release)? {
        // The source, which is for all, is no tree of a device.
        for (_, tree) in trees(&release).filter(|(of, _)| of.is_some_and(|of| fits(Some(of), platform))) {
            let manifest = manifests::of_tree(store, tree)?;
            files.extend(manifest.entries.iter().filter_map(|entry| match entry.node {
                Node::File { object, executable, .. } => {
                    seen.insert((object, executable)).then_some((object, executable))
                }
                _ => None,
            }));
        }
    }
    Ok(files)
}

/// Releases of a closure whose documents are here, with who made each: the asked one first.
///
/// # Errors
/// A document that is here but is not what was pinned.
pub fn members(store: &dyn Store, release: ReleaseId) -> Result<Vec<(ReleaseId, PublisherId)>, StoreError> {
    Ok(documents(store, release)?.into_iter().map(|(id, release)| (id, release.publisher)).collect())
}

/// Every object of a closure with its signed size, as far as documents and manifests are here, and whether or not the object
/// itself is: what a device of this platform fetches of it, or all of it.
///
/// # Errors
/// A document or manifest that is here but is not what was pinned.
pub fn sizes(
    store: &dyn Store,
    release: ReleaseId,
    platform: Option<&str>,
) -> Result<BTreeMap<ObjectId, u64>, StoreError> {
    let walk = walk(store, release, None)?;
    let mut sizes: BTreeMap<ObjectId, u64> = walk.documents.iter().map(|l| (l.object, l.size)).collect();
    sizes.extend(walk.missing.iter().map(|r| (r.id.object(), u64::from(r.size))));
    let mut read = BTreeSet::new();
    for (_, release) in &walk.here {
        for (of, tree) in trees(release) {
            sizes.insert(tree.manifest, tree.manifest_bytes());
            let wanted = platform.is_none_or(|platform| fits(of, platform));
            if !wanted || !store.has_object(tree.manifest) || !read.insert(tree.manifest) {
                continue;
            }
            sizes.extend(manifests::of_tree(store, tree)?.entries.iter().filter_map(|e| match &e.node {
                Node::File { object, size, .. } => Some((*object, *size)),
                _ => None,
            }));
        }
    }
    Ok(sizes)
}

/// Every object that keeping this release means keeping, as far as its documents and manifests are here: the roots of
/// a garbage collection.
///
/// # Errors
/// A document or manifest that is here but is not what was pinned: nothing may be swept then.
pub fn objects(store: &dyn Store, release: ReleaseId) -> Result<BTreeSet<ObjectId>, StoreError> {
    Ok(reach(store, release)?.0)
}

/// The same, of what nothing may be swept without. A document or manifest that never came lists nothing that is here; one
/// that was damaged does, and what that was nobody can tell until it is mended.
///
/// # Errors
/// As [`objects`]; [`StoreError::Damaged`] while something that lists more is set aside.
pub fn needed(store: &dyn Store, release: ReleaseId) -> Result<BTreeSet<ObjectId>, StoreError> {
    let (objects, unread) = reach(store, release)?;
    let lost = if unread.is_empty() { Vec::new() } else { store.lost()? };
    match lost.into_iter().find(|damage| damage.object.is_some_and(|object| unread.contains(&object))) {
        Some(Damage { file, object, .. }) => {
            let what =
                format!("it lists what release {release} needs, and nobody knows what that is until it is mended");
            Err(StoreError::Damaged { path: file, object, what })
        }
        None => Ok(objects),
    }
}

/// What a release needs, as far as that can be told; and documents and manifests that are not here.
fn reach(store: &dyn Store, release: ReleaseId) -> Result<(BTreeSet<ObjectId>, BTreeSet<ObjectId>), StoreError> {
    let walk = walk(store, release, None)?;
    let mut unread: BTreeSet<ObjectId> = walk.missing.iter().map(|r| r.id.object()).collect();
    let mut objects = unread.clone();
    for (id, release) in &walk.here {
        objects.insert(id.object());
        for (_, tree) in trees(release) {
            if !objects.insert(tree.manifest) {
                continue;
            }
            if !store.has_object(tree.manifest) {
                unread.insert(tree.manifest);
                continue;
            }
            objects.extend(manifests::of_tree(store, tree)?.entries.iter().filter_map(|e| match &e.node {
                Node::File { object, .. } => Some(*object),
                _ => None,
            }));
        }
    }
    Ok((objects, unread))
}
