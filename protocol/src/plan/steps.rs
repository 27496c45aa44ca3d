//! The effects of a plan, one by one. Invariant: what is made comes first, then the steps of a generation's life in the
//! order in which the core takes them, see `machine/provision.rs`.

use super::{Facts, PlanStep, SnapshotFact, SnapshotHow};
use crate::{
    definition::units,
    instance::{Change, Instance, Needs, ProbeSpec, Transition, ends_first},
    release::Generate,
    text::Foreign,
    time::Span,
};
use std::collections::BTreeSet;

/// Steps as they are found.
#[derive(Debug, Default)]
struct Steps(Vec<PlanStep>);

impl Steps {
    fn add(&mut self, kind: &str, what: impl Into<String>, detail: impl Into<String>) {
        self.0.push(PlanStep { kind: kind.into(), what: what.into(), detail: detail.into(), bytes: None });
    }
    fn sized(&mut self, kind: &str, what: &str, detail: impl Into<String>, bytes: Option<u64>) {
        self.0.push(PlanStep { kind: kind.into(), what: what.into(), detail: detail.into(), bytes });
    }
}

pub(super) fn all(needs: &Needs, instance: &Instance, facts: &Facts<'_>, changes: &Transition) -> Vec<PlanStep> {
    let mut steps = Steps::default();
    made(&mut steps, needs, instance, facts);
    held(&mut steps, instance);
    life(&mut steps, instance, facts, changes);
    steps.0
}

/// What appears on the device.
fn made(steps: &mut Steps, needs: &Needs, instance: &Instance, facts: &Facts<'_>) {
    for tree in &needs.trees {
        let (files, bytes) = (units::count(u64::from(tree.tree.files), "file"), units::bytes(tree.tree.bytes));
        let how = if facts.trees.contains(&tree.tree.manifest) {
            "shared with earlier generations"
        } else {
            "linked from the store"
        };
        steps.add("tree", &tree.key, format!("{files}, {bytes}, {how}"));
    }
    for change in facts.overlay {
        steps.add("overlay", &change.what, &change.detail);
    }
    for file in &instance.files {
        steps.add("file", &file.path, format!("rendered, mode {:04o}", file.mode));
    }
    // What an update goes on with goes without saying; what somebody left who is gone does not.
    let left = facts.current.is_none() && facts.backup.is_empty();
    for secret in &needs.secrets {
        if !facts.secrets.contains(&secret.key) {
            steps.add("secret", &secret.key, format!("made on this device: {}", secret.generate.describe()));
        } else if left {
            steps.add("secret", &secret.key, "the one that an earlier softservice of this name left here is used");
        }
    }
    for volume in &needs.volumes {
        if !facts.volumes.contains(&volume.key) {
            steps.add("volume", &volume.key, "a new, empty folder");
        } else if left {
            steps.add("volume", &volume.key, "the data that a removed softservice of this name left here is used");
        }
    }
    for port in &needs.ports {
        let held = facts.ports.iter().find(|(key, _)| *key == port.key).map(|(_, n)| *n);
        let number = match (held, port.wish) {
            (Some(n), _) => format!("tcp {n}, as before unless somebody else has taken it"),
            (None, Some(n)) => format!("tcp {n} if it is free, else another"),
            (None, None) => "a free tcp port".into(),
        };
        let front = if port.fronted { "; the device listens and passes on to an inner one" } else { "" };
        steps.add("port", &port.key, format!("{number}{front}"));
    }
}

/// What holds while it runs.
fn held(steps: &mut Steps, instance: &Instance) {
    for role in &instance.roles {
        let needs = [
            role.needs.memory.map(|n| format!("memory {}", units::bytes(n))),
            role.needs.disk.map(|n| format!("disk {}", units::bytes(n))),
        ];
        let needs: Vec<String> = needs.into_iter().flatten().collect();
        if !needs.is_empty() {
            steps.add("need", &role.key, needs.join(", "));
        }
    }
    for role in instance.roles.iter().filter(|r| instance.services.iter().any(|s| s.role == r.key)) {
        let limits = role.limits.describe();
        steps.add("limit", &role.key, if limits.is_empty() { "none is declared".into() } else { limits.join(", ") });
    }
    for hook in &instance.hooks {
        let when = match hook.kind {
            crate::release::HookKind::Backup => "when a backup is made",
            crate::release::HookKind::Restore => "when a backup is restored",
        };
        let detail = format!("{}, {when}, within {}", program(&hook.command), seconds(hook.within));
        steps.add("hook", format!("{} {}", hook.role, hook.kind.word()), detail);
    }
}

