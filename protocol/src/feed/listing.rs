//! What a catalogue may say of a release. Invariant: a [`Listing`] that passed has a name, a semantic version, one
//! plain line about itself and parents that are each named once, so that it can be printed and compared as it is.

use super::{Action, Listing, Revocation, Snapshot, Spent};
use crate::{
    id::{PublicKey, PublisherId, ReleaseId},
    limits, name,
    release::Release,
    text::{self, Foreign},
};
use std::collections::{BTreeMap, BTreeSet};

/// A signed listing and the release document that it names say two things: a lie of whoever signed it, for the document
/// is what the listing's hash says, whoever served it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its listing says {what} {}, the release itself {}", Foreign(.listed), Foreign(.said))]
pub struct Disagreement {
    /// Of what.
    pub what: &'static str,
    /// What the listing says.
    pub listed: String,
    /// What the document says.
    pub said: String,
}

impl Listing {
    /// Checks every rule of one listing by itself.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        if name::check(&self.distro).is_err() {
            return Err("its distro is no name: 1 to 63 of a-z, 0-9 and -");
        }
        if name::check(&self.channel).is_err() {
            return Err("its channel is no name: 1 to 63 of a-z, 0-9 and -");
        }
        if self.version.len() > limits::VERSION_BYTES || semver::Version::parse(&self.version).is_err() {
            return Err("its version is not semantic, or longer than 64 bytes");
        }
        if self.size == 0 || self.size as usize > limits::RELEASE_BYTES {
            return Err("its release document is empty or longer than 1 MiB");
        }
        if self.summary.len() > limits::SUMMARY_BYTES || !text::is_plain(&self.summary) {
            return Err("its summary is longer than 200 bytes, or not one line of visible characters");
        }
        if self.parents.len() > limits::PARENTS || self.parents.contains(&self.release) {
            return Err("it has more than 8 parents, or is its own");
        }
        let distinct: BTreeSet<_> = self.parents.iter().collect();
        if distinct.len() != self.parents.len() {
            return Err("it names a parent twice");
        }
        self.revoked.as_ref().map_or(Ok(()), |r| r.check(self.release))
    }
    /// Checks that the document behind this listing of `publisher` is what it says: what people chose by and what they get
    /// must not be two things. The channel stands in the listing alone, the platforms in the document alone.
    ///
    /// # Errors
    /// The first thing of which they speak differently.
    pub fn agrees(&self, publisher: PublisherId, release: &Release) -> Result<(), Disagreement> {
        let ids = |all: &mut dyn Iterator<Item = ReleaseId>| all.map(|id| id.short()).collect::<Vec<_>>().join(", ");
        let each = [
            ("publisher", publisher.to_string(), release.publisher.to_string()),
            ("distro", self.distro.clone(), release.distro.clone()),
            ("version", self.version.clone(), release.version.clone()),
            ("revision", self.revision.to_string(), release.revision.to_string()),
            ("summary", self.summary.clone(), release.summary.clone()),
        ];
        if let Some((what, listed, said)) = each.into_iter().find(|(_, listed, said)| listed != said) {
            return Err(Disagreement { what, listed, said });
        }
        if !self.parents.iter().eq(release.parents.iter().map(|p| &p.release)) {
            let listed = ids(&mut self.parents.iter().copied());
            let said = ids(&mut release.parents.iter().map(|p| p.release));
            return Err(Disagreement { what: "parents", listed, said });
        }
        Ok(())
    }
    /// What may stand only once in a catalogue beside the release itself.
    fn name(&self) -> (&str, &str, u32) {
        (&self.distro, &self.version, self.revision)
    }
}

