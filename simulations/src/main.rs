//! The simulator's command line: `run`, `replay`, `compare`. stdout is data, stderr is conversation.

use clap::{Parser, Subcommand};
use softservice_simulations::{
    play,
    report::{Report, compare},
    scenario::{BUILT_IN, Scenario, ScenarioError},
};
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// Plays whole networks of softservice nodes - the real core of every node, in virtual time, on simulated disks and
/// links - and checks what must hold. The same scenario, nodes and seed give the same run, to the last message.
#[derive(Debug, Parser)]
#[command(name = "softservice-simulations", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  run                                   the scenario `spine` with 200 nodes and seed 1
  run corrupters --nodes 50 --seed 7    fewer nodes, other faults
  run all --seeds 3                     every built-in scenario, seeds 1 to 3
  run my.toml --json > new.json         an own scenario; figures as JSON
  replay corrupters/50/7                that run again, told step by step, twice, traces compared
  compare base.json new.json            which figures moved

Exit codes: 0 = all held, 1 = something was violated or traces differ, 2 = usage.
Debug builds are slow: `cargo run --release -p softservice-simulations -- run`.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Play a scenario and print its figures.
    Run {
        /// A built-in name (`list` shows them), `all`, or the path of a .toml file.
        #[arg(default_value = "spine")]
        scenario: String,
        /// Nodes, the publisher included; the scenario's own number when absent.
        #[arg(long)]
        nodes: Option<usize>,
        /// The first seed: it draws every fault.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, one after the other.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Print one JSON document a run instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Play one run twice, tell its story on stderr, and see that both traces are equal.
    Replay {
        /// SEED, or SCENARIO/NODES/SEED as a failing run prints it.
        run: String,
        /// Do not tell the story.
        #[arg(long)]
        quiet: bool,
    },
    /// Show the figures that differ between two runs, as written by `run --json`.
    Compare {
        /// Figures of the run to compare with.
        baseline: PathBuf,
        /// Figures of the new run.
        new: PathBuf,
    },
    /// List the built-in scenarios.
    List,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("{0:?} names no run: expected a seed, or SCENARIO/NODES/SEED")]
    Run(String),
    #[error("read {file}: {1}", file = .0.display())]
    Read(PathBuf, std::io::Error),
    #[error("{file} is not a report of `run --json`: {1}", file = .0.display())]
    Report(PathBuf, serde_json::Error),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Run { scenario, nodes, seed, seeds, json } => run(&scenario, nodes, seed, seeds, json),
        Verb::Replay { run, quiet } => replay(&run, quiet),
        Verb::Compare { baseline, new } => compared(baseline, new),
        Verb::List => list(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(2)
        }
    }
}

fn timed(scenario: Scenario, seed: u64, told: bool) -> Report {
    let begin = Instant::now();
    let mut report = play(scenario, seed, told);
    report.wall_seconds = begin.elapsed().as_secs_f64();
    report
}

fn run(name: &str, nodes: Option<usize>, seed: u64, seeds: u64, json: bool) -> Result<bool, Failure> {
    let names: Vec<&str> = if name == "all" { BUILT_IN.iter().map(|(name, _)| *name).collect() } else { vec![name] };
    let mut passed = true;
    for name in names {
        let mut scenario = Scenario::find(name)?;
        if let Some(nodes) = nodes {
            scenario.nodes = nodes;
            scenario.sensible()?;
        }
        for seed in seed..seed.saturating_add(seeds.max(1)) {
            let report = timed(scenario.clone(), seed, false);
            passed &= report.passed;
            if json {
                println!("{}", serde_json::to_string(&report).unwrap_or_default());
            } else {
                println!("{}", report.table());
            }
        }
    }
    Ok(passed)
}

fn replay(text: &str, quiet: bool) -> Result<bool, Failure> {
    let bad = || Failure::Run(text.into());
    // The scenario may be a path, so the two numbers are cut off from the right.
    let mut parts = text.rsplitn(3, '/');
    let seed: u64 = parts.next().and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    let scenario = match (parts.next(), parts.next()) {
        (None, _) => Scenario::find("spine")?,
        (Some(nodes), Some(name)) => {
            let mut scenario = Scenario::find(name)?;
            scenario.nodes = nodes.parse().map_err(|_| bad())?;
            scenario
        }
        _ => return Err(bad()),
    };
    scenario.sensible()?;
    let first = timed(scenario.clone(), seed, !quiet);
    println!("{}", first.table());
    let second = timed(scenario, seed, false);
    let equal = first.trace == second.trace && first.steps == second.steps;
    println!("second run: trace {} ({})", second.trace, if equal { "equal" } else { "DIFFERENT" });
    Ok(equal && first.passed)
}

fn compared(baseline: PathBuf, new: PathBuf) -> Result<bool, Failure> {
    let read = |path: PathBuf| -> Result<Report, Failure> {
        let text = std::fs::read_to_string(&path).map_err(|e| Failure::Read(path.clone(), e))?;
        serde_json::from_str(&text).map_err(|e| Failure::Report(path, e))
    };
    let (baseline, new) = (read(baseline)?, read(new)?);
    print!("{}", compare(&baseline, &new));
    Ok(new.passed || !baseline.passed)
}

fn list() -> Result<bool, Failure> {
    for (name, _) in BUILT_IN {
        println!("{name:<20} {}", Scenario::find(name)?.about);
    }
    Ok(true)
}
