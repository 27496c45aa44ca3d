//! Whom to be connected to: target degree, scores, bans, shares of network groups, and telling peers of each other.
//! Invariant: whatever peers say, the book, the bans and the dials under way stay within their bounds; an address that
//! the owner or a ticket gave is never pushed out by one that a stranger gave, and no network group fills what others need.

mod book;
mod conduct;
mod crowd;
pub mod group;

use super::{
    PeerView,
    desk::{Desk, Note},
    exchange::Exchange,
    jitter,
};
use crate::{
    id::{Peer, PublisherId},
    io::{Event, Output, Record, Source},
    limits,
    message::Message,
    time::{Span, Time},
};
use book::{Book, Teller};
use conduct::{Conduct, PATIENCE};
use crowd::{Place, Standing};
use group::NetworkGroup;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use book::peer_of;

/// Points for a message that does not decode: versions differ rarely, liars often.
pub(crate) const GARBAGE: u32 = 50;
/// Points for a signature by a key of the role that does not hold: nobody honest passes that on.
pub(crate) const FORGED: u32 = 50;
/// Points for asking too often, or answering what was not asked.
pub(crate) const NOISE: u32 = 5;
/// Points for gossip that keys signed which no root here names: sometimes the root here is old, so it takes many.
pub(crate) const DOUBT: u32 = 2;
/// How long a noisy peer stays away.
const BAN_NOISE: Span = Span::seconds(10 * 60);
/// How long a liar stays away. Not for ever: keys are free, so longer only fills the list.
const BAN_LIE: Span = Span::seconds(60 * 60);
/// An outbound connection that lasts less is one that the other side does not want: its address waits like a failed one.
const HOLDS: Span = Span::seconds(10);
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
/// Who served us is more than a stranger for so long. Not for good: one useful answer would buy a place for life, and an
/// attacker can give as many answers as there are places.
const SERVED: Span = Span::seconds(60 * 60);
/// Publishers whose exchange one peer may take part in, as far as we note it.
const INTERESTS: usize = 256;

#[derive(Debug)]
struct Link {
    address: String,
    outbound: bool,
    /// When it served us last.
    served: Option<Time>,
    /// The owner or a ticket names it.
    named: bool,
    group: NetworkGroup,
    since: Time,
    /// How many came before it.
    came: u64,
    interests: BTreeSet<PublisherId>,
    told: BTreeMap<PublisherId, BTreeSet<String>>,
    heard: Option<Time>,
}

