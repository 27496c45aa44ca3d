//! What all crashes came to. Invariant: every crash is counted once, in the row of its deed and its victims.

use super::{deed::Deed, moment::Victims, scene::Outcome};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// A row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Crashes.
    pub kills: usize,
    /// Of them, such that came at the wanted moment; the others came when the deed had ended.
    pub met: usize,
    /// What was before stands, whole.
    pub old: usize,
    /// What was to be stands, whole.
    pub new: usize,
    /// Something else stands, or something is left over.
    pub mixed: usize,
    /// Data is not as it was, where it must be.
    pub differing: usize,
    /// The longest time from the start of the next node until all was whole and answered.
    pub worst: Duration,
}

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<(Deed, Victims), Row>);

impl Figures {
    /// Counts a crash.
    pub fn count(&mut self, deed: Deed, victims: Victims, outcome: &Outcome) {
        let row = self.0.entry((deed, victims)).or_default();
        row.kills += 1;
        row.met += usize::from(outcome.met);
        let judgement = &outcome.judgement;
        if !judgement.faults.is_empty() {
            row.mixed += 1;
        } else if judgement.stands == deed.before() || !deed.succeeds() {
            row.old += 1;
        } else {
            row.new += 1;
        }
        row.differing += usize::from(!judgement.differences.is_empty());
        row.worst = row.worst.max(outcome.recovery);
    }

    /// Adds another home's.
    pub fn add(&mut self, other: Self) {
        for (key, row) in other.0 {
            let sum = self.0.entry(key).or_default();
            sum.kills += row.kills;
            sum.met += row.met;
            sum.old += row.old;
            sum.new += row.new;
            sum.mixed += row.mixed;
            sum.differing += row.differing;
            sum.worst = sum.worst.max(row.worst);
        }
    }

    /// The sum of all rows.
    pub fn total(&self) -> Row {
        let mut all = Self::default();
        for row in self.0.values() {
            all.add(Self(BTreeMap::from([((Deed::Install, Victims::Node), row.clone())])));
        }
        all.0.into_values().next().unwrap_or_default()
    }

    /// Whether every crash ended in the old or the new, with its data.
    pub fn is_clean(&self) -> bool {
        let total = self.total();
        total.mixed == 0 && total.differing == 0
    }

    /// One document.
    pub fn json(&self) -> Value {
        let rows = self.0.iter().map(|((deed, victims), row)| {
            let mut document = document(row);
            document["deed"] = deed.name().into();
            document["killed"] = victims.name().into();
            document
        });
        json!({ "rows": rows.collect::<Vec<_>>(), "total": document(&self.total()) })
    }
}

fn document(row: &Row) -> Value {
    json!({
        "kills": row.kills, "met": row.met, "ended_old": row.old, "ended_new": row.new, "mixed": row.mixed,
        "data_differing": row.differing, "worst_recovery": row.worst.as_secs_f64(),
    })
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "| deed | killed | kills | ended old | ended new | mixed | data differing | worst recovery |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let mut line = |deed: &str, killed: &str, row: &Row| {
            writeln!(
                f,
                "| {deed} | {killed} | {} | {} | {} | {} | {} | {:.2} s |",
                row.kills,
                row.old,
                row.new,
                row.mixed,
                row.differing,
                row.worst.as_secs_f64()
            )
        };
        for ((deed, victims), row) in &self.0 {
            line(deed.name(), victims.name(), row)?;
        }
        line("all", "", &self.total())
    }
}
