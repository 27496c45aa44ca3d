//! The muxer over real sockets of the loopback, beside honest ends, hasty ones and one that sends garbage; and the whole
//! transport beside the library's own.

mod streams;

use super::{
    muxer::{Ended, FIRST_WINDOW, FRAME, Muxer, STREAMS},
    socket::Socket,
    tcp,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerExt as _},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, tls,
};
use std::{collections::VecDeque, pin::Pin, task::Poll, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// One end of a connection, moved on by a task of its own. Dropping `wanted` closes it.
struct End {
    wanted: mpsc::UnboundedSender<oneshot::Sender<yamux::Stream>>,
    arrived: mpsc::UnboundedReceiver<yamux::Stream>,
    task: JoinHandle<Result<(), Ended>>,
}

impl End {
    fn new(socket: TcpStream, mode: yamux::Mode) -> Self {
        let socket = Socket::new(libp2p::tcp::tokio::TcpStream(socket));
        let (wanted, wishes) = mpsc::unbounded_channel();
        let (news, arrived) = mpsc::unbounded_channel();
        Self { wanted, arrived, task: tokio::spawn(drive(Muxer::new(socket, mode), wishes, news)) }
    }
    async fn pair() -> (Self, Self) {
        let (dialled, accepted) = sockets().await;
        (Self::new(dialled, yamux::Mode::Client), Self::new(accepted, yamux::Mode::Server))
    }
    async fn open(&self) -> yamux::Stream {
        let (answer, stream) = oneshot::channel();
        self.wanted.send(answer).unwrap();
        soon(stream).await.unwrap()
    }
    async fn next(&mut self) -> yamux::Stream {
        soon(self.arrived.recv()).await.unwrap()
    }
    /// How it ended; a panic fails the test.
    async fn ended(self) -> Result<(), Ended> {
        soon(self.task).await.unwrap()
    }
}

async fn drive(
    mut muxer: Muxer<Socket<libp2p::tcp::tokio::TcpStream>>,
    mut wishes: mpsc::UnboundedReceiver<oneshot::Sender<yamux::Stream>>,
    news: mpsc::UnboundedSender<yamux::Stream>,
) -> Result<(), Ended> {
    let (mut waiting, mut closing) = (VecDeque::new(), false);
    poll_fn(move |cx| {
        loop {
            let mut muxer = Pin::new(&mut muxer);
            if closing {
                return muxer.poll_close(cx);
            }
            let mut moved = false;
            match wishes.poll_recv(cx) {
                Poll::Ready(Some(wish)) => {
                    waiting.push_back(wish);
                    moved = true;
                }
                Poll::Ready(None) => {
                    closing = true;
                    continue;
                }
                Poll::Pending => {}
            }
            if !waiting.is_empty()
                && let Poll::Ready(stream) = muxer.as_mut().poll_outbound(cx)?
            {
                let _ = waiting.pop_front().unwrap().send(stream);
                moved = true;
            }
            if let Poll::Ready(stream) = muxer.as_mut().poll_inbound(cx)? {
                let _ = news.send(stream);
                moved = true;
            }
            if let Poll::Ready(event) = muxer.poll(cx)? {
                unreachable!("{event:?}");
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Sends back whatever comes, until it ends.
async fn echo(stream: yamux::Stream) {
    let (mut from, mut to) = futures::AsyncReadExt::split(stream);
    let _ = futures::io::copy(&mut from, &mut to).await;
    let _ = to.close().await;
}

/// What comes back is what was sent.
async fn sent_and_echoed(stream: yamux::Stream, content: Vec<u8>) {
    let (mut from, mut to) = futures::AsyncReadExt::split(stream);
    let write = async {
        to.write_all(&content).await.unwrap();
        to.close().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = soon(async { tokio::join!(write, from.read_to_end(&mut back)) }).await;
    assert_eq!(read.unwrap(), content.len());
    assert!(back == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_both_ends_at_once_carry_what_they_are_given() {
    let (ann, bob) = End::pair().await;
    let mut talks = tokio::task::JoinSet::new();
    for (number, end) in [&ann, &bob].into_iter().enumerate() {
        for seed in 0..40 {
            let content = bytes(seed * 2 + number as u64, 100_000 + 7_777 * seed as usize);
            talks.spawn(sent_and_echoed(end.open().await, content));
        }
    }
    for mut end in [ann, bob] {
        talks.spawn(async move {
            for _ in 0..40 {
                tokio::spawn(echo(end.next().await));
            }
            // It lives until every stream that it carries has ended.
            let _ = end.arrived.recv().await;
        });
    }
    for _ in 0..80 {
        soon(talks.join_next()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_stops_the_writer_and_nobody_else() {
    let (ann, mut bob) = End::pair().await;
    let content = bytes(1, 4 << 20);
    let mut bulk = ann.open().await;
    let (progress, mut written) = tokio::sync::watch::channel(0);
    let whole = content.clone();
    let writing = tokio::spawn(async move {
        for piece in whole.chunks(10_000) {
            bulk.write_all(piece).await.unwrap();
            progress.send_modify(|w| *w += piece.len());
        }
        bulk.close().await.unwrap();
    });
    let mut reader = bob.next().await;
    // All that the first window takes is on its way, and no more comes through, while others talk.
    soon(written.wait_for(|w| *w > FIRST_WINDOW - 10_000)).await.unwrap();
    let small = ann.open().await;
    let talking = tokio::spawn(sent_and_echoed(small, bytes(2, 200_000)));
    tokio::spawn(echo(bob.next().await));
    soon(talking).await.unwrap();
    assert!(*written.borrow() <= FIRST_WINDOW);
    let mut came = Vec::new();
    soon(reader.read_to_end(&mut came)).await.unwrap();
    assert!(came == content);
    soon(writing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_dropped_ends_alone_and_a_connection_that_goes_takes_all_with_it() {
    let (ann, mut bob) = End::pair().await;
    // One after the other: which of two comes first is not told.
    let (mut dropped, mut lives) = (ann.open().await, ann.open().await);
    dropped.write_all(b"begun").await.unwrap();
    let mut first = bob.next().await;
    lives.write_all(b"begun").await.unwrap();
    let mut second = bob.next().await;
    drop(dropped);
    let mut rest = Vec::new();
    let _ = soon(first.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"begun");
    lives.write_all(b" and").await.unwrap();
    soon(second.read_exact(&mut [0; 9])).await.unwrap();

    // In the middle of a transfer, without a word.
    let writing = tokio::spawn(async move { lives.write_all(&bytes(3, 8 << 20)).await });
    soon(second.read_exact(&mut vec![0; 1 << 20])).await.unwrap();
    ann.task.abort();
    assert!(soon(writing).await.unwrap().is_err());
    let mut rest = Vec::new();
    let _ = soon(second.read_to_end(&mut rest)).await;
    assert!(rest.len() < 7 << 20);
    assert!(bob.ended().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_closed_in_order_ends_so_for_both() {
    let (ann, mut bob) = End::pair().await;
    let mut stream = ann.open().await;
    stream.write_all(&bytes(4, 200_000)).await.unwrap();
    stream.close().await.unwrap();
    let mut came = Vec::new();
    soon(bob.next().await.read_to_end(&mut came)).await.unwrap();
    assert!(came == bytes(4, 200_000));
    // Only now: a socket that is closed while words of the peer wait in it takes back what the peer has not read.
    let End { wanted, task, .. } = ann;
    drop(wanted);
    soon(task).await.unwrap().unwrap();
    assert!(bob.ended().await.is_err());
}

/// Header of a frame: version, kind, flags, stream, length.
fn header(kind: u8, flags: u16, stream: u32, length: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[1] = kind;
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[4..8].copy_from_slice(&stream.to_be_bytes());
    bytes[8..].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_write_is_one_frame() {
    let (dialled, mut raw) = sockets().await;
    let ann = End::new(dialled, yamux::Mode::Client);
    let mut stream = ann.open().await;
    let content = bytes(5, FRAME);
    stream.write_all(&content).await.unwrap();
    let mut head = [0; 12];
    // A question for the round trip may come first.
    while head[1] != 0 || head[8..] == [0; 4] {
        soon(raw.read_exact(&mut head)).await.unwrap();
    }
    assert_eq!(head[8..], (FRAME as u32).to_be_bytes());
    let mut body = vec![0; FRAME];
    soon(raw.read_exact(&mut body)).await.unwrap();
    assert!(body == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_the_connection_and_nothing_else() {
    const SYN: u16 = 1;
    let mut kinds: Vec<Vec<u8>> = (0..60).map(|seed| bytes(1000 + seed, 40_000)).collect();
    // Well-formed beginnings with random ends: every kind of frame, known and unknown streams, absurd lengths.
    for seed in 0..200 {
        let random = bytes(2000 + seed, 64);
        let mut wire = header(0, SYN, 2, 5).to_vec();
        wire.extend(b"hello");
        let mut frame = header(random[0] % 5, u16::from(random[1] % 16), u32::from(random[2] % 4), 0);
        frame[8..].copy_from_slice(&random[4..8]);
        wire.extend(frame);
        wire.extend(&random[8..]);
        wire.extend(bytes(3000 + seed, 5000));
        kinds.push(wire);
    }
    // More than the window allows, streams without end, a window that overflows.
    kinds.push([&header(0, SYN, 2, 300 << 10)[..], &bytes(6, 300 << 10)].concat());
    kinds.push((1..=2 * STREAMS as u32).flat_map(|n| header(1, SYN, 2 * n, 0)).collect());
    kinds.push([header(1, SYN, 2, u32::MAX), header(1, 0, 2, u32::MAX)].concat());
    for (number, wire) in kinds.into_iter().enumerate() {
        let (dialled, mut raw) = sockets().await;
        let mut ann = End::new(dialled, yamux::Mode::Client);
        let _ = raw.write_all(&wire).await;
        let _ = raw.shutdown().await;
        // Streams that came are held, and read for what there is.
        let reading = tokio::spawn(async move {
            let mut streams = Vec::new();
            while let Some(mut stream) = ann.arrived.recv().await {
                let _ = stream.read(&mut [0; 100]).await;
                streams.push(stream);
            }
            (ann.wanted, streams.len())
        });
        let end = soon(ann.task).await;
        assert!(end.as_ref().is_ok_and(Result::is_err), "{number}: {end:?}");
        let (_, streams) = soon(reading).await.unwrap();
        assert!(streams <= STREAMS, "{number}: {streams}");
    }
}

/// The library's own stack with one kind of security.
fn stock(key: &Keypair, with_tls: bool) -> Boxed<(PeerId, StreamMuxerBox)> {
    let base = libp2p::tcp::tokio::Transport::default().upgrade(Version::V1Lazy);
    let yamux = libp2p::yamux::Config::default();
    if with_tls {
        base.authenticate(tls::Config::new(key).unwrap()).multiplex(yamux).boxed()
    } else {
        base.authenticate(noise::Config::new(key).unwrap()).multiplex(yamux).boxed()
    }
}

/// One listens, the other dials, opens a stream and gets back what it sends.
async fn meet(
    mut host: Boxed<(PeerId, StreamMuxerBox)>,
    mut guest: Boxed<(PeerId, StreamMuxerBox)>,
    [host_id, guest_id]: [PeerId; 2],
) {
    host.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let event = soon(host.next()).await.unwrap();
    let TransportEvent::NewAddress { listen_addr, .. } = event else { panic!("{event:?}") };
    let serving = tokio::spawn(async move {
        let upgrade = loop {
            if let TransportEvent::Incoming { upgrade, .. } = host.next().await.unwrap() {
                break upgrade;
            }
        };
        let (id, mut muxer) = upgrade.await.unwrap();
        assert_eq!(id, guest_id);
        let mut echoing = None;
        // Moved on until the guest goes.
        let _ = poll_fn(|cx| {
            if let Poll::Ready(Ok(mut stream)) = muxer.poll_inbound_unpin(cx) {
                echoing = Some(tokio::spawn(async move {
                    let mut came = vec![0; 1 << 20];
                    stream.read_exact(&mut came).await.unwrap();
                    stream.write_all(&came).await.unwrap();
                    stream.flush().await.unwrap();
                    let _ = stream.read(&mut [0]).await;
                }));
                cx.waker().wake_by_ref();
            }
            muxer.poll_unpin(cx)
        })
        .await;
        echoing.unwrap().await.unwrap();
    });
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let address: Multiaddr = listen_addr;
    let (id, mut muxer) = soon(guest.dial(address, options).unwrap()).await.unwrap();
    assert_eq!(id, host_id);
    let mut stream = soon(poll_fn(|cx| muxer.poll_outbound_unpin(cx))).await.unwrap();
    let content = bytes(7, 1 << 20);
    let moving = tokio::spawn(poll_fn(move |cx| muxer.poll_unpin(cx)));
    let mut back = vec![0; 1 << 20];
    soon(async {
        stream.write_all(&content).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut back).await.unwrap();
    })
    .await;
    assert!(back == content);
    moving.abort();
    drop(stream);
    soon(serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_speaks_with_itself_and_with_the_library_both_ways_and_with_either_security() {
    let (ours, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let [me, them] = [&ours, &other].map(|k| k.public().to_peer_id());
    meet(tcp(&ours).unwrap(), tcp(&other).unwrap(), [me, them]).await;
    for with_tls in [true, false] {
        meet(tcp(&ours).unwrap(), stock(&other, with_tls), [me, them]).await;
        meet(stock(&other, with_tls), tcp(&ours).unwrap(), [them, me]).await;
    }
}
