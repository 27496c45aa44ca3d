//! One connection of mallory's: a real handshake, then streams of any protocol. Invariant: it says yes to whatever the victim
//! opens and reads it all, so that nobody can tell it from a device by its manners.

use super::{bound::Bound, transport};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::poll_fn};
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox},
        transport::{DialOpts, PortUse},
    },
    identity::Keypair,
};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::sync::{Mutex, Notify};

/// A handshake that takes longer was not answered.
const PATIENCE: Duration = Duration::from_secs(5);
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

/// See the module.
pub(crate) struct Line {
    muxer: Arc<Mutex<StreamMuxerBox>>,
    ended: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Connects; none when the victim does not finish the handshake.
    pub(crate) async fn open(key: &Keypair, from: IpAddr, victim: &Multiaddr) -> Option<Self> {
        let mut transport = transport::upgraded(Bound(from), transport::Security::new(key).ok()?);
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(victim.clone(), options).ok()?;
        let (_, muxer) = tokio::time::timeout(PATIENCE, dial).await.ok()?.ok()?;
        let (muxer, ended) = (Arc::new(Mutex::new(muxer)), Arc::new(Notify::new()));
        let (moved, told) = (muxer.clone(), ended.clone());
        let task = tokio::spawn(async move {
            loop {
                let next = poll_fn(|cx| {
                    let Ok(mut muxer) = moved.try_lock() else {
                        cx.waker().wake_by_ref();
                        return std::task::Poll::Pending;
                    };
                    if let std::task::Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
                        return std::task::Poll::Ready(stream.map(Some).map_err(|_| ()));
                    }
                    muxer.poll_unpin(cx).map(|event| event.map(|_| None).map_err(|_| ()))
                });
                match next.await {
                    Ok(Some(stream)) => drop(tokio::spawn(agree(stream))),
                    Ok(None) => {}
                    Err(()) => break,
                }
            }
            told.notify_waiters();
            told.notify_one();
        });
        Some(Self { muxer, ended, task })
    }

    /// A stream of this protocol; fails when the connection is gone.
    pub(crate) async fn stream(&self, protocol: &str) -> io::Result<SubstreamBox> {
        let opening = poll_fn(|cx| {
            let Ok(mut muxer) = self.muxer.try_lock() else {
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            };
            muxer.poll_outbound_unpin(cx)
        });
        let mut stream =
            tokio::time::timeout(PATIENCE, opening).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let mut hello = HELLO.to_vec();
        hello.push(u8::try_from(protocol.len() + 1).map_err(io::Error::other)?);
        hello.extend_from_slice(protocol.as_bytes());
        hello.push(b'\n');
        stream.write_all(&hello).await?;
        stream.flush().await?;
        let mut answer = vec![0; hello.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.map_err(io::Error::other)??;
        if answer == hello { Ok(stream) } else { Err(io::Error::other("the victim does not speak it")) }
    }

    /// Waits until the victim has ended the connection.
    pub(crate) async fn ended(&self) {
        if !self.task.is_finished() {
            self.ended.notified().await;
        }
    }
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

/// Agrees to whatever is proposed and reads it to the end.
async fn agree(mut stream: SubstreamBox) -> io::Result<()> {
    let mut hello = vec![0; HELLO.len()];
    stream.read_exact(&mut hello).await?;
    let mut length = [0];
    stream.read_exact(&mut length).await?;
    let mut name = vec![0; usize::from(length[0])];
    stream.read_exact(&mut name).await?;
    hello.extend_from_slice(&length);
    hello.extend_from_slice(&name);
    stream.write_all(&hello).await?;
    stream.flush().await?;
    let mut rest = vec![0; 16 << 10];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Reads and forgets until the other side ends.
pub(crate) async fn drain(mut stream: futures::io::ReadHalf<SubstreamBox>) {
    let mut rest = vec![0; 64 << 10];
    while let Ok(1..) = stream.read(&mut rest).await {}
}
