//! Figures of a run, for people and for scripts, and how two runs differ. Invariant: everything but `wall_seconds` is
//! a function of scenario, nodes and seed.

use crate::{scenario::Expect, world::World};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write as _};

/// Counters that the world keeps.
#[derive(Debug, Default)]
pub struct Tally {
    /// Control messages.
    pub messages: u64,
    /// Their bytes, framing included.
    pub control_bytes: u64,
    /// Headers of span requests and answers.
    pub request_bytes: u64,
    /// Copies of gossip on the wire.
    pub gossip_copies: u64,
    /// Their bytes.
    pub gossip_bytes: u64,
    /// Copies that the duplicate filter took out.
    pub gossip_duplicates: u64,
    /// Gossip that was judged invalid.
    pub rejected: u64,
    /// Content that came for the first time.
    pub useful_bytes: u64,
    /// Content that came again.
    pub duplicate_bytes: u64,
    /// Bytes that came and were wrong.
    pub wasted: u64,
    /// The most that one lie wasted.
    pub most_wasted: u64,
    /// Lies told.
    pub lies: u64,
    /// Acts of flooders.
    pub floods: u64,
    /// Bans spoken.
    pub bans: u64,
    /// Span requests.
    pub spans: u64,
    /// Of these, ended early.
    pub broken_spans: u64,
    /// Of these, cancelled in time.
    pub cancelled: u64,
    /// Dials.
    pub dials: u64,
    /// Power cuts.
    pub crashes: u64,
    /// Steps of provisioning that failed.
    pub steps_failed: u64,
    /// Generations committed.
    pub committed: u64,
    /// Generations that went back.
    pub reverted: u64,
    /// When the publisher left, in microseconds.
    pub publisher_left_at: Option<u64>,
    sent: BTreeMap<usize, u64>,
}

impl Tally {
    /// A node sent content.
    pub fn sent_by(&mut self, node: usize, bytes: u64) {
        *self.sent.entry(node).or_default() += bytes;
    }
}

/// Seconds of the median node, of the one at 99 %, and of the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half were not slower.
    pub p50: f64,
    /// 99 % were not slower.
    pub p99: f64,
    /// The last.
    pub max: f64,
}

impl Quantiles {
    fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil() as usize;
            micros.get(rank.max(1) - 1).map_or(0.0, |m| *m as f64 / 1e6)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Figures of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditionReport {
    /// From 1.
    pub version: usize,
    /// Bytes that a node which has the version before lacks.
    pub new_bytes: u64,
    /// Nodes that heard of it.
    pub heard: usize,
    /// Nodes that have it whole.
    pub complete: usize,
    /// Seconds from publication (or joining, if later) until a node knew of it.
    pub head: Quantiles,
    /// Until it was whole and durable.
    pub whole: Quantiles,
    /// The least time in which anybody could bring it to all: max(F/u_s, F/d, NF/(u_s+sum u)).
    pub bound: f64,
    /// The last completion, as a multiple of it.
    pub last_over_bound: f64,
}

/// Figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// Nodes.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
    /// Nothing was violated.
    pub passed: bool,
    /// What was, in words.
    pub violations: Vec<String>,
    /// How often.
    pub violation_count: u64,
    /// Hash over all inputs and outputs of all cores.
    pub trace: String,
    /// Inputs and outputs.
    pub steps: u64,
    /// Virtual seconds.
    pub seconds: f64,
    /// Real seconds; the only figure that differs between two equal runs.
    pub wall_seconds: f64,
    /// By version.
    pub editions: Vec<EditionReport>,
    /// Content that the publisher sent, as copies of all versions.
    pub seeder_copies: f64,
    /// Share of content bytes that came twice.
    pub duplicates: f64,
    /// Control, gossip and request bytes as a share of content bytes.
    pub overhead: f64,
    /// Counters by name.
    pub counts: BTreeMap<String, u64>,
}

