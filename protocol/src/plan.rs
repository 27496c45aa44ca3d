//! The plan: every effect that `up` will have on this device, before anything changes.
//! Invariant: deterministic, and its hash covers all of it but what is no effect or changes by itself from one moment to
//! the next: the hash, `fetch_bytes`, which shrinks while content arrives, `bytes` of single steps, which grow while a
//! service writes, and what is free of a space that lacks. They would make an agreed plan void.

mod permissions;
mod steps;

use crate::{
    definition::units::bytes,
    id::{ObjectId, ReleaseId},
    instance::{Change, Instance, Isolation, Needs, RoleNeed, Transition, overlay::OverlayChange},
};
use serde::{Deserialize, Serialize};

/// Permissions that come and go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permissions {
    /// Asked for now, not before; ascending. Each needs the owner's yes.
    pub added: Vec<String>,
    /// Asked for before, not now; ascending.
    pub removed: Vec<String>,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// `tree`, `overlay`, `file`, `secret`, `volume`, `port`, `need`, `limit`, `hook`, then in the order of a generation's
    /// life: `keep`, `beside`, `stop`, `snapshot`, `restore`, `migrate`, `point`, `start`, `front`, `test`, `settle`, `retire`, `boot`,
    /// `expire`.
    pub kind: String,
    /// On what.
    pub what: String,
    /// How, for people.
    pub detail: String,
    /// Bytes that it moves, where that changes by itself; not covered by the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What people will notice of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// The service.
    pub service: String,
    /// Whether it is away at all.
    pub away: bool,
    /// For how long, in words: no clock is promised.
    pub words: String,
}

/// Everything that will happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// BLAKE3 over all that follows, as hex, see the module; also the JSON answer's `plan`.
    #[serde(rename = "plan")]
    pub hash: String,
    /// The softservice.
    pub softservice: String,
    /// The top distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release, as hex.
    pub release: String,
    /// The fingerprint of its instance: two plans of one content differ in nothing that runs, is written or asked.
    pub instance: String,
    /// The number that the new generation will have.
    pub generation: u32,
    /// The current generation.
    pub previous: Option<u32>,
    /// Its release, as hex.
    pub from_release: Option<String>,
    /// Effects in their order.
    pub steps: Vec<PlanStep>,
    /// Bytes of all its trees.
    pub total_bytes: u64,
    /// Bytes to fetch of them before; not covered by the hash.
    pub fetch_bytes: u64,
    /// Permissions that come and go.
    pub permissions: Permissions,
    /// What holds the services back, and what this machine cannot.
    pub isolation: Isolation,
    /// What its roles need, as their authors say, and this device does not have: with any, `up` refuses.
    pub lacks: Vec<Lack>,
    /// What people will notice, in one line.
    pub downtime: String,
    /// The same for each service, in start order.
    pub downtimes: Vec<Downtime>,
    /// Names of secrets that will be made.
    pub secrets_made: Vec<String>,
    /// No test runs on this occasion: nothing but health will be asked.
    pub unverified: bool,
}

/// A need of the roles together that a device does not meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// `memory`, or `disk`: space for data.
    pub what: String,
    /// Bytes that are needed; of space, beyond what the generation before needs.
    pub needed: u64,
    /// Bytes that this device has, of space: that are free. It changes by itself; not covered by the hash.
    pub has: u64,
}

impl Lack {
    /// For people: `memory: 4.0 GiB are needed, this device has 2.0 GiB`.
    pub fn describe(&self) -> String {
        format!("{}: {} are needed, this device has {}", self.what, bytes(self.needed), bytes(self.has))
    }
}

/// What the device knows that the release does not say.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// The softservice.
    pub softservice: &'a str,
    /// The number of the new generation.
    pub generation: u32,
    /// The current generation and what it runs.
    pub current: Option<(u32, &'a Instance)>,
    /// Its services run now.
    pub running: bool,
    /// Secrets that exist.
    pub secrets: &'a [String],
    /// Trees that an earlier generation left on this device, by their manifests.
    pub trees: &'a [ObjectId],
    /// Volumes that exist.
    pub volumes: &'a [String],
    /// How a snapshot of each volume that exists would be made. Only those that the change needs get into the plan.
    pub snapshots: &'a [SnapshotFact],
    /// Volumes whose data a rollback to an older data layout puts back.
    pub restores: &'a [RestoreFact],
    /// Ports that are assigned already.
    pub ports: &'a [(String, u16)],
    /// Bytes that are not here yet.
    pub fetch_bytes: u64,
    /// Generations that will be removed after success.
    pub expired: &'a [u32],
    /// What the owner's own changes do to the release.
    pub overlay: &'a [OverlayChange],
    /// What data comes from a backup, and what is put away for it; with any, every role is replaced.
    pub backup: &'a [OverlayChange],
    /// What this machine can enforce of what the instance asks for.
    pub isolation: Isolation,
    /// systemd starts what is confirmed at boot.
    pub at_boot: bool,
    /// Memory that programs of this device can have, in bytes; none = nobody knows.
    pub memory: Option<u64>,
    /// Bytes that are free for data; none = nobody knows.
    pub disk: Option<u64>,
}

/// How a snapshot of a volume would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFact {
    /// The volume's key.
    pub volume: String,
    /// Bytes in it now.
    pub bytes: u64,
    /// By what means.
    pub how: SnapshotHow,
}

