//! A plan on one screen. Invariant: everything that the hash covers and a person can judge is there; what is long is
//! counted, what is wider than before is marked.

use super::{count, list, number, text};
use crate::ui;
use serde_json::Value;

/// The widest that a name may make its column; longer ones push their line alone.
const WIDEST: usize = 34;

/// The lines of a plan.
pub(super) fn lines(plan: &Value) -> Vec<String> {
    let mut lines = vec![heading(plan)];
    // Words are compared, a name may look like another's.
    if let (Some(petname), Some(words)) = (plan["petname"].as_str(), plan["words"].as_str()) {
        lines.push(format!("  {:9} {petname}: {words}", "publisher"));
    }
    let (total, fetch) = (count(plan, "total_bytes"), count(plan, "fetch_bytes"));
    let fetched = match fetch {
        0 => "nothing: all of it is here".to_owned(),
        n if n < total => format!("{} of {}; the rest is here", ui::size(n), ui::size(total)),
        n => ui::size(n),
    };
    lines.push(format!("  {:9} {fetched}", "fetch"));
    let steps = list(plan, "steps");
    let width = steps.iter().map(|s| text(s, "what").chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0);
    for step in steps {
        let bytes = step["bytes"].as_u64().map(|n| format!(" ({})", ui::size(n))).unwrap_or_default();
        let (kind, what, detail) = (text(step, "kind"), text(step, "what"), text(step, "detail"));
        lines.push(format!("  {kind:9} {what:width$}  {detail}{bytes}"));
    }
    for (mark, key) in [("+", "added"), ("-", "removed")] {
        for permission in list(&plan["permissions"], key).iter().filter_map(Value::as_str) {
            lines.push(format!("  {mark} {permission}"));
        }
    }
    let lack = |l: &Value| {
        let (needed, has) = (ui::size(count(l, "needed")), ui::size(count(l, "has")));
        format!("  {:9} {}: {needed} are needed, this device has {has}", "! lacks", text(l, "what"))
    };
    lines.extend(list(plan, "lacks").iter().map(lack));
    lines.extend(super::revoked::lines(plan).into_iter().map(|line| format!("  {:9} {line}", "! revoked")));
    lines.extend(older(&plan["older_than"]).map(|line| format!("  {:9} {line}", "! older")));
    lines.extend(super::freshness::lines(plan));
    lines.extend(isolation(&plan["isolation"]));
    lines.push(format!("  {:9} {}", "downtime", text(plan, "downtime")));
    if plan["unverified"].as_bool() == Some(true) {
        lines.push(format!("  {:9} no test runs on this: only health will be asked", "untested"));
    }
    lines.push(format!("plan {}", text(plan, "plan")));
    lines
}

fn heading(plan: &Value) -> String {
    let before = match plan["previous"].as_u64() {
        Some(previous) => format!(" after {previous}"),
        None => String::new(),
    };
    format!(
        "{} {} as {}, generation {}{before}",
        text(plan, "distro"),
        text(plan, "version"),
        text(plan, "softservice"),
        number(plan, "generation")
    )
}

/// What runs now, where that is newer than what is planned.
fn older(than: &Value) -> Option<String> {
    let version = than["version"].as_str()?;
    let revision = than["revision"].as_u64().filter(|n| *n > 1).map(|n| format!(" (revision {n})")).unwrap_or_default();
    Some(format!("than {version}{revision}, which runs now"))
}

/// What holds the services back, by name in one line (the document says how), and what this machine cannot, one line each.
fn isolation(isolation: &Value) -> Vec<String> {
    let name = |kept: &Value| Some(kept.as_str()?.split(':').next()?.to_owned());
    let mut enforced: Vec<String> = list(isolation, "enforced").iter().filter_map(name).collect();
    enforced.dedup();
    let enforced = if enforced.is_empty() { "none".to_owned() } else { enforced.join(", ") };
    let mut lines = vec![format!("  {:9} {enforced}", "isolation")];
    lines.extend(reduced(list(isolation, "reduced")));
    lines
}

/// What this machine cannot enforce, a line each.
pub(super) fn reduced(reduced: &[Value]) -> Vec<String> {
    let line = |r: &Value| format!("  {:9} {}: {}", "! reduced", text(r, "measure"), text(r, "why"));
    reduced.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_one_screen() {
        let step = |kind: &str, what: &str, bytes: Option<u64>| serde_json::json!({ "kind": kind, "what": what, "detail": "how", "bytes": bytes });
        let plan = serde_json::json!({
            "plan": "ab", "distro": "shelf", "version": "2.0.0", "petname": "ada", "words": "one two", "softservice": "photos", "generation": 3, "previous": 2,
            "total_bytes": 4096, "fetch_bytes": 1536, "unverified": true, "downtime": "none",
            "steps": [step("tree", "web.app", None), step("snapshot", "pg.data", Some(1 << 20))],
            "permissions": { "added": ["web: connect internet:443"], "removed": ["web: read /etc/hosts"] },
            "isolation": { "enforced": ["files: its own only", "user: its own", "user: no capabilities"], "reduced": [{ "measure": "udp", "why": "no rule for it" }] },
            "lacks": [{ "what": "memory", "needed": 2048, "has": 1024 }], "older_than": { "version": "2.1.0", "revision": 2 },
        });
        let wanted = "\
shelf 2.0.0 as photos, generation 3 after 2
  publisher ada: one two
  fetch     1.5 KiB of 4.0 KiB; the rest is here
  tree      web.app  how
  snapshot  pg.data  how (1.0 MiB)
  + web: connect internet:443
  - web: read /etc/hosts
  ! lacks   memory: 2.0 KiB are needed, this device has 1.0 KiB
  ! older   than 2.1.0 (revision 2), which runs now
  isolation files, user
  ! reduced udp: no rule for it
  downtime  none
  untested  no test runs on this: only health will be asked
plan ab";
        assert_eq!(lines(&plan).join("\n"), wanted);
    }
}
