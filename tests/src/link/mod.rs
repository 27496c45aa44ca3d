//! Two hosts on a link that is slower, longer and worse than this machine's: network namespaces with a TAP device each, and
//! a relay between the devices. Not every kernel has netem. Invariant: when this process ends, however it does, so do hosts and devices.
//!
//! The kernel of a sender hands over frames as it would to a card: no frame is longer than the device's MTU, none is
//! checked or cut on the way. The relay adds what a scheduler of a busy machine adds; `link --check` says how much that is.

mod line;

pub use line::{Fate, Line, Quality};

use std::{
    io,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// Ethernet's 1,500 bytes, and its header.
const FRAME: usize = 1514;

/// What became of the frames of one direction.
#[derive(Debug, Default)]
pub struct Counts {
    came: AtomicU64,
    arrived: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
    late: AtomicU64,
}

impl Counts {
    /// As JSON: frames that came, arrived, were lost by chance, were dropped at the full queue; and by how many
    /// microseconds the latest of all was later than it should have been.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "came": self.came.load(Relaxed),
            "arrived": self.arrived.load(Relaxed),
            "lost": self.lost.load(Relaxed),
            "dropped": self.dropped.load(Relaxed),
            "latest_us": self.late.load(Relaxed),
        })
    }
}

/// A network namespace that lives as long as this: a process that waits for the end of its input holds it.
#[derive(Debug)]
struct Host(Child);

impl Host {
    fn new() -> io::Result<Self> {
        let child =
            Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let host = Self(child);
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let end = Instant::now() + Duration::from_secs(10);
        // It is this process' namespace until `unshare` has run.
        while std::fs::read_link(host.namespace()).map_or(true, |theirs| theirs == own) {
            if Instant::now() > end {
                return Err(io::Error::other("unshare --net made no namespace"));
            }
            thread::yield_now();
        }
        Ok(host)
    }
    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
    fn enter(&self) -> String {
        format!("nsenter --net={}", self.namespace())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The link, from now until it is dropped or the process ends.
#[derive(Debug)]
pub struct Link {
    hosts: [Host; 2],
    /// From the first host to the second, and back.
    counts: [Arc<Counts>; 2],
}

/// Addresses of both hosts, in one network of 24 bits.
pub const ADDRESSES: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
const CARDS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

impl Link {
    /// Both hosts, their devices, and the relay on threads of its own.
    ///
    /// # Errors
    /// Without root, without `/dev/net/tun`, or without iproute2 and util-linux.
    pub fn new(quality: Quality) -> io::Result<Self> {
        let hosts = [Host::new()?, Host::new()?];
        let mut devices = Vec::new();
        for (side, host) in hosts.iter().enumerate() {
            let name = format!("lk{}{}", std::process::id(), ["a", "b"][side]);
            let device = DeviceBuilder::new().name(&name).layer(Layer::L2).enable(false).build_sync()?;
            let pid = host.0.id();
            let inside = host.enter();
            // The device moves to its host; what is read and written here stays with this process.
            run(&format!("ip link set {name} netns {pid} name eth0"))?;
            run(&format!("{inside} ip link set lo up"))?;
            // No frame but the command's own: no questions for addresses, no IPv6 where there is any.
            let _ = run(&format!("{inside} sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1"));
            run(&format!("{inside} ip addr add {}/24 dev eth0", ADDRESSES[side]))?;
            run(&format!("{inside} ip link set eth0 address {} txqueuelen 10000 up", CARDS[side]))?;
            run(&format!("{inside} ip neigh add {} lladdr {} dev eth0", ADDRESSES[1 - side], CARDS[1 - side]))?;
            devices.push(Arc::new(device));
        }
        let counts = [Arc::new(Counts::default()), Arc::new(Counts::default())];
        for way in 0..2 {
            let (from, to) = (devices[way].clone(), devices[1 - way].clone());
            relay(from, to, Line::new(quality, way as u64), counts[way].clone());
        }
        Ok(Self { hosts, counts })
    }
    /// What to put before a command so that it runs on a host, 0 or 1.
    pub fn enter(&self, host: usize) -> String {
        self.hosts[host].enter()
    }
    /// Frames from the first host to the second, and back.
    pub fn counts(&self) -> serde_json::Value {
        serde_json::json!({ "ab": self.counts[0].json(), "ba": self.counts[1].json() })
    }
}

fn run(command: &str) -> io::Result<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("{command}: {}", said.trim()))) }
}

/// One direction: a thread that takes frames and judges them, one that lets them out when they are due.
fn relay(from: Arc<SyncDevice>, to: Arc<SyncDevice>, mut line: Line, counts: Arc<Counts>) {
    let began = Instant::now();
    let (send, due) = mpsc::channel::<(Duration, Vec<u8>)>();
    let judged = counts.clone();
    thread::spawn(move || {
        let mut frame = [0; FRAME];
        // A device that is gone ends the relay, and with it the link.
        while let Ok(len) = from.recv(&mut frame) {
            judged.came.fetch_add(1, Relaxed);
            match line.take(began.elapsed(), len) {
                Fate::Lost => _ = judged.lost.fetch_add(1, Relaxed),
                Fate::Dropped => _ = judged.dropped.fetch_add(1, Relaxed),
                Fate::Arrives(at) => {
                    let Some(bytes) = frame.get(..len) else { continue };
                    if send.send((at, bytes.to_vec())).is_err() {
                        return;
                    }
                }
            }
        }
    });
    thread::spawn(move || {
        for (at, frame) in due {
            thread::sleep(at.saturating_sub(began.elapsed()));
            let late = began.elapsed().saturating_sub(at).as_micros();
            counts.late.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Relaxed);
            // A device that is down takes nothing: as with a cable that nobody plugged in.
            if to.send(&frame).is_ok() {
                counts.arrived.fetch_add(1, Relaxed);
            }
        }
    });
}
