//! Streams over one connection: yamux, in large frames and with little to keep. Invariant: a peer can neither make us hold more
//! than the windows of [`config`], nor more streams than [`STREAMS`]; whatever it sends, an error ends the connection.
//!
//! Frames: each is a turn. A control message waits for at most the frame that is being written and the one behind it,
//! because streams take turns whose frames wait; how large the frames of bulk are, up to [`FRAME`], is up to who writes them.

use futures::{AsyncRead, AsyncWrite, future};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

/// Largest frame that we send; each is encrypted and given to the socket for itself. Beyond it nothing is gained.
pub(super) const FRAME: usize = 256 << 10;
/// Streams of one connection: 64 of the hash table, 8 of content, the rest for gossip, control, pings and introductions. One
/// more is not opened but answered by a farewell, at which honest peers end the connection, so it must be far from what they
/// do: 64 would leave nothing beside a busy hash table.
pub(super) const STREAMS: usize = 128;
/// What every stream may send us unasked: the protocol's own number.
pub(super) const FIRST_WINDOW: usize = yamux::DEFAULT_CREDIT as usize;
/// What all windows of a connection may grow by together, as far as the path calls for it: a gigabit at 120 ms.
/// The library's gigabyte would let fifty peers fill any device.
const GROWTH: usize = 16 << 20;
/// Streams that the peer opened and nobody has taken yet; one more is reset.
const ARRIVED: usize = 64;

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    // In this order: the number of streams is checked against the window that stands.
    config.set_max_num_streams(STREAMS);
    config.set_max_connection_receive_window(Some(STREAMS * FIRST_WINDOW + GROWTH));
    config.set_split_send_size(FRAME);
    config
}

/// Agreement on yamux.
#[derive(Debug, Clone, Copy)]
pub(super) struct Yamux;

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;
    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = future::Ready<Result<Muxer<C>, Infallible>>;
    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(io, yamux::Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = future::Ready<Result<Muxer<C>, Infallible>>;
    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(io, yamux::Mode::Client)))
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Ended(#[from] yamux::ConnectionError);

/// A connection that carries streams.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: yamux::Connection<C>,
    /// Whoever moves the connection on may meet a new stream, whether somebody waits for one or not.
    arrived: VecDeque<yamux::Stream>,
    /// Who waits for one.
    awaiting: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    pub(super) fn new(io: C, mode: yamux::Mode) -> Self {
        let connection = yamux::Connection::new(io, config(), mode);
        Self { connection, arrived: VecDeque::new(), awaiting: None }
    }
    /// Reads and writes what can be read and written, up to the next stream that the peer opens.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, Ended>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(yamux::ConnectionError::Closed)).map_err(Ended))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = Ended;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, Ended>> {
        let this = self.get_mut();
        if let Some(stream) = this.arrived.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = this.drive(cx);
        if next.is_pending() {
            this.awaiting = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, Ended>> {
        self.connection.poll_new_outbound(cx).map_err(Ended)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.connection.poll_close(cx).map_err(Ended)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Ended>> {
        let this = self.get_mut();
        let stream = ready!(this.drive(cx))?;
        if this.arrived.len() < ARRIVED {
            this.arrived.push_back(stream);
            if let Some(waker) = this.awaiting.take() {
                waker.wake();
            }
        } else {
            tracing::debug!("a peer opens streams faster than they are taken");
        }
        // There may be more, but a peer that opens streams without end must not keep this task to itself.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
