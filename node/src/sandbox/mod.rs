//! Holding programs back: what is promised is protocol's `Sandbox`, what is kept is found out by trying, and both are
//! compared in the plan. Invariant: fail closed: a program runs with all that its plan said, or not at all.
//!
//! The parts are well-kept ones of others: bubblewrap for namespaces and roots, Landlock for ports, seccomp for system
//! calls, cgroups for limits, a user of its own for each softservice where the node is root. Ours is their order.
//!
//! Reading order: [`machine`] (what works here), [`isolation`] (in words), [`confinement`] (for one program), [`launch`]
//! (becoming it), [`root`] and [`tree`] (what it sees), then the parts. A service is launched by its keeper; everything
//! that runs once - questions about health, tests, hooks, migrations - by [`command`].

mod accounts;
mod cgroup;
mod confinement;
mod cost;
mod isolation;
mod launch;
mod machine;
mod once;
mod root;
mod rules;
mod staging;
mod syscalls;
#[cfg(test)]
mod tests;
mod tree;
mod users;
mod variables;

pub(crate) use cgroup::{Group, memory};
pub(crate) use confinement::Confinement;
pub(crate) use cost::{Starts, starts};
pub(crate) use launch::{Launch, Told, launch};
pub(crate) use machine::{Machine, Who};
pub(crate) use once::{Once, once};
pub(crate) use tree::find as in_tree;
pub(crate) use users::USERS;
pub(crate) use variables::carried;

use softservice_protocol::instance::Sandbox;
use std::collections::BTreeMap;

/// A command that runs `argv` once in `sandbox`, for `who`: how everything is run that is no service.
///
/// - Standard output and error are the caller's to set; standard input is `/dev/null` in the sandbox.
/// - The environment is `environment` and nothing else.
/// - The exit code is the program's; 128 + n when signal n ended it; 126 with a reason on standard error when it
///   could not be run or the sandbox could not be made. Nothing runs with less than the machine can keep.
/// - The program ends with the returned command's process, with this process, and when the command is dropped; nothing
///   it started stays behind.
/// - What `sandbox` names must exist. Folders that it may write are to be given to the softservice's user before: see
///   `Device::who`, which does so for its volumes, rendered files and secrets.
pub(crate) fn command(
    machine: &Machine,
    sandbox: &Sandbox,
    who: &Who,
    argv: &[String],
    environment: &BTreeMap<String, String>,
) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(machine.once(sandbox, who, argv, environment));
    command.kill_on_drop(true);
    command
}
