//! What owners ask of softservices that are here: what runs, stop, start, hold. Invariant: none of them touches a
//! softservice while a generation of it is on its way. Removal is in [`super::removal`], the way back in [`super::rollback`].

use super::{
    Device, blocking,
    error::{DeviceError, Result, io},
    record::{GenerationRecord, Standing, TestResult},
};
use serde::Serialize;
use softservice_protocol::{
    id::ReleaseId,
    instance::{Answers, Endpoint},
};
use std::collections::BTreeMap;

/// A softservice, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SoftserviceInfo {
    /// Its name.
    pub name: String,
    /// The top distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release, as hex.
    pub release: String,
    /// The current generation; of one that never was confirmed, the last tried.
    pub generation: u32,
    /// `running`, `degraded` (some service, or the front, does not run), `stopped`, `provisioning`, `failed` (never
    /// confirmed), `stuck` (a switch failed, and so did the way back), `removing` (its removal has begun and has not come to
    /// its end), `damaged` (its files cannot be read).
    pub state: String,
    /// Why it is so, where its owner is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// It stays at its version.
    pub held: bool,
    /// Its services in start order.
    pub services: Vec<ServiceInfo>,
    /// Where people reach it.
    pub endpoints: Vec<Endpoint>,
}

/// A service, as `ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// `running`, `waiting` (for its next start), `exited`, `stopping`, `stopped`.
    pub state: String,
    /// Its process.
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last.
    pub last_exit: Option<String>,
}

/// A generation, as `generations` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenerationInfo {
    /// It is the one that runs.
    pub current: bool,
    /// What its record says.
    #[serde(flatten)]
    pub record: GenerationRecord,
}

impl SoftserviceInfo {
    /// One of which nothing else can be said.
    fn only(name: String, state: &str) -> Self {
        Self {
            name,
            distro: String::new(),
            version: String::new(),
            release: String::new(),
            generation: 0,
            state: state.into(),
            why: None,
            held: false,
            services: Vec::new(),
            endpoints: Vec::new(),
        }
    }
}

impl Device {
    /// All softservices here, ascending by name. One that cannot be read is listed as damaged: it must not hide the others.
    ///
    /// # Errors
    /// The home cannot be listed.
    pub async fn list(&self) -> Result<Vec<SoftserviceInfo>> {
        let mut list = Vec::new();
        for name in super::names(&self.0.softservices)? {
            match self.info(&name).await {
                Ok(info) => list.push(info),
                // Only data is left of it.
                Err(DeviceError::Unknown { .. }) => {}
                Err(e) => {
                    tracing::error!(softservice = name, error = %e, "cannot be read");
                    list.push(SoftserviceInfo::only(name, "damaged"));
                }
            }
        }
        Ok(list)
    }

    /// One softservice.
    ///
    /// # Errors
    /// It is not here, or its files cannot be read.
    pub async fn info(&self, name: &str) -> Result<SoftserviceInfo> {
        let slot = match self.existing(name) {
            Err(DeviceError::Removing { name }) => return Ok(SoftserviceInfo::only(name, "removing")),
            found => found?,
        };
        let place = &slot.place;
        let state = place.read_state()?;
        let current = place.current_number()?;
        let shown = match current {
            Some(number) => number,
            None => place.numbers()?.into_iter().max().unwrap_or(0),
        };
        let record = place.record(shown)?;
        let mut info = SoftserviceInfo {
            name: name.into(),
            distro: record.distro,
            version: record.version,
            release: record.release,
            generation: shown,
            state: String::new(),
            why: slot.stuck().map(|error| error.to_string()),
            held: state.held,
            services: Vec::new(),
            endpoints: Vec::new(),
        };
        let mut open = true;
        if let Some(number) = current {
            let instance = place.instance(number)?;
            let services = slot.services(self, number)?;
            for service in &instance.services {
                let status = services.status(service).await;
                info.services.push(ServiceInfo {
                    name: service.name.clone(),
                    state: status.as_ref().map_or("stopped", |s| s.phase.name()).into(),
                    pid: status.as_ref().and_then(|s| s.pid),
                    restarts: status.as_ref().map_or(0, |s| s.restarts),
                    last_exit: status.and_then(|s| s.last_exit),
                });
            }
            open = instance.fronts.is_empty() || slot.front(self).runs().await;
            info.endpoints = instance.endpoints;
        }
        let all = open && info.services.iter().all(|s| s.state == "running");
        info.state = match current {
            _ if info.why.is_some() => "stuck",
            _ if slot.unfinished().is_some() => "provisioning",
            // Prepared, about to begin.
            None if record.state == Standing::Pending => "provisioning",
            None => "failed",
            Some(_) if !state.up => "stopped",
            Some(_) if all => "running",
            Some(_) => "degraded",
        }
        .into();
        Ok(info)
    }

    /// All generations of a softservice that are still here, ascending.
    ///
    /// # Errors
    /// It is not here, or a record cannot be read.
    pub async fn generations(&self, name: &str) -> Result<Vec<GenerationInfo>> {
        let slot = self.existing(name)?;
        let current = slot.place.current_number()?;
        let record = |n: u32| Ok(GenerationInfo { current: Some(n) == current, record: slot.place.record(n)? });
        slot.place.numbers()?.into_iter().map(record).collect()
    }

