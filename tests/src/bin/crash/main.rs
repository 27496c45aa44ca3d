//! `cargo run -p softservice-tests --bin crash`: kills nodes, counts what it led to, and ends with 1 on any mixture.

use clap::Parser;
use softservice_tests::{
    World,
    crash::{self, Orders, Steps, example},
    debian,
    process::binary,
};
use std::{process::ExitCode, time::Instant};

/// Kills a node, or a node with its keepers and fronts, in the middle of what it does, and checks that the old or the new is whole
///
/// A real node installs, updates, rolls back and removes an example of this repository, which runs as real processes. `kill -9`
/// hits at the moments that are asked for; then another node starts in the same home. What stands once that has settled is held
/// against what nobody needs to take the node's word for: what answers, which processes run, which files are there, and whether
/// data is what it was. Each crash is told as it happens, and figures at the end.
///
/// Ends with 0 when each crash left the old or the new, whole; with 1 otherwise; with 2 when it cannot begin.
#[derive(Debug, Parser)]
#[command(
    name = "crash",
    after_help = "Examples:
  crash --moments 300 --steps                         the figures in docs/benchmarks.md
  crash --moments 300 --steps --service postgresql    the same with a database; takes root and apt for its root tree
  crash --moments 40 --only rollback --seed 7         other moments, of one verb"
)]
struct Arguments {
    /// Random moments, in equal shares of install, update, rollback and remove; some nodes are killed once more as they recover
    #[arg(long, default_value_t = 300)]
    moments: u64,
    /// Draws the moments: a seed gives the same ones on every machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What is crashed; postgresql and nginx-site are made of Debian's packages first
    #[arg(long, default_value = example::NAMES[0], value_parser = example::NAMES)]
    service: String,
    /// Crash during this verb only; may be given more than once
    #[arg(long, value_name = "VERB", value_parser = ["install", "update", "rollback", "remove"])]
    only: Vec<String>,
    /// Also crash before and after each step of the journal, and at each change of a removal; once for each kind of victims
    #[arg(long)]
    steps: bool,
    /// Also cut the power: the home is on a disk of its own, which keeps only what was synced (needs root and loop devices)
    #[arg(long)]
    power: bool,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let began = Instant::now();
    // target/PROFILE/softservice: where the build keeps what its tests make.
    let target = binary().ancestors().nth(2).map(|target| target.join("tmp")).unwrap_or_default();
    let example = match example::named(&arguments.service, || debian::make(&target)) {
        Ok(example) => example,
        Err(why) => {
            eprintln!("crash: {} cannot be had here: {why}", arguments.service);
            return ExitCode::from(2);
        }
    };
    let orders = Orders {
        moments: arguments.moments,
        steps: if arguments.steps { Steps::All } else { Steps::None },
        seed: arguments.seed,
        only: arguments.only,
        power: arguments.power,
    };
    let world = World::new();
    let figures = crash::run(&world, "crash", example, &orders, |line| eprintln!("{line}"));
    drop(world);
    let seconds = began.elapsed().as_secs();
    if arguments.json {
        let mut document = figures.json();
        document["service"] = arguments.service.into();
        document["seed"] = arguments.seed.into();
        document["seconds"] = seconds.into();
        println!("{document}");
    } else {
        println!("Crashes of {} with seed {}, {seconds} s:\n\n{figures}", arguments.service, arguments.seed);
    }
    if figures.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
