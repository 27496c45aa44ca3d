//! Crashes on purpose, with real nodes and real services: `kill -9` in the middle of an install, an update, a rollback or a
//! removal, again and again, each followed by the question whether what stands is wholly the old or wholly the new.
//! Invariant: whoever reads "0 mixed" can trust that every crash was followed by every check.
//!
//! Reading order: [`example`] (what is crashed: [`book`], [`postgresql`], [`site`]), [`deed`] (during what), [`moment`] (when, and whom it hits), [`scene`] (how),
//! [`judge`] (the checks), [`figures`].

mod attic;
mod book;
pub mod deed;
pub mod disk;
pub mod example;
pub mod figures;
pub mod imprint;
pub mod judge;
pub mod moment;
mod postgresql;
pub mod processes;
pub mod scene;
mod site;
pub mod watch;

use crate::World;
use deed::Deed;
use example::{BAD, Edition, Example, FIRST};
use figures::Figures;
use moment::{Crash, Moment, Victims};
use scene::{Course, Outcome, Scene};
use std::collections::{BTreeMap, VecDeque};

/// Which steps are crashed at: lines of the journal, before and after each effect, and changes of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// None.
    None,
    /// Each once; victims take turns.
    Once,
    /// Each with all kinds of victims.
    All,
}

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Random moments over all deeds.
    pub moments: u64,
    /// Also steps.
    pub steps: Steps,
    /// The seed of the random moments.
    pub seed: u64,
    /// Only deeds of these verbs; of all when there is none.
    pub only: Vec<String>,
    /// The home is on a disk of its own, and a third of the crashes is a power cut.
    pub power: bool,
}

impl Orders {
    fn victims(&self) -> &'static [Victims] {
        if self.power { &[Victims::Node, Victims::All, Victims::Power] } else { &[Victims::Node, Victims::All] }
    }

    /// Crashes by deed. `courses` tell the steps that there are.
    fn crashes(&self, deeds: &[Deed], courses: &BTreeMap<Deed, Course>) -> BTreeMap<Deed, VecDeque<Crash>> {
        let deeds: Vec<Deed> =
            deeds.iter().copied().filter(|d| self.only.is_empty() || self.only.iter().any(|o| o == d.verb())).collect();
        let mut all: BTreeMap<Deed, VecDeque<Crash>> = BTreeMap::new();
        for (deed, course) in deeds.iter().filter_map(|d| Some((*d, courses.get(d)?))) {
            for (turn, moment) in steps(deed, course).into_iter().enumerate() {
                let hit = |victims: &Victims| Crash { moment: moment.clone(), victims: *victims, again: None };
                let victims = match self.steps {
                    Steps::None => &[],
                    Steps::Once => &self.victims()[turn % self.victims().len()..][..1],
                    Steps::All => self.victims(),
                };
                all.entry(deed).or_default().extend(victims.iter().map(hit));
            }
        }
        // Each verb has its share, and within it each of its deeds.
        let mut verbs: Vec<&str> = deeds.iter().map(|d| d.verb()).collect();
        verbs.dedup();
        for number in 0..self.moments {
            let Some(verb) = verbs.get((number % verbs.len().max(1) as u64) as usize) else { break };
            let of_verb: Vec<Deed> = deeds.iter().copied().filter(|d| d.verb() == *verb).collect();
            let turn = number / verbs.len() as u64 % of_verb.len() as u64;
            all.entry(of_verb[turn as usize]).or_default().push_back(Crash::random(self.seed, number, self.victims()));
        }
        all
    }
}

/// Moments at every step of a deed.
fn steps(deed: Deed, course: &Course) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    for line in &course.lines {
        let moment = Moment::Line(watch::Line { generation: 0, ..line.clone() });
        if !moments.contains(&moment) {
            moments.push(moment);
        }
    }
    if deed == Deed::Remove {
        let mut counts: BTreeMap<&watch::Change, usize> = BTreeMap::new();
        for change in &course.changes {
            let nth = counts.entry(change).or_default();
            *nth += 1;
            moments.push(Moment::Change(change.clone(), *nth));
        }
    }
    moments
}

