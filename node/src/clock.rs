//! The one clock of a node. Invariant: it follows the wall clock, but never goes back while the node runs.

use softservice_protocol::time::Time;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the epoch. A monotonic clock was refused: it stands still while a laptop sleeps, and a feed's
/// freshness does not.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    newest: AtomicU64,
}

impl Clock {
    pub(crate) fn now(&self) -> Time {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Time(self.newest.fetch_max(wall, Ordering::Relaxed).max(wall))
    }
    /// The runtime's instant at which this clock will show `time`.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        // A day ahead is as good as never: the driver asks again after every turn.
        let wait = Duration::from_millis(time.since(self.now()).0).min(Duration::from_secs(86_400));
        tokio::time::Instant::now() + wait
    }
}
