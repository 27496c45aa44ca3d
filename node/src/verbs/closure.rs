//! A release with everything that it includes, as verbs describe it. Invariant: every document in a closure decoded from
//! bytes that hash to its id; the store reads it, see `softservice_store::closure`.

use super::failure::{Failure, Kind};
use crate::context::Context;
use softservice_protocol::{
    id::ReleaseId,
    release::{Release, ReleaseRef},
    tree::TreeRef,
};
use softservice_store::Store;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All documents of a closure.
#[derive(Debug, Clone)]
pub(super) struct Closure {
    root: ReleaseId,
    releases: BTreeMap<ReleaseId, Release>,
}

impl Closure {
    /// The release itself.
    ///
    /// # Errors
    /// Never, for a closure that was loaded; typed so that nobody has to trust this sentence.
    pub(super) fn root(&self) -> Result<&Release, Failure> {
        self.releases.get(&self.root).ok_or_else(|| Failure::new(Kind::Bug, "a closure without its own release"))
    }
    /// All of them, by id.
    pub(super) fn releases(&self) -> &BTreeMap<ReleaseId, Release> {
        &self.releases
    }
    /// The trees of all of them, sources included, each once.
    pub(super) fn trees(&self) -> Vec<&TreeRef> {
        let all = self.releases.values().flat_map(trees_of);
        let mut seen = BTreeSet::new();
        all.filter(|tree| seen.insert(tree.manifest)).collect()
    }
    /// The trees that a device of this platform fetches: its artifacts and every source.
    pub(super) fn trees_for(&self, platform: &str) -> Vec<&TreeRef> {
        let fits = |of: &str| of == platform || of == softservice_protocol::definition::ANY;
        let artifacts = self.releases.values().flat_map(|r| &r.roles).flat_map(|r| &r.artifacts).flat_map(|a| &a.trees);
        let mine = artifacts.filter(|(of, _)| fits(of)).map(|(_, tree)| tree);
        let all = mine.chain(self.releases.values().map(|r| &r.source));
        let mut seen = BTreeSet::new();
        all.filter(|tree| seen.insert(tree.manifest)).collect()
    }
    /// Bytes and files of all trees and documents.
    pub(super) fn totals(&self) -> (u64, u64) {
        self.trees()
            .iter()
            .fold((0, 0), |(bytes, files), t| (bytes.saturating_add(t.bytes), files + u64::from(t.files)))
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
pub(super) async fn load(context: &Context, release: ReleaseRef) -> Result<Closure, Failure> {
    let store = context.store.clone();
    let releases = blocking(move || Ok(softservice_store::closure::closure(store.as_ref(), release.id)?)).await?;
    Ok(Closure { root: release.id, releases: releases.into_iter().collect() })
}

/// Runs something that blocks on a thread made for that.
///
/// # Errors
/// What it says; a panic inside is a bug of ours.
pub(super) async fn blocking<T: Send + 'static>(
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
