//! How peers behaved: points and bans, whether they are connected or not. Invariant: both lists are bounded, and a peer that
//! leaves and comes back has the points that it left with.

use crate::{
    id::Peer,
    time::{Span, Time},
};
use std::collections::BTreeMap;

/// With so many points a peer is sent away.
pub(super) const PATIENCE: u32 = 100;
/// One point is forgiven after so long.
const FORGIVE: Span = Span::seconds(6);
/// Bans remembered; the one that ends first makes room.
const BANS: usize = 1024;
/// Peers whose points are remembered; who has fewest makes room.
const NOTED: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Conduct {
    points: BTreeMap<Peer, (u32, Time)>,
    bans: BTreeMap<Peer, Time>,
}

impl Conduct {
    /// Adds points; gives what the peer has now.
    pub(super) fn note(&mut self, now: Time, peer: Peer, points: u32) -> u32 {
        if self.points.len() >= NOTED && !self.points.contains_key(&peer) {
            self.points.retain(|_, (had, at)| left(*had, *at, now) > 0);
            let least = self.points.iter().min_by_key(|(_, (had, at))| left(*had, *at, now)).map(|(p, _)| *p);
            if let Some(least) = least.filter(|_| self.points.len() >= NOTED) {
                self.points.remove(&least);
            }
        }
        let (had, at) = self.points.entry(peer).or_insert((0, now));
        *had = left(*had, *at, now).saturating_add(points);
        *at = now;
        *had
    }

    pub(super) fn ban(&mut self, now: Time, peer: Peer, until: Time) {
        self.bans.retain(|_, until| *until > now);
        if self.bans.len() >= BANS
            && let Some(first) = self.bans.iter().min_by_key(|(_, until)| **until).map(|(p, _)| *p)
        {
            self.bans.remove(&first);
        }
        self.bans.insert(peer, until);
        // The ban is the answer to what it did; afterwards it begins anew.
        self.points.remove(&peer);
    }

    /// Until when it is banned, if it is.
    pub(super) fn banned(&self, now: Time, peer: Peer) -> Option<Time> {
        self.bans.get(&peer).copied().filter(|until| *until > now)
    }
}

fn left(had: u32, at: Time, now: Time) -> u32 {
    had.saturating_sub(u32::try_from(now.since(at).0 / FORGIVE.0).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000);

    #[test]
    fn points_are_forgiven_slowly_and_both_lists_are_bounded() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.note(NOW, Peer([1; 32]), 50), 50);
        assert_eq!(conduct.note(NOW + Span::seconds(60), Peer([1; 32]), 50), 90);
        for n in 0..3000_u32 {
            let peer = Peer(*blake3::hash(&n.to_le_bytes()).as_bytes());
            conduct.note(NOW + Span::seconds(61), peer, 1);
            conduct.ban(NOW, peer, NOW + Span::seconds(u64::from(n) + 1));
        }
        assert!(conduct.points.len() <= NOTED && conduct.bans.len() <= BANS);
        // Who has most points is not forgotten for those who have few, and the longest bans stay.
        assert!(conduct.note(NOW + Span::seconds(61), Peer([1; 32]), 10) >= 99);
        let last = Peer(*blake3::hash(&2999_u32.to_le_bytes()).as_bytes());
        assert!(conduct.banned(NOW, last).is_some());
        assert!(conduct.banned(NOW + Span::seconds(3000), last).is_none(), "a ban ends");
    }
}
