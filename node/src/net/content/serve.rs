//! The side that has: answers span requests out of the store. Invariant: a peer can make us hold only so many requests,
//! spans and streams; what it does not take in time ends its stream, and nothing is sent that was not hashed just now.

use super::{
    super::{frame, names::peer_of, neighbours::Figures},
    SLICE, Shared,
};
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _,
    io::{ReadHalf, WriteHalf},
};
use libp2p::Stream;
use libp2p_stream::IncomingStreams;
use softservice_protocol::{
    bitmap::Bitmap,
    codec::{self, Wire as _},
    id::Peer,
    limits,
    message::{SpanAnswer, SpanRequest},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

/// Streams of all peers that are served at once: two for each peer that may connect.
const STREAMS: usize = 2 * (limits::INBOUND_PEERS + limits::OUTBOUND_PEERS);
/// Streams of one peer.
const STREAMS_PER_PEER: usize = 4;
/// A slice that is not taken in this time ends the stream: slow readers must not hold what others wait for.
const TAKING: Duration = Duration::from_secs(30);
/// The first stream of a peer may overtake the news of its connection by this much.
const NEWS: Duration = Duration::from_secs(10);

/// Requests that were withdrawn while they waited.
type Withdrawn = Arc<Mutex<Waiting>>;

#[derive(Debug, Default)]
struct Waiting {
    open: BTreeSet<u64>,
    withdrawn: BTreeSet<u64>,
}

/// A span ready to be written.
struct Span {
    answer: SpanAnswer,
    chunks: Vec<Vec<u8>>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Accepts content streams until the swarm ends.
pub(super) async fn accept(mut incoming: IncomingStreams, shared: Shared) {
    let streams = Arc::new(Semaphore::new(STREAMS));
    // They end with the swarm, also those that still wait for news of their peer: nobody is to hold the store then.
    let mut serving = JoinSet::new();
    loop {
        let (id, stream) = tokio::select! {
            next = incoming.next() => match next {
                Some(next) => next,
                None => return,
            },
            Some(_) = serving.join_next() => continue,
        };
        let Some(peer) = peer_of(&id) else { continue };
        // Beyond the limit the stream is dropped, which resets it: the asker tries somebody else.
        let Ok(permit) = streams.clone().try_acquire_owned() else { continue };
        let shared = shared.clone();
        serving.spawn(async move {
            let _permit = permit;
            let Some(figures) = shared.desk.neighbours.expect(peer, NEWS).await else { return };
            if figures.content_streams.fetch_add(1, Ordering::Relaxed) < STREAMS_PER_PEER {
                serve(peer, stream, &shared, &figures).await;
            }
            figures.content_streams.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Reading, fetching from the disk and writing go on side by side, so that the next span is ready when one is sent.
async fn serve(peer: Peer, stream: Stream, shared: &Shared, figures: &Figures) {
    let (reader, writer) = stream.split();
    let (requests, asked) = mpsc::channel(limits::PENDING_SPANS);
    let (spans, ready) = mpsc::channel(1);
    let withdrawn = Withdrawn::default();
    tokio::select! {
        // Without a fault it wants nothing more, and what it asked for is not worth sending to a closed stream.
        fault = read(reader, requests, withdrawn.clone()) => if let Some(why) = fault {
            shared.desk.dismiss(peer, format!("broke the content protocol: {why}")).await;
        },
        () = fetch(asked, spans, withdrawn, shared) => {}
        result = write(writer, ready, shared, figures) => if let Err(e) = result {
            tracing::debug!(peer = peer.short(), "content stream ended: {e}");
        },
    }
}

/// Reads requests; gives the fault of a peer that breaks the protocol.
async fn read(
    mut stream: ReadHalf<Stream>,
    requests: mpsc::Sender<SpanRequest>,
    withdrawn: Withdrawn,
) -> Option<String> {
    loop {
        let bytes = match frame::read(&mut stream, SpanRequest::LIMIT).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(frame::FrameError::Broken(_)) => return None,
            Err(e @ frame::FrameError::Size { .. }) => return Some(e.to_string()),
        };
        let request: SpanRequest = match codec::decode(&bytes) {
            Ok(request) => request,
            Err(e) => return Some(e.to_string()),
        };
        if request.chunks.is_empty() {
            let mut waiting = withdrawn.lock().unwrap_or_else(|e| e.into_inner());
            if waiting.open.contains(&request.request) {
                waiting.withdrawn.insert(request.request);
            }
            continue;
        }
        if request.checked_bytes().is_none() {
            return Some("asked for more than one span may hold".into());
        }
        withdrawn.lock().unwrap_or_else(|e| e.into_inner()).open.insert(request.request);
        match requests.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Some(format!("has more than {} requests open", limits::PENDING_SPANS));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return None,
        }
    }
}

/// Reads spans from the store, one after the other, each once the writer has taken the one before.
async fn fetch(
    mut asked: mpsc::Receiver<SpanRequest>,
    spans: mpsc::Sender<Span>,
    withdrawn: Withdrawn,
    shared: &Shared,
) {
    while let Some(request) = asked.recv().await {
        let Ok(slot) = spans.reserve().await else { return };
        let dropped = {
            let mut waiting = withdrawn.lock().unwrap_or_else(|e| e.into_inner());
            waiting.open.remove(&request.request);
            waiting.withdrawn.remove(&request.request)
        };
        let held = Bitmap::empty(request.chunks.len());
        if dropped {
            let answer = SpanAnswer { request: request.request, held };
            slot.send(Span { answer, chunks: Vec::new(), _permit: None });
            continue;
        }
        let Ok(permit) = shared.serving.clone().acquire_owned().await else { return };
        let store = shared.store.clone();
        let chunks = request.chunks;
        let read = tokio::task::spawn_blocking(move || store.read(&chunks)).await;
        let found = match read {
            Ok(Ok(found)) => found,
            // Our own disk fails: for the peer it is as if we had nothing.
            Ok(Err(e)) => {
                tracing::warn!("cannot read content for a peer: {e}");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let mut held = held;
        let mut chunks = Vec::new();
        for (at, content) in found.into_iter().enumerate() {
            if let Some(content) = content {
                held.set(at, true);
                chunks.push(content);
            }
        }
        let answer = SpanAnswer { request: request.request, held };
        slot.send(Span { answer, chunks, _permit: Some(permit) });
    }
}

async fn write(
    mut stream: WriteHalf<Stream>,
    mut ready: mpsc::Receiver<Span>,
    shared: &Shared,
    figures: &Figures,
) -> std::io::Result<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    while let Some(span) = ready.recv().await {
        let header = codec::encode(&span.answer).map_err(std::io::Error::other)?;
        tokio::time::timeout(TAKING, frame::write(&mut stream, &header)).await.map_err(late)??;
        for slice in span.chunks.iter().flat_map(|c| c.chunks(SLICE)) {
            if let Some(up) = &shared.up {
                up.take(slice.len() as u64).await;
            }
            tokio::time::timeout(TAKING, stream.write_all(slice)).await.map_err(late)??;
            figures.sent.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        tokio::time::timeout(TAKING, stream.flush()).await.map_err(late)??;
    }
    Ok(())
}
