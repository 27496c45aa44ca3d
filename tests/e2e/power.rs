//! Crashes of stores, few of those that `cargo run -p softservice-tests --bin power` makes.

use softservice_tests::power::{self, Orders, Way, work::Kind};
use std::path::Path;

/// A seed in here replays the moments of another run.
const SEED: &str = "SOFTSERVICE_POWER_SEED";
/// How many crashes; more take longer, about a third of a second each.
const POINTS: &str = "SOFTSERVICE_POWER_POINTS";

#[test]
fn whatever_crashes_a_store_keeps_what_it_acknowledged() {
    if !power::possible_or_skip("kills and power cuts of stores in the middle of ingest, fetch, gc and repair") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let drawn = || std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_secs());
    let (seed, points) = (number(SEED).unwrap_or_else(drawn), number(POINTS).unwrap_or(72));
    eprintln!("crashes of stores with {SEED}={seed} {POINTS}={points}");
    let orders = Orders { points, seed, kinds: Kind::ALL.to_vec(), ways: Way::ALL.to_vec() };
    let mut faults = Vec::new();
    let figures = power::run(Path::new(env!("CARGO_BIN_EXE_power")), &orders, |line| {
        // A crash without faults is told in one line.
        if line.contains('\n') {
            faults.push(line.to_owned());
        }
    });
    eprintln!("{figures}");
    assert!(figures.is_clean(), "with {SEED}={seed} {POINTS}={points}:\n{}", faults.join("\n"));
    let total = figures.total();
    assert!(total.crashes >= points && total.within * 2 > total.crashes, "too few came while work went on: {total:?}");
}
