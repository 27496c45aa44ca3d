//! Starting, watching and stopping the services of a generation. Invariant: a service is started when all that it waits
//! for is healthy; a monitor starts its keeper again should that die, until somebody stops the service.

use super::{
    Device,
    control::{self, Watch},
    course::Course,
    error::{DeviceError, Result},
    keeper::{Phase, Spec, Status},
    layout::Place,
    monitors::Monitors,
    probes,
};
use softservice_protocol::instance::{HealthSpec, Instance, Sandbox, ServiceSpec};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// The first wait between two questions to a starting service; it grows up to the healthcheck's interval.
const FIRST_QUESTION: Duration = Duration::from_millis(25);
/// Restarts after which a starting service is given up: it crashes by itself, waiting helps nobody.
const CRASHES: u32 = 3;
/// Time for a program to begin that nobody can ask for its health.
const BEGIN: Duration = Duration::from_secs(30);

/// The services of one generation, also those that an earlier one started and that run on.
#[derive(Debug, Clone)]
pub(super) struct Services<'a> {
    pub(super) place: &'a Place,
    pub(super) number: u32,
    pub(super) course: Course,
    pub(super) device: &'a Device,
    pub(super) monitors: &'a Monitors,
}

/// Every variable that a service gets beside its own: no more than a program needs to find others.
pub(super) fn environment(place: &Place, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), super::stage::PATH.to_owned()),
        ("HOME".to_owned(), place.home().to_string_lossy().into_owned()),
    ]);
    all.extend(own.clone());
    all
}

pub(super) fn span(span: softservice_protocol::time::Span) -> Duration {
    Duration::from_millis(span.0)
}

