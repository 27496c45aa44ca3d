//! A simulated device: carries out the steps of a generation's life, well or badly.
//! Invariant: it does exactly what it is told and journals each step before doing it. It never refuses: a step that a real
//! device could not survive is remembered, and so is whether the outcome is old or new but never mixed.
//!
//! Every release here has two roles: one with data, replaced stop-first, and one without behind a front, replaced
//! start-first. Of the data it is only known which version of it there is.

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

/// The data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Data {
    /// The generation whose layout it has.
    layout: Option<u32>,
    /// Counts every change.
    version: u64,
}

/// The data as it was kept on the way from one generation to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Snapshot {
    from: u32,
    to: u32,
    data: Data,
}

/// One node's device.
#[derive(Debug, Default)]
pub struct Device {
    /// The generation that the pointer names.
    pub current: Option<u32>,
    /// The last generation that was committed.
    pub committed: Option<u32>,
    /// The last step journaled, until its generation's life is over.
    pub journal: Option<ProvisionStep>,
    /// Generations whose services with data run.
    keeping: BTreeSet<u32>,
    /// Generations whose services without data run.
    serving: BTreeSet<u32>,
    /// The generation that the front leads to.
    front: Option<u32>,
    data: Data,
    /// The data when the present life began.
    before: Data,
    snapshot: Option<Snapshot>,
    /// Generations that were staged whole.
    staged: BTreeSet<u32>,
    /// The generation that was confirmed last.
    confirmed: Option<u32>,
    /// The first step that should not have come.
    broken: Option<String>,
}

