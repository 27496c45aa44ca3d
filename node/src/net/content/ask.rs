//! The side that wants: one task for each peer pipelines requests over one stream. Invariant: a peer that sends something else than what was asked has lied, one that is late is broken
//! off, and in both cases every other open request is given back as broken, so that another peer may serve it.

use super::{
    super::{CONTENT, frame, names::id_of, neighbours::Figures},
    Ask, SLICE, Shared,
    answer::{Answer, Checked, Open, Used, size_of},
    waits::{Reading, Tally, Work},
};
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    io::{ReadHalf, WriteHalf},
};
use libp2p::Stream;
use libp2p_stream::Control;
use softservice_protocol::{
    bitmap::Bitmap,
    codec,
    codec::Wire as _,
    id::Peer,
    io::{Delivery, Input, Request, Spent},
    limits,
    message::{Coding, SpanAnswer, SpanRequest},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

/// Opening a stream takes round trips, not seconds.
const OPENING: Duration = Duration::from_secs(10);
/// How long a peer's answers may wait more when our own disk holds them up.
const OWN_DISK: Duration = Duration::from_secs(10);
/// What is asked for once more gets so long.
const AGAIN: Duration = Duration::from_secs(60);
/// Frames on their way to the writer: each open request and its cancel.
const FRAMES: usize = 2 * limits::PENDING_SPANS;

/// How a session ends.
enum End {
    /// The driver wants nothing more of this peer.
    Done,
    /// The stream broke, or was too slow.
    Broke,
    /// The peer broke the protocol, in the answer to this request if it can be told.
    Lied { request: Option<u64>, why: String },
}

/// What the reader found wrong.
enum Fault {
    Broke,
    Lied { request: Option<u64>, why: String },
}

type OnWire = Arc<Mutex<BTreeMap<u64, Open>>>;

fn lock(map: &OnWire) -> MutexGuard<'_, BTreeMap<u64, Open>> {
    map.lock().unwrap_or_else(|e| e.into_inner())
}

/// Serves the driver's asks toward one peer until the driver forgets it.
pub(super) async fn run(peer: Peer, mut inbox: mpsc::Receiver<Ask>, mut control: Control, shared: Shared) {
    let mut session = Session {
        peer,
        tally: Tally::default(),
        partial: Arc::default(),
        stalled: None,
        baseless: false,
        waiting: VecDeque::new(),
        on_wire: OnWire::default(),
        verifying: JoinSet::new(),
        shared,
    };
    loop {
        while session.waiting.is_empty() {
            match inbox.recv().await {
                Some(ask) => session.take(ask, None).await,
                None => return,
            }
        }
        let end = match open(&mut control, peer).await {
            Some(stream) => session.run(stream, &mut inbox).await,
            None => End::Broke,
        };
        let done = matches!(end, End::Done);
        session.finish(end, &mut inbox).await;
        if done {
            return;
        }
    }
}

async fn open(control: &mut Control, peer: Peer) -> Option<Stream> {
    match tokio::time::timeout(OPENING, control.open_stream(id_of(peer)?, CONTENT)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(e)) => {
            tracing::debug!(peer = peer.short(), "no content stream: {e}");
            None
        }
        Err(_) => None,
    }
}

struct Session {
    peer: Peer,
    /// What its answers waited for.
    tally: Tally,
    /// Bytes that were read of answers which are not whole, or wait.
    partial: Arc<AtomicU64>,
    /// Since when nothing is on the wire while answers are verified and stored.
    stalled: Option<Instant>,
    /// What was here to be compared with is not any more.
    baseless: bool,
    waiting: VecDeque<(u64, Open)>,
    on_wire: OnWire,
    /// Answers being hashed and stored, each with its request and how many chunks it asked for.
    verifying: JoinSet<(u64, Checked, Used)>,
    shared: Shared,
}

impl Session {
    async fn tell(&self, request: u64, outcome: Delivery, spent: Spent) {
        let input = Input::Delivered { peer: self.peer, request: Request(request), outcome, spent };
        // The driver is gone only at the end, when nobody needs to know.
        let _ = self.shared.delivered.send(input).await;
    }

