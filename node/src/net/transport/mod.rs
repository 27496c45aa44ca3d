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

use libp2p::{
    PeerId, Transport as _,
    core::{
        Negotiated,
        muxing::StreamMuxerBox,
        transport::Boxed,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version},
    },
    identity::Keypair,
    tcp,
};
use muxer::Yamux;
use socket::Socket;

pub(crate) use security::{NoKeys, Security};

/// What the security layer reads from and writes to.
type Wire = Negotiated<Socket<tcp::tokio::TcpStream>>;

/// The transport of a node: TLS, or Noise with who has no TLS.
pub(crate) fn tcp(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NoKeys> {
    Ok(over(Security::new(key)?))
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
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(|stream, _| Socket::new(stream))
        .upgrade(Version::V1Lazy)
        .authenticate(security)
        .multiplex(Yamux)
        .boxed()
}
