//! What a catalogue may say of a release. Invariant: a [`Listing`] that passed has a name, a semantic version, one
//! plain line about itself and parents that are each named once, so that it can be printed and compared as it is.

use super::{Action, Listing, Snapshot};
use crate::{limits, name, text};
use std::collections::BTreeSet;

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
        Ok(())
    }
    /// What may stand only once in a catalogue beside the release itself.
    fn name(&self) -> (&str, &str, u32) {
        (&self.distro, &self.version, self.revision)
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
            Self::Revoke { reason, .. } if reason.len() > limits::REASON_BYTES || !text::is_plain(reason) => {
                Err("the reason is longer than 500 bytes, or not one line of visible characters")
            }
            Self::Revoke { release, replaced_by, .. } if *replaced_by == Some(*release) => {
                Err("the revoked release is named as its own replacement")
            }
            Self::Revoke { .. } => Ok(()),
        }
    }
}

impl Snapshot {
    /// Checks every listing and that none is there twice: what entry after entry would have refused, for a device
    /// that never saw them.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut releases = BTreeSet::new();
        let mut names = BTreeSet::new();
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
    /// The snapshot after `action`.
    ///
    /// # Errors
    /// What makes the action impossible here.
    pub fn after(&self, action: &Action) -> Result<Self, &'static str> {
        action.check()?;
        let mut next = self.clone();
        match action {
            Action::Release(listing) => {
                if next.listings.iter().any(|l| l.release == listing.release) {
                    return Err("the release is already published");
                }
                if next.listings.iter().any(|l| l.name() == listing.name()) {
                    return Err("this version of the distro is already published");
                }
                next.listings.push(listing.clone());
            }
            Action::Revoke { release, level, .. } => {
                let found = next.listings.iter_mut().find(|l| l.release == *release);
                let listing = found.ok_or("the revoked release was never published")?;
                listing.revoked = listing.revoked.max(Some(*level));
            }
        }
        Ok(next)
    }
    /// Whether this can be the snapshot right after `action`.
    pub(super) fn follows(&self, action: &Action) -> bool {
        match action {
            Action::Release(listing) => self.listings.last() == Some(listing),
            Action::Revoke { release, level, .. } => {
                self.listings.iter().any(|l| l.release == *release && l.revoked >= Some(*level))
            }
        }
    }
}
