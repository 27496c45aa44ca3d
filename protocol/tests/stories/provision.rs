//! Stories about a generation's life: every step may fail, and every step may be cut off.

use crate::world::World;
use proptest::prelude::*;
use softservice_protocol::{
    io::{Effect, Event, Generation, ProvisionEvent, ProvisionInput, ProvisionStep},
    time::Span,
};

use Effect::*;

const GOOD: [Effect; 10] = [Stage, Beside, StopPrevious, Snapshot, Migrate, Point, Start, HandOver, Confirm, Commit];
const BACK: [Effect; 6] = [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed];

/// A device in a few words, each the generation that it belongs to; none before a first install.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    /// Pointed to.
    current: Option<u32>,
    /// Of the services with data: those that run.
    running: Option<u32>,
    /// Of the services without data: those that the fronts lead to.
    public: Option<u32>,
    /// Who wrote the data last.
    data: Option<u32>,
    committed: Option<u32>,
    failed: bool,
}

impl Device {
    fn before(previous: Option<u32>) -> Self {
        let all = previous;
        Self { current: all, running: all, public: all, data: all, committed: all, failed: false }
    }
    fn apply(&mut self, step: &ProvisionStep) {
        let new = Some(step.generation.number);
        match step.effect {
            Stage | Beside | Snapshot | Confirm => {}
            StopPrevious => self.running = None,
            Migrate => self.data = new,
            Point => self.current = new,
            Start => (self.running, self.data) = (new, new),
            HandOver => self.public = new,
            Commit => self.committed = new,
            HandBack => self.public = step.previous,
            // What is old runs on: only the new one's are ended.
            StopNew => {
                self.running = self.running.filter(|_| self.running != new);
                // The front as well, where nothing was before.
                self.public = self.public.filter(|_| step.previous.is_some());
            }
            RestoreData => self.data = step.previous,
            PointBack => self.current = step.previous,
            // It turns the front, too.
            StartPrevious => (self.running, self.public) = (step.previous, step.previous),
            MarkFailed => self.failed = true,
        }
    }
    /// Fails when this step would do harm to a device as it is.
    fn would_not_be_hurt_by(&self, step: &ProvisionStep) {
        let new = Some(step.generation.number);
        let well = match step.effect {
            Snapshot | Migrate => self.running.is_none(),
            Start => self.current == new && (self.running.is_none() || self.running == new),
            Confirm | Commit => (self.current, self.running, self.public, self.data) == (new, new, new, new),
            RestoreData => self.running.is_none() || self.data == step.previous,
            StartPrevious => (self.current, self.data) == (step.previous, step.previous),
            _ => true,
        };
        assert!(well, "{:?} on {self:?}", step.effect);
        assert!(!step.effect.is_way_back() || self.committed != new, "a commit is final: {:?}", step.effect);
    }
    /// As it shall be when generation 2 is committed.
    fn renewed() -> Self {
        Self::before(Some(2))
    }
    /// Whether it is as it shall be when generation 2 failed.
    fn is_returned(&self, previous: Option<u32>) -> bool {
        // A first install leaves what it wrote: there is nothing to come back, and removal is an act of its own.
        let data = if previous.is_some() { previous } else { self.data };
        *self == Self { failed: true, data, ..Self::before(previous) }
    }
}

fn generation() -> Generation {
    Generation { name: "guestbook".into(), number: 2 }
}
fn begin(previous: Option<u32>) -> World {
    let mut world = World::new(&["bob"]);
    world.provision("bob", ProvisionInput::Begin { generation: generation(), previous });
    world
}
fn ended(world: &World) -> Option<ProvisionEvent> {
    world.nodes["bob"].events.iter().find_map(|e| match e {
        Event::Provision(event) => Some(event.clone()),
        _ => None,
    })
}
/// Carries out steps until the life ends; `fails(effect, try)` says which fail. Gives the steps as performed.
fn live(world: &mut World, device: &mut Device, fails: impl FnMut(Effect, u32) -> bool) -> Vec<Effect> {
    live_from(world, device, 0, fails)
}
/// The same, of a life of whose steps so many were carried out before.
fn live_from(
    world: &mut World,
    device: &mut Device,
    mut done: usize,
    mut fails: impl FnMut(Effect, u32) -> bool,
) -> Vec<Effect> {
    let mut effects: Vec<Effect> = vec![];
    loop {
        world.within(Span::seconds(30), |w| w.nodes["bob"].steps.len() > done || ended(w).is_some());
        let Some(step) = world.nodes["bob"].steps.get(done).cloned() else { return effects };
        done += 1;
        let tries = effects.iter().rev().take_while(|e| **e == step.effect).count() as u32;
        effects.push(step.effect);
        if fails(step.effect, tries) {
            world.provision("bob", ProvisionInput::Failed { step, why: "no".into() });
        } else {
            device.apply(&step);
            world.provision("bob", ProvisionInput::Done { step });
        }
    }
}

