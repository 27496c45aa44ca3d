//! What comes from outside the network: who joins, leaves, loses power, publishes, and when the network falls apart.
//! Invariant: everything is drawn before the world begins, or follows from what a node lived through.

use crate::{
    actors::Nature,
    network::UNNOTICED_US,
    world::{Happening, World},
};
use softservice_protocol::{
    feed::{Action, Head},
    io::{Input, Job, ProvisionInput, Record},
    ticket::Ticket,
};

/// Something that the scenario planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plan {
    /// A node joins.
    Join(usize),
    /// It leaves for good, in order.
    Leave(usize),
    /// Its power goes.
    Crash(usize),
    /// It comes back.
    Restart(usize),
    /// An edition is published.
    Publish(usize),
    /// The network falls apart: the share of nodes on the far side.
    Split(f64),
    /// It is whole again.
    Heal,
    /// An owner looks at what it was told and acts.
    Owner(usize, u32),
}

impl World {
    fn plan(&mut self, seconds: f64, plan: Plan) {
        self.plan_in((seconds * 1e6) as u64 - self.now.min((seconds * 1e6) as u64), plan);
    }
    pub(crate) fn plan_in(&mut self, wait: u64, plan: Plan) {
        self.plans += 1;
        self.after(wait, Happening::Plan(plan));
    }
    /// Draws everything that the scenario says will happen.
    pub fn make_plans(&mut self) {
        let scenario = self.scenario.clone();
        let schedule = &scenario.schedule;
        self.plan(0.0, Plan::Join(0));
        for node in 1..self.nodes.len() {
            let late = self.dice.fate.chance(schedule.late);
            let join = self.dice.fate.within(if late { schedule.late_join } else { schedule.join });
            self.plan(join, Plan::Join(node));
            let leaves = self.dice.fate.chance(schedule.leave) && self.nodes[node].nature == Nature::Follower;
            if leaves {
                let leave = self.dice.fate.within(schedule.leave_at);
                self.plan(leave.max(join), Plan::Leave(node));
            }
        }
        let rate = schedule.crashes_per_hour / 3600.0;
        for node in 0..self.nodes.len() {
            let mut at = 0.0;
            while rate > 0.0 && self.nodes[node].nature.is_honest() {
                at += self.dice.fate.waiting(rate);
                if at > schedule.crashes_until {
                    break;
                }
                self.plan(at, Plan::Crash(node));
            }
        }
        for (edition, at) in scenario.content.publish_at.iter().enumerate() {
            self.plan(*at, Plan::Publish(edition));
        }
        for partition in &scenario.network.partition {
            self.plan(partition.at, Plan::Split(partition.share));
            self.plan(partition.until, Plan::Heal);
        }
    }

    /// Does what was planned.
    pub fn follow_plan(&mut self, plan: Plan) {
        self.plans -= 1;
        match plan {
            Plan::Join(node) => self.join(node),
            Plan::Leave(node) => self.leave(node),
            Plan::Crash(node) => self.crash(node, UNNOTICED_US / 2),
            Plan::Restart(node) => self.restart(node),
            Plan::Publish(edition) => self.publish(edition),
            Plan::Split(share) => {
                self.trace.tell(self.now, 0, || "the network falls apart".into());
                self.split(share);
            }
            Plan::Heal => {
                self.trace.tell(self.now, 0, || "the network is whole again".into());
                self.network.heal();
            }
            Plan::Owner(node, life) => {
                if self.nodes[node].life == life && self.nodes[node].up {
                    self.fetch_wanted(node);
                    self.provision_next(node);
                }
            }
        }
    }

    fn join(&mut self, node: usize) {
        let nature = self.nodes[node].nature;
        self.trace.tell(self.now, node, || format!("joins as {nature:?}"));
        self.nodes[node].joined_at = Some(self.now);
        self.begin_life(node);
        let publisher = self.publisher();
        match nature {
            Nature::Publisher => self.own(),
            Nature::Follower | Nature::Corrupter | Nature::Boaster => self.subscribe(node),
            Nature::Silent => self.enter_providers(node, publisher),
            Nature::Flooder => {
                self.enter_providers(node, publisher);
                self.nodes[node].topics.insert(publisher);
                let victims: Vec<usize> = (1..self.nodes.len()).filter(|n| *n != node).collect();
                for victim in self.dice.actors.sample(&victims, 10) {
                    let address = self.nodes[victim].address.clone();
                    self.dial(node, address);
                }
                self.after(1_000_000, Happening::Flood(node));
            }
        }
    }

    fn own(&mut self) {
        let author = &self.corpus.authors[0];
        let input = Input::Own { publisher: author.publisher, roots: author.roots.clone() };
        self.feed(0, self.nodes[0].life, input);
    }

