//! A program that runs once in a sandbox: a question about health, a test, a hook, a migration. Invariant: it ends with
//! the node that asked for it, however that ends, and leaves no process and no cgroup.
//!
//! A process of our own stands between the node and the program: what the kernel does when a parent dies, it does when
//! the parent's *thread* dies, and threads of the node come and go.

use super::{
    confinement::Confinement,
    launch::{Launch, Told},
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, set_child_subreaper, waitpid};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command, signal::unix, time::timeout};

/// How long the last processes may take to die when they are killed.
const DEATH: Duration = Duration::from_secs(5);

/// What is to be run once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Once {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// How it is held.
    pub(crate) confinement: Confinement,
    /// The process that asks for it, and when that started.
    pub(crate) asker: (i32, u64),
}

/// Runs it; the exit code is the program's, or that of a shell for what did not end by itself.
pub(crate) fn once(mut it: Once, arguments: Vec<OsString>) -> ExitCode {
    // Another question may be asked at the same time.
    it.confinement.group = it.confinement.group.map(|group| group.of_process(rustix::process::getpid()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|e| format!("start a runtime: {e}")).and_then(|runtime| {
        let ended = runtime.block_on(run(&it, arguments));
        runtime.shutdown_background();
        ended
    });
    if let Some(group) = &it.confinement.group {
        group.kill();
        group.remove();
    }
    match ended {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(1);
            ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(NOT_RUN)
        }
    }
}

/// The exit code, as of a shell, of a program that could not be run.
const NOT_RUN: u8 = 126;

async fn run(it: &Once, mut arguments: Vec<OsString>) -> Result<ExitStatus, String> {
    let me = rustix::process::getpid();
    set_child_subreaper(Some(me)).map_err(|e| format!("become a subreaper: {e}"))?;
    let (asker, start) = it.asker;
    let gone = || "the node is gone".to_owned();
    let node = pidfd_open(Pid::from_raw(asker).ok_or_else(gone)?, PidfdFlags::NONBLOCK).map_err(|_| gone())?;
    if crate::device::started(asker) != Some(start) {
        return Err(gone());
    }
    let node = crate::device::readable(node).map_err(|e| format!("watch the node: {e}"))?;
    let mut told_to_end = unix::signal(unix::SignalKind::terminate()).map_err(|e| e.to_string())?;
    if let Some(group) = &it.confinement.group {
        group.make(&it.confinement.sandbox).map_err(|e| format!("make its cgroup: {e}"))?;
        group.sweep();
    }
    let launch = Launch {
        command: it.command.clone(),
        parent: me.as_raw_nonzero().get(),
        confinement: Some(it.confinement.clone()),
        waits: false,
    };
    arguments.push(crate::device::launch_task(launch).into());
    let (telling, pipe) = std::io::pipe().map_err(|e| format!("get a pipe: {e}"))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).stdin(Stdio::from(pipe)).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("run itself: {e}"))?;
    // It holds the writing end: without this what is told would never end.
    drop(command);
    let status = tokio::select! {
        status = child.wait() => status.map_err(|e| format!("lost it: {e}"))?,
        _ = node.readable() => return Err(gone()),
        _ = told_to_end.recv() => return Err("it was told to end".into()),
    };
    end_rest(me).await;
    let told = heard(telling).await;
    match told.iter().find_map(|t| t.failed.clone()) {
        Some(why) => Err(format!("could not be started: {why}")),
        None => Ok(status),
    }
}

/// Everything that the launched process told.
async fn heard(pipe: std::io::PipeReader) -> Vec<Told> {
    let mut text = String::new();
    if let Ok(mut pipe) = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe.into()) {
        let _ = timeout(DEATH, pipe.read_to_string(&mut text)).await;
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Kills what the program left, and waits for it.
async fn end_rest(me: Pid) {
    let Ok(mut ended) = unix::signal(unix::SignalKind::child()) else { return };
    let all = async {
        loop {
            let left = crate::device::descendants(me.as_raw_nonzero().get());
            let mut collected = false;
            for pid in left.iter().filter_map(|p| Pid::from_raw(p.pid)) {
                let _ = kill_process(pid, Signal::KILL);
                collected |= matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)));
            }
            match (left.is_empty(), collected) {
                (true, _) => return,
                (false, true) => {}
                (false, false) => drop(ended.recv().await),
            }
        }
    };
    let _ = timeout(DEATH, all).await;
}