    /// Takes an ask; a cancel of what is on the wire goes there as well.
    async fn take(&mut self, ask: Ask, frames: Option<&mpsc::Sender<Vec<u8>>>) {
        match ask {
            Ask::Span { request, chunks, base, deadline } => {
                let base = if self.baseless { Vec::new() } else { base };
                self.waiting.push_back((request.0, Open::new(chunks, base, deadline)));
            }
            Ask::Cancel { request } => {
                if let Some(at) = self.waiting.iter().position(|(r, _)| *r == request.0) {
                    if let Some((r, open)) = self.waiting.remove(at) {
                        self.broke(r, &open).await;
                    }
                } else if let Some(frames) = frames.filter(|_| lock(&self.on_wire).contains_key(&request.0)) {
                    // A request for nothing withdraws an earlier one; the peer then answers that it holds nothing.
                    let cancel = SpanRequest { request: request.0, chunks: Vec::new(), base: Vec::new() };
                    if let Ok(bytes) = codec::encode(&cancel) {
                        let _ = frames.try_send(bytes);
                    }
                }
            }
        }
    }

    /// Moves waiting requests onto the wire as long as there is room.
    fn advance(&mut self, frames: &mpsc::Sender<Vec<u8>>) {
        while lock(&self.on_wire).len() < limits::PENDING_SPANS
            && let Some((request, mut open)) = self.waiting.pop_front()
        {
            open.asked = Instant::now();
            let span = SpanRequest { request, chunks: open.chunks.clone(), base: open.base.clone() };
            // The core keeps its spans inside the limits, so they encode; one that does not waits for its deadline.
            let bytes = codec::encode(&span);
            lock(&self.on_wire).insert(request, open);
            if bytes.map_or(true, |bytes| frames.try_send(bytes).is_err()) {
                break;
            }
        }
    }