impl Report {
    /// The figures of a world that has ended.
    pub fn of(world: &World) -> Self {
        let tally = &world.tally;
        let editions: Vec<EditionReport> = (0..world.corpus.editions.len()).map(|e| edition(world, e)).collect();
        let all_new: u64 = editions.iter().map(|e| e.new_bytes).sum();
        let content = (tally.useful_bytes + tally.duplicate_bytes).max(1) as f64;
        let control = tally.control_bytes + tally.gossip_bytes + tally.request_bytes;
        let mut report = Self {
            scenario: world.scenario.name.clone(),
            nodes: world.nodes.len(),
            seed: world.seed,
            passed: false,
            violations: world.checks.violations.clone(),
            violation_count: world.checks.count,
            trace: world.trace.hash(),
            steps: world.trace.steps,
            seconds: world.now as f64 / 1e6,
            wall_seconds: 0.0,
            seeder_copies: tally.sent.get(&0).copied().unwrap_or(0) as f64 / all_new.max(1) as f64,
            duplicates: tally.duplicate_bytes as f64 / content,
            overhead: control as f64 / content,
            counts: counts(world),
            editions,
        };
        let unmet = report.unmet(&world.scenario.expect, tally.most_wasted);
        report.violation_count += unmet.len() as u64;
        report.violations.extend(unmet);
        report.passed = report.violation_count == 0;
        report
    }

    fn unmet(&self, expect: &Expect, most_wasted: u64) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut at_most = |what: &str, found: f64, limit: Option<f64>| {
            if let Some(limit) = limit.filter(|limit| found > *limit) {
                unmet.push(format!("{what} is {found:.4}, expected at most {limit}"));
            }
        };
        for edition in &self.editions {
            let version = edition.version;
            at_most(&format!("last over bound, version {version}"), edition.last_over_bound, expect.last_over_bound);
            at_most(&format!("p99 to head, version {version}"), edition.head.p99, expect.head_p99);
        }
        at_most("seeder copies", self.seeder_copies, expect.seeder_copies);
        at_most("share of duplicates", self.duplicates, expect.duplicates);
        at_most("control overhead", self.overhead, expect.overhead);
        at_most("waste of one lie", most_wasted as f64, expect.waste_per_lie.map(|w| w as f64));
        unmet
    }

    /// How to see this run again.
    pub fn replay(&self) -> String {
        format!("{}/{}/{}", self.scenario, self.nodes, self.seed)
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let _ = writeln!(
            out,
            "{} with {} nodes, seed {}: {verdict}; {:.1} virtual s in {:.1} s, {} steps",
            self.scenario, self.nodes, self.seed, self.seconds, self.wall_seconds, self.steps
        );
        let _ = writeln!(
            out,
            "version   new MiB  complete |  head p50    p99    max | whole p50    p99    max | bound  last/bound"
        );
        for e in &self.editions {
            let _ = writeln!(
                out,
                "{:>7} {:>9.1} {:>9} | {:>9.2} {:>6.2} {:>6.2} | {:>9.2} {:>6.2} {:>6.2} | {:>5.2} {:>11.2}",
                e.version,
                e.new_bytes as f64 / 1_048_576.0,
                e.complete,
                e.head.p50,
                e.head.p99,
                e.head.max,
                e.whole.p50,
                e.whole.p99,
                e.whole.max,
                e.bound,
                e.last_over_bound
            );
        }
        let _ = writeln!(
            out,
            "seeder copies {:.2} · duplicates {:.3} % · overhead {:.3} %",
            self.seeder_copies,
            self.duplicates * 100.0,
            self.overhead * 100.0
        );
        let counts = self.counts.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} {n}"));
        let _ = writeln!(out, "{}", counts.collect::<Vec<_>>().join(" · "));
        let _ = writeln!(out, "trace {}", self.trace);
        for violation in &self.violations {
            let _ = writeln!(out, "VIOLATION {violation}");
        }
        if self.violation_count as usize > self.violations.len() {
            let _ = writeln!(out, "... {} violations in all", self.violation_count);
        }
        if !self.passed {
            let _ = writeln!(out, "replay: cargo run --release -p softservice-simulations -- replay {}", self.replay());
        }
        out
    }
}

fn edition(world: &World, edition: usize) -> EditionReport {
    let from = world.published_at[edition];
    let since = |node: usize, at: Option<u64>| {
        let begin = from?.max(world.nodes[node].joined_at?);
        Some(at?.saturating_sub(begin))
    };
    let times =
        |of: &dyn Fn(usize) -> Option<u64>| -> Vec<u64> { world.stayers().filter_map(|n| since(n, of(n))).collect() };
    let heard = times(&|n| world.nodes[n].owner.heard_at[edition]);
    let whole = times(&|n| world.nodes[n].owner.whole_at[edition]);
    let closure = |e: usize| world.corpus.closure(world.corpus.editions[e].release.id);
    let before: std::collections::BTreeSet<u32> =
        edition.checked_sub(1).and_then(closure).map(|c| c.all().collect()).unwrap_or_default();
    let new_bytes: u64 = closure(edition)
        .map(|c| c.all().filter(|n| !before.contains(n)).map(|n| u64::from(world.corpus.length(n))).sum())
        .unwrap_or(0);
    let (heard_count, complete) = (heard.len(), whole.len());
    let (head, whole) = (Quantiles::of(heard), Quantiles::of(whole));
    let bound = bound(world, new_bytes as f64);
    let last_over_bound = if bound > 0.0 { whole.max / bound } else { 0.0 };
    EditionReport { version: edition + 1, new_bytes, heard: heard_count, complete, head, whole, bound, last_over_bound }
}