impl Services<'_> {
    /// The folder of the keeper that has a service.
    fn folder(&self, service: &ServiceSpec) -> PathBuf {
        self.place.keeper(self.course.runs_from(&service.role, self.number), &service.name)
    }

    /// Names a program of this generation among all of its softservice.
    fn what(&self, program: &str) -> String {
        format!("{}.{program}", self.number)
    }

    fn sick(&self, service: &str, why: String) -> DeviceError {
        DeviceError::Unhealthy { name: self.place.name.clone(), number: self.number, service: service.into(), why }
    }

    fn keeper(&self, service: &str, why: String) -> DeviceError {
        DeviceError::Keeper { name: self.place.name.clone(), number: self.number, service: service.into(), why }
    }

    /// Starts those services that `which` names, in their order, and waits until they are healthy. Others that they wait for
    /// are waited for.
    pub(super) async fn start(
        &self,
        instance: &Instance,
        which: impl Fn(&ServiceSpec) -> bool,
        mut before: impl FnMut(&ServiceSpec),
    ) -> Result<()> {
        let mut waited: Vec<&str> = Vec::new();
        for service in instance.services.iter().filter(|s| which(s)) {
            for name in &service.after {
                let needed = instance.services.iter().find(|s| s.name == *name && !waited.contains(&s.name.as_str()));
                if let Some(needed) = needed {
                    self.healthy(needed).await?;
                    waited.push(&needed.name);
                }
            }
            before(service);
            self.clear_ended(service).await?;
            self.launch(service).await?;
        }
        for service in instance.services.iter().filter(|s| which(s) && !waited.contains(&s.name.as_str())) {
            self.healthy(service).await?;
        }
        Ok(())
    }

    /// Ends the keeper of a service that has ended, or that waits for its next try: whoever asks for a start wants it to run
    /// now. A node that finds its services again asks for none: what ended for good stays so.
    async fn clear_ended(&self, service: &ServiceSpec) -> Result<()> {
        match self.status(service).await {
            Some(now) if !now.phase.is_up() => self.end(service).await,
            _ => Ok(()),
        }
    }

    /// Starts one service's keeper, unless it runs already, and a monitor.
    async fn launch(&self, service: &ServiceSpec) -> Result<()> {
        let folder = self.folder(service);
        let spec = self.spec(service)?;
        self.monitors.end(&folder).await;
        if control::status(&folder).await.is_none() {
            self.device.still_kept(self.place, self.number, &service.sandbox)?;
            let started = self.device.0.keepers.start(&folder, &spec).await;
            started.map_err(|why| self.keeper(&service.name, why))?;
        }
        let (keepers, of) = (self.device.0.keepers.clone(), folder.clone());
        self.monitors.watch(folder, format!("{}: the keeper", spec.service), move || {
            let (keepers, folder, spec) = (keepers.clone(), of.clone(), spec.clone());
            Box::pin(async move { keepers.start(&folder, &spec).await })
        });
        Ok(())
    }

    /// What the keeper is told. A service that runs on is what the generation that started it says, whose folder it
    /// runs out of.
    fn spec(&self, service: &ServiceSpec) -> Result<Spec> {
        let number = self.course.runs_from(&service.role, self.number);
        let service = match number == self.number {
            true => service.clone(),
            false => {
                let all = self.place.instance(number)?.services;
                let found = all.into_iter().find(|s| s.name == service.name);
                found.ok_or_else(|| DeviceError::NoGeneration { name: self.place.name.clone(), number })?
            }
        };
        let what = format!("{number}.{}", service.name);
        Ok(Spec {
            service: format!("{}/{}", self.place.name, service.name),
            arguments: self.device.0.keepers.command.get(1..).unwrap_or_default().to_vec(),
            command: service.command,
            environment: environment(self.place, &service.environment),
            folder: self.place.home(),
            log: self.place.generation(number).log(&service.name),
            restart: service.restart,
            stop_signal: service.stop_signal,
            grace: service.grace,
            confinement: Some(self.device.confinement(self.place, &what, &service.sandbox)?),
        })
    }

    /// Adopts services that run, starts the others, waits for none.
    pub(super) async fn resume(&self, instance: &Instance) -> Result<()> {
        for service in &instance.services {
            self.launch(service).await?;
        }
        Ok(())
    }

    /// Watches over those services that run; starts none.
    pub(super) async fn adopt(&self, instance: &Instance) -> Result<()> {
        for service in &instance.services {
            if self.status(service).await.is_some() {
                self.launch(service).await?;
            }
        }
        Ok(())
    }

    /// Stops those services that `which` names, those that need others first.
    pub(super) async fn stop(&self, instance: &Instance, which: impl Fn(&ServiceSpec) -> bool) -> Result<()> {
        for service in instance.services.iter().rev().filter(|s| which(s)) {
            self.end(service).await?;
        }
        Ok(())
    }

    /// Ends a service, its keeper and its monitor.
    async fn end(&self, service: &ServiceSpec) -> Result<()> {
        let folder = self.folder(service);
        self.monitors.end(&folder).await;
        let stopped = self.device.0.keepers.stop(&folder, span(service.grace)).await;
        stopped.map_err(|why| self.keeper(&service.name, why))
    }

    /// Lets its services come back at boot, where something but the node can see to that.
    pub(super) async fn enable(&self, instance: &Instance) -> Result<()> {
        for service in &instance.services {
            let enabled = self.device.0.keepers.enable(&self.folder(service)).await;
            enabled.map_err(|why| self.keeper(&service.name, why))?;
        }
        Ok(())
    }

    /// Everything of it that has a keeper: the generation that started it, and its name.
    pub(super) fn keepers(&self, instance: &Instance) -> BTreeSet<(u32, String)> {
        let from = |s: &ServiceSpec| self.course.runs_from(&s.role, self.number);
        instance.services.iter().map(|s| (from(s), s.name.clone())).collect()
    }

    /// How a service is; none when no keeper answers.
    pub(super) async fn status(&self, service: &ServiceSpec) -> Option<Status> {
        control::status(&self.folder(service)).await
    }

    /// Waits until a starting service is healthy.
    pub(super) async fn healthy(&self, service: &ServiceSpec) -> Result<()> {
        self.device.while_open(self.becomes_healthy(service)).await?
    }

    async fn becomes_healthy(&self, service: &ServiceSpec) -> Result<()> {
        let mut watch = Watch::open(&self.folder(service)).await;
        let gone = || self.sick(&service.name, "its keeper does not answer".into());
        let watch = watch.as_mut().ok_or_else(gone)?;
        let Some(check) = &service.health else {
            // Nothing says what healthy means: a process that is there must do.
            let mut first = None;
            let running = async {
                loop {
                    let now = watch.next().await.ok_or_else(gone)?;
                    if now.phase == Phase::Running {
                        return Ok(());
                    }
                    self.alive(service, &now, *first.get_or_insert(now.restarts))?;
                }
            };
            let late =
                |_| Err(self.sick(&service.name, format!("its program does not begin within {} s", BEGIN.as_secs())));
            return timeout(BEGIN, running).await.unwrap_or_else(late);
        };
        let end = Instant::now() + patience(check);
        let (mut wait, mut next_question, mut first) = (FIRST_QUESTION, Instant::now(), None);
        loop {
            tokio::select! {
                now = watch.next() => {
                    let now = now.ok_or_else(gone)?;
                    self.alive(service, &now, *first.get_or_insert(now.restarts))?;
                }
                () = tokio::time::sleep_until(next_question) => {
                    let answer = match self.question(service, check).await {
                        Ok(()) => self.itself(service).await,
                        bad => bad,
                    };
                    let Err(why) = answer else { return Ok(()) };
                    if Instant::now() >= end {
                        return Err(self.sick(&service.name, why));
                    }
                    next_question = Instant::now() + wait;
                    wait = (wait * 2).min(span(check.interval).max(FIRST_QUESTION));
                }
            }
        }
    }

    /// A good answer counts only while the service runs: somebody else may listen where it should.
    async fn itself(&self, service: &ServiceSpec) -> std::result::Result<(), String> {
        match self.status(service).await {
            Some(now) if now.phase == Phase::Running => Ok(()),
            Some(now) => Err(now.last_exit.unwrap_or_else(|| "something else answers in its place".into())),
            None => Err("its keeper does not answer".into()),
        }
    }

    /// An error when a service has ended for good or keeps crashing: restarts of before somebody asked for this start, of
    /// which `first` were seen first, are no matter.
    fn alive(&self, service: &ServiceSpec, now: &Status, first: u32) -> Result<()> {
        let exit = now.last_exit.as_deref().unwrap_or("it ended");
        match now.phase {
            Phase::Exited | Phase::Stopped | Phase::Stopping => Err(self.sick(&service.name, exit.into())),
            _ if now.restarts.saturating_sub(first) >= CRASHES => {
                Err(self.sick(&service.name, format!("{exit}; started again {} times", now.restarts - first)))
            }
            _ => Ok(()),
        }
    }

    /// A command that runs a program of this generation once, in a sandbox.
    pub(super) fn once(
        &self,
        what: &str,
        sandbox: &Sandbox,
        argv: &[String],
        own: &BTreeMap<String, String>,
    ) -> std::result::Result<tokio::process::Command, String> {
        let environment = environment(self.place, own);
        self.device.command(self.place, what, sandbox, argv, &environment).map_err(|e| e.to_string())
    }

    /// Asks a service's health once.
    pub(super) async fn question(&self, service: &ServiceSpec, check: &HealthSpec) -> std::result::Result<(), String> {
        let what = self.what(&service.name);
        let run = |argv: &[String]| self.once(&what, &service.sandbox, argv, &service.environment);
        probes::ask(&check.probe, span(check.timeout), &service.sandbox.connect, &run).await
    }

    /// Watches one service for a while: it must neither end nor answer badly `retries` times in a row.
    pub(super) async fn settles(&self, service: &ServiceSpec, settle: Duration) -> Result<()> {
        let end = Instant::now() + settle;
        let gone = || self.sick(&service.name, "its keeper does not answer".into());
        let mut watch = Watch::open(&self.folder(service)).await.ok_or_else(gone)?;
        let first = watch.next().await.ok_or_else(gone)?;
        if first.phase != Phase::Running {
            return Err(self.sick(&service.name, first.last_exit.unwrap_or_else(|| "it does not run".into())));
        }
        let (mut failures, mut next_question) = (0, Instant::now());
        loop {
            let interval = service.health.as_ref().map_or(settle, |c| span(c.interval)).max(FIRST_QUESTION);
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                now = watch.next() => {
                    let now = now.ok_or_else(gone)?;
                    if now.restarts > first.restarts || now.phase != Phase::Running {
                        let exit = now.last_exit.unwrap_or_else(|| "it ended".into());
                        return Err(self.sick(&service.name, format!("{exit} while it had to settle")));
                    }
                }
                () = tokio::time::sleep_until(next_question), if service.health.is_some() => {
                    let Some(check) = &service.health else { continue };
                    match self.question(service, check).await {
                        Ok(()) => failures = 0,
                        Err(why) => {
                            failures += 1;
                            if failures >= check.retries.max(1) {
                                return Err(self.sick(&service.name, why));
                            }
                        }
                    }
                    next_question = Instant::now() + interval;
                }
            }
        }
    }
}

/// How long a starting service may take: what its healthcheck allows before it counts as unhealthy.
fn patience(check: &HealthSpec) -> Duration {
    span(check.start_period) + span(check.interval) * check.retries.max(1)
}
