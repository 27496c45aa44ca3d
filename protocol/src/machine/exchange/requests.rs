//! Asking peers for spans, and what comes back.
//! Invariant: each open request is counted once in its peer's lane, once in its fetch and once in each of its chunks,
//! and all three are taken back exactly once: when it is answered, when its peer goes, or when the driver lost it.

use super::{
    Exchange,
    fetch::{Fetch, Phase},
};
use crate::{
    bitmap::Bitmap,
    id::Peer,
    io::{Delivery, Job, Output, Request, Spent},
    machine::desk::{Desk, Note},
    time::{Span, Time},
};

/// A driver that has not answered so long after the deadline has lost the request.
const LOST: Span = Span::seconds(30);
/// A second peer is asked when the first takes so many times longer than the second would.
const SLOWER: u64 = 3;
/// And never sooner than this.
const PATIENCE: Span = Span::millis(1000);
/// What a peer of unknown rate is expected to take.
const UNKNOWN: Span = Span::seconds(1);
/// What the first spans of a peer may take before it counts as slow.
const UNKNOWN_FIRST: Span = Span::seconds(2);

/// An open request.
#[derive(Debug)]
pub(super) struct Asked {
    peer: Peer,
    job: Job,
    serial: u32,
    chunks: Vec<u32>,
    bytes: u64,
    at: Time,
    /// How long it should take, by what was measured of its peer.
    expected: Span,
    deadline: Time,
    /// The peer is gone; only what came before may still be told.
    orphan: bool,
    cancelled: bool,
}

impl Exchange {
    /// Asks every peer for as much as it can carry.
    pub(super) fn pump(&mut self, desk: &mut Desk) {
        let mut peers: Vec<Peer> = self.lanes.iter().filter(|(_, l)| l.room() > 0).map(|(p, _)| *p).collect();
        desk.shuffle(&mut peers);
        self.pump_with(desk, peers);
    }

    /// Asks these peers: one span each in turn, so that few chunks are shared by all.
    pub(super) fn pump_with(&mut self, desk: &mut Desk, mut peers: Vec<Peer>) {
        let mut jobs: Vec<Job> = Vec::new();
        for internal in [false, true] {
            let running = self.fetches.iter().filter(|(_, f)| f.internal == internal && !f.superseded);
            jobs.extend(running.filter(|(_, f)| matches!(f.phase, Phase::Running(_))).map(|(j, _)| *j));
        }
        if jobs.is_empty() {
            return;
        }
        if self.due.is_none() {
            self.due = Some(desk.now + super::TICK);
        }
        while !peers.is_empty() {
            peers.retain(|&peer| jobs.iter().any(|&job| self.ask(desk, job, peer)));
        }
    }

    /// Lets idle peers take over from slow ones; not more often than each tick, as it looks at every open request.
    pub(super) fn relieve(&mut self, desk: &mut Desk) {
        let idle: Vec<Peer> = self.lanes.iter().filter(|(_, l)| l.open == 0).map(|(p, _)| *p).collect();
        for peer in idle {
            self.relieve_with(desk, peer);
        }
    }

    fn relieve_with(&mut self, desk: &mut Desk, peer: Peer) {
        if self.lanes.get(&peer).is_some_and(|l| l.open == 0) {
            let jobs: Vec<Job> = self.fetches.iter().filter(|(_, f)| !f.superseded).map(|(j, _)| *j).collect();
            let _ = jobs.into_iter().any(|job| self.steal(desk, job, peer));
        }
    }

    /// Asks one peer for one span of one fetch; false when there is nothing to ask it.
    fn ask(&mut self, desk: &mut Desk, job: Job, peer: Peer) -> bool {
        let room = self.lanes.get(&peer).map_or(0, super::Lane::room);
        let Some(fetch) = self.fetches.get_mut(&job).filter(|_| room > 0) else { return false };
        let shares = fetch.shares(desk.now);
        let Some(run) = fetch.run() else { return false };
        if desk.now < run.begins && run.holders.is_waiting() {
            return false;
        }
        let span = run.holders.pick(desk, &run.wants, peer, room.max(run.wants.span), shares);
        !span.is_empty() && self.open(desk, job, peer, span)
    }

