//! The wait before a service is started again. Invariant: it doubles from [`FIRST`] to [`LONGEST`] and only a run of
//! [`PROVEN`] begins it anew, so that a service that crashes at once costs little, and one that crashes once a day does
//! not pay for the crashes of last year.

use std::time::Duration;

/// The wait before the first restart.
pub(super) const FIRST: Duration = Duration::from_millis(200);
/// The longest wait before a restart.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// A service that ran for so long starts again as if it had never failed.
pub(super) const PROVEN: Duration = Duration::from_secs(60);

/// The growing wait of one service.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait after a run that took so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= PROVEN {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_in_a_row_wait_twice_as_long_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..10).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn only_a_run_that_proved_itself_begins_the_wait_anew() {
        let mut backoff = Backoff::new();
        backoff.after(Duration::ZERO);
        backoff.after(Duration::ZERO);
        assert_eq!(backoff.after(PROVEN - Duration::from_millis(1)), FIRST * 4, "one moment too early");
        assert_eq!(backoff.after(PROVEN), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), FIRST * 2, "and grows from there");
    }
}
