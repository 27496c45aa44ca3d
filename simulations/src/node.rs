//! One simulated node: the real core, and what surrounds it. Invariant: everything that must not outlive a power cut
//! is remade in [`Node::reborn`]; everything else is disk, device or what the owner remembers.

use crate::{actors::Nature, corpus::Corpus, device::Device, disk::Disk};
use softservice_protocol::{
    codec,
    feed::Head,
    id::{Digest, Peer, PublisherId},
    io::{Job, Record},
    machine::Core,
    release::ReleaseRef,
    sign::{Envelope, Kind},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a node uploads: one queue for each peer, served in turn, one span at a time.
#[derive(Debug, Default)]
pub struct Uplink {
    /// Spans that wait, by peer.
    pub queues: BTreeMap<usize, VecDeque<u64>>,
    /// Whose turn it is.
    pub turn: VecDeque<usize>,
    /// A span is on the wire.
    pub busy: bool,
}

/// What the owner of a node knows and wants.
#[derive(Debug, Default)]
pub struct Owner {
    /// The newest edition heard of.
    pub wanted: Option<usize>,
    /// The fetch that goes on.
    pub job: Option<(Job, usize)>,
    /// Numbers for jobs.
    pub jobs: u64,
    /// When each edition was heard of, in microseconds.
    pub heard_at: Vec<Option<u64>>,
    /// When each edition was complete and durable.
    pub whole_at: Vec<Option<u64>>,
    /// Editions whose provisioning has ended, well or not.
    pub provisioned: BTreeSet<usize>,
    /// A generation's life goes on.
    pub provisioning: Option<usize>,
    /// Fetches that failed and were tried again.
    pub retries: u64,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name on the network.
    pub peer: Peer,
    /// Where it listens.
    pub address: String,
    /// What it is up to.
    pub nature: Nature,
    /// The real core; actors that follow no protocol have none.
    pub core: Option<Core>,
    /// Its disk.
    pub disk: Disk,
    /// Its device.
    pub device: Device,
    /// Its owner.
    pub owner: Owner,
    /// Counts power cuts, so that nothing of an earlier life reaches a later one.
    pub life: u32,
    /// It runs.
    pub up: bool,
    /// It left for good.
    pub gone: bool,
    /// Its disk is made to fill up, so nobody expects it to finish.
    pub doomed: bool,
    /// Its clock runs ahead of the world's by so many milliseconds.
    pub clock_ms: u64,
    /// When it joined.
    pub joined_at: Option<u64>,
    /// Wakes that were asked for and have not come.
    pub wakes: BTreeSet<u64>,
    /// Publishers whose gossip it takes part in.
    pub topics: BTreeSet<PublisherId>,
    /// Gossip it has seen.
    pub seen: BTreeSet<u32>,
    /// Gossip that waits for a verdict: from whom, and which.
    pub judging: BTreeMap<u64, (usize, u32)>,
    /// Numbers for gossip.
    pub gossips: u64,
    /// Whom it refuses, and until when.
    pub bans: BTreeMap<usize, u64>,
    /// What its core's fetches are about, its own wishes among them.
    pub asked: BTreeMap<Job, ReleaseRef>,
    /// Its span requests that are open.
    pub open: BTreeSet<u64>,
    /// What it uploads.
    pub uplink: Uplink,
    /// Digests of signed payloads that are durable here.
    pub durable: BTreeSet<Digest>,
    /// Heads that are durable here.
    pub heads: BTreeMap<PublisherId, Head>,
    /// Every head that was ever durable here.
    pub past_heads: BTreeSet<(PublisherId, Head)>,
}

impl Node {
    /// A node that has not joined yet.
    pub fn new(number: usize, seed: u64, nature: Nature, disk: Disk, editions: usize) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"node").update(&seed.to_le_bytes()).update(&(number as u64).to_le_bytes());
        let peer = Peer(*hasher.finalize().as_bytes());
        let (high, low) = (number / 250, number % 250);
        let owner = Owner { heard_at: vec![None; editions], whole_at: vec![None; editions], ..Owner::default() };
        Self {
            peer,
            address: format!("/ip4/10.{}.{}.{}/udp/4001/quic-v1/p2p/{peer}", high / 250, high % 250, low + 1),
            nature,
            core: None,
            disk,
            device: Device::default(),
            owner,
            life: 0,
            up: false,
            gone: false,
            doomed: false,
            clock_ms: 0,
            joined_at: None,
            wakes: BTreeSet::new(),
            topics: BTreeSet::new(),
            seen: BTreeSet::new(),
            judging: BTreeMap::new(),
            gossips: 0,
            bans: BTreeMap::new(),
            asked: BTreeMap::new(),
            open: BTreeSet::new(),
            uplink: Uplink::default(),
            durable: BTreeSet::new(),
            heads: BTreeMap::new(),
            past_heads: BTreeSet::new(),
        }
    }

    /// A new process: an empty core, and nothing that only memory held.
    pub fn reborn(&mut self, core: Option<Core>) {
        self.up = true;
        self.core = core;
        self.wakes.clear();
        self.topics.clear();
        self.seen.clear();
        self.judging.clear();
        self.bans.clear();
        self.asked.clear();
        self.uplink = Uplink::default();
        self.owner.job = None;
        self.owner.provisioning = None;
        self.heads.clear();
        self.durable.clear();
        for record in self.disk.records().to_vec() {
            self.learn(&record);
        }
    }

    /// Notes what a durable record says.
    pub fn learn(&mut self, record: &Record) {
        let (publisher, bytes) = match record {
            Record::Root { publisher, envelope }
            | Record::Entry { publisher, envelope }
            | Record::Fresh { publisher, envelope }
            | Record::Onboarded { publisher, envelope, .. } => (publisher, envelope),
            _ => return,
        };
        let Ok(envelope) = codec::decode::<Envelope>(bytes) else {
            return;
        };
        self.durable.insert(envelope.digest());
        if envelope.kind == Kind::Entry
            && let Ok(entry) = envelope.open::<softservice_protocol::feed::Entry>()
        {
            let head = Head { at: entry.at, hash: envelope.digest() };
            self.past_heads.insert((*publisher, head));
            let known = self.heads.entry(*publisher).or_insert(head);
            *known = (*known).max(head);
        }
    }

    /// The newest edition of which the log knows: what an owner reads in the catalogue after a restart.
    pub fn catalogue(&self, corpus: &Corpus, publisher: PublisherId) -> Option<usize> {
        let head = self.heads.get(&publisher)?;
        // The main publisher's entries are its editions, in order.
        let newest = usize::try_from(head.at.seq).ok()?.min(corpus.editions.len());
        newest.checked_sub(1)
    }
}
