//! Connections of a front. Invariant: a connection counts for the service that it was led to from the moment in which the
//! table was read for it, so that nobody is told that a service is left while somebody is on the way to it; bytes wait
//! in the kernel when one side is slow, never here beyond two small buffers.

use rustix::net::sockopt;
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

/// How long a connection waits for a service that does not take it: a switch takes less, and more helps nobody.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first wait between two tries; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// Silence after which the kernel asks whether a peer is still there: one that lost its power must not keep a place for ever.
const SILENCE: Duration = Duration::from_secs(120);

/// Where connections go, and how many go there.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when connections are led elsewhere.
    led: watch::Sender<()>,
    /// Told when the last connection to an inner port is gone. Not the same: those who wait for a service would wake each
    /// other without end.
    left: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Inner ports by public ones.
    to: BTreeMap<u16, u16>,
    /// Connections by inner port.
    open: BTreeMap<u16, usize>,
}

/// A connection on its way or standing; counted until dropped.
#[derive(Debug)]
pub(super) struct Way {
    ways: Ways,
    inner: u16,
}

impl Drop for Way {
    fn drop(&mut self) {
        let mut state = self.ways.state();
        let open = state.open.get(&self.inner).copied().unwrap_or(0);
        if open > 1 {
            state.open.insert(self.inner, open - 1);
            return;
        }
        state.open.remove(&self.inner);
        drop(state);
        self.ways.0.left.send_replace(());
    }
}

impl Ways {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on new connections go there.
    pub(super) fn lead(&self, to: BTreeMap<u16, u16>) {
        self.state().to = to;
        self.0.led.send_replace(());
    }

    /// The way of a new connection to a public port; none when that leads nowhere any more.
    fn begin(&self, public: u16) -> Option<Way> {
        let mut state = self.state();
        let inner = *state.to.get(&public)?;
        *state.open.entry(inner).or_default() += 1;
        Some(Way { ways: self.clone(), inner })
    }

    /// Returns when no connection to these inner ports is left.
    pub(super) async fn drained(&self, inner: &[u16]) {
        let mut left = self.0.left.subscribe();
        let any = || {
            let state = self.state();
            inner.iter().any(|port| state.open.contains_key(port))
        };
        while any() && left.changed().await.is_ok() {}
    }

    /// Carries one connection from its beginning to its end.
    pub(super) async fn carry(&self, mut client: TcpStream, public: u16) {
        let Some((_way, mut service)) = self.reach(public).await else { return };
        lasting(&client);
        lasting(&service);
        // Either side may end its half and still hear the other. An error ends both: who is left sees it as the other's.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut service).await;
    }

    /// A connection to the service behind a public port, tried until it takes it: in the moment of a switch nobody
    /// listens, or the one who did is gone while the next is already known.
    async fn reach(&self, public: u16) -> Option<(Way, TcpStream)> {
        let end = Instant::now() + PATIENCE;
        let (mut wait, mut led) = (FIRST_WAIT, self.0.led.subscribe());
        loop {
            let way = self.begin(public)?;
            let connected = timeout_at(end, TcpStream::connect((Ipv4Addr::LOCALHOST, way.inner))).await;
            if let Ok(Ok(service)) = connected
                // The kernel may connect a socket to itself where nobody listens.
                && service.local_addr().ok() != service.peer_addr().ok()
            {
                return Some((way, service));
            }
            drop(way);
            if Instant::now() + wait >= end {
                return None;
            }
            tokio::select! {
                () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                _ = led.changed() => {}
            }
        }
    }
}

/// Small packets go at once, and a peer that vanished is noticed.
fn lasting(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream.as_fd(), true);
    let _ = sockopt::set_tcp_keepidle(stream.as_fd(), SILENCE);
}
