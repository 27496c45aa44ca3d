//! Who has what of one stage, and in which order a peer is asked for it: rarest first, chance among equals.
//! Invariant: `rarity` of a chunk is the number of holders whose bitmap has it. A queue is a guess that ages: what it
//! offers is checked against the wants when it is taken, and it is made again when something changed.
//!
//! A bucket for each rarity was refused: with it every bitmap of a peer moves thousands of chunks between buckets,
//! while a queue for each peer is made once a second at most and then costs nothing to pop.

use super::wants::Wants;
use crate::{
    bitmap::Bitmap,
    id::Peer,
    limits,
    machine::desk::Desk,
    time::{Span, Time},
};
use std::collections::BTreeMap;

/// Peers asked for one release: more bring no more, and each bitmap costs memory.
pub(super) const HOLDERS: usize = 64;
/// First pause of a peer that answered nothing.
const PAUSE: Span = Span::seconds(1);
/// Longest pause.
const PAUSE_MAX: Span = Span::seconds(30);
/// A queue may be made again after one millisecond for so many chunks.
const CHUNKS_A_MILLI: u64 = 4000;
/// Queues are made again after this in any case, as rarity changes.
const QUEUE_LASTS: Span = Span::seconds(2);

/// Queues are made again at most so often because somebody began or ended the same fetch.
const SHARE_AGAIN: Span = Span::millis(20);
/// In the first stages, what a peer lacked is asked for again after this.
const LACKED: Span = Span::seconds(2);

/// One peer, seen from one stage.
#[derive(Debug)]
pub(super) struct Holder {
    has: Bitmap,
    /// It has answered, or need not be asked.
    known: bool,
    pub(super) complete: bool,
    /// It fetches the same release: pieces are shared out among such peers.
    fetching: bool,
    /// It has asked what we have of it.
    asks: bool,
    /// When it last turned out to lack something that it was assumed to have.
    lacked_at: Time,
    pub(super) asked_at: Time,
    /// Pieces to ask for, the best last.
    queue: Vec<u32>,
    built_at: Time,
    built_version: Option<u64>,
    /// It has something that it had not when its queue was made.
    changed: bool,
    /// Its queue leaves out what falls to others.
    built_shared: bool,
    pub(super) pause_until: Time,
    fails: u32,
    /// Requests open at it for this stage.
    pub(super) open: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Holders {
    me: Peer,
    pub(super) map: BTreeMap<Peer, Holder>,
    rarity: Vec<u16>,
}

impl Holders {
    pub(super) fn new(me: Peer, len: usize) -> Self {
        Self { me, map: BTreeMap::new(), rarity: vec![0; len] }
    }

    /// Adds a peer. In the first stages nobody is asked what it has: whoever is here may have it.
    pub(super) fn add(&mut self, peer: Peer, now: Time, assume_all: bool) -> bool {
        if self.map.len() >= HOLDERS || self.map.contains_key(&peer) {
            return false;
        }
        let len = self.rarity.len();
        let holder = Holder {
            has: if assume_all { Bitmap::full(len) } else { Bitmap::empty(len) },
            known: assume_all,
            complete: false,
            fetching: false,
            asks: false,
            lacked_at: Time(0),
            asked_at: now,
            queue: Vec::new(),
            built_at: Time(0),
            built_version: None,
            changed: false,
            built_shared: false,
            pause_until: Time(0),
            fails: 0,
            open: 0,
        };
        self.map.insert(peer, holder);
        true
    }

    pub(super) fn remove(&mut self, peer: Peer) {
        if let Some(holder) = self.map.remove(&peer) {
            for i in holder.has.ones() {
                self.rarer(i);
            }
        }
    }

    fn rarer(&mut self, i: usize) {
        if let Some(r) = self.rarity.get_mut(i) {
            *r = r.saturating_sub(1);
        }
    }

