//! What an update asks its owner for. Invariant: whatever lets the programs of a role do more on the device than those of
//! the generation before is a line of `added`, and what lets them do no more is none.
//!
//! What a role asks for by name is in the instance; here is also what it gets without asking. The release of the generation
//! before need not be here any more, so everything is read from the two instances.

use super::Permissions;
use crate::{
    instance::{HookSpec, Instance, Limits, ProbeSpec, RoleNeed, limits::amount, reached},
    release::HookKind,
};
use std::collections::{BTreeMap, BTreeSet};

/// Of a new softservice everything is new, and what it asks for without a name is in the steps of the plan.
pub(super) fn between(new: &Instance, old: Option<&Instance>) -> Permissions {
    let had: &[String] = old.map_or(&[], |i| &i.permissions);
    let missing = |list: &[String], other: &[String]| -> Vec<String> {
        list.iter().filter(|p| !other.contains(p)).cloned().collect()
    };
    let mut found = Permissions { added: missing(&new.permissions, had), removed: missing(had, &new.permissions) };
    for role in old.iter().flat_map(|_| &new.roles) {
        let before = old.and_then(|o| Some((o, o.roles.iter().find(|r| r.key == role.key)?)));
        match before {
            Some((old, before)) => grown((new, role), (old, before), &mut found),
            None => found.added.push(newcomer(role, "run as a new role")),
        }
    }
    found.added.sort();
    found.removed.sort();
    found
}

/// A role that comes with an update uses what nobody had agreed to, also where it asks for nothing by name.
fn newcomer(role: &RoleNeed, what: &str) -> String {
    let limits = role.limits.describe();
    let most = if limits.is_empty() { "without limit".into() } else { format!("at most {}", limits.join(", ")) };
    format!("{}: {what}, {most}", role.key)
}

/// A role as one instance has it.
type Of<'i> = (&'i Instance, &'i RoleNeed);

fn grown(new: Of<'_>, old: Of<'_>, found: &mut Permissions) {
    limits(new.1, &old.1.limits, found);
    ports(new, old, found);
    hooks(new, old, found);
    roots(new, old, found);
}

/// A limit that rises is a permission that comes, one that falls is a permission that goes.
fn limits(role: &RoleNeed, before: &Limits, found: &mut Permissions) {
    for (measure, before, now) in before.against(&role.limits) {
        let line = format!("{}: {measure} {} instead of {}", role.key, amount(measure, now), amount(measure, before));
        let wider = now.is_none_or(|now| before.is_some_and(|before| now > before));
        if wider { &mut found.added } else { &mut found.removed }.push(line);
    }
}

/// How far a port is open; each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    /// The device listens, for itself.
    Device,
    /// The program listens: the kernel rules numbers, not addresses, so the network reaches it where the program wants that.
    Itself,
    /// The top distro exports it, which is a permission by name.
    Network,
}

impl Open {
    /// For people, if it is no permission by name.
    fn line(self, key: &str) -> Option<String> {
        let (role, port) = key.rsplit_once('.')?;
        match self {
            Self::Device => Some(format!("{role}: be reached on this device at port {port}")),
            Self::Itself => Some(format!("{role}: listen at port {port} itself, also for the network")),
            Self::Network => None,
        }
    }
}

/// The ports of a role by key. Names have no dots, so a key is the role's and one name.
fn opened<'i>((instance, role): Of<'i>) -> BTreeMap<&'i str, Open> {
    let own = |key: &&String| key.rsplit_once('.').is_some_and(|(of, _)| of == role.key);
    let open = |key: &str| {
        let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
        if instance.permissions.contains(&reached(&role.key, name)) {
            Open::Network
        } else if role.alone {
            Open::Itself
        } else {
            Open::Device
        }
    };
    instance.ports.keys().filter(own).map(|key| (key.as_str(), open(key))).collect()
}

fn ports(new: Of<'_>, old: Of<'_>, found: &mut Permissions) {
    let (new, old) = (opened(new), opened(old));
    found.added.extend(new.iter().filter(|(k, n)| old.get(*k).is_none_or(|o| o < n)).filter_map(|(k, n)| n.line(k)));
    found.removed.extend(old.iter().filter(|(k, o)| new.get(*k).is_none_or(|n| n < o)).filter_map(|(k, o)| o.line(k)));
}

/// Programs that run at a moment of the device's choice, and write or read a folder that no service sees.
fn hooks(new: Of<'_>, old: Of<'_>, found: &mut Permissions) {
    let kinds = |(i, role): Of<'_>| -> BTreeSet<HookKind> {
        i.hooks.iter().filter(|h: &&HookSpec| h.role == role.key).map(|h| h.kind).collect()
    };
    let line = |kind: &HookKind| match kind {
        HookKind::Backup => format!("{}: run a program when a backup is made", new.1.key),
        HookKind::Restore => format!("{}: run a program when a backup is restored", new.1.key),
    };
    let (now, before) = (kinds(new), kinds(old));
    found.added.extend(now.difference(&before).map(line));
    found.removed.extend(before.difference(&now).map(line));
}

/// Programs of a role by name, and whether each has the device's own programs and libraries around it instead of a root of
/// the distro's. Those that act for the role are one: all of them stand in the same place.
fn programs<'i>((instance, role): Of<'i>) -> BTreeMap<&'i str, bool> {
    const HELPERS: &str = "its tests, hooks and migrations";
    let services = instance.services.iter().filter(|s| s.role == role.key).map(|s| (s.name.as_str(), &s.sandbox));
    let tests = instance.tests.iter().filter(|t| t.role == role.key && matches!(t.probe, ProbeSpec::Exec { .. }));
    let hooks = instance.hooks.iter().filter(|h| h.role == role.key).map(|h| &h.sandbox);
    let migrations = instance.migrate.iter().filter(|m| m.role == role.key).map(|m| &m.sandbox);
    let helpers = tests.map(|t| &t.sandbox).chain(hooks).chain(migrations).map(|sandbox| (HELPERS, sandbox));
    services.chain(helpers).map(|(name, sandbox)| (name, sandbox.root.is_none())).collect()
}

/// A program that leaves its own root for the device's finds there whatever is installed; so does a first one of a role whose
/// programs all had roots. A role that ran nothing is like a new one.
fn roots(new: Of<'_>, old: Of<'_>, found: &mut Permissions) {
    let (now, before) = (programs(new), programs(old));
    if before.is_empty() && !now.is_empty() {
        found.added.push(newcomer(new.1, "run programs, which it did not"));
        return;
    }
    let outside = before.values().any(|bare| *bare);
    let wider = |name: &str| before.get(name).map_or(!outside, |bare| !bare);
    let line = |name: &str| format!("{}: run {name} on the device's own system, not in a root of its own", new.1.key);
    found.added.extend(now.iter().filter(|(name, bare)| **bare && wider(name)).map(|(name, _)| line(name)));
    let narrower = |name: &str| before.get(name) == Some(&true);
    found.removed.extend(now.iter().filter(|(name, bare)| !**bare && narrower(name)).map(|(name, _)| line(name)));
}
