//! One step of a generation's life: written down, done, and written down how it went. Invariant: what a step announces is on
//! the disk before it begins, but for the way back, which takes lines that find no room as said: cut off by a crash, it is
//! gone once more from the line that is there, and every step of it may be repeated. No step waits for ever: one that the
//! core gives up is marked so that its owner can go on.

use super::{
    Device, Slot, blocking,
    error::{self, DeviceError},
    journal::Mark,
    locked, switch,
};
use softservice_protocol::io::{Effect, ProvisionStep};
use std::time::Instant;

impl Device {
    /// Carries out one step.
    ///
    /// # Errors
    /// Why it failed, for people.
    pub async fn perform(&self, step: ProvisionStep) -> Result<(), String> {
        let began = Instant::now();
        self.open_still().map_err(|e| e.to_string())?;
        let slot = self.slot(&step.generation.name).map_err(|e| e.to_string())?;
        let _work = slot.work.lock().await;
        self.open_still().map_err(|e| e.to_string())?;
        if let Err(why) = slot.announce(&step).await {
            slot.because(step.generation.number, &why);
            return Err(why);
        }
        if step.effect > Effect::StopNew {
            // Nothing of the new generation runs any more that would have it at once.
            slot.place.give_room();
        }
        let outcome = self.effect(&slot, &step).await;
        locked(&slot.phases).insert(step.effect.word().to_owned(), began.elapsed().as_secs_f64());
        let outcome = outcome.map_err(|e| e.to_string());
        slot.conclude(&step, &outcome).await?;
        outcome
    }

    /// An error once everything is being cleared: a life that goes on would bring back what was just removed.
    fn open_still(&self) -> error::Result<()> {
        if self.0.closing.asked() { Err(DeviceError::Closing) } else { Ok(()) }
    }

    /// What a wait comes to, which ends at once when everything is being cleared. For waits alone: what changes something, and
    /// is dropped in its middle, may go on changing it while it is being removed.
    pub(super) async fn while_open<T>(&self, wait: impl Future<Output = T>) -> error::Result<T> {
        self.0.closing.or(wait).await.ok_or(DeviceError::Closing)
    }
}

impl Slot {
    /// Writes down that a step begins.
    async fn announce(&self, step: &ProvisionStep) -> Result<(), String> {
        let number = step.generation.number;
        let confirmed = self.is_confirmed(number);
        if step.effect.is_way_back() && confirmed {
            // Its data may have gone on since, and what was before it may be gone.
            let why = format!("generation {number} was confirmed, which is not taken back; its commit is to be ended");
            let commit = ProvisionStep { effect: Effect::Commit, ..step.clone() };
            self.hold(&commit, Mark::Stuck(why.clone())).await;
            return Err(why);
        }
        if step.effect.is_way_back() || (step.effect == Effect::Commit && confirmed) {
            self.hold(step, Mark::Begun).await;
            return Ok(());
        }
        self.note(step, Mark::Begun).await.map_err(|e| e.to_string())
    }

    /// Writes down how it went.
    async fn conclude(&self, step: &ProvisionStep, outcome: &Result<(), String>) -> Result<(), String> {
        let number = step.generation.number;
        let mut mark = match outcome {
            Ok(()) => Mark::Done,
            Err(why) => {
                let (softservice, effect) = (&self.place.name, step.effect);
                tracing::warn!(softservice, generation = number, ?effect, why, "a step failed");
                self.because(number, why);
                self.failure(step, why.clone())
            }
        };
        if let Mark::GivenUp(why) = &mark {
            locked(&self.reserved).clear();
            if let Err(error) = switch::mark_failed(&self.place, number, &self.reason(number)) {
                mark = Mark::Stuck(format!("{why}; and that it was given up could not be written down: {error}"));
            }
        }
        let ends = mark == Mark::Done && step.effect.ends_life();
        if ends {
            let phases = locked(&self.phases).clone();
            // Figures: a generation that is as it shall be does not fail for them.
            if let Err(e) = self.place.change_record(number, |r| r.phases.extend(phases)) {
                tracing::warn!(error = %e, "how long the steps took could not be written down");
            }
        }
        let over = ends || matches!(mark, Mark::GivenUp(_));
        match mark {
            // What comes next would be cut off from this one.
            Mark::Done if !ends && !step.effect.is_way_back() => {
                self.note(step, mark).await.map_err(|e| e.to_string())?;
            }
            mark => self.hold(step, mark).await,
        }
        if over {
            let place = self.place.clone();
            let again = blocking(move || {
                place.retake_room();
                Ok(())
            });
            again.await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}
