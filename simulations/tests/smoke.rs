//! A few seeds of every scenario in every test run, with few nodes and little content: invariants only, since the
//! figures that scenarios expect mean something at their own size (`run all`).

use softservice_simulations::{
    play,
    report::Report,
    scenario::{BUILT_IN, Expect, Scenario},
};

const NODES: usize = 24;
const MIB: f64 = 3.0;

fn small(name: &str) -> Scenario {
    let mut scenario = Scenario::find(name).unwrap_or_else(|e| panic!("{e}"));
    scenario.nodes = NODES;
    scenario.content.mib = MIB;
    scenario.expect = Expect::default();
    scenario
}

fn holds(name: &str, seed: u64) -> Report {
    let report = play(small(name), seed, false);
    assert!(report.passed, "{}", report.table());
    report
}

fn every_seed(name: &str) {
    for seed in 1..=3 {
        holds(name, seed);
    }
}

#[test]
fn devices_fetch_and_provision_what_is_published() {
    let report = holds("spine", 1);
    assert!(report.editions.iter().all(|e| e.complete == NODES - 1), "{}", report.table());
    assert!(report.counts["committed"] > 0 && report.counts["messages"] > 0, "{}", report.table());
    every_seed("spine");
}

#[test]
fn a_flash_crowd_is_served() {
    every_seed("flash-crowd");
}

#[test]
fn both_sides_of_a_partition_agree_after_it() {
    every_seed("partition");
}

#[test]
fn corrupters_waste_little_and_are_sent_away() {
    for seed in 1..=3 {
        let report = holds("corrupters", seed);
        assert!(report.counts["lies"] > 0, "nobody was asked by a corrupter: {}", report.table());
        assert!(report.counts["most_wasted_by_a_lie"] <= 256 << 10, "{}", report.table());
    }
}

#[test]
fn floods_stop_nobody() {
    let mut report = holds("flood", 1);
    assert!(report.counts.remove("floods") > Some(0), "{}", report.table());
    every_seed("flood");
}

#[test]
fn a_release_outlives_its_publisher() {
    let report = holds("publisher-vanishes", 1);
    assert!(report.counts["publisher_left_after_ms"] > 0, "{}", report.table());
    every_seed("publisher-vanishes");
}

#[test]
fn power_cuts_leave_old_or_new() {
    let crashes: u64 = (1..=3).map(|seed| holds("crashes", seed).counts["crashes"]).sum();
    assert!(crashes > 10, "only {crashes} power cuts");
}

#[test]
fn those_who_stay_finish_while_others_come_and_go() {
    every_seed("churn");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_does_not() {
    // A day takes minutes.
    for (name, _) in BUILT_IN.into_iter().filter(|(name, _)| *name != "day") {
        let (one, same, other) =
            (play(small(name), 5, false), play(small(name), 5, false), play(small(name), 6, false));
        assert_eq!((&one.trace, one.steps), (&same.trace, same.steps), "{name}");
        assert_eq!(one, same, "{name}: figures of two equal runs differ");
        assert_ne!(one.trace, other.trace, "{name}");
        assert!(one.steps > 1000, "{name}: a trace of {} steps proves nothing", one.steps);
    }
}
