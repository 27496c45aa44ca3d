//! What is in memory of one softservice: who is at it, and where its journal says that it stands. Invariant: what is told to
//! whoever asks is what holds, also where the disk would not take the line that says so.

use super::{
    blocking,
    error::{DeviceError, Result},
    journal::{Journal, Mark},
    layout::Place,
    locked,
    monitors::Monitors,
    ports::Reserved,
    record::Standing,
};
use softservice_protocol::{
    io::{Effect, ProvisionStep},
    machine::provision::TRIES,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// One softservice.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) place: Place,
    /// One effect or verb at a time.
    pub(super) work: tokio::sync::Mutex<()>,
    /// Held from the making of a generation to the end of its life: two may not be made at once under one number.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Told after every line of the journal.
    pub(super) noted: tokio::sync::watch::Sender<()>,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) monitors: Monitors,
    pub(super) reserved: Mutex<Reserved>,
    pub(super) phases: Mutex<BTreeMap<String, f64>>,
    /// A step that failed, and how often in a row.
    failures: Mutex<(Option<ProvisionStep>, u32)>,
    /// Why a generation failed first: its record may have no room for that yet.
    reason: Mutex<Option<(u32, String)>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Monitors would go on bringing keepers back for a device that is gone.
        self.monitors.cut_off();
    }
}

impl Slot {
    pub(super) fn open(place: Place) -> Result<Self> {
        let journal = Journal::open(&place.journal())?;
        Ok(Self {
            place,
            work: tokio::sync::Mutex::default(),
            turn: Arc::default(),
            noted: tokio::sync::watch::Sender::new(()),
            journal: Arc::new(Mutex::new(journal)),
            monitors: Monitors::default(),
            reserved: Mutex::default(),
            phases: Mutex::default(),
            failures: Mutex::default(),
            reason: Mutex::default(),
        })
    }

    /// Adds a line to the journal; returns when it is on the disk.
    pub(super) async fn note(&self, step: &ProvisionStep, mark: Mark) -> Result<()> {
        let (journal, step) = (Arc::clone(&self.journal), step.clone());
        let written = blocking(move || locked(&journal).append(&step, mark)).await;
        self.noted.send_replace(());
        written
    }

    /// Adds a line that holds whatever the disk says. See [`Journal::hold`].
    pub(super) async fn hold(&self, step: &ProvisionStep, mark: Mark) {
        let (journal, step) = (Arc::clone(&self.journal), step.clone());
        let held = blocking(move || {
            locked(&journal).hold(&step, mark);
            Ok(())
        });
        if let Err(error) = held.await {
            tracing::error!(%error, "a line of the journal was not noted");
        }
        self.noted.send_replace(());
    }

    pub(super) fn is_confirmed(&self, number: u32) -> bool {
        self.place.record(number).is_ok_and(|record| record.state == Standing::Committed)
    }

    /// Keeps the first reason why a generation failed: what follows is the way back.
    pub(super) fn because(&self, number: u32, why: &str) {
        let mut reason = locked(&self.reason);
        if reason.as_ref().is_none_or(|(of, _)| *of != number) {
            *reason = Some((number, why.to_owned()));
        }
        drop(reason);
        let noted = self.place.change_record(number, |r| {
            r.why.get_or_insert_with(|| why.to_owned());
        });
        if let Err(e) = noted {
            tracing::warn!(error = %e, "the reason could not be written down yet");
        }
    }

    /// That reason.
    pub(super) fn reason(&self, number: u32) -> String {
        let reason = locked(&self.reason);
        reason.as_ref().filter(|(of, _)| *of == number).map_or_else(|| "it was given up".into(), |(_, why)| why.clone())
    }

    /// How a failed step is marked. The core tries a step of the way back so often and then gives the life up. Where nothing
    /// but the start of the previous services failed, code and data are as they were, and the owner may go on from there:
    /// what cannot start must not block its own mending. Else the softservice stays as it is until its owner or the next
    /// start of the node has it tried again, or until it is removed.
    pub(super) fn failure(&self, step: &ProvisionStep, why: String) -> Mark {
        let mut failures = locked(&self.failures);
        let (of, count) = &mut *failures;
        if of.as_ref() != Some(step) {
            (*of, *count) = (Some(step.clone()), 0);
        }
        *count += 1;
        if !step.effect.is_way_back() || step.effect.may_fail() || *count < TRIES {
            return Mark::Failed(why);
        }
        *count = 0;
        match step.effect {
            Effect::StartPrevious => Mark::GivenUp(why),
            _ => Mark::Stuck(why),
        }
    }

    /// The right to make the next generation; an error at once while another has it.
    pub(super) fn turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        self.place.stays()?;
        self.own_turn()
    }

    /// The same also while it is being removed.
    pub(super) fn own_turn(&self) -> Result<tokio::sync::OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().or_else(|_| {
            let number = self.place.numbers()?.last().copied().unwrap_or(1);
            Err(DeviceError::Busy { name: self.place.name.clone(), number })
        })
    }

    pub(super) fn unfinished(&self) -> Option<ProvisionStep> {
        locked(&self.journal).unfinished().cloned()
    }

    /// The step in which an earlier life of the node was cut off. What was written down as confirmed is committed again.
    pub(super) fn interrupted(&self) -> Option<ProvisionStep> {
        let step = self.unfinished()?;
        let effect = if self.is_confirmed(step.generation.number) { Effect::Commit } else { step.effect };
        Some(ProvisionStep { effect, ..step })
    }

    /// Why nobody works any more on a life that has not ended; none while that is not so.
    pub(super) fn stuck(&self) -> Option<DeviceError> {
        let journal = locked(&self.journal);
        let (step, why) = journal.stuck()?;
        let (name, number) = (self.place.name.clone(), step.generation.number);
        Some(DeviceError::Stuck { name, number, effect: step.effect.word(), why: why.to_owned() })
    }

    /// The softservice to oneself; an error at once while a generation is on its way, whose steps may take minutes.
    pub(super) async fn calm(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.idle()?;
        let work = self.work.lock().await;
        self.idle()?;
        Ok(work)
    }

    /// An error while a generation is on its way, or has stuck on it, or while all of it is being removed.
    pub(super) fn idle(&self) -> Result<()> {
        self.place.stays()?;
        let Some(step) = self.unfinished() else {
            return self.place.with_room(|| locked(&self.journal).settle());
        };
        let busy = || DeviceError::Busy { name: self.place.name.clone(), number: step.generation.number };
        Err(self.stuck().unwrap_or_else(busy))
    }
}
