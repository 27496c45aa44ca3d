//! The owner wants to know now what is newest: connected peers are asked at once, in as many parts of the network as there
//! are, so that no neighbourhood alone says what is new; the answer waits for theirs.
//! Invariant: each refresh is told to be over exactly once: when all who were asked have answered or are gone and what
//! they brought, or this device states itself, is durable; or when its patience ends. Nobody to ask is no reason to be over.

use super::{desk::Desk, feeds::Feeds, peers::Peers, restate::Restate};
use crate::{
    id::{Peer, PublisherId},
    io::{Asked, Event, Job, Output},
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
    /// Who answered and follows the publisher. Whoever does not knows nothing, and its empty answer is no word.
    told: BTreeSet<Peer>,
    asked: u32,
    until: Time,
}

fn few(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Refresh {
    waits: BTreeMap<Job, Wait>,
}

impl Refresh {
    /// Begins to wait for `peers`, who were asked.
    pub(crate) fn begin(&mut self, desk: &mut Desk, job: Job, publisher: PublisherId, peers: BTreeSet<Peer>) {
        let asked = few(peers.len());
        if self.waits.len() >= WAITING {
            let asked = Asked { peers: asked, groups: 0, answered: 0 };
            return desk.out(Output::Tell(Event::Refreshed { job, asked }));
        }
        let told = BTreeSet::new();
        self.waits.insert(job, Wait { publisher, peers, told, asked, until: desk.now + PATIENCE });
    }
    /// This peer has said all it knows of this publisher; `follows` it, or knows nothing.
    pub(crate) fn answered(&mut self, peer: Peer, publisher: PublisherId, follows: bool) {
        for wait in self.waits.values_mut().filter(|w| w.publisher == publisher) {
            if wait.peers.remove(&peer) && follows {
                wait.told.insert(peer);
            }
        }
    }
    pub(crate) fn disconnected(&mut self, peer: Peer) {
        for wait in self.waits.values_mut() {
            wait.peers.remove(&peer);
        }
    }
    /// Tells of those that are over. Called after every input: what ends a wait may be an answer or a durable record.
    pub(crate) fn settle(&mut self, desk: &mut Desk, feeds: &Feeds, restate: &Restate, peers: &Peers) {
        let now = desk.now;
        // Whatever they brought: a root document without an entry as well.
        let durable = |p: PublisherId| feeds.get(p).is_none_or(|f| f.batch.is_none()) && !restate.is_signing(p);
        let over = |w: &Wait| w.until <= now || (w.peers.is_empty() && durable(w.publisher));
        let jobs: Vec<Job> = self.waits.iter().filter(|(_, w)| over(w)).map(|(job, _)| *job).collect();
        for job in jobs {
            if let Some(wait) = self.waits.remove(&job) {
                let (groups, answered) = (few(peers.groups(&wait.told)), few(wait.told.len()));
                let asked = Asked { peers: wait.asked, groups, answered };
                desk.out(Output::Tell(Event::Refreshed { job, asked }));
            }
        }
    }
    pub(crate) fn wake(&self) -> Option<Time> {
        self.waits.values().map(|w| w.until).min()
    }
}
