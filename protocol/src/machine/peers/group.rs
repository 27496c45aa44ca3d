//! Which part of the network an address is in. Invariant: whoever rents many addresses at one place is one group, and
//! whatever an address says, it is in exactly one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A part of the network that one hand may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NetworkGroup {
    /// This machine and private networks: who is there was let in by the owner, or by the owner's provider.
    Local,
    /// An IPv4 /16.
    V4([u8; 2]),
    /// An IPv6 /32.
    V6([u8; 4]),
    /// Named, relayed by name, or nothing that we can read: all of these together.
    Elsewhere,
}

impl NetworkGroup {
    /// Of a multiaddress, by its first part: behind a relay, the relay's.
    pub(crate) fn of(address: &str) -> Self {
        let mut parts = address.split('/').skip(1);
        let ip: Option<IpAddr> = match (parts.next(), parts.next()) {
            (Some("ip4"), Some(ip)) => ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            (Some("ip6"), Some(ip)) => ip.parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical()),
            _ => None,
        };
        match ip {
            Some(IpAddr::V4(ip)) => Self::v4(ip),
            Some(IpAddr::V6(ip)) => Self::v6(ip),
            None => Self::Elsewhere,
        }
    }
    fn v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        // 100.64.0.0/10 is what providers number their customers with.
        let shared = a == 100 && b & 0xc0 == 64;
        let near = ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared;
        if near { Self::Local } else { Self::V4([a, b]) }
    }
    fn v6(ip: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = ip.octets();
        let near = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
        if near { Self::Local } else { Self::V6([a, b, c, d]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_the_net_are_one_group_and_every_address_has_one() {
        for (address, group) in [
            ("/ip4/203.0.113.7/tcp/4001", NetworkGroup::V4([203, 0])),
            ("/ip4/203.0.250.1/udp/9/quic-v1/p2p/x", NetworkGroup::V4([203, 0])),
            ("/ip4/203.1.113.7/tcp/4001", NetworkGroup::V4([203, 1])),
            ("/ip6/2001:db8:1::1/tcp/1", NetworkGroup::V6([0x20, 1, 0x0d, 0xb8])),
            ("/ip6/2001:db8:ffff::2/tcp/1", NetworkGroup::V6([0x20, 1, 0x0d, 0xb8])),
            ("/ip6/::ffff:203.0.113.7/tcp/1", NetworkGroup::V4([203, 0])),
            ("/ip4/203.0.113.7/tcp/4001/p2p/r/p2p-circuit/p2p/x", NetworkGroup::V4([203, 0])),
            ("/ip4/127.0.0.1/tcp/1", NetworkGroup::Local),
            ("/ip4/192.168.1.9/tcp/1", NetworkGroup::Local),
            ("/ip4/100.100.0.1/tcp/1", NetworkGroup::Local),
            ("/ip6/fd00::1/tcp/1", NetworkGroup::Local),
            ("/ip6/::1/tcp/1", NetworkGroup::Local),
            ("/dns4/example.org/tcp/1", NetworkGroup::Elsewhere),
            ("/ip4/999.1.1.1/tcp/1", NetworkGroup::Elsewhere),
            ("ip4", NetworkGroup::Elsewhere),
            ("", NetworkGroup::Elsewhere),
        ] {
            assert_eq!(NetworkGroup::of(address), group, "{address}");
        }
    }
}
