//! Stories about a generation's life: every step may fail, and every step may be cut off.

use crate::world::World;
use softservice_protocol::{
    io::{Effect, Event, Generation, ProvisionEvent, ProvisionInput, ProvisionStep},
    time::Span,
};

const GOOD: [Effect; 7] = [
    Effect::Stage,
    Effect::Rehearse,
    Effect::StopPrevious,
    Effect::Point,
    Effect::Start,
    Effect::Confirm,
    Effect::Commit,
];
const BACK: [Effect; 4] = [Effect::StopNew, Effect::PointBack, Effect::StartPrevious, Effect::MarkFailed];

/// A device in one word: which generation is pointed to, which runs, which are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    current: Option<u32>,
    running: Option<u32>,
    committed: Option<u32>,
    failed: bool,
}

impl Device {
    fn before(previous: Option<u32>) -> Self {
        Self { current: previous, running: previous, committed: previous, failed: false }
    }
    fn apply(&mut self, step: &ProvisionStep) {
        match step.effect {
            Effect::Stage | Effect::Rehearse | Effect::Confirm => {}
            Effect::StopPrevious | Effect::StopNew => self.running = None,
            Effect::Point => self.current = Some(step.generation.number),
            Effect::Start => self.running = Some(step.generation.number),
            Effect::Commit => self.committed = Some(step.generation.number),
            Effect::PointBack => self.current = step.previous,
            Effect::StartPrevious => self.running = step.previous,
            Effect::MarkFailed => self.failed = true,
        }
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
fn live(world: &mut World, device: &mut Device, mut fails: impl FnMut(Effect, u32) -> bool) -> Vec<Effect> {
    let mut done = 0;
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
    assert_eq!(device, Device { current: Some(2), running: Some(2), committed: Some(2), failed: false });
}

#[test]
fn a_first_install_leaves_out_what_concerns_a_previous_one() {
    let mut device = Device::before(None);
    let mut world = begin(None);
    let steps = live(&mut world, &mut device, |e, _| e == Effect::Confirm);
    use Effect::*;
    assert_eq!(steps, [Stage, Rehearse, Point, Start, Confirm, StopNew, PointBack, MarkFailed]);
    assert_eq!(device, Device { failed: true, ..Device::before(None) });
}

#[test]
fn whatever_fails_the_previous_one_runs_again() {
    for bad in GOOD {
        let mut device = Device::before(Some(1));
        let mut world = begin(Some(1));
        let steps = live(&mut world, &mut device, |effect, _| effect == bad);
        let Some(ProvisionEvent::Reverted { why, .. }) = ended(&world) else { panic!("{bad:?}: {:?}", ended(&world)) };
        assert!(why.contains("no"), "{why}");
        assert_eq!(device, Device { failed: true, ..Device::before(Some(1)) }, "after {bad:?}");
        let touched = steps.contains(&Effect::StopNew);
        assert_eq!(touched, bad >= Effect::StopPrevious, "before the switch nothing that runs is touched");
    }
}

#[test]
fn a_step_of_the_way_back_is_tried_again_and_then_the_owner_is_called() {
    for bad in BACK {
        let mut device = Device::before(Some(1));
        let mut world = begin(Some(1));
        live(&mut world, &mut device, |e, tries| e == Effect::Start || (e == bad && tries < 2));
        assert!(matches!(ended(&world), Some(ProvisionEvent::Reverted { .. })), "{bad:?}");
        assert_eq!(device, Device { failed: true, ..Device::before(Some(1)) });
        let mut world = begin(Some(1));
        let steps = live(&mut world, &mut Device::before(Some(1)), |e, _| e == Effect::Start || e == bad);
        assert!(matches!(ended(&world), Some(ProvisionEvent::Stuck { .. })), "{bad:?}");
        assert_eq!(steps.iter().filter(|e| **e == bad).count(), 3);
    }
}

/// Cut off before or after each step's effect, in a good life and in one that fails, the device ends in one of two
/// places: the new generation committed, or exactly as before with the new one marked.
#[test]
fn a_crash_at_any_step_leaves_old_or_new_never_a_mix() {
    for previous in [Some(1), None] {
        for bad in [None, Some(Effect::Start), Some(Effect::Confirm)] {
            for (cut, effect_was_done) in (0..12).flat_map(|cut| [(cut, false), (cut, true)]) {
                let mut device = Device::before(previous);
                let Some(step) = cut_off(previous, bad, cut, effect_was_done, &mut device) else { continue };
                let mut world = World::new(&["bob"]);
                world.provision("bob", ProvisionInput::Interrupted { step: step.clone() });
                live(&mut world, &mut device, |_, _| false);
                let old = Device { failed: true, ..Device::before(previous) };
                let new = Device { current: Some(2), running: Some(2), committed: Some(2), failed: false };
                match ended(&world) {
                    Some(ProvisionEvent::Committed { .. }) => assert_eq!(device, new, "cut at {step:?}"),
                    Some(ProvisionEvent::Reverted { .. }) => assert_eq!(device, old, "cut at {step:?}"),
                    other => panic!("cut at {step:?}: {other:?}"),
                }
                assert_eq!(step.effect == Effect::Commit, device == new, "only what was confirmed is redone");
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
