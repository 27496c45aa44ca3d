//! What the story showed: steps with their times, bytes by source, as a table and as JSON.
//! Invariant: figures come from the nodes' answers; times are measured around the verbs.

use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};

/// One step.
pub(super) struct Step {
    pub(super) what: String,
    pub(super) seconds: f64,
}

/// Bytes that one device fetched in one step.
pub(super) struct Fetched {
    pub(super) device: String,
    pub(super) version: String,
    pub(super) bytes: u64,
    pub(super) by: BTreeMap<String, u64>,
}

/// All of it.
#[derive(Default)]
pub(super) struct Report {
    pub(super) steps: Vec<Step>,
    pub(super) fetched: Vec<Fetched>,
    pub(super) names: BTreeMap<String, String>,
    pub(super) url: String,
    pub(super) answered: u64,
    pub(super) unanswered: u64,
    pub(super) reverted: bool,
    pub(super) third_from_publisher: u64,
    pub(super) third_from_devices: u64,
    pub(super) left_behind: usize,
}

impl Report {
    /// Notes a step that began at `since`.
    pub(super) fn step(&mut self, what: &str, since: Instant) {
        self.steps.push(Step { what: what.into(), seconds: since.elapsed().as_secs_f64() });
    }

    /// Notes what an `up` or `update` fetched.
    pub(super) fn fetch(&mut self, device: &str, answer: &Value) {
        let by = answer["fetched"]["by_peer"]
            .as_object()
            .map(|map| map.iter().map(|(peer, bytes)| (self.name(peer), bytes.as_u64().unwrap_or(0))).collect());
        self.fetched.push(Fetched {
            device: device.into(),
            version: answer["version"].as_str().unwrap_or("?").into(),
            bytes: answer["fetched"]["bytes"].as_u64().unwrap_or(0),
            by: by.unwrap_or_default(),
        });
    }

    fn name(&self, peer: &str) -> String {
        self.names.get(peer).cloned().unwrap_or_else(|| peer.chars().take(8).collect())
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut out = String::from("\nWhat happened                                                seconds\n");
        for step in &self.steps {
            out.push_str(&format!("  {:<58} {:>7.2}\n", step.what, step.seconds));
        }
        out.push_str("\nWho fetched        version        bytes   from whom\n");
        for fetch in &self.fetched {
            let from: Vec<_> = fetch.by.iter().map(|(who, bytes)| format!("{who} {bytes}")).collect();
            let from = if from.is_empty() { "already here".into() } else { from.join(", ") };
            out.push_str(&format!("  {:<16} {:<8} {:>11}   {from}\n", fetch.device, fetch.version, fetch.bytes));
        }
        out.push_str(&format!(
            "\nWhile the bad release came and went, {} requests were answered, {} were not.\n",
            self.answered, self.unanswered
        ));
        let total = (self.third_from_devices + self.third_from_publisher).max(1);
        out.push_str(&format!(
            "The third device got {} % from devices, {} bytes from the publisher, which was gone.\n",
            self.third_from_devices * 100 / total,
            self.third_from_publisher
        ));
        out
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        let steps: Vec<_> = self.steps.iter().map(|s| json!({ "what": s.what, "seconds": s.seconds })).collect();
        let fetched = self.fetched.iter();
        let fetched: Vec<_> = fetched
            .map(|f| json!({ "device": f.device, "version": f.version, "bytes": f.bytes, "by_peer": f.by }))
            .collect();
        json!({
            "ok": true,
            "steps": steps,
            "fetched": fetched,
            "url": self.url,
            "bad_release": {
                "reverted": self.reverted,
                "requests_answered": self.answered,
                "requests_unanswered": self.unanswered,
            },
            "third_device": {
                "bytes_from_devices": self.third_from_devices,
                "bytes_from_publisher": self.third_from_publisher,
            },
            "processes_left": self.left_behind,
        })
    }
}
