//! What all crashes of stores came to. Invariant: every crash is counted once, in the row of its work and its way.

use super::{Way, work::Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Crashes.
    pub crashes: u64,
    /// Of them, such that came while the work was going on.
    pub within: u64,
    /// Of them, such that were followed by another one in the next life.
    pub again: u64,
    /// Crashes after which something was not as it must be.
    pub faulty: u64,
    /// What the first check after the crash told of that is no fault, by what it was.
    pub told: BTreeMap<String, u64>,
}

impl Row {
    pub(super) fn count(&mut self, within: bool) {
        self.crashes += 1;
        self.within += u64::from(within);
    }
    /// Numbers aside, the same words are the same finding.
    pub(super) fn tell(&mut self, what: &str) {
        let mut words: String = what.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        while words.contains("##") {
            words = words.replace("##", "#");
        }
        *self.told.entry(words).or_insert(0) += 1;
    }
    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.within += other.within;
        self.again += other.again;
        self.faulty += other.faulty;
        for (what, times) in &other.told {
            *self.told.entry(what.clone()).or_insert(0) += times;
        }
    }
}

/// All rows.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<(Kind, Way), Row>);

impl Figures {
    pub(super) fn add(&mut self, kind: Kind, way: Way, row: Row) {
        self.0.entry((kind, way)).or_default().add(&row);
    }
    /// The sum of all rows.
    pub fn total(&self) -> Row {
        let mut all = Row::default();
        self.0.values().for_each(|row| all.add(row));
        all
    }
    /// Whether nothing was wrong after any crash.
    pub fn is_clean(&self) -> bool {
        self.total().faulty == 0
    }
    /// One document.
    pub fn json(&self) -> Value {
        let document = |row: &Row| json!({ "crashes": row.crashes, "within": row.within, "again": row.again, "faulty": row.faulty, "told": row.told });
        let rows = self.0.iter().map(|((kind, way), row)| {
            let mut document = document(row);
            document["work"] = kind.name().into();
            document["way"] = way.name().into();
            document
        });
        json!({ "rows": rows.collect::<Vec<_>>(), "total": document(&self.total()) })
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "| work | crash | points | within the work | crashed again | faulty |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let mut line = |work: &str, way: &str, row: &Row| {
            writeln!(f, "| {work} | {way} | {} | {} | {} | {} |", row.crashes, row.within, row.again, row.faulty)
        };
        for ((kind, way), row) in &self.0 {
            line(kind.name(), way.name(), row)?;
        }
        let total = self.total();
        line("all", "", &total)?;
        for (what, times) in &total.told {
            writeln!(f, "told {times} times: {what}")?;
        }
        Ok(())
    }
}
