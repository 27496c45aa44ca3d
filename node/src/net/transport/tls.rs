//! TLS 1.3 as libp2p speaks it: each end shows one certificate that it signed itself, and in it its peer key vouches for that
//! certificate's. Invariant: a connection comes out only after both proved the keys of the certificates they showed, and
//! nothing of a connection's secrets is written anywhere.
//!
//! Source: libp2p's specification of its TLS handshake, `tls/tls.md`. Certificates are made and read by the library. Its
//! configuration is not used: it asks for ChaCha20 first, which costs three times what AES does where the processor has
//! instructions for that, and it writes every session's keys to the file that `SSLKEYLOGFILE` names.

use futures::{
    AsyncRead, AsyncWrite, FutureExt as _,
    future::{self, BoxFuture},
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity::Keypair,
    tls::certificate,
};
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            self,
            cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        },
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{io, iter, net::Ipv4Addr, sync::Arc};

/// What both ends agree to speak inside.
const ALPN: &[u8] = b"libp2p";

/// Why there is no identity to speak TLS with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCertificate {
    #[error(transparent)]
    Made(#[from] certificate::GenError),
    #[error(transparent)]
    Taken(#[from] rustls::Error),
}

/// Why a connection is not secured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTls {
    #[error("the handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("the peer's certificate is wrong: {0}")]
    Certificate(#[from] certificate::ParseError),
    #[error("the peer showed not one certificate, but {0}")]
    NotOne(usize),
}

/// Our identity, as either end.
#[derive(Clone)]
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// The ciphers, the cheapest first; the end that dials decides.
fn ciphers(has_aes: bool) -> Vec<SupportedCipherSuite> {
    let mut ciphers = vec![TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    if !has_aes {
        ciphers.rotate_right(1);
    }
    ciphers
}

/// Whether this processor has instructions for AES in Galois/counter mode.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl Tls {
    pub(crate) fn new(key: &Keypair) -> Result<Self, NoCertificate> {
        let provider = CryptoProvider { cipher_suites: ciphers(has_aes()), ..aws_lc_rs::default_provider() };
        let (shown, private) = certificate::generate(key)?;
        let signing = provider.key_provider.load_private_key(private)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![shown], signing)));
        let (provider, versions) = (Arc::new(provider), [&rustls::version::TLS13]);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(Arc::new(Proof))
            .with_cert_resolver(own.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection proves its keys: nothing of an earlier one is taken up again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Proof))
            .with_client_cert_resolver(own);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// Checks what a peer shows: that it is one certificate, vouched for by the peer's key, and that the peer has the
/// certificate's own. Whom we meant to reach is compared by the swarm.
#[derive(Debug)]
struct Proof;

