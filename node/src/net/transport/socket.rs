//! A socket that is read in large pieces. Invariant: bytes come out as they came in, and a connection that carries little
//! keeps little memory.
//!
//! TLS asks for four kilobytes at a time and Noise for eight: without this, each of their small reads is a system call. What is
//! written comes in large pieces already.

use futures::{AsyncRead, AsyncWrite};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The buffer of a connection that carries control messages only: most of a node's connections, most of the time.
const SMALL: usize = 4 << 10;
/// The buffer of one that carries bulk.
const LARGE: usize = 256 << 10;
/// Reads in a row that would have fitted into the small buffer, after which the large one is given back.
const CALM: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Socket<S> {
    socket: S,
    buffer: Vec<u8>,
    /// What was read and not taken yet.
    start: usize,
    end: usize,
    /// Small reads in a row.
    calm: u32,
}

impl<S> Socket<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, buffer: vec![0; SMALL], start: 0, end: 0, calm: 0 }
    }
    /// Gives the buffer the size that the last read calls for. Only when nothing is in it.
    fn adapt(&mut self, came: usize) {
        self.calm = if came <= SMALL { self.calm.saturating_add(1) } else { 0 };
        let size = self.buffer.len();
        if came == size && size < LARGE {
            self.buffer = vec![0; LARGE];
            self.calm = 0;
        } else if self.calm >= CALM && size > SMALL {
            self.buffer = vec![0; SMALL];
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.start == this.end {
            if this.end > 0 {
                this.adapt(this.end);
                (this.start, this.end) = (0, 0);
            }
            if out.len() >= this.buffer.len() {
                return Pin::new(&mut this.socket).poll_read(cx, out);
            }
            this.end = ready!(Pin::new(&mut this.socket).poll_read(cx, &mut this.buffer))?;
        }
        let here = this.buffer.get(this.start..this.end).unwrap_or_default();
        let taken = here.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..taken), here.get(..taken)) {
            to.copy_from_slice(from);
        }
        this.start += taken;
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncReadExt as _;

    /// Gives as much as is asked for, of bytes that count up, or so many at most.
    struct Counting {
        next: u8,
        left: usize,
        most: usize,
        reads: usize,
    }
    impl AsyncRead for Counting {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
            let len = out.len().min(self.left).min(self.most);
            for byte in &mut out[..len] {
                *byte = self.next;
                self.next = self.next.wrapping_add(1);
            }
            self.left -= len;
            self.reads += 1;
            Poll::Ready(Ok(len))
        }
    }

    #[tokio::test]
    async fn bulk_is_read_in_large_pieces_and_a_calm_connection_keeps_little() {
        let most = usize::MAX;
        let mut socket = Socket::new(Counting { next: 0, left: 3 << 20, most, reads: 0 });
        let mut expected = 0u8;
        let mut total = 0;
        // Pieces of odd sizes, some larger than any buffer.
        for size in [1, 4096, 5, 300 << 10, 16 << 10].into_iter().cycle() {
            let mut piece = vec![0; size];
            let got = socket.read(&mut piece).await.unwrap();
            if got == 0 {
                break;
            }
            for byte in &piece[..got] {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            total += got;
        }
        assert_eq!(total, 3 << 20);
        assert!(socket.socket.reads < 40, "{}", socket.socket.reads);
        assert_eq!(socket.buffer.len(), LARGE);
        socket.socket.most = 100;
        socket.socket.left = 1 << 20;
        for _ in 0..2 * CALM {
            socket.read_exact(&mut [0; 100]).await.unwrap();
        }
        assert_eq!(socket.buffer.len(), SMALL);
    }
}