    /// A peer said what it has. False when it cannot be about this list.
    pub(super) fn told(&mut self, now: Time, peer: Peer, chunks: Option<Bitmap>) -> bool {
        let len = self.rarity.len();
        let speaks = chunks.is_some();
        let chunks = chunks.unwrap_or_else(|| Bitmap::empty(len));
        if chunks.len() != len || !chunks.is_valid() {
            return false;
        }
        let Some(holder) = self.map.get_mut(&peer) else { return true };
        if holder.has != chunks {
            for (i, rarity) in self.rarity.iter_mut().enumerate() {
                match (holder.has.get(i), chunks.get(i)) {
                    (false, true) => *rarity = rarity.saturating_add(1),
                    (true, false) => *rarity = rarity.saturating_sub(1),
                    _ => {}
                }
            }
            holder.has = chunks;
            holder.changed = true;
        }
        holder.complete = len > 0 && holder.has.is_full();
        if !std::mem::replace(&mut holder.known, true) {
            holder.built_version = None;
        }
        let fetching = !holder.complete && (speaks || holder.asks);
        if std::mem::replace(&mut holder.fetching, fetching) != fetching {
            self.share_again(now);
        }
        true
    }

    /// A peer asks what we have: it fetches the same, also when it cannot say yet what it has.
    pub(super) fn asks(&mut self, now: Time, peer: Peer) {
        let Some(holder) = self.map.get_mut(&peer) else { return };
        holder.asks = true;
        if !holder.complete && !std::mem::replace(&mut holder.fetching, true) {
            self.share_again(now);
        }
    }
    /// Shares change with the number of those who share.
    fn share_again(&mut self, now: Time) {
        for holder in self.map.values_mut().filter(|h| now.since(h.built_at) >= SHARE_AGAIN) {
            holder.built_version = None;
        }
    }

    /// A peer turned out not to have a chunk.
    pub(super) fn lacks(&mut self, now: Time, peer: Peer, i: u32) {
        let Some(holder) = self.map.get_mut(&peer).filter(|h| h.has.get(i as usize)) else { return };
        holder.has.set(i as usize, false);
        holder.complete = false;
        holder.lacked_at = now;
        self.rarer(i as usize);
    }

    /// A peer delivered something of use.
    pub(super) fn delivered(&mut self, peer: Peer) {
        if let Some(holder) = self.map.get_mut(&peer) {
            holder.fails = 0;
        }
    }
    /// A peer delivered nothing: it is left alone for a while, each time longer.
    pub(super) fn failed(&mut self, peer: Peer, now: Time) {
        if let Some(holder) = self.map.get_mut(&peer) {
            let pause = PAUSE.0.saturating_mul(1 << holder.fails.min(8)).min(PAUSE_MAX.0);
            holder.fails = holder.fails.saturating_add(1);
            holder.pause_until = now + Span(pause);
        }
    }
    /// In the first stages, a peer that lacked something may have it later.
    pub(super) fn assume_all_again(&mut self, now: Time) {
        let len = self.rarity.len();
        for holder in self.map.values_mut() {
            let waited = holder.pause_until <= now && now.since(holder.lacked_at) >= LACKED;
            if waited && !holder.has.is_full() && holder.open == 0 {
                holder.has = Bitmap::full(len);
                holder.built_version = None;
            }
        }
    }

    /// Whether anybody says that it has something missing.
    pub(super) fn anyone_has(&self, wants: &Wants) -> bool {
        self.map.values().any(|h| wants.missing().any(|i| h.has.get(i as usize)))
    }
    pub(super) fn has(&self, peer: Peer, i: u32) -> bool {
        self.map.get(&peer).is_some_and(|h| h.has.get(i as usize))
    }
    /// Whether somebody has not answered yet what it has.
    pub(super) fn is_waiting(&self) -> bool {
        self.map.values().any(|h| !h.known)
    }
    /// Peers that have something, as far as they said.
    pub(super) fn useful(&self) -> usize {
        self.map.values().filter(|h| h.known && h.has.count() > 0).count()
    }

