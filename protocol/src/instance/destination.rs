//! Where the node itself goes to ask: the addresses of http and tcp questions. Invariant: an address has one reading or is
//! none, and nobody is asked but the softservice's own ports and what `allow.connect` of the role names.
//!
//! No sandbox holds the node, so this rule stands in its place. Names are not looked up here: where the node dials, what a
//! name turned out to mean is held to the same permissions.

use super::{
    ProbeSpec, param,
    sandbox::{Network, Reach},
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a question goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// To whom.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address; IPv4 in IPv6's clothes is told as IPv4.
    Address(IpAddr),
    /// A name in lower case, for a resolver.
    Name(String),
}

impl Host {
    /// Whether it is [`super::HOST`], where everything of one device listens.
    pub fn is_own(&self) -> bool {
        *self == Self::Address(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Who is meant. `localhost` is [`super::HOST`] without a resolver, who could say otherwise. What a resolver would take
    /// for an address in disguise, such as `127.1` or `0x7f000001`, is nobody.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if name == "localhost" {
            Ok(Self::Address(Ipv4Addr::LOCALHOST.into()))
        } else if hex || last.bytes().all(|b| b.is_ascii_digit()) || !param::hostname(&name) {
            Err(format!("{text:?} is neither an address nor a name of a host"))
        } else {
            Ok(Self::Name(name))
        }
    }

    /// The address between the brackets of `[::1]:80`.
    pub(crate) fn of_brackets(text: &str) -> Result<Self, String> {
        let address = text.parse::<Ipv6Addr>().map_err(|_| format!("{text:?} is no IPv6 address"))?;
        Ok(Self::Address(address.to_canonical()))
    }
}

impl ProbeSpec {
    /// Where the node goes to ask this; none for a program, which goes by itself and is held by its sandbox.
    ///
    /// # Errors
    /// Why it is no address.
    pub fn destination(&self) -> Result<Option<Destination>, String> {
        match self {
            Self::Http { url, .. } => Destination::of_url(url).map(Some),
            Self::Tcp { address } => Destination::of(address, None).map(Some),
            Self::Exec { .. } => Ok(None),
        }
    }
}

impl Destination {
    fn of_url(url: &str) -> Result<Self, String> {
        let (rest, port) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, 80),
            (None, Some(rest)) => (rest, 443),
            (None, None) => return Err("it does not begin with http://".into()),
        };
        Self::of(authority(rest), Some(port))
    }

    /// `host:port`, with `port` where none stands there. Nothing else may stand there: no name of a user, no zone.
    fn of(text: &str, port: Option<u16>) -> Result<Self, String> {
        let (host, after) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((inside, after))) => (Host::of_brackets(inside)?, after),
            Some(None) => return Err("its bracket is not closed".into()),
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (host, after) = text.split_at(end);
                (Host::of(host)?, after)
            }
        };
        let port = match (after.strip_prefix(':'), port) {
            (Some(digits), _) => number(digits),
            (None, port) => port.filter(|_| after.is_empty()),
        };
        let port = port.ok_or("it does not end in a port")?;
        Ok(Self { host, port })
    }

    /// Whether the node may go there. `own` are the numbers of the softservice's ports, `allowed` what its role may
    /// connect to beyond them. A name may be tried where any address at this port may be.
    pub(super) fn is_allowed(&self, own: impl Fn(u16) -> bool, allowed: &[Reach]) -> bool {
        let all = [Network::Device, Network::Lan, Network::Internet];
        match &self.host {
            host if host.is_own() && own(self.port) => true,
            Host::Address(address) => Network::of(*address).is_some_and(|to| to.is_open(self.port, allowed)),
            Host::Name(_) => all.into_iter().any(|to| to.is_open(self.port, allowed)),
        }
    }
}

/// What stands before the path of an address without its scheme.
pub(crate) fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// A port as it is written: digits, no sign.
pub(crate) fn number(digits: &str) -> Option<u16> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

impl Network {
    /// Where an address is, as far as the address alone tells; none = no connection leads there. Addresses of networks
    /// behind translators are the local network's. The device's own address on a network looks like its neighbours'.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            IpAddr::V4(v4) => match v4.octets() {
                [0 | 127, ..] => Some(Self::Device),
                [224..=255, ..] => None,
                [100, 64..=127, ..] | [198, 18 | 19, ..] => Some(Self::Lan),
                _ if v4.is_private() || v4.is_link_local() => Some(Self::Lan),
                _ => Some(Self::Internet),
            },
            IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Some(Self::Device),
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => Some(Self::Lan),
            IpAddr::V6(v6) => match v6.segments() {
                // NAT64 leads to IPv4's addresses, 6to4 as well: never further than those.
                [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => {
                    let [a, b] = [a, b].map(u16::to_be_bytes);
                    Self::of(IpAddr::from([a[0], a[1], b[0], b[1]]))
                }
                [0x2000..=0x3fff, ..] => Some(Self::Internet),
                _ => None,
            },
        }
    }

    /// Whether `allowed` leads there at this port. `internet` is not the local network and `lan` is not this device:
    /// an owner who agreed to one agreed to no other.
    pub fn is_open(self, port: u16, allowed: &[Reach]) -> bool {
        allowed.iter().any(|reach| reach.to == self && reach.port.is_none_or(|p| p == port))
    }
}

#[cfg(test)]
mod tests;
