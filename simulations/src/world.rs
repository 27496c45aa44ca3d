//! The second driver of the real core: virtual time, one queue, as many nodes as fit. Only this file and the small world
//! below it, [`overlap`], call the core.
//! Invariant: whatever happens is taken from one queue ordered by (time, order of planning); nothing reads a clock,
//! iterates a hash map or draws an unseeded number, so the same scenario, nodes and seed give the same trace.

pub mod overlap;

use crate::{
    actors::{self, Nature},
    checks::Checks,
    corpus::Corpus,
    device::Fate,
    dice::Dice,
    disk::Disk,
    network::Network,
    node::Node,
    plan::Plan,
    report::{Report, Tally},
    scenario::Scenario,
    trace::Trace,
    traffic::Grapevine,
    transfer::Transfer,
};
use softservice_protocol::{
    id::{Peer, PublisherId},
    io::{Input, Job, ProvisionStep, Stage},
    machine::{Core, Settings},
    time::Time,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

/// Virtual time 0 in the core's time: any plausible date will do, since certificates and statements carry dates.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Something that will happen.
#[derive(Debug)]
pub enum Happening {
    /// The scenario's plan.
    Plan(Plan),
    /// An input for a core, unless its life has ended.
    Input(usize, u32, Box<Input>),
    /// A wake.
    Woke(usize, u32),
    /// The oldest waiting record of a disk is durable.
    Durable(usize, u32),
    /// Content of a stage is whole and synced, or not.
    Assembled(usize, u32, Job, Stage),
    /// A dial came to an end: from, life, to, by which address.
    Dialled(usize, u32, Option<usize>, String),
    /// A control message arrives over this connection.
    Message(usize, usize, u64, Vec<u8>),
    /// A copy of gossip arrives; true = past the duplicate filter.
    Gossip(usize, usize, u32, bool),
    /// A connection is found broken.
    LinkDown(usize, usize, u64),
    /// A question to the distributed hash table is answered.
    Lookup(usize, u32, PublisherId),
    /// A span request reaches the one asked.
    SpanAsked(u64),
    /// An uplink is free again.
    UplinkFree(usize, u32),
    /// A span has arrived.
    SpanCame(u64),
    /// A span's deadline.
    SpanLate(u64),
    /// A step of provisioning ends.
    Step(usize, u32, ProvisionStep, Fate),
    /// An owner tries a failed fetch again.
    Retry(usize, u32, Job),
    /// A flooder's next act.
    Flood(usize),
    /// Is it over?
    Tick,
}

#[derive(Debug)]
struct Planned {
    at: u64,
    order: u64,
    what: Happening,
}
impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Planned {}
impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Dice by concern.
#[derive(Debug)]
pub struct AllDice {
    /// Gossip: loss, duplication, choice of neighbours.
    pub gossip: Dice,
    /// Disks.
    pub disk: Dice,
    /// Steps of provisioning.
    pub device: Dice,
    /// Harm.
    pub actors: Dice,
    /// Breaks, power cuts, comings and goings.
    pub fate: Dice,
    /// The distributed hash table.
    pub lookup: Dice,
}

/// Everything that is.
#[derive(Debug)]
pub struct World {
    /// What the world is like.
    pub scenario: Scenario,
    /// The one seed.
    pub seed: u64,
    /// What is published.
    pub corpus: Corpus,
    /// All nodes; the first is the publisher.
    pub nodes: Vec<Node>,
    /// Node by peer.
    pub by_peer: BTreeMap<Peer, usize>,
    /// Node by address.
    pub by_address: BTreeMap<String, usize>,
    /// Links.
    pub network: Network,
    /// Gossip messages.
    pub grapevine: Grapevine,
    /// Span requests that are open, by number.
    pub transfers: BTreeMap<u64, Transfer>,
    /// Numbers for transfers.
    pub transfers_made: u64,
    /// Nodes that the distributed hash table knows for a publisher.
    pub providers: BTreeMap<PublisherId, Vec<usize>>,
    /// When each edition was published.
    pub published_at: Vec<Option<u64>>,
    /// Plans that have not happened yet.
    pub plans: usize,
    /// What must hold.
    pub checks: Checks,
    /// Figures.
    pub tally: Tally,
    /// The trace.
    pub trace: Trace,
    /// Dice.
    pub dice: AllDice,
    /// Microseconds since the beginning.
    pub now: u64,
    queue: BinaryHeap<Reverse<Planned>>,
    orders: u64,
}

impl World {
    /// A world that is drawn but has not begun.
    pub fn new(scenario: Scenario, seed: u64, told: bool) -> Self {
        let content = &scenario.content;
        let corpus = Corpus::new(seed, content.mib, content.versions, content.shared, Time(EPOCH_MS));
        let natures = actors::deal(&scenario.actors, scenario.nodes, seed);
        let mut disks = Dice::new(seed, "disks");
        let nodes: Vec<Node> = natures
            .into_iter()
            .enumerate()
            .map(|(number, nature)| draw_node(number, seed, nature, &scenario, &corpus, &mut disks))
            .collect();
        let dice = AllDice {
            gossip: Dice::new(seed, "gossip"),
            disk: Dice::new(seed, "disk"),
            device: Dice::new(seed, "device"),
            actors: Dice::new(seed, "actors at work"),
            fate: Dice::new(seed, "fate"),
            lookup: Dice::new(seed, "lookup"),
        };
        let mut world = Self {
            network: Network::new(&scenario.network, scenario.nodes, seed),
            checks: Checks::new(&corpus),
            by_peer: nodes.iter().enumerate().map(|(i, n)| (n.peer, i)).collect(),
            by_address: nodes.iter().enumerate().map(|(i, n)| (n.address.clone(), i)).collect(),
            published_at: vec![None; corpus.editions.len()],
            grapevine: Grapevine::default(),
            transfers: BTreeMap::new(),
            transfers_made: 0,
            providers: BTreeMap::new(),
            plans: 0,
            tally: Tally::default(),
            trace: Trace::new(told),
            now: 0,
            queue: BinaryHeap::new(),
            orders: 0,
            scenario,
            seed,
            corpus,
            nodes,
            dice,
        };
        world.make_plans();
        world.at(0, Happening::Tick);
        world
    }

    /// Plays to the end, which is when everybody who can has finished, or when the scenario's limit is reached.
    pub fn run(mut self) -> Report {
        let limit = (self.scenario.limit * 1e6) as u64;
        let mut finished = false;
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > limit {
                break;
            }
            self.now = next.at;
            if matches!(next.what, Happening::Tick) {
                if self.plans == 0 && self.is_over() {
                    finished = true;
                    break;
                }
                self.after(250_000, Happening::Tick);
                continue;
            }
            self.happen(next.what);
        }
        self.final_checks(finished);
        Report::of(&self)
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Plan(plan) => self.follow_plan(plan),
            Happening::Input(node, life, input) => self.feed(node, life, *input),
            Happening::Woke(node, life) => {
                if self.nodes[node].life == life {
                    let now = self.now;
                    self.nodes[node].wakes.retain(|at| *at > now);
                    self.feed(node, life, Input::Woke);
                }
            }
            Happening::Durable(node, life) => self.durable(node, life),
            Happening::Assembled(node, life, job, stage) => self.assembled(node, life, job, stage),
            Happening::Dialled(from, life, to, address) => self.dialled(from, life, to, address),
            Happening::Message(from, to, link, bytes) => self.message_arrives(from, to, link, bytes),
            Happening::Gossip(from, to, message, past_filter) => self.gossip_arrives(from, to, message, past_filter),
            Happening::LinkDown(a, b, number) => self.link_down(a, b, Some(number)),
            Happening::Lookup(node, life, publisher) => self.lookup(node, life, publisher),
            Happening::SpanAsked(id) => self.span_asked(id),
            Happening::UplinkFree(node, life) => self.uplink_free(node, life),
            Happening::SpanCame(id) => self.span_came(id),
            Happening::SpanLate(id) => self.span_ends_early(id),
            Happening::Step(node, life, step, fate) => self.step_ends(node, life, step, fate),
            Happening::Retry(node, life, job) => self.retry(node, life, job),
            Happening::Flood(node) => self.flood(node),
            Happening::Tick => {}
        }
    }

    /// Gives one input to a core and carries out what it answers, in order.
    pub fn feed(&mut self, node: usize, life: u32, input: Input) {
        let now = self.core_time(node);
        let it = &mut self.nodes[node];
        if !it.up || it.life != life {
            return;
        }
        let Some(core) = it.core.as_mut() else { return };
        self.trace.input(self.now, node, &input);
        let outputs = core.handle(now, input);
        for output in outputs {
            self.trace.output(self.now, node, &output);
            self.carry_out(node, output);
        }
    }

    /// A node begins a life: the log first, as its invariant wants it.
    pub fn begin_life(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.life += 1;
        let seed = self.seed ^ (node as u64) << 32 ^ u64::from(it.life).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let core = it.nature.has_core().then(|| core(it.peer, seed));
        it.reborn(core);
        let (life, records) = (it.life, it.disk.records().to_vec());
        for record in records {
            self.feed(node, life, Input::Restored(record));
        }
    }

    /// The present, as a node's clock shows it.
    pub fn core_time(&self, node: usize) -> Time {
        Time(EPOCH_MS + self.nodes[node].clock_ms + self.now / 1000)
    }
    /// A time on a node's clock as microseconds of this world; the past counts as now.
    pub fn world_time(&self, node: usize, time: Time) -> u64 {
        let since = time.0.saturating_sub(EPOCH_MS + self.nodes[node].clock_ms);
        since.saturating_mul(1000).max(self.now)
    }
    /// Plans something at a time.
    pub fn at(&mut self, at: u64, what: Happening) {
        self.orders += 1;
        self.queue.push(Reverse(Planned { at: at.max(self.now), order: self.orders, what }));
    }
    /// Plans something after so many microseconds.
    pub fn after(&mut self, wait: u64, what: Happening) {
        self.at(self.now + wait, what);
    }
    /// Plans an input for the present life of a node.
    pub fn input_after(&mut self, wait: u64, node: usize, input: Input) {
        let life = self.nodes[node].life;
        self.after(wait, Happening::Input(node, life, Box::new(input)));
    }
    /// The main publisher.
    pub fn publisher(&self) -> PublisherId {
        self.corpus.authors[0].publisher
    }
}

/// The real core of a node of either world.
fn core(me: Peer, seed: u64) -> Core {
    Core::new(Settings { me, seed, outbound: softservice_protocol::limits::OUTBOUND_PEERS, built: Time(0) })
}

fn draw_node(number: usize, seed: u64, nature: Nature, scenario: &Scenario, corpus: &Corpus, dice: &mut Dice) -> Node {
    let whole: u64 = corpus.editions.iter().filter_map(|e| corpus.closure(e.release.id)).map(|c| c.bytes()).sum();
    let mut sync_us = (dice.within(scenario.disk.sync_ms) * 1000.0) as u64;
    if dice.chance(scenario.disk.slow) {
        sync_us *= 20;
    }
    let doomed = dice.chance(scenario.disk.full) && nature == Nature::Follower;
    let capacity = if doomed { whole / 4 } else { whole * 4 };
    let mut node = Node::new(number, seed, nature, Disk::new(capacity, sync_us), corpus.editions.len());
    node.doomed = doomed;
    // From 0 to twice the skew: clocks then differ from the middle one by up to the skew, either way.
    node.clock_ms = (dice.within([0.0, scenario.schedule.clock_skew_s * 2.0]) * 1000.0) as u64;
    node
}
