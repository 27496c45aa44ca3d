//! A steady stream of visitors. Invariant: open loop: a request is due at its time whether earlier ones were answered or
//! not, and its latency counts from when it was due, so that a server that stands still cannot hide it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Visitors at a time; at 200 a second they could each wait a second before one came too late.
const VISITORS: usize = 256;
/// Beyond this a visitor goes away.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct Visit {
    /// When it was due, from the beginning of the stream.
    pub due: Duration,
    /// When it was answered, or given up.
    pub ended: Duration,
    /// The body of an answer with status 200; else why not.
    pub answer: Result<String, String>,
}

/// Visitors who come until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    visits: Arc<(Mutex<Vec<Visit>>, Condvar)>,
    visitors: Vec<JoinHandle<()>>,
    /// The beginning of the stream.
    pub began: Instant,
}

impl Load {
    /// Begins to send `rate` requests a second to `address`, each on a connection of its own.
    pub fn begin(address: SocketAddr, rate: u32) -> Self {
        let (stop, visits) = (Arc::new(AtomicBool::new(false)), Arc::<(Mutex<Vec<Visit>>, Condvar)>::default());
        let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let visitor = |_| {
            let (stop, visits, next) = (Arc::clone(&stop), Arc::clone(&visits), Arc::clone(&next));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = Duration::from_secs(1).mul_f64(number as f64 / f64::from(rate));
                    // The time itself is what is waited for.
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    let answer = ask(address).map_err(|e| e.to_string());
                    let visit = Visit { due, ended: began.elapsed(), answer };
                    visits.0.lock().expect("no visitor panics").push(visit);
                    visits.1.notify_all();
                }
            })
        };
        let visitors = (0..VISITORS).map(visitor).collect();
        Self { stop, visits, visitors, began }
    }

    /// Waits until so many visits have ended that were due after this call.
    pub fn passes(&self, count: usize) {
        let from = self.began.elapsed();
        let short = |visits: &mut Vec<Visit>| visits.iter().filter(|v| v.due >= from).count() < count;
        let visits = self.visits.0.lock().expect("no visitor panics");
        let waited = self.visits.1.wait_timeout_while(visits, 2 * PATIENCE, short).expect("no visitor panics");
        assert!(!waited.1.timed_out(), "{count} visitors come");
    }

    /// Ends the stream; every visit in the order in which it was due.
    pub fn end(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.join().expect("no visitor panics");
        }
        let mut visits = std::mem::take(&mut *self.visits.0.lock().expect("no visitor panics"));
        visits.sort_by_key(|v| v.due);
        visits
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("cut off in the head"))?;
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    if head.split(' ').nth(1) != Some("200") || length.is_some_and(|l: usize| l != body.len()) {
        return Err(std::io::Error::other(format!(
            "{} and {} bytes",
            head.lines().next().unwrap_or_default(),
            body.len()
        )));
    }
    Ok(body.to_owned())
}
