//! How long a publisher's newest word holds, and what time it is for that. Invariant: age is judged feed by feed: whatever
//! date one publisher signs, no other publisher's feed grows older or younger by it. What has an age that a wrong clock hides is
//! never called fresh.
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
    /// Past it, or of an age that a wrong clock hides: run, repair, install by hand, and say so; nothing is updated by itself.
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
    /// The same once it is known that there is a newer word: fresh no more.
    pub(crate) fn outdated(self) -> Self {
        Self { fresh_until: self.fresh_until.min(self.said), ..self }
    }
    /// What it is at `now`. Stale is loud, never bricked; so is expired.
    pub fn at(&self, now: Moment) -> Freshness {
        match now.time().max(self.said) {
            time if time >= self.stale_until => Freshness::Expired,
            time if time >= self.fresh_until => Freshness::Stale,
            // It may be fresh, or years old and withheld: a fourth state would say no more of what may be done.
            _ if self.is_of_unknown_age(now) => Freshness::Stale,
            _ => Freshness::Fresh,
        }
    }
    /// Whether the clock is known to be wrong: further behind the build, or behind this very word, than good clocks differ.
    pub fn is_of_unknown_age(&self, now: Moment) -> bool {
        now.clock + CLOCKS_DIFFER < self.said.max(now.built)
    }
    /// What the clock shows when [`Term::at`] is something else than now; none = never.
    pub fn holds(&self, now: Moment) -> Option<Time> {
        match self.at(now) {
            Freshness::Expired => None,
            Freshness::Fresh => Some(self.fresh_until),
            Freshness::Stale if now.time().max(self.said) >= self.fresh_until => Some(self.stale_until),
            // When the clock has come so far that it may be right.
            Freshness::Stale => Some(Time(self.said.max(now.built).0.saturating_sub(CLOCKS_DIFFER.0))),
        }
    }
}

/// How far a feed may be believed at `now`, and until when that holds, see [`Term`].
pub fn freshness(fresh: Option<&Fresh>, spoken: Time, root: &Root, now: Moment) -> (Freshness, Option<Time>) {
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
    fn a_word_whose_age_a_wrong_clock_hides_is_not_fresh() {
        let (built, day) = (Time(1_700_000_000_000), Span::days(1));
        let said = built + Span::days(100);
        let term = Term { said, fresh_until: said + Span::days(7), stale_until: said + Span::days(37) };
        let at = |clock| term.at(Moment { clock, built });
        assert_eq!(at(said + day), Freshness::Fresh);
        // Good clocks differ a little; what is more behind than that, or of 1970, knows no ages.
        assert_eq!(at(Time(said.0 - CLOCKS_DIFFER.0)), Freshness::Fresh);
        for clock in [Time(said.0 - CLOCKS_DIFFER.0 - 1), built + day, built, Time(5)] {
            assert_eq!(at(clock), Freshness::Stale, "{clock:?}");
            let good = term.holds(Moment { clock, built }).unwrap();
            assert_eq!(at(good), Freshness::Fresh, "{clock:?} is wrong until {good:?}");
        }
        // What had expired when the program was built has, whatever the clock shows.
        assert_eq!(term.at(Moment { clock: Time(5), built: said + Span::days(37) }), Freshness::Expired);
        assert_eq!(term.holds(Moment { clock: said, built }), Some(term.fresh_until));
        assert_eq!(term.holds(Moment { clock: term.fresh_until, built }), Some(term.stale_until));
        assert_eq!(term.holds(Moment { clock: term.stale_until, built }), None);
    }

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