/// The means of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotHow {
    /// The file system shares the blocks: next to no time and no space.
    Reflink,
    /// Byte by byte: time and space grow with the data.
    Copy,
}

/// A volume whose data is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFact {
    /// The volume's key.
    pub volume: String,
    /// The generation with which the data was kept.
    pub generation: u32,
    /// Bytes that are put back.
    pub bytes: u64,
}

/// The plan for this instance, given what a device knows. `instance` may have been resolved with made-up numbers for
/// ports that are not assigned yet: the same ones for the same facts, and 0 for what may be any.
pub fn plan(release: ReleaseId, needs: &Needs, instance: &Instance, facts: &Facts<'_>) -> Plan {
    let current = facts.current.map(|(_, i)| i);
    let changes = match current {
        Some(_) if !facts.backup.is_empty() => {
            instance.roles.iter().map(|r| (r.key.clone(), Change::Instead)).collect()
        }
        Some(old) => instance.transition(old, facts.running),
        None => Transition::new(),
    };
    let downtimes = downtimes(instance, facts, &changes);
    let mut plan = Plan {
        hash: String::new(),
        softservice: facts.softservice.into(),
        distro: instance.distro.clone(),
        version: instance.version.clone(),
        release: release.to_string(),
        instance: instance.fingerprint.clone(),
        generation: facts.generation,
        previous: facts.current.map(|(n, _)| n),
        from_release: current.map(|i| i.release.to_string()),
        steps: steps::all(needs, instance, facts, &changes),
        total_bytes: total_bytes(needs),
        fetch_bytes: facts.fetch_bytes,
        permissions: permissions::between(instance, current),
        isolation: facts.isolation.clone(),
        lacks: lacks(instance, current, facts),
        downtime: summary(&downtimes, facts),
        downtimes,
        secrets_made: needs.secrets.iter().map(|s| s.key.clone()).filter(|k| !facts.secrets.contains(k)).collect(),
        unverified: !instance.tests.iter().any(|t| t.is_due(occasion(facts))),
    };
    plan.hash = plan.digest();
    plan
}

impl Plan {
    /// The hash that this plan must have.
    pub fn digest(&self) -> String {
        let mut bare = Self { hash: String::new(), fetch_bytes: 0, ..self.clone() };
        bare.steps.iter_mut().for_each(|s| s.bytes = None);
        bare.lacks.iter_mut().for_each(|l| l.has = 0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softdist/v1/plan\0");
        // Structs serialise their fields in the order of declaration and there are no maps in a plan.
        hasher.update(serde_json::to_string(&bare).unwrap_or_default().as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

fn occasion(facts: &Facts<'_>) -> &'static str {
    if !facts.backup.is_empty() {
        return "restore";
    }
    if facts.current.is_some() { "update" } else { "install" }
}

/// Each tree once, however many artifacts it is.
fn total_bytes(needs: &Needs) -> u64 {
    let mut seen = std::collections::BTreeSet::new();
    let new = needs.trees.iter().filter(|t| seen.insert(t.tree.manifest));
    new.fold(0u64, |sum, t| sum.saturating_add(t.tree.bytes))
}

/// What all roles need together, where it is more than the generation before needs: what runs is not asked for anew, and
/// its data is in the space that it needed.
fn lacks(instance: &Instance, current: Option<&Instance>, facts: &Facts<'_>) -> Vec<Lack> {
    let sum = |of: fn(&RoleNeed) -> Option<u64>| {
        let all = |i: &Instance| i.roles.iter().filter_map(of).fold(0u64, u64::saturating_add);
        (all(instance), current.map_or(0, all))
    };
    let (memory, disk) = (sum(|r| r.needs.memory), sum(|r| r.needs.disk));
    let memory = (memory.0 > memory.1).then_some(memory.0);
    let each = [("memory", memory, facts.memory), ("disk", disk.0.checked_sub(disk.1), facts.disk)];
    let lack = |(what, needed, has): (&str, Option<u64>, Option<u64>)| {
        let (needed, has) = (needed?, has?);
        (has < needed).then(|| Lack { what: what.into(), needed, has })
    };
    each.into_iter().filter_map(lack).collect()
}

fn downtimes(instance: &Instance, facts: &Facts<'_>, changes: &Transition) -> Vec<Downtime> {
    let old = facts.current.map(|(_, i)| i).filter(|_| facts.running);
    let one = |service: &crate::instance::ServiceSpec| {
        let known = old.is_some_and(|o| o.roles.iter().any(|r| r.key == service.role));
        let (away, words) = match changes.get(&service.role) {
            _ if old.is_none() => (false, "none: it does not run now"),
            _ if !known => (false, "none: it is new"),
            Some(Change::Keep) => (false, "none: it runs on untouched"),
            Some(Change::Beside) => (false, "none: the new one answers before the old one ends"),
            _ => (true, steps::away(instance, facts, &service.role)),
        };
        Downtime { service: service.name.clone(), away, words: words.into() }
    };
    instance.services.iter().map(one).collect()
}

fn summary(downtimes: &[Downtime], facts: &Facts<'_>) -> String {
    let away: Vec<&str> = downtimes.iter().filter(|d| d.away).map(|d| d.service.as_str()).collect();
    match away.as_slice() {
        _ if !facts.running || facts.current.is_none() => "none: nothing of it runs now".into(),
        [] => "none: nothing that answers now stops before its successor answers".into(),
        away => format!("of {}: from the stop until healthy again", away.join(", ")),
    }
}
