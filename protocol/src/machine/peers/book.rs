//! The address book: what was heard of, from whom, and when it may be dialled again.
//! Invariant: each source has its own bound, so that no source can push out another's addresses, and within it no network
//! group holds what another one needs; one dial a peer at a time; the pause after a failure doubles, with chance in it,
//! up to the source's longest.

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

#[derive(Debug)]
struct Known {
    peer: Option<Peer>,
    group: NetworkGroup,
    source: Source,
    by: Option<Peer>,
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
    /// Source, failures, whether it is QUIC, chance.
    quality: (Source, u32, bool, u32),
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
    pub(super) fn add(&mut self, address: String, source: Source, by: Option<Peer>) -> Option<Peer> {
        if address.is_empty() || address.len() > ADDRESS_BYTES || address.chars().any(char::is_control) {
            return None;
        }
        if let Some(known) = self.known.get_mut(&address) {
            // The better source wins; what the owner types is tried at once, what the network shows again soon.
            if source == Source::Owner || (source == Source::Lan && known.failures > 0) {
                known.next = Time(0);
                known.failures = 0;
            }
            known.source = known.source.min(source);
            return known.peer;
        }
        if by.is_some() && self.known.values().filter(|k| k.by == by).count() >= FROM_ONE {
            return None;
        }
        let group = NetworkGroup::of(&address);
        if !self.has_room(source, group) {
            return None;
        }
        let peer = peer_of(&address);
        self.known.insert(address, Known { peer, group, source, by, failures: 0, next: Time(0), dialling: None });
        peer
    }

    /// Whether a newcomer of this group has room among the addresses of its source, perhaps in place of another.
    fn has_room(&mut self, source: Source, group: NetworkGroup) -> bool {
        let of = |k: &Known| k.source == source;
        let (bound, own) = (bound(source), self.known.values().filter(|k| of(k) && k.group == group).count());
        if group.is_public() && !is_named(source) && own >= share(bound) {
            return self.replace(|k| of(k) && k.group == group && k.failures > 0);
        }
        if self.known.values().filter(|k| of(k)).count() < bound {
            return true;
        }
        if !is_named(source) {
            let mut groups: BTreeMap<NetworkGroup, usize> = BTreeMap::new();
            for known in self.known.values().filter(|k| of(k)) {
                *groups.entry(known.group).or_default() += 1;
            }
            // A crowd gives way to who has fewer, even if its addresses never failed: nobody has tried them all.
            if let Some((crowd, _)) = groups.into_iter().filter(|(_, n)| *n > own + 1).max_by_key(|(_, n)| *n)
                && self.replace(|k| of(k) && k.group == crowd)
            {
                return true;
            }
        }
        // All are still of use, as far as known: otherwise the newcomer has no better claim.
        self.replace(|k| of(k) && k.failures > 0)
    }

    /// Forgets the address of these that failed most; not one that is being dialled.
    fn replace(&mut self, which: impl Fn(&Known) -> bool) -> bool {
        let these = self.known.iter().filter(|(_, k)| k.dialling.is_none() && which(k));
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
            let quality = (known.source, known.failures, address.contains("/udp/"), desk.chance());
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