impl Revocation {
    /// Checks every rule of the revocation of `release` by itself.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, release: ReleaseId) -> Result<(), &'static str> {
        if self.reason.len() > limits::REASON_BYTES || !text::is_plain(&self.reason) {
            return Err("the reason is longer than 500 bytes, or not one line of visible characters");
        }
        if self.replaced_by == Some(release) {
            return Err("the revoked release is named as its own replacement");
        }
        Ok(())
    }
    /// This one after an earlier one of the same release: the newest words count, the level only rises.
    pub(crate) fn after(self, earlier: Option<&Self>) -> Self {
        Self { level: earlier.map_or(self.level, |e| e.level.max(self.level)), ..self }
    }
}

impl Action {
    /// Checks every rule of an action by itself.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Release(listing) if listing.revoked.is_some() => Err("a new release is revoked"),
            Self::Release(listing) => listing.check(),
            Self::Revoke { release, revocation } => revocation.check(*release),
        }
    }
}

/// The channel of releases that are for everybody.
const STABLE: &str = "stable";

/// The listings of a distro among which one is chosen: those of the channel that is named; where none is, those of
/// `stable`, or all while nothing of the distro was ever stable. What was revoked counts as stable still: else whoever may
/// publish elsewhere alone would follow upon the last stable release that is taken back.
pub fn offered<'a>(
    listings: &'a [Listing],
    distro: &str,
    channel: Option<&str>,
) -> impl Iterator<Item = &'a Listing> + use<'a> {
    let distro = distro.to_owned();
    let stable = || listings.iter().any(|l| l.distro == distro && l.channel == STABLE);
    let channel = channel.map(str::to_owned).or_else(|| stable().then(|| STABLE.to_owned()));
    listings.iter().filter(move |l| l.distro == distro && channel.as_ref().is_none_or(|c| l.channel == *c))
}

