//! One device that fetches several things at once: what its owner asks for, and what it looks at ahead because a
//! subscription published it. Their closures overlap, fetches are abandoned, peers hang up, the disk forgets and is
//! swept. The device has the real core and a real store; its seeders have real cores and everything, or half of it.
//!
//! Invariant: a run is a function of rules and seed; every fetch that nobody abandoned ends, and what was fetched is whole.
//!
//! The large world ([`super::World`]) keeps lists of chunks in place of stores, because ten thousand stores would not
//! fit; this one is small and leaves nothing of a store out.

mod carry;
mod shelf;
mod shop;

use super::EPOCH_MS;
use crate::dice::Dice;
use shelf::Shelf;
pub use shop::Disk;
use shop::{Shop, Task};
use softservice_protocol::{
    chunk::ChunkRef,
    feed::{Action, Head},
    id::{Peer, PublisherId},
    io::{Depth, Event, Input, Job, Request},
    machine::Core,
    ticket::Ticket,
    time::Time,
};
use softservice_store::{Store, closure};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A run that is not over by then hangs, in milliseconds.
const LIMIT_MS: u64 = 1_800_000;
/// The publisher, one who has everything and two who have half of it.
const SEEDERS: usize = 4;
/// Owners begin and end fetches, publishers publish in these first milliseconds.
const BUSY_MS: u64 = 4000;

/// What may happen in a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Fetches that the owner begins.
    pub fetches: usize,
    /// Share of them that the owner gives up.
    pub abandons: f64,
    /// Spans that break off, some with their connection.
    pub breaks: f64,
    /// Sweeps that keep what was fetched when somebody looked.
    pub sweeps: usize,
    /// The disk.
    pub disk: Disk,
}

/// What came out of a run.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// What did not hold.
    pub violations: Vec<String>,
    /// Why the store could not go on with a fetch, each time.
    pub refusals: Vec<String>,
    /// Fetches of the owner that ended well.
    pub fetched: usize,
    /// Fetches of the owner that failed and were begun again.
    pub failed: usize,
    /// Times that two fetches went on at once.
    pub together: usize,
    /// Of these, with one that looked ahead.
    pub ahead: usize,
    /// Steps, and what they were.
    pub trace: (u64, u64),
}

enum Happening {
    Input(usize, Box<Input>),
    /// Any task of the device's store is done.
    Work,
    /// A request reaches a seeder, over this connection.
    Serve {
        seeder: usize,
        link: u64,
        request: Request,
        chunks: Vec<ChunkRef>,
    },
    Publish(usize),
    Fetch(usize, Depth),
    Abandon(Job),
    Sweep,
    Connect(usize),
}

struct Node {
    peer: Peer,
    core: Core,
    topics: BTreeSet<PublisherId>,
    /// Its connection with the device; each has its own number.
    link: Option<u64>,
}

/// See the module.
struct Overlap {
    rules: Rules,
    dice: Dice,
    shelf: Shelf,
    shop: Arc<Shop>,
    /// The device, then its seeders.
    nodes: Vec<Node>,
    agenda: BTreeMap<(u64, u64), Happening>,
    now: u64,
    serial: u64,
    /// What the owner waits for.
    open: BTreeMap<Job, (usize, Depth)>,
    jobs: u64,
    cancelled: BTreeSet<Request>,
    asked: BTreeMap<Job, softservice_protocol::release::ReleaseRef>,
    wanted: BTreeSet<usize>,
    outcome: Outcome,
}

/// Plays one run on this store, which must be empty.
pub fn play(rules: Rules, seed: u64, store: Arc<dyn Store>) -> Outcome {
    let mut world = Overlap::new(rules, seed, store);
    world.plan();
    world.run("the owner's fetches");
    // Whatever was given up or swept meanwhile is fetched again, in peace.
    world.rules = Rules::default();
    for title in world.wanted.clone() {
        world.fetch(title, Depth::Content);
    }
    world.shop.calm();
    world.run("the last fetches");
    world.judge();
    world.outcome.refusals = world.shop.refusals();
    world.outcome
}

