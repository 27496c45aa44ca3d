//! The side that has: answers span requests out of the store. Invariant: a peer can make us hold only so many requests,
//! spans and streams; what it does not take in time ends its stream, and nothing is sent that was not hashed just now.

use super::{
    super::{frame, names::peer_of, neighbours::Figures},
    Shared,
    buffers::Lease,
    packing::{self, Choice, Pace},
    turn,
};
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _,
    io::{ReadHalf, WriteHalf},
    stream,
};
use libp2p::Stream;
use libp2p_stream::IncomingStreams;
use softservice_protocol::{
    bitmap::Bitmap,
    codec::{self, Wire as _},
    id::{ChunkId, Peer},
    limits,
    message::{Coding, SpanAnswer, SpanRequest},
};
use softservice_store::Store;
use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};

/// Streams of all peers that are served at once: two for each peer that may connect.
const STREAMS: usize = 2 * (limits::INBOUND_PEERS + limits::OUTBOUND_PEERS);
/// Streams of one peer.
const STREAMS_PER_PEER: usize = 4;
/// Spans of one stream that are read from the disk, or wait to be written, while another is written: reading many small
/// files takes longer than sending them.
const AHEAD: usize = 2;
/// A peer that takes nothing for so long loses its stream: slow readers must not hold what others wait for.
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

/// What stands before a span's content in its buffer: content comes straight from the disk to its place, and the frame before it,
/// which says what came, is made after that.
const FRAME: usize = 4 + SpanAnswer::LIMIT;

/// A span ready to be written.
struct Span {
    made: Made,
    /// How long it took to make it.
    prepared: Duration,
    /// The number of its request on the stream.
    number: u64,
    lease: Lease,
    _permit: OwnedSemaphorePermit,
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
                let number = figures.appetite().begins();
                serve(peer, stream, number, &shared, &figures).await;
                figures.appetite().ends(number);
            }
            figures.content_streams.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Reading requests and answering them go on side by side.
async fn serve(peer: Peer, stream: Stream, number: u64, shared: &Shared, figures: &Figures) {
    let (reader, writer) = stream.split();
    let (requests, asked) = mpsc::channel(limits::PENDING_SPANS);
    let withdrawn = Withdrawn::default();
    tokio::select! {
        // Without a fault it wants nothing more, and what it asked for is not worth sending to a closed stream.
        fault = read(reader, number, requests, withdrawn.clone(), figures) => if let Some(why) = fault {
            shared.desk.broke(peer, format!("broke the content protocol: {why}")).await;
        },
        result = answer(writer, number, asked, withdrawn, shared, figures) => if let Err(e) = result {
            tracing::debug!(peer = peer.short(), "content stream ended: {e}");
        },
    }
}

/// Reads requests; gives the fault of a peer that breaks the protocol.
async fn read(
    mut stream: ReadHalf<Stream>,
    number: u64,
    requests: mpsc::Sender<(u64, SpanRequest)>,
    withdrawn: Withdrawn,
    figures: &Figures,
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
        let Some(nth) = figures.appetite().asked(Instant::now(), number, &request.chunks) else {
            return Some("asks for the same content over and over".into());
        };
        withdrawn.lock().unwrap_or_else(|e| e.into_inner()).open.insert(request.request);
        match requests.try_send((nth, request)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Some(format!("has more than {} requests open", limits::PENDING_SPANS));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return None,
        }
    }
}

/// Answers requests in their order. While one span is written, the next [`AHEAD`] come from the disk.
async fn answer(
    mut stream: WriteHalf<Stream>,
    number: u64,
    asked: mpsc::Receiver<(u64, SpanRequest)>,
    withdrawn: Withdrawn,
    shared: &Shared,
    figures: &Figures,
) -> std::io::Result<()> {
    let pace = Arc::new(Mutex::new(Pace::default()));
    let asked = stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
    let mut spans = std::pin::pin!(asked.map(|request| fetch(request, &withdrawn, shared, &pace)).buffered(AHEAD));
    loop {
        let asked = Instant::now();
        let Some(span) = spans.next().await else { return Ok(()) };
        let mut span = span?;
        // What it took to prepare; the rest of the wait is for the asker.
        let waited = asked.elapsed().min(span.prepared);
        let (bytes, begun) = (span.made.range.len() as u64, Instant::now());
        let slice = turn::slice(lock(&pace).link());
        let (nth, held) = (span.number, std::mem::take(&mut span.made.held));
        write(&mut stream, span, slice, shared, figures).await?;
        figures.appetite().sent(number, nth, held.into_iter());
        lock(&pace).wrote(bytes, begun.elapsed(), waited);
    }
}