    async fn run(&mut self, stream: Stream, inbox: &mut mpsc::Receiver<Ask>) -> End {
        let (reader, writer) = stream.split();
        let (frames, to_write) = mpsc::channel(FRAMES);
        // One whole answer may wait for the verifiers while the next is read.
        let (answers, mut answered) = mpsc::channel(1);
        let figures = self.shared.desk.neighbours.figures(self.peer).unwrap_or_default();
        let held_up = Arc::new(AtomicBool::new(false));
        let reading = Reader {
            stream: reader,
            on_wire: self.on_wire.clone(),
            answers,
            shared: self.shared.clone(),
            figures,
            held_up: held_up.clone(),
            partial: self.partial.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reading.run());
        tasks.spawn(write(writer, to_write));
        loop {
            self.advance(&frames);
            self.watch();
            let nearest = lock(&self.on_wire).values().map(|o| o.deadline).min();
            let late = async {
                match nearest {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(result) = self.verifying.join_next() => {
                    if let Some(end) = self.verified(result).await {
                        return end;
                    }
                }
                Some(answer) = answered.recv() => self.verify(answer),
                ask = inbox.recv() => match ask {
                    Some(ask) => self.take(ask, Some(&frames)).await,
                    None => return End::Done,
                },
                Some(result) = tasks.join_next() => match result {
                    // The reader may have passed on whole answers before it found the fault.
                    Ok(fault) => {
                        while let Ok(answer) = answered.try_recv() {
                            self.verify(answer);
                        }
                        return match fault {
                            Fault::Broke => End::Broke,
                            Fault::Lied { request, why } => End::Lied { request, why },
                        };
                    }
                    Err(_) => return End::Broke,
                },
                () = late => {
                    if held_up.load(Ordering::Relaxed) {
                        // Not the peer is slow: what it sent waits for our own disk.
                        let later = Instant::now() + OWN_DISK;
                        lock(&self.on_wire).values_mut().for_each(|open| open.deadline = open.deadline.max(later));
                        continue;
                    }
                    tracing::debug!(peer = self.peer.short(), "content comes too slowly");
                    return End::Broke;
                }
            }
        }
    }

    /// Nothing is on its way here, for what came takes up all that may be open: that time is our own.
    fn watch(&mut self) {
        let stalls = !self.verifying.is_empty() && self.waiting.is_empty() && lock(&self.on_wire).is_empty();
        match (stalls, self.stalled) {
            (true, None) => self.stalled = Some(Instant::now()),
            (false, Some(since)) => {
                self.tally.stalled(since.elapsed());
                self.stalled = None;
            }
            _ => {}
        }
    }

    /// Hashes and stores a whole answer on a blocking thread.
    fn verify(&mut self, answer: Answer) {
        self.partial.fetch_sub(answer.reading.size as u64, Ordering::Relaxed);
        let Some(open) = lock(&self.on_wire).remove(&answer.request) else { return };
        let store = self.shared.store.clone();
        self.verifying.spawn_blocking(move || {
            let (request, coding, reading, vain) = (answer.request, answer.coding, answer.reading, open.vain);
            let mut work = Work::default();
            let checked = answer.check(open, &*store, &mut work);
            (request, checked, Used { coding, reading, work, vain })
        });
    }

    /// Nothing came of a request.
    async fn broke(&self, request: u64, open: &Open) {
        let spent = Spent { wire: open.vain, ..Spent::default() };
        self.tell(request, Delivery::Broke { held: Bitmap::empty(open.chunks.len()) }, spent).await;
    }

    /// Reports a verified answer; a lie ends the session.
    async fn verified(&mut self, result: Result<(u64, Checked, Used), tokio::task::JoinError>) -> Option<End> {
        // A panic in the store takes the answer with it; the driver is told when the session is finished.
        let Ok((request, checked, used)) = result else { return Some(End::Broke) };
        if let Some(since) = self.stalled.as_mut() {
            self.tally.stalled(std::mem::replace(since, Instant::now()).elapsed());
        }
        let waits = self.tally.answered(&used.reading, &used.work);
        let wire = used.vain + used.reading.size as u64;
        let outcome = match checked {
            Checked::Ended(outcome) => outcome,
            Checked::Unreadable(open) => {
                // A sweep took it: later requests name nothing any more, and this one has all its time again.
                self.baseless = true;
                self.waiting.iter_mut().for_each(|(_, open)| open.base.clear());
                self.waiting.push_front((request, Open { deadline: Instant::now() + AGAIN, vain: wire, ..open }));
                return None;
            }
        };
        let lied = matches!(outcome, Delivery::Lied { .. });
        let coding = matches!(outcome, Delivery::Came { .. }).then_some(used.coding);
        self.tell(request, outcome, Spent { wire, coding, waits }).await;
        lied.then_some(End::Broke)
    }

    /// Answers everything that is open.
    async fn finish(&mut self, end: End, inbox: &mut mpsc::Receiver<Ask>) {
        while let Some(result) = self.verifying.join_next().await {
            let _ = self.verified(result).await;
        }
        let open = std::mem::take(&mut *lock(&self.on_wire));
        let (culprit, why) = match end {
            End::Lied { request, why } => (request.or_else(|| open.keys().next().copied()), why),
            _ => (None, String::new()),
        };
        if !why.is_empty() && culprit.is_none_or(|c| !open.contains_key(&c)) {
            // Nothing to pin it on: the peer talks without being asked.
            self.shared.desk.broke(self.peer, format!("broke the content protocol: {why}")).await;
        }
        // Answers come in the order of requests: what came of one that did not end was the oldest's.
        let mut partial = self.partial.swap(0, Ordering::Relaxed);
        for (request, mut open) in open {
            open.vain += std::mem::take(&mut partial);
            if Some(request) == culprit {
                let outcome = Delivery::Lied { held: Bitmap::empty(open.chunks.len()), why: why.clone() };
                self.tell(request, outcome, Spent { wire: open.vain, ..Spent::default() }).await;
            } else {
                self.broke(request, &open).await;
            }
        }
        // What waits was never sent, and would wait for the same peer again: somebody else may be better.
        for (request, open) in std::mem::take(&mut self.waiting) {
            self.broke(request, &open).await;
        }
        while let Ok(ask) = inbox.try_recv() {
            if let Ask::Span { request, chunks, base, deadline } = ask {
                self.broke(request.0, &Open::new(chunks, base, deadline)).await;
            }
        }
    }
}

/// Writes frames until there are no more or the stream breaks.
async fn write(mut stream: WriteHalf<Stream>, mut frames: mpsc::Receiver<Vec<u8>>) -> Fault {
    while let Some(bytes) = frames.recv().await {
        if frame::write(&mut stream, &bytes).await.is_err() || stream.flush().await.is_err() {
            return Fault::Broke;
        }
    }
    Fault::Broke
}

struct Reader {
    stream: ReadHalf<Stream>,
    on_wire: OnWire,
    answers: mpsc::Sender<Answer>,
    shared: Shared,
    figures: Arc<Figures>,
    /// Set while what came waits for those who verify and store.
    held_up: Arc<AtomicBool>,
    /// See [`Session::partial`].
    partial: Arc<AtomicU64>,
}

impl Reader {
    async fn run(mut self) -> Fault {
        loop {
            match self.answer().await {
                Ok(answer) => {
                    if self.answers.send(answer).await.is_err() {
                        return Fault::Broke;
                    }
                }
                Err(fault) => return fault,
            }
        }
    }

