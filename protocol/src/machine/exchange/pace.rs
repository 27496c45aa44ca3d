//! How fast a fetch is, and what it waits for. Invariant: time in which nobody could be asked is counted once, and none of it
//! is shared out by what open requests waited for.

use crate::{
    io::Waits,
    time::{Span, Time},
};

/// A rate is measured over at least so much time: shorter looks see bursts.
const LOOK: Span = Span::seconds(1);

/// How fast content comes.
#[derive(Debug)]
pub(super) struct Pace {
    since: Time,
    bytes: u64,
    /// Bytes a second in the look before this one.
    rate: Option<u64>,
}

impl Pace {
    pub(super) fn new(now: Time) -> Self {
        Self { since: now, bytes: 0, rate: None }
    }
    /// So many useful bytes came.
    pub(super) fn came(&mut self, now: Time, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if now.since(self.since) >= LOOK {
            *self = Self { since: now, bytes: 0, rate: self.rate(now) };
        }
    }
    /// Bytes a second. When nothing comes any more it falls.
    pub(super) fn rate(&self, now: Time) -> Option<u64> {
        let look = now.since(self.since);
        if look >= LOOK { Some(self.bytes.saturating_mul(1000) / look.0) } else { self.rate }
    }
}

/// What a stage waited for.
#[derive(Debug)]
pub(super) struct Waited {
    /// What drivers measured of its requests, in microseconds, those of different peers side by side.
    open: Waits,
    /// Milliseconds in which no request was open.
    idle: u64,
    idle_since: Option<Time>,
}

impl Waited {
    pub(super) fn new(now: Time) -> Self {
        Self { open: Waits::default(), idle: 0, idle_since: Some(now) }
    }
    /// A request was put.
    pub(super) fn asked(&mut self, now: Time) {
        if let Some(since) = self.idle_since.take() {
            self.idle += now.since(since).0;
        }
    }
    /// A request ended, after which so many are open.
    pub(super) fn ended(&mut self, now: Time, open: usize) {
        if open == 0 && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }
    /// What a driver measured.
    pub(super) fn add(&mut self, waits: &Waits) {
        self.open = self.open.plus(waits);
    }
    /// What `took` milliseconds until `now` went into.
    pub(super) fn of(&self, now: Time, took: u64) -> Waits {
        let idle = self.idle + self.idle_since.map_or(0, |since| now.since(since).0);
        let idle = idle.min(took);
        self.open.share(took - idle).plus(&Waits { peer: idle, ..Waits::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::LimitedBy;

    #[test]
    fn a_rate_follows_what_comes_and_falls_when_nothing_does() {
        let mut pace = Pace::new(Time(0));
        pace.came(Time(500), 1000);
        assert_eq!(pace.rate(Time(600)), None);
        pace.came(Time(1000), 1000);
        assert_eq!(pace.rate(Time(1001)), Some(2000));
        pace.came(Time(2000), 500);
        assert_eq!(pace.rate(Time(2500)), Some(500));
        assert_eq!(pace.rate(Time(3500)), Some(0));
    }

    #[test]
    fn time_without_a_question_is_the_peers_and_the_rest_is_shared_out() {
        let mut waited = Waited::new(Time(0));
        waited.asked(Time(100));
        waited.add(&Waits { link: 3_000_000, disk: 1_000_000, ..Waits::default() });
        waited.ended(Time(300), 1);
        waited.ended(Time(500), 0);
        let waits = waited.of(Time(600), 600);
        assert_eq!(waits, Waits { peer: 200, link: 300, disk: 100, ..Waits::default() });
        assert_eq!(waits.limited_by(), LimitedBy::Link);
        // Never more than there was.
        assert_eq!(waited.of(Time(600), 50), Waits { peer: 50, ..Waits::default() });
    }
}