    /// Chunks to ask this peer for next, at most `room` bytes unless it is a single one; empty when it has nothing free.
    pub(super) fn pick(&mut self, desk: &mut Desk, wants: &Wants, peer: Peer, room: u64, shares: bool) -> Vec<u32> {
        let now = desk.now;
        let sharers = || self.map.iter().filter(|(_, h)| h.fetching).map(|(p, _)| half(*p)).take(SHARERS).collect();
        let due = self.map.get(&peer).is_some_and(|h| h.is_due(wants, now, shares));
        let sharers: Vec<u64> = if due { sharers() } else { Vec::new() };
        let Some(holder) = self.map.get_mut(&peer) else { return Vec::new() };
        if !holder.known || holder.pause_until > now || wants.left == 0 {
            return Vec::new();
        }
        if due {
            holder.build(desk, wants, &self.rarity, half(self.me), &sharers, shares);
        }
        let room = room.min(crate::limits::SPAN_BYTES as u64);
        let (mut span, mut size) = (Vec::new(), 0);
        while let Some(piece) = holder.queue.pop() {
            let mut whole = true;
            for i in wants.free_of(piece).filter(|&i| holder.has.get(i as usize)) {
                let len = wants.size(i);
                if span.len() >= limits::SPAN_CHUNKS || (size + len > room && !span.is_empty()) {
                    whole = false;
                    break;
                }
                size += len;
                span.push(i);
            }
            if !whole {
                holder.queue.push(piece);
            }
            // Scraps of several pieces share a request; a good piece travels alone.
            if !whole || size >= wants.span / 2 {
                break;
            }
        }
        span
    }
}

impl Holder {
    /// Whether its queue should be made again.
    fn is_due(&self, wants: &Wants, now: Time, shares: bool) -> bool {
        let age = now.since(self.built_at);
        let may = age.0 >= wants.len() as u64 / CHUNKS_A_MILLI + u64::from(self.changed) * SHARE_AGAIN.0;
        match self.built_version {
            None => self.known && self.pause_until <= now,
            Some(_) if self.built_shared && !shares => may,
            Some(version) if self.queue.is_empty() => (version != wants.version || self.changed) && may,
            Some(_) => age >= QUEUE_LASTS,
        }
    }

    /// Lists the pieces of which this peer has something free, so that the best is popped first: the rarest; among
    /// equals those that fall to us when all who fetch the same share them out; then chance.
    fn build(&mut self, desk: &mut Desk, wants: &Wants, rarity: &[u16], me: u64, sharers: &[u64], shares: bool) {
        let mut list: Vec<(u16, u32, u32, u32)> = Vec::new();
        for piece in wants.open_pieces() {
            let rare = wants.free_of(piece).filter(|&i| self.has.get(i as usize));
            if let Some(rare) = rare.filter_map(|i| rarity.get(i as usize)).min() {
                let place = wants.place_of(piece);
                let mine = mix(me ^ place);
                let rank = sharers.iter().filter(|s| mix(**s ^ place) > mine).count() as u32;
                // A seeder's upload is what a swarm lacks: it is asked only for what falls to us, others bring the rest.
                if !self.complete || !shares || rank == 0 {
                    list.push((*rare, rank, desk.chance(), piece));
                }
            }
        }
        list.sort_unstable_by(|a, b| b.cmp(a));
        self.queue = list.into_iter().map(|(_, _, _, piece)| piece).collect();
        self.built_at = desk.now;
        self.changed = false;
        self.built_shared = shares && self.complete && !sharers.is_empty();
        self.built_version = Some(wants.version);
    }
}

/// Peers among whom pieces are shared out; more change the shares little.
const SHARERS: usize = 32;

fn half(peer: Peer) -> u64 {
    u64::from_le_bytes(*peer.0.first_chunk().unwrap_or(&[0; 8]))
}
/// Spreads bits (the finaliser of splitmix64): equal on all devices, so that they agree without talking.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
