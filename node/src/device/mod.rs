//! The device: carries out the steps of a generation's life. The core decides which; see `protocol/src/machine/provision.rs`.
//! Invariant: each step is journaled before it is done, and safe to repeat. This folder never imports libp2p.
//!
//! Reading order: [`layout`] (where things are), [`step`] and [`life`] (the effects) with [`course`] (what they obey), [`stage`],
//! [`services`], [`front`], [`snapshot`], [`confirm`], [`commit`], [`recover`], then [`keeper`], the process that each service
//! has, [`control`], our side of it, and [`keepers`], how it comes and goes, also as a unit of systemd ([`units`]).

mod backup;
mod clear;
mod commit;
mod confirm;
mod control;
mod course;
mod dial;
mod durable;
mod errand;
mod error;
mod front;
mod journal;
mod keeper;
mod keepers;
mod layout;
mod left;
mod life;
mod logs;
mod migrate;
mod monitors;
mod overlay;
mod planning;
mod ports;
mod probes;
mod readable;
mod record;
mod recover;
mod removal;
mod rollback;
mod room;
mod sandboxes;
mod secrets;
mod services;
mod slot;
mod snapshot;
mod stage;
mod static_server;
mod step;
mod switch;
mod trees;
mod trespass;
mod units;
mod upkeep;
mod users;
mod verbs;

pub use backup::{
    BackupError, BackupRecord, BackupRequest, FromBackup, Keys, Lock, Restore, Tell, Unpacked, VolumeSum,
};
pub use error::{DeviceError, Result};
pub use keeper::keeper_main;
pub(crate) use keeper::{boot, descendants, launch_task, once_task, started};
pub use layout::platform;
pub use left::Lineage;
pub use logs::{LogLine, Logs};
pub use overlay::OverlayText;
pub use planning::PlanRequest;
pub(crate) use readable::readable;
pub use record::{GenerationRecord, Standing, TestResult};
pub use static_server::serve_static;
pub use upkeep::TreeFindings;
pub use verbs::{GenerationInfo, ServiceInfo, SoftserviceInfo};

use crate::{sandbox::Machine, shutdown::Stop};
use keepers::Keepers;
use layout::Place;
use slot::Slot;
use softservice_protocol::io::{ProvisionInput, ProvisionStep};
use softservice_store::Store;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use users::Users;

/// All softservices of this home. Cheap to clone; dropping the last one stops no service.
#[derive(Debug, Clone)]
pub struct Device(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    softservices: PathBuf,
    store: Arc<dyn Store>,
    keepers: Keepers,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    /// Ports are given by one softservice at a time: two must not see the same one free.
    giving_ports: Mutex<()>,
    /// [`Device::clear`] was called: nothing is done any more.
    closing: Stop,
    /// Where this home is.
    home: PathBuf,
    /// Other homes of which nothing is shown either.
    others: OnceLock<Vec<PathBuf>>,
    users: Users,
    /// What this machine can keep; found out when it is first asked for.
    machine: OnceLock<Machine>,
}

/// A panic elsewhere leaves these maps whole: each change of them is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of all softservices here, ascending.
fn names(softservices: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(softservices).map_err(error::io("list", softservices))?;
    let mut names: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| softservice_protocol::name::check(n).is_ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Runs what must not end in the middle in a task of its own: it goes on also when nobody waits for it any more.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.try_into_panic().unwrap_or_else(|e| Box::new(e.to_string()))),
    }
}

/// Asks such work to stop where it may, when whoever waits for it goes away.
struct Waiting(Arc<AtomicBool>);
impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.try_into_panic().unwrap_or_else(|e| Box::new(e.to_string()))),
    }
}

