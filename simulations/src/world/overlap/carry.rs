//! What cores say, carried out: messages, content, the disk. Invariant: nothing is answered within the call that asked;
//! every request for a span is answered once.

use super::{EPOCH_MS, Happening, Overlap, Task};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    id::{ChunkId, Peer, PublisherId, ReleaseId},
    io::{Event, Input, Output, Request},
    time::Time,
};
use softservice_store::closure;

/// A part of the spans that break off take their connection along.
const HANGS_UP: f64 = 0.3;

impl Overlap {
    /// Hands one input to a core and carries out what it says.
    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = Time(EPOCH_MS + self.now);
        let outputs = self.nodes[node].core.handle(now, input);
        for output in outputs {
            if node == 0 {
                self.carry_device(output);
            } else {
                self.carry_seeder(node, output);
            }
        }
    }

    fn soon(&mut self, node: usize, input: Input) {
        let wait = 1 + self.dice.below(10);
        self.after(wait, Happening::Input(node, Box::new(input)));
    }

    fn carry_device(&mut self, output: Output) {
        match output {
            Output::Expand { job, release, depth } => {
                self.asked.insert(job, release);
                self.task(Task::Expand { job, release, depth });
            }
            Output::Assemble { job, stage } => match self.asked.get(&job) {
                Some(&release) => self.task(Task::Assemble { job, release, stage }),
                None => self.wrong(format!("fetch {} is to be assembled and was never expanded", job.0)),
            },
            Output::Request { peer, request, chunks, .. } => {
                let seeder = self.nodes.iter().position(|n| n.peer == peer).unwrap_or(0);
                let link = self.nodes[seeder].link.unwrap_or(0);
                let wait = self.dice.between(5, 250);
                self.after(wait, Happening::Serve { seeder, link, request, chunks });
            }
            Output::Cancel { request, .. } => drop(self.cancelled.insert(request)),
            Output::Tell(event) => self.told(event),
            other => self.carry(0, other),
        }
    }

    /// Seeders hold their content in memory and fetch nothing but what they look at ahead, which is there.
    fn carry_seeder(&mut self, node: usize, output: Output) {
        match output {
            Output::Expand { job, release, depth } => {
                let list = closure::expand(&self.shelf.library, release, depth, super::shop::PLATFORM);
                self.soon(node, Input::Expanded { job, list: list.map_err(|e| e.setback()) });
            }
            Output::Assemble { job, .. } => self.soon(node, Input::Assembled { job, result: Ok(()) }),
            Output::Tell(Event::Refused { why, .. }) => self.wrong(format!("a publication was refused: {why}")),
            other => self.carry(node, other),
        }
    }

    fn carry(&mut self, node: usize, output: Output) {
        match output {
            Output::Wake(at) => {
                let wait = at.0.saturating_sub(EPOCH_MS + self.now);
                self.after(wait, Happening::Input(node, Box::new(Input::Woke)));
            }
            Output::Send { peer, bytes } => {
                let from = self.nodes[node].peer;
                if let Some(to) = self.neighbour(node, peer) {
                    self.soon(to, Input::Received { peer: from, bytes });
                }
            }
            Output::Topic { publisher, join } => {
                let topics = &mut self.nodes[node].topics;
                if join {
                    topics.insert(publisher)
                } else {
                    topics.remove(&publisher)
                };
            }
            Output::Gossip { publisher, bytes } => self.gossip(node, publisher, &bytes),
            Output::Keep { token, .. } => self.soon(node, Input::Durable(token)),
            Output::Sign { token, kind, feed, payload, .. } => {
                let signatures = vec![self.shelf.author.sign(kind, feed, &payload)];
                self.soon(node, Input::Signed { token, signatures });
            }
            Output::Survey { peer, release } => {
                let held = self.survey(node, release);
                self.soon(node, Input::Surveyed { peer, release, held });
            }
            Output::Disconnect { peer, why, .. } => {
                self.wrong(format!("node {node} sends {} away: {why}", peer.short()))
            }
            // Everybody who is here is connected, passes no gossip on and provisions nothing.
            _ => {}
        }
    }

    /// Everybody is connected with the device only.
    fn neighbour(&self, node: usize, peer: Peer) -> Option<usize> {
        let other = self.nodes.iter().position(|n| n.peer == peer)?;
        self.nodes[node.max(other)].link.map(|_| other)
    }

    fn gossip(&mut self, node: usize, publisher: PublisherId, bytes: &[u8]) {
        let peer = self.nodes[node].peer;
        let others: Vec<usize> = if node == 0 { (1..self.nodes.len()).collect() } else { vec![0] };
        for other in others {
            let linked = self.nodes[node.max(other)].link.is_some();
            if linked && self.nodes[other].topics.contains(&publisher) {
                self.serial += 1;
                let gossip = self.serial;
                self.soon(other, Input::Gossiped { peer, gossip, bytes: bytes.to_vec() });
            }
        }
    }

    /// The first two seeders have everything, the others half of it.
    fn has(&self, seeder: usize, chunk: ChunkId) -> bool {
        seeder <= 2 || chunk.0[0] % 2 == (seeder % 2) as u8
    }

    fn survey(&self, node: usize, release: ReleaseId) -> Option<Bitmap> {
        if node == 0 {
            return closure::held(&*self.shop, release).ok().flatten();
        }
        let order = closure::content_order(&self.shelf.library, release).ok().flatten()?;
        let mut held = Bitmap::empty(order.len());
        order.iter().enumerate().for_each(|(i, c)| held.set(i, self.has(node, c.id)));
        Some(held)
    }

    /// A seeder answers: all that it has, or the beginning of it.
    pub(super) fn serve(&mut self, seeder: usize, link: u64, request: Request, chunks: &[ChunkRef]) {
        let node = &self.nodes[seeder];
        let (peer, linked) = (node.peer, node.link == Some(link));
        let breaks = self.dice.chance(self.rules.breaks);
        let most = if breaks { self.dice.below(chunks.len() as u64) as usize } else { chunks.len() };
        let mut came = Vec::new();
        if linked && !self.cancelled.contains(&request) {
            for (at, chunk) in chunks.iter().enumerate().filter(|(_, c)| self.has(seeder, c.id)).take(most) {
                // What was never published is not there, and who asked for it waits in vain.
                let bytes = self.shelf.chunks.get(&chunk.id).cloned().unwrap_or_default();
                came.extend(Verified::check(*chunk, bytes).ok().map(|verified| (at, verified)));
            }
        }
        self.task(Task::Put { peer, request, asked: chunks.len(), came, whole: linked && !breaks });
        if linked && breaks && self.dice.chance(HANGS_UP) {
            self.nodes[seeder].link = None;
            let device = self.nodes[0].peer;
            self.input(0, Input::Disconnected { peer });
            self.input(seeder, Input::Disconnected { peer: device });
            let wait = self.dice.between(100, 3000);
            self.after(wait, Happening::Connect(seeder));
        }
    }

    pub(super) fn connect(&mut self, seeder: usize) {
        self.serial += 1;
        self.nodes[seeder].link = Some(self.serial);
        for (one, other, outbound) in [(0, seeder, true), (seeder, 0, false)] {
            let peer = self.nodes[other].peer;
            let address = format!("/ip4/10.0.0.{}/tcp/1/p2p/{peer}", other + 1);
            self.input(one, Input::Connected { peer, address, outbound });
        }
    }
}
