//! Who gives way when more are connected than there is room for. Invariant: a group gives way only to one that has fewer
//! places, whoever the owner named never gives way, and who served us lately only when nobody else is left.
//!
//! Among equals the newcomer gives way: a place that is held was earned by being there, and an attacker who comes last
//! must not push out who came first.

use super::group::{Host, NetworkGroup, ip_of};
use crate::id::Peer;
use std::collections::BTreeMap;

/// What a peer is to us, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Stranger,
    /// Something that came from it lately was verified and of use.
    Served,
    /// The owner or a ticket names it.
    Named,
}

/// One place that is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) peer: Peer,
    pub(super) group: NetworkGroup,
    pub(super) host: Option<Host>,
    pub(super) standing: Standing,
    /// Later ones have higher numbers.
    pub(super) came: u64,
}

impl Place {
    pub(super) fn of(peer: Peer, address: &str, standing: Standing, came: u64) -> Self {
        let host = ip_of(address).map(Host::of);
        Self { peer, group: NetworkGroup::of(address), host, standing, came }
    }
}

/// Who of these is to go: of the group with most places, of its host with most, the last that came.
pub(super) fn gives_way(places: &[Place]) -> Option<Peer> {
    let lowest = places.iter().map(|p| p.standing).filter(|s| *s < Standing::Named).min()?;
    let mut groups: BTreeMap<NetworkGroup, usize> = BTreeMap::new();
    let mut hosts: BTreeMap<Host, usize> = BTreeMap::new();
    for place in places {
        *groups.entry(place.group).or_default() += 1;
        if let Some(host) = place.host {
            *hosts.entry(host).or_default() += 1;
        }
    }
    let crowding = |p: &Place| {
        let of_host = p.host.and_then(|h| hosts.get(&h)).copied().unwrap_or(0);
        (groups.get(&p.group).copied().unwrap_or(0), of_host, p.came)
    };
    places.iter().filter(|p| p.standing == lowest).max_by_key(|p| crowding(p)).map(|p| p.peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(n: u8, address: &str, standing: Standing) -> Place {
        Place::of(Peer([n; 32]), &format!("/ip4/{address}/tcp/1"), standing, n.into())
    }

    #[test]
    fn the_last_of_the_largest_group_gives_way() {
        use Standing::Stranger;
        let mut places =
            vec![place(1, "9.8.1.1", Stranger), place(2, "9.8.1.2", Stranger), place(3, "7.7.7.7", Stranger)];
        assert_eq!(gives_way(&places), Some(Peer([2; 32])));
        // Of two hosts of that group, the one with more.
        places.push(place(4, "9.8.1.1", Stranger));
        places.push(place(5, "9.8.1.2", Stranger));
        places.push(place(6, "9.8.1.1", Stranger));
        places.push(place(7, "9.8.1.3", Stranger));
        assert_eq!(gives_way(&places), Some(Peer([6; 32])));
        // Where all are equal, who came last.
        let equal: Vec<_> = (1..6).map(|n| place(n, &format!("{n}.1.1.1"), Stranger)).collect();
        assert_eq!(gives_way(&equal), Some(Peer([5; 32])));
    }

    #[test]
    fn who_is_named_stays_and_who_served_goes_after_strangers() {
        let places = [
            place(1, "9.8.1.1", Standing::Named),
            place(2, "9.8.1.2", Standing::Served),
            place(3, "9.8.1.3", Standing::Served),
            place(4, "7.7.7.7", Standing::Stranger),
        ];
        assert_eq!(gives_way(&places), Some(Peer([4; 32])));
        assert_eq!(gives_way(&places[..3]), Some(Peer([3; 32])));
        assert_eq!(gives_way(&places[..1]), None);
    }
}