/// Carries out the orders on an example in a home of its own below `world`; tells each crash to `tell`.
pub fn run(
    world: &World,
    home: &str,
    example: Box<dyn Example>,
    orders: &Orders,
    mut tell: impl FnMut(&str),
) -> Figures {
    let deeds = example.deeds();
    let mut scene = Scene::open(world, home, example, orders.power);
    let mut courses = BTreeMap::new();
    for deed in round(&deeds) {
        let course = scene.undisturbed(deed);
        tell(&format!("undisturbed: {} in {:.2} s", deed.name(), course.took.as_secs_f64()));
        courses.insert(deed, course);
    }
    let mut crashes = orders.crashes(&deeds, &courses);
    let (mut figures, mut homes) = (Figures::default(), 1);
    while let Some((deed, crash)) = next(&mut scene, &mut crashes) {
        let outcome = scene.crash(deed, &crash, &courses[&deed]);
        figures.count(deed, crash.victims, &outcome);
        tell(&described(deed, &crash, &outcome));
        if !outcome.judgement.faults.is_empty() {
            // What stands there is not known any more: another home goes on.
            homes += 1;
            scene = Scene::open(world, &format!("{home}-{homes}"), scene.end(), orders.power);
        }
    }
    figures
}

/// All deeds in an order in which each begins where the one before ended; the softservice is installed.
fn round(deeds: &[Deed]) -> Vec<Deed> {
    let there: Vec<Edition> =
        deeds.iter().filter_map(|d| if let Deed::Update(e) = d { Some(*e) } else { None }).collect();
    let good = there.iter().filter(|e| **e != BAD).flat_map(|e| [Deed::Update(*e), Deed::Rollback(*e)]);
    good.chain([Deed::Update(BAD), Deed::Remove, Deed::Install]).collect()
}

fn described(deed: Deed, crash: &Crash, outcome: &Outcome) -> String {
    let judgement = &outcome.judgement;
    let ended = match judgement.faults.is_empty() {
        false => "MIXED",
        true if judgement.stands == deed.before() => "old",
        true => "new",
    };
    let at = outcome.at.as_ref().map_or("before its first step".into(), |l| format!("{} {}", l.mark, l.effect));
    let mut text = format!(
        "{}: {} gone {}, {at}{}{}: {ended} after {:.2} s",
        deed.name(),
        crash.victims.name(),
        crash.moment,
        if outcome.met { "" } else { " (it had ended)" },
        crash.again.map_or(String::new(), |d| format!(", and again {} ms later", d.as_millis())),
        outcome.recovery.as_secs_f64()
    );
    for fault in judgement.faults.iter().chain(&judgement.differences) {
        text.push_str("\n    ");
        text.push_str(fault);
    }
    text
}

/// The next crash that can be had where the softservice stands; where there is none, it is brought where one can.
fn next(scene: &mut Scene, crashes: &mut BTreeMap<Deed, VecDeque<Crash>>) -> Option<(Deed, Crash)> {
    loop {
        crashes.retain(|_, left| !left.is_empty());
        let standing = scene.standing();
        let here = crashes.iter_mut().filter(|(deed, _)| deed.before() == standing).max_by_key(|(_, left)| left.len());
        if let Some((deed, left)) = here {
            return Some((*deed, left.pop_front()?));
        }
        let wanted = crashes.keys().next()?.before();
        scene.undisturbed(match (standing, wanted) {
            (None, _) => Deed::Install,
            (Some(FIRST), Some(edition)) => Deed::Update(edition),
            (Some(FIRST), None) => Deed::Remove,
            (Some(edition), _) => Deed::Rollback(edition),
        });
    }
}
