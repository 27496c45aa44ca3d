//! What a core says, carried out: messages, gossip, the disk, signatures. Invariant: nothing is answered at once; every answer
//! goes through the agenda, as it would through a queue.

use super::{Happening, Manner, Order, World, bitmap};
use softservice_protocol::{
    bitmap::Bitmap,
    codec,
    id::{Peer, PublisherId},
    io::{Alike, Delivery, Depth, Input, Job, Output, Setback, Spent, Stage, Verdict, WantList},
    release::ReleaseRef,
    sign::{Signature, sign},
    time::{Span, Time},
};

impl World {
    pub(super) fn carry(&mut self, name: &'static str, output: Output) {
        let now = self.now;
        let me = self.peer(name);
        let soon = Time(now.0 + 5);
        match output {
            Output::Wake(at) => {
                let at = at + self.node(name).behind;
                self.node(name).wakes.insert(at);
            }
            Output::Dial { address } => self.node(name).dials.push(address),
            Output::Disconnect { peer, ban_until, .. } => {
                if let (Some(until), node) = (ban_until, self.node(name)) {
                    node.bans.insert(peer, until);
                }
                if let Some(other) = self.name_of(peer) {
                    self.node(name).links.remove(other);
                    self.node(other).links.remove(name);
                    self.plan(soon, name, Happening::Input(Input::Disconnected { peer }));
                    self.plan(soon, other, Happening::Input(Input::Disconnected { peer: me }));
                }
            }
            Output::Send { peer, bytes } => {
                self.node(name).sends.push((peer, codec::decode(&bytes).unwrap()));
                self.mail(name, peer, bytes);
            }
            Output::Topic { publisher, join } => {
                let topics = &mut self.node(name).topics;
                if join {
                    topics.insert(publisher)
                } else {
                    topics.remove(&publisher)
                };
            }
            Output::Gossip { publisher, bytes } => {
                self.node(name).gossiped.push(bytes.clone());
                self.node(name).seen.insert(bytes.clone());
                self.spread(name, publisher, &bytes);
            }
            Output::Judge { gossip, verdict, .. } => {
                self.node(name).judged.push((gossip, verdict));
                let heard = self.node(name).hearing.remove(&gossip);
                if let Some((publisher, bytes)) = heard.filter(|_| verdict == Verdict::Accept) {
                    self.spread(name, publisher, &bytes);
                }
            }
            Output::Keep { token, record } => {
                let node = self.node(name);
                if node.slow_disk {
                    node.waiting.push((token, record));
                } else {
                    node.kept.push(record);
                    self.plan(Time(now.0 + 1), name, Happening::Input(Input::Durable(token)));
                }
            }
            Output::Sign { token, kind, publisher, feed, payload, keys } => {
                let node = self.node(name);
                node.asked_to_sign += 1;
                let own = node.publisher.as_ref().filter(|p| p.id == publisher && node.signs);
                let signatures: Vec<Signature> = own
                    .iter()
                    .flat_map(|p| p.held(&keys))
                    .map(|key| sign(key, kind, publisher, feed, &payload))
                    .collect();
                self.plan(Time(now.0 + 1), name, Happening::Input(Input::Signed { token, signatures }));
            }
            Output::Expand { job, release, depth } => {
                let list = self.expand(name, release, depth);
                self.plan(Time(now.0 + 2), name, Happening::Input(Input::Expanded { job, list: Ok(list) }));
            }
            Output::Assemble { job, stage } => {
                let result = self.assemble(name, job, stage);
                self.plan(Time(now.0 + 2), name, Happening::Input(Input::Assembled { job, result }));
            }
            Output::Survey { peer, release } => {
                let node = &self.nodes[name];
                let held = self.library.get(&release).and_then(|c| {
                    let knows = c.releases.iter().chain(&c.manifests).all(|c| node.chunks.contains(&c.id));
                    let boasts = node.manner == Manner::Boasts;
                    (knows || boasts).then(|| bitmap(c.content.iter().map(|c| boasts || node.chunks.contains(&c.id))))
                });
                self.node(name).surveys += 1;
                self.plan(Time(now.0 + 2), name, Happening::Input(Input::Surveyed { peer, release, held }));
            }
            Output::Request { peer, request, chunks, deadline, .. } => {
                let bytes: u64 = chunks.iter().map(|c| u64::from(c.len)).sum();
                assert!(chunks.len() <= 512 && bytes <= 1 << 20, "a request keeps the limits");
                let life = self.nodes[name].life;
                let Some(other) = self.name_of(peer) else {
                    // Of a crowd that has no names: it takes requests and answers none.
                    let outcome = Delivery::Broke { held: Bitmap::empty(chunks.len()) };
                    let input = Input::Delivered { peer, request, outcome, spent: Spent::default() };
                    return self.plan(deadline, name, Happening::Input(input));
                };
                let order = Order { asker: name, life, request, chunks };
                self.plan(soon, other, Happening::Serve { order, deadline });
            }
            Output::Cancel { request, .. } => drop(self.node(name).cancelled.insert(request)),
            Output::Perform(step) => self.node(name).steps.push(step),
            Output::Tell(event) => self.node(name).events.push(event),
        }
    }

