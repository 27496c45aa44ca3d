//! A release with everything that it includes, as verbs describe it. Invariant: every document in a closure decoded from
//! bytes that hash to its id; the store reads it, see `softservice_store::closure`.

use super::failure::{Failure, Kind};
use crate::{context::Context, device};
use softservice_protocol::{
    id::ReleaseId,
    release::{Release, ReleaseRef},
    tree::TreeRef,
};
use softservice_store::Store;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Which release that is.
    pub(super) fn id(&self) -> ReleaseId {
        self.root
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

/// Bytes of content that a fetch would still bring.
///
/// # Errors
/// When a document or manifest is missing or not what was pinned.
pub(super) async fn missing_bytes(context: &Context, release: ReleaseRef) -> Result<u64, Failure> {
    let store = store(context);
    blocking(move || {
        // Every include is here as well, and fits.
        softservice_store::closure::closure(store.as_ref(), release.id)?;
        Ok(softservice_store::closure::missing_bytes(store.as_ref(), release.id, &device::platform())?)
    })
    .await
}

/// Does beside a fetch what provisioning would wait for: finds out what this machine can keep, and hashes what is here already of
/// the trees that will be made of the release, until this is dropped.
pub(super) struct Ahead {
    going: Arc<AtomicBool>,
}

impl Ahead {
    pub(super) fn begin(context: &Context, release: ReleaseId) -> Self {
        let (store, going) = (store(context), Arc::new(AtomicBool::new(true)));
        let (goes_on, device) = (going.clone(), context.device.clone());
        tokio::task::spawn_blocking(move || device.try_machine());
        tokio::task::spawn_blocking(move || {
            // What cannot be read is told by whoever needs it.
            match softservice_store::closure::tree_files(store.as_ref(), release, &device::platform()) {
                Ok(files) => store.prove(&files, &|| goes_on.load(Ordering::Relaxed)),
                Err(e) => tracing::debug!(release = release.short(), "nothing to hash ahead: {e}"),
            }
        });
        Self { going }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
    }
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
