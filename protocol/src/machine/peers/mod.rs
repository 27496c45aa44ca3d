//! Whom to be connected to: target degree, scores, bans, and telling peers of each other.
//! Invariant: whatever peers say, the book, the bans and the dials under way stay within their bounds; an address that
//! the owner or a ticket gave is never pushed out by one that a stranger gave.

mod book;
mod group;

use super::{
    PeerView,
    desk::{Desk, Note},
    exchange::Exchange,
    jitter,
};
use crate::{
    id::{Peer, PublisherId},
    io::{Event, Output, Record, Source},
    message::Message,
    time::{Span, Time},
};
use book::Book;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use book::peer_of;
pub(crate) use group::NetworkGroup;

/// Points for a message that does not decode: versions differ rarely, liars often.
pub(crate) const GARBAGE: u32 = 50;
/// Points for a signature by a key of the role that does not hold: nobody honest passes that on.
pub(crate) const FORGED: u32 = 50;
/// Points for asking too often, or answering what was not asked.
pub(crate) const NOISE: u32 = 5;
/// With so many points a peer is sent away.
const PATIENCE: u32 = 100;
/// One point is forgiven after so long.
const FORGIVE: Span = Span::seconds(6);
/// How long a noisy peer stays away.
const BAN_NOISE: Span = Span::seconds(10 * 60);
/// How long a liar stays away. Not for ever: keys are free, so longer only fills the list.
const BAN_LIE: Span = Span::seconds(60 * 60);
/// Bans remembered; the one that ends first makes room.
const BANS: usize = 1024;
/// Addresses that one message may tell us of.
const TOLD: usize = 32;
/// Addresses that we tell a peer of.
const TELL: usize = 16;
/// Between two tellings to one peer.
const TELL_EVERY: Span = Span::seconds(60);
/// Between two looks at the book while we have fewer peers than we wish.
const LOOK_EVERY: Span = Span::seconds(1);
/// Peers that served us and are remembered across restarts, in one life.
const REMEMBERED: usize = 64;
/// Publishers whose exchange one peer may take part in, as far as we note it.
const INTERESTS: usize = 256;

#[derive(Debug)]
struct Link {
    address: String,
    outbound: bool,
    served: bool,
    points: u32,
    points_at: Time,
    interests: BTreeSet<PublisherId>,
    told: BTreeMap<PublisherId, BTreeSet<String>>,
    heard: Option<Time>,
}

/// See the module.
#[derive(Debug)]
pub struct Peers {
    me: Peer,
    wished: usize,
    links: BTreeMap<Peer, Link>,
    book: Book,
    bans: BTreeMap<Peer, Time>,
    remembered: BTreeSet<String>,
    look: Option<Time>,
    tell: Option<Time>,
}

impl Peers {
    pub(crate) fn new(me: Peer, wished: usize) -> Self {
        Self {
            me,
            wished,
            links: BTreeMap::new(),
            book: Book::default(),
            bans: BTreeMap::new(),
            remembered: BTreeSet::new(),
            look: None,
            tell: None,
        }
    }

    pub(crate) fn views<'a>(&'a self, exchange: &'a Exchange) -> impl Iterator<Item = PeerView<'a>> {
        self.links.iter().map(|(&peer, link)| PeerView {
            peer,
            address: &link.address,
            outbound: link.outbound,
            received: exchange.received_from(peer),
        })
    }
    /// Connected peers in random order, but one of each part of the network before a second of any: whoever asks the first
    /// few asks in as many places as there are.
    pub(crate) fn spread(&self, desk: &mut Desk) -> Vec<Peer> {
        let mut peers: Vec<(Peer, NetworkGroup)> =
            self.links.iter().map(|(p, l)| (*p, NetworkGroup::of(&l.address))).collect();
        desk.shuffle(&mut peers);
        let mut taken: BTreeMap<NetworkGroup, usize> = BTreeMap::new();
        let mut turns: Vec<(usize, Peer)> = Vec::new();
        for (peer, group) in peers {
            let turn = taken.entry(group).or_default();
            turns.push((*turn, peer));
            *turn += 1;
        }
        turns.sort_by_key(|(turn, _)| *turn);
        turns.into_iter().map(|(_, peer)| peer).collect()
    }
    /// How many parts of the network these connected peers are in.
    pub(crate) fn groups(&self, peers: &BTreeSet<Peer>) -> usize {
        let links = peers.iter().filter_map(|p| self.links.get(p));
        links.map(|l| NetworkGroup::of(&l.address)).collect::<BTreeSet<_>>().len()
    }
    pub(crate) fn is_connected(&self, peer: Peer) -> bool {
        self.links.contains_key(&peer)
    }

