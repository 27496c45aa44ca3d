//! `cargo run -p softservice-tests --bin crash`: kills nodes, counts what it led to, and ends with 1 on any mixture.

use clap::Parser;
use softservice_tests::{
    World,
    crash::{self, Orders},
};
use std::{process::ExitCode, time::Instant};

/// Kills a node, or a node and its keepers, in the middle of what it does, and checks that the old or the new is whole
#[derive(Debug, Parser)]
struct Arguments {
    /// Random moments of install, update, rollback and remove
    #[arg(long, default_value_t = 300)]
    moments: u64,
    /// The moments that are chosen
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Crash during this verb only
    #[arg(long, value_parser = ["install", "update", "rollback", "remove"])]
    only: Option<String>,
    /// Also crash before and after each step of the journal
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
    let orders = Orders {
        moments: arguments.moments,
        steps: arguments.steps,
        seed: arguments.seed,
        only: arguments.only,
        power: arguments.power,
    };
    let world = World::new();
    let figures = crash::run(&world, "crash", &orders, |line| eprintln!("{line}"));
    drop(world);
    let seconds = began.elapsed().as_secs();
    if arguments.json {
        let mut document = figures.json();
        document["seed"] = arguments.seed.into();
        document["seconds"] = seconds.into();
        println!("{document}");
    } else {
        println!("Crashes with seed {}, {seconds} s:\n\n{figures}", arguments.seed);
    }
    if figures.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
