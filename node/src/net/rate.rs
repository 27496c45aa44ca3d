//! Rates: a bucket that fills steadily and is emptied by whoever sends. Invariant: over any time, at most one second's
//! worth more than the rate passes.

use std::time::Duration;
use tokio::{sync::Mutex, time::Instant};

/// So many units a second, shared by everybody who holds it.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    burst: f64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A rate per second, and how much may pass at once after a pause.
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        let (rate, burst) = (rate.max(1) as f64, burst.max(1) as f64);
        Self { rate, burst, state: Mutex::new((burst, Instant::now())) }
    }
    /// Waits until `units` may pass. Larger takes than the burst go into debt and so are paid by those who come next.
    pub(crate) async fn take(&self, units: u64) {
        let wait = {
            let mut state = self.state.lock().await;
            let now = Instant::now();
            let (mut level, since) = *state;
            level = (level + now.duration_since(since).as_secs_f64() * self.rate).min(self.burst) - units as f64;
            *state = (level, now);
            if level < 0.0 { Duration::from_secs_f64((-level / self.rate).min(3600.0)) } else { Duration::ZERO }
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_seconds_worth_takes_nine_seconds_after_a_full_bucket() {
        let bucket = Bucket::new(1000, 1000);
        let start = Instant::now();
        for _ in 0..100 {
            bucket.take(100).await;
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(8990) && took <= Duration::from_millis(9200), "{took:?}");
    }
}