    fn open(&mut self, desk: &mut Desk, job: Job, peer: Peer, chunks: Vec<u32>) -> bool {
        let (Some(fetch), Some(lane)) = (self.fetches.get_mut(&job), self.lanes.get_mut(&peer)) else { return false };
        let Some(run) = fetch.run() else { return false };
        let list: Vec<_> = chunks.iter().filter_map(|&i| run.wants.chunk(i)).collect();
        let bytes = list.iter().map(|c| u64::from(c.len)).sum();
        let base = run.wants.base(&chunks);
        for &i in &chunks {
            run.wants.ask(i);
        }
        run.open += 1;
        run.waited.asked(desk.now);
        if let Some(holder) = run.holders.map.get_mut(&peer) {
            holder.open += 1;
        }
        let expected = lane.expected(bytes).unwrap_or(UNKNOWN_FIRST);
        let deadline = lane.asked(desk.now, bytes);
        let request = Request(desk.number());
        let (at, serial) = (desk.now, run.serial);
        let asked = Asked { peer, job, serial, chunks, bytes, at, expected, deadline, orphan: false, cancelled: false };
        self.requests.insert(request, asked);
        desk.out(Output::Request { peer, request, job, chunks: list, base, deadline });
        true
    }

    /// Lets an idle peer have what a slow one was asked for. The slow one's request is cancelled, which saves its bytes
    /// unless they are already on their way; requests are answered in order, so that only its oldest can be.
    fn steal(&mut self, desk: &mut Desk, job: Job, thief: Peer) -> bool {
        let now = desk.now;
        let Some(Phase::Running(run)) = self.fetches.get(&job).map(|f| &f.phase) else { return false };
        if run.open == 0 || run.holders.map.get(&thief).is_none_or(|h| h.pause_until > now) {
            return false;
        }
        let Some(lane) = self.lanes.get(&thief) else { return false };
        let mut best: Option<(Span, Request)> = None;
        let mut first_of = std::collections::BTreeSet::new();
        for (&number, asked) in self.requests.iter().filter(|(_, a)| !a.orphan) {
            let oldest = first_of.insert(asked.peer);
            if asked.job != job || asked.serial != run.serial || asked.peer == thief || asked.cancelled {
                continue;
            }
            let mine = lane.expected(asked.bytes).unwrap_or(UNKNOWN);
            let bar = Span((mine.0 * SLOWER).max(PATIENCE.0));
            let Some(victim) = self.lanes.get(&asked.peer) else { continue };
            // What may be on its way already would come twice: it is left alone unless it is far beyond its time.
            let waits = if oldest {
                let overdue = now.since(asked.at) > Span(asked.expected.0 * 2) && now.since(victim.last) > bar;
                if overdue { now.since(asked.at) } else { Span(0) }
            } else {
                now.since(asked.at).max(victim.expected(0).unwrap_or_default())
            };
            let wanted = |i: &u32| !run.wants.is_here(*i) && run.wants.asked(*i) == 1 && run.holders.has(thief, *i);
            if waits > bar && best.is_none_or(|(w, _)| waits > w) && asked.chunks.iter().any(wanted) {
                best = Some((waits, number));
            }
        }
        let Some((_, number)) = best else { return false };
        let Some(asked) = self.requests.get_mut(&number) else { return false };
        let wanted = |i: &&u32| !run.wants.is_here(**i) && run.wants.asked(**i) == 1 && run.holders.has(thief, **i);
        let chunks: Vec<u32> = asked.chunks.iter().filter(wanted).copied().collect();
        // Also the oldest: at a peer that serves many, it may well wait for its turn.
        asked.cancelled = true;
        desk.out(Output::Cancel { peer: asked.peer, request: number });
        self.open(desk, job, thief, chunks)
    }