    /// False when the peer is banned and sent away again.
    pub(crate) fn connected(&mut self, desk: &mut Desk, peer: Peer, address: String, outbound: bool) -> bool {
        if outbound {
            self.book.worked(desk.now, &address, peer);
        }
        if let Some(&until) = self.bans.get(&peer) {
            if until > desk.now {
                desk.out(Output::Disconnect { peer, ban_until: Some(until), why: "it is banned".into() });
                return false;
            }
            self.bans.remove(&peer);
        }
        if let Some(link) = self.links.get_mut(&peer) {
            // A second connection: keep the address that others can use.
            if outbound && !link.outbound {
                link.address = address;
                link.outbound = true;
            }
            return false;
        }
        let link = Link {
            address,
            outbound,
            served: false,
            points: 0,
            points_at: desk.now,
            interests: BTreeSet::new(),
            told: BTreeMap::new(),
            heard: None,
        };
        self.links.insert(peer, link);
        true
    }

    pub(crate) fn disconnected(&mut self, peer: Peer) {
        if self.links.remove(&peer).is_some() {
            self.look = Some(Time(0));
        }
    }

    pub(crate) fn found(&mut self, desk: &mut Desk, address: String, source: Source) {
        if peer_of(&address) == Some(self.me) {
            return;
        }
        self.book.add(address, source, None);
        // What a person names is dialled at once; the rest with the next look.
        self.look_now(desk);
    }

    pub(crate) fn restore(&mut self, address: String) {
        self.remembered.insert(address.clone());
        self.book.add(address, Source::Remembered, None);
        self.look = Some(Time(0));
    }

    pub(crate) fn dial_failed(&mut self, desk: &mut Desk, address: &str) {
        self.book.failed(desk, address);
        self.look_now(desk);
    }

    pub(crate) fn told_of(&mut self, desk: &mut Desk, by: Peer, addresses: Vec<String>) {
        let now = desk.now;
        let Some(link) = self.links.get_mut(&by) else { return };
        if link.heard.is_some_and(|at| now.since(at) < Span(TELL_EVERY.0 / 8)) || addresses.len() > TOLD {
            return desk.punish(by, NOISE, "it tells of peers too often, or of too many".into());
        }
        link.heard = Some(now);
        for address in addresses {
            // Without a peer id an address could point anybody at a victim.
            if peer_of(&address).is_some_and(|p| p != self.me && !self.links.contains_key(&p)) {
                self.book.add(address, Source::PeerExchange, Some(by));
            }
        }
        self.look_now(desk);
    }

    pub(crate) fn interested(&mut self, desk: &mut Desk, peer: Peer, publisher: PublisherId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.interests.len() < INTERESTS && link.interests.insert(publisher) {
            self.tell(desk, peer, publisher);
            self.tell.get_or_insert(desk.now + TELL_EVERY);
        }
    }

    pub(crate) fn forget(&mut self, publisher: PublisherId) {
        for link in self.links.values_mut() {
            link.interests.remove(&publisher);
            link.told.remove(&publisher);
        }
    }

