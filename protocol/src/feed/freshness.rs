//! How long a publisher's newest word holds, and what time it is for that. Invariant: age is judged feed by feed: whatever
//! date one publisher signs, no other publisher's feed grows older or younger by it.
//!
//! One time for all feeds, the latest that anybody signed, was refused: whoever is followed could then make everybody
//! else's word look expired by one entry dated far ahead.

use super::Fresh;
use crate::{
    root::Root,
    time::{Span, Time},
};
use serde::{Deserialize, Serialize};

/// How long an entry speaks for its feed, and what a statement says unless told otherwise.
pub const VALID_FOR: Span = Span::days(7);
/// After so long without a newer word, new installs ask the owner.
pub const STALE_AT_MOST: Span = Span::days(30);
/// So far may two good clocks be apart.
pub const CLOCKS_DIFFER: Span = Span::seconds(3600);

/// How far a feed's newest word may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// Inside its validity.
    Fresh,
    /// Past it: run, repair, install by hand, and say so; nothing is updated by itself.
    Stale,
    /// Long past it, or the root has expired: new installs need the owner's consent.
    Expired,
}

/// Until when a feed's newest word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When it was said. A clock that shows less is wrong.
    pub said: Time,
    /// Fresh before this.
    pub fresh_until: Time,
    /// Stale before this, expired from then on.
    pub stale_until: Time,
}

impl Term {
    /// `spoken` is when the newest entry was made, or the root of an empty feed: an entry says that its feed ended there
    /// then, so it counts like a statement of [`VALID_FOR`]. Nothing holds beyond its root.
    pub fn of(fresh: Option<&Fresh>, spoken: Time, root: &Root) -> Self {
        let stated = fresh.map_or(Time(0), |f| f.issued_at + f.valid_for);
        let until = (spoken + VALID_FOR).max(stated);
        let end = (until + STALE_AT_MOST).min(root.expires_at);
        let said = fresh.map_or(spoken, |f| spoken.max(f.issued_at));
        Self { said, fresh_until: until.min(end), stale_until: end }
    }
    /// What it is at `now`. Stale is loud, never bricked; so is expired.
    pub fn at(&self, now: Time) -> Freshness {
        match now.max(self.said) {
            now if now >= self.stale_until => Freshness::Expired,
            now if now >= self.fresh_until => Freshness::Stale,
            _ => Freshness::Fresh,
        }
    }
    /// Until when [`Term::at`] stays what it is; none = for good.
    pub fn holds(&self, now: Time) -> Option<Time> {
        match self.at(now) {
            Freshness::Fresh => Some(self.fresh_until),
            Freshness::Stale => Some(self.stale_until),
            Freshness::Expired => None,
        }
    }
}

/// How far a feed may be believed at `now`, and until when that holds, see [`Term`].
pub fn freshness(fresh: Option<&Fresh>, spoken: Time, root: &Root, now: Time) -> (Freshness, Option<Time>) {
    let term = Term::of(fresh, spoken, root);
    (term.at(now), term.holds(now))
}

/// What a device knows of the time: what its clock shows, and when its program was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock. It may be wrong: many a small board begins each life in 1970.
    pub clock: Time,
    /// Nobody runs a program before it was made.
    pub built: Time,
}

impl Moment {
    /// The time that ages are measured at; [`Term::at`] adds what the feed itself said.
    pub fn time(self) -> Time {
        self.clock.max(self.built)
    }
    /// Whether the clock is certainly wrong.
    pub fn is_lost(self) -> bool {
        self.clock < self.built
    }
    /// Whether a statement of `issued_at` is of a wrong clock, and that one not ours: more than [`CLOCKS_DIFFER`] ahead of
    /// a clock that is known to be good. It is, for a feed, when it is neither behind the build nor, by so much, behind what
    /// the feed's release role signed last (`spoken`). The statement itself is no witness for its own date: the key that
    /// signs statements is online, and most easily stolen.
    pub fn is_ahead(self, issued_at: Time, spoken: Time) -> bool {
        let latest = self.clock + CLOCKS_DIFFER;
        !self.is_lost() && latest >= spoken && issued_at > latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_ahead_is_refused_by_a_good_clock_only() {
        let (built, hour) = (Time(1_700_000_000_000), CLOCKS_DIFFER);
        let good = Moment { clock: built + Span::days(100), built };
        let latest = good.clock + hour;
        assert!(!good.is_ahead(latest, built) && good.is_ahead(latest + Span::millis(1), built));
        // What the release role signed proves the clock wrong, a little more than clocks may differ; not a moment less.
        assert!(good.is_ahead(latest + Span::days(9), latest));
        assert!(!good.is_ahead(latest + Span::days(9), latest + Span::millis(1)));
        let lost = Moment { clock: Time(5), built };
        assert!(!lost.is_ahead(latest, built), "a clock of 1970 refuses nobody");
        assert_eq!((lost.time(), good.time()), (built, good.clock));
    }
}
