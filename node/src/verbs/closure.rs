//! A release with everything that it includes, read from the store. Invariant: every document in a closure decoded from
//! bytes that hash to its id; cycles cannot occur among hashes, size is bounded all the same.

use super::failure::{Failure, Kind};
use crate::context::Context;
use softservice_protocol::{
    codec,
    id::{ObjectId, ReleaseId},
    limits,
    release::{Release, ReleaseRef},
    tree::{Manifest, Node, TreeRef},
};
use softservice_store::{Store, StoreError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All documents of a closure.
#[derive(Debug, Clone)]
pub struct Closure {
    root: ReleaseId,
    releases: BTreeMap<ReleaseId, Release>,
}

impl Closure {
    /// The release itself.
    ///
    /// # Errors
    /// Never, for a closure that was loaded; typed so that nobody has to trust this sentence.
    pub fn root(&self) -> Result<&Release, Failure> {
        self.releases.get(&self.root).ok_or_else(|| Failure::new(Kind::Bug, "a closure without its own release"))
    }
    /// All of them, by id.
    pub fn releases(&self) -> &BTreeMap<ReleaseId, Release> {
        &self.releases
    }
    /// The trees of all of them, sources included, each once.
    pub fn trees(&self) -> Vec<&TreeRef> {
        let all = self.releases.values().flat_map(trees_of);
        let mut seen = BTreeSet::new();
        all.filter(|tree| seen.insert(tree.manifest)).collect()
    }
    /// Bytes and files of all trees and documents.
    pub fn totals(&self) -> (u64, u64) {
        self.trees().iter().fold((0, 0), |(bytes, files), t| (bytes.saturating_add(t.bytes), files + u64::from(t.files)))
    }
}

/// The trees that a release pins itself.
fn trees_of(release: &Release) -> impl Iterator<Item = &TreeRef> {
    let artifacts = release.roles.iter().flat_map(|r| &r.artifacts).flat_map(|a| &a.trees).map(|(_, tree)| tree);
    artifacts.chain(std::iter::once(&release.source))
}

/// Reads a closure; off the runtime's threads.
///
/// # Errors
/// When a document is missing or not what its id says.
pub async fn load(context: &Context, release: ReleaseRef) -> Result<Closure, Failure> {
    let store = context.store.clone();
    blocking(move || read(store.as_ref(), release.id)).await
}

/// Reads a closure; blocks.
///
/// # Errors
/// As [`load`].
pub fn read(store: &dyn Store, root: ReleaseId) -> Result<Closure, Failure> {
    let mut releases = BTreeMap::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if releases.contains_key(&id) {
            continue;
        }
        if releases.len() >= limits::CLOSURE {
            return Err(Failure::failed(format!("release {root} includes more than {} others", limits::CLOSURE)));
        }
        let bytes = store.object(id.object(), limits::RELEASE_BYTES)?;
        let release: Release = codec::decode(&bytes)
            .map_err(|e| Failure::new(Kind::Damaged, format!("release {} cannot be read: {e}", id.short())))?;
        open.extend(release.includes.iter().map(|i| i.release.id));
        releases.insert(id, release);
    }
    Ok(Closure { root, releases })
}

/// A tree's manifest.
///
/// # Errors
/// When it is missing, damaged, or breaks a rule of trees.
pub fn manifest(store: &dyn Store, tree: &TreeRef) -> Result<Manifest, Failure> {
    let bytes = store.object(tree.manifest, limits::MANIFEST_BYTES)?;
    let damaged = |why: String| Failure::new(Kind::Damaged, format!("tree {} cannot be read: {why}", tree.manifest.short()));
    let manifest: Manifest = codec::decode(&bytes).map_err(|e| damaged(e.to_string()))?;
    manifest.check().map_err(|e| damaged(e.to_string()))?;
    Ok(manifest)
}

/// Adds every object of what is here of a closure: documents, manifests, files. What is missing is passed over: a
/// subscribed release of which only the document came is no reason to keep nothing of it.
///
/// # Errors
/// When the store fails in another way than by not having something.
pub fn objects(store: &dyn Store, root: ReleaseId, into: &mut BTreeSet<ObjectId>) -> Result<(), Failure> {
    let mut open = vec![root];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) || seen.len() > limits::CLOSURE {
            continue;
        }
        into.insert(id.object());
        let Some(bytes) = present(store.object(id.object(), limits::RELEASE_BYTES))? else { continue };
        let Ok(release) = codec::decode::<Release>(&bytes) else { continue };
        open.extend(release.includes.iter().map(|i| i.release.id));
        for tree in trees_of(&release) {
            into.insert(tree.manifest);
            let Some(bytes) = present(store.object(tree.manifest, limits::MANIFEST_BYTES))? else { continue };
            let Ok(manifest) = codec::decode::<Manifest>(&bytes) else { continue };
            into.extend(manifest.entries.iter().filter_map(|e| match &e.node {
                Node::File { object, .. } => Some(*object),
                _ => None,
            }));
        }
    }
    Ok(())
}

/// Damaged counts as missing here: `fsck` has set it aside, or will.
fn present(read: Result<Vec<u8>, StoreError>) -> Result<Option<Vec<u8>>, Failure> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs something that blocks on a thread made for that.
///
/// # Errors
/// What it says; a panic inside is a bug of ours.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(Kind::Bug, format!("a worker ended early: {error}"))),
    }
}

/// The store of a context, for blocking threads.
pub(super) fn store(context: &Context) -> Arc<dyn Store> {
    context.store.clone()
}
