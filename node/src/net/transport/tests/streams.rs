//! As many streams as one connection may have, and one more: over TCP that is answered by a farewell, over QUIC it is not opened.

use super::{
    super::{bounded, muxer::STREAMS},
    End, header, sockets, soon,
};
use futures::{StreamExt as _, future::poll_fn};
use libp2p::{
    Transport as _,
    core::{
        Endpoint,
        muxing::StreamMuxerExt as _,
        transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
    quic,
};
use std::{ops::RangeInclusive, task::Poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_a_connection_has_128_streams_and_one_more_is_answered_by_a_farewell() {
    const SYN: u16 = 1;
    const ACK: u16 = 2;
    const PING: u8 = 2;
    const GONE: u8 = 3;
    let last = STREAMS as u32;
    assert_eq!(last, 128);
    let (dialled, mut raw) = sockets().await;
    let mut ann = End::new(dialled, yamux::Mode::Client);
    let opened = |numbers: RangeInclusive<u32>| numbers.flat_map(|n| header(1, SYN, 2 * n, 0)).collect::<Vec<_>>();
    raw.write_all(&opened(1..=last)).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(ann.next().await);
    }
    // All are there, and it still answers.
    raw.write_all(&header(PING, SYN, 0, 77)).await.unwrap();
    let mut head = [0; 12];
    while head != header(PING, ACK, 0, 77) {
        soon(raw.read_exact(&mut head)).await.unwrap();
    }
    raw.write_all(&opened(last + 1..=last + 1)).await.unwrap();
    // The farewell of the protocol comes back, and no stream.
    while head[1] != GONE {
        soon(raw.read_exact(&mut head)).await.unwrap();
    }
    assert!(ann.arrived.try_recv().is_err(), "number {} is one", last + 1);
    drop(raw);
    assert!(ann.ended().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_connection_has_128_streams_and_not_one_more() {
    let (ours, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let mut host = quic::tokio::Transport::new(bounded(quic::Config::new(&ours)));
    let mut guest = quic::tokio::Transport::new(quic::Config::new(&other));
    host.listen_on(ListenerId::next(), "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
    let mut host = host.boxed();
    let event = soon(host.next()).await.unwrap();
    let TransportEvent::NewAddress { listen_addr, .. } = event else { panic!("{event:?}") };
    let accepting = tokio::spawn(async move {
        loop {
            if let TransportEvent::Incoming { upgrade, .. } = host.next().await.unwrap() {
                let accepted = upgrade.await.unwrap();
                // Nobody takes the streams; the endpoint goes on as long as it is held.
                return (host, accepted);
            }
        }
    });
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dialling = guest.dial(listen_addr, options).unwrap();
    let mut guest = guest.boxed();
    let driven = tokio::spawn(async move { while guest.next().await.is_some() {} });
    let (_, mut muxer) = soon(dialling).await.unwrap();
    let _accepted = soon(accepting).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        held.push(soon(poll_fn(|cx| muxer.poll_outbound_unpin(cx))).await.unwrap());
    }
    let waits = poll_fn(|cx| Poll::Ready(muxer.poll_outbound_unpin(cx).is_pending())).await;
    assert!(waits, "number {} is opened", STREAMS + 1);
    driven.abort();
}
