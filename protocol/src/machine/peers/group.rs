//! Network groups: addresses that one party can have many of at the price of one. Invariant: every address is in exactly one
//! group, and nobody on the internet changes group without being given addresses by somebody else.
//!
//! Addresses of a LAN, an overlay or this machine are a group each: whoever has such an address has a machine there, and
//! a household or an office is no crowd of strangers. One group for all of them was refused: it would treat a village of
//! honest devices as one attacker.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whose addresses these are likely to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkGroup {
    /// A /16 of the IPv4 internet.
    V4([u8; 2]),
    /// A /32 of the IPv6 internet: what a provider has.
    V6([u8; 4]),
    /// One address of a LAN, an overlay or this machine.
    Near(IpAddr),
    /// Only a name is known, or a way without an address.
    Unknown,
}

/// What one subscriber has: an IPv4 address, or a /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(IpAddr);

impl Host {
    /// The subscriber behind an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match plain(address) {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

impl NetworkGroup {
    /// The group of an IP address.
    pub fn of_ip(address: IpAddr) -> Self {
        let address = plain(address);
        match address {
            _ if is_near(address) => Self::Near(address),
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                Self::V4([a, b])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.octets();
                Self::V6([a, b, c, d])
            }
        }
    }
    /// The group of a multiaddress; of a relayed one, the relay's.
    pub fn of(address: &str) -> Self {
        ip_of(address).map_or(Self::Unknown, Self::of_ip)
    }
    /// Whether its addresses are the internet's, so that one party may well have many of them.
    pub fn is_public(self) -> bool {
        matches!(self, Self::V4(_) | Self::V6(_))
    }
    /// Whether it is a LAN's, an overlay's or this machine's.
    pub fn is_near(self) -> bool {
        matches!(self, Self::Near(_))
    }
    /// Whether somebody here may send us there. What is nearer than the teller itself is none of its business: a stranger
    /// could have us knock at everything that stands in our LAN, and a neighbour at what listens to this machine alone. A
    /// name may lead anywhere, so it counts as the nearest.
    pub fn may_send_to(self, there: Self) -> bool {
        match (self, there) {
            (_, Self::V4(_) | Self::V6(_)) => true,
            (Self::Near(here), Self::Near(there)) => {
                is_plain_host(there) && (here.is_loopback() || !there.is_loopback())
            }
            (Self::Near(here), Self::Unknown) => here.is_loopback(),
            (Self::V4(_) | Self::V6(_) | Self::Unknown, Self::Near(_) | Self::Unknown) => false,
        }
    }
}

/// Whether this is the address of one machine.
fn is_plain_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, ..] = v4.octets();
            a != 0 && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

/// The first IP address of a multiaddress.
pub fn ip_of(address: &str) -> Option<IpAddr> {
    let mut parts = address.split('/').skip(1);
    while let Some(part) = parts.next() {
        match part {
            "ip4" => return parts.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "ip6" => return parts.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            "ip6zone" => drop(parts.next()),
            _ => return None,
        }
    }
    None
}

/// The IPv4 address that an IPv6 address stands for: mapped, by 6to4 or by NAT64. Else whoever has one of the former would
/// have a second group.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(p, q, r, s))
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64/10 is what overlays and providers' own networks use.
            let shared = a == 100 && (64..128).contains(&b);
            // What has no host on the internet, least of all one that strangers could tell us of.
            let nowhere = a == 0 || a >= 224;
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared || nowhere
        }
        IpAddr::V6(v6) => {
            let [first, ..] = v6.segments();
            let (local, link) = (first & 0xfe00 == 0xfc00, first & 0xff80 == 0xfe80);
            v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || local || link
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(address: &str) -> NetworkGroup {
        NetworkGroup::of(&format!("{address}/tcp/4001/p2p/x"))
    }

    #[test]
    fn a_slice_of_the_internet_is_one_group_and_a_lan_is_none() {
        assert_eq!(group("/ip4/9.8.7.6"), group("/ip4/9.8.0.1"));
        assert_ne!(group("/ip4/9.8.7.6"), group("/ip4/9.9.7.6"));
        assert_eq!(group("/ip6/2a01:4f8:1:2::3"), group("/ip6/2a01:4f8:ffff::1"));
        assert_ne!(group("/ip6/2a01:4f8:1:2::3"), group("/ip6/2a01:4f9::1"));
        for (one, other) in [
            ("/ip4/192.168.1.2", "/ip4/192.168.1.3"),
            ("/ip4/10.0.0.1", "/ip4/10.0.0.2"),
            ("/ip4/127.0.0.1", "/ip4/127.0.0.2"),
            ("/ip4/169.254.1.1", "/ip4/169.254.1.2"),
            ("/ip4/100.64.1.1", "/ip4/100.64.1.2"),
            ("/ip6/fe80::1", "/ip6/fe80::2"),
            ("/ip6/fd00::1", "/ip6/fd00::2"),
        ] {
            assert_ne!(group(one), group(other));
            assert!(!group(one).is_public(), "{one}");
        }
    }

    #[test]
    fn an_address_in_other_clothes_is_in_the_same_group() {
        for same in ["/ip6/::ffff:9.8.7.6", "/ip6/2002:0908:0706::1", "/ip6/64:ff9b::9.8.7.6"] {
            assert_eq!(group(same), group("/ip4/9.8.7.6"), "{same}");
        }
        assert_eq!(group("/ip6zone/eth0/ip6/fe80::1"), group("/ip6/fe80::1"));
        let relayed = "/ip4/9.8.7.6/tcp/1/p2p/relay/p2p-circuit/p2p/x";
        assert_eq!(NetworkGroup::of(relayed), group("/ip4/9.8.1.1"));
        assert_eq!(Host::of("::ffff:9.8.7.6".parse().unwrap()), Host::of("9.8.7.6".parse().unwrap()));
        assert_eq!(Host::of("2a01:4f8::1".parse().unwrap()), Host::of("2a01:4f8::ffff:1".parse().unwrap()));
    }

    #[test]
    fn nobody_sends_us_to_what_is_nearer_than_itself() {
        let [machine, lan, internet, name] =
            ["/ip4/127.0.0.1", "/ip4/192.168.1.2", "/ip4/9.8.7.6", "/dns4/router.lan"].map(group);
        let may = |teller: NetworkGroup| [internet, lan, machine, name].map(|there| teller.may_send_to(there));
        assert_eq!(may(internet), [true, false, false, false]);
        assert_eq!(may(lan), [true, true, false, false]);
        assert_eq!(may(machine), [true; 4]);
        assert_eq!(may(name), [true, false, false, false]);
        for clothes in ["/ip6/::ffff:192.168.1.1", "/ip6/64:ff9b::10.0.0.1", "/ip6/2002:7f00:1::1", "/ip6/fec0::1"] {
            assert!(!internet.may_send_to(group(clothes)), "{clothes}");
        }
        for nowhere in ["/ip4/0.1.2.3", "/ip4/224.0.0.1", "/ip4/255.255.255.255", "/ip6/ff02::1", "/ip6/::"] {
            assert!([machine, lan, internet].iter().all(|teller| !teller.may_send_to(group(nowhere))), "{nowhere}");
        }
    }

    #[test]
    fn what_names_no_place_is_of_no_group() {
        for address in ["", "/", "/p2p/x", "/dns4/example.org/tcp/1", "/ip4/", "/ip4/300.1.1.1", "/ip6/nonsense", "ip4"]
        {
            assert_eq!(NetworkGroup::of(address), NetworkGroup::Unknown, "{address}");
        }
    }
}