impl Snapshot {
    /// See [`offered`].
    pub fn offered(&self, distro: &str, channel: Option<&str>) -> impl Iterator<Item = &Listing> {
        offered(&self.listings, distro, channel)
    }
    /// Checks every listing and that none is there twice: what entry after entry would have refused, for a device
    /// that never saw them.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut releases = BTreeSet::new();
        let mut names = BTreeSet::new();
        if !self.spent.is_sorted_by(|a, b| a.key < b.key) || self.spent.iter().any(|s| s.entries == 0) {
            return Err("what delegated keys appended is not ascending by key, or nothing");
        }
        for listing in &self.listings {
            listing.check()?;
            if !releases.insert(listing.release) {
                return Err("the release is already published");
            }
            if !names.insert(listing.name()) {
                return Err("this version of the distro is already published");
            }
        }
        Ok(())
    }
    /// The snapshot after `action`, which a delegated key appended or the roles did.
    ///
    /// # Errors
    /// What makes the action impossible here.
    pub fn after(&self, action: &Action, by: Option<PublicKey>) -> Result<Self, &'static str> {
        let mut next = self.clone();
        next.apply(action, by)?;
        Ok(next)
    }
    /// Makes this the snapshot after `action`; unchanged when that is impossible.
    ///
    /// # Errors
    /// What makes the action impossible here.
    pub fn apply(&mut self, action: &Action, by: Option<PublicKey>) -> Result<(), &'static str> {
        action.check()?;
        if by.is_some() && matches!(action, Action::Revoke { .. }) {
            return Err("a delegated key may only publish");
        }
        match action {
            Action::Release(listing) => {
                if self.listings.iter().any(|l| l.release == listing.release) {
                    return Err("the release is already published");
                }
                if self.listings.iter().any(|l| l.name() == listing.name()) {
                    return Err("this version of the distro is already published");
                }
                self.listings.push(listing.clone());
            }
            Action::Revoke { release, revocation } => {
                let found = self.listings.iter_mut().find(|l| l.release == *release);
                let listing = found.ok_or("the revoked release was never published")?;
                listing.revoked = Some(revocation.clone().after(listing.revoked.as_ref()));
            }
        }
        self.spend(by);
        Ok(())
    }
    /// Makes this the snapshot after actions that were applied to it one by one before: one look at each, however many there
    /// are. None when they cannot have been. What would be refused otherwise is not looked for: whoever calls knows the digest.
    pub(crate) fn replay(&mut self, actions: impl IntoIterator<Item = (Action, Option<PublicKey>)>) -> Option<()> {
        let mut places: BTreeMap<ReleaseId, usize> =
            self.listings.iter().enumerate().map(|(n, l)| (l.release, n)).collect();
        for (action, by) in actions {
            match action {
                Action::Release(listing) => {
                    places.insert(listing.release, self.listings.len());
                    self.listings.push(listing);
                }
                Action::Revoke { release, revocation } => {
                    let listing = places.get(&release).and_then(|n| self.listings.get_mut(*n))?;
                    listing.revoked = Some(revocation.after(listing.revoked.as_ref()));
                }
            }
            self.spend(by);
        }
        Some(())
    }
    /// Counts an entry of a delegated key.
    fn spend(&mut self, by: Option<PublicKey>) {
        match by.map(|key| (key, self.spent.binary_search_by_key(&key, |s| s.key))) {
            Some((_, Ok(at))) => self.spent[at].entries = self.spent[at].entries.saturating_add(1),
            Some((key, Err(at))) => self.spent.insert(at, Spent { key, entries: 1 }),
            None => {}
        }
    }
    /// Whether this can be the snapshot right after `action`.
    pub(super) fn follows(&self, action: &Action) -> bool {
        match action {
            Action::Release(listing) => self.listings.last() == Some(listing),
            Action::Revoke { release, revocation } => {
                let shows = |now: &Revocation| {
                    now.level >= revocation.level && *now == Revocation { level: now.level, ..revocation.clone() }
                };
                self.listings.iter().any(|l| l.release == *release && l.revoked.as_ref().is_some_and(shows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::RevokeLevel;

    fn release(n: u32) -> ReleaseId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        ReleaseId(id)
    }
    fn published(n: u32) -> (Action, Option<PublicKey>) {
        let listing = Listing {
            distro: "a".into(),
            version: format!("{n}.0.0"),
            revision: 0,
            channel: "a".into(),
            release: release(n),
            size: 1,
            summary: String::new(),
            parents: vec![],
            revoked: None,
        };
        (Action::Release(listing), n.is_multiple_of(3).then_some(PublicKey([7; 32])))
    }
    fn revoked(n: u32, level: RevokeLevel) -> (Action, Option<PublicKey>) {
        let revocation = Revocation { level, replaced_by: None, reason: format!("reason {n}") };
        (Action::Revoke { release: release(n / 2), revocation }, None)
    }

    #[test]
    fn a_replay_comes_to_what_one_by_one_came_to() {
        let mut actions: Vec<_> = (0..40).map(published).collect();
        actions.extend((0..40).map(|n| revoked(n, RevokeLevel::Unsafe)));
        actions.extend((0..40).map(|n| revoked(n, RevokeLevel::Withdraw)));
        let mut one_by_one = Snapshot::default();
        for (action, by) in &actions {
            one_by_one.apply(action, *by).unwrap();
        }
        let mut replayed = Snapshot::default();
        assert_eq!(replayed.replay(actions), Some(()));
        assert_eq!(replayed, one_by_one);
        assert_eq!(Snapshot::default().replay([revoked(0, RevokeLevel::Unsafe)]), None);
    }

    /// At each new epoch, and at every start once more. One by one this does not end.
    #[test]
    fn a_replay_of_a_long_feed_is_quick() {
        let mut snapshot = Snapshot::default();
        let actions = (0..60_000).map(published).chain((0..120_000).map(|n| revoked(n, RevokeLevel::Unsafe)));
        assert_eq!(snapshot.replay(actions), Some(()));
        assert!(snapshot.listings.len() == 60_000 && snapshot.listings.iter().all(|l| l.revoked.is_some()));
    }
}
