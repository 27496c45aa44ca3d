//! The core: inputs in, outputs out. It routes to its children and waits for nothing.
//!
//! Children: [`feeds`] knows publishers and verifies what they say, [`gossip`] talks about feeds, [`publish`] appends
//! to own ones, [`restate`] says that they are current, [`exchange`] brings content, [`peers`] chooses whom to be connected to, [`provision`] leads a
//! generation's life. A child never calls another: what concerns another is left as a note, which the core hands on.
//! Invariant: equal settings and equal inputs at equal times give equal outputs.

mod claims;
mod desk;
pub mod exchange;
pub(crate) mod feeds;
pub mod gossip;
pub mod peers;
pub(crate) mod pieces;
pub mod provision;
pub mod publish;
pub mod refresh;
mod relay;
pub mod restate;

use crate::{
    feed::{Behind, Difference, FeedState, Freshness, Head, Position, Revocation, Term},
    id::{Digest, Peer, PublisherId, ReleaseId},
    io::{Depth, FetchFigures, Input, Job, Output, Record, Refusals, Stage, Step},
    message::Message,
    ticket::{Contradiction, Ticket},
    time::{Span, Time},
};
use desk::{Desk, Note};
pub use feeds::{Condensed, condense};
use std::sync::Arc;

/// A core with anything to wait for looks again after this at the latest.
const LONGEST_SLEEP: Span = Span::days(1);

/// What a node is told at birth.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we are.
    pub me: Peer,
    /// Seed of every random choice of the core.
    pub seed: u64,
    /// Peers that we wish to be connected to.
    pub outbound: usize,
    /// When the program was built: a clock that shows less is wrong.
    pub built: Time,
}

/// What is known of a publisher, as durable here.
#[derive(Debug, Clone)]
pub struct PublisherView<'a> {
    /// Who.
    pub publisher: PublisherId,
    /// This node publishes as it.
    pub own: bool,
    /// Newest verified root version; 0 while not even the first has come.
    pub root_version: u64,
    /// Digest of that root's payload; zero while there is none.
    pub root_digest: Digest,
    /// Head and catalogue: shared, as a catalogue is long.
    pub feed: &'a Arc<FeedState>,
    /// How far it may be believed.
    pub freshness: Freshness,
    /// Until when that holds, and what comes then; none while nothing of it may be shown.
    pub term: Option<Term>,
    /// Something newer of it was verified here once and is lost: it is not fresh, whatever was said.
    pub behind: Option<Behind>,
    /// The protocol that its newest root document asks for, where this program does not speak it.
    pub needs: Option<u16>,
    /// It spoke twice, or its root chain forked.
    pub frozen: bool,
    /// Where its two histories part, when that is proven.
    pub difference: Option<Difference>,
    /// It is our own, and the keys at hand do not suffice to say that it is current.
    pub unstated: bool,
    /// A newcomer can verify the head: keys that the newest root names signed it, or the root names the entry.
    pub signed: bool,
    /// A ticket tells of this root version and this place, and nobody has shown both: it is not fresh before.
    pub promised: Option<(u64, Position)>,
    /// The entry that was handed out to be signed elsewhere and has not come back: its payload.
    pub requested: Option<&'a [u8]>,
    /// Addresses of its ticket.
    pub addresses: &'a [String],
}

/// A fetch that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferView {
    /// Which.
    pub job: Job,
    /// Of what.
    pub release: ReleaseId,
    /// How deep.
    pub depth: Depth,
    /// The present stage; none while the store is asked.
    pub stage: Option<Stage>,
    /// Bytes of the present stage that are here.
    pub bytes: u64,
    /// Bytes of the present stage.
    pub of: u64,
    /// Peers that have something of it.
    pub peers: usize,
    /// The core fetches it by itself, so that this device knows what it holds of new releases.
    pub own_wish: bool,
    /// Bytes of content a second, lately; none before anything came for a second.
    pub rate: Option<u64>,
    /// What it cost until now, all stages together.
    pub figures: FetchFigures,
}

/// A connected peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView<'a> {
    /// Who.
    pub peer: Peer,
    /// Where.
    pub address: &'a str,
    /// We dialled.
    pub outbound: bool,
    /// Content bytes that came from it and were of use.
    pub received: u64,
}

