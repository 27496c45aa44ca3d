//! How much of an answer is written at once. Invariant: what is written at once keeps its connection busy for about [`TURN`],
//! whatever the link: pings and control messages of the same connection have their turn in between.
//!
//! One size for all links was refused: pieces that a fast link needs, to be encrypted and sent at the lowest cost, would hold up a
//! slow one for a second.

use super::SLICE;
use std::time::Duration;

/// How long others may have to wait for one piece.
const TURN: Duration = Duration::from_millis(5);
/// Smaller pieces cost more than they help.
const LEAST: usize = 16 << 10;
/// Before anything is measured.
const FIRST: usize = 64 << 10;

/// The size that suits one stream.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// What is to be written at once now.
    pub(super) fn slice(&self) -> usize {
        self.0
    }
    /// So many bytes were taken in this time.
    pub(super) fn took(&mut self, bytes: usize, time: Duration) {
        if bytes < LEAST {
            // An answer that holds next to nothing says nothing about the link.
            return;
        }
        let wished = bytes as u128 * TURN.as_nanos() / time.as_nanos().max(1);
        self.0 = usize::try_from(wished).unwrap_or(SLICE).clamp(LEAST, SLICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_link_gets_large_pieces_and_a_slow_one_small_ones() {
        let mut pace = Pace::default();
        assert_eq!(pace.slice(), FIRST);
        // 400 MiB/s, then 20 Mbit/s, then 100 Mbit/s.
        pace.took(1 << 20, Duration::from_micros(2500));
        assert_eq!(pace.slice(), SLICE);
        pace.took(1 << 20, Duration::from_millis(420));
        assert_eq!(pace.slice(), LEAST);
        pace.took(1 << 20, Duration::from_millis(84));
        assert!((60_000..65_000).contains(&pace.slice()), "{}", pace.slice());
        pace.took(100, Duration::from_secs(1));
        assert!((60_000..65_000).contains(&pace.slice()));
        pace.took(usize::MAX, Duration::ZERO);
        assert_eq!(pace.slice(), SLICE);
    }
}
