//! The most that a role may use. Invariant: none means as much as the device has, never nothing.

use crate::{definition::units, release::Allow};
use serde::{Deserialize, Serialize};

/// The most that a role may use; none = as much as the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one core.
    pub cpu: Option<u32>,
    /// Processes and threads.
    pub processes: Option<u32>,
}

impl Limits {
    /// Those of a role's permissions.
    pub fn of(allow: &Allow) -> Self {
        Self { memory: allow.memory, cpu: allow.cpu, processes: allow.processes }
    }

    /// For people: `memory 512.0 MiB`, `cpu 1.5 cores`, `processes 64`.
    pub fn describe(&self) -> Vec<String> {
        let measures = Self::default().against(self).into_iter();
        measures.map(|(measure, _, now)| format!("{measure} {}", amount(measure, now))).collect()
    }

    /// The measures in which `now` differs: measure, before, now.
    pub(crate) fn against(&self, now: &Self) -> Vec<(&'static str, Option<u64>, Option<u64>)> {
        let wide = |n: Option<u32>| n.map(u64::from);
        let all = [
            ("memory", self.memory, now.memory),
            ("cpu", wide(self.cpu), wide(now.cpu)),
            ("processes", wide(self.processes), wide(now.processes)),
        ];
        all.into_iter().filter(|(_, before, now)| before != now).collect()
    }
}

/// So much of a measure, for people.
pub(crate) fn amount(measure: &str, n: Option<u64>) -> String {
    match (measure, n) {
        (_, None) => "without limit".into(),
        ("memory", Some(n)) => units::bytes(n),
        ("cpu", Some(n)) if n.is_multiple_of(1000) => units::count(n / 1000, "core"),
        ("cpu", Some(n)) => format!("{} cores", format!("{}.{:03}", n / 1000, n % 1000).trim_end_matches('0')),
        (_, Some(n)) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_readable() {
        let limits = Limits { memory: Some(512 << 20), cpu: Some(1500), processes: Some(1) };
        assert_eq!(limits.describe(), ["memory 512.0 MiB", "cpu 1.5 cores", "processes 1"]);
        assert_eq!(Limits { cpu: Some(1000), ..Limits::default() }.describe(), ["cpu 1 core"]);
        assert!(Limits::default().describe().is_empty());
    }
}
