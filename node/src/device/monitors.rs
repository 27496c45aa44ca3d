//! Monitors: tasks of the node that start keepers and fronts again should they die. Invariant: whoever starts or stops one
//! ends its monitor before, and an ended monitor starts nothing any more: never are two about to start one service.

use super::control::Watch;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};

/// Between two attempts to bring something back.
const REVIVAL: Duration = Duration::from_secs(2);

/// A start that is under way: done, or why not.
pub(super) type Starting = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The monitors of one softservice by folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Monitors(Arc<Mutex<BTreeMap<PathBuf, Monitor>>>);

#[derive(Debug)]
struct Monitor {
    /// Dropped, it asks the task to end.
    _end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Monitors {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Monitor>> {
        // Each change is one call: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over what has this folder and runs; `again` starts another.
    pub(super) fn watch(&self, folder: PathBuf, what: String, again: impl Fn() -> Starting + Send + 'static) {
        let (_end, mut ended) = oneshot::channel();
        let watched = folder.clone();
        let task = tokio::spawn(async move {
            loop {
                let alive = async {
                    if let Some(mut watch) = Watch::open(&watched).await {
                        while watch.next().await.is_some() {}
                    }
                };
                tokio::select! {
                    () = alive => {}
                    _ = &mut ended => return,
                }
                tracing::warn!("{what} is gone, starting it again");
                // Not cut off: what is about to start could not be stopped by anybody.
                let Err(why) = again().await else { continue };
                tracing::error!(why, "{what} could not be started again");
                tokio::select! {
                    () = sleep(REVIVAL) => {}
                    _ = &mut ended => return,
                }
            }
        });
        self.all().insert(folder, Monitor { _end, task });
    }

    /// Ends a monitor; returns when it starts nothing any more.
    pub(super) async fn end(&self, folder: &Path) {
        let monitor = self.all().remove(folder);
        if let Some(Monitor { _end, task }) = monitor {
            drop(_end);
            let _ = task.await;
        }
    }

    /// Ends all, at once: their node is gone.
    pub(super) fn cut_off(&self) {
        for monitor in std::mem::take(&mut *self.all()).into_values() {
            monitor.task.abort();
        }
    }
}
