//! The one clock of a node. Invariant: it follows the wall clock, but never goes back while the node runs.

use softservice_protocol::{
    feed::Moment,
    time::{Span, Time},
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// When this program was built, in seconds since the epoch.
const BUILT: &str = env!("SOFTSERVICE_BUILT");

/// When this program was built: a wall clock that shows less is wrong.
pub(crate) fn built() -> Time {
    Time(BUILT.parse::<u64>().map_or(0, |seconds| seconds.saturating_mul(1000)))
}

/// Milliseconds since the epoch. A monotonic clock was refused: it stands still while a laptop sleeps, and a feed's
/// freshness does not.
#[derive(Debug, Default)]
pub struct Clock {
    newest: AtomicU64,
    ahead: AtomicU64,
}

impl Clock {
    pub(crate) fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let wall = wall.saturating_add(self.ahead.load(Ordering::Relaxed));
        Time(self.newest.fetch_max(wall, Ordering::Relaxed).max(wall))
    }
    /// Lets time pass: from now on this clock shows so much more. For whoever embeds a node and plays years in a moment; the
    /// node notices with whatever happens next.
    pub fn pass(&self, span: Span) {
        self.ahead.fetch_add(span.0, Ordering::Relaxed);
    }
    /// What is known of the time.
    pub(crate) fn moment(&self) -> Moment {
        Moment { clock: self.now(), built: built() }
    }
    /// The runtime's instant at which this clock will show `time`.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        // A day ahead is as good as never: the driver asks again after every turn.
        let wait = Duration::from_millis(time.since(self.now()).0).min(Duration::from_secs(86_400));
        tokio::time::Instant::now() + wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_the_build_is_known_and_time_passes() {
        let clock = Clock::default();
        let before = clock.now();
        assert!(built() > Time(1_700_000_000_000), "{BUILT}");
        clock.pass(Span::days(30));
        assert!(clock.now() >= before + Span::days(30));
        assert_eq!(clock.moment().built, built());
    }
}
