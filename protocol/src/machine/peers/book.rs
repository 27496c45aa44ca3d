//! The address book: what was heard of, from whom, and when it may be dialled again.
//! Invariant: each source has its own bound, so that no source can push out another's addresses, and within it no network
//! group holds what another one needs, neither by the addresses in it nor by the addresses that its peers told us: what an
//! address claims costs nobody anything, where its teller is does. One dial a peer at a time; the pause after a failure
//! doubles, with chance in it, up to the source's longest.
//!
//! Where we once got through is known to be good: it is dialled before what was only heard of, and no hearsay takes
//! its place. Bitcoin's tables of new and tried addresses, and its buckets by source, are where both rules come from.

use super::group::NetworkGroup;
use crate::{
    id::Peer,
    io::Source,
    machine::desk::Desk,
    time::{Span, Time},
};
use std::collections::{BTreeMap, BTreeSet};

/// Characters of an address; libp2p's longest useful ones, relays included, stay below.
const ADDRESS_BYTES: usize = 256;
/// Dials under way.
const DIALS: usize = 8;
/// A dial that was never answered counts as failed after this.
const DIAL_LASTS: Span = Span::seconds(30);
/// First pause after a failure.
const PAUSE: Span = Span::seconds(1);
/// Longest pause for what a person named: whoever types an address waits for it.
const PAUSE_NAMED: Span = Span::seconds(30);
/// Longest pause for the rest.
const PAUSE_REST: Span = Span::seconds(10 * 60);
/// Failures in a row after which what a stranger said is forgotten.
const FAILURES: u32 = 6;
/// Addresses that one peer may have in the book.
const FROM_ONE: usize = 32;

/// Who told us of an address, and where that one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Teller {
    pub(super) peer: Peer,
    pub(super) group: NetworkGroup,
}

#[derive(Debug)]
struct Known {
    peer: Option<Peer>,
    group: NetworkGroup,
    source: Source,
    by: Option<Teller>,
    /// We got through to it, and have not failed too often since.
    good: bool,
    failures: u32,
    next: Time,
    /// Under way until then.
    dialling: Option<Time>,
}

/// An address that may be dialled now; the first in order is dialled first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    stranger: bool,
    /// Connections and dials of its group.
    crowding: usize,
    /// Whether it never worked, source, failures, whether it is QUIC, chance.
    quality: (bool, Source, u32, bool, u32),
    address: String,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    known: BTreeMap<String, Known>,
}

/// Addresses that a source may have in the book.
fn bound(source: Source) -> usize {
    match source {
        Source::Owner | Source::Ticket => 256,
        Source::Lan | Source::PeerExchange => 256,
        Source::Dht | Source::Remembered => 128,
    }
}

/// Of so many places, those that one group of the internet may take by what strangers say. Few enough that an attacker
/// with one network gains little, and enough to live on where all honest peers are in one.
pub(super) fn share(places: usize) -> usize {
    (places / 4).max(2)
}

fn is_named(source: Source) -> bool {
    matches!(source, Source::Owner | Source::Ticket)
}

impl Book {
    /// Takes an address, if there is room for it; gives the peer that it names.
    pub(super) fn add(&mut self, address: String, source: Source, by: Option<Teller>) -> Option<Peer> {
        if address.is_empty() || address.len() > ADDRESS_BYTES || address.chars().any(char::is_control) {
            return None;
        }
        if let Some(known) = self.known.get_mut(&address) {
            // The better source wins; what the owner types is tried at once, what the network shows again soon.
            if source == Source::Owner || (source == Source::Lan && known.failures > 0) {
                known.next = Time(0);
                known.failures = 0;
            }
            // Hearsay moves nothing among the sources: where we got through, or a neighbour of the LAN, would stand where
            // whoever tells us most has a say in what is forgotten.
            if by.is_none() {
                known.source = known.source.min(source);
            }
            return known.peer;
        }
        if by.is_some_and(|by| self.count(|k| k.by.is_some_and(|b| b.peer == by.peer)) >= FROM_ONE) {
            return None;
        }
        let group = NetworkGroup::of(&address);
        if !self.has_room(source, group, by.map(|by| by.group)) {
            return None;
        }
        let peer = peer_of(&address);
        let known = Known { peer, group, source, by, good: false, failures: 0, next: Time(0), dialling: None };
        self.known.insert(address, known);
        peer
    }

