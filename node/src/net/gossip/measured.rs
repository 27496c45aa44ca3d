//! How much a neighbour may say. Invariant: who says more than [`BURST`] at once and [`RATE`] after that is named once and its
//! connections are closed, whether the library would have passed its words on, ignored or forgotten them.
//!
//! The library drops what repeats itself, and whatever comes from who lied twice, without a word to anybody, so that somebody
//! who sends just that could keep a core busy for ever.

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    gossipsub,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
    time::Instant,
};

/// Packets of gossip a second from one neighbour: messages are seconds apart, and what keeps a mesh is one a second.
const RATE: f64 = 64.0;
/// And how many at once: subscriptions and messages of some hundred publishers.
const BURST: f64 = 1024.0;

/// Gossipsub, which listens to each neighbour only so much.
pub(crate) struct Measured {
    gossip: gossipsub::Behaviour,
    neighbours: HashMap<PeerId, Level>,
    /// Who said too much, to be closed and told.
    excess: VecDeque<(PeerId, bool)>,
}

#[derive(Debug)]
struct Level {
    left: f64,
    since: Instant,
    told: bool,
}

impl Level {
    /// Takes one packet; false when it is one too many.
    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * RATE;
        self.left = (self.left + earned).min(BURST) - 1.0;
        self.since = now;
        self.left >= 0.0
    }
}

/// What comes out of it.
#[derive(Debug)]
pub(crate) enum Heard {
    Gossip(gossipsub::Event),
    /// It says more than anybody who follows the protocol; it is being disconnected.
    TooMuch(PeerId),
}

impl Measured {
    pub(crate) fn new(gossip: gossipsub::Behaviour) -> Self {
        Self { gossip, neighbours: HashMap::new(), excess: VecDeque::new() }
    }
    pub(crate) fn gossip(&mut self) -> &mut gossipsub::Behaviour {
        &mut self.gossip
    }
}

impl NetworkBehaviour for Measured {
    type ConnectionHandler = <gossipsub::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Heard;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.gossip.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.gossip.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(gone) = &event
            && gone.remaining_established == 0
        {
            self.neighbours.remove(&gone.peer_id);
        }
        self.gossip.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let now = Instant::now();
        let level = self.neighbours.entry(peer).or_insert(Level { left: BURST, since: now, told: false });
        if level.take(now) {
            return self.gossip.on_connection_handler_event(peer, connection, event);
        }
        if !level.told {
            level.told = true;
            self.excess.extend([(peer, false), (peer, true)]);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Heard, THandlerInEvent<Self>>> {
        match self.excess.pop_front() {
            Some((peer, false)) => return Poll::Ready(ToSwarm::GenerateEvent(Heard::TooMuch(peer))),
            Some((peer_id, true)) => {
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
            }
            None => {}
        }
        // Whoever fills the queue above does so before this is polled again: no waker of its own is needed.
        self.gossip.poll(cx).map(|event| event.map_out(Heard::Gossip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_neighbour_has_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut level = Level { left: BURST, since: start, told: false };
        assert!((0..BURST as usize).all(|_| level.take(start)));
        assert!(!level.take(start), "one more");
        // Who goes on at the rate of a busy mesh is never one too many.
        let mut level = Level { left: BURST, since: start, told: false };
        assert!((0..100_000_u64).all(|n| level.take(start + Duration::from_millis(n * 20))));
    }
}
