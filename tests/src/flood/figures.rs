//! What a flood came to. Invariant: a figure is a measurement, and a promise is judged by one function, [`Figures::faults`].

use serde_json::{Value, json};
use std::fmt;

/// What honest devices fetched.
#[derive(Debug, Default, Clone)]
pub struct Fetches {
    /// Bytes of content.
    pub bytes: f64,
    /// Seconds that the fetches took, by their own clocks.
    pub seconds: f64,
    /// From the start of a new device to the end of its first fetch.
    pub first: Vec<f64>,
    /// Who they were.
    pub devices: Vec<String>,
    /// Fetches that failed, in their words.
    pub failed: Vec<String>,
}

impl Fetches {
    /// MB/s.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes / self.seconds / 1e6 } else { 0.0 }
    }
    pub(super) fn add(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.seconds += more.seconds;
        self.first.extend(more.first);
        self.devices.extend(more.devices);
        self.failed.extend(more.failed);
    }
}

/// CPU seconds of the victim for each second.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// While it is quiet.
    pub quiet: f64,
    /// While it is not.
    pub flood: f64,
}

/// What became of an attacker.
#[derive(Debug, Clone)]
pub struct Attacker {
    /// What it did.
    pub kind: String,
    /// Where from.
    pub from: String,
    /// What it said of itself.
    pub said: Value,
}

impl Attacker {
    /// When it was not let in any more; none when that never came.
    pub fn cut_off(&self) -> Option<f64> {
        self.said["cut_off_seconds"].as_f64()
    }
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The victim's largest size, in MiB.
    pub rss_mib: u64,
    /// Before and after.
    pub quiet: Fetches,
    /// During.
    pub flooded: Fetches,
    /// What it cost the victim.
    pub cpu: Times,
    /// Everybody who attacked.
    pub attackers: Vec<Attacker>,
    /// Bans in all.
    pub bans: usize,
    /// Bans of devices that did nothing.
    pub honest_bans: usize,
}

/// The most memory that a victim may need.
const RSS_MIB: u64 = 256;
/// The longest that an attacker may stay.
const CUT_OFF: f64 = 30.0;
/// What is left at least of the rate of an honest fetch.
const SHARE: f64 = 0.5;

impl Figures {
    /// Of the quiet rate, what was left in the flood.
    pub fn share(&self) -> f64 {
        self.flooded.rate() / self.quiet.rate()
    }
    /// Promises that were not kept; rates count only where they were measured.
    pub fn faults(&self, rates: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.rss_mib > RSS_MIB {
            faults.push(format!("the victim had {} MiB", self.rss_mib));
        }
        for attacker in &self.attackers {
            if attacker.cut_off().is_none_or(|s| s > CUT_OFF) {
                faults.push(format!(
                    "{} from {} was not cut off in time: {}",
                    attacker.kind, attacker.from, attacker.said
                ));
            }
        }
        if self.honest_bans > 0 {
            faults.push(format!("{} honest devices were banned", self.honest_bans));
        }
        for failed in self.quiet.failed.iter().chain(&self.flooded.failed) {
            faults.push(format!("an honest fetch failed: {failed}"));
        }
        // Nothing fetched at all is no number, and no share either.
        if rates && (self.share().is_nan() || self.share() < SHARE) {
            faults.push(format!("{:.0} % of the quiet rate were left", self.share() * 100.0));
        }
        faults
    }
    /// One document.
    pub fn json(&self) -> Value {
        let fetches = |f: &Fetches| {
            json!({
                "mb_per_second": f.rate(), "bytes": f.bytes, "devices": f.devices.len(), "failed": f.failed.len(),
                "first_fetch_seconds": f.first.iter().copied().fold(0.0, f64::max),
            })
        };
        let attackers = self.attackers.iter().map(|a| json!({"kind": a.kind, "from": a.from, "said": a.said}));
        json!({
            "rss_mib": self.rss_mib, "quiet": fetches(&self.quiet), "flood": fetches(&self.flooded), "share": self.share(),
            "victim_cpu": {"quiet": self.cpu.quiet, "flood": self.cpu.flood}, "bans": self.bans,
            "honest_bans": self.honest_bans, "attackers": attackers.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowest = |fetches: &Fetches| fetches.first.iter().copied().fold(0.0, f64::max);
        writeln!(f, "| | quiet | flood | |\n|---|---|---|---|")?;
        let (quiet, flood, share) = (self.quiet.rate(), self.flooded.rate(), self.share() * 100.0);
        writeln!(f, "| honest fetch, MB/s | {quiet:.0} | {flood:.0} | {share:.0} % |")?;
        writeln!(
            f,
            "| newcomer's first fetch done, s, slowest | {:.1} | {:.1} | |",
            slowest(&self.quiet),
            slowest(&self.flooded)
        )?;
        writeln!(
            f,
            "| honest devices | {} | {} | {} banned |",
            self.quiet.devices.len(),
            self.flooded.devices.len(),
            self.honest_bans
        )?;
        writeln!(
            f,
            "| victim, cores | {:.2} | {:.2} | at most {} MiB |",
            self.cpu.quiet, self.cpu.flood, self.rss_mib
        )?;
        writeln!(f, "\n| attack | from | cut off after, s | tries | let in | later |\n|---|---|---|---|---|---|")?;
        for a in &self.attackers {
            let cut_off = a.cut_off().map_or("never".into(), |s| format!("{s:.1}"));
            let [tries, let_in, later] = ["tries", "let_in", "let_in_later"].map(|name| a.said[name].to_string());
            writeln!(f, "| {} | {} | {cut_off} | {tries} | {let_in} | {later} |", a.kind, a.from)?;
        }
        Ok(())
    }
}
