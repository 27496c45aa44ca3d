//! Carries out each output of a core, and gives its answer back as an input. Invariant: every output of `io.rs` has
//! its arm here, and nothing is answered within the call that asked: answers come through the queue.

use crate::{
    device::{Device, Fate},
    disk::Put,
    network::UNNOTICED_US,
    world::{Happening, World},
};
use softservice_protocol::{
    id::ReleaseId,
    io::{Depth, Effect, Input, Job, Output, ProvisionInput, ProvisionStep, Record, Setback, Stage, Token},
    release::ReleaseRef,
    sign::Kind,
};

/// Reading a few documents from a warm disk, in microseconds.
const READ_US: u64 = 500;
/// How long a hanging step hangs.
const HANG_US: u64 = 30_000_000;

impl World {
    /// Carries out one output.
    pub fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Wake(time) => self.wake(node, self.world_time(node, time)),
            Output::Dial { address } => self.dial(node, address),
            Output::Disconnect { peer, ban_until, why } => {
                self.disconnect(node, peer, ban_until.map(|t| self.world_time(node, t)), &why);
            }
            Output::Send { peer, bytes } => self.send(node, peer, bytes),
            Output::Topic { publisher, join } => self.topic(node, publisher, join),
            Output::Gossip { publisher, bytes } => self.gossip(node, publisher, bytes),
            Output::Judge { gossip, verdict, .. } => self.judged(node, gossip, verdict),
            Output::Keep { token, record } => self.keep(node, token, record),
            Output::Sign { token, kind, publisher, feed, payload, keys: _ } => {
                let author = self.corpus.authors.iter().find(|a| a.publisher == publisher);
                let signatures = match author.filter(|_| node == 0) {
                    Some(author) => {
                        self.checks.signed(kind, &payload);
                        vec![author.sign(kind, feed, &payload)]
                    }
                    None => Vec::new(),
                };
                if kind == Kind::Entry {
                    self.check_reserved(node, publisher, &payload);
                }
                self.input_after(READ_US, node, Input::Signed { token, signatures });
            }
            Output::Expand { job, release, depth } => self.expand(node, job, release, depth),
            Output::Request { peer, request, job: _, chunks, base: _, deadline } => {
                let deadline = self.world_time(node, deadline);
                self.ask_span(node, peer, request, &chunks, deadline);
            }
            Output::Cancel { peer, request } => self.cancel_span(node, peer, request),
            Output::Assemble { job, stage } => {
                let wait = self.nodes[node].disk.sync_us;
                self.after(wait, Happening::Assembled(node, self.nodes[node].life, job, stage));
            }
            Output::Survey { peer, release } => self.survey(node, peer, release),
            Output::Perform(step) => self.perform(node, step),
            Output::Tell(event) => self.told(node, event),
        }
    }

    fn wake(&mut self, node: usize, at: u64) {
        if self.nodes[node].wakes.insert(at) {
            self.at(at, Happening::Woke(node, self.nodes[node].life));
        }
    }

    fn keep(&mut self, node: usize, token: Token, record: Record) {
        self.check_record(node, &record);
        let life = self.nodes[node].life;
        match self.nodes[node].disk.keep(self.now, token, record) {
            Some(at) => self.at(at, Happening::Durable(node, life)),
            None => self.input_after(READ_US, node, Input::NotKept { token, why: "no space left on the disk".into() }),
        }
    }

    /// The oldest waiting record of a node is durable.
    pub fn durable(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life || !self.nodes[node].up {
            return;
        }
        let Some((token, record)) = self.nodes[node].disk.kept() else {
            return;
        };
        let record = record.clone();
        self.nodes[node].learn(&record);
        self.feed(node, life, Input::Durable(token));
    }

    fn expand(&mut self, node: usize, job: Job, release: ReleaseRef, depth: Depth) {
        self.nodes[node].asked.insert(job, release);
        let disk = &self.nodes[node].disk;
        let list = self.corpus.expand(release, depth, |n| disk.holds(n), |n| disk.keeps(n));
        self.input_after(READ_US, node, Input::Expanded { job, list: list.map_err(Setback::last) });
    }

    fn survey(&mut self, node: usize, peer: softservice_protocol::id::Peer, release: ReleaseId) {
        let disk = &self.nodes[node].disk;
        let held = self.corpus.survey(release, |n| disk.holds(n), |n| disk.keeps(n));
        self.input_after(READ_US, node, Input::Surveyed { peer, release, held });
    }

    /// All chunks of a stage become whole objects, durably; or the core was wrong to think that they are all here.
    pub fn assembled(&mut self, node: usize, life: u32, job: Job, stage: Stage) {
        if self.nodes[node].life != life || !self.nodes[node].up {
            return;
        }
        let Some(&release) = self.nodes[node].asked.get(&job) else {
            self.violation(node, format!("assembles fetch {} without having expanded it", job.0));
            return;
        };
        let disk = &self.nodes[node].disk;
        let list = self.corpus.expand(release, Depth::Content, |n| disk.holds(n), |n| disk.keeps(n));
        let result = match list {
            Ok(list) if list.stage == stage && !list.have.is_full() => {
                Err(format!("{} chunks are missing", list.have.len() - list.have.count()))
            }
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = &result {
            self.violation(node, format!("stage {stage:?} was to be assembled while {why}"));
        }
        self.nodes[node].disk.sync();
        self.feed(node, life, Input::Assembled { job, result: result.map_err(Setback::last) });
    }

    /// Writes chunks that came; gives how many bytes were new and how many came twice, or none when the disk is full.
    pub fn store_chunks(&mut self, node: usize, chunks: &[u32]) -> Option<(u64, u64)> {
        let (mut new, mut twice) = (0, 0);
        for &chunk in chunks {
            let len = self.corpus.length(chunk);
            match self.nodes[node].disk.put(chunk, len) {
                Put::New => new += u64::from(len),
                Put::Twice => twice += u64::from(len),
                Put::Full => return None,
            }
        }
        Some((new, twice))
    }

    fn perform(&mut self, node: usize, step: ProvisionStep) {
        let settings = &self.scenario.device;
        let (fail, hang, crash) = (settings.fail, settings.hang, settings.crash);
        let mut wait = (self.dice.device.within(settings.step_ms) * 1000.0) as u64;
        // The publisher's device would only take the publisher away, and that has its own scenario.
        let crash = if node == 0 { 0.0 } else { crash };
        let fate = Device::fate(&mut self.dice.device, step.effect, fail, hang, crash);
        if fate == Fate::Hangs {
            wait += HANG_US;
        }
        self.nodes[node].device.journal(&step);
        let life = self.nodes[node].life;
        self.after(wait, Happening::Step(node, life, step, fate));
    }

    /// A step of provisioning ends as it was fated.
    pub fn step_ends(&mut self, node: usize, life: u32, step: ProvisionStep, fate: Fate) {
        if self.nodes[node].life != life || !self.nodes[node].up {
            return;
        }
        match fate {
            Fate::Done => {
                self.nodes[node].device.perform(&step);
                self.feed(node, life, Input::Provision(ProvisionInput::Done { step }));
            }
            Fate::Fails | Fate::Hangs => {
                self.tally.steps_failed += 1;
                // It failed at its beginning or at its end; but a confirmation that failed confirmed nothing.
                if step.effect != Effect::Confirm && self.dice.device.chance(0.5) {
                    self.nodes[node].device.perform(&step);
                }
                let why = format!("{:?} failed, as fated", step.effect);
                self.feed(node, life, Input::Provision(ProvisionInput::Failed { step, why }));
            }
            Fate::Crashes => {
                // The power goes before or after the effect; nobody can tell which.
                if self.dice.device.chance(0.5) {
                    self.nodes[node].device.perform(&step);
                }
                self.crash(node, UNNOTICED_US / 2);
            }
        }
    }
}