#[test]
fn a_good_life_goes_through_every_step_once() {
    let mut device = Device::before(Some(1));
    let mut world = begin(Some(1));
    assert_eq!(live(&mut world, &mut device, |_, _| false), GOOD);
    assert_eq!(ended(&world), Some(ProvisionEvent::Committed { generation: generation() }));
    assert_eq!(device, Device::renewed());
}

#[test]
fn a_first_install_leaves_out_what_concerns_a_previous_one() {
    let mut device = Device::before(None);
    let mut world = begin(None);
    let steps = live(&mut world, &mut device, |e, _| e == Confirm);
    assert_eq!(steps, [Stage, Point, Start, HandOver, Confirm, HandBack, StopNew, PointBack, MarkFailed]);
    assert!(device.is_returned(None), "{device:?}");
}

#[test]
fn whatever_fails_the_previous_one_runs_again() {
    for bad in GOOD {
        let mut device = Device::before(Some(1));
        let mut world = begin(Some(1));
        let steps = live(&mut world, &mut device, |effect, _| effect == bad);
        let Some(ProvisionEvent::Reverted { why, .. }) = ended(&world) else { panic!("{bad:?}: {:?}", ended(&world)) };
        assert!(why.contains("no"), "{why}");
        assert!(device.is_returned(Some(1)), "after {bad:?}: {device:?}");
        let touched = steps.iter().any(|e| (StopPrevious..=HandOver).contains(e));
        assert_eq!(touched, bad >= StopPrevious, "before the switch nothing that runs is touched");
    }
}

#[test]
fn a_step_of_the_way_back_is_tried_again_and_then_the_owner_is_called() {
    for bad in BACK {
        let mut device = Device::before(Some(1));
        let mut world = begin(Some(1));
        live(&mut world, &mut device, |e, tries| e == Start || (e == bad && tries < 2));
        assert!(matches!(ended(&world), Some(ProvisionEvent::Reverted { .. })), "{bad:?}");
        assert!(device.is_returned(Some(1)), "{bad:?}: {device:?}");
        let (mut world, mut device) = (begin(Some(1)), Device::before(Some(1)));
        let steps = live(&mut world, &mut device, |e, _| e == Start || e == bad);
        assert_eq!(steps.iter().filter(|e| **e == bad).count(), 3);
        if bad == HandBack {
            // A front that cannot be turned back does not keep data from coming back.
            assert!(matches!(ended(&world), Some(ProvisionEvent::Reverted { .. })), "{:?}", ended(&world));
            assert!(device.is_returned(Some(1)), "{device:?}");
            continue;
        }
        assert!(matches!(ended(&world), Some(ProvisionEvent::Stuck { .. })), "{bad:?}");
        // Its owner has made room, and asks twice.
        let step = world.nodes["bob"].steps[steps.len() - 1].clone();
        world.nodes.get_mut("bob").expect("bob").events.clear();
        for _ in 0..2 {
            world.provision("bob", ProvisionInput::Again { step: step.clone() });
        }
        let rest = live_from(&mut world, &mut device, steps.len(), |_, _| false);
        let from = BACK.iter().position(|e| *e == bad).expect("of the way back");
        assert_eq!(rest, BACK[from..], "each once");
        assert!(matches!(ended(&world), Some(ProvisionEvent::Reverted { .. })), "{bad:?}");
        assert!(device.is_returned(Some(1)), "{bad:?}: {device:?}");
    }
}

/// Cut off before or after each step's effect, in a good life and in one that fails, the device ends in one of two
/// places: the new generation committed, or exactly as before with the new one marked.
#[test]
fn a_crash_at_any_step_leaves_old_or_new_never_a_mix() {
    for previous in [Some(1), None] {
        for bad in [None, Some(Migrate), Some(Start), Some(Confirm)] {
            for (cut, effect_was_done) in (0..16).flat_map(|cut| [(cut, false), (cut, true)]) {
                let mut device = Device::before(previous);
                let Some(step) = cut_off(previous, bad, cut, effect_was_done, &mut device) else { continue };
                let mut world = World::new(&["bob"]);
                world.provision("bob", ProvisionInput::Interrupted { step: step.clone() });
                live(&mut world, &mut device, |_, _| false);
                match ended(&world) {
                    Some(ProvisionEvent::Committed { .. }) => assert_eq!(device, Device::renewed(), "cut at {step:?}"),
                    Some(ProvisionEvent::Reverted { .. }) => {
                        assert!(device.is_returned(previous), "cut at {step:?}: {device:?}");
                    }
                    other => panic!("cut at {step:?}: {other:?}"),
                }
                let renewed = device == Device::renewed();
                assert_eq!(step.effect == Commit, renewed, "only what was confirmed is redone");
            }
        }
    }
}

