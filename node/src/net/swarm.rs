//! The swarm's task: drives libp2p, turns its events into facts for the driver and the driver's orders into calls.
//! Invariant: it decides nothing and waits only for the driver to take a fact; the driver never waits for it.

use super::{
    CONTENT, CONTROL, NetError, Order,
    behaviour::{self, Behaviour, BehaviourEvent, Parts},
    control::{self, Desk},
    discovery::Discovery,
    gossip::{self, Heard},
    listen,
    names::{id_of, peer_in, peer_of, with_peer},
    neighbours::Neighbours,
};
use crate::{clock::Clock, shutdown::Stop};
use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::ConnectedPoint,
    gossipsub, identify, identity, mdns,
    swarm::{ConnectionId, DialError, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_stream::{Control, IncomingStreams};
use softservice_protocol::{
    id::{Peer, PublisherId},
    io::{Input, Source, Step},
    time::Time,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Orders that wait for the swarm: a full turn of the core toward every peer.
const ORDERS: usize = 1024;
/// How long connections get to say goodbye at the end; a QUIC peer that hears nothing waits 10 s for us in vain.
const GOODBYE: Duration = Duration::from_secs(3);
/// The hash table is asked again so often who follows what we follow: peers come and go within minutes.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// Dials whose address is remembered for the answer; the connection limits allow fewer.
const DIALS: usize = 1024;
/// Bans that are remembered; the oldest is forgotten first.
const BANS: usize = 4096;

/// What the rest of the node holds of the network.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) addresses: watch::Receiver<Vec<String>>,
    pub(crate) task: tokio::task::JoinHandle<()>,
    pub(crate) desk: Desk,
}

/// Ends of the streams that other parts of the node use.
pub(crate) struct Streams {
    pub(crate) control: Control,
    pub(crate) content: IncomingStreams,
}

struct Worker {
    swarm: Swarm<Behaviour>,
    orders: mpsc::Receiver<Order>,
    desk: Desk,
    control: Control,
    clock: Arc<Clock>,
    addresses: watch::Sender<Vec<String>>,
    unjudged: gossip::Unjudged,
    discovery: Discovery,
    dials: HashMap<ConnectionId, String>,
    connections: BTreeMap<Peer, u32>,
    bans: BTreeMap<Peer, Time>,
}

/// Brings the network up: returns when it listens everywhere it should.
pub(crate) async fn start(
    seed: [u8; 32],
    listen: &[String],
    parts: Parts,
    facts: mpsc::Sender<Input>,
    clock: Arc<Clock>,
    stop: Stop,
) -> Result<(Net, Streams), NetError> {
    let key = identity::Keypair::ed25519_from_bytes(seed).map_err(|e| NetError::Stack(e.to_string()))?;
    let mut swarm = behaviour::swarm(key, parts)?;
    let mut control = swarm.behaviour().stream.new_control();
    let taken = |_| NetError::Stack("a stream protocol is registered twice".into());
    let control_streams = control.accept(CONTROL).map_err(taken)?;
    let content = control.accept(CONTENT).map_err(taken)?;
    listen::everywhere(&mut swarm, listen).await?;

    let (orders, receiver) = mpsc::channel(ORDERS);
    let (addresses, watching) = watch::channel(Vec::new());
    let neighbours = Arc::new(Neighbours::default());
    let refused = swarm.behaviour().door.refused.clone();
    let desk = Desk { facts, orders: orders.downgrade(), neighbours: neighbours.clone(), refused };
    tokio::spawn(control::accept(control_streams, desk.clone()));
    let discovery = Discovery::new(*swarm.local_peer_id());
    let worker = Worker {
        swarm,
        orders: receiver,
        desk: desk.clone(),
        control: control.clone(),
        clock,
        addresses,
        unjudged: Default::default(),
        discovery,
        dials: HashMap::new(),
        connections: BTreeMap::new(),
        bans: BTreeMap::new(),
    };
    worker.tell_addresses();
    let task = tokio::spawn(worker.run(stop));
    Ok((Net { orders, neighbours, addresses: watching, task, desk }, Streams { control, content }))
}

impl Worker {
    async fn run(mut self, stop: Stop) {
        let mut looks = tokio::time::interval(LOOK_AGAIN);
        loop {
            let next_pardon = self.bans.values().min().copied();
            let pardon = async {
                match next_pardon {
                    Some(time) => tokio::time::sleep_until(self.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.wait() => break,
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => break,
                },
                event = self.swarm.select_next_some() => self.event(event).await,
                () = pardon => self.pardon(),
                _ = looks.tick() => if let Some(table) = self.swarm.behaviour_mut().kad.as_mut() {
                    self.discovery.look_again(table);
                },
            }
        }
        self.goodbye().await;
    }

    /// Closes every connection and gives them time to say so.
    async fn goodbye(mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.next().await;
            }
            // The last close still has to leave the socket: drive the transports until they are quiet.
            while self.swarm.next().now_or_never().is_some() {}
        };
        let _ = tokio::time::timeout(GOODBYE, closed).await;
        for peer in self.connections.keys() {
            self.desk.neighbours.remove(*peer);
        }
    }

    async fn fact(&mut self, input: Input) {
        // The driver is gone only at the end, when nobody needs to know.
        let _ = self.desk.facts.send(input).await;
    }

    fn tell_addresses(&self) {
        self.addresses.send_replace(listen::reachable_first(&self.swarm));
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Dial { address } => self.dial(address).await,
            Order::Disconnect { peer, ban_until, why } => self.disconnect(peer, ban_until, &why),
            Order::Topic { publisher, join } => self.topic(publisher, join),
            Order::Gossip { publisher, bytes } => {
                if let Err(e) = self.swarm.behaviour_mut().gossip.gossip().publish(gossip::topic(publisher), bytes) {
                    // Nobody listens yet, or everybody is slow: the periodic exchange of heads carries it.
                    tracing::debug!(%publisher, "not gossiped: {e}");
                }
            }
            Order::Judge { gossip, verdict } => {
                if let Some((id, from)) = self.unjudged.take(gossip) {
                    let gossip = self.swarm.behaviour_mut().gossip.gossip();
                    gossip.report_message_validation_result(&id, &from, gossip::acceptance(verdict));
                }
            }
        }
    }

    fn topic(&mut self, publisher: PublisherId, join: bool) {
        let topic = gossip::topic(publisher);
        let behaviour = self.swarm.behaviour_mut();
        let gossip = behaviour.gossip.gossip();
        if join {
            if let Err(e) = gossip.subscribe(&topic) {
                tracing::warn!(%publisher, "no gossip: {e}");
            }
            if let Err(e) = gossip.set_topic_params(topic, gossip::score()) {
                tracing::warn!(%publisher, "no scoring of gossip: {e}");
            }
        } else {
            gossip.unsubscribe(&topic);
        }
        if let Some(table) = behaviour.kad.as_mut() {
            self.discovery.topic(table, publisher, join);
        }
    }

    async fn dial(&mut self, address: String) {
        let dialled = address.parse::<Multiaddr>().map_err(|e| e.to_string()).and_then(|parsed| {
            let only_a_name = parsed.iter().count() == 1;
            let options = match peer_in(&parsed) {
                Some(peer) if self.swarm.is_connected(&peer) => return Ok(()),
                // Heard of by name alone (the hash table): the behaviours know where.
                Some(peer) if only_a_name => DialOpts::from(peer),
                Some(peer) => DialOpts::peer_id(peer).addresses(vec![parsed]).build(),
                None => DialOpts::from(parsed),
            };
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    if self.dials.len() < DIALS {
                        self.dials.insert(connection, address.clone());
                    }
                    Ok(())
                }
                // Somebody else's dial to the same peer goes on; its end is told.
                Err(DialError::DialPeerConditionFalse(_)) => Ok(()),
                Err(e) => Err(e.to_string()),
            }
        });
        if let Err(why) = dialled {
            tracing::debug!(address, "cannot dial: {why}");
            self.fact(Input::DialFailed { address }).await;
        }
    }

    fn disconnect(&mut self, peer: Peer, ban_until: Option<Time>, why: &str) {
        let Some(id) = id_of(peer) else { return };
        tracing::info!(peer = peer.short(), banned = ban_until.is_some(), "disconnecting: {why}");
        if let Some(until) = ban_until {
            self.swarm.behaviour_mut().door.banned(id);
            self.swarm.behaviour_mut().blocked.block_peer(id);
            self.bans.insert(peer, until);
            if self.bans.len() > BANS
                && let Some(oldest) = self.bans.iter().min_by_key(|(_, until)| **until).map(|(p, _)| *p)
            {
                self.forgive(oldest);
            }
        }
        let _ = self.swarm.disconnect_peer_id(id);
    }

    fn forgive(&mut self, peer: Peer) {
        self.bans.remove(&peer);
        if let Some(id) = id_of(peer) {
            self.swarm.behaviour_mut().blocked.unblock_peer(id);
        }
    }

    fn pardon(&mut self) {
        let now = self.clock.now();
        let over: Vec<Peer> = self.bans.iter().filter(|(_, until)| **until <= now).map(|(p, _)| *p).collect();
        for peer in over {
            self.forgive(peer);
        }
    }

    async fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event).await,
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.dials.remove(&connection_id);
                self.connected(peer_id, &endpoint).await;
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                if let Some(peer) = peer_of(&peer_id) {
                    self.disconnected(peer, num_established).await;
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(address) = self.dials.remove(&connection_id) {
                    tracing::debug!(address, "dial failed: {error}");
                    self.fact(Input::DialFailed { address }).await;
                }
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.tell_addresses(),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!("listener: {error}"),
            _ => {}
        }
    }

    async fn connected(&mut self, id: PeerId, endpoint: &ConnectedPoint) {
        let Some(peer) = peer_of(&id) else {
            tracing::info!(%id, "refused: its key is not ed25519");
            let _ = self.swarm.disconnect_peer_id(id);
            return;
        };
        let count = self.connections.entry(peer).or_insert(0);
        *count += 1;
        if *count > 1 {
            return;
        }
        let address = with_peer(endpoint.get_remote_address(), id);
        let outbound = endpoint.is_dialer();
        self.discovery.arrived(id, &address);
        let (outbox, figures) = self.desk.neighbours.add(peer, address.clone(), outbound);
        tokio::spawn(control::write(self.control.clone(), peer, figures, outbox, self.desk.clone()));
        self.fact(Input::Connected { peer, address, outbound }).await;
        self.desk.neighbours.told(peer);
    }

    async fn disconnected(&mut self, peer: Peer, left: u32) {
        if left > 0 {
            self.connections.insert(peer, left);
        } else if self.connections.remove(&peer).is_some() {
            if let Some(id) = id_of(peer) {
                self.discovery.left(id);
            }
            self.desk.neighbours.remove(peer);
            self.fact(Input::Disconnected { peer }).await;
        }
    }

    async fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(Heard::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                self.gossiped(propagation_source, message_id, message).await;
            }
            BehaviourEvent::Gossip(Heard::TooMuch(id)) => {
                if let Some(peer) = peer_of(&id) {
                    self.fact(Input::Broke { peer, why: "floods with gossip".into() }).await;
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (id, address) in found {
                    let address = with_peer(&address, id);
                    self.fact(Input::Found { address, source: Source::Lan }).await;
                }
            }
            BehaviourEvent::Ping(ping) => {
                if let (Some(peer), Ok(rtt)) = (peer_of(&ping.peer), ping.result) {
                    self.desk.neighbours.pinged(peer, rtt);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if let Some(table) = self.swarm.behaviour_mut().kad.as_mut() {
                    self.discovery.introduced(table, peer_id, info);
                }
            }
            BehaviourEvent::Kad(event) => {
                let Some(table) = self.swarm.behaviour_mut().kad.as_mut() else { return };
                for address in self.discovery.heard(table, event) {
                    self.fact(Input::Found { address, source: Source::Dht }).await;
                }
            }
            _ => {}
        }
    }

    async fn gossiped(&mut self, from: PeerId, id: gossipsub::MessageId, message: gossipsub::Message) {
        let gossip = self.swarm.behaviour_mut().gossip.gossip();
        let Some(peer) = peer_of(&from) else { return };
        if message.data.len() > softservice_protocol::limits::GOSSIP_BYTES {
            gossip.report_message_validation_result(&id, &from, gossipsub::MessageAcceptance::Reject);
            self.desk.refused.count(Step::Length);
            return self.fact(Input::Broke { peer, why: "gossips longer messages than there are".into() }).await;
        }
        let (number, oldest) = self.unjudged.note(id, from);
        if let Some((id, from)) = oldest {
            gossip.report_message_validation_result(&id, &from, gossipsub::MessageAcceptance::Ignore);
        }
        self.fact(Input::Gossiped { peer, gossip: number, bytes: message.data }).await;
    }
}