    /// Results of the tests in a generation's last confirmation.
    ///
    /// # Errors
    /// There is no such generation.
    pub async fn tests(&self, name: &str, number: u32) -> Result<Vec<TestResult>> {
        Ok(self.existing(name)?.place.record(number)?.tests)
    }

    /// Seconds that each effect of a generation's life took.
    ///
    /// # Errors
    /// There is no such generation.
    pub async fn phases(&self, name: &str, number: u32) -> Result<BTreeMap<String, f64>> {
        Ok(self.existing(name)?.place.record(number)?.phases)
    }

    /// The number and release of what is current.
    ///
    /// # Errors
    /// The softservice is not here.
    pub async fn current(&self, name: &str) -> Result<Option<(u32, ReleaseId)>> {
        let slot = self.existing(name)?;
        let Some(number) = slot.place.current_number()? else { return Ok(None) };
        Ok(Some((number, slot.place.inputs(number)?.0)))
    }

    /// The answers that the current generation was made with; none while there is no current one.
    ///
    /// # Errors
    /// The softservice is not here, or its answers cannot be read.
    pub async fn answers(&self, name: &str) -> Result<Answers> {
        let slot = self.existing(name)?;
        match slot.place.current_number()? {
            Some(number) => Ok(slot.place.inputs(number)?.1),
            None => Ok(Answers::new()),
        }
    }

    /// Releases of all generations here: what garbage collection must not take.
    ///
    /// # Errors
    /// A record cannot be read; then nothing may be collected.
    pub async fn pinned(&self) -> Result<Vec<ReleaseId>> {
        let device = self.clone();
        blocking(move || {
            let mut pinned = Vec::new();
            for name in super::names(&device.0.softservices)? {
                let place = super::Place::new(&device.0.softservices, &name)?;
                for number in place.numbers()? {
                    match place.record(number) {
                        Ok(record) => pinned.push(
                            record
                                .release()
                                .map_err(|why| DeviceError::Damaged { path: place.generation(number).record(), why })?,
                        ),
                        // On its way in or out: whoever makes it holds its release until it is written down.
                        Err(DeviceError::NoGeneration { .. }) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
            Ok(pinned)
        })
        .await
    }

    /// Stops a softservice; it stays stopped until [`Device::start`]. What is stopped already stays so.
    ///
    /// # Errors
    /// It is not here, is being provisioned, or a service could not be stopped.
    pub async fn down(&self, name: &str) -> Result<()> {
        let slot = self.existing(name)?;
        let _work = slot.calm().await?;
        slot.place.ease();
        // Written first: after a crash in between nothing of it starts again.
        slot.place.with_room(|| slot.place.change_state(|s| s.up = false))?;
        // Nobody new comes in; whoever is inside is served until the services end.
        slot.front(self).close().await?;
        if let Some(number) = slot.place.current_number()? {
            let instance = slot.place.instance(number)?;
            slot.services(self, number)?.stop(&instance, |_| true).await?;
        }
        slot.stop_keepers(self, |_, _| true).await?;
        slot.front(self).stop().await
    }

    /// Starts what of a softservice does not run, and waits until all of it is healthy. What runs is left alone; a service
    /// that ended, whatever its restart policy says, is started anew.
    ///
    /// # Errors
    /// It is not here, never was confirmed, is being provisioned, or is not healthy.
    pub async fn start(&self, name: &str) -> Result<()> {
        let slot = self.existing(name)?;
        let _work = slot.calm().await?;
        let number = slot.place.current_number()?;
        let number = number.ok_or_else(|| DeviceError::NeverConfirmed { name: name.into() })?;
        slot.place.ease();
        slot.place.with_room(|| slot.place.change_state(|s| s.up = true))?;
        let instance = slot.place.instance(number)?;
        slot.front(self).lead(&instance.fronts).await?;
        slot.services(self, number)?.start(&instance, |_| true, |_| {}).await?;
        slot.enable(self, number, &instance).await
    }

    /// Holds a softservice at its version, or lets it change again.
    ///
    /// # Errors
    /// It is not here.
    pub async fn hold(&self, name: &str, held: bool) -> Result<()> {
        let slot = self.existing(name)?;
        let _work = slot.work.lock().await;
        slot.place.stays()?;
        slot.place.change_state(|s| s.held = held)
    }

    /// Secrets that were made for a generation and are shown once: each with its text. They are shown by the first call.
    ///
    /// # Errors
    /// There is no such generation, or a secret cannot be read.
    pub async fn take_shown_once(&self, name: &str, number: u32) -> Result<Vec<(String, String)>> {
        let slot = self.existing(name)?;
        let mut keys = Vec::new();
        slot.place.change_record(number, |r| keys = std::mem::take(&mut r.shown_once))?;
        let read = |key: String| {
            let path = slot.place.secrets().join(&key);
            let text = std::fs::read_to_string(&path).map_err(io("read", &path))?;
            Ok((key, text))
        };
        keys.into_iter().map(read).collect()
    }
}