impl Device {
    /// Opens `home/softservices`; starts nothing. `keeper` is the command that runs a keeper: program and first
    /// arguments, for example `["/usr/bin/softservice", "keeper"]`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(home: PathBuf, store: Arc<dyn Store>, keeper: Vec<String>) -> std::io::Result<Self> {
        Self::of(home, store, |_| Keepers::detached(keeper))
    }

    /// As [`Device::open`]; where systemd runs the machine, services are units of it, and come back at boot without a node.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with_units(home: PathBuf, store: Arc<dyn Store>, keeper: Vec<String>) -> std::io::Result<Self> {
        Self::of(home, store, |softservices| Keepers::found(keeper, softservices))
    }

    /// Nothing of these homes is shown to any program either, whatever its permissions say. Said once, before anything is
    /// planned.
    #[must_use]
    pub fn beside(self, homes: Vec<PathBuf>) -> Self {
        self.0.others.get_or_init(|| homes);
        self
    }

    fn of(home: PathBuf, store: Arc<dyn Store>, keepers: impl FnOnce(&Path) -> Keepers) -> std::io::Result<Self> {
        // Paths of a generation reach services, which run elsewhere: they must not depend on where we stand.
        let home = std::path::absolute(home)?;
        let softservices = home.join("softservices");
        durable::folder(&softservices, 0o700).map_err(std::io::Error::other)?;
        let inner = Inner {
            keepers: keepers(&softservices),
            softservices,
            store,
            slots: Mutex::default(),
            giving_ports: Mutex::default(),
            closing: Stop::default(),
            users: Users::new(home.join("users.json")),
            home,
            others: OnceLock::new(),
            machine: OnceLock::new(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// What an earlier life left in the middle: to be told to the core before anything else. Also finds running
    /// keepers again and starts those that should run and do not. What goes wrong with one softservice is logged and
    /// shown by [`Device::list`]; it does not keep the others from running.
    pub async fn recover(&self) -> Vec<ProvisionInput> {
        let mut told = Vec::new();
        self.forget_unpacked();
        self.0.keepers.sweep().await;
        let names = match names(&self.0.softservices) {
            Ok(names) => names,
            Err(e) => {
                tracing::error!(error = %e, "the softservices of this device cannot be listed");
                return told;
            }
        };
        self.clear_up(&names);
        for name in names {
            match self.recover_one(&name).await {
                Ok(unfinished) => told.extend(unfinished.map(|step| ProvisionInput::Interrupted { step })),
                Err(e) => tracing::error!(softservice = name, error = %e, "could not be brought back"),
            }
        }
        told
    }

    /// Returns when every life that an earlier process left unfinished has come to its end, one way or the other, or is stuck.
    pub async fn settled(&self) {
        let slots: Vec<Arc<Slot>> = locked(&self.0.slots).values().cloned().collect();
        for slot in slots {
            let mut noted = slot.noted.subscribe();
            let goes_on = || slot.place.stays().is_ok() && slot.unfinished().is_some() && slot.stuck().is_none();
            while goes_on() && noted.changed().await.is_ok() {}
        }
    }

    /// The step in which a life has stuck; none while it has not. It is to be told to the core, by whoever holds the turn.
    ///
    /// # Errors
    /// The softservice is not here, or is being removed.
    pub fn stuck(&self, name: &str) -> Result<Option<ProvisionStep>> {
        let slot = self.existing(name)?;
        Ok(slot.stuck().and_then(|_| slot.interrupted()))
    }

    /// Whoever makes a generation holds this from [`Device::prepare`] to the end of its life.
    ///
    /// # Errors
    /// Another is at it, or it is being removed.
    pub fn turn(&self, name: &str) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        self.slot(name)?.turn()
    }

    /// Whether nobody changes a softservice now; one that is not here rests.
    ///
    /// # Errors
    /// A generation of it is on its way, or has stuck on it, or it is being removed.
    pub fn at_rest(&self, name: &str) -> Result<()> {
        match self.existing(name) {
            Ok(slot) => {
                slot.idle()?;
                slot.turn().map(drop)
            }
            Err(DeviceError::Unknown { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The slot of a softservice, which may be about to be made.
    fn slot(&self, name: &str) -> Result<Arc<Slot>> {
        let place = Place::new(&self.0.softservices, name)?;
        let mut slots = locked(&self.0.slots);
        if let Some(slot) = slots.get(name) {
            return Ok(Arc::clone(slot));
        }
        place.make()?;
        let slot = Arc::new(Slot::open(place)?);
        slots.insert(name.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    /// The slot of a softservice that exists and stays.
    fn existing(&self, name: &str) -> Result<Arc<Slot>> {
        let place = Place::existing(&self.0.softservices, name)?;
        place.stays()?;
        if place.numbers()?.is_empty() {
            return Err(DeviceError::Unknown { name: name.into() });
        }
        self.slot(name)
    }
}