    /// Whether a newcomer of this group, told by somebody of that one, has room among the addresses of its source, perhaps
    /// in place of another.
    fn has_room(&mut self, source: Source, group: NetworkGroup, teller: Option<NetworkGroup>) -> bool {
        let of = |k: &Known| k.source == source;
        if is_named(source) {
            return self.count(of) < bound(source) || self.replace(|k| of(k) && k.failures > 0);
        }
        let told = |k: &Known| k.by.map(|by| by.group);
        let share = share(bound(source));
        // The group itself has as many machines as it likes; all that they say together is the word of one.
        if teller.is_some_and(|t| !t.is_near()) && self.count(|k| of(k) && told(k) == teller) >= share {
            return self.replace(|k| of(k) && told(k) == teller && k.failures > 0);
        }
        if group.is_public() && self.count(|k| of(k) && k.group == group) >= share {
            return self.replace(|k| of(k) && k.group == group && k.failures > 0);
        }
        if self.count(of) < bound(source) {
            return true;
        }
        // A crowd gives way to who has fewer, even if its addresses never failed: nobody has tried them all.
        let crowd = self.crowd(source, &teller, told);
        if crowd.is_some_and(|crowd| self.replace(|k| of(k) && told(k) == crowd)) {
            return true;
        }
        let crowd = self.crowd(source, &group, |k| k.group);
        if crowd.is_some_and(|crowd| self.replace(|k| of(k) && k.group == crowd)) {
            return true;
        }
        // All are still of use, as far as known: otherwise the newcomer has no better claim.
        self.replace(|k| of(k) && k.failures > 0)
    }

    fn count(&self, which: impl Fn(&Known) -> bool) -> usize {
        self.known.values().filter(|k| which(k)).count()
    }

    /// Of the parts that `part` makes of a source's addresses, the largest, if it is larger than `own` would be with one more.
    fn crowd<K: Ord>(&self, source: Source, own: &K, part: impl Fn(&Known) -> K) -> Option<K> {
        let mut parts: BTreeMap<K, usize> = BTreeMap::new();
        for known in self.known.values().filter(|k| k.source == source) {
            *parts.entry(part(known)).or_default() += 1;
        }
        let fewer = parts.get(own).copied().unwrap_or(0) + 1;
        parts.into_iter().filter(|(_, n)| *n > fewer).max_by_key(|(_, n)| *n).map(|(part, _)| part)
    }

    /// Forgets the address of these that failed most; not one that is being dialled, nor one that is known to be good.
    fn replace(&mut self, which: impl Fn(&Known) -> bool) -> bool {
        let these = self.known.iter().filter(|(_, k)| k.dialling.is_none() && !k.good && which(k));
        let worst = these.max_by_key(|(_, k)| k.failures).map(|(a, _)| a.clone());
        worst.is_some_and(|worst| self.known.remove(&worst).is_some())
    }

    /// Whether the owner or a ticket names this peer, or this address.
    pub(super) fn names(&self, peer: Peer, address: &str) -> bool {
        let by_address = self.known.get(address).is_some_and(|k| is_named(k.source));
        by_address || self.known.values().any(|k| k.peer == Some(peer) && is_named(k.source))
    }

    pub(super) fn worked(&mut self, now: Time, address: &str, peer: Peer) {
        for (a, known) in &mut self.known {
            if a == address || known.peer == Some(peer) {
                known.peer = Some(peer);
                known.dialling = None;
                known.next = now + PAUSE;
                // Only where we got through: what else is said of this peer may be said by anybody.
                known.good |= a == address;
            }
        }
    }

    /// A connection to this peer, at this address, lasted.
    pub(super) fn held(&mut self, peer: Peer, address: &str) {
        let of_it = self.known.iter_mut().filter(|(a, k)| *a == address || k.peer == Some(peer));
        of_it.for_each(|(_, known)| known.failures = 0);
    }
    /// A connection to this peer, at this address, did not last: whatever else leads to it waits as well, such as its
    /// name. A device that was refused would otherwise come again each second.
    pub(super) fn refused(&mut self, desk: &mut Desk, peer: Peer, address: &str) {
        let of_it = self.known.iter().filter(|(a, k)| *a == address || k.peer == Some(peer));
        let of_it: Vec<String> = of_it.map(|(a, _)| a.clone()).collect();
        of_it.iter().for_each(|address| self.failed(desk, address));
    }

