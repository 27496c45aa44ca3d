//! The door: how many connections there are, in each direction, to each peer, and how many handshakes under way from
//! each network. Invariant: a handshake that is refused costs nothing but its arrival; whoever left is not counted.
//!
//! The library's own limits were refused: they count handshakes under way without looking whose they are, so that one
//! address with sixty-four that never end shuts everybody else out, and keep an entry of each peer that was ever here.
//! Who gives way when all places are taken is the core's to say; here a few more stand until it has.

mod knocks;
#[cfg(test)]
mod tests;

use crate::refused::Refused;
use knocks::Knocks;
use libp2p::{
    Multiaddr, PeerId,
    allow_block_list::Blocked,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, ListenError, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use softservice_protocol::{io::Step, limits, machine::peers::group::NetworkGroup};
use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
    time::Instant,
};

/// Connections to one peer: two, so that a simultaneous dial from both sides does not close both.
const PER_PEER: usize = 2;
/// Handshakes under way in each direction; each holds some kilobytes for ten seconds at most.
const PENDING: usize = 128;
/// Those of one network: an eighth, so that slow ones of seven others still leave room.
const PENDING_OF_ONE: usize = 16;
/// Connections beyond the places, until the core has said who gives way.
const ON_THE_WAY_OUT: usize = 16;
/// Places for who came to us.
const INBOUND: usize = limits::INBOUND_PEERS + ON_THE_WAY_OUT;
/// Places for whom we dialled. Twice: dials race over several addresses of one peer, and the core counts peers.
const OUTBOUND: usize = 2 * limits::OUTBOUND_PEERS + ON_THE_WAY_OUT;

/// Why somebody does not come in.
#[derive(Debug, thiserror::Error)]
#[error("refused: {0}")]
struct Denied(&'static str);

fn refused(why: &'static str) -> ConnectionDenied {
    ConnectionDenied::new(Denied(why))
}

#[derive(Debug)]
struct Standing {
    peer: PeerId,
    inbound: bool,
    from: Option<IpAddr>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// Counts who does not come in.
    pub(crate) refused: Refused,
    knocks: Knocks,
    /// The same of sources that are only claimed: who invents them keeps their owners from this way in, and from no other.
    claims: Knocks,
    /// Handshakes under way: from where, and whether that is only claimed, as over UDP.
    knocking: HashMap<ConnectionId, (NetworkGroup, bool)>,
    dialling: HashSet<ConnectionId>,
    standing: HashMap<ConnectionId, Standing>,
}

impl Door {
    /// A peer is banned: so much about the addresses that it came from.
    pub(crate) fn banned(&mut self, peer: PeerId) {
        let now = Instant::now();
        let inbound = self.standing.values().filter(|s| s.peer == peer && s.inbound);
        let from: HashSet<IpAddr> = inbound.filter_map(|s| s.from).collect();
        from.into_iter().for_each(|from| self.knocks.banned(now, from));
    }
    fn admit(&self, peer: PeerId, inbound: bool, places: usize) -> Result<(), ConnectionDenied> {
        if self.standing.values().filter(|s| s.peer == peer).count() >= PER_PEER {
            return Err(refused("it has enough connections"));
        }
        // Places are of peers, as the core counts them: two connections of each would fill the door, and the core would
        // see half of it empty and make nobody give way.
        let others = self.standing.values().filter(|s| s.inbound == inbound && s.peer != peer);
        if others.map(|s| s.peer).collect::<HashSet<_>>().len() >= places {
            return Err(refused("all places are taken"));
        }
        Ok(())
    }
    /// Whether a handshake may begin.
    fn knocked(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), ConnectionDenied> {
        let from = ip(remote);
        let caller = (from.map_or(NetworkGroup::Unknown, NetworkGroup::of_ip), is_claimed(remote));
        // Each kind has a pool of its own: datagrams with invented sources must not shut out who comes over TCP.
        let of_kind = self.knocking.values().filter(|(_, claimed)| *claimed == caller.1).count();
        if of_kind >= PENDING || self.knocking.values().filter(|known| **known == caller).count() >= PENDING_OF_ONE {
            return Err(refused("too many handshakes are under way"));
        }
        if let Some(from) = from {
            let knocks = if caller.1 { &mut self.claims } else { &mut self.knocks };
            knocks.may(Instant::now(), from).map_err(refused)?;
        }
        self.knocking.insert(connection, caller);
        Ok(())
    }
    /// Whether a handshake that came to nothing speaks against where it came from. Not over UDP: that source is a claim.
    /// Not when we had no place for it. And not while somebody from there is in: who dials several of our addresses at
    /// once drops all but one of these.
    fn is_blamed(&self, address: &Multiaddr, from: IpAddr, error: &ListenError) -> bool {
        let broken = match error {
            ListenError::Denied { cause } => cause.downcast_ref::<Blocked>().is_some(),
            ListenError::Transport(_) => !self.standing.values().any(|s| s.inbound && s.from == Some(from)),
            ListenError::WrongPeerId { .. } | ListenError::LocalPeerId { .. } | ListenError::Aborted => false,
        };
        broken && !is_claimed(address)
    }
}

/// Whether where it comes from is only claimed until the handshake is over.
fn is_claimed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Udp(_)))
}

/// Where a connection comes from.
fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(v4) => Some(IpAddr::V4(v4)),
        Protocol::Ip6(v6) => Some(IpAddr::V6(v6)),
        _ => None,
    })
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knocked(connection, remote).inspect_err(|_| self.refused.count(Step::Limits))
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let admitted = self.admit(peer, true, INBOUND).inspect_err(|_| self.refused.count(Step::Limits));
        admitted.map(|()| dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dialling.len() >= PENDING {
            return Err(refused("too many dials are under way"));
        }
        self.dialling.insert(connection);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, false, OUTBOUND).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(now) => {
                self.knocking.remove(&now.connection_id);
                self.dialling.remove(&now.connection_id);
                let (inbound, from) = (now.endpoint.is_listener(), ip(now.endpoint.get_remote_address()));
                self.standing.insert(now.connection_id, Standing { peer: now.peer_id, inbound, from });
            }
            FromSwarm::ConnectionClosed(gone) => drop(self.standing.remove(&gone.connection_id)),
            FromSwarm::ListenFailure(failure) => {
                // Of those that were refused at the threshold nothing is known here, and they cost nothing.
                if self.knocking.remove(&failure.connection_id).is_some()
                    && let Some(from) = ip(failure.send_back_addr)
                    && self.is_blamed(failure.send_back_addr, from, failure.error)
                {
                    self.knocks.broken(Instant::now(), from);
                }
            }
            FromSwarm::DialFailure(failure) => drop(self.dialling.remove(&failure.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
