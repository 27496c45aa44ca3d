//! When the crash comes, and whom it hits. Invariant: moments of one seed are the same in every run; what the machine makes
//! of them is not, and what really happened is what counts.

use super::watch::{Change, Line};
use std::time::Duration;

/// When to kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// As soon as the journal has this line of the life that was begun. `begun` is before the effect, `done` after it.
    Line(Line),
    /// As soon as this happened to the softservice's folder, so many times.
    Change(Change, usize),
    /// After this part of the time that the deed takes undisturbed, in thousandths.
    Part(u64),
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "at {} {}", line.mark, line.effect),
            Self::Change(change, nth) => write!(f, "when {} was {}, time {nth}", change.name, change.what),
            Self::Part(part) => write!(f, "after {part} thousandths"),
        }
    }
}

/// Whom the crash hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victims {
    /// The node; keepers, fronts and services go on.
    Node,
    /// The node, all keepers and fronts, and so all services.
    All,
    /// Everybody, and what was not on the disk.
    Power,
}

impl Victims {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::All => "node, keepers",
            Self::Power => "power",
        }
    }
}

/// A crash to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// When.
    pub moment: Moment,
    /// Who.
    pub victims: Victims,
    /// The node is killed once more, so long after it was started again.
    pub again: Option<Duration>,
}

impl Crash {
    /// The `number`th random crash of a seed, hitting some of `victims`.
    pub fn random(seed: u64, number: u64, victims: &[Victims]) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        let hash = *blake3::hash(&bytes).as_bytes();
        let draw = |at: usize| u64::from_le_bytes(hash[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        Self {
            // A little beyond the end: a crash just after a deed is one, too.
            moment: Moment::Part(draw(0) % 1_050),
            victims: victims[(draw(1) % victims.len() as u64) as usize],
            again: (draw(2) % 4 == 0).then(|| Duration::from_millis(draw(3) % 600)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_crashes_and_another_gives_others() {
        let list = |seed| (0..100).map(|n| Crash::random(seed, n, &[Victims::Node, Victims::All])).collect::<Vec<_>>();
        assert_eq!(list(7), list(7));
        assert_ne!(list(7), list(8));
        assert!(list(7).iter().any(|c| c.victims == Victims::Node) && list(7).iter().any(|c| c.again.is_some()));
    }
}
