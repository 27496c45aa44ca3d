//! A small world for stories: named peers with the real core, a store that only remembers which chunks it has, messages
//! that take five milliseconds, and an agenda instead of a clock. Invariant: nothing happens but what the agenda says,
//! in its order, so a story always ends the same way.

mod node;
mod outputs;
mod uplink;

pub(crate) use crate::cast::*;
pub(crate) use node::Node;
pub(crate) use uplink::Manner;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use softservice_protocol::{
    chunk::ChunkRef,
    feed::{Action, Head, Listing},
    id::{Peer, PublisherId, ReleaseId},
    io::{Delivery, Depth, Event, FetchFigures, Input, Job, ProvisionInput, Request, Spent, Stage},
    release::ReleaseRef,
    time::{Span, Time},
};
use std::collections::BTreeMap;
use uplink::Order;

enum Happening {
    /// The uplink is free for the next span.
    Free,
    Input(Input),
    /// A peer is asked for chunks.
    Serve {
        order: Order,
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
        self.nodes.insert(name, Node::new(name, seed));
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
        for record in self.node(name).reborn() {
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
        self.append(name, publisher, Action::Release(listing))
    }
    pub(crate) fn append(&mut self, name: &'static str, publisher: &Publisher, action: Action) -> Job {
        let job = self.node(name).job();
        self.input(name, Input::Publish { job, publisher: publisher.id, action, request: false });
        job
    }
    /// Publishes, or hands out what is to be signed elsewhere.
    pub(crate) fn request(&mut self, name: &'static str, publisher: &Publisher, action: Action) -> Job {
        let job = self.node(name).job();
        self.input(name, Input::Publish { job, publisher: publisher.id, action, request: true });
        job
    }
    /// Brings an entry that was signed elsewhere.
    pub(crate) fn bring(&mut self, name: &'static str, publisher: &Publisher, envelope: Vec<u8>) -> Job {
        let job = self.node(name).job();
        self.input(name, Input::Append { job, publisher: publisher.id, envelope });
        job
    }
    pub(crate) fn fetch(&mut self, name: &'static str, release: ReleaseRef, depth: Depth) -> Job {
        let job = self.node(name).job();
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
        let now = Time(self.now.0 - self.node(name).behind.0);
        let outputs = self.node(name).core.handle(now, input);
        for output in outputs {
            self.carry(name, output);
        }
    }

    fn happen(&mut self, name: &'static str, what: Happening) {
        match what {
            Happening::Input(input) => self.input(name, input),
            Happening::Gossip { from, bytes, publisher } => self.hear(from, name, publisher, bytes),
            Happening::Free => {
                self.node(name).uplink.busy = false;
                self.send_next(name);
            }
            Happening::Serve { order, deadline } => self.serve(name, order, deadline),
            Happening::Answer { from, request, chunks, outcome } => {
                let node = self.node(name);
                let (Delivery::Came { held, .. } | Delivery::Lied { held, .. } | Delivery::Broke { held }) = &outcome
                else {
                    unreachable!("this world's disks never fill")
                };
                node.chunks.extend(held.ones().map(|i| chunks[i].id));
                // What is a lie comes over the wire as well: the first chunk that is not held, after what is. Of who was sent
                // away nothing comes any more.
                let lie = (0..held.len()).find(|i| !held.get(*i)).filter(|_| matches!(outcome, Delivery::Lied { .. }));
                let wire: u64 = held.ones().chain(lie).map(|i| u64::from(chunks[i].len)).sum();
                let wire = if self.nodes[name].links.iter().any(|n| self.peer(n) == from) { wire } else { 0 };
                let spent = Spent { wire, ..Spent::default() };
                self.input(name, Input::Delivered { peer: from, request, outcome, spent });
            }
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
