//! The core's own time: milliseconds that a driver hands in. Invariant: nothing here reads a clock.

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A length of time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span(pub u64);

impl Span {
    /// So many milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(n)
    }
    /// So many seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(n * 1000)
    }
    /// So many days.
    pub const fn days(n: u64) -> Self {
        Self(n * 86_400_000)
    }
}
impl std::ops::Add<Span> for Time {
    type Output = Self;
    /// Saturates: a hostile `valid_for` must not wrap around.
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}
impl Time {
    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}
