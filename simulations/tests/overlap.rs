//! Fetches that overlap on one device, over many seeds: each story is one kind of trouble. Invariant: a story that met no
//! overlap fails, since it would prove nothing.

use softservice_simulations::world::overlap::{Disk, Outcome, Rules, play};
use softservice_store::MemoryStore;
use std::{path::Path, sync::Arc};

/// Runs in each story on stores in memory.
const SEEDS: u64 = 40;
/// Runs in each story on stores on a disk.
const DISK_SEEDS: u64 = 6;

const CALM: Rules =
    Rules { fetches: 8, abandons: 0.0, breaks: 0.0, sweeps: 0, disk: Disk { forgets: 0.0, refuses: 0.0, fails: 0.0 } };

fn holds(outcome: &Outcome, seed: u64) {
    assert!(outcome.violations.is_empty(), "seed {seed}: {outcome:#?}");
}

/// A directory in memory where there is one: these stories lose no power.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn every_seed(rules: Rules, mut check: impl FnMut(&Outcome, u64)) {
    let (mut together, mut ahead) = (0, 0);
    for seed in 1..=SEEDS {
        let outcome = play(rules, seed, Arc::new(MemoryStore::new()));
        holds(&outcome, seed);
        check(&outcome, seed);
        (together, ahead) = (together + outcome.together, ahead + outcome.ahead);
    }
    assert!(
        together as u64 > SEEDS * 2 && ahead as u64 > SEEDS / 4,
        "{together} overlapped, {ahead} with looking ahead"
    );
}

fn every_disk(rules: Rules, mut check: impl FnMut(&Outcome, u64, &Path)) {
    for seed in 1..=DISK_SEEDS {
        let dir = scratch();
        let outcome = play(rules, seed, Arc::new(softservice_store::open(dir.path()).expect("a store")));
        holds(&outcome, seed);
        check(&outcome, seed, dir.path());
    }
}

#[test]
fn nothing_is_missing_while_nothing_fails() {
    let smooth = |outcome: &Outcome, seed| assert!(outcome.refusals.is_empty(), "seed {seed}: {:?}", outcome.refusals);
    every_seed(CALM, smooth);
    every_disk(CALM, |outcome, seed, _| smooth(outcome, seed));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| play(Rules { abandons: 0.3, breaks: 0.1, ..CALM }, seed, Arc::new(MemoryStore::new()));
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).trace, run(4).trace);
}

#[test]
fn who_gives_up_takes_nothing_from_others() {
    every_seed(Rules { abandons: 0.5, ..CALM }, |_, _| {});
}

#[test]
fn seeders_that_hang_up_delay_and_do_not_end() {
    every_seed(Rules { abandons: 0.2, breaks: 0.2, ..CALM }, |_, _| {});
}

/// What others put is lost by a sync that failed, after it was said to be here.
#[test]
fn what_the_disk_forgot_is_asked_for_again() {
    let rules = Rules { abandons: 0.1, disk: Disk { forgets: 0.06, ..Disk::default() }, ..CALM };
    let mut setbacks = 0;
    every_seed(rules, |outcome, _| setbacks += outcome.refusals.len());
    every_disk(rules, |outcome, _, _| setbacks += outcome.refusals.len());
    assert!(setbacks as u64 > SEEDS, "only {setbacks} assemblies met what was forgotten");
}

#[test]
fn a_sweep_takes_nothing_that_a_fetch_does_not_bring_again() {
    let rules = Rules { abandons: 0.1, sweeps: 16, ..CALM };
    let mut setbacks = 0;
    every_seed(rules, |outcome, _| setbacks += outcome.refusals.len());
    every_disk(rules, |outcome, _, _| setbacks += outcome.refusals.len());
    assert!(setbacks as u64 > SEEDS / 4, "only {setbacks} fetches met what was swept");
}

#[test]
fn a_disk_that_fails_is_said_to_and_others_go_on() {
    let disk = Disk { refuses: 0.01, fails: 0.1, forgets: 0.02 };
    let rules = Rules { abandons: 0.1, breaks: 0.1, disk, ..CALM };
    let mut failed = 0;
    every_seed(rules, |outcome, _| failed += outcome.failed);
    assert!(failed as u64 > SEEDS, "only {failed} fetches met the failing disk");
}

#[test]
fn nothing_is_left_on_its_way() {
    every_disk(CALM, |_, seed, dir| {
        let partial = std::fs::read_dir(dir.join("partial")).expect("a folder").count();
        let log = std::fs::metadata(dir.join("logs/have")).expect("a file").len();
        assert_eq!((partial, log), (0, 0), "seed {seed}");
    });
}
