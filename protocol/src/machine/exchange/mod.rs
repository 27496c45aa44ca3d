//! Bringing content: fetches go through their stages; peers are asked for what is missing, several at once, each as
//! much as it can carry; what is slow is asked elsewhere; what lies is sent away.
//!
//! `fetch` is one fetch's life, `wants` its missing chunks, `holders` who has them and the order of asking, `lanes` how
//! much a peer can be asked at once, `requests` asking and what comes back, `talk` who has what, `answers` what we tell others, `seeding`
//! what of it while we are the first to have something.
//! Invariant: a chunk counts as here only when the driver said that it is verified and stored; every count is bounded
//! by what one peer may cause.

mod answers;
mod fetch;
mod holders;
mod lanes;
mod pace;
mod requests;
mod seeding;
mod talk;
mod wants;

use super::{TransferView, desk::Desk};
use crate::{
    bitmap::Bitmap,
    id::{Peer, ReleaseId},
    io::{Depth, Event, Job, Output, Request, Setback, Stage, WantList},
    message::Message,
    release::ReleaseRef,
    time::{Span, Time},
};
use answers::Answers;
use fetch::{Fetch, Phase, Run};
use holders::Holders;
use lanes::Lane;
use pace::Waited;
use requests::Asked;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use talk::introduce;
use wants::Wants;

/// Marks the numbers of fetches that the core wishes itself.
const INTERNAL: u64 = 1 << 63;
/// Fetches at once.
const FETCHES: usize = 64;
/// Releases that wait to be looked at ahead.
const WISHES: usize = 256;
/// Releases remembered as looked at.
const SEEN: usize = 4096;
/// After a failure, looking ahead pauses.
const WISH_PAUSE: Span = Span::seconds(60);
/// While fetches go on: deadlines, slow peers and questions are looked at so often.
const TICK: Span = Span::millis(250);
/// Between two questions to a peer what it has, while it is of no use to us now, and while it is.
const ASK_IDLE: Span = Span::seconds(1);
/// See [`ASK_IDLE`].
const ASK_BUSY: Span = Span::seconds(3);
/// Between two tellings of what came, to those who asked; a bitmap of 8 bytes costs one millisecond more, so that 10 GiB
/// in hand cost as little of the link as 10 MiB.
const TELL: Span = Span::millis(250);
/// How long an owner's fetch waits for our own of the same release to come to rest.
const HANDOVER: Span = Span::seconds(3);

/// See the module.
#[derive(Debug, Default)]
pub struct Exchange {
    lanes: BTreeMap<Peer, Lane>,
    fetches: BTreeMap<Job, Fetch>,
    requests: BTreeMap<Request, Asked>,
    answers: Answers,
    wishes: VecDeque<ReleaseRef>,
    seen: BTreeSet<ReleaseId>,
    wish_at: Time,
    due: Option<Time>,
}

impl Exchange {
    pub(crate) fn received_from(&self, peer: Peer) -> u64 {
        self.lanes.get(&peer).map_or(0, |l| l.received)
    }

    pub(crate) fn transfers(&self, now: Time) -> Vec<TransferView> {
        let view = |(&job, fetch): (&Job, &Fetch)| {
            let (stage, bytes, of, peers) = match &fetch.phase {
                Phase::Running(run) => (Some(run.stage), run.wants.bytes, run.wants.of, run.holders.useful()),
                Phase::Assembling(stage) => (Some(*stage), 0, 0, 0),
                Phase::Waiting(_) | Phase::Expanding => (None, 0, 0, 0),
            };
            let (release, depth, own_wish) = (fetch.release.id, fetch.depth, fetch.internal);
            let (rate, figures) = (fetch.pace.rate(now), fetch.figures_at(now));
            TransferView { job, release, depth, stage, bytes, of, peers, own_wish, rate, figures }
        };
        self.fetches.iter().map(view).collect()
    }

    pub(crate) fn connected(&mut self, desk: &mut Desk, peer: Peer) {
        self.lanes.entry(peer).or_default();
        for fetch in self.fetches.values_mut() {
            let release = fetch.release.id;
            if let Some(run) = fetch.run() {
                introduce(desk, run, release, peer);
            }
        }
        self.pump(desk);
        self.begin_wish(desk);
    }

    pub(crate) fn disconnected(&mut self, desk: &mut Desk, peer: Peer) {
        if self.lanes.remove(&peer).is_none() {
            return;
        }
        self.answers.disconnected(desk, peer);
        self.orphan(desk.now, peer);
        for fetch in self.fetches.values_mut() {
            if let Some(run) = fetch.run() {
                run.holders.remove(peer);
            }
        }
        self.pump(desk);
    }