/// Lives until step number `cut` is journaled; gives it, and the device as the crash leaves it.
fn cut_off(
    previous: Option<u32>,
    bad: Option<Effect>,
    cut: usize,
    done: bool,
    device: &mut Device,
) -> Option<ProvisionStep> {
    let mut world = begin(previous);
    for at in 0.. {
        let step = world.nodes["bob"].steps.get(at)?.clone();
        if at == cut {
            if done {
                device.apply(&step);
            }
            return Some(step);
        }
        if bad == Some(step.effect) {
            world.provision("bob", ProvisionInput::Failed { step, why: "no".into() });
        } else {
            device.apply(&step);
            world.provision("bob", ProvisionInput::Done { step });
        }
    }
    None
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    FailsAtOnce,
    /// All of it was done all the same.
    FailsAtItsEnd,
    CutOffBefore,
    CutOffAfter,
}

/// Lives a life whose steps meet these fates, then good ones only, through as many restarts of the node as it takes; gives
/// its end.
fn chequered(previous: Option<u32>, fates: &[Fate]) -> (Device, ProvisionEvent) {
    let (mut device, mut world) = (Device::before(previous), begin(previous));
    let (mut fates, mut done) = (fates.iter(), 0);
    let again = |step: ProvisionStep| {
        let mut world = World::new(&["bob"]);
        world.provision("bob", ProvisionInput::Interrupted { step });
        world
    };
    loop {
        world.within(Span::seconds(30), |w| w.nodes["bob"].steps.len() > done || ended(w).is_some());
        let Some(step) = world.nodes["bob"].steps.get(done).cloned() else {
            match ended(&world).expect("a life goes on or ends") {
                // The journal has its last step, and the next start of the node tries again.
                ProvisionEvent::Stuck { .. } => {
                    let last = world.nodes["bob"].steps[done - 1].clone();
                    (world, done) = (again(last), 0);
                    continue;
                }
                event => return (device, event),
            }
        };
        done += 1;
        device.would_not_be_hurt_by(&step);
        match fates.next().copied().unwrap_or(Fate::Done) {
            cut @ (Fate::CutOffBefore | Fate::CutOffAfter) => {
                if matches!(cut, Fate::CutOffAfter) {
                    device.apply(&step);
                }
                (world, done) = (again(step), 0);
            }
            // What is written down as good does not fail any more: see the device's commit.
            bad @ (Fate::FailsAtOnce | Fate::FailsAtItsEnd) if device.committed != Some(step.generation.number) => {
                if matches!(bad, Fate::FailsAtItsEnd) && step.effect != Commit {
                    device.apply(&step);
                }
                world.provision("bob", ProvisionInput::Failed { step, why: "no".into() });
            }
            _ => {
                device.apply(&step);
                world.provision("bob", ProvisionInput::Done { step });
            }
        }
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    use Fate::*;
    prop_oneof![
        6 => Just(Done),
        1 => Just(FailsAtOnce),
        1 => Just(FailsAtItsEnd),
        1 => Just(CutOffBefore),
        1 => Just(CutOffAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Failures and crashes as often as they like, on the way back as well, one upon another: the end is the old whole or
    /// the new whole, and its owner is told which.
    #[test]
    fn whatever_happens_how_often_it_likes_the_end_is_whole(
        first in any::<bool>(),
        fates in prop::collection::vec(any_fate(), 0..60),
    ) {
        let previous = (!first).then_some(1);
        let (device, end) = chequered(previous, &fates);
        match end {
            ProvisionEvent::Committed { .. } => prop_assert_eq!(device, Device::renewed()),
            _ => prop_assert!(device.is_returned(previous), "{device:?}"),
        }
    }
}

#[test]
fn echoes_and_second_beginnings_change_nothing() {
    let mut world = begin(Some(1));
    world.provision("bob", ProvisionInput::Begin { generation: generation(), previous: Some(1) });
    assert_eq!(world.nodes["bob"].steps.len(), 1);
    let stage = world.nodes["bob"].steps[0].clone();
    world.provision("bob", ProvisionInput::Done { step: stage.clone() });
    world.provision("bob", ProvisionInput::Done { step: stage.clone() });
    world.provision("bob", ProvisionInput::Failed { step: stage, why: "late".into() });
    assert_eq!(world.nodes["bob"].steps.len(), 2);
    let other = Generation { number: 3, ..generation() };
    world.provision("bob", ProvisionInput::Begin { generation: other.clone(), previous: Some(1) });
    let refused =
        |e: &Event| matches!(e, Event::Provision(ProvisionEvent::Reverted { generation, .. }) if *generation == other);
    assert!(world.nodes["bob"].events.iter().any(refused), "one life at a time for a name");
    let mail = Generation { name: "mail".into(), number: 1 };
    world.provision("bob", ProvisionInput::Begin { generation: mail, previous: None });
    assert_eq!(world.nodes["bob"].steps.len(), 3, "others live beside it");
}
