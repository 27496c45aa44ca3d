//! What can be asked of a peer at once, over all fetches: a window of bytes that follows its measured rate and latency.
//! Invariant: what is open at a peer never exceeds its window, nor the number of requests that it must accept.

use crate::{
    limits,
    time::{Span, Time},
};

/// Before anything is measured.
const WINDOW_START: u64 = 2 << 20;
/// Enough for a gigabit at 60 ms; more only queues at the peer.
const WINDOW_MAX: u64 = 16 << 20;
/// A slow peer gets no more than it sends in [`QUEUE`], down to this: what waits at it could come from others.
const WINDOW_MIN: u64 = 512 << 10;
/// See [`WINDOW_MIN`].
const QUEUE: Span = Span::seconds(2);
/// The rate is measured over at least this time of activity: shorter looks see bursts.
const LOOK: Span = Span::millis(200);
/// Deadlines: no sooner, no later, and what a peer of unknown rate gets.
const DEADLINE_MIN: Span = Span::seconds(10);
/// See [`DEADLINE_MIN`].
const DEADLINE_MAX: Span = Span::seconds(120);
/// See [`DEADLINE_MIN`].
const DEADLINE_UNKNOWN: Span = Span::seconds(30);

/// One connected peer.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Open requests and their bytes.
    pub(super) open: usize,
    pub(super) open_bytes: u64,
    /// Bytes a second, once measured.
    rate: Option<u64>,
    /// Shortest time from question to answer.
    fastest: Option<Span>,
    /// When the last answer came: what is oldest now is worked on since then at the earliest.
    pub(super) last: Time,
    look_since: Time,
    look_bytes: u64,
    /// Useful bytes in all.
    pub(super) received: u64,
}

impl Lane {
    pub(super) fn window(&self) -> u64 {
        let (Some(rate), Some(fastest)) = (self.rate, self.fastest) else { return WINDOW_START };
        // Twice what is on its way at this rate, so that a window that limits the rate is noticed and grows.
        let flight = rate.saturating_mul(fastest.0.max(20)) / 1000;
        let wished = flight.saturating_mul(2).saturating_add(limits::SPAN_BYTES as u64);
        let queue = rate.saturating_mul(QUEUE.0) / 1000;
        wished.min(queue).clamp(WINDOW_MIN, WINDOW_MAX)
    }
    /// Bytes that may be asked for now; none when the peer has enough to do.
    pub(super) fn room(&self) -> u64 {
        if self.open >= limits::PENDING_SPANS { 0 } else { self.window().saturating_sub(self.open_bytes) }
    }
    /// How long `bytes` more would take, by what was measured.
    pub(super) fn expected(&self, bytes: u64) -> Option<Span> {
        let rate = self.rate?.max(1);
        Some(Span(self.fastest.unwrap_or_default().0 + (self.open_bytes + bytes).saturating_mul(1000) / rate))
    }
    pub(super) fn asked(&mut self, now: Time, bytes: u64) -> Time {
        if self.open == 0 {
            (self.look_since, self.look_bytes) = (now, 0);
        }
        let wait = self.expected(bytes).map_or(DEADLINE_UNKNOWN, |e| Span(e.0.saturating_mul(4)));
        self.open += 1;
        self.open_bytes += bytes;
        now + wait.clamp(DEADLINE_MIN, DEADLINE_MAX)
    }
    pub(super) fn ended(&mut self, now: Time, asked_at: Time, asked: u64, came: u64) {
        self.open = self.open.saturating_sub(1);
        self.open_bytes = self.open_bytes.saturating_sub(asked);
        self.look_bytes += came;
        self.last = now;
        if came > 0 {
            let took = now.since(asked_at);
            self.fastest = Some(self.fastest.map_or(took, |f| f.min(took)));
        }
        let look = now.since(self.look_since);
        if look >= LOOK {
            let seen = self.look_bytes.saturating_mul(1000) / look.0.max(1);
            self.rate = Some(self.rate.map_or(seen, |r| (r.saturating_mul(3) + seen) / 4));
            (self.look_since, self.look_bytes) = (now, 0);
        }
    }
}
