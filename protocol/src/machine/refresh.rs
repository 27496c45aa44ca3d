//! The owner wants to know now what is newest: connected peers are asked at once, and the answer waits for theirs.
//! Invariant: each refresh is told to be over exactly once: when all who were asked have answered or are gone and what
//! they brought is durable, or when its patience ends.

use super::{desk::Desk, feeds::Feeds};
use crate::{
    id::{Peer, PublisherId},
    io::{Event, Job, Output},
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// A peer that says nothing for so long is not waited for.
const PATIENCE: Span = Span::seconds(5);
/// Refreshes that may wait at the same time: one for each verb that people type.
const WAITING: usize = 256;

#[derive(Debug)]
struct Wait {
    publisher: PublisherId,
    peers: BTreeSet<Peer>,
    until: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Refresh {
    waits: BTreeMap<Job, Wait>,
}

impl Refresh {
    /// Begins to wait for `peers`, who were asked.
    pub(crate) fn begin(&mut self, desk: &mut Desk, job: Job, publisher: PublisherId, peers: BTreeSet<Peer>) {
        if peers.is_empty() || self.waits.len() >= WAITING {
            return desk.out(Output::Tell(Event::Refreshed { job }));
        }
        self.waits.insert(job, Wait { publisher, peers, until: desk.now + PATIENCE });
    }
    /// This peer has said all it knows of this publisher.
    pub(crate) fn answered(&mut self, peer: Peer, publisher: PublisherId) {
        for wait in self.waits.values_mut().filter(|w| w.publisher == publisher) {
            wait.peers.remove(&peer);
        }
    }
    pub(crate) fn disconnected(&mut self, peer: Peer) {
        for wait in self.waits.values_mut() {
            wait.peers.remove(&peer);
        }
    }
    /// Tells of those that are over. Called after every input: what ends a wait may be an answer or a durable record.
    pub(crate) fn settle(&mut self, desk: &mut Desk, feeds: &Feeds) {
        let now = desk.now;
        // Whatever they brought: a root document without an entry as well.
        let durable = |p: PublisherId| feeds.get(p).is_none_or(|f| f.batch.is_none());
        let over = |w: &Wait| w.until <= now || (w.peers.is_empty() && durable(w.publisher));
        let jobs: Vec<Job> = self.waits.iter().filter(|(_, w)| over(w)).map(|(job, _)| *job).collect();
        for job in jobs {
            self.waits.remove(&job);
            desk.out(Output::Tell(Event::Refreshed { job }));
        }
    }
    pub(crate) fn wake(&self) -> Option<Time> {
        self.waits.values().map(|w| w.until).min()
    }
}
