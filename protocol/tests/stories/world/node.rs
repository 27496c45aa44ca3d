//! One peer of a story: the real core, and everything beside it that a process would have. Invariant: what a restart takes
//! away is written in one place, [`Node::reborn`].

use super::{Manner, Publisher, START, uplink::Uplink};
use softservice_protocol::{
    id::{ChunkId, Peer, PublisherId},
    io::{Event, Job, ProvisionStep, Record, Request, Token, Verdict},
    machine::{Core, Settings},
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Node {
    pub(crate) peer: Peer,
    pub(crate) core: Core,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) kept: Vec<Record>,
    pub(crate) chunks: BTreeSet<ChunkId>,
    pub(crate) events: Vec<Event>,
    pub(crate) judged: Vec<(u64, Verdict)>,
    /// Gossip that waits for a verdict.
    pub(super) hearing: BTreeMap<u64, (PublisherId, Vec<u8>)>,
    pub(crate) manner: Manner,
    /// Bytes a second that it sends.
    pub(crate) rate: u64,
    pub(super) uplink: Uplink,
    pub(crate) sent: u64,
    /// Keeps wait here instead of becoming durable at once.
    pub(crate) slow_disk: bool,
    pub(crate) waiting: Vec<(Token, Record)>,
    /// So many times more a chunk is gone when content is to be made whole.
    pub(crate) forgets: u32,
    pub(crate) signs: bool,
    /// How often it was asked for signatures.
    pub(crate) asked_to_sign: usize,
    /// Its clock shows so much less than the world's.
    pub(crate) behind: Span,
    pub(crate) links: BTreeSet<&'static str>,
    pub(crate) topics: BTreeSet<PublisherId>,
    pub(crate) dials: Vec<String>,
    pub(crate) sends: Vec<(Peer, softservice_protocol::message::Message)>,
    pub(crate) gossiped: Vec<Vec<u8>>,
    pub(crate) steps: Vec<ProvisionStep>,
    pub(crate) surveys: usize,
    pub(super) seen: BTreeSet<Vec<u8>>,
    pub(super) cancelled: BTreeSet<Request>,
    pub(super) wakes: BTreeSet<Time>,
    pub(super) life: u32,
    pub(super) seed: u64,
    pub(super) next: u64,
    pub(super) jobs: u64,
    pub(crate) bans: BTreeMap<Peer, Time>,
}

fn core(me: Peer, seed: u64) -> Core {
    Core::new(Settings { me, seed, outbound: 8, built: START })
}

impl Node {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        let peer = Peer(*blake3::hash(name.as_bytes()).as_bytes());
        Self {
            peer,
            core: core(peer, seed),
            publisher: None,
            kept: vec![],
            chunks: BTreeSet::new(),
            events: vec![],
            judged: vec![],
            hearing: BTreeMap::new(),
            manner: Manner::Honest,
            rate: 100 << 20,
            uplink: Uplink::default(),
            sent: 0,
            slow_disk: false,
            waiting: vec![],
            forgets: 0,
            signs: true,
            asked_to_sign: 0,
            behind: Span(0),
            links: BTreeSet::new(),
            topics: BTreeSet::new(),
            dials: vec![],
            sends: vec![],
            gossiped: vec![],
            steps: vec![],
            surveys: 0,
            seen: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            wakes: BTreeSet::new(),
            life: 0,
            seed,
            next: 0,
            jobs: 0,
            bans: BTreeMap::new(),
        }
    }

    /// The process dies and starts again: what was not durable is gone. Gives what was.
    pub(super) fn reborn(&mut self) -> Vec<Record> {
        self.life += 1;
        self.uplink = Uplink::default();
        self.waiting.clear();
        self.hearing.clear();
        self.wakes.clear();
        self.topics.clear();
        self.events.clear();
        self.core = core(self.peer, self.seed + 100 * u64::from(self.life));
        self.kept.clone()
    }
    pub(crate) fn job(&mut self) -> Job {
        self.jobs += 1;
        Job(self.jobs)
    }
}
