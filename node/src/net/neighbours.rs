//! Who is connected, shared by the tasks that talk to them. Invariant: a peer is in here exactly while it has a
//! connection; the swarm's task alone adds and removes.

use super::content::appetite::Appetite;
use crate::handle::{PeerInfo, Traffic};
use softservice_protocol::{id::Peer, limits};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Control messages that wait for one peer: a page of feed answers; who cannot take them is too slow to keep.
const OUTBOX_MESSAGES: usize = 64;
/// Bytes of them: four of the longest.
const OUTBOX_BYTES: usize = 4 * limits::MESSAGE_BYTES;

/// What is counted of one peer, from any task.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Content bytes sent to it.
    pub(crate) sent: AtomicU64,
    /// Content bytes received from it.
    pub(crate) received: AtomicU64,
    /// Its control streams that are being read.
    pub(crate) control_streams: AtomicUsize,
    /// Its content streams that are being served.
    pub(crate) content_streams: AtomicUsize,
    /// Bytes that wait in its outbox.
    pub(crate) waiting: AtomicUsize,
    /// What it asks for again and again.
    appetite: Mutex<Appetite>,
}

impl Figures {
    pub(crate) fn appetite(&self) -> MutexGuard<'_, Appetite> {
        self.appetite.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[derive(Debug)]
struct Neighbour {
    address: String,
    outbound: bool,
    relayed: bool,
    rtt: Option<Duration>,
    outbox: mpsc::Sender<Vec<u8>>,
    figures: Arc<Figures>,
    /// The core has been told of it.
    told: bool,
}

/// Why a control message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The peer is gone.
    Gone,
    /// It does not read what it is sent.
    TooSlow,
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    by_peer: Mutex<BTreeMap<Peer, Neighbour>>,
    changed: Notify,
    /// Content bytes sent to and received from peers that are gone.
    sent_before: AtomicU64,
    received_before: AtomicU64,
}

impl Neighbours {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Peer, Neighbour>> {
        self.by_peer.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// Notes a peer's first connection; gives the end of its outbox.
    pub(crate) fn add(&self, peer: Peer, address: String, outbound: bool) -> (mpsc::Receiver<Vec<u8>>, Arc<Figures>) {
        let (outbox, receiver) = mpsc::channel(OUTBOX_MESSAGES);
        let figures = Arc::new(Figures::default());
        let relayed = address.contains("/p2p-circuit");
        let neighbour =
            Neighbour { address, outbound, relayed, rtt: None, outbox, figures: figures.clone(), told: false };
        self.lock().insert(peer, neighbour);
        self.changed.notify_waiters();
        (receiver, figures)
    }
    /// The core is told of it: what it says may be passed on from now on.
    pub(crate) fn told(&self, peer: Peer) {
        if let Some(neighbour) = self.lock().get_mut(&peer) {
            neighbour.told = true;
        }
        self.changed.notify_waiters();
    }
    /// Forgets it; its outbox closes.
    pub(crate) fn remove(&self, peer: Peer) {
        if let Some(gone) = self.lock().remove(&peer) {
            self.sent_before.fetch_add(gone.figures.sent.load(Ordering::Relaxed), Ordering::Relaxed);
            self.received_before.fetch_add(gone.figures.received.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.changed.notify_waiters();
    }
    /// Notes a round trip.
    pub(crate) fn pinged(&self, peer: Peer, rtt: Duration) {
        if let Some(neighbour) = self.lock().get_mut(&peer) {
            neighbour.rtt = Some(rtt);
        }
    }
    /// Puts a control message into a peer's outbox.
    pub(crate) fn send(&self, peer: Peer, bytes: Vec<u8>) -> Result<(), NotSent> {
        let neighbours = self.lock();
        let neighbour = neighbours.get(&peer).ok_or(NotSent::Gone)?;
        let size = bytes.len();
        if neighbour.figures.waiting.load(Ordering::Relaxed) + size > OUTBOX_BYTES {
            return Err(NotSent::TooSlow);
        }
        match neighbour.outbox.try_send(bytes) {
            Ok(()) => {
                neighbour.figures.waiting.fetch_add(size, Ordering::Relaxed);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(NotSent::TooSlow),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotSent::Gone),
        }
    }
    /// The counters of a connected peer.
    pub(crate) fn figures(&self, peer: Peer) -> Option<Arc<Figures>> {
        self.lock().get(&peer).map(|n| n.figures.clone())
    }
    /// The counters of a peer, once the core was told of it: its first stream may be faster, and what it carries would
    /// be a stranger's.
    pub(crate) async fn expect(&self, peer: Peer, patience: Duration) -> Option<Arc<Figures>> {
        let noted = async {
            loop {
                let changed = self.changed.notified();
                let told = self.lock().get(&peer).filter(|n| n.told).map(|n| n.figures.clone());
                if let Some(figures) = told {
                    return figures;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, noted).await.ok()
    }
    /// Content bytes sent and received since the node started, whoever they were for.
    pub(crate) fn traffic(&self) -> Traffic {
        let peers = self.lock();
        let sum = |count: fn(&Figures) -> &AtomicU64| -> u64 {
            peers.values().map(|n| count(&n.figures).load(Ordering::Relaxed)).sum()
        };
        Traffic {
            sent: sum(|f| &f.sent) + self.sent_before.load(Ordering::Relaxed),
            received: sum(|f| &f.received) + self.received_before.load(Ordering::Relaxed),
        }
    }
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
    /// Everybody, for people.
    pub(crate) fn infos(&self) -> Vec<PeerInfo> {
        let info = |(peer, n): (&Peer, &Neighbour)| PeerInfo {
            device: peer.to_string(),
            address: n.address.clone(),
            direction: if n.outbound { "out" } else { "in" },
            rtt: n.rtt.map(|d| d.as_secs_f64()),
            relayed: n.relayed,
            sent: n.figures.sent.load(Ordering::Relaxed),
            received: n.figures.received.load(Ordering::Relaxed),
        };
        self.lock().iter().map(info).collect()
    }
}
