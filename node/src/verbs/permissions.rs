//! What a distro asks for, in one line each, before anybody has answered its questions. Invariant: every entry of every
//! `allow` in the closure is here; a plan says the same of one softservice, with answers filled in.

use super::closure::Closure;
use softservice_protocol::{
    instance::Limits,
    release::{Allow, Release},
};
use std::collections::BTreeSet;

/// All of it, ascending.
pub(super) fn of(closure: &Closure) -> Vec<String> {
    let all: BTreeSet<String> = closure.releases().values().flat_map(of_release).collect();
    all.into_iter().collect()
}

fn of_release(release: &Release) -> Vec<String> {
    let role = |role: &softservice_protocol::release::Role| -> Vec<String> {
        lines(&role.allow).into_iter().map(|line| format!("{} {}: {line}", release.distro, role.name)).collect()
    };
    release.roles.iter().flat_map(role).collect()
}

fn lines(allow: &Allow) -> Vec<String> {
    let mut lines = Vec::new();
    for (verb, entries) in
        [("listen", &allow.listen), ("connect", &allow.connect), ("write", &allow.write), ("read", &allow.read)]
    {
        lines.extend(entries.iter().map(|entry| format!("{verb} {entry}")));
    }
    let limits = Limits::of(allow).describe();
    lines.extend((!limits.is_empty()).then(|| format!("at most {}", limits.join(", "))));
    lines
}
