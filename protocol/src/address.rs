//! Addresses of peers as text: multiaddresses that end in `/p2p/` and the peer. Invariant: a [`Peer`] is an ed25519
//! key, so its name in an address and its 32 bytes are two spellings of one thing; nothing here resolves or dials.

use crate::id::Peer;

/// The identity multihash around a protobuf of an ed25519 key: what all of these peer names begin with, as bytes.
const HEADER: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Bytes of one address; a relayed one is about 200.
pub const ADDRESS_BYTES: usize = 255;

/// The peer's name as addresses spell it: `12D3Koo…`.
pub fn peer_name(peer: Peer) -> String {
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(&peer.0);
    bs58::encode(bytes).into_string()
}

/// The peer with this name, if it is an ed25519 key.
pub fn peer_from_name(name: &str) -> Option<Peer> {
    // 52 characters spell 38 bytes; base 58 is quadratic, so a long text is refused before it costs anything.
    if name.len() > 64 {
        return None;
    }
    let bytes = bs58::decode(name).into_vec().ok()?;
    Some(Peer(bytes.strip_prefix(&HEADER)?.try_into().ok()?))
}

/// An address without its last `/p2p/…`, and the peer that it named.
pub fn split(address: &str) -> (&str, Option<Peer>) {
    match address.rsplit_once("/p2p/").map(|(transport, name)| (transport, peer_from_name(name))) {
        Some((transport, Some(peer))) => (transport, Some(peer)),
        _ => (address, None),
    }
}

/// The peer at the end of an address.
pub fn peer_of(address: &str) -> Option<Peer> {
    split(address).1
}

/// A transport address with a peer at its end.
pub fn join(transport: &str, peer: Peer) -> String {
    format!("{transport}/p2p/{}", peer_name(peer))
}

/// Whether a text can be an address at all: visible ASCII that begins with `/`, at most [`ADDRESS_BYTES`].
pub fn is_plausible(address: &str) -> bool {
    address.len() <= ADDRESS_BYTES && address.starts_with('/') && address.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        // The ed25519 public key of the peer-id specification's test vectors.
        let key = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e".parse::<Peer>().unwrap();
        let name = peer_name(key);
        assert!(name.starts_with("12D3KooW"), "{name}");
        assert_eq!(peer_from_name(&name), Some(key));
        let address = join("/ip4/10.0.0.1/udp/4001/quic-v1", key);
        assert_eq!(split(&address), ("/ip4/10.0.0.1/udp/4001/quic-v1", Some(key)));
    }

    #[test]
    fn other_names_are_no_peer() {
        assert_eq!(peer_of("/ip4/10.0.0.1/tcp/1"), None);
        assert_eq!(peer_of("/ip4/10.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"), None);
        assert_eq!(peer_from_name(&"1".repeat(10_000)), None);
        assert_eq!(peer_from_name("0OIl"), None);
    }

    #[test]
    fn a_relayed_address_names_its_end() {
        let (relay, carol) = (Peer([1; 32]), Peer([2; 32]));
        let address = join(&format!("{}/p2p-circuit", join("/ip4/1.2.3.4/tcp/5", relay)), carol);
        assert_eq!(peer_of(&address), Some(carol));
    }
}
