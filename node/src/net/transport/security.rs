//! TLS first, then Noise: whichever both ends have. Invariant: what comes out is encrypted and its peer proved its key.

use super::tls::{NoCertificate, NoTls, Tls};
use futures::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either},
};
use futures_rustls::TlsStream;
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity::Keypair,
    noise,
};
use std::iter::{Chain, Once};

/// Our identity in both protocols.
#[derive(Clone)]
pub(crate) struct Security {
    tls: Tls,
    noise: noise::Config,
}

/// Why there is no identity to speak with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKeys {
    #[error("no certificate: {0}")]
    Tls(#[from] NoCertificate),
    #[error("no Noise keys: {0}")]
    Noise(#[from] noise::Error),
}

/// Why a connection is not secured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSecured {
    #[error(transparent)]
    Tls(#[from] NoTls),
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// An encrypted connection.
type Secured<C> = Either<TlsStream<C>, noise::Output<C>>;

impl Security {
    pub(crate) fn new(key: &Keypair) -> Result<Self, NoKeys> {
        Ok(Self { tls: Tls::new(key)?, noise: noise::Config::new(key)? })
    }
    fn is_tls(&self, chosen: &str) -> bool {
        self.tls.protocol_info().any(|name| name == chosen)
    }
}

impl UpgradeInfo for Security {
    type Info = &'static str;
    type InfoIter = Chain<Once<&'static str>, Once<&'static str>>;
    fn protocol_info(&self) -> Self::InfoIter {
        self.tls.protocol_info().chain(self.noise.protocol_info())
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = NotSecured;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, chosen: Self::Info) -> Self::Future {
        if self.is_tls(chosen) {
            let secured = self.tls.upgrade_inbound(socket, chosen);
            secured.map_ok(|(peer, stream)| (peer, Either::Left(stream))).err_into().boxed()
        } else {
            let secured = self.noise.upgrade_inbound(socket, chosen);
            secured.map_ok(|(peer, stream)| (peer, Either::Right(stream))).err_into().boxed()
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = NotSecured;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, chosen: Self::Info) -> Self::Future {
        if self.is_tls(chosen) {
            let secured = self.tls.upgrade_outbound(socket, chosen);
            secured.map_ok(|(peer, stream)| (peer, Either::Left(stream))).err_into().boxed()
        } else {
            let secured = self.noise.upgrade_outbound(socket, chosen);
            secured.map_ok(|(peer, stream)| (peer, Either::Right(stream))).err_into().boxed()
        }
    }
}
