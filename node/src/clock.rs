//! The one clock of a node. Invariant: what it shows is what the wall clock shows, also when that is set back; what passes by it
//! never goes back, for timers would wait for the difference.
//!
//! One time for both was refused: a clock that once ran ahead would have stayed ahead until the node ends, and all that was
//! signed, or called old, by it.

use softservice_protocol::{
    feed::Moment,
    time::{Span, Time},
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
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
    seen: Mutex<Seen>,
    shifted: AtomicI64,
}

/// What was seen of the wall clock.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// What it showed last.
    wall: u64,
    /// By how much it was set back since this program runs, all times together.
    behind: u64,
}

impl Clock {
    fn look(&self) -> Seen {
        // Looked at under the lock: an older look of somebody else must not pass for a clock that was set back.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let wall = wall.saturating_add_signed(self.shifted.load(Ordering::Relaxed));
        seen.behind = seen.behind.saturating_add(seen.wall.saturating_sub(wall));
        seen.wall = wall;
        *seen
    }
    /// What passes: for timers and pauses.
    pub(crate) fn now(&self) -> Time {
        let seen = self.look();
        Time(seen.wall.saturating_add(seen.behind))
    }
    /// How much less the clock shows than what passes.
    pub(crate) fn behind(&self) -> Span {
        Span(self.look().behind)
    }
    /// Lets time pass: from now on this clock shows so much more. For whoever embeds a node and plays years in a moment; the
    /// node notices with whatever happens next.
    pub fn pass(&self, span: Span) {
        self.shifted.fetch_add(i64::try_from(span.0).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
    /// Sets this clock back, as whoever corrects one that ran ahead.
    pub fn set_back(&self, span: Span) {
        self.look();
        self.shifted.fetch_sub(i64::try_from(span.0).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
    /// What is known of the time: what the clock shows, for dates and ages.
    pub fn moment(&self) -> Moment {
        Moment { clock: Time(self.look().wall), built: built() }
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

    #[test]
    fn a_clock_that_is_set_back_is_followed_and_what_passes_goes_on() {
        let (clock, years) = (Clock::default(), Span::days(1000));
        let right = clock.moment().clock;
        clock.pass(years);
        let (ahead, passed) = (clock.moment().clock, clock.now());
        assert!(ahead >= right + years && clock.behind() == Span(0));
        clock.set_back(years);
        let shown = clock.moment().clock;
        assert!(shown >= right && shown < right + Span::days(1), "{shown:?} is what the wall clock shows");
        let later = clock.now();
        assert!(later >= passed && later < passed + Span::days(1), "timers do not wait for three years");
        assert!(clock.behind() > Span::days(999));
        // Once more, and timers go on from where they are.
        clock.set_back(years);
        assert!(clock.now() >= later && clock.behind() > Span::days(1999));
        assert!(clock.moment().clock < right);
    }
}