/// The fluid bound of Kumar and Ross: the seeder must send each byte once, the slowest must receive all, and all
/// uploads together must carry all copies.
fn bound(world: &World, bytes: f64) -> f64 {
    let seeder = world.network.up[0];
    let stayers: Vec<usize> = world.stayers().collect();
    let slowest = stayers.iter().map(|n| world.network.down[*n]).fold(f64::INFINITY, f64::min);
    let all: f64 = stayers.iter().map(|n| world.network.up[*n]).sum();
    (bytes / seeder).max(bytes / slowest).max(stayers.len() as f64 * bytes / (seeder + all))
}

fn counts(world: &World) -> BTreeMap<String, u64> {
    let t = &world.tally;
    let retries = world.nodes.iter().map(|n| n.owner.retries).sum();
    [
        ("messages", t.messages),
        ("control_bytes", t.control_bytes),
        ("request_bytes", t.request_bytes),
        ("gossip_copies", t.gossip_copies),
        ("gossip_bytes", t.gossip_bytes),
        ("gossip_duplicates", t.gossip_duplicates),
        ("gossip_rejected", t.rejected),
        ("useful_bytes", t.useful_bytes),
        ("duplicate_bytes", t.duplicate_bytes),
        ("wasted_bytes", t.wasted),
        ("most_wasted_by_a_lie", t.most_wasted),
        ("lies", t.lies),
        ("floods", t.floods),
        ("bans", t.bans),
        ("spans", t.spans),
        ("broken_spans", t.broken_spans),
        ("cancelled_spans", t.cancelled),
        ("dials", t.dials),
        ("crashes", t.crashes),
        ("retries", retries),
        ("steps_failed", t.steps_failed),
        ("committed", t.committed),
        ("reverted", t.reverted),
        ("publisher_left_after_ms", t.publisher_left_at.unwrap_or(0) / 1000),
    ]
    .map(|(name, count)| (name.to_string(), count))
    .into()
}

/// Both runs' figures side by side, those that differ.
pub fn compare(base: &Report, new: &Report) -> String {
    let flat = |report: &Report| {
        let mut out = BTreeMap::new();
        if let Ok(value) = serde_json::to_value(report) {
            flatten("", &value, &mut out);
        }
        out
    };
    let (base, new) = (flat(base), flat(new));
    let mut out = format!("{:<36} {:>16} {:>16} {:>9}\n", "figure", "baseline", "new", "change");
    let names: std::collections::BTreeSet<&String> = base.keys().chain(new.keys()).collect();
    let mut differing = 0;
    for name in names.into_iter().filter(|n| n.as_str() != "wall_seconds") {
        let (a, b) = (base.get(name).copied(), new.get(name).copied());
        if a == b {
            continue;
        }
        differing += 1;
        let show = |value: Option<f64>| {
            value.map_or("-".to_string(), |v| {
                format!("{:.4}", v).trim_end_matches('0').trim_end_matches('.').to_string()
            })
        };
        let change = match (a, b) {
            (Some(a), Some(b)) if a != 0.0 => format!("{:+.1} %", (b - a) / a * 100.0),
            _ => String::new(),
        };
        let _ = writeln!(out, "{name:<36} {:>16} {:>16} {change:>9}", show(a), show(b));
    }
    let _ = writeln!(out, "{differing} figures differ");
    out
}

fn flatten(path: &str, value: &serde_json::Value, out: &mut BTreeMap<String, f64>) {
    let join = |key: &str| {
        if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
    };
    match value {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, v)| flatten(&join(key), v, out)),
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| flatten(&join(&(i + 1).to_string()), v, out))
        }
        other => {
            if let Some(number) = other.as_f64() {
                out.insert(path.to_string(), number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks_and_not_interpolated() {
        let quantiles = Quantiles::of((1..=200).map(|s| s * 1_000_000).collect());
        assert_eq!(quantiles, Quantiles { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Quantiles::of(vec![3_000_000]), Quantiles { p50: 3.0, p99: 3.0, max: 3.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }
}
