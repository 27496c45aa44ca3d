//! What the stream of one peer waited for. Invariant: each moment of it is booked to one cause at most, by clocks of the tasks
//! that waited; nothing here reads a clock.
//!
//! Whoever answers has an answer whole before it begins to write it. So a wait for an answer to begin is a wait for the peer,
//! and a wait for more of it one for the way here. An answer's beginning has to come that way as well: what that takes, at the
//! speed of what came after beginnings, is not the peer's.

use softservice_protocol::io::Waits;
use std::time::Duration;

/// Bytes that come together with the beginning of an answer: what a holder writes at once before it knows the link.
const BEGINNING: usize = 64 << 10;

/// What reading one answer took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    /// Bytes of it, without its header.
    pub(super) size: usize,
    /// Until its header was here, from the question or the end of the answer before.
    pub(super) answer: Duration,
    /// Until its bytes were here, from its header on.
    pub(super) bytes: Duration,
    /// For the rate that the owner allows.
    pub(super) limit: Duration,
    /// For those who verify and store.
    pub(super) held_up: Duration,
}

/// What verifying and storing one answer took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// To unpack and to hash it.
    pub(super) verifying: Duration,
    /// To read what it is written against, and to write it.
    pub(super) storing: Duration,
}

/// The sums of one session.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes behind beginnings, and how long they were waited for.
    behind: usize,
    waited: Duration,
    work: Work,
    /// For those who verify and store, while nothing was on the wire.
    stalled: Duration,
}

impl Tally {
    /// Nothing was on the wire for so long, and answers were being verified and stored.
    pub(super) fn stalled(&mut self, time: Duration) {
        self.stalled += time;
    }
    /// An answer was read, verified and stored: what it and the stall before it waited for, in microseconds.
    pub(super) fn answered(&mut self, reading: &Reading, work: &Work) -> Waits {
        self.behind += reading.size.saturating_sub(BEGINNING);
        if reading.size > BEGINNING {
            self.waited += reading.bytes;
        }
        self.work.verifying += work.verifying;
        self.work.storing += work.storing;
        let on_its_way = self.beginning(reading.size).min(reading.answer);
        let own = reading.held_up + std::mem::take(&mut self.stalled);
        let all = (self.work.verifying + self.work.storing).as_secs_f64();
        let storing = if all > 0.0 { own.mul_f64(self.work.storing.as_secs_f64() / all) } else { own };
        Waits {
            looking: 0,
            peer: micros(reading.answer - on_its_way),
            link: micros(reading.bytes + on_its_way),
            limit: micros(reading.limit),
            disk: micros(storing),
            cpu: micros(own.saturating_sub(storing)),
        }
    }
    /// How long the beginning of an answer is on its way.
    fn beginning(&self, size: usize) -> Duration {
        let share = size.min(BEGINNING) as f64 / self.behind.max(1) as f64;
        if self.behind == 0 { Duration::ZERO } else { self.waited.mul_f64(share) }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::io::LimitedBy;

    const MIB: usize = 1 << 20;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    /// What ten such answers waited for.
    fn ten(reading: Reading, work: Work) -> Waits {
        let mut tally = Tally::default();
        (0..10).fold(Waits::default(), |sum, _| sum.plus(&tally.answered(&reading, &work)))
    }

    #[test]
    fn each_cause_is_named() {
        let work = Work { verifying: ms(1), storing: ms(1) };
        let quick = Reading { size: MIB, answer: ms(1), bytes: ms(1), ..Reading::default() };
        let causes = [
            (Reading { answer: ms(50), ..quick }, work, LimitedBy::Peer),
            (Reading { bytes: ms(50), ..quick }, work, LimitedBy::Link),
            (Reading { limit: ms(50), ..quick }, work, LimitedBy::Limit),
            (Reading { held_up: ms(50), ..quick }, Work { storing: ms(9), ..work }, LimitedBy::Disk),
            (Reading { held_up: ms(50), ..quick }, Work { verifying: ms(9), ..work }, LimitedBy::Cpu),
        ];
        for (reading, work, cause) in causes {
            let waits = ten(reading, work);
            assert_eq!(waits.limited_by(), cause, "{waits:?}");
        }
    }

    #[test]
    fn every_wait_is_booked_once() {
        let reading = Reading { size: MIB, answer: ms(7), bytes: ms(11), limit: ms(13), held_up: ms(17) };
        let mut tally = Tally::default();
        tally.stalled(ms(19));
        let waits = tally.answered(&reading, &Work { verifying: ms(1), storing: ms(2) });
        let sum = waits.peer + waits.link + waits.limit + waits.disk + waits.cpu;
        assert!(sum.abs_diff(1000 * (7 + 11 + 13 + 17 + 19)) <= 2, "{waits:?}");
        assert_eq!(waits.limit, 13_000);
        // A stall is told once.
        let again = tally.answered(&Reading::default(), &Work::default());
        assert_eq!(again, Waits::default());
    }

    #[test]
    fn answers_whose_beginnings_come_as_slowly_as_the_rest_wait_for_the_link() {
        // 1 MiB in 80 ms, of which the first 64 KiB come with the header: as fast as the rest.
        let link = Reading { size: MIB, answer: ms(5), bytes: ms(75), ..Reading::default() };
        assert_eq!(ten(link, Work::default()).peer, 0);
        // Small answers on the same link: their whole way is a beginning.
        let mut tally = Tally::default();
        tally.answered(&link, &Work::default());
        let small = Reading { size: 32 << 10, answer: ms(2), bytes: Duration::ZERO, ..Reading::default() };
        assert_eq!(tally.answered(&small, &Work::default()).limited_by(), LimitedBy::Link);
        // A peer that takes its time is told from it.
        let slow = Reading { answer: ms(200), ..small };
        assert_eq!(tally.answered(&slow, &Work::default()).limited_by(), LimitedBy::Peer);
    }

    #[test]
    fn a_disk_that_takes_all_that_came_is_named_while_nothing_is_on_the_wire() {
        let mut tally = Tally::default();
        tally.stalled(ms(500));
        let waits = tally.answered(&Reading::default(), &Work { verifying: ms(1), storing: ms(400) });
        assert_eq!(waits.limited_by(), LimitedBy::Disk);
    }
}