    pub(super) fn failed(&mut self, desk: &mut Desk, address: &str) {
        let Some(known) = self.known.get_mut(address) else { return };
        known.dialling = None;
        known.failures = known.failures.saturating_add(1);
        let longest = if is_named(known.source) { PAUSE_NAMED } else { PAUSE_REST };
        let pause = PAUSE.0.saturating_mul(1 << known.failures.min(16).saturating_sub(1)).min(longest.0);
        known.next = desk.now + Span(pause / 2 + desk.below(pause));
        known.good &= known.failures < FAILURES;
        let forget = known.failures >= FAILURES && matches!(known.source, Source::PeerExchange | Source::Dht);
        if forget {
            self.known.remove(address);
        }
    }

    /// What to dial now: named addresses always, others while there is room; those of groups that have fewest connections
    /// first, then best source first, TCP before QUIC, which moves half as much for the same work, and chance among
    /// equals. `groups` says how many connections each has, and a group of the internet gets no more than its `share`.
    pub(super) fn choose(
        &mut self,
        desk: &mut Desk,
        room: usize,
        share: usize,
        mut groups: BTreeMap<NetworkGroup, usize>,
        free: impl Fn(Peer) -> bool,
    ) -> Vec<String> {
        let now = desk.now;
        let lost: Vec<String> =
            self.known.iter().filter(|(_, k)| k.dialling.is_some_and(|u| u <= now)).map(|(a, _)| a.clone()).collect();
        for address in lost {
            self.failed(desk, &address);
        }
        let mut busy: BTreeSet<Peer> = BTreeSet::new();
        let mut under_way = 0;
        for known in self.known.values().filter(|k| k.dialling.is_some()) {
            under_way += 1;
            busy.extend(known.peer);
            *groups.entry(known.group).or_default() += 1;
        }
        let ready = |k: &Known| k.dialling.is_none() && k.next <= now && k.peer.is_none_or(&free);
        let mut list: BTreeSet<Wish> = BTreeSet::new();
        for (address, known) in self.known.iter().filter(|(_, k)| ready(k)) {
            let crowding = if is_named(known.source) { 0 } else { groups.get(&known.group).copied().unwrap_or(0) };
            let quality = (!known.good, known.source, known.failures, address.contains("/udp/"), desk.chance());
            list.insert(Wish { stranger: !is_named(known.source), crowding, quality, address: address.clone() });
        }
        let mut room = room.saturating_sub(under_way);
        let mut chosen = Vec::new();
        while let Some(mut wish) = list.pop_first() {
            let Some(known) = self.known.get_mut(&wish.address) else { continue };
            if under_way >= DIALS || (wish.stranger && room == 0) {
                break; // named ones come first
            }
            let of_group = groups.entry(known.group).or_default();
            if known.peer.is_some_and(|p| busy.contains(&p))
                || (wish.stranger && known.group.is_public() && *of_group >= share)
            {
                continue;
            }
            if wish.stranger && wish.crowding < *of_group {
                // Others of its group were chosen meanwhile: back into the queue, behind groups that have fewer.
                wish.crowding = *of_group;
                list.insert(wish);
                continue;
            }
            *of_group += 1;
            room -= usize::from(wish.stranger);
            under_way += 1;
            busy.extend(known.peer);
            known.dialling = Some(now + DIAL_LASTS);
            chosen.push(wish.address);
        }
        chosen
    }

    /// When something may be dialled next.
    pub(super) fn next_try(&self, now: Time, has_room: bool, free: impl Fn(Peer) -> bool) -> Option<Time> {
        let wanted = |k: &&Known| k.peer.is_none_or(&free) && (has_room || is_named(k.source));
        self.known.values().filter(wanted).map(|k| k.dialling.unwrap_or(k.next).max(now)).min()
    }
}

/// The peer that an address names after its last `/p2p/`: base58 of an ed25519 identity, or 64 hex digits.
pub(crate) fn peer_of(address: &str) -> Option<Peer> {
    let (_, name) = address.rsplit_once("/p2p/")?;
    let name = name.split('/').next()?;
    if let Ok(peer) = name.parse() {
        return Some(peer);
    }
    // An inline ed25519 key: identity multihash (0, 36), protobuf key type 1, 32 bytes.
    let bytes = base58(name)?;
    let key = bytes.strip_prefix(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20])?;
    Some(Peer(key.try_into().ok()?))
}

