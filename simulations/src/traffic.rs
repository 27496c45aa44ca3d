//! Connections, control messages and gossip between nodes. Invariant: both ends of a connection learn of its end
//! before they learn of a new one with the same peer; gossip passes a node only after its core's Accept.

use crate::{
    actors::{self, Flood, Nature},
    network::{DIAL_TIMEOUT_US, UNNOTICED_US},
    world::{Happening, World},
};
use softservice_protocol::{
    codec,
    id::{Peer, PublisherId},
    io::{Input, Source, Verdict},
    limits,
    message::Message,
};
use std::{collections::BTreeMap, rc::Rc};

/// Framing and encryption of one control message or gossip copy, in bytes.
const FRAME_BYTES: u64 = 40;
/// A question to the distributed hash table takes about so long.
const LOOKUP_US: u64 = 800_000;
/// And is asked again after this, while the node takes part.
const LOOKUP_AGAIN_US: u64 = 60_000_000;
/// A flooder acts this often, per second.
const FLOODS_PER_SECOND: f64 = 10.0;

/// One gossip message.
#[derive(Debug)]
pub struct Rumour {
    /// Whose topic.
    pub publisher: PublisherId,
    /// Its bytes.
    pub bytes: Rc<[u8]>,
    /// An honest node began it.
    pub genuine: bool,
}

/// All gossip of the run; a message's number stands for its content hash.
#[derive(Debug, Default)]
pub struct Grapevine {
    rumours: Vec<Rumour>,
    by_hash: BTreeMap<[u8; 32], u32>,
}

impl Grapevine {
    fn number(&mut self, publisher: PublisherId, bytes: &[u8], genuine: bool) -> u32 {
        let next = self.rumours.len() as u32;
        let number = *self.by_hash.entry(*blake3::hash(bytes).as_bytes()).or_insert(next);
        if number == next {
            self.rumours.push(Rumour { publisher, bytes: bytes.into(), genuine });
        }
        number
    }
    /// A message by number.
    pub fn get(&self, number: u32) -> Option<&Rumour> {
        self.rumours.get(number as usize)
    }
    fn last_genuine(&self) -> Option<Rc<[u8]>> {
        self.rumours.iter().rev().find(|r| r.genuine).map(|r| Rc::clone(&r.bytes))
    }
}

impl World {
    /// Dials an address: a round trip and a half for the handshake, or a time-out.
    pub fn dial(&mut self, from: usize, address: String) {
        let life = self.nodes[from].life;
        let to = self.by_address.get(&address).copied().filter(|to| *to != from);
        let answers = to.is_some_and(|to| self.nodes[to].up && self.network.reachable(from, to));
        let wait = match to {
            Some(to) if answers => self.network.packet(from, to) * 3,
            _ => DIAL_TIMEOUT_US,
        };
        self.tally.dials += 1;
        self.after(wait, Happening::Dialled(from, life, to, address));
    }

    /// A dial ends.
    pub fn dialled(&mut self, from: usize, life: u32, to: Option<usize>, address: String) {
        if self.nodes[from].life != life || !self.nodes[from].up {
            return;
        }
        let Some(to) = to.filter(|to| self.welcomes(from, *to)) else {
            self.feed(from, life, Input::DialFailed { address });
            return;
        };
        if let Some(link) = self.network.link(from, to) {
            if link.lives == self.lives(from, to) {
                // Both dialled: one connection is enough, and the second dial adds nothing.
                return;
            }
            // One end was away and nobody had noticed.
            self.link_down(from, to, None);
        }
        let number = self.network.connect(from, to, self.lives(from, to));
        let breaks = self.scenario.network.breaks_per_hour / 3600.0;
        if breaks > 0.0 {
            let wait = (self.dice.fate.waiting(breaks) * 1e6) as u64;
            self.after(wait, Happening::LinkDown(from, to, number));
        }
        let connected = |world: &Self, other: usize, outbound| Input::Connected {
            peer: world.nodes[other].peer,
            address: world.nodes[other].address.clone(),
            outbound,
        };
        // Through the queue: what one end says at once must not overtake the other's Connected.
        self.input_after(0, from, connected(self, to, true));
        self.input_after(0, to, connected(self, from, false));
    }

    fn lives(&self, a: usize, b: usize) -> [u32; 2] {
        [self.nodes[a.min(b)].life, self.nodes[a.max(b)].life]
    }

