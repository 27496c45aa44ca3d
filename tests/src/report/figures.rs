//! Figures as people and programs read them. Invariant: a figure names its unit and how many measurements it is of.

use serde_json::{Value, json};
use std::time::Duration;

/// One measured thing.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What was promised of it, if anything.
    pub goal: &'static str,
    /// The measurements, ascending: milliseconds, or a count.
    values: Vec<f64>,
    unit: &'static str,
}

impl Figure {
    /// Of times.
    pub fn times(name: impl Into<String>, goal: &'static str, times: &[Duration]) -> Self {
        let values = times.iter().map(|t| t.as_secs_f64() * 1000.0).collect();
        Self::new(name.into(), goal, values, "ms")
    }
    /// Of differences, which may be below nothing.
    pub fn differences(name: impl Into<String>, goal: &'static str, milliseconds: Vec<f64>) -> Self {
        Self::new(name.into(), goal, milliseconds, "ms")
    }
    /// Of one count.
    pub fn count(name: impl Into<String>, goal: &'static str, count: usize) -> Self {
        Self::new(name.into(), goal, vec![count as f64], "")
    }

    fn new(name: String, goal: &'static str, mut values: Vec<f64>, unit: &'static str) -> Self {
        values.sort_by(f64::total_cmp);
        Self { name, goal, values, unit }
    }

    /// The value below which this part of the measurements lies; the nearest measurement, none in between.
    pub fn quantile(&self, part: f64) -> f64 {
        let at = (part * self.values.len() as f64).ceil() as usize;
        self.values.get(at.clamp(1, self.values.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    /// One document.
    pub fn json(&self) -> Value {
        let worst = self.values.last();
        json!({
            "name": self.name, "goal": self.goal, "unit": self.unit, "n": self.values.len(),
            "p50": self.quantile(0.5), "p95": self.quantile(0.95), "worst": worst,
        })
    }
}

/// All figures as one table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = "| | n | median | p95 | worst | goal |\n|---|---|---|---|---|---|\n".to_owned();
    for figure in figures {
        let value = |v: f64| if figure.unit.is_empty() { format!("{v:.0}") } else { format!("{v:.1} {}", figure.unit) };
        let all = [figure.quantile(0.5), figure.quantile(0.95), figure.quantile(1.0)].map(value);
        let [median, p95, worst] = match figure.values.len() {
            1 => [all[0].clone(), String::new(), String::new()],
            _ => all,
        };
        let n = figure.values.len();
        text.push_str(&format!("| {} | {n} | {median} | {p95} | {worst} | {} |\n", figure.name, figure.goal));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measurements() {
        let figure = Figure::differences("x", "", (1..=20).rev().map(f64::from).collect());
        assert_eq!((figure.quantile(0.5), figure.quantile(0.95), figure.quantile(1.0)), (10.0, 19.0, 20.0));
        let one = Figure::count("x", "", 7);
        assert_eq!((one.quantile(0.5), one.quantile(0.95)), (7.0, 7.0));
    }
}
