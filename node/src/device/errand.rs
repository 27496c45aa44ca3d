//! Errands: programs that run once for a role and end - migrations, hooks. Invariant: one runs under a keeper, so that it ends
//! with its generation's services and never outlives a way back, whatever becomes of the node that sent it.

use super::{
    Device,
    control::{self, Watch},
    keeper::{Phase, Spec},
    layout::Place,
    logs, services,
};
use softservice_protocol::{
    instance::Sandbox,
    release::{Restart, StopSignal},
    time::Span,
};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tokio::time::timeout;

/// Time from SIGTERM to SIGKILL of one that is given up.
const GRACE: Span = Span::seconds(10);
/// Lines of its output that a failure tells.
const LAST_WORDS: usize = 5;

/// A program to run once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) device: &'a Device,
    pub(super) place: &'a Place,
    /// The generation for which it runs.
    pub(super) number: u32,
    /// Of its keeper's folder and its log. No service has a name with an `@`.
    pub(super) name: &'a str,
    pub(super) command: &'a [String],
    pub(super) environment: &'a BTreeMap<String, String>,
    /// What it may see and do.
    pub(super) sandbox: &'a Sandbox,
    /// It must end within this time.
    pub(super) within: Duration,
}

impl Errand<'_> {
    /// Runs it to its end. One that an earlier life of the node left is ended, not waited for.
    ///
    /// # Errors
    /// How it ended, and what it said last.
    pub(super) async fn run(&self) -> Result<(), String> {
        let folder = self.place.keeper(self.number, self.name);
        let keeper = &self.device.0.keepers.command;
        let what = format!("{}.{}", self.number, self.name);
        let confinement = self.device.confinement(self.place, &what, self.sandbox).map_err(|e| e.to_string())?;
        let spec = Spec {
            service: format!("{}/{}", self.place.name, self.name),
            arguments: keeper.get(1..).unwrap_or_default().to_vec(),
            command: self.command.to_vec(),
            environment: services::environment(self.place, self.environment),
            folder: self.place.home(),
            log: self.place.generation(self.number).log(self.name),
            restart: Restart::No,
            stop_signal: StopSignal::Term,
            grace: GRACE,
            confinement: Some(confinement),
        };
        let grace = services::span(GRACE);
        control::stop(&folder, grace).await?;
        control::start(keeper, &folder, &spec).await?;
        let outcome = self.device.while_open(timeout(self.within, ended(&folder))).await;
        control::stop(&folder, grace).await?;
        let why = match outcome.map_err(|e| e.to_string())? {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => format!("it did not end within {} s", self.within.as_secs()),
        };
        let mut said = logs::tail(&spec.log, 2 * LAST_WORDS);
        said.retain(|line| !line.starts_with("-- softservice") && !line.trim().is_empty());
        let said = said.split_off(said.len().saturating_sub(LAST_WORDS));
        Err(if said.is_empty() { why } else { format!("{why}: {}", said.join(" / ")) })
    }
}

/// How it ended.
async fn ended(folder: &Path) -> Result<(), String> {
    let gone = || "its keeper does not answer".to_owned();
    let mut watch = Watch::open(folder).await.ok_or_else(gone)?;
    loop {
        let now = watch.next().await.ok_or_else(gone)?;
        if now.phase == Phase::Exited {
            return if now.succeeded { Ok(()) } else { Err(now.last_exit.unwrap_or_else(|| "it ended".into())) };
        }
    }
}
