//! `cargo run -p softservice-tests --bin power`: crashes stores in the middle of work, and ends with 1 on any fault.

use clap::Parser;
use softservice_tests::power::{self, Orders, Way, work::Kind};
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// Kills a store, or cuts its power, in the middle of ingest, fetch, gc and repair, and checks what is there afterwards
///
/// A process does real work with a real store and says what was acknowledged. It is killed after a change that is drawn from all
/// that it makes; or the power goes: of an ext4 file system at any time, or of a file system in memory after any change, which
/// keeps or loses each write and each name that was not synced on its own, and tears writes. Some are crashed once more in their
/// next life. Then everything acknowledged must be there and read right, no name may stand for what is not whole, a check must
/// find no damage, and the work must come to its end. Each crash is told as it happens, and a table at the end.
///
/// Ends with 0 when nothing was wrong after any crash; with 1 otherwise; with 2 when this machine cannot do it.
#[derive(Debug, Parser)]
#[command(
    name = "power",
    after_help = "Examples:
  power --points 360                     the figures in docs/benchmarks.md
  power --points 50 --work gc --way cut-any --seed 7"
)]
struct Arguments {
    /// Crashes, in equal shares of all kinds of work and all ways
    #[arg(long, default_value_t = 360)]
    points: u64,
    /// Draws the moments, and what a cut keeps
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this work; may be given more than once
    #[arg(long, value_name = "WORK", value_parser = Kind::ALL.map(Kind::name))]
    work: Vec<String>,
    /// Only this way to crash; may be given more than once
    #[arg(long, value_name = "WAY", value_parser = Way::ALL.map(Way::name))]
    way: Vec<String>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// Be the victim or the judge: role, work, home, fixture
    #[arg(hide = true)]
    role: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let [role, kind, home, fixture] = arguments.role.as_slice() {
        power::play(role, kind, PathBuf::from(home), PathBuf::from(fixture));
        return ExitCode::SUCCESS;
    }
    if !power::possible_or_skip("crashes of stores") {
        return ExitCode::from(2);
    }
    let began = Instant::now();
    let wanted = |of: &[String], name: &str| of.is_empty() || of.iter().any(|w| w == name);
    let orders = Orders {
        points: arguments.points,
        seed: arguments.seed,
        kinds: Kind::ALL.into_iter().filter(|k| wanted(&arguments.work, k.name())).collect(),
        ways: Way::ALL.into_iter().filter(|w| wanted(&arguments.way, w.name())).collect(),
    };
    let program = std::env::current_exe().expect("a program knows its own path");
    let figures = power::run(&program, &orders, |line| eprintln!("{line}"));
    let seconds = began.elapsed().as_secs();
    if arguments.json {
        let mut document = figures.json();
        document["seed"] = arguments.seed.into();
        document["seconds"] = seconds.into();
        println!("{document}");
    } else {
        println!("Crashes of stores with seed {}, {seconds} s:\n\n{figures}", arguments.seed);
    }
    if figures.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
