//! What a launched process tells its keeper, through the socket that it has as standard input. Invariant: bounded, and
//! what was told stays told.

use crate::sandbox::Told;
use tokio::{io::AsyncReadExt, net::UnixStream};

/// Bytes that are listened to: a sandbox tells two lines, a failure is one.
const MOST: usize = 16 << 10;

/// Everything told so far.
pub(super) struct Story {
    socket: UnixStream,
    text: Vec<u8>,
    /// Nothing will follow.
    pub(super) over: bool,
}

impl Story {
    /// The story told through this socket.
    pub(super) fn new(socket: std::os::unix::net::UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, text: Vec::new(), over: false })
    }

    /// Waits until more is told, or nothing more will be.
    pub(super) async fn goes_on(&mut self) {
        let mut buffer = [0; 512];
        match self.socket.read(&mut buffer).await {
            Ok(n @ 1..) => self.take(buffer.get(..n)),
            _ => self.over = true,
        }
    }

    /// Takes what was told before now, without waiting.
    pub(super) fn catch_up(&mut self) {
        let mut buffer = [0; 512];
        while let Ok(n @ 1..) = rustix::io::read(&self.socket, &mut buffer) {
            self.take(buffer.get(..n));
            if self.text.len() >= MOST {
                break;
            }
        }
    }

    fn take(&mut self, bytes: Option<&[u8]>) {
        let room = MOST.saturating_sub(self.text.len());
        self.text.extend(bytes.unwrap_or_default().iter().take(room));
    }

    /// All whole lines together.
    pub(super) fn told(&self) -> Told {
        let mut all = Told::default();
        for line in self.text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
            let Ok(told) = serde_json::from_slice::<Told>(line) else { continue };
            all.failed = told.failed.or(all.failed);
            all.child_pid = told.child_pid.or(all.child_pid);
            all.exit_code = told.exit_code.or(all.exit_code);
        }
        all
    }
}
