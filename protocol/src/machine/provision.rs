//! The life of a generation: which step comes next, and the way back.
//! Invariant: until [`Effect::StopPrevious`] nothing that runs is touched, so a failure only ends what is new;
//! from there on a life ends in exactly one of two places: the new generation committed, or the previous one running
//! again. The journal entry that the device writes before each step makes every point of a crash one of these cases.
//!
//! On a full disk the way back takes first what takes no room - turning back, stopping what is new, putting data back - and so
//! frees what the new one took; only then comes what writes. That a front cannot be turned back holds nothing up: it is
//! turned again with the start of the previous services.
//!
//! A first install has no previous generation: the steps that concern it are left out, not done on nothing.

use super::desk::Desk;
use crate::{
    io::{Effect, Event, Generation, Output, ProvisionEvent, ProvisionInput, ProvisionStep},
    time::{Span, Time},
};
use std::collections::BTreeMap;

/// How often a step is tried whose failure would leave the device between two generations.
pub const TRIES: u32 = 3;
/// Pause before the second try; the third waits twice as long.
const PAUSE: Span = Span::seconds(1);
/// Softservices in transition at once: far beyond what a device runs, so that a mistaken caller cannot fill memory.
const LIVES: usize = 256;

/// All lives that go on, one for each softservice at most.
#[derive(Debug, Default)]
pub(crate) struct Provision {
    lives: BTreeMap<String, Life>,
}

#[derive(Debug)]
struct Life {
    step: ProvisionStep,
    /// Failed tries of this step.
    tries: u32,
    /// Why it goes back, once it does.
    why: Option<String>,
    /// When the step is tried again.
    again: Option<Time>,
}

/// What follows a step.
enum Next {
    Step(Effect),
    Committed,
    Reverted,
}

/// The step after a good one.
fn after(effect: Effect, has_previous: bool) -> Next {
    use Effect::*;
    Next::Step(match effect {
        Stage if has_previous => Beside,
        Beside => StopPrevious,
        StopPrevious => Snapshot,
        Snapshot => Migrate,
        Stage | Migrate => Point,
        Point => Start,
        Start => HandOver,
        HandOver => Confirm,
        Confirm => Commit,
        Commit => return Next::Committed,
        HandBack => StopNew,
        StopNew if has_previous => RestoreData,
        StopNew | RestoreData => PointBack,
        PointBack if has_previous => StartPrevious,
        PointBack | StartPrevious => MarkFailed,
        MarkFailed => return Next::Reverted,
    })
}

/// Where the way back begins for a step that failed or was cut off.
fn way_back(effect: Effect) -> Effect {
    use Effect::*;
    match effect {
        Stage => MarkFailed,
        Beside | StopPrevious | Snapshot | Migrate | Point | Start | HandOver | Confirm | Commit => HandBack,
        back @ (HandBack | StopNew | RestoreData | PointBack | StartPrevious | MarkFailed) => back,
    }
}

/// Steps whose failure is tried again before anything else: the way back, and the commit of what is already confirmed.
fn is_repeated(effect: Effect) -> bool {
    effect == Effect::Commit || effect.is_way_back()
}

impl Provision {
    pub(crate) fn handle(&mut self, desk: &mut Desk, input: ProvisionInput) {
        match input {
            ProvisionInput::Begin { generation, previous } => self.begin(desk, generation, previous),
            ProvisionInput::Interrupted { step } => {
                let why = format!("the node stopped during {}", step.effect.word());
                self.go_on(desk, step, why);
            }
            // Of two who ask, the second hears the end of what the first began.
            ProvisionInput::Again { step } if self.lives.contains_key(&step.generation.name) => {}
            ProvisionInput::Again { step } => {
                let why = format!("{} had failed and was tried again", step.effect.word());
                self.go_on(desk, step, why);
            }
            ProvisionInput::Done { step } => self.done(desk, &step),
            ProvisionInput::Failed { step, why } => self.failed(desk, &step, &why),
        }
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        self.lives.values().filter_map(|l| l.again).min()
    }