impl Device {
    /// Draws what becomes of a step. The way back only meets crashes: a device that cannot return is the owner's.
    pub fn fate(dice: &mut Dice, effect: Effect, fail: f64, hang: f64, crash: f64) -> Fate {
        let must_succeed = effect.is_way_back() || effect == Effect::Commit;
        let draw = dice.fraction();
        if draw < crash {
            Fate::Crashes
        } else if must_succeed {
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
        if step.effect == Effect::Stage {
            self.before = self.data;
        }
        self.journal = Some(step.clone());
    }

    /// The generation's life is over.
    pub fn over(&mut self) {
        self.journal = None;
    }

    /// Does a step; safe to repeat.
    pub fn perform(&mut self, step: &ProvisionStep) {
        self.judge(step);
        let (new, old) = (step.generation.number, step.previous);
        match step.effect {
            Effect::Stage => {
                self.staged.insert(new);
            }
            Effect::Beside => {
                self.serving.insert(new);
            }
            Effect::StopPrevious => {
                old.map(|old| self.keeping.remove(&old));
            }
            Effect::Snapshot => self.snapshot = old.map(|from| Snapshot { from, to: new, data: self.data }),
            Effect::Migrate => self.write(new),
            Effect::Point => self.current = Some(new),
            Effect::Start => {
                self.keeping.insert(new);
                self.write(new);
                if old.is_none() {
                    self.serving.insert(new);
                }
            }
            Effect::HandOver => self.front = Some(new),
            Effect::Confirm => self.confirmed = Some(new),
            Effect::Commit => {
                self.committed = Some(new);
                self.serving.retain(|n| *n == new);
                self.snapshot = None;
            }
            Effect::HandBack => self.front = old,
            Effect::StopNew => {
                self.keeping.remove(&new);
                self.serving.remove(&new);
            }
            Effect::RestoreData => {
                if let Some(kept) = self.kept(step) {
                    self.data = kept.data;
                }
            }
            Effect::PointBack => self.current = old,
            Effect::StartPrevious => {
                old.map(|old| self.keeping.insert(old));
            }
            Effect::MarkFailed => self.snapshot = None,
        }
    }

    fn write(&mut self, layout: u32) {
        self.data = Data { layout: Some(layout), version: self.data.version + 1 };
    }

    /// What was kept for the way back of this life.
    fn kept(&self, of: &ProvisionStep) -> Option<Snapshot> {
        self.snapshot.filter(|s| Some(s.from) == of.previous && s.to == of.generation.number)
    }

    /// Whether a real device could do this step now without hurting anybody.
    fn judge(&mut self, step: &ProvisionStep) {
        let (new, old, effect) = (step.generation.number, step.previous, step.effect);
        let older_keeps = self.keeping.iter().any(|n| *n != new);
        let wrong = match effect {
            _ if effect.is_way_back() && self.committed == Some(new) => "it was committed: that is final",
            Effect::Beside | Effect::Point if !self.staged.contains(&new) => "it was not staged",
            Effect::Snapshot | Effect::Migrate if !self.keeping.is_empty() => "services still write the data",
            Effect::Snapshot if self.data != self.before => "the data is not what the previous generation left",
            Effect::Migrate if self.kept(step).is_none() => "the data was not kept",
            Effect::Point if !self.keeping.is_empty() => "services of the previous generation still run",
            Effect::Start if self.current != Some(new) => "it is not current",
            Effect::Start if older_keeps => "two generations would have one data",
            Effect::Start if old.is_some() && self.data.layout != Some(new) => "the data was not carried over",
            Effect::HandOver if !self.serving.contains(&new) => "the front would lead to nobody",
            Effect::Confirm if self.front != Some(new) || !self.keeping.contains(&new) => "not all of it serves",
            Effect::Commit if self.confirmed != Some(new) => "it was not confirmed",
            Effect::HandBack if old.is_some_and(|old| !self.serving.contains(&old)) => "the front would lead to nobody",
            Effect::StopNew if self.front == Some(new) => "the front still leads to it",
            Effect::RestoreData if self.kept(step).is_some() && !self.keeping.is_empty() => {
                "services still write the data"
            }
            Effect::StartPrevious if self.current != old => "it is not current",
            Effect::StartPrevious if self.keeping.contains(&new) => "two generations would have one data",
            Effect::StartPrevious | Effect::MarkFailed if old.is_some() && self.data != self.before => {
                "the data is not what it was"
            }
            _ => return,
        };
        let words = || format!("{} of generation {new}, though {wrong}", effect.word());
        self.broken.get_or_insert_with(words);
    }

    /// Which step should not have come, and why.
    pub fn broken(&self) -> Option<String> {
        self.broken.clone()
    }

    /// Why this is not exactly one whole generation, if it is not, or which step should not have come. Asked when no life
    /// is under way.
    pub fn mixed(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken();
        }
        let wanted: BTreeSet<u32> = self.current.into_iter().collect();
        let whole = self.keeping == wanted && self.serving == wanted && self.front == self.current;
        if whole && self.current == self.committed {
            return None;
        }
        Some(format!(
            "current is {:?}, committed is {:?}, with data run {:?}, without {:?}, the front leads to {:?}",
            self.current, self.committed, self.keeping, self.serving, self.front
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Effect::*;
    use softservice_protocol::io::Generation;

    const GOOD: [Effect; 10] =
        [Stage, Beside, StopPrevious, Snapshot, Migrate, Point, Start, HandOver, Confirm, Commit];
    const BACK: [Effect; 6] = [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed];

    /// A device whose generation 1 runs, after these steps to generation 2.
    fn after(effects: &[Effect]) -> Device {
        let mut device = Device::default();
        let first = [Stage, Point, Start, HandOver, Confirm, Commit];
        for (number, previous, effects) in [(1, None, &first[..]), (2, Some(1), effects)] {
            for effect in effects {
                let generation = Generation { name: "a".into(), number };
                let step = ProvisionStep { generation, previous, effect: *effect };
                device.journal(&step);
                device.perform(&step);
            }
        }
        device
    }

    fn without(effects: &[Effect], left_out: Effect) -> Vec<Effect> {
        effects.iter().copied().filter(|e| *e != left_out).collect()
    }

    #[test]
    fn a_good_life_and_every_way_back_are_whole() {
        assert_eq!(after(&[]).mixed(), None);
        assert_eq!(after(&GOOD).mixed(), None);
        for failed in 1..GOOD.len() {
            let device = after(&[&GOOD[..failed], &BACK].concat());
            assert_eq!(device.mixed(), None, "back from {:?}", GOOD[failed - 1]);
            assert_eq!((device.current, device.data), (Some(1), after(&[]).data));
        }
        let twice = |effects: &[Effect]| -> Vec<Effect> { effects.iter().flat_map(|e| [*e, *e]).collect() };
        assert_eq!(after(&twice(&GOOD)).mixed(), None, "each may be repeated");
        assert_eq!(after(&twice(&[&GOOD[..8], &BACK].concat())).mixed(), None, "so may the way back");
    }

    #[test]
    fn half_a_switch_is_seen() {
        for upto in 1..GOOD.len() {
            let half = after(&GOOD[..upto]).mixed();
            assert_eq!(half.is_none(), upto == 1, "only staging touches nothing: {:?}: {half:?}", GOOD[upto - 1]);
        }
    }

    #[test]
    fn a_step_left_out_of_a_life_is_seen() {
        for left_out in without(&GOOD, Commit) {
            let device = after(&without(&GOOD, left_out));
            assert!(device.mixed().is_some(), "{left_out:?}: {device:?}");
        }
        for left_out in without(&BACK, MarkFailed) {
            let device = after(&[&GOOD[..9], &without(&BACK, left_out)].concat());
            assert!(device.mixed().is_some(), "{left_out:?}: {device:?}");
        }
    }

    #[test]
    fn what_would_hurt_is_named() {
        let cases: [(&[Effect], &str); 6] = [
            (&[Stage, Beside, Snapshot], "snapshot of generation 2, though services still write the data"),
            (&[Stage, StopPrevious, Migrate], "migrate of generation 2, though the data was not kept"),
            (&[Beside], "beside of generation 2, though it was not staged"),
            (&[Stage, HandOver], "hand_over of generation 2, though the front would lead to nobody"),
            (&GOOD[..9], "stop_new of generation 2, though the front still leads to it"),
            (&GOOD, "hand_back of generation 2, though it was committed: that is final"),
        ];
        for (effects, words) in cases {
            let last: &[Effect] = match effects.len() {
                9 => &[StopNew],
                10 => &[HandBack],
                _ => &[],
            };
            assert_eq!(after(&[effects, last].concat()).mixed().as_deref(), Some(words));
        }
        let unkept = [&GOOD[..7], &[HandBack, StopNew, PointBack, StartPrevious]].concat();
        let words = "start_previous of generation 2, though the data is not what it was";
        assert_eq!(after(&unkept).mixed().as_deref(), Some(words));
    }
}
