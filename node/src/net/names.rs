//! Two names of one peer: libp2p's peer id and the protocol's 32-byte key.
//! Invariant: the two are one to one; peers with other kinds of keys have no name here and are not talked to.

use libp2p::{Multiaddr, PeerId, identity, multiaddr};
use softservice_protocol::id::Peer;

/// The protocol's name of a libp2p peer; none unless its key is ed25519.
pub(crate) fn peer_of(id: &PeerId) -> Option<Peer> {
    let hash = libp2p::multihash::Multihash::<64>::from(*id);
    // Code 0: the id is the key itself. Longer keys are hashed, and so cannot be ours.
    if hash.code() != 0 {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(Peer(key.to_bytes()))
}

/// libp2p's name of a peer; none when its 32 bytes are no point on the curve.
pub(crate) fn id_of(peer: Peer) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The peer that an address ends in.
pub(crate) fn peer_in(address: &Multiaddr) -> Option<PeerId> {
    address.iter().fold(None, |last, part| match part {
        multiaddr::Protocol::P2p(id) => Some(id),
        multiaddr::Protocol::P2pCircuit => None,
        _ => last,
    })
}

/// The address with `/p2p/` of this peer at its end.
pub(crate) fn with_peer(address: &Multiaddr, id: PeerId) -> String {
    match peer_in(address) {
        Some(known) if known == id => address.to_string(),
        _ => address.clone().with(multiaddr::Protocol::P2p(id)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let key = identity::Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let peer = peer_of(&id).unwrap();
        assert_eq!(id_of(peer), Some(id));
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let text = with_peer(&address, id);
        assert_eq!(peer_in(&text.parse().unwrap()), Some(id));
        assert_eq!(with_peer(&text.parse().unwrap(), id), text);
    }
}
