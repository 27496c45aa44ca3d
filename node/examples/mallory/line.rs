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
use std::{io, net::IpAddr, task::Poll, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// A handshake that takes longer was not answered.
const PATIENCE: Duration = Duration::from_secs(5);
const HELLO: &[u8] = b"\x13/multistream/1.0.0\n";

/// Who waits for a stream.
type Wish = oneshot::Sender<SubstreamBox>;

/// See the module.
pub(crate) struct Line {
    wishes: mpsc::Sender<Wish>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Moves the connection on until it ends: one task alone, as a connection wakes only who asked it last.
async fn drive(mut muxer: StreamMuxerBox, mut wishes: mpsc::Receiver<Wish>) {
    let mut waiting: Option<Wish> = None;
    poll_fn(|cx| {
        loop {
            if waiting.is_none()
                && let Poll::Ready(Some(wish)) = wishes.poll_recv(cx)
            {
                waiting = Some(wish);
            }
            if waiting.is_some() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => {
                        let _ = waiting.take().map(|wish| wish.send(stream));
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    tokio::spawn(agree(stream));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            match muxer.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

impl Line {
    /// Connects; none when the victim does not finish the handshake.
    pub(crate) async fn open(key: &Keypair, from: IpAddr, victim: &Multiaddr) -> Option<Self> {
        let mut transport = transport::upgraded(Bound(from), transport::Security::new(key).ok()?);
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = transport.dial(victim.clone(), options).ok()?;
        let (_, muxer) = tokio::time::timeout(PATIENCE, dial).await.ok()?.ok()?;
        let (wishes, wished) = mpsc::channel(8);
        Some(Self { wishes, task: tokio::spawn(drive(muxer, wished)) })
    }

    /// A stream of this protocol; fails when the connection is gone.
    pub(crate) async fn stream(&self, protocol: &str) -> io::Result<SubstreamBox> {
        let (wish, granted) = oneshot::channel();
        self.wishes.send(wish).await.map_err(io::Error::other)?;
        let mut stream =
            tokio::time::timeout(PATIENCE, granted).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
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
        self.wishes.closed().await;
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