/// All state of a node that decides anything.
#[derive(Debug)]
pub struct Core {
    desk: Desk,
    peers: peers::Peers,
    feeds: feeds::Feeds,
    gossip: gossip::Gossip,
    refresh: refresh::Refresh,
    restate: restate::Restate,
    publish: publish::Publish,
    exchange: exchange::Exchange,
    provision: provision::Provision,
    /// The earliest wake-up that the driver was asked for and that has not come.
    wake: Option<Time>,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            desk: Desk::new(settings.me, settings.seed).built(settings.built),
            peers: peers::Peers::new(settings.me, settings.outbound),
            feeds: feeds::Feeds::default(),
            gossip: gossip::Gossip::default(),
            refresh: refresh::Refresh::default(),
            restate: restate::Restate::default(),
            publish: publish::Publish::default(),
            exchange: exchange::Exchange::default(),
            provision: provision::Provision::default(),
            wake: None,
        }
    }

    /// Takes one input at `now`; outputs are to be carried out in order. `now` never goes back, or timers would wait for the
    /// difference; of a clock that does, [`Input::SetBack`] tells.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        self.desk.now = now;
        if let Input::Restored(record) = input {
            self.restore(record);
            // Nothing else is done before all records are back: the first wake-up starts the node's own life.
            self.wake_at(now);
            return self.desk.take();
        }
        self.route(input);
        self.hand_on_notes();
        if self.wake.is_none_or(|at| at <= now) {
            self.wake = None;
            self.tick();
        }
        self.hand_on_notes();
        self.refresh.settle(&mut self.desk, &self.feeds, &self.restate, &self.peers);
        if let Some(at) = self.next_wake() {
            // A date that somebody signed may be at the end of time; timers of drivers need not reach that far.
            self.wake_at(at.clamp(now + Span::millis(1), now + LONGEST_SLEEP));
        }
        self.desk.take()
    }

    /// All publishers that are followed or own, ascending by id.
    pub fn publishers(&self) -> impl Iterator<Item = PublisherView<'_>> {
        let unstated = |p: PublisherId| self.restate.is_unable(p);
        let views = self.feeds.views(self.desk.moment());
        views.map(move |v| PublisherView { unstated: unstated(v.publisher), ..v })
    }
    /// One publisher.
    pub fn publisher(&self, publisher: PublisherId) -> Option<PublisherView<'_>> {
        let view = self.feeds.view(publisher, self.desk.moment())?;
        Some(PublisherView { unstated: self.restate.is_unable(publisher), ..view })
    }
    /// Where a ticket names another history than the one that is known of its publisher: following it takes nothing of it.
    pub fn contradiction(&self, ticket: &Ticket) -> Option<Contradiction> {
        self.feeds.contradiction(ticket)
    }
    /// What stands at this number of a feed, where a root may reopen it: the catalogue at it can be had again here.
    pub fn reopens_at(&self, publisher: PublisherId, seq: u64) -> Option<Head> {
        self.feeds.get(publisher)?.trail.head_at(seq)
    }
    /// Revocations that a new epoch gave up, of releases that are still listed. They are shown, but newcomers do not hear of
    /// them until the publisher says them again: whoever opens the epoch does so, once.
    pub fn unsaid(&self, publisher: PublisherId) -> Vec<(ReleaseId, Revocation)> {
        let feed = self.feeds.get(publisher).into_iter();
        feed.flat_map(feeds::Feed::unsaid).map(|(release, said)| (release, said.clone())).collect()
    }
    /// The root chain of a publisher as envelopes, version 1 first, as far as it is durable.
    pub fn roots(&self, publisher: PublisherId) -> &[Vec<u8>] {
        self.feeds.get(publisher).map_or(&[], |feed| feed.roots.as_slice())
    }
    /// Releases that may resemble this one: other versions of the same distro, and what they improve on. Newest first.
    pub fn kin(&self, release: ReleaseId) -> Vec<ReleaseId> {
        self.feeds.kin(release)
    }
    /// Fetches that go on.
    pub fn transfers(&self) -> Vec<TransferView> {
        self.exchange.transfers(self.desk.now)
    }
    /// What was refused in this life, by the step of verification that refused it.
    pub fn refusals(&self) -> Refusals {
        self.desk.refusals
    }
    /// All connected peers, ascending by id.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.peers.views(&self.exchange)
    }

    fn restore(&mut self, record: Record) {
        match record {
            Record::Address { address } => self.peers.restore(address),
            other => self.feeds.restore(&mut self.desk, other),
        }
        self.hand_on_notes();
    }

    fn route(&mut self, input: Input) {
        let desk = &mut self.desk;
        match input {
            Input::Restored(_) | Input::Woke => {}
            Input::SetBack { behind } => {
                desk.set_back(behind);
                self.feeds.tick(desk);
            }
            Input::Connected { peer, address, outbound } => {
                if self.peers.connected(desk, peer, address, outbound) {
                    self.gossip.connected(desk, &self.feeds, peer);
                    self.exchange.connected(desk, peer);
                }
            }
            Input::Disconnected { peer } => {
                self.refresh.disconnected(peer);
                self.peers.disconnected(desk, peer);
                self.gossip.disconnected(peer);
                self.exchange.disconnected(desk, peer);
            }
            Input::Broke { peer, why } => self.peers.broke(desk, peer, why),
            Input::Found { address, source } => self.peers.found(desk, address, source),
            Input::DialFailed { address } => self.peers.dial_failed(desk, &address),
            Input::Received { peer, bytes } => self.received(peer, &bytes),
            Input::Gossiped { peer, gossip, bytes } => {
                self.gossip.gossiped(desk, &mut self.feeds, peer, gossip, &bytes);
            }
            Input::Durable(token) => {
                self.feeds.durable(desk, token);
                self.publish.durable(desk, &mut self.feeds, token);
            }
            Input::NotKept { token, why } => {
                self.feeds.not_kept(desk, token, &why);
                self.publish.not_kept(desk, &mut self.feeds, token, &why);
            }
            Input::Signed { token, signatures } => {
                if let Some(signatures) = self.restate.signed(desk, &mut self.feeds, token, signatures) {
                    self.publish.signed(desk, &mut self.feeds, token, signatures);
                }
            }
            Input::Follow { ticket } => {
                self.feeds.follow(desk, &ticket);
                self.gossip.ask_around(desk, &self.feeds, ticket.publisher);
            }
            Input::Refresh { job, publisher } => {
                let peers = self.peers.diverse(desk);
                let asked = self.gossip.ask_these(desk, &self.feeds, publisher, &peers);
                self.refresh.begin(desk, job, publisher, asked);
            }
            Input::Unfollow { publisher } => self.feeds.unfollow(desk, publisher),
            Input::Own { publisher, roots } => self.feeds.own(desk, publisher, &roots),
            Input::Lossy(lossy) => self.feeds.lossy(lossy),
            Input::Marked { publisher, head } => self.feeds.marked(desk, publisher, head),
            Input::Publish { job, publisher, action, request } => {
                self.append(job, publisher, publish::Work::New { action: Box::new(action), request });
            }
            Input::PublishBy { job, publisher, key, action } => {
                self.append(job, publisher, publish::Work::By { key, action: Box::new(action) });
            }
            Input::Append { job, publisher, envelope } => {
                self.append(job, publisher, publish::Work::Signed(envelope));
            }
            Input::Resign { job, publisher, request } => {
                self.append(job, publisher, publish::Work::Again { request });
            }
            Input::Withdraw { publisher } => self.feeds.withdraw(publisher),
            // As after an entry.
            Input::Freshen { publisher } => desk.note(Note::Published { publisher }),
            Input::Fetch { job, release, depth } => self.exchange.fetch(desk, job, release, depth),
            Input::Abandon { job } => self.exchange.abandon(desk, job),
            Input::Expanded { job, list } => self.exchange.expanded(desk, job, list),
            Input::Delivered { peer, request, outcome, spent } => {
                self.exchange.delivered(desk, peer, request, &outcome, &spent);
            }
            Input::Assembled { job, result } => self.exchange.assembled(desk, job, result),
            Input::Surveyed { peer, release, held } => self.exchange.surveyed(desk, peer, release, held),
            Input::Provision(input) => self.provision.handle(desk, input),
        }
    }

    fn append(&mut self, job: Job, publisher: PublisherId, work: publish::Work) {
        let ahead = self.gossip.ahead(&mut self.desk, &self.feeds, publisher);
        self.publish.begin(&mut self.desk, &mut self.feeds, job, publisher, work, ahead);
    }

    fn received(&mut self, peer: Peer, bytes: &[u8]) {
        let desk = &mut self.desk;
        if !self.peers.is_connected(peer) {
            return;
        }
        let message = match crate::codec::decode::<Message>(bytes) {
            Ok(message) => message,
            Err(error) => {
                desk.refused(error.step());
                return desk.punish(peer, peers::GARBAGE, error.to_string());
            }
        };
        match message {
            Message::Heads(heads) => self.gossip.heads(desk, &self.feeds, peer, heads),
            Message::Pull { publisher, root, head } => {
                self.gossip.pulled(desk, &self.feeds, peer, publisher, root, head);
            }
            Message::Feed { publisher, roots, snapshot, entries, fresh, more } => {
                let page = feeds::Page { roots, snapshot, entries, fresh, more };
                if self.gossip.fed(desk, &mut self.feeds, peer, publisher, page) {
                    self.refresh.answered(peer, publisher, self.gossip.follows(peer, publisher));
                }
            }
            Message::PullSnapshot { publisher, snapshot, from } => {
                self.gossip.pulled_snapshot(desk, &self.feeds, peer, (publisher, snapshot, from));
            }
            Message::Snapshot { publisher, snapshot, from, of, piece } => {
                let (which, place) = ((publisher, snapshot), (from, of));
                if self.gossip.brought(desk, &mut self.feeds, peer, which, place, &piece.0) {
                    self.refresh.answered(peer, publisher, self.gossip.follows(peer, publisher));
                }
            }
            Message::Have { release } => self.exchange.asked(desk, peer, release),
            Message::Has { release, chunks } => self.exchange.has(desk, peer, release, chunks),
            Message::Peers { publisher, addresses } => {
                if self.feeds.knows(publisher) {
                    self.peers.told_of(desk, peer, addresses);
                }
            }
        }
    }

    fn hand_on_notes(&mut self) {
        // Notes make notes rarely and never in a circle; the bound only guards against a mistake of ours.
        for _ in 0..64 {
            let notes = self.desk.take_notes();
            if notes.is_empty() {
                return;
            }
            let desk = &mut self.desk;
            for note in notes {
                match note {
                    Note::Punish { peer, points, why } => self.peers.punish(desk, peer, points, why),
                    Note::Liar { peer, why } => {
                        desk.refused(Step::Content);
                        self.peers.ban(desk, peer, why);
                    }
                    Note::Gone { peer } => {
                        self.refresh.disconnected(peer);
                        self.gossip.disconnected(peer);
                        self.exchange.disconnected(desk, peer);
                    }
                    Note::Served { peer } => self.peers.served(desk, peer),
                    Note::Interested { peer, publisher } => self.peers.interested(desk, peer, publisher),
                    Note::Learned { address, source } => self.peers.found(desk, address, source),
                    Note::Settled { publisher, kept } => self.gossip.settled(desk, publisher, kept),
                    Note::Moved { publisher } => {
                        self.gossip.announce(desk, &self.feeds, publisher);
                        self.exchange.wish(desk, self.feeds.newest(publisher));
                    }
                    Note::Unfollowed { publisher } => self.peers.forget(publisher),
                    Note::Tend { publisher } => self.publish.tend(desk, &mut self.feeds, publisher),
                    Note::Published { publisher } => self.restate.state(desk, &self.feeds, publisher),
                }
            }
        }
    }

    fn tick(&mut self) {
        let desk = &mut self.desk;
        self.peers.tick(desk);
        self.feeds.tick(desk);
        self.gossip.tick(desk, &self.feeds);
        self.restate.tick(desk, &self.feeds);
        self.exchange.tick(desk);
        self.provision.tick(desk);
    }

    fn next_wake(&self) -> Option<Time> {
        let wishes = [
            self.peers.wake(),
            self.feeds.wake(&self.desk),
            self.gossip.wake(&self.feeds),
            self.restate.wake(&self.desk, &self.feeds),
            self.exchange.wake(),
            self.refresh.wake(),
            self.provision.wake(),
        ];
        wishes.into_iter().flatten().min()
    }

    /// Asks for a wake-up unless an earlier or equal one is on its way.
    fn wake_at(&mut self, at: Time) {
        if self.wake.is_none_or(|asked| at < asked) {
            self.wake = Some(at);
            self.desk.out(Output::Wake(at));
        }
    }
}

/// `span` with a random part of up to a quarter more or less, so that devices started together do not act together.
fn jitter(desk: &mut Desk, span: Span) -> Span {
    Span(span.0 - span.0 / 4 + desk.below(span.0 / 2 + 1))
}
