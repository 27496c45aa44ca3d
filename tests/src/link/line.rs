//! One direction of a link, as arithmetic. Invariant: nothing is delivered before its delay has passed, nothing overtakes,
//! and the same frames at the same moments meet the same fate whenever the seed is the same.

use std::time::Duration;

/// What a link is like, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Bits a second, headers of Ethernet included.
    pub rate: u64,
    /// One way; the round trip is twice that.
    pub delay: Duration,
    /// The share of frames that get lost, each by itself.
    pub loss: f64,
    /// Bytes that wait at most before the bottleneck; what comes then is dropped, as a router does.
    pub queue: u64,
    /// Of the losses.
    pub seed: u64,
}

impl Quality {
    /// As many bytes as are under way in one round trip, and never less than a burst of a sender's buffer.
    pub fn round_trip_queue(rate: u64, delay: Duration) -> u64 {
        let bytes = u128::from(rate) * delay.as_micros() * 2 / 8_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(64 * 1024)
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It comes out at this moment.
    Arrives(Duration),
    /// It is lost on the way, after the bottleneck: the time that it took there is spent.
    Lost,
    /// The queue had no room.
    Dropped,
}

/// One direction. Moments are durations since any one beginning.
#[derive(Debug)]
pub struct Line {
    quality: Quality,
    /// When the bottleneck has sent what waits.
    free: Duration,
    random: u64,
}

impl Line {
    /// `way` sets the losses of both directions apart.
    pub fn new(quality: Quality, way: u64) -> Self {
        Self { quality, free: Duration::ZERO, random: quality.seed.wrapping_mul(2).wrapping_add(way) }
    }

    /// A frame of `len` bytes comes at `now`, which is never before the last one's.
    pub fn take(&mut self, now: Duration, len: usize) -> Fate {
        let begins = self.free.max(now);
        let waiting = (begins - now).as_nanos() * u128::from(self.quality.rate) / 8_000_000_000;
        if waiting + len as u128 > u128::from(self.quality.queue) {
            return Fate::Dropped;
        }
        let nanos = len as u128 * 8_000_000_000 / u128::from(self.quality.rate.max(1));
        self.free = begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        if self.chance() < self.quality.loss {
            return Fate::Lost;
        }
        Fate::Arrives(self.free + self.quality.delay)
    }

    /// In 0..1. SplitMix64: small, seeded, and good enough to lose frames by.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Quality =
        Quality { rate: 8_000_000, delay: Duration::from_millis(50), loss: 0.0, queue: 10_000, seed: 1 };

    #[test]
    fn a_frame_takes_its_length_and_the_delay() {
        let mut line = Line::new(FAST, 0);
        // 1,000 bytes at a megabyte a second: a millisecond each, one after the other.
        assert_eq!(line.take(Duration::ZERO, 1000), Fate::Arrives(Duration::from_millis(51)));
        assert_eq!(line.take(Duration::ZERO, 1000), Fate::Arrives(Duration::from_millis(52)));
        // After a pause nothing waits any more.
        let later = Duration::from_millis(500);
        assert_eq!(line.take(later, 1000), Fate::Arrives(later + Duration::from_millis(51)));
    }

    #[test]
    fn a_full_queue_drops_and_drains() {
        let mut line = Line::new(FAST, 0);
        let fates: Vec<Fate> = (0..12).map(|_| line.take(Duration::ZERO, 1000)).collect();
        assert_eq!(fates.iter().filter(|f| matches!(f, Fate::Arrives(_))).count(), 10);
        assert_eq!(fates[10..], [Fate::Dropped, Fate::Dropped]);
        // Three milliseconds later three have left.
        let later = Duration::from_millis(3);
        let fates: Vec<Fate> = (0..4).map(|_| line.take(later, 1000)).collect();
        assert_eq!(fates.iter().filter(|f| **f == Fate::Dropped).count(), 1);
        assert_eq!(fates[0], Fate::Arrives(Duration::from_millis(61)));
    }

    #[test]
    fn losses_follow_the_seed_and_their_share() {
        let lost = |seed, way| {
            let mut line = Line::new(Quality { loss: 0.01, queue: u64::MAX, seed, ..FAST }, way);
            (0..100_000).filter(|_| line.take(Duration::ZERO, 1) == Fate::Lost).collect::<Vec<u32>>()
        };
        assert_eq!(lost(7, 0), lost(7, 0));
        assert_ne!(lost(7, 0), lost(7, 1));
        assert_ne!(lost(7, 0), lost(8, 0));
        // A thousand expected; five standard deviations are 157.
        assert!((843..=1157).contains(&lost(7, 0).len()), "{}", lost(7, 0).len());
    }

    #[test]
    fn nothing_overtakes() {
        let mut line = Line::new(Quality { loss: 0.3, queue: 5_000, ..FAST }, 0);
        let mut last = Duration::ZERO;
        for step in 0..10_000_u64 {
            let now = Duration::from_micros(step * 700);
            if let Fate::Arrives(at) = line.take(now, 60 + (step as usize * 37) % 1440) {
                assert!(at >= last && at >= now + FAST.delay);
                last = at;
            }
        }
    }

    #[test]
    fn the_queue_holds_a_round_trip() {
        assert_eq!(Quality::round_trip_queue(200_000_000, Duration::from_millis(25)), 1_250_000);
        assert_eq!(Quality::round_trip_queue(1_000_000, Duration::from_millis(1)), 65_536);
    }
}