    fn welcomes(&self, from: usize, to: usize) -> bool {
        let refuses = |a: usize, b: usize| self.nodes[a].bans.get(&b).is_some_and(|until| *until > self.now);
        self.nodes[to].up
            && self.network.reachable(from, to)
            && self.network.inbound(to) < limits::INBOUND_PEERS
            && !refuses(from, to)
            && !refuses(to, from)
    }

    /// A connection ends, if it is still the one meant; both ends that still live learn of it.
    pub fn link_down(&mut self, a: usize, b: usize, number: Option<u64>) {
        let Some(link) = self.network.link(a, b).filter(|l| number.is_none_or(|n| n == l.number)) else {
            return;
        };
        let lives = link.lives;
        self.network.disconnect(a, b);
        self.break_spans(a, b);
        for (one, other) in [(a, b), (b, a)] {
            let life = lives[usize::from(one > other)];
            let input = Input::Disconnected { peer: self.nodes[other].peer };
            self.after(0, Happening::Input(one, life, Box::new(input)));
        }
    }

    /// A core sends somebody away.
    pub fn disconnect(&mut self, node: usize, peer: Peer, ban_until: Option<u64>, why: &str) {
        let Some(&other) = self.by_peer.get(&peer) else {
            return;
        };
        if let Some(until) = ban_until {
            self.nodes[node].bans.insert(other, until);
            self.check_ban(node, other, why);
        }
        self.link_down(node, other, None);
    }

    /// A core sends a control message.
    pub fn send(&mut self, node: usize, peer: Peer, bytes: Vec<u8>) {
        let Some(&to) = self.by_peer.get(&peer) else {
            return;
        };
        let bytes = match self.nodes[node].nature {
            Nature::Boaster => actors::boast(bytes, |r| self.corpus.closure(r).map(|c| c.content.len())),
            _ => {
                self.check_message(node, &bytes);
                bytes
            }
        };
        self.send_bytes(node, to, bytes);
    }

    fn send_bytes(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let Some(number) = self.network.link(from, to).map(|l| l.number) else {
            return;
        };
        self.tally.messages += 1;
        if self.nodes[from].nature != Nature::Flooder {
            self.tally.control_bytes += bytes.len() as u64 + FRAME_BYTES;
        }
        let at = self.network.arrival(self.now, from, to, bytes.len());
        self.at(at, Happening::Message(from, to, number, bytes));
    }

    /// A control message arrives, unless its connection is gone or the path is cut.
    pub fn message_arrives(&mut self, from: usize, to: usize, number: u64, bytes: Vec<u8>) {
        let Some(link) = self.network.link(from, to).filter(|l| l.number == number) else {
            return;
        };
        if !self.network.reachable(from, to) || link.lives != self.lives(from, to) || !self.nodes[to].up {
            return;
        }
        if self.nodes[from].nature == Nature::Flooder && codec::decode::<Message>(&bytes).is_err() {
            self.checks.offended(to, from);
        }
        let life = self.nodes[to].life;
        self.feed(to, life, Input::Received { peer: self.nodes[from].peer, bytes });
    }

    /// A node takes part in a publisher's gossip, or leaves it; taking part makes it findable.
    pub fn topic(&mut self, node: usize, publisher: PublisherId, join: bool) {
        if !join {
            self.nodes[node].topics.remove(&publisher);
            return;
        }
        self.nodes[node].topics.insert(publisher);
        self.enter_providers(node, publisher);
        self.after(LOOKUP_US, Happening::Lookup(node, self.nodes[node].life, publisher));
    }

    /// A node becomes findable.
    pub fn enter_providers(&mut self, node: usize, publisher: PublisherId) {
        let providers = self.providers.entry(publisher).or_default();
        if !providers.contains(&node) {
            providers.push(node);
        }
    }

    /// The distributed hash table answers with some of those it knows, alive or not.
    pub fn lookup(&mut self, node: usize, life: u32, publisher: PublisherId) {
        if self.nodes[node].life != life || !self.nodes[node].topics.contains(&publisher) {
            return;
        }
        let known = self.providers.get(&publisher).map_or(&[][..], |p| p);
        let found = self.dice.lookup.sample(known, self.scenario.network.found);
        for other in found.into_iter().filter(|other| *other != node) {
            let address = self.nodes[other].address.clone();
            self.input_after(0, node, Input::Found { address, source: Source::Dht });
        }
        self.after(LOOKUP_AGAIN_US, Happening::Lookup(node, life, publisher));
    }

