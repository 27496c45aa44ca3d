//! The plan: every effect that `up` will have on this device, before anything changes.
//! Invariant: deterministic, and its hash covers all of it but two things that are no effects: the hash itself, and
//! `fetch_bytes`, which shrinks while content arrives and would make an agreed plan void.

use crate::{
    id::ReleaseId,
    instance::{Change, Instance, Isolation, Needs, Transition},
};
use serde::{Deserialize, Serialize};

/// Permissions that come and go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permissions {
    /// Asked for now, not before.
    pub added: Vec<String>,
    /// Asked for before, not now.
    pub removed: Vec<String>,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// `fetch`, `tree`, `file`, `secret`, `volume`, `port`, `rehearse`, `stop`, `point`, `start`, `test`, `keep`.
    pub kind: String,
    /// On what.
    pub what: String,
    /// How, for people.
    pub detail: String,
}

/// Everything that will happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// BLAKE3 over all that follows but `fetch_bytes`, as hex; also the JSON answer's `plan`.
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
    /// The number that the new generation will have.
    pub generation: u32,
    /// The current generation.
    pub previous: Option<u32>,
    /// Its release, as hex.
    pub from_release: Option<String>,
    /// Effects in their order.
    pub steps: Vec<PlanStep>,
    /// Bytes to fetch before; not covered by the hash.
    pub fetch_bytes: u64,
    /// Permissions that come and go.
    pub permissions: Permissions,
    /// What holds the services back, and what this machine cannot.
    pub isolation: Isolation,
    /// What people will notice.
    pub downtime: String,
    /// Names of secrets that will be made.
    pub secrets_made: Vec<String>,
    /// No test is declared: nothing but health will be asked.
    pub unverified: bool,
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
    /// Volumes that exist.
    pub volumes: &'a [String],
    /// Ports that are assigned already.
    pub ports: &'a [(String, u16)],
    /// Bytes that are not here yet.
    pub fetch_bytes: u64,
    /// Generations that will be removed after success.
    pub expired: &'a [u32],
    /// What this machine can enforce of what the instance asks for.
    pub isolation: Isolation,
}

/// The plan for this instance, given what a device knows. `instance` may have been resolved with made-up numbers for
/// ports that are not assigned yet: no number of it gets into the plan.
pub fn plan(release: ReleaseId, needs: &Needs, instance: &Instance, facts: &Facts<'_>) -> Plan {
    let current = facts.current.map(|(_, i)| i);
    let changes = match current.filter(|_| facts.running) {
        Some(old) => crate::instance::transition(&instance.roles, &old.roles, !instance.moves(old).is_empty()),
        None => Transition::new(),
    };
    let had: &[String] = current.map_or(&[], |i| &i.permissions);
    let missing = |list: &[String], other: &[String]| list.iter().filter(|p| !other.contains(p)).cloned().collect();
    let mut plan = Plan {
        hash: String::new(),
        softservice: facts.softservice.into(),
        distro: instance.distro.clone(),
        version: instance.version.clone(),
        release: release.to_string(),
        generation: facts.generation,
        previous: facts.current.map(|(n, _)| n),
        from_release: current.map(|i| i.release.to_string()),
        steps: steps(needs, instance, facts, &changes),
        fetch_bytes: facts.fetch_bytes,
        permissions: Permissions {
            added: missing(&instance.permissions, had),
            removed: missing(had, &instance.permissions),
        },
        isolation: facts.isolation.clone(),
        downtime: match current {
            Some(_) if facts.running => "from the stop of the old services until the new ones are healthy".into(),
            _ => "none: nothing of it runs now".into(),
        },
        secrets_made: needs.secrets.iter().map(|s| s.key.clone()).filter(|k| !facts.secrets.contains(k)).collect(),
        unverified: instance.tests.is_empty(),
    };
    plan.hash = plan.digest();
    plan
}

impl Plan {
    /// The hash that this plan must have.
    pub fn digest(&self) -> String {
        let bare = Self { hash: String::new(), fetch_bytes: 0, ..self.clone() };
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softdist/v1/plan\0");
        // Structs serialise their fields in the order of declaration and there are no maps in a plan.
        hasher.update(serde_json::to_string(&bare).unwrap_or_default().as_bytes());
        hasher.finalize().to_hex().to_string()
    }
}

fn steps(needs: &Needs, instance: &Instance, facts: &Facts<'_>, changes: &Transition) -> Vec<PlanStep> {
    let mut steps = Vec::new();
    let mut add = |kind: &str, what: &str, detail: String| {
        steps.push(PlanStep { kind: kind.into(), what: what.into(), detail });
    };
    for tree in &needs.trees {
        let detail = format!("{} files, {} bytes, manifest {}", tree.tree.files, tree.tree.bytes, tree.tree.manifest);
        add("tree", &tree.key, detail);
    }
    for file in &instance.files {
        add("file", &file.path, format!("rendered, mode {:04o}", file.mode));
    }
    for secret in needs.secrets.iter().filter(|s| !facts.secrets.contains(&s.key)) {
        add("secret", &secret.key, format!("made on this device: {}", secret.generate.describe()));
    }
    for volume in needs.volumes.iter().filter(|v| !facts.volumes.contains(&v.key)) {
        add("volume", &volume.key, "a new, empty folder".into());
    }
    for port in &needs.ports {
        let held = facts.ports.iter().find(|(key, _)| *key == port.key).map(|(_, n)| *n);
        add(
            "port",
            &port.key,
            match (held, port.wish) {
                (Some(n), _) => format!("tcp {n}, as before unless somebody else has taken it"),
                (None, Some(n)) => format!("tcp {n} if it is free, else another"),
                (None, None) => "a free tcp port".into(),
            },
        );
    }
    let change = |role: &str| changes.get(role).copied();
    for service in instance.services.iter().filter(|s| change(&s.role) == Some(Change::Beside)) {
        add(
            "beside",
            &service.name,
            "started on inner ports and asked for its health, the old one still serving".into(),
        );
    }
    if let Some((number, current)) = facts.current.filter(|_| facts.running) {
        for service in current.services.iter().rev().filter(|s| change(&s.role) == Some(Change::Instead)) {
            add("stop", &service.name, format!("of generation {number}, within {} s", service.grace.0.div_ceil(1000)));
        }
    }
    add(
        "point",
        "current",
        match facts.current {
            Some((number, _)) => format!("from generation {number} to {}", facts.generation),
            None => format!("to generation {}", facts.generation),
        },
    );
    for service in instance.services.iter().filter(|s| change(&s.role).is_none_or(|c| c == Change::Instead)) {
        let health = if service.health.is_some() { "then its health is asked" } else { "no healthcheck is declared" };
        add("start", &service.name, format!("{}; {health}", service.command.first().map_or("", String::as_str)));
    }
    for test in &instance.tests {
        add("test", &test.name, format!("on {}, within {} s", test.role, test.within.0.div_ceil(1000)));
    }
    add(
        "keep",
        "confirmation",
        format!("healthy for {} s, else everything goes back", instance.settle.0.div_ceil(1000)),
    );
    for number in facts.expired {
        add("expire", &format!("generation {number}"), "removed after success; data stays".into());
    }
    steps
}

impl crate::release::Generate {
    /// How it is made, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Bytes(n) => format!("{n} random bytes"),
            Self::Words(n) => format!("{n} random words"),
            Self::Password(n) => format!("a password of {n} characters"),
            Self::Keypair => "an Ed25519 key".into(),
        }
    }
}