    pub(crate) fn tick(&mut self, desk: &mut Desk) {
        for life in self.lives.values_mut() {
            if life.again.is_some_and(|at| at <= desk.now) {
                life.again = None;
                desk.out(Output::Perform(life.step.clone()));
            }
        }
    }

    fn begin(&mut self, desk: &mut Desk, generation: Generation, previous: Option<u32>) {
        if let Some(life) = self.lives.get(&generation.name) {
            if life.step.generation != generation {
                let why = format!("generation {} of it is still being provisioned", life.step.generation.number);
                desk.tell(Event::Provision(ProvisionEvent::Reverted { generation, why }));
            }
            return;
        }
        if self.lives.len() >= LIVES {
            let why = format!("{LIVES} softservices are being provisioned at once");
            return desk.tell(Event::Provision(ProvisionEvent::Reverted { generation, why }));
        }
        let step = ProvisionStep { generation, previous, effect: Effect::Stage };
        self.perform(desk, step, None);
    }

    /// Takes up a life at its last step.
    fn go_on(&mut self, desk: &mut Desk, step: ProvisionStep, why: String) {
        if step.effect == Effect::Commit {
            // It was confirmed; whether the commit was written is unknown, and it is safe to repeat.
            return self.perform(desk, step, None);
        }
        let step = ProvisionStep { effect: way_back(step.effect), ..step };
        self.perform(desk, step, Some(why));
    }

    fn done(&mut self, desk: &mut Desk, step: &ProvisionStep) {
        // An answer to a step that is not the present one is an echo: steps are safe to repeat, so drivers may repeat.
        let Some(life) = self.lives.get_mut(&step.generation.name).filter(|l| l.step == *step) else { return };
        let why = life.why.take();
        match after(step.effect, step.previous.is_some()) {
            Next::Step(effect) => self.perform(desk, ProvisionStep { effect, ..step.clone() }, why),
            Next::Committed => {
                self.lives.remove(&step.generation.name);
                let generation = step.generation.clone();
                desk.tell(Event::Provision(ProvisionEvent::Committed { generation }));
            }
            Next::Reverted => {
                self.lives.remove(&step.generation.name);
                let why = why.unwrap_or_else(|| "it failed before".into());
                let generation = step.generation.clone();
                desk.tell(Event::Provision(ProvisionEvent::Reverted { generation, why }));
            }
        }
    }

    fn failed(&mut self, desk: &mut Desk, step: &ProvisionStep, cause: &str) {
        let Some(life) = self.lives.get_mut(&step.generation.name).filter(|l| l.step == *step) else { return };
        if life.again.is_some() {
            return; // the same failure told twice
        }
        life.tries += 1;
        if is_repeated(step.effect) && life.tries < TRIES {
            life.again = Some(desk.now + Span(PAUSE.0 * u64::from(life.tries)));
            return;
        }
        let cause = format!("{}: {cause}", step.effect.word());
        if step.effect.may_fail() {
            let why = life.why.take().unwrap_or(cause);
            return self.perform(desk, ProvisionStep { effect: Effect::StopNew, ..step.clone() }, Some(why));
        }
        if step.effect.is_way_back() {
            let why = match life.why.take() {
                Some(first) => format!("{first}; then the way back failed: {cause}"),
                None => cause,
            };
            self.lives.remove(&step.generation.name);
            let generation = step.generation.clone();
            return desk.tell(Event::Provision(ProvisionEvent::Stuck { generation, why }));
        }
        let back = ProvisionStep { effect: way_back(step.effect), ..step.clone() };
        self.perform(desk, back, Some(cause));
    }

    fn perform(&mut self, desk: &mut Desk, step: ProvisionStep, why: Option<String>) {
        let name = step.generation.name.clone();
        self.lives.insert(name, Life { step: step.clone(), tries: 0, why, again: None });
        desk.out(Output::Perform(step));
    }
}
