//! Callers over real sockets, from addresses of their own, at each limit and one beyond it.

use super::{super::tests::Station, *};
use crate::net::transport;
use libp2p::identity::Keypair;
use line::Line;
use std::time::Duration;

#[path = "../../../examples/mallory/bound.rs"]
mod bound;
#[path = "../../../examples/mallory/line.rs"]
#[allow(dead_code, reason = "an attacker needs more of it than these tests")]
mod line;

/// A node that takes everything, and where it listens.
async fn alice() -> (Multiaddr, impl Sized) {
    let (address, _, node) = counting().await;
    (address, node)
}
/// The same with her counts of who did not come in.
async fn counting() -> (Multiaddr, Refused, impl Sized) {
    let (alice, streams) = Station::start(1, "/ip4/127.0.0.1/tcp/0").await;
    let address = alice.address().parse::<Multiaddr>().unwrap();
    let mut facts = alice.facts;
    tokio::spawn(async move { while facts.recv().await.is_some() {} });
    (address, alice.net.desk.refused.clone(), (alice.net, alice.stop, streams))
}
fn from(n: usize) -> IpAddr {
    IpAddr::from([127, 9, (n / 250) as u8, (n % 250) as u8 + 1])
}
/// A caller who is let in, if it is.
async fn comes(key: &Keypair, from: IpAddr, alice: &Multiaddr) -> Option<Line> {
    let line = Line::open(key, from, alice).await?;
    // Who is refused hears so when the handshake has ended, in place of an answer.
    line.stream("/ipfs/ping/1.0.0").await.is_ok().then_some(line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_places_may_be_taken_and_not_one_more_until_somebody_leaves() {
    let (alice, _node) = alice().await;
    let mut inside = Vec::new();
    for n in 0..INBOUND {
        let line = comes(&Keypair::generate_ed25519(), from(n), &alice).await;
        inside.push(line.unwrap_or_else(|| panic!("there is a place for number {n}")));
    }
    assert!(comes(&Keypair::generate_ed25519(), from(900), &alice).await.is_none(), "one more");
    inside.pop();
    let mut tries = 0;
    while comes(&Keypair::generate_ed25519(), from(901 + tries), &alice).await.is_none() {
        tries += 1;
        assert!(tries < 50, "who left has given the place back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_of_one_peer_take_one_place() {
    let (alice, _node) = alice().await;
    let mut inside = Vec::new();
    // Each from an address of its own, twice: more connections than places, and half as many peers.
    for n in 0..INBOUND / 2 + 2 {
        let key = Keypair::generate_ed25519();
        for _ in 0..PER_PEER {
            inside.push(comes(&key, from(n), &alice).await.unwrap_or_else(|| panic!("number {n} has a place")));
        }
    }
    assert!(inside.len() > INBOUND);
    assert!(comes(&Keypair::generate_ed25519(), from(900), &alice).await.is_some(), "half of the places are free");
}

#[test]
fn only_what_is_proven_and_hostile_is_blamed() {
    let mut door = Door::default();
    let from = from(1);
    let (tcp, quic): (Multiaddr, Multiaddr) =
        (format!("/ip4/{from}/tcp/4").parse().unwrap(), format!("/ip4/{from}/udp/4/quic-v1").parse().unwrap());
    let broke = || ListenError::Transport(libp2p::TransportError::Other(std::io::Error::other("it ended")));
    assert!(door.is_blamed(&tcp, from, &broke()));
    assert!(!door.is_blamed(&quic, from, &broke()), "anybody may claim this source");
    assert!(!door.is_blamed(&tcp, from, &ListenError::Denied { cause: refused("all places are taken") }));
    let inside = Standing { peer: PeerId::random(), inbound: true, from: Some(from) };
    door.standing.insert(ConnectionId::new_unchecked(1), inside);
    assert!(!door.is_blamed(&tcp, from, &broke()), "its dials raced, and one of them won");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_has_two_connections_and_no_third_and_leaves_no_trace() {
    let (alice, _node) = alice().await;
    let key = Keypair::generate_ed25519();
    let first = comes(&key, from(1), &alice).await.expect("the first");
    let second = comes(&key, from(1), &alice).await.expect("the second");
    assert!(comes(&key, from(1), &alice).await.is_none(), "no third");
    assert!(comes(&Keypair::generate_ed25519(), from(1), &alice).await.is_some(), "somebody else from there");
    drop((first, second));
    let mut tries = 0;
    while comes(&key, from(1), &alice).await.is_none() {
        tries += 1;
        assert!(tries < 50, "they are counted no more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_never_end_are_few_of_one_address_and_keep_nobody_else_out() {
    let (alice, _node) = alice().await;
    let to = bound::socket_address(&alice).unwrap();
    let mallory = IpAddr::from([127, 6, 6, 6]);
    let ends = async |mut stream: tokio::net::TcpStream| {
        tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await.unwrap_or(0) == 0
    };
    let mut silent = Vec::new();
    for _ in 0..PENDING_OF_ONE {
        silent.push(bound::connect(mallory, to).await.unwrap());
    }
    // One more is closed at once; those before it are waited for.
    let more = bound::connect(mallory, to).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(5), ends(more)).await.expect("at once"));
    assert!(
        comes(&Keypair::generate_ed25519(), mallory, &alice).await.is_none(),
        "nor is anybody else from there let in"
    );
    assert!(comes(&Keypair::generate_ed25519(), from(1), &alice).await.is_some());
    // They are not waited for for ever.
    let all = futures::future::join_all(silent.into_iter().map(ends));
    assert!(tokio::time::timeout(Duration::from_secs(60), all).await.expect("they are ended").into_iter().all(|e| e));
    // Sixteen that came to nothing within a minute are no accident any more. Who comes in first comes behind their ends.
    assert!(comes(&Keypair::generate_ed25519(), from(2), &alice).await.is_some());
    assert!(comes(&Keypair::generate_ed25519(), mallory, &alice).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_handshakes_and_another_is_let_in_all_the_same() {
    let (alice, counted, _node) = counting().await;
    let mallory = IpAddr::from([127, 6, 6, 6]);
    let mut refused = 0_u64;
    for n in 0..1000 {
        if comes(&Keypair::generate_ed25519(), mallory, &alice).await.is_none() {
            refused += 1;
            assert!(n >= 64, "the burst is everybody's");
        }
        if refused > 5 {
            break;
        }
    }
    assert!(refused > 5, "a thousand handshakes of one address");
    assert_eq!(counted.of(Step::Limits), refused, "each is counted");
    assert!(comes(&Keypair::generate_ed25519(), from(1), &alice).await.is_some());
}

/// Over QUIC the first datagram is answered before the door is asked, to whatever source it names, and the library offers
/// no way to have that source proven first. What is left is the protocol's own bound: three times as much as came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_one_datagram_is_answered_with_no_more_than_three_times_its_bytes() {
    const QUIET: Duration = Duration::from_secs(3);
    let (alice, _streams) = Station::start(1, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let (bob, _others) = Station::start(2, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let port = |address: &str| address.split('/').nth(4).unwrap().parse::<u16>().unwrap();
    // Bob's datagrams end here; the first one is sent to alice as if it came from somewhere else.
    let (here, there) = (
        tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        tokio::net::UdpSocket::bind("127.6.6.6:0").await.unwrap(),
    );
    let id = crate::net::names::id_of(alice.me).unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{id}", here.local_addr().unwrap().port());
    bob.net.orders.send(crate::net::Order::Dial { address }).await.unwrap();
    let mut datagram = [0; 4096];
    let sent = tokio::time::timeout(Duration::from_secs(30), here.recv(&mut datagram)).await.unwrap().unwrap();
    there.send_to(&datagram[..sent], ("127.0.0.1", port(&alice.address()))).await.unwrap();
    let (mut answered, mut answers) = (0, 0);
    // With everything that is repeated until alice gives up.
    while let Ok(came) = tokio::time::timeout(QUIET, there.recv(&mut datagram)).await {
        answered += came.unwrap();
        answers += 1;
    }
    assert!(answers > 0 && answered <= 3 * sent, "{answered} bytes in {answers} datagrams for {sent}");
}

/// Sizes on the scale of a limit: what the memory limit compares is the library's to measure, that it refuses is ours to see.
#[tokio::test]
async fn a_node_short_of_memory_takes_nobody_in() {
    let most = |bytes| libp2p::memory_connection_limits::Behaviour::with_max_bytes(bytes);
    let (local, remote): (Multiaddr, Multiaddr) =
        ("/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/ip4/127.0.0.2/tcp/2".parse().unwrap());
    let knock = |mut behaviour: libp2p::memory_connection_limits::Behaviour| {
        behaviour.handle_pending_inbound_connection(ConnectionId::new_unchecked(1), &local, &remote).is_ok()
    };
    assert!(knock(most(usize::MAX)) && !knock(most(1)));
}
