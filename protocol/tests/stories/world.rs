//! A small world for stories: named peers with the real core, a store that only remembers which chunks it has, messages
//! that take five milliseconds, and an agenda instead of a clock. Invariant: nothing happens but what the agenda says,
//! in its order, so a story always ends the same way.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    codec,
    feed::{Head, Listing},
    id::{ChunkId, Peer, PublisherId, ReleaseId},
    io::{
        Delivery, Depth, Event, FetchFigures, Input, Job, Output, ProvisionInput, ProvisionStep, Record, Request,
        Stage, Token, Verdict, WantList,
    },
    machine::{Core, Settings},
    release::ReleaseRef,
    sign::{Signature, sign},
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use crate::cast::*;

/// How a peer answers requests for chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Sends other bytes from the second chunk on.
    Lies,
    /// Says that it has everything, and has nothing.
    Boasts,
    /// Never answers; the asker's driver gives up at the deadline.
    Hangs,
}

pub(crate) struct Node {
    pub(crate) peer: Peer,
    pub(crate) core: Core,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) kept: Vec<Record>,
    pub(crate) chunks: BTreeSet<ChunkId>,
    pub(crate) events: Vec<Event>,
    pub(crate) judged: Vec<(u64, Verdict)>,
    pub(crate) manner: Manner,
    /// Bytes a second that it sends.
    pub(crate) rate: u64,
    /// Requests that wait to be served, by asker, served in turn.
    uplink: VecDeque<Order>,
    busy: bool,
    pub(crate) sent: u64,
    /// Keeps wait here instead of becoming durable at once.
    pub(crate) slow_disk: bool,
    pub(crate) waiting: Vec<(Token, Record)>,
    pub(crate) signs: bool,
    pub(crate) links: BTreeSet<&'static str>,
    pub(crate) topics: BTreeSet<PublisherId>,
    pub(crate) dials: Vec<String>,
    pub(crate) sends: Vec<(Peer, softservice_protocol::message::Message)>,
    pub(crate) gossiped: Vec<Vec<u8>>,
    pub(crate) steps: Vec<ProvisionStep>,
    pub(crate) surveys: usize,
    seen: BTreeSet<Vec<u8>>,
    cancelled: BTreeSet<Request>,
    wakes: BTreeSet<Time>,
    life: u32,
    seed: u64,
    next: u64,
    jobs: u64,
    bans: BTreeMap<Peer, Time>,
}

struct Order {
    asker: &'static str,
    life: u32,
    request: Request,
    chunks: Vec<ChunkRef>,
}

enum Happening {
    /// The uplink is free for the next span.
    Free,
    Input(Input),
    /// A peer is asked for chunks.
    Serve {
        asker: &'static str,
        life: u32,
        request: Request,
        chunks: Vec<ChunkRef>,
        deadline: Time,
    },
    /// Its answer arrives.
    Answer {
        from: Peer,
        request: Request,
        chunks: Vec<ChunkRef>,
        outcome: Delivery,
    },
    Gossip {
        from: Peer,
        bytes: Vec<u8>,
        publisher: PublisherId,
    },
}