impl Proof {
    fn check(shown: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !more.is_empty() {
            return Err(rustls::Error::General("more than one certificate".into()));
        }
        certificate::parse(shown)?;
        Ok(())
    }
    fn signed(
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        certificate::parse(shown)?.verify_signature(signature.scheme, message, signature.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }
    /// Refused: only 1.3 is spoken, and this is not asked there.
    fn old() -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }
    /// The best first.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}

impl ServerCertVerifier for Proof {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::check(shown, more).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::old()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, shown, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for Proof {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        true
    }
    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::check(shown, more).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::old()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::signed(message, shown, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

/// Whose certificate a handshake ended with.
fn peer(connection: &CommonState) -> Result<PeerId, NoTls> {
    match connection.peer_certificates().unwrap_or_default() {
        [one] => Ok(certificate::parse(one)?.peer_id()),
        other => Err(NoTls::NotOne(other.len())),
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;
    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/tls/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<C> for Tls {
    type Output = (PeerId, TlsStream<C>);
    type Error = NoTls;
    type Future = BoxFuture<'static, Result<Self::Output, NoTls>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        let handshake = TlsAcceptor::from(self.server).accept(socket);
        handshake
            .map(|done| {
                let stream = done?;
                Ok((peer(stream.get_ref().1)?, stream.into()))
            })
            .boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<C> for Tls {
    type Output = (PeerId, TlsStream<C>);
    type Error = NoTls;
    type Future = BoxFuture<'static, Result<Self::Output, NoTls>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        // No name is sent: an address never is, and the specification wants none.
        let nobody = ServerName::from(Ipv4Addr::UNSPECIFIED);
        let handshake = TlsConnector::from(self.client).connect(nobody, socket);
        handshake
            .then(|done| {
                future::ready(done.map_err(NoTls::from).and_then(|stream| {
                    let peer = peer(stream.get_ref().1)?;
                    Ok((peer, stream.into()))
                }))
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{client::ResolvesClientCert, server::ResolvesServerCert, sign::SigningKey};
    use tokio::net::{TcpListener, TcpStream};

    type End = libp2p::tcp::tokio::TcpStream;

    async fn ends() -> (End, End) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (libp2p::tcp::tokio::TcpStream(dialled), libp2p::tcp::tokio::TcpStream(listener.accept().await.unwrap().0))
    }
    /// What the listening and the dialling end come to.
    async fn shake(
        host: &Tls,
        guest: &Tls,
    ) -> (Result<(PeerId, TlsStream<End>), NoTls>, Result<(PeerId, TlsStream<End>), NoTls>) {
        let (dialled, accepted) = ends().await;
        let both = future::join(
            host.clone().upgrade_inbound(accepted, "/tls/1.0.0"),
            guest.clone().upgrade_outbound(dialled, "/tls/1.0.0"),
        );
        tokio::time::timeout(std::time::Duration::from_secs(30), both).await.expect("in time")
    }
    fn signing(key: &Keypair) -> (CertificateDer<'static>, Arc<dyn SigningKey>) {
        let (shown, private) = certificate::generate(key).unwrap();
        (shown, aws_lc_rs::default_provider().key_provider.load_private_key(private).unwrap())
    }
    /// Somebody who shows `shown` and signs with something else.
    fn thief(mut of: Tls, shown: &CertificateDer<'static>, signs: Arc<dyn SigningKey>) -> Tls {
        let stolen = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![shown.clone()], signs)));
        Arc::make_mut(&mut of.server).cert_resolver = stolen.clone() as Arc<dyn ResolvesServerCert>;
        Arc::make_mut(&mut of.client).client_auth_cert_resolver = stolen as Arc<dyn ResolvesClientCert>;
        of
    }

    #[tokio::test]
    async fn both_prove_who_they_are_and_agree_on_the_cheapest_cipher() {
        assert_eq!(ciphers(true).first(), Some(&TLS13_AES_256_GCM_SHA384));
        assert_eq!(ciphers(false).first(), Some(&TLS13_CHACHA20_POLY1305_SHA256));
        let keys = [(); 2].map(|()| Keypair::generate_ed25519());
        let [ann, bob] = [0, 1].map(|n| Tls::new(&keys[n]).unwrap());
        let ids = [0, 1].map(|n| keys[n].public().to_peer_id());
        // Twice: nothing of the first meeting is taken up in the second.
        for _ in 0..2 {
            let (host, guest) = shake(&ann, &bob).await;
            let ((of_guest, stream), (of_host, _)) = (host.unwrap(), guest.unwrap());
            assert_eq!([of_host, of_guest], ids);
            let connection = stream.get_ref().1;
            assert_eq!(connection.negotiated_cipher_suite(), ciphers(has_aes()).first().copied());
            assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }

    #[tokio::test]
    async fn who_shows_the_certificate_of_another_or_none_is_refused() {
        let keys = [(); 3].map(|()| Keypair::generate_ed25519());
        let [ann, bob, eve] = [0, 1, 2].map(|n| Tls::new(&keys[n]).unwrap());
        let (of_ann, _) = signing(&keys[0]);
        let (_, of_eve) = signing(&keys[2]);
        let eve_as_ann = thief(eve.clone(), &of_ann, of_eve);
        // As the one who dials, and as the one who listens: whoever is honest hears of it.
        assert!(matches!(shake(&bob, &eve_as_ann).await.0, Err(NoTls::Handshake(_))));
        assert!(matches!(shake(&eve_as_ann, &bob).await.1, Err(NoTls::Handshake(_))));
        // The same certificate twice is not one.
        let (shown, signs) = signing(&keys[2]);
        let twice = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![shown.clone(), shown], signs)));
        let mut two = eve.clone();
        Arc::make_mut(&mut two.client).client_auth_cert_resolver = twice;
        assert!(shake(&ann, &two).await.0.is_err());
        let mut nobody = eve;
        Arc::make_mut(&mut nobody.client).client_auth_cert_resolver = Arc::new(Nothing);
        assert!(matches!(shake(&ann, &nobody).await.0, Err(NoTls::Handshake(_))));
    }

    /// Shows no certificate.
    #[derive(Debug)]
    struct Nothing;
    impl ResolvesClientCert for Nothing {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }
        fn has_certs(&self) -> bool {
            false
        }
    }
}
