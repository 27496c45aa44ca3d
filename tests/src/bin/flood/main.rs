//! `cargo run -p softservice-tests --release --bin flood`: floods a node, measures what is left of it, and ends with 1 on a
//! promise that was not kept.

use clap::Parser;
use softservice_tests::flood::{self, Orders};
use std::{process::ExitCode, time::Duration};

/// Floods a node with everything that a stranger can send, and measures what honest devices still get from it
///
/// A victim holds four releases whose publisher is gone. One new device after the other follows it and fetches them, first while
/// it is quiet, then while attackers of every kind do their worst from addresses of their own, then while it is quiet again.
/// Victim and honest devices share one core all the time, attackers have another.
#[derive(Debug, Parser)]
#[command(name = "flood")]
struct Arguments {
    /// How long the attackers attack
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How long it is quiet, before as well as after
    #[arg(long, default_value_t = 30)]
    quiet: u64,
    /// MiB of each of the four releases
    #[arg(long, default_value_t = 64)]
    mib: usize,
    /// Attackers of each kind
    #[arg(long, default_value_t = 1)]
    each: u8,
    /// Let everybody run on any core
    #[arg(long)]
    no_pin: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let orders = Orders {
        flood: Duration::from_secs(arguments.seconds),
        quiet: Duration::from_secs(arguments.quiet),
        bytes: arguments.mib << 20,
        each: arguments.each,
        pin: !arguments.no_pin,
    };
    let figures = flood::run(&orders, &mut |step| eprintln!("{step}"));
    if arguments.json {
        println!("{}", figures.json());
    } else {
        print!("{figures}");
    }
    let faults = figures.faults(true);
    faults.iter().for_each(|fault| eprintln!("flood: {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
