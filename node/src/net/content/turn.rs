//! How much of an answer is written at once. Invariant: what is written at once keeps its connection busy for about [`TURN`],
//! whatever the link: pings and control messages of the same connection have their turn in between.
//!
//! One size for all links was refused: pieces that a fast link needs, to be encrypted and sent at the lowest cost, would hold up a
//! slow one for a second.

use super::SLICE;

/// How long others may have to wait for one piece, in seconds.
const TURN: f64 = 0.005;
/// Smaller pieces cost more than they help.
const LEAST: usize = 16 << 10;
/// Before anything is measured.
const FIRST: usize = 64 << 10;

/// What is to be written at once on a link of so many bytes a second.
pub(super) fn slice(link: Option<f64>) -> usize {
    link.map_or(FIRST, |link| ((link * TURN) as usize).clamp(LEAST, SLICE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_link_gets_large_pieces_and_a_slow_one_small_ones() {
        assert_eq!(slice(None), FIRST);
        // 400 MB/s, 100 Mbit/s, 20 Mbit/s, and what no clock measures.
        assert_eq!(slice(Some(400e6)), SLICE);
        assert_eq!(slice(Some(12.5e6)), 62_500);
        assert_eq!(slice(Some(2.5e6)), LEAST);
        assert_eq!([0.0, f64::NAN, f64::INFINITY].map(|link| slice(Some(link))), [LEAST, LEAST, SLICE]);
    }
}