impl Link {
    fn standing(&self, now: Time) -> Standing {
        match self {
            Self { named: true, .. } => Standing::Named,
            Self { served: Some(at), .. } if now.since(*at) < SERVED => Standing::Served,
            _ => Standing::Stranger,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Peers {
    me: Peer,
    wished: usize,
    links: BTreeMap<Peer, Link>,
    book: Book,
    conduct: Conduct,
    /// Connections that stood, ever.
    arrivals: u64,
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
            conduct: Conduct::default(),
            arrivals: 0,
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
    /// How many parts of the network these connected peers are in.
    pub(crate) fn groups(&self, peers: &BTreeSet<Peer>) -> usize {
        let links = peers.iter().filter_map(|p| self.links.get(p));
        links.map(|l| l.group).collect::<BTreeSet<_>>().len()
    }
    /// Connected peers in an order of chance in which no network group comes twice before each has come once: what the
    /// first few say was not said by one party alone, if there is another.
    pub(crate) fn diverse(&self, desk: &mut Desk) -> Vec<Peer> {
        let mut peers: Vec<(usize, Peer)> = self.links.keys().map(|peer| (0, *peer)).collect();
        desk.shuffle(&mut peers);
        let mut groups: BTreeMap<NetworkGroup, usize> = BTreeMap::new();
        for (turn, peer) in &mut peers {
            let of_group = self.links.get(peer).map_or(NetworkGroup::Unknown, |l| l.group);
            let before = groups.entry(of_group).or_default();
            *turn = *before;
            *before += 1;
        }
        peers.sort_by_key(|(turn, _)| *turn);
        peers.into_iter().map(|(_, peer)| peer).collect()
    }
    pub(crate) fn is_connected(&self, peer: Peer) -> bool {
        self.links.contains_key(&peer)
    }

    /// False when the peer is banned and sent away again.
    pub(crate) fn connected(&mut self, desk: &mut Desk, peer: Peer, address: String, outbound: bool) -> bool {
        if outbound {
            self.book.worked(desk.now, &address, peer);
        }
        // Also a handshake that was under way when it was banned.
        if let Some(until) = self.conduct.banned(desk.now, peer) {
            desk.out(Output::Disconnect { peer, ban_until: Some(until), why: "it is banned".into() });
            return false;
        }
        if let Some(link) = self.links.get_mut(&peer) {
            // A second connection: keep the address that others can use.
            if outbound && !link.outbound {
                link.group = NetworkGroup::of(&address);
                link.address = address;
                link.outbound = true;
            }
            return false;
        }
        self.arrivals += 1;
        let link = Link {
            named: self.book.names(peer, &address),
            group: NetworkGroup::of(&address),
            address,
            outbound,
            served: None,
            since: desk.now,
            came: self.arrivals,
            interests: BTreeSet::new(),
            told: BTreeMap::new(),
            heard: None,
        };
        self.links.insert(peer, link);
        let away = self.make_room(desk, outbound);
        if let Some(other) = away.filter(|other| *other != peer) {
            desk.note(Note::Gone { peer: other });
        }
        away != Some(peer)
    }

    /// Sends away who gives way when more are connected in one direction than there is room for. While there is room,
    /// everybody is let in, from whatever group.
    fn make_room(&mut self, desk: &mut Desk, outbound: bool) -> Option<Peer> {
        // What the owner names is dialled beyond the wished degree, so there is room for more than that.
        let room = if outbound { 2 * self.wished } else { limits::INBOUND_PEERS };
        let now = desk.now;
        let place = |(peer, link): (&Peer, &Link)| Place::of(*peer, &link.address, link.standing(now), link.came);
        let places: Vec<Place> = self.links.iter().filter(|(_, l)| l.outbound == outbound).map(place).collect();
        if places.len() <= room {
            return None;
        }
        let peer = crowd::gives_way(&places)?;
        let gone = self.links.remove(&peer)?;
        if gone.outbound {
            self.book.refused(desk, peer, &gone.address);
        }
        desk.out(Output::Disconnect { peer, ban_until: None, why: "others need its place".into() });
        Some(peer)
    }

    pub(crate) fn disconnected(&mut self, desk: &mut Desk, peer: Peer) {
        if let Some(link) = self.links.remove(&peer) {
            if link.outbound && desk.now.since(link.since) < HOLDS {
                self.book.refused(desk, peer, &link.address);
            } else {
                self.book.held(peer, &link.address);
            }
            self.look = Some(Time(0));
        }
    }

    pub(crate) fn found(&mut self, desk: &mut Desk, address: String, source: Source) {
        if peer_of(&address) == Some(self.me) {
            return;
        }
        let peer = self.book.add(address, source, None).filter(|_| source <= Source::Ticket);
        if let Some(link) = peer.and_then(|p| self.links.get_mut(&p)) {
            link.named = true;
        }
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
        let teller = Teller { peer: by, group: link.group };
        for address in addresses {
            // Without a peer id an address could point anybody at a victim.
            let names = peer_of(&address).is_some_and(|p| p != self.me && !self.links.contains_key(&p));
            // Nobody is blamed for the rest: an older program tells what it sees of its own LAN.
            if names && teller.group.may_send_to(NetworkGroup::of(&address)) {
                self.book.add(address, Source::PeerExchange, Some(teller));
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
        link.served = Some(desk.now);
        if link.outbound && self.remembered.len() < REMEMBERED && self.remembered.insert(link.address.clone()) {
            // Losing it costs a little time at the next start: nobody waits for the answer.
            desk.keep(Record::Address { address: link.address.clone() });
        }
    }

    pub(crate) fn punish(&mut self, desk: &mut Desk, peer: Peer, points: u32, why: String) {
        if !self.links.contains_key(&peer) {
            return;
        }
        let has = self.conduct.note(desk.now, peer, points);
        tracing::debug!(%peer, points, %why, "a peer misbehaved");
        if has >= PATIENCE {
            self.send_away(desk, peer, BAN_NOISE, why);
        }
    }

    /// A peer broke the protocol below the messages: it is sent away, and each time counts, however often it comes back.
    pub(crate) fn broke(&mut self, desk: &mut Desk, peer: Peer, why: String) {
        self.punish(desk, peer, GARBAGE, why.clone());
        if self.links.remove(&peer).is_some() {
            desk.out(Output::Disconnect { peer, ban_until: None, why });
            desk.note(Note::Gone { peer });
        }
    }

    /// A liar: sent away at once, and told to the owner.
    pub(crate) fn ban(&mut self, desk: &mut Desk, peer: Peer, why: String) {
        if self.conduct.banned(desk.now, peer).is_some() {
            return; // what was on its way when it was sent away
        }
        self.send_away(desk, peer, BAN_LIE, why.clone());
        desk.tell(Event::Liar { peer, why });
    }

    fn send_away(&mut self, desk: &mut Desk, peer: Peer, span: Span, why: String) {
        let until = desk.now + span;
        self.conduct.ban(desk.now, peer, until);
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
        let mut groups: BTreeMap<NetworkGroup, usize> = BTreeMap::new();
        for link in self.links.values().filter(|l| l.outbound) {
            *groups.entry(link.group).or_default() += 1;
        }
        // Beyond its share a group's connections do not count: others are looked for as if they were not there.
        let share = book::share(self.wished);
        let counted =
            |(group, count): (&NetworkGroup, &usize)| if group.is_public() { share.min(*count) } else { *count };
        let room = self.wished.saturating_sub(groups.iter().map(counted).sum());
        let (links, conduct) = (&self.links, &self.conduct);
        let free = |peer: Peer| !links.contains_key(&peer) && conduct.banned(now, peer).is_none();
        for address in self.book.choose(desk, room, share, groups, free) {
            desk.out(Output::Dial { address });
        }
        let next = self.book.next_try(now, room > 0, free);
        self.look = next.map(|at| at.max(now + LOOK_EVERY).max(Time(now.0 + 1)));
    }

    /// Tells a peer of others that take part in the same exchange, if there is news.
    /// Only where we got through ourselves, and nothing of our LAN to who is not in it.
    fn tell(&mut self, desk: &mut Desk, peer: Peer, publisher: PublisherId) {
        let Some(to) = self.links.get(&peer).map(|l| l.group) else { return };
        let others = self.links.iter().filter(|(p, l)| **p != peer && l.outbound && l.interests.contains(&publisher));
        let mut addresses: Vec<String> = others
            .filter(|(p, l)| peer_of(&l.address) == Some(**p) && to.may_send_to(l.group))
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
