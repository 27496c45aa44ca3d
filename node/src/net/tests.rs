//! Swarms of two and three over loopback: control messages, gossip, the hash table.

use super::{
    Order,
    behaviour::Parts,
    names::{peer_in, peer_of},
    swarm::{self, Net},
};
use crate::{clock::Clock, shutdown::Stop};
use futures::AsyncWriteExt as _;
use softservice_protocol::{
    id::{Peer, PublisherId},
    io::{Input, Source, Verdict},
    limits,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Longest wait for anything; stories end long before.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A node without a core.
pub(super) struct Station {
    pub(super) me: Peer,
    pub(super) net: Net,
    pub(super) facts: mpsc::Receiver<Input>,
    pub(super) stop: Stop,
}

impl Station {
    pub(super) async fn start(name: u8, listen: &str) -> (Self, swarm::Streams) {
        Self::with(name, listen, Parts { mdns: false, dht: false }).await
    }
    async fn with(name: u8, listen: &str, parts: Parts) -> (Self, swarm::Streams) {
        let (facts_in, facts) = mpsc::channel(64);
        let stop = Stop::default();
        let clock = Arc::new(Clock::default());
        let started = swarm::start([name; 32], &[listen.into()], parts, facts_in, clock, stop.clone()).await;
        let (net, streams) = started.unwrap();
        let address: libp2p::Multiaddr = net.addresses.borrow().first().unwrap().parse().unwrap();
        let me = peer_of(&peer_in(&address).unwrap()).unwrap();
        (Self { me, net, facts, stop }, streams)
    }
    pub(super) fn address(&self) -> String {
        self.net.addresses.borrow().first().unwrap().clone()
    }
    pub(super) async fn fact(&mut self) -> Input {
        tokio::time::timeout(PATIENCE, self.facts.recv()).await.expect("a fact in time").unwrap()
    }
    pub(super) async fn dial(&mut self, other: &str) {
        self.order(Order::Dial { address: other.into() }).await;
        loop {
            match self.fact().await {
                Input::Connected { outbound: true, .. } => return,
                Input::DialFailed { address } => panic!("cannot dial {address}"),
                _ => {}
            }
        }
    }
    async fn order(&self, order: Order) {
        self.net.orders.send(order).await.unwrap();
    }
    async fn join(&self, publisher: PublisherId) {
        self.order(Order::Topic { publisher, join: true }).await;
    }
    /// The next gossip message, its number and who passed it on.
    async fn gossip(&mut self) -> (Vec<u8>, u64, Peer) {
        loop {
            if let Input::Gossiped { peer, gossip, bytes } = self.fact().await {
                return (bytes, gossip, peer);
            }
        }
    }
    async fn judge(&self, gossip: u64, verdict: Verdict) {
        self.order(Order::Judge { gossip, verdict }).await;
    }
    /// Gossips, to whoever is known to listen.
    async fn say(&self, publisher: PublisherId, bytes: &[u8]) {
        self.order(Order::Gossip { publisher, bytes: bytes.into() }).await;
    }
}

const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// Says `text` with a growing number behind it until `listener` hears one, as subscriptions travel on their own;
/// gives what was heard.
async fn until_heard(
    speaker: &Station,
    listener: &mut Station,
    publisher: PublisherId,
    text: &str,
) -> (Vec<u8>, u64, Peer) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut number = 0;
    loop {
        tokio::select! {
            heard = listener.gossip() => return heard,
            _ = ticks.tick() => {
                number += 1;
                speaker.say(publisher, format!("{text} {number}").as_bytes()).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_passes_bob_only_when_he_accepts_it() {
    let publisher = PublisherId([5; 32]);
    let (alice, _a) = Station::start(1, TCP).await;
    let (mut bob, _b) = Station::start(2, TCP).await;
    let (mut carol, _c) = Station::start(3, TCP).await;
    for station in [&alice, &bob, &carol] {
        station.join(publisher).await;
    }
    bob.dial(&alice.address()).await;
    carol.dial(&bob.address()).await;
    // Both links gossip: Bob hears Alice, Carol hears Bob.
    let (heard, _, from) = until_heard(&alice, &mut bob, publisher, "alice").await;
    assert!(heard.starts_with(b"alice") && from == alice.me);
    let (heard, _, from) = until_heard(&bob, &mut carol, publisher, "bob").await;
    assert!(heard.starts_with(b"bob") && from == bob.me);

    // What Bob ignores or rejects or is too long does not reach Carol; what he accepts does.
    alice.say(publisher, b"ignored").await;
    alice.say(publisher, b"accepted").await;
    let mut verdicts = 0;
    while verdicts < 2 {
        let (bytes, number, from) = bob.gossip().await;
        assert_eq!(from, alice.me);
        match &bytes[..] {
            b"ignored" => bob.judge(number, Verdict::Ignore).await,
            b"accepted" => bob.judge(number, Verdict::Accept).await,
            _ => continue,
        }
        verdicts += 1;
    }
    loop {
        let (bytes, _, from) = carol.gossip().await;
        assert_eq!(from, bob.me);
        assert!(bytes != b"ignored" && !bytes.starts_with(b"alice"), "{:?}", String::from_utf8_lossy(&bytes));
        if bytes == b"accepted" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_announcement_fits_and_a_longer_one_is_not_passed_to_the_core() {
    let publisher = PublisherId([6; 32]);
    let (alice, _a) = Station::start(1, TCP).await;
    let (mut bob, _b) = Station::start(2, TCP).await;
    alice.join(publisher).await;
    bob.join(publisher).await;
    bob.dial(&alice.address()).await;
    until_heard(&alice, &mut bob, publisher, "hello").await;
    alice.say(publisher, &vec![1; limits::GOSSIP_BYTES + 1]).await;
    alice.say(publisher, &vec![2; limits::GOSSIP_BYTES]).await;
    loop {
        let (bytes, _, _) = bob.gossip().await;
        assert!(bytes.len() <= limits::GOSSIP_BYTES);
        if bytes.len() == limits::GOSSIP_BYTES {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bob_finds_alice_through_the_hash_table_of_a_stranger() {
    let publisher = PublisherId([7; 32]);
    let parts = Parts { mdns: false, dht: true };
    let (hub, _h) = Station::with(1, TCP, parts).await;
    let (mut alice, _a) = Station::with(2, TCP, parts).await;
    let (mut bob, _b) = Station::with(3, TCP, parts).await;
    alice.join(publisher).await;
    alice.dial(&hub.address()).await;
    bob.dial(&hub.address()).await;
    // Bob asks again until Alice's announcement has reached the hub, as a node does that follows and finds nobody.
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let address = loop {
        tokio::select! {
            fact = bob.fact() => if let Input::Found { address, source: Source::Dht } = fact {
                break address;
            },
            _ = ticks.tick() => bob.join(publisher).await,
        }
    };
    assert_eq!(peer_in(&address.parse().unwrap()).and_then(|id| peer_of(&id)), Some(alice.me));
    // The table may have connected them already, to ask Alice the same question.
    if bob.net.neighbours.figures(alice.me).is_none() {
        bob.dial(&address).await;
    }
    assert!(bob.net.neighbours.expect(alice.me, PATIENCE).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_banned_stays_away_until_the_ban_is_over() {
    let clock = Clock::default();
    let (mut alice, _a) = Station::start(1, TCP).await;
    let (mut bob, _b) = Station::start(2, TCP).await;
    bob.dial(&alice.address()).await;
    assert!(matches!(alice.fact().await, Input::Connected { .. }));
    let ban_until = clock.now() + softservice_protocol::time::Span::millis(1500);
    let why = "he lied".into();
    alice.order(Order::Disconnect { peer: bob.me, ban_until: Some(ban_until), why }).await;
    assert!(matches!(alice.fact().await, Input::Disconnected { .. }));
    // He tries again and again; Alice hears nothing of it while the ban lasts, then lets him in.
    let mut ticks = tokio::time::interval(Duration::from_millis(300));
    let mut refusals = 0;
    loop {
        tokio::select! {
            fact = alice.fact() => {
                assert!(matches!(fact, Input::Connected { peer, .. } if peer == bob.me));
                break;
            }
            fact = bob.fact() => if matches!(fact, Input::DialFailed { .. } | Input::Disconnected { .. }) {
                refusals += 1;
            },
            _ = ticks.tick() => bob.order(Order::Dial { address: alice.address() }).await,
        }
    }
    assert!(refusals > 1 && clock.now() >= ban_until, "{refusals}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_messages_arrive_in_order_and_absurd_frames_end_the_connection() {
    let (mut alice, _alice_streams) = Station::start(1, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let (mut bob, mut streams) = Station::start(2, "/ip4/127.0.0.1/tcp/0").await;
    bob.dial(&alice.address()).await;
    for number in 0..20u8 {
        bob.net.neighbours.send(alice.me, vec![number; 1 + usize::from(number) * 1000]).unwrap();
    }
    assert!(matches!(alice.fact().await, Input::Connected { outbound: false, .. }));
    for number in 0..20u8 {
        match alice.fact().await {
            Input::Received { bytes, .. } => assert_eq!(bytes, vec![number; 1 + usize::from(number) * 1000]),
            other => panic!("{other:?}"),
        }
    }
    let id = super::names::id_of(alice.me).unwrap();
    let mut stream = streams.control.open_stream(id, super::CONTROL).await.unwrap();
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert!(matches!(alice.fact().await, Input::Broke { peer, .. } if peer == bob.me));
    assert!(matches!(alice.fact().await, Input::Disconnected { peer } if peer == bob.me));
    assert_eq!(alice.net.desk.refused.of(softservice_protocol::io::Step::Length), 1);
}