    fn expand(&self, name: &str, release: ReleaseRef, depth: Depth) -> WantList {
        let node = &self.nodes[name];
        let closure = &self.library[&release.id];
        let last = if depth == Depth::Manifests { Stage::Manifests } else { Stage::Content };
        let stages = [Stage::Releases, Stage::Manifests, Stage::Content];
        let lacks = |s: &Stage| closure.stage(*s).iter().any(|c| !node.chunks.contains(&c.id));
        let stage = stages.into_iter().filter(|s| *s <= last).find(lacks).unwrap_or(last);
        let chunks = closure.stage(stage).to_vec();
        let have = bitmap(chunks.iter().map(|c| node.chunks.contains(&c.id)));
        WantList { stage, chunks, have, alike: Alike::default() }
    }

    /// Whole objects need every chunk of their stage, whatever the core was told of them before.
    fn assemble(&mut self, name: &str, job: Job, stage: Stage) -> Result<(), Setback> {
        let release = self.nodes[name].core.transfers().iter().find(|t| t.job == job).map(|t| t.release);
        let Some(closure) = release.and_then(|r| self.library.get(&r)) else { return Ok(()) };
        let chunks = closure.stage(stage).to_vec();
        let node = self.node(name);
        if stage == Stage::Content && node.forgets > 0 {
            node.forgets -= 1;
            node.chunks.remove(&chunks[0].id);
        }
        let lacking = chunks.iter().filter(|c| !node.chunks.contains(&c.id)).count();
        let setback = |why| Setback { why, again: true };
        if lacking == 0 { Ok(()) } else { Err(setback(format!("{lacking} chunks are missing"))) }
    }

    fn mail(&mut self, name: &'static str, to: Peer, bytes: Vec<u8>) {
        let Some(other) = self.name_of(to).filter(|o| self.nodes[name].links.contains(o)) else { return };
        let copies = if self.doubles > 0 && self.random(self.doubles) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            if self.losses > 0 && self.random(self.losses) == 0 {
                continue;
            }
            let late = self.random(self.disorder + 1);
            let input = Input::Received { peer: self.peer(name), bytes: bytes.clone() };
            self.plan(Time(self.now.0 + 5 + late), other, Happening::Input(input));
        }
    }

    /// Passes gossip on to neighbours of the same topic.
    pub(super) fn spread(&mut self, name: &'static str, publisher: PublisherId, bytes: &[u8]) {
        let from = self.peer(name);
        for other in self.node(name).links.clone() {
            if self.nodes[other].topics.contains(&publisher) && self.node(other).seen.insert(bytes.to_vec()) {
                let at = Time(self.now.0 + 5 + self.random(self.disorder + 1));
                self.plan(at, other, Happening::Gossip { from, bytes: bytes.to_vec(), publisher });
            }
        }
    }

    /// A gossip message arrives; whoever takes it for good passes it on.
    pub(super) fn hear(&mut self, from: Peer, name: &'static str, publisher: PublisherId, bytes: Vec<u8>) {
        let node = self.node(name);
        node.next += 1;
        let gossip = node.next;
        node.hearing.insert(gossip, (publisher, bytes.clone()));
        self.input(name, Input::Gossiped { peer: from, gossip, bytes });
    }

    /// A forged or replayed gossip message reaches somebody. Gives the verdict, which may wait for the disk.
    pub(crate) fn whisper(&mut self, from: &'static str, to: &'static str, bytes: Vec<u8>) -> Verdict {
        let verdict = |w: &Self, gossip| w.nodes[to].judged.iter().rev().find(|(g, _)| *g == gossip).map(|(_, v)| *v);
        let gossip = self.mutter(from, to, bytes);
        if verdict(self, gossip).is_none() {
            self.within(Span::millis(1), |w| verdict(w, gossip).is_some());
        }
        verdict(self, gossip).expect("every gossip message is judged")
    }
    /// The same, of which nobody waits for the verdict. Gives its number.
    pub(crate) fn mutter(&mut self, from: &'static str, to: &'static str, bytes: Vec<u8>) -> u64 {
        let peer = self.peer(from);
        let node = self.node(to);
        node.next += 1;
        let gossip = node.next;
        self.input(to, Input::Gossiped { peer, gossip, bytes });
        gossip
    }
}
