//! What comes from outside the network: who joins, leaves, loses power, publishes, and what owners do with what they
//! are told. Invariant: an owner acts only on what its core told it, or on what a restarted device finds on its disk.

use crate::{
    actors::Nature,
    network::UNNOTICED_US,
    world::{Happening, World},
};
use softservice_protocol::{
    feed::{Head, Listing},
    io::{Depth, Event, Generation, Input, Job, ProvisionEvent, ProvisionInput, Record},
    ticket::Ticket,
};

/// An owner tries a failed fetch again after this.
const RETRY_US: u64 = 5_000_000;
/// The name of every simulated softservice.
const NAME: &str = "whole";

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
    /// An owner tries a fetch again.
    Retry(usize, u32, Job),
    /// An owner looks at what it was told and acts.
    Owner(usize, u32),
}

impl World {
    fn plan(&mut self, seconds: f64, plan: Plan) {
        self.plan_in((seconds * 1e6) as u64 - self.now.min((seconds * 1e6) as u64), plan);
    }
    fn plan_in(&mut self, wait: u64, plan: Plan) {
        self.plans += 1;
        self.after(wait, Happening::Plan(plan));
    }
    /// An owner acts after its core has finished speaking, never in the middle of it.
    fn ask_owner(&mut self, node: usize) {
        self.plan_in(0, Plan::Owner(node, self.nodes[node].life));
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
            Plan::Retry(node, life, job) => {
                let owner = &self.nodes[node].owner;
                if self.nodes[node].life == life && owner.job.is_some_and(|(own, _)| own == job) {
                    self.nodes[node].owner.job = None;
                    self.fetch_wanted(node);
                }
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
        self.feed(0, self.nodes[0].life, Input::Publish { job, publisher, listing });
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

    fn hear(&mut self, node: usize, edition: Option<usize>) {
        let owner = &mut self.nodes[node].owner;
        owner.wanted = owner.wanted.max(edition);
        for heard in owner.heard_at.iter_mut().take(edition.map_or(0, |e| e + 1)) {
            heard.get_or_insert(self.now);
        }
    }

    /// Asks for the newest edition heard of, instead of any older one.
    fn fetch_wanted(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let owner = &mut self.nodes[node].owner;
        // The publisher made it: it fetches nothing.
        let Some(edition) = owner.wanted.filter(|e| node != 0 && owner.whole_at[*e].is_none()) else {
            return;
        };
        match owner.job {
            Some((_, going)) if going == edition => return,
            Some((job, _)) => self.feed(node, life, Input::Abandon { job }),
            None => {}
        }
        let owner = &mut self.nodes[node].owner;
        owner.jobs += 1;
        let job = Job(owner.jobs);
        owner.job = Some((job, edition));
        let release = self.corpus.editions[edition].release;
        self.feed(node, life, Input::Fetch { job, release, depth: Depth::Content });
    }

    /// Begins the newest whole edition, when no generation's life goes on.
    fn provision_next(&mut self, node: usize) {
        let it = &self.nodes[node];
        let newest = it.owner.whole_at.iter().rposition(Option::is_some);
        let due = newest.filter(|e| !it.owner.provisioned.contains(e) && it.owner.provisioning.is_none());
        let Some(edition) = due else { return };
        let generation = Generation { name: NAME.into(), number: edition as u32 + 1 };
        let previous = it.device.current;
        let life = it.life;
        self.nodes[node].owner.provisioning = Some(edition);
        self.feed(node, life, Input::Provision(ProvisionInput::Begin { generation, previous }));
    }

    /// A core tells its owner something.
    pub fn told(&mut self, node: usize, event: Event) {
        if !matches!(event, Event::Progress { .. }) {
            self.trace.tell(self.now, node, || story(&event));
        }
        match event {
            Event::Head { added, publisher, head } => {
                self.check_head(node, publisher, head);
                let newest = added.iter().filter_map(|l: &Listing| self.corpus.edition(l.release)).max();
                self.hear(node, newest);
                self.ask_owner(node);
            }
            Event::Published { job: _, head } => {
                let edition = head.at.seq as usize - 1;
                if let Some(at) = self.published_at.get_mut(edition) {
                    at.get_or_insert(self.now);
                }
                self.check_head(node, self.publisher(), head);
            }
            Event::Refused { why, .. } => self.violation(node, format!("its publication was refused: {why}")),
            Event::Fetched { job, figures } => {
                let Some((_, edition)) = self.nodes[node].owner.job.filter(|(own, _)| *own == job) else {
                    return;
                };
                self.nodes[node].owner.job = None;
                self.nodes[node].owner.whole_at[edition].get_or_insert(self.now);
                self.check_fetched(node, edition, &figures);
                self.ask_owner(node);
                self.publisher_may_go();
            }
            Event::FetchFailed { job, why, .. } => {
                if self.nodes[node].owner.job.is_none_or(|(own, _)| own != job) {
                    return;
                }
                self.trace.tell(self.now, node, || format!("will try again: {why}"));
                self.nodes[node].owner.retries += 1;
                let life = self.nodes[node].life;
                self.plan_in(RETRY_US, Plan::Retry(node, life, job));
            }
            Event::Liar { peer, why } => self.check_liar(node, peer, &why),
            Event::Frozen { .. } => self.violation(node, "a feed was frozen though its publisher spoke once".into()),
            Event::Provision(event) => self.provision_ended(node, event),
            Event::Followed { .. } | Event::Freshness { .. } | Event::Progress { .. } => {}
        }
    }
}

impl World {
    fn provision_ended(&mut self, node: usize, event: ProvisionEvent) {
        let generation = match &event {
            ProvisionEvent::Committed { generation } => {
                self.tally.committed += 1;
                generation
            }
            ProvisionEvent::Reverted { generation, .. } => {
                self.tally.reverted += 1;
                generation
            }
            ProvisionEvent::Stuck { generation, why } => {
                // The way back of a simulated device never fails.
                self.violation(node, format!("generation {} is stuck: {why}", generation.number));
                generation
            }
        };
        let edition = (generation.number as usize).saturating_sub(1);
        self.nodes[node].device.over();
        self.nodes[node].owner.provisioned.insert(edition);
        self.nodes[node].owner.provisioning = None;
        if let Some(mixed) = self.nodes[node].device.mixed() {
            self.violation(node, format!("its device is neither old nor new: {mixed}"));
        }
        self.ask_owner(node);
    }

    fn publisher_may_go(&mut self) {
        let Some(copies) = self.scenario.schedule.publisher_leaves_after else {
            return;
        };
        let whole = self.nodes.iter().skip(1).filter(|n| n.owner.whole_at.first().is_some_and(Option::is_some));
        if !self.nodes[0].gone && whole.count() >= copies {
            self.tally.publisher_left_at = Some(self.now);
            self.plan_in(0, Plan::Leave(0));
        }
    }
}

/// One line for people.
fn story(event: &Event) -> String {
    match event {
        Event::Head { head, added, .. } => {
            format!("knows entry {} ({} new)", head.at.seq, added.len())
        }
        Event::Fetched { figures, .. } => {
            format!("has it whole after {:.1} s from {} peers", figures.millis as f64 / 1e3, figures.by_peer.len())
        }
        Event::FetchFailed { why, .. } => format!("fetch failed: {why}"),
        Event::Liar { peer, why } => format!("sends {} away: {why}", peer.short()),
        other => format!("{other:?}"),
    }
}