    pub(crate) fn served(&mut self, desk: &mut Desk, peer: Peer) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.served = true;
        if link.outbound && self.remembered.len() < REMEMBERED && self.remembered.insert(link.address.clone()) {
            // Losing it costs a little time at the next start: nobody waits for the answer.
            desk.keep(Record::Address { address: link.address.clone() });
        }
    }

    pub(crate) fn punish(&mut self, desk: &mut Desk, peer: Peer, points: u32, why: String) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let forgiven = desk.now.since(link.points_at).0 / FORGIVE.0;
        link.points = link.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(points);
        link.points_at = desk.now;
        tracing::debug!(%peer, points, %why, "a peer misbehaved");
        if link.points >= PATIENCE {
            self.send_away(desk, peer, BAN_NOISE, why);
        }
    }

    /// A liar: sent away at once, and told to the owner.
    pub(crate) fn ban(&mut self, desk: &mut Desk, peer: Peer, why: String) {
        if self.bans.get(&peer).is_some_and(|until| *until > desk.now) {
            return; // what was on its way when it was sent away
        }
        self.send_away(desk, peer, BAN_LIE, why.clone());
        desk.tell(Event::Liar { peer, why });
    }

    fn send_away(&mut self, desk: &mut Desk, peer: Peer, span: Span, why: String) {
        let until = desk.now + span;
        if self.bans.len() >= BANS
            && let Some(first) = self.bans.iter().min_by_key(|(_, until)| **until).map(|(p, _)| *p)
        {
            self.bans.remove(&first);
        }
        self.bans.insert(peer, until);
        self.links.remove(&peer);
        desk.out(Output::Disconnect { peer, ban_until: Some(until), why });
        desk.note(Note::Gone { peer });
        self.look_now(desk);
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        [self.look, self.tell].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, desk: &mut Desk) {
        let now = desk.now;
        if self.look.is_some_and(|at| at <= now) {
            self.look_now(desk);
        }
        if self.tell.is_some_and(|at| at <= now) {
            self.tell = Some(now + jitter(desk, TELL_EVERY));
            let pairs: Vec<_> = self
                .links
                .iter()
                .flat_map(|(&p, l)| l.interests.iter().map(move |&publisher| (p, publisher)))
                .collect();
            for (peer, publisher) in pairs {
                self.tell(desk, peer, publisher);
            }
        }
    }

    /// Dials what should be dialled now, and says when to look again.
    fn look_now(&mut self, desk: &mut Desk) {
        let now = desk.now;
        self.bans.retain(|_, until| *until > now);
        let outbound = self.links.values().filter(|l| l.outbound).count();
        let room = self.wished.saturating_sub(outbound);
        let (links, bans) = (&self.links, &self.bans);
        let free = |peer: Peer| !links.contains_key(&peer) && !bans.contains_key(&peer);
        for address in self.book.choose(desk, room, free) {
            desk.out(Output::Dial { address });
        }
        let next = self.book.next_try(now, room > 0, free);
        self.look = next.map(|at| at.max(now + LOOK_EVERY).max(Time(now.0 + 1)));
    }

    /// Tells a peer of others that take part in the same exchange, if there is news.
    fn tell(&mut self, desk: &mut Desk, peer: Peer, publisher: PublisherId) {
        let mut addresses: Vec<String> = self
            .links
            .iter()
            .filter(|(p, l)| **p != peer && (l.outbound || l.served) && l.interests.contains(&publisher))
            .filter(|(p, l)| l.outbound && peer_of(&l.address) == Some(**p))
            .map(|(_, l)| l.address.clone())
            .collect();
        desk.shuffle(&mut addresses);
        addresses.truncate(TELL);
        let Some(link) = self.links.get_mut(&peer) else { return };
        let known = link.told.entry(publisher).or_default();
        addresses.retain(|a| !known.contains(a));
        if addresses.is_empty() {
            return;
        }
        if known.len() > 4 * TELL {
            known.clear();
        }
        known.extend(addresses.iter().cloned());
        desk.send(peer, &Message::Peers { publisher, addresses });
    }
}
