//! Addresses as small as a QR code wants them: neighbours of one peer share its 32 bytes, the four everyday transports
//! take 7 or 19 bytes, anything else travels as its text.
//! Invariant: [`read`] gives back the very texts that [`print`] was given; no text is spelled in two ways.

use crate::{
    address::{ADDRESS_BYTES, is_plausible, join, split},
    id::Peer,
};
use core::net::{Ipv4Addr, Ipv6Addr};
use data_encoding::BASE32_NOPAD;

/// No ed25519 peer at the end: the address is whole text.
const NO_PEER: u8 = 0;
/// An ed25519 key of 32 bytes follows; every address of the group ends in it.
const ED25519: u8 = 1;

const TEXT: u8 = 0;
const IP4_QUIC: u8 = 1;
const IP4_TCP: u8 = 2;
const IP6_QUIC: u8 = 3;
const IP6_TCP: u8 = 4;

/// `/P…` for each group of neighbours with one peer.
pub(super) fn print(addresses: &[String]) -> String {
    let mut groups: Vec<(Option<Peer>, Vec<u8>)> = Vec::new();
    for address in addresses {
        let (transport, peer) = split(address);
        if groups.last().is_none_or(|(last, _)| *last != peer) {
            let mut header = vec![if peer.is_some() { ED25519 } else { NO_PEER }];
            header.extend(peer.iter().flat_map(|p| p.0));
            groups.push((peer, header));
        }
        if let Some((_, bytes)) = groups.last_mut() {
            pack(transport, bytes);
        }
    }
    groups.iter().map(|(_, bytes)| format!("/P{}", BASE32_NOPAD.encode(bytes))).collect()
}

/// The addresses of one group; none when the bytes do not spell any.
pub(super) fn read(text: &str) -> Option<Vec<String>> {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (&form, mut rest) = bytes.split_first()?;
    let peer = match form {
        NO_PEER => None,
        ED25519 => Some(Peer(*take(&mut rest)?)),
        _ => return None,
    };
    let mut addresses = Vec::new();
    while !rest.is_empty() {
        let transport = unpack(&mut rest)?;
        let address = peer.map_or(transport.clone(), |p| join(&transport, p));
        if !is_plausible(&address) {
            return None;
        }
        addresses.push(address);
    }
    (!addresses.is_empty()).then_some(addresses)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

fn pack(transport: &str, out: &mut Vec<u8>) {
    if let Some(short) = shortened(transport) {
        out.extend_from_slice(&short);
        return;
    }
    // Addresses are at most ADDRESS_BYTES long (checked before), so the length fits its byte.
    let len = transport.len().min(ADDRESS_BYTES);
    out.extend_from_slice(&[TEXT, len as u8]);
    out.extend_from_slice(transport.as_bytes().get(..len).unwrap_or_default());
}

/// The short form, if reading it gives back this very text.
fn shortened(transport: &str) -> Option<Vec<u8>> {
    let mut parts = transport.strip_prefix('/')?.split('/');
    let (family, host, layer, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let port: u16 = port.parse().ok()?;
    let quic = match (layer, parts.next(), parts.next()) {
        ("udp", Some("quic-v1"), None) => true,
        ("tcp", None, None) => false,
        _ => return None,
    };
    let mut out = Vec::new();
    match family {
        "ip4" => {
            out.push(if quic { IP4_QUIC } else { IP4_TCP });
            out.extend(host.parse::<Ipv4Addr>().ok()?.octets());
        }
        "ip6" => {
            out.push(if quic { IP6_QUIC } else { IP6_TCP });
            out.extend(host.parse::<Ipv6Addr>().ok()?.octets());
        }
        _ => return None,
    }
    out.extend(port.to_be_bytes());
    (unpack(&mut out.as_slice()).as_deref() == Some(transport)).then_some(out)
}

fn unpack(rest: &mut &[u8]) -> Option<String> {
    let [form] = *take(rest)?;
    let host = match form {
        TEXT => {
            let [len] = *take(rest)?;
            let (text, tail) = rest.split_at_checked(len.into())?;
            *rest = tail;
            return String::from_utf8(text.to_vec()).ok();
        }
        IP4_QUIC | IP4_TCP => format!("/ip4/{}", Ipv4Addr::from(*take::<4>(rest)?)),
        IP6_QUIC | IP6_TCP => format!("/ip6/{}", Ipv6Addr::from(*take::<16>(rest)?)),
        _ => return None,
    };
    let port = u16::from_be_bytes(*take(rest)?);
    let quic = matches!(form, IP4_QUIC | IP6_QUIC);
    Some(if quic { format!("{host}/udp/{port}/quic-v1") } else { format!("{host}/tcp/{port}") })
}
