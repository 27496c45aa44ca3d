//! Connections over TCP: a read buffer, then TLS or Noise, then streams. Invariant: on the wire it is what every libp2p node
//! speaks; who connects is authenticated before a stream exists, and what one connection can make us keep is bounded.
//!
//! The library's own way costs half more CPU for bulk: it takes what came off the socket in a few kilobytes at a time and
//! gives each 16 KiB of a stream to the socket for itself. `docs/benchmarks.md` has the table that chose these sizes, and
//! TLS before Noise.

mod muxer;
mod security;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

use libp2p::{
    PeerId, Transport,
    core::{
        Negotiated,
        muxing::StreamMuxerBox,
        transport::Boxed,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version},
    },
    identity::Keypair,
    quic, tcp,
};
use muxer::{STREAMS, Yamux};
use socket::Socket;

pub(crate) use security::{NoKeys, Security};

/// What the security layer reads from and writes to.
type Wire = Negotiated<Socket<tcp::tokio::TcpStream>>;

/// Bytes that the allocator may keep on top of a heap, about; twice what is freed once in [`keep_pages`].
const KEPT: usize = 8 << 20;

/// The transport of a node: TLS, or Noise with who has no TLS.
pub(crate) fn tcp(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NoKeys> {
    keep_pages();
    Ok(over(Security::new(key)?))
}

/// What all streams of a connection over QUIC may send us unasked, and one of them: a gigabit at 120 ms, as over TCP.
const QUIC_WINDOW: u32 = 16 << 20;
/// See [`QUIC_WINDOW`]; less, so that one stream does not take all of it.
const QUIC_STREAM: u32 = 10 << 20;

/// Bounds of QUIC: the streams that a connection over TCP has, where the library would allow twice as many. One more is not
/// opened before another has ended.
pub(crate) fn bounded(mut quic: quic::Config) -> quic::Config {
    quic.max_concurrent_stream_limit = STREAMS as u32;
    quic.max_connection_data = QUIC_WINDOW;
    quic.max_stream_data = QUIC_STREAM;
    quic
}

/// Each frame that comes gets memory of its own, for a moment. glibc gives a heap's top back to the system from 128 KiB on, so
/// the pages of every frame would be taken one fault at a time, zeroed, and returned: an eighth of what receiving costs. It
/// raises that mark to twice the largest block that it saw freed, which is what this frees; other allocators only see
/// a reservation come and go. Another allocator was refused: those measured kept several times the memory.
fn keep_pages() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT / 2)));
}

/// A transport with another choice of security.
pub(crate) fn over<S, C, E>(security: S) -> Boxed<(PeerId, StreamMuxerBox)>
where
    S: InboundConnectionUpgrade<Wire, Output = (PeerId, C), Error = E>
        + OutboundConnectionUpgrade<Wire, Output = (PeerId, C), Error = E>
        + Clone
        + Send
        + 'static,
    <S as InboundConnectionUpgrade<Wire>>::Future: Send,
    <S as OutboundConnectionUpgrade<Wire>>::Future: Send,
    <S as UpgradeInfo>::Info: Send,
    <<S as UpgradeInfo>::InfoIter as IntoIterator>::IntoIter: Send,
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    upgraded(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)), security)
}

/// The same over other sockets.
pub(crate) fn upgraded<T, S, C, E>(sockets: T, security: S) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: Transport<Output = tcp::tokio::TcpStream> + Send + Unpin + 'static,
    T::Error: Send + Sync,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
    S: InboundConnectionUpgrade<Wire, Output = (PeerId, C), Error = E>
        + OutboundConnectionUpgrade<Wire, Output = (PeerId, C), Error = E>
        + Clone
        + Send
        + 'static,
    <S as InboundConnectionUpgrade<Wire>>::Future: Send,
    <S as OutboundConnectionUpgrade<Wire>>::Future: Send,
    <S as UpgradeInfo>::Info: Send,
    <<S as UpgradeInfo>::InfoIter as IntoIterator>::IntoIter: Send,
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    sockets
        .map(|stream, _| Socket::new(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(Yamux)
        .boxed()
}
