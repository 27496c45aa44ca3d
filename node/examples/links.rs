//! What a byte costs on each way between two devices: our transport and the library's own, TLS, Noise and QUIC. Two processes over
//! the loopback, one stream, no disk and no hashing; each round runs every way once. Prints one table in Markdown:
//! `cargo run --release -p softservice-node --example links [MEBIBYTES [ROUNDS]]`, 2048 and 5 unless named.

#[path = "../src/net/transport/mod.rs"]
mod transport;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt as _},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, tcp, tls, yamux,
};
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

/// Bytes of one write: what a content stream writes at once.
const SLICE: usize = 256 << 10;
const WAYS: [(&str, &str); 5] = [
    ("tls", "TCP, TLS, ours"),
    ("noise", "TCP, Noise, ours"),
    ("stock-tls", "TCP, TLS, the library's own"),
    ("stock-noise", "TCP, Noise, the library's own"),
    ("quic", "QUIC"),
];

fn open(way: &str) -> (Boxed<(PeerId, StreamMuxerBox)>, Multiaddr) {
    let key = Keypair::generate_ed25519();
    let stock = || tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)).upgrade(Version::V1Lazy);
    let transport = match way {
        "tls" => transport::tcp(&key).unwrap(),
        "noise" => transport::over(noise::Config::new(&key).unwrap()),
        "stock-tls" => {
            stock().authenticate(tls::Config::new(&key).unwrap()).multiplex(yamux::Config::default()).boxed()
        }
        "stock-noise" => {
            stock().authenticate(noise::Config::new(&key).unwrap()).multiplex(yamux::Config::default()).boxed()
        }
        "quic" => quic::tokio::Transport::new(transport::bounded(quic::Config::new(&key)))
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed(),
        other => panic!("no way is called {other}"),
    };
    let address = if way == "quic" { "/ip4/127.0.0.1/udp/0/quic-v1" } else { "/ip4/127.0.0.1/tcp/0" };
    (transport, address.parse().unwrap())
}

/// Listens, says where, and sends what is asked for to the first who comes.
async fn give(way: &str, bytes: u64) {
    let (mut transport, address) = open(way);
    transport.listen_on(ListenerId::next(), address).unwrap();
    let (_, mut muxer) = loop {
        match transport.next().await.unwrap() {
            TransportEvent::NewAddress { listen_addr, .. } => println!("{listen_addr}"),
            TransportEvent::Incoming { upgrade, .. } => {
                // What listens moves the handshake on, with some transports.
                tokio::select! {
                    done = upgrade => break done.unwrap(),
                    _ = async { while transport.next().await.is_some() {} } => unreachable!(),
                }
            }
            _ => {}
        }
    };
    tokio::spawn(async move { while transport.next().await.is_some() {} });
    let mut stream = poll_fn(|cx| {
        let stream = muxer.poll_inbound_unpin(cx);
        let _ = muxer.poll_unpin(cx);
        stream
    })
    .await
    .unwrap();
    let moving = tokio::spawn(poll_fn(move |cx| muxer.poll_unpin(cx).map(|_| ())));
    let before = spent();
    let source: Vec<u8> = (0..64 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let prepared = spent();
    stream.read_exact(&mut [0]).await.unwrap();
    let mut left = bytes as usize;
    for slice in source.chunks(SLICE).cycle() {
        let slice = &slice[..slice.len().min(left)];
        stream.write_all(slice).await.unwrap();
        left -= slice.len();
        if left == 0 {
            break;
        }
    }
    stream.flush().await.unwrap();
    // The other end says that it has everything.
    stream.read_exact(&mut [0]).await.unwrap();
    println!("{} {}", spent() - (prepared - before), peak());
    moving.abort();
}

/// Dials, takes so many bytes, and says how long it took.
async fn take(way: &str, bytes: u64, address: &str) {
    let (mut transport, _) = open(way);
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = transport.dial(address.parse().unwrap(), options).unwrap();
    tokio::spawn(async move { while transport.next().await.is_some() {} });
    let (_, mut muxer) = dial.await.unwrap();
    let mut stream = poll_fn(|cx| {
        let stream = muxer.poll_outbound_unpin(cx);
        let _ = muxer.poll_unpin(cx);
        stream
    })
    .await
    .unwrap();
    tokio::spawn(poll_fn(move |cx| muxer.poll_unpin(cx).map(|_| ())));
    stream.write_all(&[1]).await.unwrap();
    stream.flush().await.unwrap();
    let mut buffer = vec![0; SLICE];
    stream.read_exact(&mut buffer[..1]).await.unwrap();
    let begun = Instant::now();
    let mut left = bytes as usize - 1;
    while left > 0 {
        let most = buffer.len().min(left);
        left -= match stream.read(&mut buffer[..most]).await.unwrap() {
            0 => panic!("it ended {left} bytes early"),
            came => came,
        };
    }
    println!("{} {} {}", begun.elapsed().as_secs_f64(), spent(), peak());
    stream.write_all(&[1]).await.unwrap();
    stream.flush().await.unwrap();
    let _ = stream.read(&mut buffer).await;
}

/// CPU seconds of this process.
fn spent() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Hundredths of a second on every Linux that this runs on.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// The most memory that it had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Throughput in MiB/s, CPU s/GiB of both sides, and their peaks.
type Figures = [f64; 5];

fn measure(way: &str, bytes: u64) -> Figures {
    let me = std::env::current_exe().unwrap();
    let start = |role: &str, more: &[&str]| {
        let mut command = Command::new(&me);
        command.args([role, way, &bytes.to_string()]).args(more).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut giver = start("give", &[]);
    let mut said = BufReader::new(giver.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap();
    let taken = start("take", &[&address]).wait_with_output().unwrap();
    let given = said.last().unwrap().unwrap();
    giver.wait().unwrap();
    let numbers = |text: &str| text.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<f64>>();
    let (taken, given) = (numbers(&String::from_utf8(taken.stdout).unwrap()), numbers(&given));
    let gib = bytes as f64 / f64::from(1 << 30);
    [gib * 1024.0 / taken[0], given[0] / gib, taken[1] / gib, given[1], taken[2]]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match words[..] {
        ["give", way, bytes] => block_on(give(way, number(bytes))),
        ["take", way, bytes, address] => block_on(take(way, number(bytes), address)),
        [] => compare(2048, 5),
        [mebibytes] => compare(number(mebibytes), 5),
        [mebibytes, rounds] => compare(number(mebibytes), number(rounds)),
        _ => panic!("links [MEBIBYTES [ROUNDS]]"),
    }
}

fn block_on(what: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(what);
}

fn compare(mebibytes: u64, rounds: u64) {
    let mut figures: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for _ in 0..rounds {
        for (way, _) in WAYS {
            figures.entry(way).or_default().push(measure(way, mebibytes << 20));
        }
    }
    println!(
        "| {mebibytes} MiB, n = {rounds} | MiB/s (least–most) | CPU s/GiB, sender + receiver | peak MiB, sender + receiver |"
    );
    println!("|---|---|---|---|");
    for (way, name) in WAYS {
        let column = |at: usize| {
            let mut column: Vec<f64> = figures[way].iter().map(|f| f[at]).collect();
            column.sort_by(f64::total_cmp);
            column
        };
        let median = |at: usize| column(at)[figures[way].len() / 2];
        let (least, most) = (column(0)[0], column(0)[figures[way].len() - 1]);
        let rate = format!("{:.0} ({least:.0}–{most:.0})", median(0));
        println!("| {name} | {rate} | {:.2} + {:.2} | {:.0} + {:.0} |", median(1), median(2), median(3), median(4));
    }
}
