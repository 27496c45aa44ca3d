//! Who waits for what: the open commands of the driver. Invariant: each has one reply, which leaves here exactly once;
//! what is still here when the driver ends is dropped, and so answered as stopping.

use crate::handle::{CommandError, FetchProgress, PATIENCE, ProgressSender, Reply};
use softservice_protocol::{
    feed::Head,

    io::{Depth, FetchFigures, Generation, Job, ProvisionEvent, Stage},
    release::ReleaseRef,
};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Open commands of each kind; a person has a handful, a script that loses its mind is told so.
const OPEN: usize = 1024;

/// A fetch that somebody waits for.
#[derive(Debug)]
pub(super) struct Fetch {
    release: ReleaseRef,
    depth: Depth,
    progress: Option<ProgressSender>,
    reply: Reply<FetchFigures>,
    moved: Instant,
    best: (Option<Stage>, u64),
    /// What the retries before this one brought.
    before: FetchFigures,
    began: Instant,
}

/// What the driver is to do about fetches.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// To be told to the core as new fetches.
    pub(super) again: Vec<(Job, ReleaseRef, Depth)>,
    /// To be abandoned.
    pub(super) abandon: Vec<Job>,
}

/// All open commands.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last: u64,
    fetches: BTreeMap<Job, Fetch>,
    /// Fetches that no peer could serve, waiting for another try.
    idle: Vec<Fetch>,
    publishes: BTreeMap<Job, Reply<Head>>,
    lives: BTreeMap<Generation, Vec<Reply<ProvisionEvent>>>,
}

impl Jobs {
    /// A number that no command had before.
    fn number(&mut self) -> Job {
        self.last += 1;
        Job(self.last)
    }

    pub(super) fn publish(&mut self, reply: Reply<Head>) -> Option<Job> {
        self.publishes.retain(|_, r| !r.is_closed());
        if self.publishes.len() >= OPEN {
            let _ = reply.send(Err(CommandError::Failed("too many publications are under way".into())));
            return None;
        }
        let job = self.number();
        self.publishes.insert(job, reply);
        Some(job)
    }
    pub(super) fn published(&mut self, job: Job, result: Result<Head, String>) {
        if let Some(reply) = self.publishes.remove(&job) {
            let _ = reply.send(result.map_err(CommandError::Failed));
        }
    }

    pub(super) fn fetch(
        &mut self,
        release: ReleaseRef,
        depth: Depth,
        progress: Option<ProgressSender>,
        reply: Reply<FetchFigures>,
    ) -> Option<Job> {
        if self.fetches.len() + self.idle.len() >= OPEN {
            let _ = reply.send(Err(CommandError::Failed("too many fetches are under way".into())));
            return None;
        }
        let now = Instant::now();
        let best = (None, 0);
        let before = FetchFigures::default();
        let fetch = Fetch { release, depth, progress, reply, moved: now, best, before, began: now };
        let job = self.number();
        self.fetches.insert(job, fetch);
        Some(job)
    }
    pub(super) fn progressed(&mut self, job: Job, stage: Stage, bytes: u64, of: u64, peers: usize) {
        let Some(fetch) = self.fetches.get_mut(&job) else { return };
        if (Some(stage), bytes) > fetch.best {
            fetch.best = (Some(stage), bytes);
            fetch.moved = Instant::now();
        }
        if let Some(progress) = &fetch.progress {
            progress.send_replace(Some(FetchProgress { stage, bytes, of, peers }));
        }
    }
    pub(super) fn fetched(&mut self, job: Job, mut figures: FetchFigures) {
        let Some(fetch) = self.fetches.remove(&job) else { return };
        // `bytes` of the last try are those of the whole closure; the rest adds up over the tries.
        figures.new_bytes += fetch.before.new_bytes;
        figures.duplicates += fetch.before.duplicates;
        figures.wasted += fetch.before.wasted;
        for (peer, bytes) in &fetch.before.by_peer {
            *figures.by_peer.entry(*peer).or_insert(0) += bytes;
        }
        figures.millis = u64::try_from(fetch.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let _ = fetch.reply.send(Ok(figures));
    }
    pub(super) fn fetch_failed(&mut self, job: Job, why: String, no_peer: bool) {
        let Some(fetch) = self.fetches.remove(&job) else { return };
        if no_peer && fetch.moved.elapsed() < PATIENCE {
            self.idle.push(fetch);
        } else {
            let error = if no_peer { CommandError::NoPeer(why) } else { CommandError::Failed(why) };
            let _ = fetch.reply.send(Err(error));
        }
    }
    /// Looks after fetches: tries idle ones again, gives up those that waited too long for peers, and abandons those
    /// that nobody waits for any more. `served` says how many peers have something of a fetch, if it goes on.
    pub(super) fn review(&mut self, served: impl Fn(Job) -> Option<usize>) -> Review {
        let mut review = Review::default();
        for fetch in std::mem::take(&mut self.idle) {
            if fetch.reply.is_closed() {
                continue;
            }
            if fetch.moved.elapsed() >= PATIENCE {
                let why = format!("no peer has what is missing of release {}", fetch.release.id.short());
                let _ = fetch.reply.send(Err(CommandError::NoPeer(why)));
                continue;
            }
            let job = self.number();
            review.again.push((job, fetch.release, fetch.depth));
            self.fetches.insert(job, fetch);
        }
        let over: Vec<Job> = self
            .fetches
            .iter()
            .filter(|(job, f)| {
                f.reply.is_closed() || (f.moved.elapsed() >= PATIENCE && served(**job).is_some_and(|peers| peers == 0))
            })
            .map(|(job, _)| *job)
            .collect();
        for job in over {
            review.abandon.push(job);
            if let Some(fetch) = self.fetches.remove(&job) {
                let why = format!("no peer has what is missing of release {}", fetch.release.id.short());
                let _ = fetch.reply.send(Err(CommandError::NoPeer(why)));
            }
        }
        review
    }
    /// Whether [`Jobs::review`] has anything to look after.
    pub(super) fn waiting(&self) -> bool {
        !self.fetches.is_empty() || !self.idle.is_empty()
    }

    /// Notes who waits for a life; true when it is to be begun, false when it goes on already.
    pub(super) fn provision(&mut self, generation: Generation, reply: Reply<ProvisionEvent>) -> bool {
        let waiting = self.lives.entry(generation).or_default();
        waiting.retain(|r| !r.is_closed());
        waiting.push(reply);
        waiting.len() == 1
    }
    pub(super) fn provisioned(&mut self, event: &ProvisionEvent) {
        let generation = match event {
            ProvisionEvent::Committed { generation }
            | ProvisionEvent::Reverted { generation, .. }
            | ProvisionEvent::Stuck { generation, .. } => generation,
        };
        for reply in self.lives.remove(generation).unwrap_or_default() {
            let _ = reply.send(Ok(event.clone()));
        }
    }
}

