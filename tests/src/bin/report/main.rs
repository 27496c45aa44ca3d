//! `cargo run -p softservice-tests --bin report`: what updates, switches and ways back cost on this machine.

use clap::Parser;
use serde_json::{Value, json};
use softservice_tests::{
    World,
    report::{self, Rounds, figures},
};

/// Measures what updates, switches and ways back cost
#[derive(Debug, Parser)]
struct Arguments {
    /// Updates of a static site under load
    #[arg(long, default_value_t = 20)]
    updates: usize,
    /// Requests a second meanwhile
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Switches of a service with data
    #[arg(long, default_value_t = 50)]
    switches: usize,
    /// Returns from a release that is never healthy
    #[arg(long, default_value_t = 10)]
    returns: usize,
    /// Starts of a program in a sandbox, and of the same without
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let Arguments { updates, rate, switches, returns, starts, json } = arguments;
    let rounds = Rounds { updates, rate, switches, returns, starts };
    let world = World::new();
    let measured = report::measure(&world, rounds, |line| eprintln!("{line}"));
    drop(world);
    if json {
        let figures: Vec<Value> = measured.iter().map(figures::Figure::json).collect();
        println!("{}", json!({ "figures": figures }));
    } else {
        print!("{}", figures::table(&measured));
    }
}