    pub(crate) fn fetch(&mut self, desk: &mut Desk, job: Job, release: ReleaseRef, depth: Depth) {
        let refusal = if self.fetches.contains_key(&job) || job.0 & INTERNAL != 0 {
            Some("its number is already in use".into())
        } else if self.fetches.len() >= FETCHES {
            Some(format!("{FETCHES} fetches are the most at once"))
        } else {
            None
        };
        if let Some(why) = refusal {
            return desk.tell(Event::FetchFailed { job, why, no_peer: false });
        }
        let twin = self.fetches.iter_mut().find(|(_, f)| f.internal && f.release.id == release.id);
        let Some((&twin_job, twin)) = twin else {
            self.fetches.insert(job, Fetch::new(desk.now, release, depth, false, Phase::Expanding));
            return desk.out(Output::Expand { job, release, depth });
        };
        // Two fetches of one release would bring the same manifests twice.
        twin.superseded = true;
        let phase = Phase::Waiting(desk.now + HANDOVER);
        self.fetches.insert(job, Fetch::new(desk.now, release, depth, false, phase));
        self.cancel_all(desk, twin_job);
        self.hand_over(desk);
    }

    pub(crate) fn abandon(&mut self, desk: &mut Desk, job: Job) {
        self.cancel_all(desk, job);
        self.fetches.remove(&job);
        self.pump(desk);
    }

    /// Looks ahead at these releases, so that this device knows what it holds of them.
    pub(crate) fn wish(&mut self, desk: &mut Desk, releases: Vec<ReleaseRef>) {
        for release in releases {
            let known = self.seen.contains(&release.id) || self.wishes.contains(&release);
            if !known && self.wishes.len() < WISHES {
                self.wishes.push_back(release);
            }
        }
        self.begin_wish(desk);
    }

    fn begin_wish(&mut self, desk: &mut Desk) {
        let idle = !self.fetches.values().any(|f| f.internal);
        if !idle || self.lanes.is_empty() || self.wish_at > desk.now {
            return;
        }
        while let Some(release) = self.wishes.pop_front() {
            // An owner's fetch brings the same.
            if self.fetches.values().any(|f| f.release.id == release.id) {
                continue;
            }
            let job = Job(INTERNAL | desk.number());
            let depth = Depth::Manifests;
            self.fetches.insert(job, Fetch::new(desk.now, release, depth, true, Phase::Expanding));
            return desk.out(Output::Expand { job, release, depth });
        }
    }

    pub(crate) fn expanded(&mut self, desk: &mut Desk, job: Job, list: Result<WantList, Setback>) {
        let Some(fetch) = self.fetches.get_mut(&job).filter(|f| matches!(f.phase, Phase::Expanding)) else { return };
        if fetch.superseded {
            return self.hand_over(desk);
        }
        let list = match list {
            Ok(list) => list,
            Err(setback) => return self.set_back(desk, job, setback),
        };
        fetch.stages += 1;
        let (stage, len, serial) = (list.stage, list.chunks.len(), fetch.stages);
        if serial > fetch::STAGES {
            return self.fail(desk, job, "its closure is deeper than any closure may be".into(), false);
        }
        let Some(wants) = Wants::new(list) else {
            return self.fail(desk, job, "its manifest names chunks of impossible size".into(), false);
        };
        fetch.figures.bytes += wants.of;
        fetch.staged = wants.of;
        fetch.moved = desk.now;
        let done = wants.left == 0;
        fetch.starved = desk.now;
        let (holders, begins) = (Holders::new(desk.me, len), desk.now + fetch::GRACE);
        let (told_at, told_bytes) = (Time(0), None);
        let waited = Waited::new(desk.now);
        let mut run = Box::new(Run { stage, serial, wants, holders, open: 0, begins, told_at, told_bytes, waited });
        if !done {
            let mut peers: Vec<Peer> = self.lanes.keys().copied().collect();
            desk.shuffle(&mut peers);
            for peer in peers {
                introduce(desk, &mut run, fetch.release.id, peer);
            }
        }
        fetch.enter(desk.now, Phase::Running(run));
        fetch.report(desk, job, true);
        if done {
            return self.assemble(desk, job);
        }
        self.due = Some(self.due.map_or(begins, |at| at.min(begins)));
        self.pump(desk);
    }

    fn assemble(&mut self, desk: &mut Desk, job: Job) {
        self.cancel_all(desk, job);
        let Some(fetch) = self.fetches.get_mut(&job) else { return };
        fetch.report(desk, job, true);
        let Phase::Running(run) = &fetch.phase else { return };
        let stage = run.stage;
        if stage == Stage::Content {
            let (release, all) = (fetch.release.id, Bitmap::full(run.wants.len()));
            for peer in self.answers.watchers(release) {
                if run.holders.map.get(&peer).is_none_or(|h| !h.complete) {
                    desk.send(peer, &Message::Has { release, chunks: Some(all.clone()) });
                }
            }
            self.answers.learn(desk.now, release, Some(all));
            self.answers.seeding.brought(release);
        }
        fetch.enter(desk.now, Phase::Assembling(stage));
        desk.out(Output::Assemble { job, stage });
    }

