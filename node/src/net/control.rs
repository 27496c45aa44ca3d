//! Control messages: one long-lived stream in each direction. Invariant: a peer's messages reach the driver in order and
//! whole; a peer that breaks framing, sends too much at once or does not read is disconnected, nobody else waits for it.

use super::{
    CONTROL, Order, frame,
    names::{id_of, peer_of},
    neighbours::{Figures, Neighbours},
    rate::Bucket,
};
use crate::refused::Refused;
use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::Stream;
use libp2p_stream::{Control, IncomingStreams, OpenStreamError};
use softservice_protocol::{
    id::Peer,
    io::{Input, Step},
    limits,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc;

/// Opening a stream takes round trips, not seconds.
const OPENING: Duration = Duration::from_secs(15);
/// A peer that does not take one message in this time is gone or hostile.
const WRITING: Duration = Duration::from_secs(30);
/// Streams of one peer that are read at once: the second replaces a first whose connection is dying.
const STREAMS: usize = 2;
/// Messages a second that are read from one peer, and how many at once: far above what the protocol needs, far below
/// what keeps the core busy.
const RATE: u64 = 100;
/// See [`RATE`].
const BURST: u64 = 1000;
/// How often a message is tried on a new stream before the peer is given up.
const TRIES: usize = 3;
/// The first stream of a peer may overtake the news of its connection by this much.
const NEWS: Duration = Duration::from_secs(10);

/// Where the tasks of this file report.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) facts: mpsc::Sender<Input>,
    pub(crate) orders: mpsc::WeakSender<Order>,
    pub(crate) neighbours: Arc<Neighbours>,
    /// Counts frames that are too long, and streams too many.
    pub(crate) refused: Refused,
}

impl Desk {
    /// Sends a peer away that broke the protocol. The core hears of it first: it remembers who does so time and again.
    pub(crate) async fn broke(&self, peer: Peer, why: String) {
        let _ = self.facts.send(Input::Broke { peer, why: why.clone() }).await;
        self.dismiss(peer, why).await;
    }
    /// Sends a peer away: it does not keep up, or cannot be talked to.
    pub(crate) async fn dismiss(&self, peer: Peer, why: String) {
        if let Some(orders) = self.orders.upgrade() {
            let _ = orders.send(Order::Disconnect { peer, ban_until: None, why }).await;
        }
    }
}

/// Sends one peer what is put into its outbox, until the outbox closes.
pub(crate) async fn write(
    mut control: Control,
    peer: Peer,
    figures: Arc<Figures>,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    desk: Desk,
) {
    let mut stream = None;
    while let Some(bytes) = outbox.recv().await {
        let size = bytes.len();
        if let Err(why) = send(&mut control, peer, &mut stream, &bytes).await {
            // A closed outbox means that the peer left by itself: no fault of its.
            if !outbox.is_closed() {
                desk.dismiss(peer, why).await;
            }
            return;
        }
        figures.waiting.fetch_sub(size, Ordering::Relaxed);
    }
    if let Some(mut stream) = stream {
        let _ = tokio::time::timeout(WRITING, stream.close()).await;
    }
}

/// One message, on the open stream or on a new one: with two connections to a peer, the one that carried the stream may
/// close while the other stays.
async fn send(control: &mut Control, peer: Peer, stream: &mut Option<Stream>, bytes: &[u8]) -> Result<(), String> {
    let mut failure = String::new();
    for _ in 0..TRIES {
        let open = match stream.take() {
            Some(open) => Ok(open),
            None => self::open(control, peer).await,
        };
        let mut open = open?;
        let written = tokio::time::timeout(WRITING, async {
            frame::write(&mut open, bytes).await?;
            open.flush().await
        });
        match written.await {
            Ok(Ok(())) => {
                *stream = Some(open);
                return Ok(());
            }
            Ok(Err(e)) => failure = format!("control stream broke: {e}"),
            Err(_) => return Err("does not read its control messages".into()),
        }
    }
    Err(failure)
}

async fn open(control: &mut Control, peer: Peer) -> Result<Stream, String> {
    let id = id_of(peer).ok_or("has no valid key")?;
    match tokio::time::timeout(OPENING, control.open_stream(id, CONTROL)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(OpenStreamError::UnsupportedProtocol(_))) => Err("is not a softservice node".into()),
        Ok(Err(e)) => Err(format!("control stream does not open: {e}")),
        Err(_) => Err("control stream does not open in time".into()),
    }
}

/// Accepts control streams until the swarm ends; each is read by a task of its own, as the library drops streams that
/// are not taken at once.
pub(crate) async fn accept(mut incoming: IncomingStreams, desk: Desk) {
    while let Some((id, stream)) = incoming.next().await {
        if let Some(peer) = peer_of(&id) {
            tokio::spawn(read(peer, stream, desk.clone()));
        }
    }
}

async fn read(peer: Peer, mut stream: Stream, desk: Desk) {
    let Some(figures) = desk.neighbours.expect(peer, NEWS).await else { return };
    if figures.control_streams.fetch_add(1, Ordering::Relaxed) >= STREAMS {
        figures.control_streams.fetch_sub(1, Ordering::Relaxed);
        desk.refused.count(Step::Limits);
        desk.broke(peer, "opened too many control streams".into()).await;
        return;
    }
    let budget = Bucket::new(RATE, BURST);
    loop {
        budget.take(1).await;
        match frame::read(&mut stream, limits::MESSAGE_BYTES).await {
            Ok(Some(bytes)) => {
                if desk.facts.send(Input::Received { peer, bytes }).await.is_err() {
                    break;
                }
            }
            Ok(None) | Err(frame::FrameError::Broken(_)) => break,
            Err(e @ frame::FrameError::Size { .. }) => {
                desk.refused.count(Step::Length);
                desk.broke(peer, format!("broke the control protocol: {e}")).await;
                break;
            }
        }
    }
    figures.control_streams.fetch_sub(1, Ordering::Relaxed);
}