pub(crate) struct World {
    pub(crate) nodes: BTreeMap<&'static str, Node>,
    pub(crate) now: Time,
    pub(crate) library: BTreeMap<ReleaseId, Closure>,
    agenda: BTreeMap<(Time, u64), (&'static str, u32, Happening)>,
    serial: u64,
    rng: ChaCha8Rng,
    /// Messages take up to so much longer, so that they overtake each other.
    pub(crate) disorder: u64,
    /// One message in so many comes twice; none when 0.
    pub(crate) doubles: u64,
    /// One message in so many is lost; none when 0.
    pub(crate) losses: u64,
}

impl World {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            now: START,
            library: BTreeMap::new(),
            agenda: BTreeMap::new(),
            serial: 0,
            rng: ChaCha8Rng::seed_from_u64(7),
            disorder: 0,
            doubles: 0,
            losses: 0,
        };
        for name in names {
            world.join(name);
        }
        world
    }

    pub(crate) fn join(&mut self, name: &'static str) {
        let seed = self.nodes.len() as u64 + 1;
        let peer = Peer(*blake3::hash(name.as_bytes()).as_bytes());
        let node = Node {
            peer,
            core: Core::new(Settings { me: peer, seed, outbound: 8 }),
            publisher: None,
            kept: vec![],
            chunks: BTreeSet::new(),
            events: vec![],
            judged: vec![],
            manner: Manner::Honest,
            rate: 100 << 20,
            uplink: VecDeque::new(),
            busy: false,
            sent: 0,
            slow_disk: false,
            waiting: vec![],
            signs: true,
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
        };
        self.nodes.insert(name, node);
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }
    pub(crate) fn peer(&self, name: &str) -> Peer {
        self.nodes[name].peer
    }
    pub(crate) fn address(&self, name: &str) -> String {
        format!("/ip4/10.0.0.1/tcp/1/p2p/{}", self.peer(name))
    }
    fn name_of(&self, peer: Peer) -> Option<&'static str> {
        self.nodes.iter().find(|(_, n)| n.peer == peer).map(|(name, _)| *name)
    }
    fn random(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.rng.next_u64() % n }
    }

    pub(crate) fn shelve(&mut self, release: ReleaseRef, closure: Closure) {
        self.library.insert(release.id, closure);
    }
    /// Puts a whole release into a peer's store.
    pub(crate) fn give(&mut self, name: &str, release: ReleaseRef) {
        let closure = self.library[&release.id].clone();
        let all = [Stage::Releases, Stage::Manifests, Stage::Content];
        self.node(name).chunks.extend(all.iter().flat_map(|s| closure.stage(*s)).map(|c| c.id));
    }

    pub(crate) fn connect(&mut self, one: &'static str, other: &'static str) {
        let (a, b) = (self.address(one), self.address(other));
        let (p, q) = (self.peer(one), self.peer(other));
        self.node(one).links.insert(other);
        self.node(other).links.insert(one);
        self.input(one, Input::Connected { peer: q, address: b, outbound: true });
        self.input(other, Input::Connected { peer: p, address: a, outbound: false });
    }
    pub(crate) fn part(&mut self, one: &'static str, other: &'static str) {
        let (p, q) = (self.peer(one), self.peer(other));
        if self.node(one).links.remove(other) {
            self.node(other).links.remove(one);
            self.input(one, Input::Disconnected { peer: q });
            self.input(other, Input::Disconnected { peer: p });
        }
    }
    pub(crate) fn vanish(&mut self, name: &'static str) {
        for other in self.node(name).links.clone() {
            self.part(name, other);
        }
    }
    /// The process dies and starts again from what was durable.
    pub(crate) fn restart(&mut self, name: &'static str) {
        self.vanish(name);
        let node = self.node(name);
        node.life += 1;
        (node.busy, node.uplink) = (false, VecDeque::new());
        node.waiting.clear();
        node.wakes.clear();
        node.topics.clear();
        node.events.clear();
        node.core = Core::new(Settings { me: node.peer, seed: node.seed + 100 * u64::from(node.life), outbound: 8 });
        for record in node.kept.clone() {
            self.input(name, Input::Restored(record));
        }
        if let Some(publisher) = self.node(name).publisher.clone() {
            self.input(name, Input::Own { publisher: publisher.id, roots: publisher.roots });
        }
    }

    pub(crate) fn own(&mut self, name: &'static str, publisher: &Publisher) {
        self.node(name).publisher = Some(publisher.clone());
        self.input(name, Input::Own { publisher: publisher.id, roots: publisher.roots.clone() });
    }
    pub(crate) fn follow(&mut self, name: &'static str, publisher: &Publisher) {
        self.input(name, Input::Follow { ticket: publisher.ticket(Head::START, &[]) });
    }
    pub(crate) fn publish(&mut self, name: &'static str, publisher: &Publisher, listing: Listing) -> Job {
        let node = self.node(name);
        node.jobs += 1;
        let job = Job(node.jobs);
        self.input(name, Input::Publish { job, publisher: publisher.id, listing });
        job
    }
    pub(crate) fn fetch(&mut self, name: &'static str, release: ReleaseRef, depth: Depth) -> Job {
        let node = self.node(name);
        node.jobs += 1;
        let job = Job(node.jobs);
        self.input(name, Input::Fetch { job, release, depth });
        job
    }
    pub(crate) fn head(&self, name: &str, publisher: &Publisher) -> u64 {
        self.nodes[name].core.publisher(publisher.id).map_or(0, |v| v.feed.head.at.seq)
    }

    fn plan(&mut self, at: Time, name: &'static str, what: Happening) {
        self.serial += 1;
        let life = self.nodes[name].life;
        self.agenda.insert((at, self.serial), (name, life, what));
    }

    /// Hands one input over at once and carries out what follows.
    pub(crate) fn input(&mut self, name: &'static str, input: Input) {
        let now = self.now;
        let outputs = self.node(name).core.handle(now, input);
        for output in outputs {
            self.carry(name, output);
        }
    }

    fn carry(&mut self, name: &'static str, output: Output) {
        let now = self.now;
        let me = self.peer(name);
        let soon = Time(now.0 + 5);
        match output {
            Output::Wake(at) => drop(self.node(name).wakes.insert(at)),
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
            Output::Judge { gossip, verdict, .. } => self.node(name).judged.push((gossip, verdict)),
            Output::Keep { token, record } => {
                let node = self.node(name);
                if node.slow_disk {
                    node.waiting.push((token, record));
                } else {
                    node.kept.push(record);
                    self.plan(Time(now.0 + 1), name, Happening::Input(Input::Durable(token)));
                }
            }
            Output::Sign { token, kind, publisher, feed, payload } => {
                let node = self.node(name);
                let keys = node.publisher.as_ref().filter(|p| p.id == publisher && node.signs);
                let signatures: Vec<Signature> =
                    keys.iter().map(|p| sign(p.key(kind), kind, publisher, feed, &payload)).collect();
                self.plan(Time(now.0 + 1), name, Happening::Input(Input::Signed { token, signatures }));
            }
            Output::Expand { job, release, depth } => {
                let list = self.expand(name, release, depth);
                self.plan(Time(now.0 + 2), name, Happening::Input(Input::Expanded { job, list: Ok(list) }));
            }
            Output::Assemble { job, .. } => {
                self.plan(Time(now.0 + 2), name, Happening::Input(Input::Assembled { job, result: Ok(()) }));
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
                let other = self.name_of(peer).unwrap();
                self.plan(soon, other, Happening::Serve { asker: name, life, request, chunks, deadline });
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
        WantList { stage, chunks, have }
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
    fn spread(&mut self, name: &'static str, publisher: PublisherId, bytes: &[u8]) {
        let from = self.peer(name);
        for other in self.node(name).links.clone() {
            if self.nodes[other].topics.contains(&publisher) && self.node(other).seen.insert(bytes.to_vec()) {
                let at = Time(self.now.0 + 5 + self.random(self.disorder + 1));
                self.plan(at, other, Happening::Gossip { from, bytes: bytes.to_vec(), publisher });
            }
        }
    }

    /// A forged or replayed gossip message reaches somebody. Gives the verdict.
    pub(crate) fn whisper(&mut self, from: &'static str, to: &'static str, bytes: Vec<u8>) -> Verdict {
        let peer = self.peer(from);
        let node = self.node(to);
        node.next += 1;
        let gossip = node.next;
        self.input(to, Input::Gossiped { peer, gossip, bytes });
        let judged = &self.node(to).judged;
        judged.iter().rev().find(|(g, _)| *g == gossip).map(|(_, v)| *v).expect("every gossip message is judged")
    }

    fn happen(&mut self, name: &'static str, what: Happening) {
        match what {
            Happening::Input(input) => self.input(name, input),
            Happening::Gossip { from, bytes, publisher } => {
                let Some(sender) = self.name_of(from) else { return };
                if self.whisper(sender, name, bytes.clone()) == Verdict::Accept {
                    self.spread(name, publisher, &bytes);
                }
            }
            Happening::Free => {
                self.node(name).busy = false;
                self.send_next(name);
            }
            Happening::Serve { asker, life, request, chunks, deadline } => {
                self.serve(name, asker, life, request, chunks, deadline);
            }
            Happening::Answer { from, request, chunks, outcome } => {
                let node = self.node(name);
                let (Delivery::Came { held, .. } | Delivery::Lied { held, .. } | Delivery::Broke { held }) = &outcome
                else {
                    unreachable!("this world's disks never fill")
                };
                node.chunks.extend(held.ones().map(|i| chunks[i].id));
                self.input(name, Input::Delivered { peer: from, request, outcome });
            }
        }
    }

    fn serve(
        &mut self,
        name: &'static str,
        asker: &'static str,
        life: u32,
        request: Request,
        chunks: Vec<ChunkRef>,
        deadline: Time,
    ) {
        if self.nodes[asker].life != life {
            return;
        }
        let now = self.now;
        let from = self.peer(name);
        let node = self.node(name);
        let none = Bitmap::empty(chunks.len());
        let (at, outcome) = match node.manner {
            Manner::Honest => {
                node.uplink.push_back(Order { asker, life, request, chunks });
                return self.send_next(name);
            }
            Manner::Hangs => (deadline, Delivery::Broke { held: none }),
            Manner::Boasts => (Time(now.0 + 5), Delivery::Came { held: none, bytes: 0 }),
            Manner::Lies => {
                let held = bitmap((0..chunks.len()).map(|i| i == 0 && chunks.len() > 1));
                (Time(now.0 + 5), Delivery::Lied { held, why: "a chunk is not what its id says".into() })
            }
        };
        self.plan(at, asker, Happening::Answer { from, request, chunks, outcome });
    }

    /// Puts the next span on the wire, of another asker than the last one if there is one.
    fn send_next(&mut self, name: &'static str) {
        let (now, from) = (self.now, self.peer(name));
        while !self.nodes[name].busy {
            let Some(Order { asker, life, request, chunks }) = self.node(name).uplink.pop_front() else { return };
            // The asker's other requests go behind everybody else's first ones.
            let rest = self.node(name).uplink.iter().filter(|o| o.asker != asker).count();
            if rest > 0 {
                self.node(name).uplink.make_contiguous().sort_by_key(|o| o.asker == asker);
            }
            if self.nodes[asker].life != life {
                continue;
            }
            let gone = !self.nodes[name].links.contains(asker) || self.nodes[asker].cancelled.contains(&request);
            let node = self.node(name);
            let mut at = Time(now.0 + 5);
            let outcome = if gone {
                Delivery::Broke { held: Bitmap::empty(chunks.len()) }
            } else {
                let held = bitmap(chunks.iter().map(|c| node.chunks.contains(&c.id)));
                let bytes: u64 = held.ones().map(|i| u64::from(chunks[i].len)).sum();
                let free = Time(now.0 + bytes * 1000 / node.rate);
                node.sent += bytes;
                node.busy = true;
                at = Time(free.0 + 5);
                self.plan(free, name, Happening::Free);
                Delivery::Came { held, bytes }
            };
            self.plan(at, asker, Happening::Answer { from, request, chunks, outcome });
        }
    }

    /// The disk catches up: all that waits becomes durable.
    pub(crate) fn sync(&mut self, name: &'static str) {
        for (token, record) in std::mem::take(&mut self.node(name).waiting) {
            self.node(name).kept.push(record);
            self.input(name, Input::Durable(token));
        }
    }

    /// Lets things happen until `done` or for `span`; gives whether it was done.
    pub(crate) fn within(&mut self, span: Span, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + span;
        loop {
            if done(self) {
                return true;
            }
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let wake = self.nodes.iter().filter_map(|(name, n)| n.wakes.first().map(|w| (*w, *name))).min();
            let now = match (next, wake) {
                (Some(at), Some((wake, _))) => at.min(wake),
                (Some(at), None) => at,
                (None, Some((wake, _))) => wake,
                (None, None) => end + Span::millis(1),
            };
            if now > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(now);
            if next == Some(now) {
                let Some((_, (name, life, what))) = self.agenda.pop_first() else { continue };
                if self.nodes[name].life == life {
                    self.happen(name, what);
                }
            } else if let Some((wake, name)) = wake {
                self.node(name).wakes.remove(&wake);
                self.input(name, Input::Woke);
            }
        }
    }
    /// Like [`World::within`], and it must come to pass.
    pub(crate) fn until(&mut self, what: &str, done: impl FnMut(&World) -> bool) {
        assert!(self.within(Span::seconds(600), done), "never came to pass: {what}");
    }
    pub(crate) fn pass(&mut self, span: Span) {
        self.within(span, |_| false);
    }

    pub(crate) fn fetched(&mut self, name: &str, job: Job) -> FetchFigures {
        let of = |n: &Node| {
            n.events.iter().find_map(|e| match e {
                Event::Fetched { job: j, figures } if *j == job => Some(Ok(figures.clone())),
                Event::FetchFailed { job: j, why, no_peer } if *j == job => Some(Err((why.clone(), *no_peer))),
                _ => None,
            })
        };
        self.until("the fetch ends", |w| of(&w.nodes[name]).is_some());
        of(&self.nodes[name]).unwrap().unwrap_or_else(|why| panic!("the fetch failed: {why:?}"))
    }
    pub(crate) fn provision(&mut self, name: &'static str, input: ProvisionInput) {
        self.input(name, Input::Provision(input));
    }
}
