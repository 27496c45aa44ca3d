//! The front of a softservice: one small process that owns the public ports of its roles without data and passes every
//! connection on to the generation that serves now. Invariant: what it does is what its table says; the table is a file
//! that is renamed into place, so that a front that was killed comes back as it was.
//!
//! It has the shape of a keeper: a folder of its own with lock, status and socket, a session of its own, no need of the
//! node. A restarted or upgraded node finds it and talks on. Handing listening sockets from service to service was
//! refused: every program would have to know how to take one, and programs out of Debian do not.
//!
//! What a service behind a front does not see is the address of its caller: connections come from this device.

mod connections;
mod listen;
mod process;
#[cfg(test)]
mod tests;

pub(super) use process::run;

use super::{
    control, durable,
    error::{DeviceError, Result},
    keeper::{self, Task, files},
    keepers::Keepers,
    layout::Place,
    monitors::Monitors,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::instance::FrontSpec;
use std::{path::Path, time::Duration};

/// Time for a front to read its table and listen.
const TURN: Duration = Duration::from_secs(10);

/// A table beside the one in force, in the front's folder: see [`Front::keep`].
const KEPT: &str = "front-before.json";

/// What a front does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// For messages.
    pub(super) softservice: String,
    /// Where it listens, and where it leads to.
    pub(super) ports: Vec<FrontSpec>,
}

/// What a front says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// It is so.
    Done,
    /// It is not, and nothing changed.
    Error(String),
}

/// The node's side of a front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front<'a> {
    pub(super) place: &'a Place,
    pub(super) keepers: &'a Keepers,
    pub(super) monitors: &'a Monitors,
}

impl Front<'_> {
    fn wrong(&self, why: impl Into<String>) -> DeviceError {
        DeviceError::Front { name: self.place.name.clone(), why: why.into() }
    }

    /// Whether one answers.
    pub(super) async fn runs(&self) -> bool {
        control::status(&self.place.front()).await.is_some()
    }

    /// The ports of the table in force; none when there is no front.
    pub(super) fn table(&self) -> Vec<FrontSpec> {
        self.read(files::FRONT)
    }

    fn read(&self, file: &str) -> Vec<FrontSpec> {
        match durable::read_json::<Task>(&self.place.front().join(file)) {
            Ok(Some(Task::Front(table))) => table.ports,
            _ => Vec::new(),
        }
    }

    fn write(&self, file: &str, ports: &[FrontSpec]) -> Result<()> {
        let folder = self.place.front();
        durable::folder(&folder, 0o700)?;
        let table = Table { softservice: self.place.name.clone(), ports: ports.to_vec() };
        durable::write_json(&folder.join(file), &Task::Front(table))
    }

    /// Makes a table ahead, so that [`Self::lead`] to these ports needs no room on the disk.
    pub(super) fn keep(&self, ports: &[FrontSpec]) -> Result<()> {
        if ports.is_empty() { Ok(()) } else { self.write(KEPT, ports) }
    }

    /// Puts a table in force for whoever reads it next; nothing is written that is there.
    fn put(&self, ports: &[FrontSpec]) -> Result<()> {
        if self.table() == ports {
            return Ok(());
        }
        let folder = self.place.front();
        if self.read(KEPT) == ports {
            return durable::rename(&folder.join(KEPT), &folder.join(files::FRONT));
        }
        self.write(files::FRONT, ports)
    }

    /// Leads these ports where they say, and no others; returns when new connections go there. Connections that stand
    /// stay where they are. A front that leads nowhere ends.
    pub(super) async fn lead(&self, ports: &[FrontSpec]) -> Result<()> {
        if ports.is_empty() {
            return self.stop().await;
        }
        let (folder, before) = (self.place.front(), self.table());
        self.put(ports)?;
        self.monitors.end(&folder).await;
        let led = if self.runs().await { self.turn().await } else { self.start().await };
        if led.is_err() && !before.is_empty() {
            // It serves what it served before, and must come back to that should it be killed.
            self.put(&before)?;
        }
        if self.runs().await {
            self.watch_over().await;
        }
        led
    }

    /// Tells a running front to read its table again.
    async fn turn(&self) -> Result<()> {
        let answer = control::ask(&self.place.front(), "turn", TURN).await;
        match answer.as_deref().map(serde_json::from_str) {
            Some(Ok(Answer::Done)) => Ok(()),
            Some(Ok(Answer::Error(why))) => Err(self.wrong(why)),
            _ => Err(self.wrong("does not answer")),
        }
    }

    async fn start(&self) -> Result<()> {
        let folder = self.place.front();
        // One that hangs would keep the lock and the ports.
        keeper::end_leftovers(&folder).await;
        launch(self.keepers, &self.place.name, &folder).await.map_err(|why| self.wrong(why))
    }

    /// Brings it back should it die, until somebody stops it.
    pub(super) async fn watch_over(&self) {
        let folder = self.place.front();
        self.monitors.end(&folder).await;
        let (keepers, name, of) = (self.keepers.clone(), self.place.name.clone(), folder.clone());
        self.monitors.watch(folder, format!("{}: the front", self.place.name), move || {
            let (keepers, name, folder) = (keepers.clone(), name.clone(), of.clone());
            Box::pin(async move { launch(&keepers, &name, &folder).await })
        });
    }

    /// Waits until no connection to these inner ports is left, or so long.
    pub(super) async fn drain(&self, inner: &[u16], patience: Duration) {
        if inner.is_empty() || !self.runs().await {
            return;
        }
        let numbers: Vec<String> = inner.iter().map(u16::to_string).collect();
        let drained = control::ask(&self.place.front(), &format!("drain {}", numbers.join(" ")), patience).await;
        if drained.is_none() {
            tracing::info!(softservice = self.place.name, ?patience, "connections outlive their grace");
        }
    }

    /// Stops listening; connections that stand go on until their services end.
    pub(super) async fn close(&self) -> Result<()> {
        if !self.runs().await {
            return Ok(());
        }
        self.write(files::FRONT, &[])?;
        self.turn().await
    }

    /// Ends it with all its connections.
    pub(super) async fn stop(&self) -> Result<()> {
        let folder = self.place.front();
        self.monitors.end(&folder).await;
        self.keepers.stop(&folder, Duration::ZERO).await.map_err(|why| self.wrong(why))
    }

    /// Lets it come back at boot, where something but the node can see to that.
    pub(super) async fn enable(&self) -> Result<()> {
        self.keepers.enable(&self.place.front()).await.map_err(|why| self.wrong(why))
    }
}

/// Starts the front of a folder, unless it runs.
async fn launch(keepers: &Keepers, softservice: &str, folder: &Path) -> std::result::Result<(), String> {
    let what = format!("{softservice}: front");
    keepers.launch(folder, &folder.join(files::FRONT), &what, Duration::ZERO).await
}