    /// Takes the end of a request.
    pub(crate) fn delivered(
        &mut self,
        desk: &mut Desk,
        peer: Peer,
        request: Request,
        outcome: &Delivery,
        spent: &Spent,
    ) {
        let Some(asked) = self.requests.remove(&request) else { return };
        if asked.peer != peer {
            self.requests.insert(request, asked);
            return;
        }
        let none = Bitmap::empty(asked.chunks.len());
        let (held, stored) = match outcome {
            Delivery::Came { held, .. } | Delivery::Lied { held, .. } | Delivery::Broke { held } => (held, Ok(())),
            Delivery::NotStored { why } => (&none, Err(why.clone())),
        };
        let useful = self.count(desk, &asked, held);
        self.book(&asked, outcome, spent, useful);
        self.judge(desk, &asked, held, outcome, useful);
        if let Delivery::Lied { why, .. } = outcome {
            desk.note(Note::Liar { peer, why: why.clone() });
        }
        if useful > 0 {
            desk.note(Note::Served { peer });
        }
        match (stored, self.fetches.get_mut(&asked.job)) {
            (Err(why), Some(fetch)) if fetch.stages == asked.serial => {
                let why = format!("what came could not be stored: {why}");
                return self.fail(desk, asked.job, why, false);
            }
            (_, Some(fetch)) => {
                fetch.report(desk, asked.job, false);
                if fetch.superseded {
                    self.hand_over(desk);
                } else if fetch.run().is_some_and(|r| r.wants.left == 0) {
                    self.assemble(desk, asked.job);
                }
            }
            (_, None) => {}
        }
        self.pump(desk);
        self.relieve_with(desk, peer);
    }

    /// Books what it took.
    fn book(&mut self, asked: &Asked, outcome: &Delivery, spent: &Spent, useful: u64) {
        let Some(fetch) = self.fetches.get_mut(&asked.job) else { return };
        let figures = &mut fetch.figures;
        let (bytes, wire) = match outcome {
            Delivery::Came { bytes, wire, .. } => (*bytes, *wire),
            // What was good before the lie is kept, and was not in vain.
            _ => (useful, useful.min(spent.wire)),
        };
        let all = wire.max(spent.wire);
        figures.wire_bytes = figures.wire_bytes.saturating_add(wire);
        figures.wasted = figures.wasted.saturating_add(all - wire);
        if all > 0 {
            let by_peer = figures.wire_by_peer.entry(asked.peer).or_default();
            *by_peer = by_peer.saturating_add(all);
        }
        if let Some(coding) = spent.coding {
            figures.carried.add(coding, bytes, wire);
        }
        if let Phase::Running(run) = &mut fetch.phase
            && run.serial == asked.serial
        {
            run.waited.add(&spent.waits);
        }
    }

    /// Books what came; gives the useful bytes.
    fn count(&mut self, desk: &mut Desk, asked: &Asked, held: &Bitmap) -> u64 {
        let now = desk.now;
        let mut came = 0;
        let mut useful = 0;
        let mut doubled = false;
        let fetch = self.fetches.get_mut(&asked.job).filter(|f| f.stages == asked.serial);
        if let Some(fetch) = fetch
            && let Phase::Running(run) = &mut fetch.phase
        {
            for (n, &i) in asked.chunks.iter().enumerate() {
                let size = run.wants.size(i);
                let shared = run.wants.asked(i) > u8::from(!asked.orphan);
                if !asked.orphan {
                    run.wants.give_back_or_keep(i, held.get(n));
                }
                if !held.get(n) {
                    continue;
                }
                came += size;
                if run.wants.came(i) {
                    useful += size;
                    doubled |= shared;
                } else {
                    fetch.figures.duplicates += size;
                }
            }
            if !asked.orphan {
                run.open = run.open.saturating_sub(1);
                run.waited.ended(now, run.open);
                if let Some(holder) = run.holders.map.get_mut(&asked.peer) {
                    holder.open = holder.open.saturating_sub(1);
                }
            }
            if useful > 0 {
                fetch.moved = now;
                fetch.pace.came(now, useful);
                fetch.figures.new_bytes += useful;
                *fetch.figures.by_peer.entry(asked.peer).or_default() += useful;
            }
        }
        if let Some(lane) = self.lanes.get_mut(&asked.peer).filter(|_| !asked.orphan) {
            lane.ended(now, asked.at, asked.bytes, came);
            lane.received += useful;
        }
        if doubled {
            self.cancel_useless(desk, asked.job);
        }
        useful
    }

