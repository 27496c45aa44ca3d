//! Throwaway places: a home with a node of its own, for trials. Invariant: whatever happens - a failure, a caller who went
//! away, a node that stops - its services are stopped and its folder is removed; what a killed process leaves is cleared at
//! the next start of a node of that home, or by its next trial.

pub(super) mod register;

use super::{
    failure::{Failure, Kind},
    fetch, lock,
    publish::{self, Reading},
    source,
};
use crate::{Config, Context, Node, api::talk::Talk, shutdown::Stop};
use softservice_protocol::{
    io::Depth,
    release::{ParamKind, Release, ReleaseRef},
};
use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};
use tokio::sync::watch;

/// How long a stopping node waits for trials to clean up: services have their grace periods.
const PATIENCE: Duration = Duration::from_secs(60);

/// Trials that have not cleaned up yet, in this process.
static OPEN: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);

/// Returns when every trial of this process has cleaned up.
pub(crate) async fn ended() {
    let mut open = OPEN.subscribe();
    // Cut off after a while: a node must stop also when a service of a trial does not.
    let _ = tokio::time::timeout(PATIENCE, open.wait_for(|n| *n == 0)).await;
}

struct Open;
impl Open {
    fn new() -> Self {
        OPEN.send_modify(|n| *n += 1);
        Self
    }
}
impl Drop for Open {
    fn drop(&mut self) {
        OPEN.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Asked when the caller's future is dropped.
struct Caller(Stop);
impl Drop for Caller {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Runs trials in a task of their own: when the caller goes away this future is dropped, and places must still be cleared.
/// `work` is given a token that is asked then, or when the node of `context` stops.
///
/// # Errors
/// What `work` says; a panic inside is a bug of ours.
pub(super) async fn attended<T, F>(context: &Context, work: impl FnOnce(Stop) -> F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let gone = Stop::default();
    let caller = Caller(gone.clone());
    let (work, stop, end) = (work(gone.clone()), context.stop.clone(), gone);
    let done = tokio::spawn(async move {
        let _open = Open::new();
        let watch = tokio::spawn(async move {
            stop.wait().await;
            end.ask();
        });
        let outcome = work.await;
        watch.abort();
        outcome
    })
    .await;
    drop(caller);
    done.unwrap_or_else(|error| Err(Failure::new(Kind::Bug, format!("a bug in this program: {error}"))))
}

/// Cut off.
pub(super) fn abandoned() -> Failure {
    Failure::new(Kind::NoNode, "nobody waits for it any more, or the node is stopping")
}

/// A place.
#[derive(Debug)]
pub(super) struct Throwaway {
    folder: register::Folder,
    config: Config,
    node: Option<Node>,
}

impl Throwaway {
    /// Makes one, with its node, for the home of `like`.
    ///
    /// # Errors
    /// The folder cannot be made, or the node does not start.
    pub(super) async fn open(like: &Config) -> Result<Self, Failure> {
        register::sweep(like).await;
        let folder = register::Folder::make(&like.home)?;
        let config = Config {
            home: folder.path().join(register::HOME),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            mdns: false,
            dht: false,
            beside: like.beside.iter().chain([&like.home]).cloned().collect(),
            keeper: like.keeper.clone(),
            units: false,
            clock: like.clock.clone(),
            ..Config::default()
        };
        let mut place = Self { folder, config, node: None };
        if let Err(failure) = place.start().await {
            // Nothing runs in it.
            place.folder.remove()?;
            return Err(failure);
        }
        Ok(place)
    }

    /// Starts its node again.
    ///
    /// # Errors
    /// It does not start.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let started = crate::start(self.config.clone()).await;
        let started = started.map_err(|e| Failure::failed(format!("no throwaway node could be started: {e}")))?;
        self.node = Some(started);
        Ok(())
    }

    /// What verbs work with. To be dropped before [`Throwaway::stop`]: it keeps the store open.
    ///
    /// # Errors
    /// Its node is stopped.
    pub(super) fn context(&self) -> Result<Context, Failure> {
        let node = self.node.as_ref();
        node.map(Node::context).ok_or_else(|| Failure::new(Kind::Bug, "a throwaway node is used after it stopped"))
    }

    /// Its home.
    pub(super) fn home(&self) -> &Path {
        &self.config.home
    }

    /// Stops its node; what its keepers run goes on.
    pub(super) async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
    }

    /// Stops whatever runs in it and removes it.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        if self.node.is_none() {
            // Its services may run on under keepers that only a node of this home knows; another node of it may be ending.
            self.free().await?;
            self.start().await?;
        }
        if let Some(node) = self.node.take() {
            // The device alone: a whole context would keep the store open beyond the node.
            if let Err(error) = node.device().clear().await {
                tracing::warn!(%error, "a trial could not be cleared in order");
            }
            node.stop().await;
        }
        self.folder.remove()?;
        Ok(())
    }

    /// Returns when no node has the home.
    async fn free(&self) -> Result<(), Failure> {
        let path = self.config.home.join("lock");
        super::closure::blocking(move || {
            let file = std::fs::File::open(&path)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
            Ok(())
        })
        .await
    }

    /// Does something in a new place and takes the place away again, whatever comes of it.
    ///
    /// # Errors
    /// What `work` says; that nobody waits for it any more.
    pub(super) async fn with<T>(
        like: &Config,
        gone: &Stop,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut place = Self::open(like).await?;
        let outcome = gone.or(work(&mut place)).await.unwrap_or_else(|| Err(abandoned()));
        place.close().await?;
        outcome
    }
}

