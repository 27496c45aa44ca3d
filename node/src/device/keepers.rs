//! How keepers and fronts come and go on this machine: as processes of their own, or, where systemd runs the machine and is
//! to be used, as its units. Invariant: which of both it is changes nothing for whoever asks: what was started answers, and
//! of what was stopped nothing lives, nor comes back.

use super::{
    control,
    keeper::{Spec, files},
    services::span,
    units::{Purpose, Units},
};
use std::{path::Path, sync::Arc, time::Duration};

/// The way of this device.
#[derive(Debug, Clone)]
pub(super) struct Keepers {
    /// Program and first arguments of a keeper.
    pub(super) command: Arc<[String]>,
    units: Option<Arc<Units>>,
}

impl Keepers {
    /// Processes of their own.
    pub(super) fn detached(command: Vec<String>) -> Self {
        Self { command: command.into(), units: None }
    }

    /// Units of the systemd that runs this machine, if one does and answers; else processes of their own.
    pub(super) fn found(command: Vec<String>, softservices: &Path) -> Self {
        let units = Units::find(softservices, command.first().map_or("", String::as_str));
        match &units {
            Ok(_) => tracing::info!("services are units of systemd"),
            Err(why) => tracing::debug!(why, "services are no units of systemd"),
        }
        Self { command: command.into(), units: units.ok().map(Arc::new) }
    }

    /// What is confirmed comes back at boot without a node.
    pub(super) fn at_boot(&self) -> bool {
        self.units.is_some()
    }

    /// Starts a service's keeper, unless it runs, and waits until it can be talked to.
    pub(super) async fn start(&self, folder: &Path, spec: &Spec) -> Result<(), String> {
        let task = control::write_task(folder, spec)?;
        self.launch(folder, &task, &spec.service, span(spec.grace)).await
    }

    /// Starts what a task in its folder says, unless it runs, and waits until it can be talked to. `what` is for people.
    pub(super) async fn launch(&self, folder: &Path, task: &Path, what: &str, grace: Duration) -> Result<(), String> {
        let Some(units) = &self.units else { return control::launch(&self.command, folder, task).await };
        let words = folder.join(files::WORDS);
        let (description, command) = (format!("softservice {what}"), &*self.command);
        let of = Purpose { description: &description, command, folder, task, words: &words, grace };
        units.start(of).await?;
        match control::status(folder).await {
            Some(_) => Ok(()),
            // It is active, and hangs.
            None => units.restart(of).await,
        }
    }

    /// Stops what a folder keeps and its keeper, and removes the folder. See [`control::stop`].
    pub(super) async fn stop(&self, folder: &Path, grace: Duration) -> Result<(), String> {
        if let Some(units) = self.units.as_ref().filter(|u| u.has(folder)) {
            units.remove(folder, grace).await?;
        }
        control::stop(folder, grace).await
    }

    /// Lets what this folder keeps come back at boot, where something but the node can see to that.
    pub(super) async fn enable(&self, folder: &Path) -> Result<(), String> {
        match &self.units {
            Some(units) => units.enable(folder).await,
            None => Ok(()),
        }
    }

    /// Forgets what is left of folders that are gone.
    pub(super) async fn sweep(&self) {
        if let Some(units) = &self.units {
            units.sweep().await;
        }
    }
}
