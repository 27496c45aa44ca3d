//! Processes of earlier keepers. Invariant: only processes of a session that a keeper of this boot led, in the group of
//! the child that it recorded, are ever killed: process numbers alone are not believed, the kernel gives them again.

use super::{Status, Task, files, last_status};
use crate::sandbox::Group;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{path::Path, time::Duration};
use tokio::time::timeout;

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) start: u64,
    /// Dead, not yet collected by its parent.
    pub(super) zombie: bool,
}

/// This boot's identity.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// When a process started, in ticks since boot; none when it is gone.
pub(crate) fn started(pid: i32) -> Option<u64> {
    process(pid).filter(|p| !p.zombie).map(|p| p.start)
}

fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in brackets and may hold anything, brackets and blanks too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let field: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| field.get(at)?.parse::<i32>().ok();
    Some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        start: field.get(19)?.parse().ok()?,
        zombie: matches!(field.first(), Some(&("Z" | "X"))),
    })
}

/// Every process that lives.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// All processes that descend from `root`, itself left out, zombies too.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|p| p.parent == parent) {
            parents.push(child.pid);
            found.push(*child);
        }
    }
    found
}

/// How long a killed process may take: one in uninterruptible sleep dies later, but that is for a slow disk, not for ever.
const DEATH: Duration = Duration::from_secs(5);

/// Kills a process and waits until it is gone.
async fn kill(pid: i32) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { return };
    if pidfd_send_signal(&handle, Signal::KILL).is_err() {
        return;
    }
    if let Ok(handle) = crate::device::readable::readable(handle) {
        let _ = timeout(DEATH, handle.readable()).await;
    }
}

/// Kills what the last keeper of this folder left behind, and that keeper if it still lives without holding its lock.
pub(in crate::device) async fn end(folder: &Path) {
    let Some(Status { keeper, keeper_start, boot: then, pid, group, .. }) = last_status(folder) else { return };
    if then != boot() {
        return;
    }
    if started(keeper) == Some(keeper_start) && keeper != rustix::process::getpid().as_raw_nonzero().get() {
        kill(keeper).await;
    }
    let group = group.or(pid);
    let of_it = |p: &Process| p.session == keeper && Some(p.group) == group && p.start >= keeper_start;
    for left in processes().into_iter().filter(of_it) {
        kill(left.pid).await;
    }
    // Whatever changed its session and lost its parents is still in the cgroup, which nobody else is in.
    if let Some(cgroup) = cgroup(folder).zip(Pid::from_raw(keeper)).map(|(group, keeper)| group.of_process(keeper)) {
        cgroup.kill();
        cgroup.removed().await;
    }
}

/// The cgroup of the service of this folder.
fn cgroup(folder: &Path) -> Option<Group> {
    let task = serde_json::from_slice(&std::fs::read(folder.join(files::SPEC)).ok()?).ok()?;
    match task {
        Task::Keep(spec) => spec.confinement?.group,
        Task::Front(_) | Task::Launch(_) | Task::Once(_) | Task::Cost { .. } => None,
    }
}
