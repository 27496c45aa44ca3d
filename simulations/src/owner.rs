//! What owners do with what their cores tell them: fetch the newest, provision it, try again.
//! Invariant: an owner acts only on what its core told it, or on what a restarted device finds on its disk, and never
//! while the core is in the middle of its outputs.

use crate::{
    plan::Plan,
    world::{Happening, World},
};
use softservice_protocol::{
    feed::Listing,
    io::{Depth, Event, Generation, Input, Job, ProvisionEvent, ProvisionInput},
};

/// An owner tries a failed fetch again after this.
const RETRY_US: u64 = 5_000_000;
/// The name of every simulated softservice.
const NAME: &str = "whole";

impl World {
    /// An owner acts after its core has finished speaking, never in the middle of it.
    pub(crate) fn ask_owner(&mut self, node: usize) {
        self.plan_in(0, Plan::Owner(node, self.nodes[node].life));
    }

    pub(crate) fn hear(&mut self, node: usize, edition: Option<usize>) {
        let owner = &mut self.nodes[node].owner;
        owner.wanted = owner.wanted.max(edition);
        for heard in owner.heard_at.iter_mut().take(edition.map_or(0, |e| e + 1)) {
            heard.get_or_insert(self.now);
        }
    }

    /// An owner tries a fetch again, unless something else has happened to it meanwhile.
    pub(crate) fn retry(&mut self, node: usize, life: u32, job: Job) {
        let owner = &mut self.nodes[node].owner;
        if owner.job.is_some_and(|(own, _)| own == job) && self.nodes[node].life == life {
            self.nodes[node].owner.job = None;
            self.fetch_wanted(node);
        }
    }

    /// Asks for the newest edition heard of, instead of any older one.
    pub(crate) fn fetch_wanted(&mut self, node: usize) {
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
    pub(crate) fn provision_next(&mut self, node: usize) {
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
            Event::Unsigned { .. } => self.violation(node, "its publication found too few keys".into()),
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
                // Not one of the scenario's plans: an owner whose disk is full tries for ever, and nobody waits for it.
                self.after(RETRY_US, Happening::Retry(node, life, job));
            }
            Event::Liar { peer, why } => self.check_liar(node, peer, &why),
            Event::Frozen { .. } => self.violation(node, "a feed was frozen though its publisher spoke once".into()),
            Event::Provision(event) => self.provision_ended(node, event),
            Event::Unstated { .. } => self.violation(node, "a publisher could not state its freshness".into()),
            Event::Followed { .. }
            | Event::Rooted { .. }
            | Event::Refreshed { .. }
            | Event::Freshness { .. }
            | Event::Progress { .. } => {}
        }
    }

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
