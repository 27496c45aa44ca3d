//! What a sandbox costs: from the wish to start a program to its first moment, with and without. Invariant: both are the
//! same program on the same machine in turns, so that what else the machine does falls on both.

use super::{Launch, Machine, Who, users::TRIAL};
use softservice_protocol::instance::{
    Sandbox,
    sandbox::{Listen, Mount, Network, Reach, Transport},
};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// One start of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Starts {
    /// Fork and exec.
    pub(crate) plain: Duration,
    /// With everything that this machine can keep.
    pub(crate) held: Duration,
}

/// Starts a program so often each way. `keeper` is the command that runs a keeper.
///
/// # Errors
/// It could not be started, or has no clock that counts nanoseconds.
pub(crate) fn starts(keeper: &[String], rounds: usize) -> Result<Vec<Starts>, String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (volume, home) = (scratch.path().join("volume"), scratch.path().join("home"));
    for folder in [&volume, &home] {
        std::fs::create_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let machine = Machine::tried(keeper, Path::new("/"));
    let port = 8080;
    let sandbox = Sandbox {
        write: vec![Mount::here(volume.to_string_lossy())],
        listen: vec![Listen { transport: Transport::Tcp, port }],
        connect: vec![Reach { to: Network::Device, port: Some(port) }],
        memory: Some(256 << 20),
        cpu: Some(1000),
        processes: Some(64),
        ..Sandbox::default()
    };
    let who = Who { label: "cost".into(), user: machine.own_users().then_some(TRIAL), home };
    let confinement = machine.confinement(&sandbox, &who);
    let argv = ["/bin/date", "+%s%N"].map(String::from);
    let mut all = Vec::new();
    for _ in 0..rounds {
        let plain = began_after(|| {
            let mut plain = Command::new("/bin/date");
            plain.arg("+%s%N");
            Ok(plain)
        })?;
        let held = began_after(|| {
            if let Some(group) = &confinement.group {
                group.make(&sandbox).map_err(|e| format!("make its cgroup: {e}"))?;
            }
            let me = rustix::process::getpid().as_raw_nonzero().get();
            let confinement = Some(confinement.clone());
            let launch = Launch { command: argv.to_vec(), parent: me, confinement, waits: false };
            let mut held = Command::new("/proc/self/exe");
            held.args(keeper.get(1..).unwrap_or_default()).arg(crate::device::launch_task(launch));
            Ok(held)
        })?;
        if let Some(group) = &confinement.group {
            group.remove();
        }
        all.push(Starts { plain, held });
    }
    Ok(all)
}

/// How long after the wish the program looked at the clock, which is the first that it does. What comes before its start
/// is part of it: `prepare` makes its group and its command, as a keeper does for a service.
fn began_after(prepare: impl FnOnce() -> Result<Command, String>) -> Result<Duration, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let mut command = prepare()?;
    let (_told, pipe) = std::io::pipe().map_err(|e| format!("get a pipe: {e}"))?;
    let ended = command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::from(pipe)).output();
    let ended = ended.map_err(|e| format!("run it: {e}"))?;
    let said = String::from_utf8_lossy(&ended.stdout);
    // A keeper that is a test program speaks before it.
    let first = said.lines().filter_map(|l| l.trim().parse::<u64>().ok()).next_back();
    let first = first.ok_or_else(|| format!("it said {said:?} and {:?}", String::from_utf8_lossy(&ended.stderr)))?;
    Ok(Duration::from_nanos(first).saturating_sub(now))
}
