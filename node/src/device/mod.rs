//! The device: carries out the steps of a generation's life. The core decides which; see `protocol/src/machine/provision.rs`.
//! Invariant: each step is journaled before it is done, and safe to repeat. This folder never imports libp2p.
//!
//! Reading order: [`layout`] (where things are), [`life`] (the effects) with [`course`] (what they obey), [`stage`],
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
mod sandboxes;
mod secrets;
mod services;
mod snapshot;
mod stage;
mod static_server;
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

use crate::sandbox::Machine;
use journal::{Journal, Mark};
use keepers::Keepers;
use layout::Place;
use monitors::Monitors;
use ports::Reserved;
use softservice_protocol::{
    io::{Effect, ProvisionInput, ProvisionStep},
    machine::provision::TRIES,
};
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
    closing: AtomicBool,
    /// Where this home is.
    home: PathBuf,
    users: Users,
    /// What this machine can keep; found out when it is first asked for.
    machine: OnceLock<Machine>,
}

/// What is in memory of one softservice.
#[derive(Debug)]
struct Slot {
    place: Place,
    /// One effect or verb at a time.
    work: tokio::sync::Mutex<()>,
    /// Held from the making of a generation to the end of its life: two may not be made at once under one number.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Told after every line of the journal.
    noted: tokio::sync::watch::Sender<()>,
    journal: Arc<Mutex<Journal>>,
    monitors: Monitors,
    reserved: Mutex<Reserved>,
    phases: Mutex<BTreeMap<String, f64>>,
    /// A step that failed, and how often in a row.
    failures: Mutex<(Option<ProvisionStep>, u32)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Monitors would go on bringing keepers back for a device that is gone.
        self.monitors.cut_off();
    }
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
            closing: AtomicBool::default(),
            users: Users::new(home.join("users.json")),
            home,
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

    /// Returns when every life that an earlier process left unfinished has come to its end, one way or the other.
    pub async fn settled(&self) {
        let slots: Vec<Arc<Slot>> = locked(&self.0.slots).values().cloned().collect();
        for slot in slots {
            let mut noted = slot.noted.subscribe();
            while slot.place.stays().is_ok() && slot.unfinished().is_some() && noted.changed().await.is_ok() {}
        }
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

    /// Carries out one step.
    ///
    /// # Errors
    /// Why it failed, for people.
    pub async fn perform(&self, step: ProvisionStep) -> std::result::Result<(), String> {
        let began = std::time::Instant::now();
        self.open_still()?;
        let slot = self.slot(&step.generation.name).map_err(|e| e.to_string())?;
        let _work = slot.work.lock().await;
        self.open_still()?;
        if step.effect.is_way_back() && slot.is_confirmed(step.generation.number) {
            // Its data may have gone on since, and what was before it may be gone.
            return Err(format!(
                "generation {} was confirmed, which is not taken back; the next start of the node ends its commit",
                step.generation.number
            ));
        }
        slot.note(&step, Mark::Begun).await.map_err(|e| e.to_string())?;
        let outcome = self.effect(&slot, &step).await;
        locked(&slot.phases).insert(step.effect.word().to_owned(), began.elapsed().as_secs_f64());
        let mark = match &outcome {
            Ok(()) => Mark::Done,
            Err(e) => slot.failure(&step, e.to_string()),
        };
        let why = outcome.as_ref().err().map(ToString::to_string);
        if matches!(mark, Mark::GivenUp(_)) {
            locked(&slot.reserved).clear();
            let failed = switch::mark_failed(&slot.place, step.generation.number, "it was given up");
            failed.map_err(|e| e.to_string())?;
        }
        if let Some(why) = &why {
            tracing::warn!(softservice = slot.place.name, generation = step.generation.number, effect = ?step.effect, why, "a step failed");
            // The first reason stays: what follows is the way back.
            let noted = slot.place.change_record(step.generation.number, |r| {
                r.why.get_or_insert_with(|| why.clone());
            });
            if let Err(e) = noted {
                tracing::warn!(error = %e, "the reason could not be written down");
            }
        }
        if mark == Mark::Done && step.effect.ends_life() {
            let phases = locked(&slot.phases).clone();
            // Figures: a generation that is as it shall be does not fail for them.
            if let Err(e) = slot.place.change_record(step.generation.number, |r| r.phases.extend(phases)) {
                tracing::warn!(error = %e, "how long the steps took could not be written down");
            }
        }
        match mark == Mark::Done && step.effect.ends_life() {
            true => slot.end(&step).await,
            false => slot.note(&step, mark).await.map_err(|e| e.to_string())?,
        }
        why.map_or(Ok(()), Err)
    }

    /// An error once everything is being cleared: a life that goes on would bring back what was just removed.
    fn open_still(&self) -> std::result::Result<(), String> {
        if self.0.closing.load(Ordering::Acquire) { Err("everything here is being removed".into()) } else { Ok(()) }
    }

    /// The slot of a softservice, which may be about to be made.
    fn slot(&self, name: &str) -> Result<Arc<Slot>> {
        let place = Place::new(&self.0.softservices, name)?;
        let mut slots = locked(&self.0.slots);
        if let Some(slot) = slots.get(name) {
            return Ok(Arc::clone(slot));
        }
        place.make()?;
        let journal = Journal::open(&place.journal())?;
        let slot = Arc::new(Slot {
            place,
            work: tokio::sync::Mutex::default(),
            turn: Arc::default(),
            noted: tokio::sync::watch::Sender::new(()),
            journal: Arc::new(Mutex::new(journal)),
            monitors: Monitors::default(),
            reserved: Mutex::default(),
            phases: Mutex::default(),
            failures: Mutex::default(),
        });
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

impl Slot {
    async fn note(&self, step: &ProvisionStep, mark: Mark) -> Result<()> {
        let (journal, step) = (Arc::clone(&self.journal), step.clone());
        let written = blocking(move || locked(&journal).append(&step, mark)).await;
        self.noted.send_replace(());
        written
    }

    /// Notes that the life of this step has come to its end, which it has whatever the disk says.
    async fn end(&self, step: &ProvisionStep) {
        let (journal, step) = (Arc::clone(&self.journal), step.clone());
        let ended = blocking(move || {
            locked(&journal).end(&step);
            Ok(())
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the end of a life was not noted");
        }
        self.noted.send_replace(());
    }

    fn is_confirmed(&self, number: u32) -> bool {
        self.place.record(number).is_ok_and(|record| record.state == Standing::Committed)
    }

    /// How a failed step is marked. The core tries a step of the way back so often and then gives the life up. Where nothing
    /// but the start of the previous services failed, code and data are as they were, and the owner may go on from there:
    /// what cannot start must not block its own mending. Else the softservice stays as it is until the next start of the
    /// node, which tries again, or until it is removed.
    fn failure(&self, step: &ProvisionStep, why: String) -> Mark {
        let mut failures = locked(&self.failures);
        let (of, count) = &mut *failures;
        if of.as_ref() != Some(step) {
            (*of, *count) = (Some(step.clone()), 0);
        }
        *count += 1;
        if !step.effect.is_way_back() || *count < TRIES {
            return Mark::Failed(why);
        }
        *count = 0;
        match step.effect {
            Effect::StartPrevious => Mark::GivenUp(why),
            _ => Mark::Stuck(why),
        }
    }

    /// The right to make the next generation; an error at once while another has it.
    fn turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        self.place.stays()?;
        self.own_turn()
    }

    /// The same also while it is being removed.
    fn own_turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().or_else(|_| {
            let number = self.place.numbers()?.last().copied().unwrap_or(1);
            Err(DeviceError::Busy { name: self.place.name.clone(), number })
        })
    }

    fn unfinished(&self) -> Option<ProvisionStep> {
        locked(&self.journal).unfinished().cloned()
    }

    /// The step in which an earlier life of the node was cut off. What was written down as confirmed is committed again.
    fn interrupted(&self) -> Option<ProvisionStep> {
        let step = self.unfinished()?;
        let effect = if self.is_confirmed(step.generation.number) { Effect::Commit } else { step.effect };
        Some(ProvisionStep { effect, ..step })
    }

    /// The softservice to oneself; an error at once while a generation is on its way, whose steps may take minutes.
    async fn calm(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.idle()?;
        let work = self.work.lock().await;
        self.idle()?;
        Ok(work)
    }

    /// An error while a generation is on its way, or has stuck on it, or while all of it is being removed.
    fn idle(&self) -> Result<()> {
        self.place.stays()?;
        let Some(step) = self.unfinished() else { return locked(&self.journal).settle() };
        let (name, number) = (self.place.name.clone(), step.generation.number);
        Err(match locked(&self.journal).is_stuck() {
            true => DeviceError::Stuck { name, number, effect: step.effect.word() },
            false => DeviceError::Busy { name, number },
        })
    }
}