/// Public ports that lead elsewhere than before, or are reached by others than before.
fn fronts(steps: &mut Steps, instance: &Instance, facts: &Facts<'_>, changes: &Transition) {
    for front in &instance.fronts {
        let before = facts.current.and_then(|(_, old)| old.fronts.iter().find(|f| f.key == front.key));
        let who = if front.everywhere { "for everybody who reaches this device" } else { "on this device only" };
        if changes.get(&front.role).is_none_or(|c| *c != Change::Keep) {
            steps.add("front", &front.key, format!("new connections go to the new service, {who}"));
        } else if before.is_none_or(|before| before.everywhere != front.everywhere) {
            steps.add("front", &front.key, format!("new connections are taken {who}"));
        }
    }
}

/// What happens, in its order.
fn life(steps: &mut Steps, instance: &Instance, facts: &Facts<'_>, changes: &Transition) {
    let of =
        |change: Change| instance.services.iter().filter(move |s| changes.get(&s.role).is_some_and(|c| *c == change));
    for service in of(Change::Keep) {
        steps.add("keep", &service.name, "runs on untouched: nothing about it changed");
    }
    let ran = |role: &str| facts.current.is_some_and(|(_, old)| old.roles.iter().any(|r| r.key == role));
    for service in of(Change::Beside) {
        let while_ = if ran(&service.role) { " while the old one still serves" } else { ": its role is new" };
        let asked = service.health.as_ref().map(|h| &h.probe).filter(|p| far(p));
        let asked = asked.map(|p| format!(" ({})", question(p))).unwrap_or_default();
        steps.add("beside", &service.name, format!("starts on inner ports and must be healthy{asked}{while_}"));
    }
    stops(steps, facts, changes);
    match facts.backup {
        [] => data(steps, instance, facts, changes),
        lines => lines.iter().for_each(|line| steps.add("restore", &line.what, &line.detail)),
    }
    let to = match facts.current {
        Some((number, _)) => format!("from generation {number} to {}", facts.generation),
        None => format!("to generation {}", facts.generation),
    };
    steps.add("point", "current", to);
    for service in instance.services.iter().filter(|s| changes.get(&s.role).is_none_or(|c| *c == Change::Instead)) {
        let health = service.health.as_ref();
        let health = health.map_or("no healthcheck is declared".into(), |h| match far(&h.probe) {
            true => format!("then its health is asked: {}", question(&h.probe)),
            false => "then its health is asked".into(),
        });
        steps.add("start", &service.name, format!("{}; {health}", program(&service.command)));
    }
    fronts(steps, instance, facts, changes);
    for test in instance.tests.iter().filter(|t| t.is_due(super::occasion(facts))) {
        let detail = format!("{}, on {}, within {}", question(&test.probe), test.role, seconds(test.within));
        steps.add("test", &test.name, detail);
    }
    steps.add("settle", "confirmation", format!("healthy for {}, else everything goes back", seconds(instance.settle)));
    for service in of(Change::Beside).filter(|s| ran(&s.role)) {
        steps.add("retire", &service.name, "the old one ends when the new one is confirmed");
    }
    if let Some((_, old)) = facts.current.filter(|_| facts.running) {
        let gone = |role: &str| !changes.contains_key(role) && old.roles.iter().any(|r| r.key == role && !r.alone);
        for service in old.services.iter().filter(|s| gone(&s.role)) {
            steps.add("retire", &service.name, "its role is gone; it ends when the new generation is confirmed");
        }
    }
    for service in instance.services.iter().filter(|_| facts.at_boot) {
        steps.add("boot", &service.name, "a unit of systemd once it is confirmed: it comes back without a node");
    }
    for number in facts.expired {
        steps.add("expire", format!("generation {number}"), "removed after success; volumes stay");
    }
}

/// Old services that end before new ones start.
fn stops(steps: &mut Steps, facts: &Facts<'_>, changes: &Transition) {
    let Some((number, old)) = facts.current.filter(|_| facts.running) else { return };
    for service in old.services.iter().rev() {
        if old.roles.iter().any(|r| r.key == service.role && ends_first(changes, r)) {
            let why = if changes.contains_key(&service.role) { "" } else { ", its role is gone" };
            steps.add("stop", &service.name, format!("of generation {number}, within {}{why}", seconds(service.grace)));
        }
    }
}