/// Reads a span from the store; nothing of one that was withdrawn meanwhile.
async fn fetch(
    (number, mut request): (u64, SpanRequest),
    withdrawn: &Withdrawn,
    shared: &Shared,
    pace: &Arc<Mutex<Pace>>,
) -> std::io::Result<Span> {
    let permit = shared.serving.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let dropped = {
        let mut waiting = withdrawn.lock().unwrap_or_else(|e| e.into_inner());
        waiting.open.remove(&request.request);
        waiting.withdrawn.remove(&request.request)
    };
    let asked = request.chunks.len();
    if dropped {
        request.chunks.clear();
    }
    let (lease, wire) = shared.sent.take();
    let (store, pace) = (shared.store.clone(), pace.clone());
    let choice = lock(&pace).choose();
    // As many at once as there are cores, whoever asks: what costs us most costs an asker a few bytes.
    let core = if choice.packs() { Some(shared.packing.clone().acquire_owned().await) } else { None };
    let read = move || {
        let _core = core;
        let begun = Instant::now();
        let span = read_span(&request, asked, &*store, (&pace, choice), wire)?;
        Ok::<_, std::io::Error>((span, begun.elapsed()))
    };
    let (made, prepared) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
    Ok(Span { made, prepared, number, lease, _permit: permit })
}

/// An answer, ready for the wire.
struct Made {
    wire: Vec<u8>,
    /// Where it stands in there: its frame, then the chunks that are held.
    range: Range<usize>,
    /// The chunks in it.
    held: Vec<ChunkId>,
}

/// The answer to a request that asked for so many chunks, in `wire`.
fn read_span(
    request: &SpanRequest,
    asked: usize,
    store: &dyn Store,
    pace: (&Mutex<Pace>, Choice),
    mut wire: Vec<u8>,
) -> std::io::Result<Made> {
    // Whatever an earlier span left in it stays: zeroing it would cost as much as reading the next.
    if wire.len() < FRAME + request.chunks.iter().map(|chunk| chunk.len as usize).sum::<usize>() {
        // Who asks for what is not here gets no room made: a request is a few bytes.
        let here = store.survey(&request.chunks).unwrap_or_else(|_| Bitmap::empty(asked));
        let room: usize = here.ones().filter_map(|at| Some(request.chunks.get(at)?.len as usize)).sum();
        wire.resize(wire.len().max(FRAME + room), 0);
    }
    let (front, content) = wire.split_at_mut(FRAME);
    let found = store.read_into(&request.chunks, content).unwrap_or_else(|e| {
        // Our own disk fails: for the peer it is as if we had nothing.
        tracing::warn!("cannot read content for a peer: {e}");
        Bitmap::empty(asked)
    });
    let came: Vec<_> = found.ones().filter_map(|at| Some((at, *request.chunks.get(at)?))).collect();
    let size = came.iter().map(|(_, chunk)| chunk.len as usize).sum();
    let packed = pack(request, store, pace, content.get(..size).unwrap_or_default());
    let mut held = Bitmap::empty(asked);
    came.iter().for_each(|(at, _)| held.set(*at, true));
    let coding = packed.as_ref().map_or(Coding::Plain, |(coding, _)| *coding);
    let answer = SpanAnswer { request: request.request, held, coding };
    let mut head = Vec::new();
    frame::put(&mut head, &codec::encode(&answer).map_err(std::io::Error::other)?)?;
    let start = front.len() - head.len();
    front.split_at_mut(start).1.copy_from_slice(&head);
    // Only what is smaller than its content is packed.
    let size = packed.map_or(size, |(_, packed)| {
        content.iter_mut().zip(&packed).for_each(|(to, from)| *to = *from);
        packed.len()
    });
    let held = came.into_iter().map(|(_, chunk)| chunk.id).collect();
    Ok(Made { wire, range: start..FRAME + size, held })
}

/// What is held of a span, made smaller; none when that would cost more than it saves.
fn pack(
    request: &SpanRequest,
    store: &dyn Store,
    (pace, choice): (&Mutex<Pace>, Choice),
    content: &[u8],
) -> Option<(Coding, Vec<u8>)> {
    if !choice.packs() || content.is_empty() {
        return None;
    }
    let base = choice.over.and_then(|level| Some((level, base_of(request, store)?)));
    let begun = Instant::now();
    if let Some((level, base)) = base {
        let packed = packing::pack_over(content, &base, level);
        let size = packed.as_ref().map_or(content.len(), Vec::len);
        lock(pace).packed_over(level, content.len(), size, begun.elapsed());
        let packed = packed?;
        return Some((Coding::ZstdOverBase { bytes: u32::try_from(packed.len()).ok()? }, packed));
    }
    let level = choice.alone?;
    if !packing::shrinks(content) {
        lock(pace).in_vain();
        return None;
    }
    let packed = packing::pack(content, level);
    let size = packed.as_ref().map_or(content.len(), Vec::len);
    lock(pace).packed(level, content.len(), size, begun.elapsed());
    let packed = packed?;
    Some((Coding::Zstd { bytes: u32::try_from(packed.len()).ok()? }, packed))
}

/// The bytes of what the asker has, when all of it is here as well.
fn base_of(request: &SpanRequest, store: &dyn Store) -> Option<Vec<u8>> {
    if request.base.is_empty() {
        return None;
    }
    let parts: Option<Vec<Vec<u8>>> = store.read(&request.base).ok()?.into_iter().collect();
    parts.map(|parts| parts.concat())
}

fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(|e| e.into_inner())
}

async fn write(
    stream: &mut WriteHalf<Stream>,
    span: Span,
    slice: usize,
    shared: &Shared,
    figures: &Figures,
) -> std::io::Result<()> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let Span { made: Made { wire, range, .. }, lease, .. } = span;
    let mut head = FRAME - range.start;
    for slice in wire.get(range).unwrap_or_default().chunks(slice) {
        if let Some(up) = &shared.up {
            up.take(slice.len() as u64).await;
        }
        let mut left = slice;
        while !left.is_empty() {
            let taken = tokio::time::timeout(TAKING, stream.write(left)).await.map_err(late)??;
            if taken == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            left = left.get(taken..).unwrap_or_default();
        }
        figures.sent.fetch_add((slice.len() - head.min(slice.len())) as u64, Ordering::Relaxed);
        head = head.saturating_sub(slice.len());
    }
    tokio::time::timeout(TAKING, stream.flush()).await.map_err(late)??;
    lease.give_back(wire);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::{
        chunk::{ChunkRef, Verified},
        id::ObjectId,
    };
    use softservice_store::Layout;

    const LEN: u32 = 30_000;

    /// A store with two chunks of an object whose third never came.
    fn shelf() -> (impl Store, Vec<Verified>, Vec<ChunkRef>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = softservice_store::open(dir.path()).unwrap();
        let parts: Vec<Verified> = (1..4).map(|n| Verified::own(vec![n; LEN as usize])).collect();
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes().to_vec()).collect();
        let chunks: Vec<ChunkRef> = parts.iter().map(|part| ChunkRef { id: part.id(), len: LEN }).collect();
        let layout = Layout { object: ObjectId::of(&whole), size: whole.len() as u64, chunks: chunks.clone() };
        store.expect(&[layout]).unwrap();
        [0, 2].into_iter().for_each(|n: usize| store.put(&parts[n]).unwrap());
        (store, parts, chunks, dir)
    }
    /// What goes over the wire for it: the answer, then its content.
    fn sent(made: &Made) -> (SpanAnswer, Vec<u8>) {
        let wire = &made.wire[made.range.clone()];
        let (size, rest) = wire.split_at(4);
        let (head, content) = rest.split_at(u32::from_le_bytes(size.try_into().unwrap()) as usize);
        (codec::decode(head).unwrap(), content.to_vec())
    }

    #[test]
    fn what_is_held_goes_out_in_a_row_and_nothing_of_an_earlier_span_with_it() {
        let (store, parts, chunks, _dir) = shelf();
        let asked = vec![chunks[2], chunks[1], chunks[0]];
        let request = SpanRequest { request: 7, chunks: asked, base: vec![] };
        let expected = [parts[2].bytes(), parts[0].bytes()].concat();
        let plain = Choice { alone: None, over: None };
        let pace = Mutex::new(Pace::default());
        for before in [0, 10, 1 << 20] {
            let made = read_span(&request, 3, &store, (&pace, plain), vec![0xAA; before]).unwrap();
            let (answer, content) = sent(&made);
            assert_eq!((answer.request, answer.coding), (7, Coding::Plain));
            assert_eq!(answer.held.ones().collect::<Vec<_>>(), [0, 2]);
            assert_eq!(made.held, [chunks[2].id, chunks[0].id]);
            assert!(content == expected, "{before}");
        }
        let packed = Choice { alone: Some(0), over: None };
        let made = read_span(&request, 3, &store, (&pace, packed), vec![0xAA; 1 << 20]).unwrap();
        let (answer, content) = sent(&made);
        assert_eq!(answer.coding, Coding::Zstd { bytes: content.len() as u32 });
        assert_eq!(packing::unpack(&content, &[], expected.len()).unwrap(), expected);
    }

    #[test]
    fn nobody_makes_room_by_asking_for_what_is_not_here() {
        let (store, _, chunks, _dir) = shelf();
        let missing = ChunkRef { id: ChunkId([9; 32]), len: limits::SPAN_BYTES as u32 };
        let (pace, plain) = (Mutex::new(Pace::default()), Choice { alone: None, over: None });
        let ask = |chunk| SpanRequest { request: 1, chunks: vec![chunk], base: vec![] };
        for chunk in [missing, chunks[1]] {
            let made = read_span(&ask(chunk), 1, &store, (&pace, plain), Vec::new()).unwrap();
            let (answer, content) = sent(&made);
            assert_eq!((answer.held.len(), answer.held.count(), content.len()), (1, 0, 0));
            assert_eq!(made.wire.len(), FRAME);
        }
        // Withdrawn before its turn: as long a map as was asked for, and nothing in it.
        let withdrawn = SpanRequest { request: 1, chunks: vec![], base: vec![] };
        let made = read_span(&withdrawn, 5, &store, (&pace, plain), vec![0xAA; 100]).unwrap();
        let (answer, content) = sent(&made);
        assert_eq!((answer.held.len(), answer.held.count(), content.len()), (5, 0, 0));
    }
}
