//! Revocations that a root gave up with the branch that said them: they stay for as long as their release is listed, or may be
//! listed again. Invariant: what one catalogue can have revoked always stays; of more than that, the releases that are no
//! longer listed are forgotten, those first that an older epoch gave up. So no number of epochs makes a device keep, or look
//! through, more than a few catalogues.

use crate::{
    feed::{FeedState, Revocation},
    id::ReleaseId,
    limits,
};
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of revocations kept of releases that are not listed. In a catalogue each takes more than is counted here, so all
/// that one root can give up fits.
const UNLISTED: usize = limits::SNAPSHOT_BYTES;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stay {
    revocation: Revocation,
    /// The epoch that gave it up, by the root: the same on every device.
    epoch: u32,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stays(BTreeMap<ReleaseId, Stay>);

/// What a revocation counts.
fn weight(revocation: &Revocation) -> usize {
    64 + revocation.reason.len()
}

impl Stays {
    /// Everything that is shown as revoked now stays so in this epoch.
    pub(super) fn keep(&mut self, shown: &FeedState, epoch: u32) {
        let revoked = shown.snapshot.listings.iter().filter_map(|l| Some((l.release, l.revoked.clone()?)));
        self.0.extend(revoked.map(|(release, revocation)| (release, Stay { revocation, epoch })));
    }

    /// Takes one of an earlier life, unless what is here is harder.
    pub(super) fn restore(&mut self, release: ReleaseId, revocation: Revocation, epoch: u32) {
        let harder = self.0.get(&release).is_some_and(|s| s.revocation.level > revocation.level);
        if !harder {
            self.0.insert(release, Stay { revocation, epoch });
        }
    }
    /// All of them, with their epochs.
    pub(super) fn all(&self) -> impl Iterator<Item = (ReleaseId, u32, &Revocation)> {
        self.0.iter().map(|(release, stay)| (*release, stay.epoch, &stay.revocation))
    }

    /// What is to be shown of a state: with every revocation that a root gave up and nobody has said again. One look at
    /// each listing, however much stays.
    pub(super) fn show(&mut self, state: &Arc<FeedState>) -> Arc<FeedState> {
        if self.0.is_empty() {
            return state.clone();
        }
        let mut listed = BTreeMap::new();
        let mut over = Vec::new();
        for (n, listing) in state.snapshot.listings.iter().enumerate() {
            let Some(stay) = self.0.remove(&listing.release) else { continue };
            if listing.revoked.as_ref().map(|r| r.level) < Some(stay.revocation.level) {
                over.push((n, stay.revocation.clone().after(listing.revoked.as_ref())));
                listed.insert(listing.release, stay);
            }
        }
        self.forget();
        self.0.append(&mut listed);
        if over.is_empty() {
            return state.clone();
        }
        let mut shown = (**state).clone();
        for (n, revocation) in over {
            shown.snapshot.listings[n].revoked = Some(revocation);
        }
        Arc::new(shown)
    }

    /// Of what is here, all of it unlisted, forgets what is too much.
    fn forget(&mut self) {
        let mut bytes: usize = self.0.values().map(|s| weight(&s.revocation)).sum();
        if bytes <= UNLISTED {
            return;
        }
        let mut oldest: Vec<(u32, ReleaseId)> = self.0.iter().map(|(release, s)| (s.epoch, *release)).collect();
        oldest.sort_unstable();
        for (_, release) in oldest {
            if bytes <= UNLISTED {
                break;
            }
            bytes -= self.0.remove(&release).map_or(0, |s| weight(&s.revocation));
        }
    }

    /// Those of releases that are listed in this state: to be said again by their publisher.
    pub(super) fn unsaid<'a>(&'a self, state: &FeedState) -> impl Iterator<Item = (ReleaseId, &'a Revocation)> {
        let listed = state.snapshot.listings.iter().filter_map(|l| self.0.get_key_value(&l.release));
        let unsaid: BTreeMap<_, _> = listed.map(|(release, stay)| (*release, &stay.revocation)).collect();
        unsaid.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Listing, RevokeLevel, Snapshot};

    /// A catalogue of `count` releases, from `first` on, all revoked or none.
    fn state(first: u32, count: u32, revoked: bool) -> Arc<FeedState> {
        let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
        let listing = |n: u32| {
            let mut release = [0; 32];
            release[..4].copy_from_slice(&n.to_be_bytes());
            Listing {
                distro: "a".into(),
                version: format!("{n}.0.0"),
                revision: 0,
                channel: "a".into(),
                release: ReleaseId(release),
                size: 1,
                summary: String::new(),
                parents: vec![],
                revoked: revoked.then(|| revocation.clone()),
            }
        };
        let snapshot = Snapshot { listings: (first..first + count).map(listing).collect(), spent: vec![] };
        Arc::new(FeedState { snapshot, ..FeedState::default() })
    }
    fn revoked(state: &FeedState) -> usize {
        state.snapshot.listings.iter().filter(|l| l.revoked.is_some()).count()
    }

    /// As many minimal revoked releases as one catalogue can hold.
    const MOST: u32 = (limits::SNAPSHOT_BYTES / 100) as u32;

    #[test]
    fn all_that_one_root_gives_up_stays_however_many_did_so_before() {
        let mut stays = Stays::default();
        for epoch in 2..12 {
            stays.keep(&state(epoch * MOST, MOST, true), epoch);
            stays.show(&state(0, 1, false));
            assert!(stays.0.values().map(|s| weight(&s.revocation)).sum::<usize>() <= UNLISTED);
            // Listed again, one and all: in whatever order.
            assert_eq!(revoked(&stays.clone().show(&state(epoch * MOST, MOST, false))), MOST as usize);
        }
        assert!(stays.0.len() < 3 * MOST as usize, "the oldest are forgotten");
    }

    #[test]
    fn what_is_listed_stays_whatever_else_was_given_up() {
        let mut stays = Stays::default();
        let (old, now) = (state(0, 3, true), state(0, 3, false));
        stays.keep(&old, 2);
        for epoch in 3..9 {
            assert_eq!(revoked(&stays.show(&now)), 3);
            stays.keep(&state(epoch * MOST, MOST, true), epoch);
        }
        assert_eq!(revoked(&stays.show(&now)), 3);
        assert_eq!(stays.unsaid(&now).count(), 3);
        // Said again, none is to be said.
        assert_eq!(stays.show(&old), old);
        assert_eq!(stays.unsaid(&old).count(), 0);
    }
}
