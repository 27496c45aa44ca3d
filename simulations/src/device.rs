//! A simulated device: carries out the steps of a generation's life, well or badly.
//! Invariant: it does exactly what it is told, journals each step before doing it, and judges nothing; whether the
//! outcome is old or new but never mixed is asked of it at the end.

use crate::dice::Dice;
use softservice_protocol::io::{Effect, ProvisionStep};
use std::collections::BTreeSet;

/// What a step comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done after some time.
    Done,
    /// It fails at once.
    Fails,
    /// It hangs, then fails.
    Hangs,
    /// The power goes while it is done.
    Crashes,
}

/// One node's device.
#[derive(Debug, Default)]
pub struct Device {
    /// The generation that the pointer names.
    pub current: Option<u32>,
    /// Generations whose services run.
    pub running: BTreeSet<u32>,
    /// The last generation that was committed.
    pub committed: Option<u32>,
    /// Generations that were staged whole.
    staged: BTreeSet<u32>,
    /// The last step journaled, until its generation's life is over.
    pub journal: Option<ProvisionStep>,
    broken: Option<String>,
}

impl Device {
    /// Draws what becomes of a step. The way back only meets crashes: a device that cannot return is the owner's.
    pub fn fate(dice: &mut Dice, effect: Effect, fail: f64, hang: f64, crash: f64) -> Fate {
        let way_back = matches!(
            effect,
            Effect::StopNew | Effect::PointBack | Effect::StartPrevious | Effect::MarkFailed | Effect::Commit
        );
        let draw = dice.fraction();
        if draw < crash {
            Fate::Crashes
        } else if way_back {
            Fate::Done
        } else if draw < crash + fail {
            Fate::Fails
        } else if draw < crash + fail + hang {
            Fate::Hangs
        } else {
            Fate::Done
        }
    }

    /// Writes down that a step begins.
    pub fn journal(&mut self, step: &ProvisionStep) {
        self.journal = Some(step.clone());
    }

    /// The generation's life is over.
    pub fn over(&mut self) {
        self.journal = None;
    }

    /// Does a step; safe to repeat.
    pub fn perform(&mut self, step: &ProvisionStep) {
        let (new, old) = (step.generation.number, step.previous);
        match step.effect {
            Effect::Stage => {
                self.staged.insert(new);
            }
            Effect::Beside
            | Effect::Snapshot
            | Effect::Migrate
            | Effect::HandOver
            | Effect::Confirm
            | Effect::HandBack
            | Effect::RestoreData => {}
            Effect::StopPrevious => {
                old.map(|old| self.running.remove(&old));
            }
            Effect::Point => {
                if !self.staged.contains(&new) {
                    self.broken = Some(format!("generation {new} became current without being staged"));
                }
                self.current = Some(new);
            }
            Effect::Start => {
                if self.current != Some(new) {
                    self.broken = Some(format!("services of generation {new} started while it was not current"));
                }
                self.running.insert(new);
            }
            Effect::Commit => self.committed = Some(new),
            Effect::StopNew => {
                self.running.remove(&new);
            }
            Effect::PointBack => self.current = old,
            Effect::StartPrevious => {
                old.map(|old| self.running.insert(old));
            }
            Effect::MarkFailed => {}
        }
    }

    /// Why this is not exactly one whole generation, if it is not. Asked when no life is under way.
    pub fn mixed(&self) -> Option<String> {
        let running: Vec<u32> = self.running.iter().copied().collect();
        let wanted: Vec<u32> = self.current.into_iter().collect();
        if let Some(broken) = &self.broken {
            return Some(broken.clone());
        }
        if running != wanted || self.current != self.committed {
            return Some(format!(
                "current is {:?}, committed is {:?}, running are {running:?}",
                self.current, self.committed
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::io::Generation;

    fn step(effect: Effect) -> ProvisionStep {
        ProvisionStep { generation: Generation { name: "a".into(), number: 2 }, previous: Some(1), effect }
    }

    #[test]
    fn half_a_switch_is_seen() {
        let mut device = Device { current: Some(1), committed: Some(1), running: [1].into(), ..Device::default() };
        assert_eq!(device.mixed(), None);
        for effect in [Effect::Stage, Effect::StopPrevious, Effect::Point] {
            device.perform(&step(effect));
        }
        assert!(device.mixed().is_some(), "the pointer moved, nothing runs");
        device.perform(&step(Effect::Start));
        assert!(device.mixed().is_some(), "runs, but was never committed");
        device.perform(&step(Effect::Commit));
        assert_eq!(device.mixed(), None);
    }

    #[test]
    fn a_generation_that_was_never_staged_is_seen() {
        let mut device = Device::default();
        device.perform(&step(Effect::Point));
        device.perform(&step(Effect::Start));
        device.perform(&step(Effect::Commit));
        assert!(device.mixed().is_some());
    }
}
