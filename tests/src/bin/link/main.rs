//! `cargo run -p softservice-tests --bin link`: two hosts on a link with a rate, a delay and losses, and a command that
//! uses them; or, with `--check`, what ping and iperf3 say of the link. Needs root.

mod check;

use clap::Parser;
use softservice_tests::link::{ADDRESSES, Link, Quality};
use std::{
    io,
    process::{Command, ExitCode},
    time::Duration,
};

/// Runs a command beside two hosts on a bad link.
///
/// The command finds in LINK_A and LINK_B what to put before a program to run it on either host, and in LINK_ADDRESS_A and
/// LINK_ADDRESS_B their addresses. Hosts and link end with it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Megabits a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Milliseconds one way
    #[arg(long, default_value_t = 25.0)]
    delay: f64,
    /// Percent of the frames that get lost, either way
    #[arg(long, default_value_t = 0.1)]
    loss: f64,
    /// KiB that wait at most before the bottleneck; as many as are under way in a round trip when not given
    #[arg(long)]
    queue: Option<u64>,
    /// Of the losses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print what became of the frames, one JSON document on stderr
    #[arg(long)]
    counts: bool,
    /// Ask ping and iperf3 whether the link is what it should be, and print a table
    #[arg(long, conflicts_with = "command")]
    check: bool,
    /// What to run
    #[arg(last = true, required_unless_present = "check")]
    command: Vec<String>,
}

impl Arguments {
    fn quality(&self) -> Quality {
        let rate = (self.rate * 1e6) as u64;
        let delay = Duration::from_secs_f64(self.delay / 1e3);
        let queue = self.queue.map_or_else(|| Quality::round_trip_queue(rate, delay), |kib| kib.saturating_mul(1024));
        Quality { rate, delay, loss: self.loss / 100.0, queue, seed: self.seed }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<u8> {
    let quality = arguments.quality();
    let link = Link::new(quality)?;
    let code = if arguments.check {
        print!("{}", check::table(&link, quality)?);
        0
    } else {
        let Some((program, rest)) = arguments.command.split_first() else { return Ok(2) };
        let status = Command::new(program)
            .args(rest)
            .env("LINK_A", link.enter(0))
            .env("LINK_B", link.enter(1))
            .env("LINK_ADDRESS_A", ADDRESSES[0])
            .env("LINK_ADDRESS_B", ADDRESSES[1])
            .status()?;
        status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    };
    if arguments.counts {
        eprintln!("{}", link.counts());
    }
    Ok(code)
}