impl Overlap {
    fn new(rules: Rules, seed: u64, store: Arc<dyn Store>) -> Self {
        let shelf = Shelf::draw(seed, Time(EPOCH_MS));
        let node = |n: usize| {
            let peer = Peer([n as u8 + 1; 32]);
            Node { peer, core: super::core(peer, seed ^ (n as u64) << 32), topics: BTreeSet::new(), link: None }
        };
        Self {
            rules,
            dice: Dice::new(seed, "overlap"),
            shelf,
            shop: Arc::new(Shop::new(store, rules.disk, seed)),
            nodes: (0..=SEEDERS).map(node).collect(),
            agenda: BTreeMap::new(),
            now: 0,
            serial: 0,
            open: BTreeMap::new(),
            jobs: 0,
            cancelled: BTreeSet::new(),
            asked: BTreeMap::new(),
            wanted: BTreeSet::new(),
            outcome: Outcome::default(),
        }
    }

    fn plan(&mut self) {
        let (publisher, roots) = (self.shelf.author.publisher, self.shelf.author.roots.clone());
        self.input(1, Input::Own { publisher, roots });
        let root = &self.shelf.author.trusted;
        let root = (root.root.version, root.digest);
        let ticket = Ticket {
            publisher,
            distro: None,
            root,
            floor: Head::START,
            addresses: Vec::new(),
            conflict: None,
            expires: None,
        };
        self.input(0, Input::Follow { ticket });
        for seeder in 1..=SEEDERS {
            let at = self.dice.below(300);
            self.after(at, Happening::Connect(seeder));
        }
        let mut at: Vec<u64> = self.shelf.titles.iter().map(|_| self.dice.below(BUSY_MS)).collect();
        at.sort_unstable();
        for (title, at) in at.into_iter().enumerate() {
            self.after(at, Happening::Publish(title));
        }
        for _ in 0..self.rules.fetches {
            let title = self.dice.below(self.shelf.titles.len() as u64) as usize;
            let depth = if self.dice.chance(0.8) { Depth::Content } else { Depth::Manifests };
            let at = self.dice.below(BUSY_MS);
            self.after(at, Happening::Fetch(title, depth));
        }
        for _ in 0..self.rules.sweeps {
            let at = self.dice.below(BUSY_MS * 2);
            self.after(at, Happening::Sweep);
        }
    }

    fn after(&mut self, wait: u64, what: Happening) {
        self.serial += 1;
        self.agenda.insert((self.now + wait, self.serial), what);
    }

    /// Lets things happen until nobody waits for anything.
    fn run(&mut self, what: &str) {
        while let Some(((at, _), next)) = self.agenda.pop_first() {
            self.now = at;
            if at > LIMIT_MS {
                return self.wrong(format!("{what} never end: {:?}", self.open));
            }
            self.happen(next);
            let busy = |h: &Happening| !matches!(h, Happening::Input(_, input) if matches!(**input, Input::Woke));
            let fetching = !self.open.is_empty() || !self.nodes[0].core.transfers().is_empty();
            if !fetching && self.shop.is_idle() && !self.agenda.values().any(busy) {
                return;
            }
        }
        self.wrong(format!("nothing happens any more, but {what} have not ended: {:?}", self.open));
    }