    fn subscribe(&mut self, node: usize) {
        let author = &self.corpus.authors[0];
        let mut addresses = vec![self.nodes[0].address.clone()];
        // Whoever gave the ticket on knew a few others.
        let known = self.providers.get(&author.publisher).cloned().unwrap_or_default();
        for other in self.dice.lookup.sample(&known, 2) {
            if other != 0 && other != node {
                addresses.push(self.nodes[other].address.clone());
            }
        }
        let ticket = Ticket {
            publisher: author.publisher,
            distro: None,
            root: (author.trusted.root.version, author.trusted.digest),
            floor: Head::START,
            addresses,
            conflict: None,
            expires: None,
        };
        self.feed(node, self.nodes[node].life, Input::Follow { ticket });
    }

    fn publish(&mut self, edition: usize) {
        if !self.nodes[0].up || self.nodes[0].gone || self.published_at[edition].is_some() {
            // A publisher without power publishes when it is back.
            return;
        }
        let chunks: Vec<u32> = self
            .corpus
            .closure(self.corpus.editions[edition].release.id)
            .map(|closure| closure.all().collect())
            .unwrap_or_default();
        if self.store_chunks(0, &chunks).is_none() {
            self.violation(0, "the publisher's own disk is full".into());
        }
        self.nodes[0].disk.sync();
        self.nodes[0].owner.jobs += 1;
        let job = Job(self.nodes[0].owner.jobs);
        let listing = self.corpus.editions[edition].listing.clone();
        let publisher = self.publisher();
        self.trace.tell(self.now, 0, || format!("publishes {} {}", listing.distro, listing.version));
        self.feed(
            0,
            self.nodes[0].life,
            Input::Publish { job, publisher, action: Action::Release(listing), request: false },
        );
    }

    /// Power goes: whatever only memory held is lost; others notice after `unnoticed`.
    pub fn crash(&mut self, node: usize, unnoticed: u64) {
        if !self.nodes[node].up || self.nodes[node].gone {
            return;
        }
        self.trace.tell(self.now, node, || "loses power".into());
        self.tally.crashes += 1;
        self.stop(node, unnoticed);
        let corpus = &self.corpus;
        self.nodes[node].disk.crash(&mut self.dice.disk, |chunk| corpus.length(chunk));
        let away = self.dice.fate.within(self.scenario.schedule.down_s);
        self.plan_in((away * 1e6) as u64, Plan::Restart(node));
    }

    fn leave(&mut self, node: usize) {
        self.trace.tell(self.now, node, || "leaves for good".into());
        self.nodes[node].gone = true;
        if self.nodes[node].up {
            self.stop(node, 0);
        }
    }

    fn stop(&mut self, node: usize, unnoticed: u64) {
        self.nodes[node].up = false;
        self.nodes[node].core = None;
        self.checks.forget(node);
        for id in std::mem::take(&mut self.nodes[node].open) {
            self.transfers.remove(&id);
        }
        let neighbours: Vec<usize> = self.network.neighbours(node).iter().copied().collect();
        for other in neighbours {
            let Some(number) = self.network.link(node, other).map(|l| l.number) else {
                continue;
            };
            self.after(unnoticed, Happening::LinkDown(node, other, number));
        }
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].gone || self.nodes[node].up {
            return;
        }
        self.trace.tell(self.now, node, || "is back".into());
        self.begin_life(node);
        let life = self.nodes[node].life;
        if node == 0 {
            self.own();
            self.publish_what_is_due();
            return;
        }
        let followed = |record: &Record| matches!(record, Record::Followed { .. });
        if !self.nodes[node].disk.records().iter().any(followed) {
            // The power went before the subscription was acknowledged: the owner types it again.
            self.subscribe(node);
        }
        if let Some(step) = self.nodes[node].device.journal.clone() {
            let edition = step.generation.number as usize - 1;
            self.nodes[node].owner.provisioning = Some(edition);
            self.feed(node, life, Input::Provision(ProvisionInput::Interrupted { step }));
        }
        let seen = self.nodes[node].catalogue(&self.corpus, self.publisher());
        if seen > self.nodes[node].owner.wanted {
            self.hear(node, seen);
        }
        self.fetch_wanted(node);
        self.provision_next(node);
    }

    fn publish_what_is_due(&mut self) {
        let times = self.scenario.content.publish_at.clone();
        let done = self.nodes[0].catalogue(&self.corpus, self.publisher());
        for (edition, at) in times.into_iter().enumerate() {
            if done.is_some_and(|done| edition <= done) {
                self.published_at[edition].get_or_insert(self.now);
            } else if at * 1e6 <= self.now as f64 {
                self.publish(edition);
            }
        }
    }
}
