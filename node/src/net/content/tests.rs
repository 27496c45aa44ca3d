//! Bulk content between real swarms over loopback: honest peers, and hand-made ones that are not.

use super::{Content, Limits, packing};
use crate::net::{
    CONTENT, frame,
    tests::{PATIENCE, Station},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p_stream::IncomingStreams;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::{ChunkRef, Verified},
    codec::{self, Wire as _},
    id::{ChunkId, ObjectId, Peer},
    io::{Delivery, Input, Request},
    message::{Coding, SpanAnswer, SpanRequest},
};
use softservice_store::{Layout, MemoryStore, Store};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// The side that wants, with a store that expects `file`.
struct Bob {
    station: Station,
    store: Arc<MemoryStore>,
    content: Content,
    delivered: mpsc::Receiver<Input>,
}

impl Bob {
    async fn start(expected: &[ChunkRef]) -> Self {
        let (station, streams) = Station::start(2, "/ip4/127.0.0.1/tcp/0").await;
        let store = Arc::new(MemoryStore::default());
        let layouts: Vec<Layout> = expected
            .iter()
            .map(|c| Layout { object: ObjectId(c.id.0), size: c.len.into(), chunks: vec![*c] })
            .collect();
        store.expect(&layouts).unwrap();
        let (sender, delivered) = mpsc::channel(64);
        let content = Content::start(
            streams.control,
            streams.content,
            store.clone(),
            station.net.desk.clone(),
            sender,
            Limits::default(),
        );
        Self { station, store, content, delivered }
    }
    fn ask(&mut self, peer: Peer, number: u64, chunks: &[ChunkRef], patience: Duration) {
        let deadline = Instant::now() + patience;
        assert!(self.content.ask(peer, Request(number), chunks.to_vec(), Vec::new(), deadline).is_none());
    }
    fn ask_over(&mut self, peer: Peer, number: u64, chunks: &[ChunkRef], base: &[ChunkRef]) {
        let deadline = Instant::now() + PATIENCE;
        assert!(self.content.ask(peer, Request(number), chunks.to_vec(), base.to_vec(), deadline).is_none());
    }
    async fn outcome(&mut self) -> (u64, Delivery) {
        match tokio::time::timeout(PATIENCE, self.delivered.recv()).await.expect("an answer in time") {
            Some(Input::Delivered { request, outcome, .. }) => (request.0, outcome),
            other => panic!("{other:?}"),
        }
    }
}

