//! Who waits for what: the open commands of the driver. Invariant: each has one reply, which leaves here exactly once;
//! what is still here when the driver ends is dropped, and so answered as stopping.

use crate::handle::{Appended, CommandError, FetchProgress, ProgressSender, Reply};
use softservice_protocol::io::{Asked, FetchFigures, Generation, Job, ProvisionEvent, Stage};
use std::collections::BTreeMap;

/// Open commands of each kind; a person has a handful, a script that loses its mind is told so.
const OPEN: usize = 1024;

/// A fetch that somebody waits for.
#[derive(Debug)]
struct Fetch {
    progress: Option<ProgressSender>,
    reply: Reply<FetchFigures>,
}

/// All open commands.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    last: u64,
    fetches: BTreeMap<Job, Fetch>,
    publishes: BTreeMap<Job, Reply<Appended>>,
    refreshes: BTreeMap<Job, Reply<Asked>>,
    lives: BTreeMap<Generation, Vec<Reply<ProvisionEvent>>>,
}

impl Jobs {
    /// A number that no command had before.
    fn number(&mut self) -> Job {
        self.last += 1;
        Job(self.last)
    }

    pub(super) fn publish(&mut self, reply: Reply<Appended>) -> Option<Job> {
        self.publishes.retain(|_, r| !r.is_closed());
        if self.publishes.len() >= OPEN {
            let _ = reply.send(Err(CommandError::Failed("too many publications are under way".into())));
            return None;
        }
        let job = self.number();
        self.publishes.insert(job, reply);
        Some(job)
    }
    pub(super) fn published(&mut self, job: Job, result: Result<Appended, CommandError>) {
        if let Some(reply) = self.publishes.remove(&job) {
            let _ = reply.send(result);
        }
    }

    pub(super) fn refresh(&mut self, reply: Reply<Asked>) -> Option<Job> {
        self.refreshes.retain(|_, r| !r.is_closed());
        if self.refreshes.len() >= OPEN {
            let _ = reply.send(Err(CommandError::Failed("too many questions are under way".into())));
            return None;
        }
        let job = self.number();
        self.refreshes.insert(job, reply);
        Some(job)
    }
    pub(super) fn refreshed(&mut self, job: Job, asked: Asked) {
        if let Some(reply) = self.refreshes.remove(&job) {
            let _ = reply.send(Ok(asked));
        }
    }

    pub(super) fn fetch(&mut self, progress: Option<ProgressSender>, reply: Reply<FetchFigures>) -> Option<Job> {
        if self.fetches.len() >= OPEN {
            let _ = reply.send(Err(CommandError::Failed("too many fetches are under way".into())));
            return None;
        }
        let job = self.number();
        self.fetches.insert(job, Fetch { progress, reply });
        Some(job)
    }
    pub(super) fn progressed(&mut self, job: Job, stage: Stage, bytes: u64, of: u64, peers: usize) {
        if let Some(progress) = self.fetches.get(&job).and_then(|f| f.progress.as_ref()) {
            progress.send_replace(Some(FetchProgress { stage, bytes, of, peers }));
        }
    }
    pub(super) fn fetched(&mut self, job: Job, result: Result<FetchFigures, CommandError>) {
        if let Some(fetch) = self.fetches.remove(&job) {
            let _ = fetch.reply.send(result);
        }
    }
    /// Fetches that nobody waits for any more: to be abandoned.
    pub(super) fn deserted(&mut self) -> Vec<Job> {
        let gone: Vec<Job> = self.fetches.iter().filter(|(_, f)| f.reply.is_closed()).map(|(job, _)| *job).collect();
        self.fetches.retain(|_, f| !f.reply.is_closed());
        gone
    }
    /// Whether any fetch goes on.
    pub(super) fn fetching(&self) -> bool {
        !self.fetches.is_empty()
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
