//! What other programs say of a link: ping its delay, iperf3 its rate and its losses. Invariant: a figure is what such a
//! program printed, never what the relay believes of itself.

use serde_json::Value;
use softservice_tests::link::{ADDRESSES, Link, Quality};
use std::{
    fmt::Write as _,
    io,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Payload of a datagram that fills a frame: 1,500 less the headers of IP and UDP.
const DATAGRAM: usize = 1472;
/// Of its frame.
const FRAME: f64 = 1514.0;

/// A table in Markdown: asked for and measured.
pub(crate) fn table(link: &Link, quality: Quality) -> io::Result<String> {
    let server = Server::start(link)?;
    let mut text = String::from("| figure | asked for | measured | with |\n|---|---|---|---|\n");
    let (least, mean) = round_trip(link)?;
    let asked = quality.delay.as_secs_f64() * 2e3;
    row(
        &mut text,
        "round trip, least / mean, ms",
        &format!("{asked:.1}"),
        &format!("{least:.1} / {mean:.1}"),
        "ping, 200 at 10 ms",
    );
    // More than goes through: what arrives is the rate.
    let over = udp(link, quality.rate as f64 * 1.25)?;
    let rate = over.arrived * FRAME / DATAGRAM as f64 / 1e6;
    row(
        &mut text,
        "rate, Mbit/s",
        &format!("{:.1}", quality.rate as f64 / 1e6),
        &format!("{rate:.1}"),
        "iperf3 -u, 1.25 times as much",
    );
    // Less than goes through: what is missing was lost by chance.
    let under = udp(link, quality.rate as f64 * 0.7)?;
    let missing = 100.0 * under.lost / under.sent.max(1.0);
    let said = format!("{missing:.3} ({:.0} of {:.0})", under.lost, under.sent);
    row(&mut text, "loss, %", &format!("{:.3}", quality.loss * 100.0), &said, "iperf3 -u, 0.7 of the rate");
    let (tcp, kind) = tcp(link)?;
    row(&mut text, "TCP, Mbit/s", "–", &format!("{tcp:.1}"), &format!("iperf3, 10 s, {kind}"));
    drop(server);
    Ok(text)
}

fn row(text: &mut String, figure: &str, asked: &str, measured: &str, with: &str) {
    let _ = writeln!(text, "| {figure} | {asked} | {measured} | {with} |");
}

/// A program on one of the hosts; its words, whatever its exit status is.
fn on(link: &Link, host: usize, command: &str) -> io::Result<String> {
    let line = format!("{} {command}", link.enter(host));
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    if output.stdout.is_empty() && !output.status.success() {
        return Err(io::Error::other(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Server(Child);

impl Server {
    fn start(link: &Link) -> io::Result<Self> {
        let line = format!("{} iperf3 -s", link.enter(0));
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        let child = Command::new(program).args(words).stdout(Stdio::null()).spawn()?;
        let server = Self(child);
        let end = Instant::now() + Duration::from_secs(10);
        while !on(link, 0, "ss -Hltn")?.contains(":5201") {
            if Instant::now() > end {
                return Err(io::Error::other("iperf3 -s does not listen"));
            }
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Least and mean in milliseconds. The first question warms the path up: it does not count.
fn round_trip(link: &Link) -> io::Result<(f64, f64)> {
    let _ = on(link, 1, &format!("ping -q -c 1 -w 5 {}", ADDRESSES[0]))?;
    let said = on(link, 1, &format!("ping -q -c 200 -i 0.01 {}", ADDRESSES[0]))?;
    let figures = said.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let mut numbers = figures.unwrap_or_default().split('/').map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(least)), Some(Ok(mean))) => Ok((least, mean)),
        _ => Err(io::Error::other(format!("ping said: {said}"))),
    }
}

struct Datagrams {
    sent: f64,
    lost: f64,
    /// Bits of payload a second.
    arrived: f64,
}

fn iperf(link: &Link, arguments: &str) -> io::Result<Value> {
    let said = on(link, 1, &format!("iperf3 -J -R -c {} {arguments}", ADDRESSES[0]))?;
    let answer: Value = serde_json::from_str(&said).map_err(io::Error::other)?;
    match answer["error"].as_str() {
        Some(error) => Err(io::Error::other(format!("iperf3: {error}"))),
        None => Ok(answer),
    }
}

fn udp(link: &Link, rate: f64) -> io::Result<Datagrams> {
    let answer = iperf(link, &format!("-u -w 4M -l {DATAGRAM} -b {rate:.0} -t 10"))?;
    let end = &answer["end"];
    let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
    let figure = |name: &str| sum[name].as_f64().unwrap_or(0.0);
    Ok(Datagrams { sent: figure("packets"), lost: figure("lost_packets"), arrived: figure("bits_per_second") })
}

fn tcp(link: &Link) -> io::Result<(f64, String)> {
    let answer = iperf(link, "-t 10")?;
    let end = &answer["end"];
    let kind = end["sender_tcp_congestion"].as_str().unwrap_or("unknown").to_owned();
    Ok((end["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6, kind))
}