fn chunk(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn named(bytes: &[u8]) -> ChunkRef {
    ChunkRef { id: ChunkId::of(bytes), len: bytes.len() as u32 }
}

async fn alice_has(chunks: &[Vec<u8>], listen: &str) -> (Station, Content, mpsc::Receiver<Input>) {
    let (station, streams) = Station::start(1, listen).await;
    let store = Arc::new(MemoryStore::default());
    for bytes in chunks {
        let it = named(bytes);
        let layout = Layout { object: ObjectId(it.id.0), size: it.len.into(), chunks: vec![it] };
        store.expect(&[layout]).unwrap();
        store.put(&Verified::check(it, bytes.clone()).unwrap()).unwrap();
    }
    let (sender, delivered) = mpsc::channel(64);
    let content =
        Content::start(streams.control, streams.content, store, station.net.desk.clone(), sender, Limits::default());
    (station, content, delivered)
}

async fn spans_come(listen: &str) {
    let chunks: Vec<_> = (0..40).map(|i| chunk(i, 50_000 + usize::from(i) * 1000)).collect();
    let refs: Vec<_> = chunks.iter().map(|c| named(c)).collect();
    let (alice, _content, _delivered) = alice_has(&chunks[..39], listen).await;
    let mut bob = Bob::start(&refs).await;
    bob.station.dial(&alice.address()).await;
    for (number, span) in refs.chunks(10).enumerate() {
        bob.ask(alice.me, number as u64, span, PATIENCE);
    }
    let mut came = 0;
    for _ in 0..4 {
        match bob.outcome().await {
            (number, Delivery::Came { held, bytes, .. }) => {
                // The last chunk of the last span is not at Alice's, and she says so.
                assert_eq!(held.count(), if number == 3 { 9 } else { 10 });
                came += bytes;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came, chunks[..39].iter().map(|c| c.len() as u64).sum::<u64>());
    assert_eq!(bob.store.survey(&refs).unwrap().count(), 39);
    let figures = bob.station.net.neighbours.infos();
    assert_eq!(figures.first().map(|f| (f.received, f.direction)), Some((came, "out")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bob_gets_many_spans_from_alice_over_tcp() {
    spans_come("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bob_gets_many_spans_from_alice_over_quic() {
    spans_come("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

/// Reads requests off a content stream and answers each with what `answer` makes of it.
async fn mallory(mut incoming: IncomingStreams, answer: impl Fn(SpanRequest) -> Option<Vec<u8>>) {
    let (_, mut stream) = incoming.next().await.unwrap();
    while let Ok(Some(bytes)) = frame::read(&mut stream, SpanRequest::LIMIT).await {
        let request: SpanRequest = codec::decode(&bytes).unwrap();
        if let Some(answer) = answer(request) {
            stream.write_all(&answer).await.unwrap();
            stream.flush().await.unwrap();
        }
    }
}

fn framed(answer: &SpanAnswer) -> Vec<u8> {
    let body = codec::encode(answer).unwrap();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

/// Bob asks Mallory for two spans; gives what became of both, in the order of their numbers.
async fn bob_asks_mallory(
    patience: Duration,
    answer: impl Fn(SpanRequest) -> Option<Vec<u8>> + Send + 'static,
) -> (Bob, [Delivery; 2]) {
    let (alone, streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    tokio::spawn(mallory(streams.content, answer));
    let chunks = [chunk(1, 1000), chunk(2, 2000), chunk(3, 3000)];
    let refs: Vec<_> = chunks.iter().map(|c| named(c)).collect();
    let mut bob = Bob::start(&refs).await;
    bob.station.dial(&alone.address()).await;
    bob.ask(alone.me, 1, &refs[..2], patience);
    bob.ask(alone.me, 2, &refs[2..], patience);
    let mut outcomes = [bob.outcome().await, bob.outcome().await];
    outcomes.sort_by_key(|(number, _)| *number);
    // Mallory lives until here: his going would break the stream, which is another story.
    drop(alone);
    (bob, outcomes.map(|(_, outcome)| outcome))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_chunk_is_a_lie_and_the_good_one_before_it_is_kept() {
    let (bob, [first, second]) = bob_asks_mallory(PATIENCE, |request| {
        let held = Bitmap::full(request.chunks.len());
        let mut wire = framed(&SpanAnswer { request: request.request, held, coding: Coding::Plain });
        wire.extend(chunk(1, 1000));
        wire.extend(chunk(99, 2000));
        (request.request == 1).then_some(wire)
    })
    .await;
    assert!(matches!(&first, Delivery::Lied { held, .. } if held.ones().eq([0])), "{first:?}");
    assert!(matches!(&second, Delivery::Broke { held } if held.count() == 0), "{second:?}");
    assert!(bob.store.survey(&[named(&chunk(1, 1000))]).unwrap().is_full());
    assert_eq!(bob.store.survey(&[named(&chunk(2, 2000))]).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_too_much_are_lies() {
    let (_, [first, _]) = bob_asks_mallory(PATIENCE, |_| Some(vec![0xee; 64])).await;
    assert!(matches!(&first, Delivery::Lied { .. }), "{first:?}");

    // The first answer is whole, then bytes go on that nobody asked for: the next request finds them.
    let (_, [first, second]) = bob_asks_mallory(PATIENCE, |request| {
        let held = Bitmap::full(request.chunks.len());
        let mut wire = framed(&SpanAnswer { request: request.request, held, coding: Coding::Plain });
        wire.extend(chunk(1, 1000));
        wire.extend(chunk(2, 2000));
        wire.extend([0xff; 4096]);
        (request.request == 1).then_some(wire)
    })
    .await;
    assert!(matches!(&first, Delivery::Came { held, bytes: 3000, .. } if held.is_full()), "{first:?}");
    assert!(matches!(&second, Delivery::Lied { .. }), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_another_request_or_with_another_bitmap_is_a_lie() {
    let (_, [first, _]) = bob_asks_mallory(PATIENCE, |request| {
        Some(framed(&SpanAnswer {
            request: request.request + 70,
            held: Bitmap::empty(request.chunks.len()),
            coding: Coding::Plain,
        }))
    })
    .await;
    assert!(matches!(&first, Delivery::Lied { .. }), "{first:?}");
    let (_, [first, _]) = bob_asks_mallory(PATIENCE, |request| {
        Some(framed(&SpanAnswer { request: request.request, held: Bitmap::full(9), coding: Coding::Plain }))
    })
    .await;
    assert!(matches!(&first, Delivery::Lied { .. }), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_broken_off_at_the_deadline() {
    let (_, outcomes) = bob_asks_mallory(Duration::from_millis(300), |_| None).await;
    assert!(outcomes.iter().all(|o| matches!(o, Delivery::Broke { held } if held.count() == 0)), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_breaks_what_is_open_and_a_stranger_cannot_be_asked() {
    let (alone, streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    let chunks = [named(&chunk(1, 1000))];
    let mut bob = Bob::start(&chunks).await;
    bob.station.dial(&alone.address()).await;
    bob.ask(alone.me, 1, &chunks, PATIENCE);
    let mut incoming = streams.content;
    let (_, stream) = tokio::time::timeout(PATIENCE, incoming.next()).await.unwrap().unwrap();
    alone.stop.ask();
    assert!(matches!(bob.outcome().await, (1, Delivery::Broke { .. })));
    drop(stream);
    bob.ask(Peer([9; 32]), 2, &chunks, PATIENCE);
    assert!(matches!(bob.outcome().await, (2, Delivery::Broke { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alice_sends_away_who_asks_for_too_much() {
    let (mut alice, _content, _delivered) = alice_has(&[chunk(1, 1000)], "/ip4/127.0.0.1/tcp/0").await;
    let (mut alone, mut streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    alone.dial(&alice.address()).await;
    let id = crate::net::names::id_of(alice.me).unwrap();
    let mut stream = streams.control.open_stream(id, CONTENT).await.unwrap();
    let greedy =
        SpanRequest { request: 1, chunks: vec![ChunkRef { id: ChunkId([1; 32]), len: u32::MAX }; 2], base: Vec::new() };
    frame::write(&mut stream, &codec::encode(&greedy).unwrap()).await.unwrap();
    stream.flush().await.unwrap();
    assert!(matches!(alice.fact().await, Input::Connected { outbound: false, .. }));
    assert!(matches!(alice.fact().await, Input::Broke { peer, .. } if peer == alone.me));
    assert!(matches!(alice.fact().await, Input::Disconnected { peer } if peer == alone.me));
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.is_empty());
}

/// Chunks of which some are watched, whatever the node's sample is.
fn many() -> (Vec<Vec<u8>>, SpanRequest) {
    let chunks: Vec<_> = (0..250).map(|i| chunk(i, 2000)).collect();
    let request = SpanRequest { request: 1, chunks: chunks.iter().map(|c| named(c)).collect(), base: Vec::new() };
    (chunks, request)
}
/// An answer's header and the bytes behind it.
async fn whole(stream: &mut libp2p::Stream) -> std::io::Result<usize> {
    let header = frame::read(stream, SpanAnswer::LIMIT).await.map_err(std::io::Error::other)?;
    let answer: SpanAnswer = codec::decode(&header.ok_or(std::io::ErrorKind::UnexpectedEof)?).unwrap();
    let mut content = vec![0; answer.held.count() * 2000];
    stream.read_exact(&mut content).await?;
    Ok(content.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_fetcher_with_one_seeder_may_ask_again_after_every_deadline() {
    let (chunks, request) = many();
    let (mut alice, _content, _delivered) = alice_has(&chunks, "/ip4/127.0.0.1/tcp/0").await;
    let (mut alone, mut streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    alone.dial(&alice.address()).await;
    let id = crate::net::names::id_of(alice.me).unwrap();
    for _ in 0..20 {
        let mut stream = streams.control.open_stream(id, CONTENT).await.unwrap();
        frame::write(&mut stream, &codec::encode(&request).unwrap()).await.unwrap();
        stream.flush().await.unwrap();
        // The answer has begun when the deadline comes: he gives the stream up and tries anew.
        let begun = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 4])).await.unwrap();
        assert!(begun.is_ok_and(|read| read > 0));
    }
    let mut stream = streams.control.open_stream(id, CONTENT).await.unwrap();
    frame::write(&mut stream, &codec::encode(&request).unwrap()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, whole(&mut stream)).await.unwrap().unwrap(), 500_000);
    while let Ok(fact) = alice.facts.try_recv() {
        assert!(!matches!(fact, Input::Broke { .. }), "{fact:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_it_and_asks_on_is_sent_away() {
    let (chunks, request) = many();
    let (mut alice, _content, _delivered) = alice_has(&chunks, "/ip4/127.0.0.1/tcp/0").await;
    let (mut alone, mut streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    alone.dial(&alice.address()).await;
    let id = crate::net::names::id_of(alice.me).unwrap();
    let mut stream = streams.control.open_stream(id, CONTENT).await.unwrap();
    let mut rounds = 0;
    loop {
        let asked =
            frame::write(&mut stream, &codec::encode(&request).unwrap()).await.is_ok() && stream.flush().await.is_ok();
        if !asked || tokio::time::timeout(PATIENCE, whole(&mut stream)).await.unwrap().is_err() {
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "a hundred times the same");
    }
    assert!(matches!(alice.fact().await, Input::Connected { .. }));
    assert!(matches!(alice.fact().await, Input::Broke { peer, .. } if peer == alone.me));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_keep_the_order_of_requests_and_what_is_withdrawn_is_answered_too() {
    let chunks: Vec<_> = (0..30).map(|i| chunk(i, 1000 + 500 * usize::from(i % 7))).collect();
    let (alice, _content, _delivered) = alice_has(&chunks, "/ip4/127.0.0.1/tcp/0").await;
    let (mut alone, mut streams) = Station::start(3, "/ip4/127.0.0.1/tcp/0").await;
    alone.dial(&alice.address()).await;
    let id = crate::net::names::id_of(alice.me).unwrap();
    let mut stream = streams.control.open_stream(id, CONTENT).await.unwrap();
    for (number, bytes) in (0..).zip(&chunks) {
        let request = SpanRequest { request: number, chunks: vec![named(bytes)], base: Vec::new() };
        frame::write(&mut stream, &codec::encode(&request).unwrap()).await.unwrap();
    }
    let withdrawal = SpanRequest { request: 29, chunks: Vec::new(), base: Vec::new() };
    frame::write(&mut stream, &codec::encode(&withdrawal).unwrap()).await.unwrap();
    stream.flush().await.unwrap();
    for (number, bytes) in (0..).zip(&chunks) {
        let header = tokio::time::timeout(PATIENCE, frame::read(&mut stream, SpanAnswer::LIMIT)).await;
        let answer: SpanAnswer = codec::decode(&header.unwrap().unwrap().unwrap()).unwrap();
        assert_eq!((answer.request, answer.held.len()), (number, 1));
        // The last one may have been on its way already when it was withdrawn.
        assert!(number == 29 || answer.held.is_full());
        let mut content = vec![0; if answer.held.is_full() { bytes.len() } else { 0 }];
        stream.read_exact(&mut content).await.unwrap();
        assert!(content.is_empty() || content == *bytes);
    }
}

/// A page that compresses, and the same with a line put in.
fn pages() -> [Vec<u8>; 2] {
    let line = |n: u64| format!("<li>item {} of {}</li>\n", n * 7919 % 100_003, blake3::hash(&n.to_le_bytes()));
    let old: String = (0..2000).map(line).collect();
    let new = format!("{}<li>new</li>\n{}", &old[..70_000], &old[70_000..]);
    [old.into_bytes(), new.into_bytes()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_compresses_comes_compressed() {
    let [page, _] = pages();
    let (alice, _content, _delivered) = alice_has(&[page.clone(), chunk(1, 90_000)], "/ip4/127.0.0.1/tcp/0").await;
    let refs = [named(&page), named(&chunk(1, 90_000))];
    let mut bob = Bob::start(&refs).await;
    bob.station.dial(&alice.address()).await;
    bob.ask(alice.me, 1, &refs[..1], PATIENCE);
    let Delivery::Came { bytes, wire, .. } = bob.outcome().await.1 else { panic!("no answer") };
    assert_eq!(bytes, page.len() as u64);
    assert!(wire < bytes * 3 / 4, "{wire} of {bytes}");
    bob.ask(alice.me, 2, &refs[1..], PATIENCE);
    assert!(matches!(bob.outcome().await.1, Delivery::Came { bytes: 90_000, wire: 90_000, .. }));
    assert!(bob.store.survey(&refs).unwrap().is_full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bob_has_is_not_sent_again() {
    let [old, new] = pages();
    let (alice, _content, _delivered) = alice_has(&[old.clone(), new.clone()], "/ip4/127.0.0.1/tcp/0").await;
    let refs = [named(&old), named(&new)];
    let mut bob = Bob::start(&refs).await;
    bob.store.put(&Verified::own(old)).unwrap();
    bob.station.dial(&alice.address()).await;
    bob.ask_over(alice.me, 1, &refs[1..], &refs[..1]);
    let Delivery::Came { held, bytes, wire } = bob.outcome().await.1 else { panic!("no answer") };
    assert!(held.is_full() && bytes == new.len() as u64);
    assert!(wire < 200, "{wire}");
    assert!(bob.store.survey(&refs).unwrap().is_full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bob_has_no_more_is_asked_for_as_it_is() {
    let [old, new] = pages();
    let (alice, _content, _delivered) = alice_has(&[old.clone(), new.clone()], "/ip4/127.0.0.1/tcp/0").await;
    let refs = [named(&old), named(&new)];
    let mut bob = Bob::start(&refs[1..]).await;
    bob.station.dial(&alice.address()).await;
    // It was here when the fetch looked, and a sweep took it.
    bob.ask_over(alice.me, 1, &refs[1..], &refs[..1]);
    let (number, outcome) = bob.outcome().await;
    assert!(matches!(&outcome, Delivery::Came { held, .. } if held.is_full()), "{outcome:?}");
    assert_eq!(number, 1);
    assert!(bob.store.survey(&refs[1..]).unwrap().is_full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alice_has_no_more_she_writes_as_it_is() {
    let [old, new] = pages();
    let (alice, _content, _delivered) = alice_has(std::slice::from_ref(&new), "/ip4/127.0.0.1/tcp/0").await;
    let refs = [named(&old), named(&new)];
    let mut bob = Bob::start(&refs).await;
    bob.store.put(&Verified::own(old)).unwrap();
    bob.station.dial(&alice.address()).await;
    bob.ask_over(alice.me, 1, &refs[1..], &refs[..1]);
    let Delivery::Came { held, wire, .. } = bob.outcome().await.1 else { panic!("no answer") };
    assert!(held.is_full() && wire > 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_answers_that_do_not_add_up_are_lies() {
    let frame = |coding: Coding, body: Vec<u8>| {
        move |request: SpanRequest| {
            let held = Bitmap::full(request.chunks.len());
            let mut wire = framed(&SpanAnswer { request: request.request, held, coding });
            wire.extend(&body);
            (request.request == 1).then_some(wire)
        }
    };
    // Bob asks for chunks of 1000 and 2000 bytes, and names no base.
    let packed = |content: &[u8]| packing::pack(content, 0).unwrap();
    let right = [chunk(1, 1000), chunk(2, 2000)].concat();
    let zeros = packed(&vec![0; 3000]);
    let bomb = packed(&vec![0; 1 << 20]);
    let of = |bytes: &[u8]| Coding::Zstd { bytes: bytes.len() as u32 };
    for (what, (_, [first, _])) in [
        (
            "nothing that was named",
            bob_asks_mallory(PATIENCE, frame(Coding::ZstdOverBase { bytes: 9 }, vec![0; 9])).await,
        ),
        ("more than it has", bob_asks_mallory(PATIENCE, frame(Coding::Zstd { bytes: 3000 }, right)).await),
        ("no frame", bob_asks_mallory(PATIENCE, frame(Coding::Zstd { bytes: 100 }, vec![7; 100])).await),
        ("something else", bob_asks_mallory(PATIENCE, frame(of(&zeros), zeros)).await),
        ("a bomb", bob_asks_mallory(PATIENCE, frame(of(&bomb), bomb)).await),
    ] {
        assert!(matches!(&first, Delivery::Lied { held, .. } if held.count() == 0), "{what}: {first:?}");
    }
}
