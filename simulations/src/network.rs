//! Links between nodes: who is connected, how long things take, what is lost, and which halves cannot see each other.
//! Invariant: on one connection control messages arrive in the order sent or not at all; a connection that lost
//! anything is closed, as a real transport would.

use crate::{dice::Dice, scenario::NetworkSettings};
use std::collections::{BTreeMap, BTreeSet};

/// So long does a broken path go unnoticed, in microseconds: QUIC's idle time-out is of that order.
pub const UNNOTICED_US: u64 = 5_000_000;
/// A dial that nobody answers gives up after this.
pub const DIAL_TIMEOUT_US: u64 = 5_000_000;

/// One connection.
#[derive(Debug, Clone)]
pub struct Link {
    /// Tells this connection from earlier ones of the same pair.
    pub number: u64,
    /// Who dialled.
    pub opener: usize,
    /// In which life of each end (lower node first) it was made.
    pub lives: [u32; 2],
    /// When the last control message of each direction arrives, lower to higher first.
    ready: [u64; 2],
}

/// All links, and what is true of every path.
#[derive(Debug)]
pub struct Network {
    links: BTreeMap<(usize, usize), Link>,
    neighbours: Vec<BTreeSet<usize>>,
    inbound: Vec<usize>,
    /// Upload rate of each node in bytes a second.
    pub up: Vec<f64>,
    /// Download rate of each node in bytes a second.
    pub down: Vec<f64>,
    /// When each node's download link is free again.
    pub down_free: Vec<u64>,
    side: Vec<bool>,
    split: bool,
    delay_us: [u64; 2],
    jitter_us: u64,
    salt: u64,
    made: u64,
    dice: Dice,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    /// Nobody is connected yet.
    pub fn new(settings: &NetworkSettings, nodes: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed, "network");
        let mut rates = |range: [f64; 2]| -> Vec<f64> { (0..nodes).map(|_| dice.within(range) * 1e6 / 8.0).collect() };
        let (mut up, down) = (rates(settings.up_mbit), rates(settings.down_mbit));
        if let (Some(rate), Some(publisher)) = (settings.publisher_up_mbit, up.first_mut()) {
            *publisher = rate * 1e6 / 8.0;
        }
        Self {
            links: BTreeMap::new(),
            neighbours: vec![BTreeSet::new(); nodes],
            inbound: vec![0; nodes],
            up,
            down,
            down_free: vec![0; nodes],
            side: vec![false; nodes],
            split: false,
            delay_us: settings.delay_ms.map(|ms| (ms * 1000.0) as u64),
            jitter_us: (settings.jitter_ms * 1000.0) as u64,
            salt: dice.number(),
            made: 0,
            dice,
        }
    }

    /// One-way delay between two nodes, the same at any time: drawn from their numbers, since a table of all pairs of
    /// 10 000 nodes would be larger than all else.
    pub fn delay(&self, a: usize, b: usize) -> u64 {
        let (low, high) = pair(a, b);
        let mut x = self.salt ^ ((low as u64) << 32 | high as u64);
        // The mixing steps of SplitMix64.
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.delay_us[0] + (x ^ (x >> 31)) % (self.delay_us[1].saturating_sub(self.delay_us[0]) + 1)
    }
    /// Delay of one packet, jitter included.
    pub fn packet(&mut self, a: usize, b: usize) -> u64 {
        self.delay(a, b) + self.dice.below(self.jitter_us + 1)
    }
    /// Whether packets get from one to the other.
    pub fn reachable(&self, a: usize, b: usize) -> bool {
        !self.split || self.side[a] == self.side[b]
    }
    /// The network falls apart: each node but the publisher goes to the other side with this probability. Gives the
    /// connections that cross the split.
    pub fn split(&mut self, share: f64) -> Vec<(usize, usize, u64)> {
        self.split = true;
        for node in 1..self.side.len() {
            self.side[node] = self.dice.chance(share);
        }
        let crossing = self.links.iter().filter(|((a, b), _)| self.side[*a] != self.side[*b]);
        crossing.map(|((a, b), link)| (*a, *b, link.number)).collect()
    }
    /// The network is whole again.
    pub fn heal(&mut self) {
        self.split = false;
    }
    /// Whether it is split.
    pub fn is_split(&self) -> bool {
        self.split
    }

    /// The connection of two nodes.
    pub fn link(&self, a: usize, b: usize) -> Option<&Link> {
        self.links.get(&pair(a, b))
    }
    /// Makes a connection; gives its number.
    pub fn connect(&mut self, opener: usize, other: usize, lives: [u32; 2]) -> u64 {
        self.made += 1;
        let link = Link { number: self.made, opener, lives, ready: [0; 2] };
        self.links.insert(pair(opener, other), link);
        self.neighbours[opener].insert(other);
        self.neighbours[other].insert(opener);
        self.inbound[other] += 1;
        self.made
    }
    /// Ends a connection; gives what it was.
    pub fn disconnect(&mut self, a: usize, b: usize) -> Option<Link> {
        let link = self.links.remove(&pair(a, b))?;
        self.neighbours[a].remove(&b);
        self.neighbours[b].remove(&a);
        let other = if link.opener == a { b } else { a };
        self.inbound[other] -= 1;
        Some(link)
    }
    /// Who is connected to a node.
    pub fn neighbours(&self, node: usize) -> &BTreeSet<usize> {
        &self.neighbours[node]
    }
    /// Connections that others made to a node.
    pub fn inbound(&self, node: usize) -> usize {
        self.inbound[node]
    }
    /// When a control message sent now arrives: after the delay, its own length, and every earlier one.
    pub fn arrival(&mut self, now: u64, from: usize, to: usize, bytes: usize) -> u64 {
        let rate = self.up[from].min(self.down[to]);
        let at = now + self.packet(from, to) + (bytes as f64 * 1e6 / rate) as u64;
        let Some(link) = self.links.get_mut(&pair(from, to)) else {
            return at;
        };
        let ready = &mut link.ready[usize::from(from > to)];
        *ready = at.max(*ready);
        *ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_of_one_connection_keep_their_order() {
        let settings = NetworkSettings { jitter_ms: 500.0, ..NetworkSettings::default() };
        let mut network = Network::new(&settings, 2, 3);
        network.connect(0, 1, [1, 1]);
        let arrivals: Vec<u64> = (0..50).map(|i| network.arrival(i * 1000, 0, 1, 10)).collect();
        assert!(arrivals.is_sorted(), "{arrivals:?}");
    }

    #[test]
    fn a_split_parts_the_sides_until_it_heals() {
        let mut network = Network::new(&NetworkSettings::default(), 3, 3);
        network.connect(0, 1, [1, 1]);
        let crossing = network.split(1.0);
        assert_eq!(crossing.len(), 1);
        assert!(!network.reachable(0, 1) && network.reachable(1, 2));
        network.heal();
        assert!(network.reachable(0, 1));
    }
}