    /// Reads one answer: its header, then exactly the bytes that the held chunks have.
    async fn answer(&mut self) -> Result<Answer, Fault> {
        let lied = |request, why: &dyn std::fmt::Display| Fault::Lied { request, why: why.to_string() };
        let free = Instant::now();
        let header = match frame::read(&mut self.stream, SpanAnswer::LIMIT).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(frame::FrameError::Broken(_)) => return Err(Fault::Broke),
            Err(e @ frame::FrameError::Size { .. }) => return Err(lied(None, &e)),
        };
        let header: SpanAnswer = codec::decode(&header).map_err(|e| lied(None, &e))?;
        let request = Some(header.request);
        let asked = lock(&self.on_wire).get(&header.request).map(|o| (o.chunks.clone(), o.base.is_empty(), o.asked));
        let Some((asked, baseless, at)) = asked else { return Err(lied(None, &"answered what was not asked")) };
        let answer = free.max(at).elapsed();
        if !header.held.is_valid() || header.held.len() != asked.len() {
            return Err(lied(request, &"sent a bitmap of another length than was asked"));
        }
        let came: Vec<_> = header.held.ones().filter_map(|at| Some((at, *asked.get(at)?))).collect();
        // Bounded by what was asked, and that by the core.
        let size = match header.coding {
            Coding::Plain => size_of(&came),
            Coding::ZstdOverBase { .. } if baseless => {
                return Err(lied(request, &"wrote against something that it was not told"));
            }
            Coding::Zstd { bytes } | Coding::ZstdOverBase { bytes } if (bytes as usize) < size_of(&came) => {
                bytes as usize
            }
            _ => return Err(lied(request, &"packed chunks into more bytes than they have")),
        };
        let (lease, mut bytes) = self.shared.received.take();
        if bytes.len() < size {
            bytes.resize(size, 0);
        }
        let (begun, limit) = (Instant::now(), self.body(bytes.get_mut(..size).unwrap_or_default()).await?);
        let read = Instant::now();
        // Waiting here stops reading, and so the peer: at most one span of each peer waits beside those being verified.
        self.held_up.store(true, Ordering::Relaxed);
        let permit = self.shared.verifying.clone().acquire_owned().await.map_err(|_| Fault::Broke)?;
        self.held_up.store(false, Ordering::Relaxed);
        let waited = read.saturating_duration_since(begun).saturating_sub(limit);
        let reading = Reading { size, answer, bytes: waited, limit, held_up: read.elapsed() };
        Ok(Answer { request: header.request, came, coding: header.coding, bytes, reading, lease, permit })
    }

    /// Fills `bytes` from the stream; gives how long the rate held it up.
    async fn body(&mut self, bytes: &mut [u8]) -> Result<Duration, Fault> {
        let mut limit = Duration::ZERO;
        for slice in bytes.chunks_mut(SLICE) {
            if let Some(down) = &self.shared.down {
                let began = Instant::now();
                down.take(slice.len() as u64).await;
                limit += began.elapsed();
            }
            self.stream.read_exact(slice).await.map_err(|_| Fault::Broke)?;
            self.figures.received.fetch_add(slice.len() as u64, Ordering::Relaxed);
            self.partial.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        Ok(limit)
    }
}