    fn happen(&mut self, what: Happening) {
        self.outcome.trace.0 += 1;
        let mark = match &what {
            Happening::Input(node, _) => *node as u64,
            Happening::Serve { request, .. } => request.0,
            _ => 7,
        };
        let mixed = self.outcome.trace.1.rotate_left(5) ^ mark ^ self.now << 8;
        self.outcome.trace.1 = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match what {
            Happening::Input(node, input) => self.input(node, *input),
            Happening::Work => {
                for input in self.shop.clone().work() {
                    let wait = self.dice.below(20);
                    self.after(wait, Happening::Input(0, Box::new(input)));
                }
            }
            Happening::Serve { seeder, link, request, chunks } => self.serve(seeder, link, request, &chunks),
            Happening::Publish(title) => {
                self.jobs += 1;
                let (publisher, listing) = (self.shelf.author.publisher, self.shelf.titles[title].listing());
                let action = Action::Release(listing);
                self.input(1, Input::Publish { job: Job(self.jobs), publisher, action, request: false });
            }
            Happening::Fetch(title, depth) => self.fetch(title, depth),
            Happening::Abandon(job) => {
                if self.open.remove(&job).is_some() {
                    self.input(0, Input::Abandon { job });
                }
            }
            Happening::Sweep => self.sweep(),
            Happening::Connect(seeder) => self.connect(seeder),
        }
    }

    fn task(&mut self, task: Task) {
        self.shop.push(task);
        let wait = self.dice.below(60);
        self.after(wait, Happening::Work);
    }

    fn fetch(&mut self, title: usize, depth: Depth) {
        self.jobs += 1;
        let (job, release) = (Job(self.jobs), self.shelf.titles[title].release);
        let going = self.nodes[0].core.transfers();
        self.outcome.together += usize::from(!going.is_empty());
        self.outcome.ahead += usize::from(going.iter().any(|t| t.own_wish));
        self.wanted.insert(title);
        self.open.insert(job, (title, depth));
        if self.dice.chance(self.rules.abandons) {
            let wait = self.dice.below(1500);
            self.after(wait, Happening::Abandon(job));
        }
        self.input(0, Input::Fetch { job, release, depth });
    }

    /// What the device keeps is found out now and swept later, as `gc` does it.
    fn sweep(&mut self) {
        let mut keep = BTreeSet::new();
        for title in self.dice.sample(&self.wanted.iter().copied().collect::<Vec<_>>(), 1) {
            match closure::objects(&*self.shop, self.shelf.titles[title].release.id) {
                Ok(objects) => keep.extend(objects),
                Err(e) => self.wrong(format!("what is kept cannot be read: {e}")),
            }
        }
        // By then another fetch may have begun.
        let idle = self.dice.chance(0.5);
        self.task(Task::Sweep { keep, idle });
    }

    /// The device's owner is told something.
    fn told(&mut self, event: Event) {
        match event {
            Event::Fetched { job, .. } => {
                let Some((title, depth)) = self.open.remove(&job) else { return };
                self.outcome.fetched += 1;
                if depth == Depth::Content && self.rules.sweeps == 0 {
                    self.check_whole(title);
                }
            }
            Event::FetchFailed { job, why, .. } => {
                let Some((title, depth)) = self.open.remove(&job) else { return };
                self.outcome.failed += 1;
                if !why.contains("as fated") {
                    return self.wrong(format!("the fetch of title {title} failed: {why}"));
                }
                let wait = 500 + self.dice.below(3000);
                self.after(wait, Happening::Fetch(title, depth));
            }
            Event::Liar { why, .. } => self.wrong(format!("an honest seeder was called a liar: {why}")),
            _ => {}
        }
    }

    fn wrong(&mut self, what: String) {
        self.outcome.violations.push(format!("at {} ms: {what}", self.now));
    }

    fn check_whole(&mut self, title: usize) {
        let shop = self.shop.clone();
        let release = self.shelf.titles[title].release;
        let whole = closure::closure(&*shop, release.id).and_then(|closure| {
            for (_, release) in closure {
                let artifacts = release.roles.iter().flat_map(|r| &r.artifacts).flat_map(|a| &a.trees);
                for (_, tree) in artifacts {
                    shop::whole_tree(&*shop, tree)?;
                }
                shop::whole_tree(&*shop, &release.source)?;
            }
            Ok(())
        });
        if let Err(e) = whole {
            self.wrong(format!("title {title} was fetched and is not whole: {e}"));
        }
    }

    /// What must hold at the end.
    fn judge(&mut self) {
        for title in self.wanted.clone() {
            self.check_whole(title);
        }
    }
}