/// Volumes that exist, of roles that are replaced: they are kept before anything new touches them.
fn kept<'f>(instance: &'f Instance, facts: &'f Facts<'_>, changes: &'f Transition) -> impl Iterator<Item = &'f String> {
    let replaced = instance.roles.iter().filter(|r| changes.get(&r.key) == Some(&Change::Instead));
    replaced.flat_map(|r| &r.volumes).filter(|v| facts.volumes.contains(v))
}

fn data(steps: &mut Steps, instance: &Instance, facts: &Facts<'_>, changes: &Transition) {
    let how = |fact: Option<&SnapshotFact>| match fact.map(|f| f.how) {
        Some(SnapshotHow::Reflink) => "cloned by the file system",
        Some(SnapshotHow::Copy) => "copied whole",
        None => "cloned or copied whole",
    };
    let Some((number, old)) = facts.current else {
        for fact in facts.snapshots {
            let detail = format!("{}; put back bit by bit if the installation does not hold", how(Some(fact)));
            steps.sized("snapshot", &fact.volume, detail, Some(fact.bytes));
        }
        return;
    };
    let moves = instance.moves(old);
    for volume in kept(instance, facts, changes) {
        let fact = facts.snapshots.iter().find(|s| s.volume == *volume);
        let how = how(fact);
        let until = if moves.is_empty() {
            "put back bit by bit if the update does not hold".into()
        } else {
            format!("put back if the update does not hold, kept as long as generation {number}")
        };
        steps.sized("snapshot", volume, format!("{how}; {until}"), fact.map(|f| f.bytes));
    }
    for restore in facts.restores {
        let detail = format!(
            "as it was kept with generation {}; what was written since leaves the service and stays in the snapshot of \
             generation {number}",
            restore.generation
        );
        steps.sized("restore", &restore.volume, detail, Some(restore.bytes));
    }
    let migrations = instance.migrations(old).unwrap_or_default();
    for moved in &moves {
        let of = if moved.component.is_empty() { instance.distro.clone() } else { moved.component.clone() };
        let epochs = format!("data of epoch {} to {}", moved.from, moved.to);
        match migrations.iter().find(|m| m.component == moved.component) {
            Some(migrate) => steps.add("migrate", of, format!("{epochs}: {}", program(&migrate.command))),
            None if moved.from < moved.to => {
                steps.add("migrate", of, format!("{epochs}: its services do it themselves"))
            }
            None => {}
        }
    }
}

/// For how long a service that is replaced is away, in words.
pub(super) fn away(instance: &Instance, facts: &Facts<'_>, role: &str) -> &'static str {
    let volumes: BTreeSet<&String> = instance.roles.iter().filter(|r| r.key == role).flat_map(|r| &r.volumes).collect();
    let copied = |s: &super::SnapshotFact| s.how == SnapshotHow::Copy && volumes.contains(&s.volume);
    if facts.snapshots.iter().any(copied) {
        "from its stop until it is healthy again; its data is copied in between"
    } else {
        "from its stop until it is healthy again"
    }
}

/// Whether the node leaves the softservice's own ports to ask this: the owner sees where to.
fn far(probe: &ProbeSpec) -> bool {
    probe.destination().is_ok_and(|to| to.is_some_and(|to| !to.host.is_own()))
}

/// What is asked, and whom.
fn question(probe: &ProbeSpec) -> String {
    let unassigned = probe.destination().is_ok_and(|to| to.is_some_and(|to| to.port == 0));
    let whom = |text: &str| match unassigned {
        true => Foreign(text.replacen(":0", ":(a free port)", 1)).to_string(),
        false => Foreign(text).to_string(),
    };
    match probe {
        ProbeSpec::Http { url, .. } => format!("GET {}", whom(url)),
        ProbeSpec::Tcp { address } => format!("connect to {}", whom(address)),
        ProbeSpec::Exec { command } => format!("run {}", program(command)),
    }
}

/// The program without its folder, which is the generation's own.
fn program(command: &[String]) -> &str {
    let program = command.first().map_or("", String::as_str);
    program.rsplit('/').next().unwrap_or(program)
}

fn seconds(span: Span) -> String {
    format!("{} s", span.0.div_ceil(1000))
}

impl Generate {
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