    /// Draws conclusions about the peer.
    fn judge(&mut self, desk: &mut Desk, asked: &Asked, held: &Bitmap, outcome: &Delivery, useful: u64) {
        let fetch = self.fetches.get_mut(&asked.job).filter(|f| f.stages == asked.serial);
        let Some(fetch) = fetch else { return };
        let Phase::Running(run) = &mut fetch.phase else { return };
        match outcome {
            Delivery::Came { .. } => {
                for (n, &i) in asked.chunks.iter().enumerate() {
                    if !held.get(n) {
                        run.holders.lacks(desk.now, asked.peer, i);
                    }
                }
                if held.count() == 0 && !asked.cancelled {
                    run.holders.failed(asked.peer, desk.now);
                }
            }
            Delivery::Broke { .. } if !asked.cancelled => run.holders.failed(asked.peer, desk.now),
            Delivery::Lied { .. } | Delivery::Broke { .. } | Delivery::NotStored { .. } => {}
        }
        if useful > 0 && !matches!(outcome, Delivery::Broke { .. }) {
            run.holders.delivered(asked.peer);
        }
    }

    /// Cancels requests of a fetch that can bring nothing any more.
    fn cancel_useless(&mut self, desk: &mut Desk, job: Job) {
        let Some(Phase::Running(run)) = self.fetches.get(&job).map(|f| &f.phase) else { return };
        for (&request, asked) in self.requests.iter_mut() {
            let live = asked.job == job && asked.serial == run.serial && !asked.cancelled && !asked.orphan;
            if live && asked.chunks.iter().all(|&i| run.wants.is_here(i)) {
                asked.cancelled = true;
                desk.out(Output::Cancel { peer: asked.peer, request });
            }
        }
    }

    /// Cancels every request of a fetch.
    pub(super) fn cancel_all(&mut self, desk: &mut Desk, job: Job) {
        for (&request, asked) in self.requests.iter_mut() {
            if asked.job == job && !asked.cancelled && !asked.orphan {
                asked.cancelled = true;
                desk.out(Output::Cancel { peer: asked.peer, request });
            }
        }
    }

    /// A peer is gone: what it was asked for is free again.
    pub(super) fn orphan(&mut self, now: Time, peer: Peer) {
        for asked in self.requests.values_mut().filter(|a| a.peer == peer && !a.orphan) {
            asked.orphan = true;
            let fetch = self.fetches.get_mut(&asked.job).filter(|f| f.stages == asked.serial);
            if let Some(run) = fetch.and_then(Fetch::run) {
                for &i in &asked.chunks {
                    run.wants.give_back(i);
                }
                run.open = run.open.saturating_sub(1);
                run.waited.ended(now, run.open);
            }
        }
    }

    /// Ends requests that the driver never answered.
    pub(super) fn give_up_on_lost(&mut self, desk: &mut Desk) {
        let lost: Vec<(Request, Peer, usize)> = self
            .requests
            .iter()
            .filter(|(_, a)| a.deadline + LOST <= desk.now)
            .map(|(r, a)| (*r, a.peer, a.chunks.len()))
            .collect();
        for (request, peer, len) in lost {
            let outcome = Delivery::Broke { held: Bitmap::empty(len) };
            self.delivered(desk, peer, request, &outcome, &Spent::default());
        }
    }
}