/// Compiles a folder in a throwaway place, with what it includes brought there.
pub(super) async fn from_folder(
    context: &Context,
    trial: &Context,
    dir: PathBuf,
    talk: &Talk,
) -> Result<ReleaseRef, Failure> {
    let project = super::closure::blocking(move || source::read(&dir)).await?;
    let (lock, releases) = lock::resolve(context, &project, Depth::Content, talk).await?;
    let includes: Vec<ReleaseRef> = lock.includes.iter().map(|l| l.release).collect();
    hand_over(context, trial, &includes, talk).await?;
    let publisher = publish::own(trial).await?;
    Ok(publish::compile(trial, publisher, &project, (lock, releases), Reading::default(), talk).await?.reference)
}

/// Content goes from one node to another as it goes to any device: over a connection, verified.
pub(super) async fn hand_over(
    from: &Context,
    to: &Context,
    releases: &[ReleaseRef],
    talk: &Talk,
) -> Result<(), Failure> {
    if releases.is_empty() {
        return Ok(());
    }
    let addresses = from.handle.status().await?.addresses;
    let near: Vec<String> = addresses.iter().filter(|a| a.starts_with("/ip4/127.")).cloned().collect();
    for address in if near.is_empty() { addresses } else { near } {
        to.handle.dial(address).await?;
    }
    for release in releases {
        fetch::bring(to, *release, Depth::Content, talk).await?;
    }
    Ok(())
}

/// Something that fits, for questions that have no default: a test must run without its author being asked.
pub(super) fn placeholders(release: &Release) -> BTreeMap<String, String> {
    let open = release.params.iter().filter(|p| p.default.is_none());
    open.map(|p| {
        let number = p.min.or(p.max).unwrap_or(1).to_string();
        let answer = match &p.kind {
            ParamKind::Text => "test".into(),
            ParamKind::Int | ParamKind::Size | ParamKind::Duration => number,
            ParamKind::Bool => "true".into(),
            ParamKind::Enum(of) => of.first().cloned().unwrap_or_default(),
            ParamKind::Hostname => "localhost".into(),
            ParamKind::Port => "8080".into(),
            ParamKind::Url => "http://localhost/".into(),
            ParamKind::Path => "/tmp".into(),
        };
        (p.name.clone(), answer)
    })
    .collect()
}