    pub(crate) fn assembled(&mut self, desk: &mut Desk, job: Job, result: Result<(), Setback>) {
        let Some(fetch) = self.fetches.get_mut(&job) else { return };
        let Phase::Assembling(stage) = fetch.phase else { return };
        if fetch.superseded {
            return self.hand_over(desk);
        }
        if let Err(setback) = result {
            return self.set_back(desk, job, setback);
        }
        if stage < fetch.last_stage() {
            fetch.staged = 0;
            return fetch.look(desk, job);
        }
        let Some(mut fetch) = self.fetches.remove(&job) else { return };
        fetch.enter(desk.now, Phase::Expanding);
        fetch.figures.millis = desk.now.since(fetch.begun).0;
        self.remember_seen(fetch.release.id);
        if !fetch.internal {
            desk.tell(Event::Fetched { job, figures: fetch.figures });
        }
        self.begin_wish(desk);
    }

    /// The store could not go on. A sweep took what a fetch counted on, a disk lost what others put or a file turned out
    /// to be damaged: the store looks again and the fetch asks for what lacks, but not for ever.
    fn set_back(&mut self, desk: &mut Desk, job: Job, setback: Setback) {
        let Some(fetch) = self.fetches.get_mut(&job) else { return };
        if !setback.again || fetch.setbacks >= fetch::SETBACKS {
            return self.fail(desk, job, setback.why, false);
        }
        tracing::debug!(release = %fetch.release.id, why = setback.why, "looking again");
        fetch.setbacks += 1;
        fetch.figures.bytes -= std::mem::take(&mut fetch.staged);
        // Others were told that all of it is here.
        self.answers.unlearn(fetch.release.id);
        fetch.look(desk, job);
    }

    fn remember_seen(&mut self, release: ReleaseId) {
        if self.seen.len() >= SEEN {
            self.seen.clear(); // looked at once more, at the cost of one question to the store each
        }
        self.seen.insert(release);
    }

    fn fail(&mut self, desk: &mut Desk, job: Job, why: String, no_peer: bool) {
        self.cancel_all(desk, job);
        let Some(fetch) = self.fetches.remove(&job) else { return };
        if fetch.superseded {
            // An owner's fetch waits for this one to end; it finds out by itself.
            self.release_waiting(desk, fetch.release.id);
        }
        if fetch.internal {
            tracing::debug!(release = %fetch.release.id, why, "looking ahead failed");
            self.wish_at = desk.now + WISH_PAUSE;
            if no_peer && self.wishes.len() < WISHES {
                self.wishes.push_back(fetch.release);
            }
        } else {
            desk.tell(Event::FetchFailed { job, why, no_peer });
        }
        self.begin_wish(desk);
    }

    /// Ends superseded fetches whose requests have ended, and begins what waited for them.
    fn hand_over(&mut self, desk: &mut Desk) {
        let rest: Vec<Job> = self.fetches.iter().filter(|(_, f)| f.superseded).map(|(j, _)| *j).collect();
        for job in rest {
            let Some(fetch) = self.fetches.get_mut(&job) else { continue };
            let release = fetch.release.id;
            let open = fetch.run().map_or(0, |r| r.open);
            let late = |f: &Fetch| matches!(f.phase, Phase::Waiting(until) if until <= desk.now);
            if open > 0 && !self.fetches.values().any(|f| f.release.id == release && late(f)) {
                continue;
            }
            self.fetches.remove(&job);
            self.release_waiting(desk, release);
        }
    }

    /// Begins the fetches that waited for another one of the same release, which is gone.
    fn release_waiting(&mut self, desk: &mut Desk, release: ReleaseId) {
        for (&job, fetch) in &mut self.fetches {
            if fetch.release.id == release && matches!(fetch.phase, Phase::Waiting(_)) {
                fetch.look(desk, job);
            }
        }
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        let wish = (!self.wishes.is_empty() && !self.lanes.is_empty()).then_some(self.wish_at);
        let internal = self.fetches.values().any(|f| f.internal);
        [self.due, wish.filter(|_| !internal)].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, desk: &mut Desk) {
        let active = self.fetches.values().any(|f| !matches!(f.phase, Phase::Expanding | Phase::Assembling(_)));
        if !active && self.requests.is_empty() && !self.answers.seeding.is_busy() {
            self.due = None;
        } else if self.due.is_none_or(|at| at <= desk.now) {
            self.due = Some(desk.now + TICK);
            self.give_up_on_lost(desk);
            self.hand_over(desk);
            self.ask_again(desk);
            self.tell_watchers(desk);
            self.answers.seeding.tick(desk);
            self.pump(desk);
            self.relieve(desk);
            self.give_up(desk);
        }
        self.begin_wish(desk);
    }

    /// Ends fetches that cannot go on.
    fn give_up(&mut self, desk: &mut Desk) {
        let mut lost = Vec::new();
        for (&job, fetch) in &self.fetches {
            let Phase::Running(run) = &fetch.phase else { continue };
            let idle = desk.now.since(fetch.moved);
            if idle >= fetch::STALLED {
                lost.push((job, "no connected peer delivers what is missing"));
            } else if idle >= fetch::ALONE && run.open == 0 {
                let claimed = run.stage == Stage::Content && run.holders.anyone_has(&run.wants);
                if !claimed {
                    lost.push((job, "no connected peer has what is missing"));
                }
            }
        }
        for (job, why) in lost {
            self.fail(desk, job, why.into(), true);
        }
    }
}