    /// A core begins a piece of gossip.
    pub fn gossip(&mut self, node: usize, publisher: PublisherId, bytes: Vec<u8>) {
        self.check_gossip(node, &bytes);
        let number = self.grapevine.number(publisher, &bytes, self.nodes[node].nature.is_honest());
        self.nodes[node].seen.insert(number);
        // The first to speak tells all neighbours, as gossipsub does with its own messages.
        self.pass_on(node, number, None, usize::MAX);
    }

    fn pass_on(&mut self, node: usize, number: u32, except: Option<usize>, degree: usize) {
        let Some(rumour) = self.grapevine.get(number) else {
            return;
        };
        let (publisher, len) = (rumour.publisher, rumour.bytes.len() as u64);
        let neighbours = self.network.neighbours(node).iter().copied();
        let listeners: Vec<usize> =
            neighbours.filter(|to| Some(*to) != except && self.nodes[*to].topics.contains(&publisher)).collect();
        let flooder = self.nodes[node].nature == Nature::Flooder;
        for to in self.dice.gossip.sample(&listeners, degree) {
            self.tally.gossip_copies += 1;
            if !flooder {
                self.tally.gossip_bytes += len + FRAME_BYTES;
            }
            let lost = self.dice.gossip.chance(self.scenario.network.gossip_loss);
            let twice = self.dice.gossip.chance(self.scenario.network.gossip_duplicate);
            if !lost {
                let wait = self.network.packet(node, to);
                self.after(wait, Happening::Gossip(node, to, number, false));
            }
            if twice {
                let wait = self.network.packet(node, to) * 3;
                self.after(wait, Happening::Gossip(node, to, number, true));
            }
        }
    }

    /// A copy of gossip arrives.
    pub fn gossip_arrives(&mut self, from: usize, to: usize, number: u32, past_filter: bool) {
        if self.network.link(from, to).is_none() || !self.network.reachable(from, to) || !self.nodes[to].up {
            return;
        }
        let is_new = self.nodes[to].seen.insert(number);
        if !is_new && !past_filter {
            self.tally.gossip_duplicates += 1;
            return;
        }
        let Some(bytes) = self.grapevine.get(number).map(|r| r.bytes.to_vec()) else {
            return;
        };
        let peer = self.nodes[from].peer;
        let node = &mut self.nodes[to];
        node.gossips += 1;
        node.judging.insert(node.gossips, (from, number));
        let (gossip, life) = (node.gossips, node.life);
        self.feed(to, life, Input::Gossiped { peer, gossip, bytes });
    }

    /// A core judged a piece of gossip.
    pub fn judged(&mut self, node: usize, gossip: u64, verdict: Verdict) {
        let Some((from, number)) = self.nodes[node].judging.remove(&gossip) else {
            self.violation(node, format!("gossip {gossip} was judged twice, or never came"));
            return;
        };
        self.check_verdict(node, from, number, verdict);
        if verdict == Verdict::Accept {
            self.pass_on(node, number, Some(from), self.scenario.network.gossip_degree);
        }
    }

    /// A flooder acts, and plans its next act.
    pub fn flood(&mut self, node: usize) {
        let wait = (self.dice.actors.waiting(FLOODS_PER_SECOND) * 1e6) as u64;
        self.after(wait, Happening::Flood(node));
        let neighbours: Vec<usize> = self.network.neighbours(node).iter().copied().collect();
        let Some(&victim) = self.dice.actors.sample(&neighbours, 1).first() else {
            // Banned by everybody it knew: it looks for new victims, now and then.
            let target = self.dice.actors.between(1, self.nodes.len() as u64 - 1) as usize;
            if self.dice.actors.chance(0.1) && target != node {
                let address = self.nodes[target].address.clone();
                self.dial(node, address);
            }
            return;
        };
        self.tally.floods += 1;
        let publisher = self.publisher();
        let release = self.corpus.editions[0].release.id;
        let genuine = self.grapevine.last_genuine();
        match actors::flood(&mut self.dice.actors, publisher, release, genuine.as_deref()) {
            Flood::Garbage(bytes) => self.send_bytes(node, victim, bytes),
            Flood::Questions(many) => many.into_iter().for_each(|bytes| self.send_bytes(node, victim, bytes)),
            Flood::Gossip(bytes) => {
                let number = self.grapevine.number(publisher, &bytes, false);
                let wait = self.network.packet(node, victim);
                self.after(wait, Happening::Gossip(node, victim, number, false));
            }
        }
    }

    /// The network falls apart; paths that were cut are noticed some seconds later.
    pub fn split(&mut self, share: f64) {
        for (a, b, number) in self.network.split(share) {
            self.after(UNNOTICED_US, Happening::LinkDown(a, b, number));
        }
    }
}
