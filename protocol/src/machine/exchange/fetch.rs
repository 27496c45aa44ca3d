//! One fetch: its stages, its figures, and when it is given up.
//! Invariant: a stage ends only when all its chunks are in the store and the store made whole objects of them; the
//! store says which stage comes next, since only it can read what came.

use super::{
    holders::Holders,
    pace::{Pace, Waited},
    wants::Wants,
};
use crate::{
    io::{Depth, Event, FetchFigures, Job, Output, Stage, Waits},
    machine::desk::Desk,
    release::ReleaseRef,
    time::{Span, Time},
};

/// Stages of a fetch: the release documents of a closure come level by level, so this bounds its depth.
pub(super) const STAGES: u32 = crate::limits::CLOSURE as u32 + 4;
/// Times that a fetch looks again because something was gone that it had counted on: more often the disk does not keep
/// what it takes.
pub(super) const SETBACKS: u32 = 8;
/// Without progress for so long, and nobody who has anything, a fetch has failed.
pub(super) const ALONE: Span = Span::seconds(30);
/// The same while somebody claims to have it and does not deliver.
pub(super) const STALLED: Span = Span::seconds(120);
/// After so long without anything useful, seeders are asked for whatever is missing ...
const STARVING: Span = Span::millis(2500);
/// ... for so long.
const UNSHARED: Span = Span::seconds(5);
/// How long a stage waits for all to say what they have.
pub(super) const GRACE: Span = Span::millis(100);
/// Between two reports of progress.
const REPORT: Span = Span::millis(250);

/// A stage that is being fetched.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) stage: Stage,
    /// Counts stages, so that a late answer of an earlier one is not taken for this one's.
    pub(super) serial: u32,
    pub(super) wants: Wants,
    pub(super) holders: Holders,
    /// Open requests.
    pub(super) open: usize,
    /// Nobody is asked before, unless all have said what they have: who begins blindly begins where everybody does.
    pub(super) begins: Time,
    /// When those who asked were told what is here, and how many bytes it was.
    pub(super) told_at: Time,
    /// See `told_at`.
    pub(super) told_bytes: Option<u64>,
    /// What its requests waited for.
    pub(super) waited: Waited,
}

/// Where a fetch stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// The same release is being fetched ahead by ourselves: its open requests come to their end first.
    Waiting(Time),
    /// The store looks what comes next.
    Expanding,
    /// Peers are asked.
    Running(Box<Run>),
    /// The store makes whole objects.
    Assembling(Stage),
}

impl Phase {
    /// Books the time that this phase has taken, and what it went into.
    fn book(&self, now: Time, took: u64, figures: &mut FetchFigures) {
        let (phases, waits) = (&mut figures.phases, figures.waits);
        let (booked, why) = match self {
            Self::Waiting(_) | Self::Expanding => (&mut phases.looking, Waits { looking: took, ..Waits::default() }),
            Self::Running(run) if run.stage == Stage::Content => (&mut phases.transferring, run.waited.of(now, took)),
            Self::Running(_) => (&mut phases.transferring, Waits { looking: took, ..Waits::default() }),
            Self::Assembling(_) => (&mut phases.assembling, Waits { disk: took, ..Waits::default() }),
        };
        *booked = booked.saturating_add(took);
        figures.waits = waits.plus(&why);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) release: ReleaseRef,
    pub(super) depth: Depth,
    /// Wished by the core itself: nobody is told.
    pub(super) internal: bool,
    /// An owner's fetch of the same release waits for it to end.
    pub(super) superseded: bool,
    pub(super) phase: Phase,
    /// When this phase began.
    entered: Time,
    pub(super) figures: FetchFigures,
    pub(super) begun: Time,
    /// Last time that something useful happened.
    pub(super) moved: Time,
    told: Time,
    pub(super) stages: u32,
    /// Bytes that the stage which goes on added to the figures.
    pub(super) staged: u64,
    pub(super) setbacks: u32,
    /// How fast it is.
    pub(super) pace: Pace,
    /// Sharing is off until then: who should have fetched a piece for us did not.
    pub(super) starved: Time,
}

impl Fetch {
    pub(super) fn new(now: Time, release: ReleaseRef, depth: Depth, internal: bool, phase: Phase) -> Self {
        Self {
            release,
            depth,
            internal,
            superseded: false,
            phase,
            entered: now,
            figures: FetchFigures::default(),
            begun: now,
            moved: now,
            told: Time(0),
            stages: 0,
            staged: 0,
            setbacks: 0,
            pace: Pace::new(now),
            starved: now,
        }
    }
    pub(super) fn run(&mut self) -> Option<&mut Run> {
        match &mut self.phase {
            Phase::Running(run) => Some(run),
            _ => None,
        }
    }
    /// Goes over to another phase, and books the time that the last one took.
    pub(super) fn enter(&mut self, now: Time, phase: Phase) {
        let took = now.since(std::mem::replace(&mut self.entered, now)).0;
        self.phase.book(now, took, &mut self.figures);
        self.phase = phase;
    }
    /// What it cost until now.
    pub(super) fn figures_at(&self, now: Time) -> FetchFigures {
        let mut figures = self.figures.clone();
        self.phase.book(now, now.since(self.entered).0, &mut figures);
        figures.millis = now.since(self.begun).0;
        figures
    }
    /// Has the store look what comes next.
    pub(super) fn look(&mut self, desk: &mut Desk, job: Job) {
        self.enter(desk.now, Phase::Expanding);
        self.moved = desk.now;
        desk.out(Output::Expand { job, release: self.release, depth: self.depth });
    }
    pub(super) fn last_stage(&self) -> Stage {
        match self.depth {
            Depth::Manifests => Stage::Manifests,
            Depth::Content => Stage::Content,
        }
    }
    /// Whether seeders are spared: what falls to others is left to them, as long as something comes.
    pub(super) fn shares(&mut self, now: Time) -> bool {
        if now.since(self.moved) >= STARVING {
            self.starved = now + UNSHARED;
        }
        self.starved <= now
    }
    /// Reports progress, not more often than anybody can read unless `now_or_never`.
    pub(super) fn report(&mut self, desk: &mut Desk, job: Job, now_or_never: bool) {
        let due = now_or_never || desk.now.since(self.told) >= REPORT;
        let Phase::Running(run) = &self.phase else { return };
        if due && !self.internal {
            self.told = desk.now;
            desk.tell(Event::Progress { job, stage: run.stage, bytes: run.wants.bytes, of: run.wants.of });
        }
    }
}
