//! The service inside its sandbox, seen from outside. Invariant: the sandbox's own processes are never taken for the
//! service, and never get its signals: they would end it before its grace is over.
//!
//! Bubblewrap leaves two processes of its own: one outside, which is our child, and the first of the namespace, whose
//! first child is the service.

use super::leftovers::{self, Process};

/// The service's process, once it runs its program. `first` is the first process of the sandbox.
///
/// No event tells of an exec, so whoever waits asks again: until then the process is a copy of the first one, with the
/// same command line, or runs a program that only sets limits.
pub(super) fn service(first: i32) -> Option<i32> {
    let of_bubblewrap = command_line(first)?;
    let children = leftovers::processes().into_iter().filter(|p| p.parent == first && !p.zombie);
    let second = children.map(|p| p.pid).find(|pid| number_inside(*pid) == Some(2))?;
    let now = command_line(second)?;
    let on_its_way = [&b"/usr/bin/setpriv\0--reuid="[..], b"/usr/bin/prlimit\0--nproc=", b"/usr/bin/env\0"];
    let runs = !now.is_empty() && now != of_bubblewrap && !on_its_way.iter().any(|way| now.starts_with(way));
    runs.then_some(second)
}

/// The service's processes that stayed in its group: whom a stop is meant for.
pub(super) fn members(first: i32, group: i32) -> Vec<i32> {
    let of_group = |p: &Process| p.group == group && !p.zombie;
    leftovers::descendants(first).into_iter().filter(of_group).map(|p| p.pid).collect()
}

fn command_line(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// A process's number in its innermost namespace.
fn number_inside(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}
