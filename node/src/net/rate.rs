//! Rates: a bucket that fills steadily and is emptied by whoever sends. Invariant: over any time, at most one second's
//! worth more than the rate passes.

use std::time::Duration;
use tokio::{sync::Mutex, time::Instant};

/// So many units a second, shared by everybody who holds it.
#[derive(Debug)]
pub(crate) struct Bucket(Mutex<Level>);

#[derive(Debug)]
struct Level {
    rate: f64,
    burst: f64,
    /// Below zero it is in debt: who comes next pays by waiting.
    level: f64,
    since: Instant,
}

impl Level {
    /// Takes `units` at `now`; gives how long to wait before they may pass.
    fn take(&mut self, units: u64, now: Instant) -> Duration {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * self.rate;
        self.level = (self.level + filled).min(self.burst) - units as f64;
        self.since = now;
        if self.level < 0.0 { Duration::from_secs_f64((-self.level / self.rate).min(3600.0)) } else { Duration::ZERO }
    }
}

impl Bucket {
    /// A rate per second, and how much may pass at once after a pause.
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        let (rate, burst) = (rate.max(1) as f64, burst.max(1) as f64);
        Self(Mutex::new(Level { rate, burst, level: burst, since: Instant::now() }))
    }
    /// Waits until `units` may pass. Takes beyond the burst go into debt, so that large ones pass at all.
    pub(crate) async fn take(&self, units: u64) {
        let wait = self.0.lock().await.take(units, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_worth_takes_nine_seconds_after_a_full_bucket() {
        let start = Instant::now();
        let mut level = Level { rate: 1000.0, burst: 1000.0, level: 1000.0, since: start };
        let mut now = start;
        for _ in 0..100 {
            now += level.take(100, now);
        }
        let took = now.duration_since(start);
        assert!(took >= Duration::from_millis(8990) && took <= Duration::from_millis(9010), "{took:?}");
        // A pause fills it, but not beyond the burst.
        now += Duration::from_secs(100);
        assert_eq!(level.take(1000, now), Duration::ZERO);
        assert!(level.take(500, now) >= Duration::from_millis(499));
    }
}
