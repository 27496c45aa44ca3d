//! Bulk content: chunks by id over one long-lived stream for each pair of peers. [`ask`] is the side that wants,
//! [`serve`] the side that has, and this file routes the core's requests to the task of each peer.
//!
//! Invariant: every request is answered by exactly one Delivered, whatever a peer does; bytes go from the stream to a
//! blocking thread that hashes and stores them, and pass neither the swarm's task nor the driver's loop.

mod answer;
pub(crate) mod appetite;
mod ask;
mod buffers;
mod packing;
mod serve;
#[cfg(test)]
mod tests;
mod turn;
mod waits;
mod window;

use super::{control::Desk, rate::Bucket};
use buffers::Buffers;
use libp2p_stream::{Control, IncomingStreams};
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    id::Peer,
    io::{Delivery, Input, Request, Spent},
    limits,
};
use softservice_store::Store;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{Semaphore, mpsc};

/// Asks that wait for one peer's task: the core opens at most [`limits::PENDING_SPANS`] at a peer; the rest are cancels.
const ASKS: usize = 4 * limits::PENDING_SPANS;
/// Spans that are being hashed and written at once, of at most a megabyte each: bounds memory, keeps both cores busy.
const VERIFYING: usize = 16;
/// Spans read from the disk for others and not yet sent, of at most a megabyte each, whatever they are packed into: this, the
/// cores that pack and the streams of a peer bound what others make us do. Rates do not: see [`Limits`].
const SERVING: usize = 16;
/// Answers are read and written in slices, between which rates are kept. What is written at once is one frame of the muxer, and
/// between frames pings and control messages of the same connection have their turn: see [`turn`].
const SLICE: usize = 256 << 10;

/// What the task of one peer is asked.
#[derive(Debug)]
enum Ask {
    Span { request: Request, chunks: Vec<ChunkRef>, base: Vec<ChunkRef>, deadline: tokio::time::Instant },
    Cancel { request: Request },
}

/// What both sides share.
#[derive(Debug, Clone)]
struct Shared {
    store: Arc<dyn Store>,
    desk: Desk,
    /// Where Delivered goes.
    delivered: mpsc::Sender<Input>,
    verifying: Arc<Semaphore>,
    serving: Arc<Semaphore>,
    /// Cores that make answers smaller.
    packing: Arc<Semaphore>,
    /// Buffers of answers that come, and of those that go.
    received: Arc<Buffers>,
    sent: Arc<Buffers>,
    up: Option<Arc<Bucket>>,
    down: Option<Arc<Bucket>>,
}

/// Rates, in bytes a second as they cross the link: that is what an owner shares with others. Counting what was unpacked was
/// refused: answers that are written against what the asker has would come as slowly as whole ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) up: Option<u64>,
    pub(crate) down: Option<u64>,
}

/// The router; owned by the driver.
pub(crate) struct Content {
    shared: Shared,
    control: Control,
    peers: BTreeMap<Peer, mpsc::Sender<Ask>>,
}

impl Content {
    /// Starts serving, and gets ready to ask.
    pub(crate) fn start(
        control: Control,
        incoming: IncomingStreams,
        store: Arc<dyn Store>,
        desk: Desk,
        delivered: mpsc::Sender<Input>,
        limits: Limits,
    ) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|r| Arc::new(Bucket::new(r, r.max(SLICE as u64))));
        let shared = Shared {
            store,
            desk,
            delivered,
            verifying: Arc::new(Semaphore::new(VERIFYING)),
            serving: Arc::new(Semaphore::new(SERVING)),
            packing: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            received: Arc::default(),
            sent: Arc::default(),
            up: bucket(limits.up),
            down: bucket(limits.down),
        };
        tokio::spawn(serve::accept(incoming, shared.clone()));
        Self { shared, control, peers: BTreeMap::new() }
    }

    /// Asks a peer for a span. Gives the answer at once when the question cannot even be put.
    #[must_use]
    pub(crate) fn ask(
        &mut self,
        peer: Peer,
        request: Request,
        chunks: Vec<ChunkRef>,
        base: Vec<ChunkRef>,
        deadline: tokio::time::Instant,
    ) -> Option<Input> {
        let asked = chunks.len();
        let sender = self.peers.entry(peer).or_insert_with(|| {
            let (sender, inbox) = mpsc::channel(ASKS);
            tokio::spawn(ask::run(peer, inbox, self.control.clone(), self.shared.clone()));
            sender
        });
        match sender.try_send(Ask::Span { request, chunks, base, deadline }) {
            Ok(()) => None,
            Err(_) => {
                let outcome = Delivery::Broke { held: Bitmap::empty(asked) };
                Some(Input::Delivered { peer, request, outcome, spent: Spent::default() })
            }
        }
    }
    /// The answer is no longer needed. A full queue loses the wish, not the answer.
    pub(crate) fn cancel(&mut self, peer: Peer, request: Request) {
        if let Some(sender) = self.peers.get(&peer) {
            let _ = sender.try_send(Ask::Cancel { request });
        }
    }
    /// The peer is gone: its task answers what is open, and ends.
    pub(crate) fn forget(&mut self, peer: Peer) {
        self.peers.remove(&peer);
    }
}