/// Bitcoin's alphabet; bounded by the length of a peer id.
fn base58(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if text.len() > 64 {
        return None;
    }
    let mut number: Vec<u8> = Vec::new(); // little-endian
    for c in text.bytes() {
        let mut carry = ALPHABET.iter().position(|&a| a == c)? as u32;
        for byte in &mut number {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            number.push(carry as u8);
            carry >>= 8;
        }
    }
    number.extend(text.bytes().take_while(|&c| c == b'1').map(|_| 0));
    number.reverse();
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_reached_over_tcp_and_over_quic_when_that_fails() {
        for seed in 0..20 {
            let (mut book, mut desk) = (Book::default(), Desk::new(Peer([1; 32]), seed));
            let [tcp, quic] = ["tcp/1", "udp/1/quic-v1"].map(|t| format!("/ip4/10.0.0.1/{t}/p2p/{}", Peer([2; 32])));
            book.add(quic.clone(), Source::Ticket, None);
            book.add(tcp.clone(), Source::Ticket, None);
            assert_eq!(book.choose(&mut desk, 8, 2, BTreeMap::new(), |_| true), [tcp.as_str()]);
            assert!(book.choose(&mut desk, 8, 2, BTreeMap::new(), |_| true).is_empty(), "one dial a peer at a time");
            book.failed(&mut desk, &tcp);
            assert_eq!(book.choose(&mut desk, 8, 2, BTreeMap::new(), |_| true), [quic.as_str()]);
        }
    }
    fn at(n: u32) -> String {
        format!("/ip4/{}.{}.1.1/tcp/1/p2p/{}", 20 + n / 250, n % 250, Peer(*blake3::hash(&n.to_le_bytes()).as_bytes()))
    }
    /// A teller in a network of its own.
    fn teller(n: u8) -> Option<Teller> {
        Some(Teller { peer: Peer([n; 32]), group: NetworkGroup::V4([n, 1]) })
    }

    #[test]
    fn hearsay_takes_the_place_of_nothing_that_worked_and_moves_nothing_among_the_sources() {
        let (mut book, mut desk) = (Book::default(), Desk::new(Peer([1; 32]), 1));
        book.add(at(5000), Source::Remembered, None);
        book.add(at(5000), Source::PeerExchange, teller(1));
        assert_eq!(book.known[&at(5000)].source, Source::Remembered);
        // Two of a network of its own; bob got through to one of them once.
        book.add(at(6000), Source::PeerExchange, teller(2));
        book.add(at(6001), Source::PeerExchange, teller(2));
        book.worked(desk.now, &at(6000), peer_of(&at(6000)).unwrap());
        book.failed(&mut desk, &at(6000));
        book.failed(&mut desk, &at(6001));
        for n in 0..1000 {
            book.add(at(n), Source::PeerExchange, teller(10 + (n / 25) as u8));
        }
        assert!(book.known.contains_key(&at(6000)) && !book.known.contains_key(&at(6001)));
        assert!(book.count(|k| k.source == Source::PeerExchange) <= bound(Source::PeerExchange));
        // It is dialled first, too, and no longer good when nobody is there for long.
        book.known.get_mut(&at(6000)).unwrap().next = Time(0);
        assert_eq!(book.choose(&mut desk, 1, 2, BTreeMap::new(), |_| true), [at(6000)]);
        (0..FAILURES).for_each(|_| book.failed(&mut desk, &at(6000)));
        assert!(!book.known.contains_key(&at(6000)));
    }

    #[test]
    fn a_full_book_is_shared_by_who_tells() {
        let mut book = Book::default();
        let of = |book: &Book, n: u8| book.count(|k| k.by == teller(n));
        // Nine networks fill it with what they claim of others, a tenth comes late.
        for n in 0..1000 {
            book.add(at(n), Source::PeerExchange, teller(1 + (n % 9) as u8));
        }
        for n in 0..32 {
            book.add(at(2000 + n), Source::PeerExchange, teller(99));
        }
        assert_eq!(book.known.len(), bound(Source::PeerExchange));
        assert!((24..=32).contains(&of(&book, 99)), "{}", of(&book, 99));
    }

    #[test]
    fn a_libp2p_address_names_its_key() {
        // The identity that libp2p's own documentation shows.
        let found = peer_of("/ip4/10.0.0.1/udp/4001/quic-v1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA");
        let hex = found.map(|p| p.to_string());
        assert_eq!(hex.as_deref(), Some("2ffa35a99d3a3cfbb17bb7c1dc5561b18a8dcca4df38dc613ea859c37eb1336b"));
    }
    #[test]
    fn nonsense_names_nobody() {
        for address in ["", "/ip4/1.2.3.4/tcp/1", "/p2p/", "/p2p/0OIl", "/p2p/12D3KooW"] {
            assert_eq!(peer_of(address), None, "{address}");
        }
        let long = format!("/p2p/{}", "z".repeat(10_000));
        assert_eq!(peer_of(&long), None);
    }
}
