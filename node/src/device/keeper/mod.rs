//! The keeper: a small process for each service that owns its child, its log and its exit status.
//! Invariant: at most one copy of a service runs: a keeper holds the lock of its folder, and before it starts anything it
//! kills whatever an earlier keeper left; when a keeper dies, the kernel kills its child (parent death signal), but for the
//! milliseconds in which bubblewrap sets a sandbox up: its inner process is bound last. Whoever lives on ends with the next
//! keeper, or with the next node.
//!
//! A keeper outlives the node: it has its own session, needs nothing of the node, and is reached over a Unix socket in
//! its folder, so that a killed, restarted or upgraded node finds the service as it left it. To let the service run
//! on without a keeper was refused: nobody would write its log, and its restart could not be told from a second copy.
//!
//! The keeper adopts orphans (subreaper), so a child that forks away from its process group still ends with the service.
//!
//! What makes a process a keeper - its lock, its status, its socket, how leftovers end - serves the front as well, which
//! keeps ports instead of a program: see [`super::front`].

mod backoff;
mod child;
mod control;
mod inherit;
mod inside;
mod leftovers;
mod log;
mod outcome;
mod story;
#[cfg(test)]
pub(super) mod tests;

use super::front::{self, Table};
use crate::sandbox::{self, Confinement, Launch, Once};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    release::{Restart, StopSignal},
    time::Span,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write as _,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// What a keeper is told, in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub(super) enum Task {
    /// Keep a service.
    Keep(Box<Spec>),
    /// Be a front.
    Front(Table),
    /// Become the service: the keeper runs itself with this task as its child.
    Launch(Box<Launch>),
    /// Run something once, held as services are.
    Once(Box<Once>),
    /// Print what a sandbox costs on this machine: a document with seconds of each start, plain and held.
    Cost {
        /// Starts of each kind.
        rounds: usize,
    },
}

/// A task as the last argument of a keeper's command: what is short-lived needs no file.
pub(crate) fn once_task(once: Once) -> String {
    argument(&Task::Once(Box::new(once)))
}

/// As [`once_task`].
pub(crate) fn launch_task(launch: Launch) -> String {
    argument(&Task::Launch(Box::new(launch)))
}

fn argument(task: &Task) -> String {
    // Made of text and numbers only: it cannot fail.
    serde_json::to_string(task).unwrap_or_default()
}

/// A service to keep.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    /// For messages.
    pub(super) service: String,
    /// Arguments that make this program a keeper, without the program itself.
    pub(super) arguments: Vec<String>,
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// All variables of the child.
    pub(super) environment: BTreeMap<String, String>,
    /// Where it runs.
    pub(super) folder: PathBuf,
    /// Where it writes.
    pub(super) log: PathBuf,
    /// When it is started again.
    pub(super) restart: Restart,
    /// What asks it to end; a spec that was written before this was known means SIGTERM.
    #[serde(default)]
    pub(super) stop_signal: StopSignal,
    /// Time from that signal to SIGKILL.
    pub(super) grace: Span,
    /// How it is held; none = not at all, as before there were sandboxes.
    #[serde(default)]
    pub(super) confinement: Option<Confinement>,
}

/// How a service is, as its keeper knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    /// The keeper's process, also the session's number.
    pub(super) keeper: i32,
    /// When the keeper started, in the kernel's ticks: a process number alone may have been given again.
    pub(super) keeper_start: u64,
    /// This boot's identity.
    pub(super) boot: String,
    /// The service's own process, once its program runs; before that the child that becomes it, or its sandbox.
    pub(super) pid: Option<i32>,
    /// The child, also its process group; none = as `pid`, as before there were sandboxes.
    #[serde(default)]
    pub(super) group: Option<i32>,
    /// What it does.
    pub(super) phase: Phase,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// How it ended last.
    pub(super) last_exit: Option<String>,
    /// That was a success.
    #[serde(default)]
    pub(super) succeeded: bool,
}

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Its process is about to run its program.
    Starting,
    /// Its program runs.
    Running,
    /// It ended and will be started again.
    Waiting,
    /// It ended and will not be started again.
    Exited,
    /// It was asked to end.
    Stopping,
    /// It was stopped; the keeper goes.
    Stopped,
}

impl Status {
    /// Of this process, which keeps nothing yet.
    pub(super) fn own() -> Self {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        Self {
            keeper: me,
            keeper_start: leftovers::started(me).unwrap_or(0),
            boot: leftovers::boot(),
            pid: None,
            group: None,
            phase: Phase::Waiting,
            restarts: 0,
            last_exit: None,
            succeeded: false,
        }
    }
}

impl Phase {
    /// Its process is there, or about to be.
    pub(super) fn is_up(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
    /// For people and scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Exited => "exited",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// File names in a keeper's folder.
pub(super) mod files {
    /// [`super::Task::Keep`].
    pub(in crate::device) const SPEC: &str = "spec.json";
    /// [`super::Task::Front`].
    pub(in crate::device) const FRONT: &str = "front-task.json";
    /// [`super::Task::Launch`].
    pub(in crate::device) const LAUNCH: &str = "launch.json";
    /// [`super::Status`].
    pub(in crate::device) const STATUS: &str = "status.json";
    /// Held while the keeper lives.
    pub(in crate::device) const LOCK: &str = "lock";
    /// The socket.
    pub(in crate::device) const CONTROL: &str = "control";
    /// The keeper's own words.
    pub(in crate::device) const WORDS: &str = "keeper.log";
}

/// The line that a keeper prints when it can be talked to.
pub(super) const READY: &str = "keeper ready";

/// Tells whoever started this process, the node or systemd, that it can be talked to. Afterwards nobody reads our output.
pub(super) fn ready() {
    let _ = writeln!(std::io::stdout(), "\n{READY}").and_then(|()| std::io::stdout().flush());
    if let Some(Err(e)) = std::env::var_os("NOTIFY_SOCKET").map(|socket| notify(socket.as_bytes())) {
        say(format_args!("keeper: tell systemd that it is ready: {e}"));
    }
}

/// `sd_notify(3)`: a path, or a name that begins with a zero byte, written as `@`.
fn notify(socket: &[u8]) -> std::io::Result<()> {
    let address = match socket {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Says something in the keeper's own log, which a full disk loses: `eprintln` would end the keeper, and so its service.
pub(super) fn say(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The hidden verb `softservice keeper TASK`: returns when its work is over. The task is a file, or the text itself.
pub fn keeper_main(arguments: Vec<OsString>) -> ExitCode {
    if let Err(e) = inherit::nothing() {
        say(format_args!("keeper: look at what it inherited: {e}"));
        return ExitCode::FAILURE;
    }
    let Some(task) = arguments.last() else {
        say("keeper: expected a task, or the path of one");
        return ExitCode::from(2);
    };
    let path = PathBuf::from(task);
    let text = match task.as_encoded_bytes() {
        text @ [b'{', ..] => Ok(text.to_vec()),
        _ => std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display())),
    };
    let task = text.and_then(|b| serde_json::from_slice(&b).map_err(|e| format!("understand its task: {e}")));
    let done = match task {
        Err(why) => Err(why),
        Ok(Task::Launch(launch)) => Err(sandbox::launch(&launch)),
        Ok(Task::Once(once)) => return sandbox::once(*once, itself()),
        Ok(Task::Keep(spec)) => keep(&path, *spec),
        Ok(Task::Front(table)) => front::run(&path, &table),
        Ok(Task::Cost { rounds }) => cost(rounds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(format_args!("keeper: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn cost(rounds: usize) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("find itself: {e}"))?;
    let mut keeper = vec![program.to_string_lossy().into_owned()];
    keeper.extend(itself().iter().map(|a| a.to_string_lossy().into_owned()));
    let starts = sandbox::starts(&keeper, rounds)?;
    let seconds =
        |of: fn(&sandbox::Starts) -> Duration| -> Vec<f64> { starts.iter().map(|s| of(s).as_secs_f64()).collect() };
    println!("{}", serde_json::json!({ "plain": seconds(|s| s.plain), "held": seconds(|s| s.held) }));
    Ok(())
}

/// The arguments of this program without the task.
fn itself() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.pop();
    arguments
}

fn keep(path: &Path, spec: Spec) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let Some(_lock) = alone(&folder)? else {
        return Err("another keeper has this service".into());
    };
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me)).map_err(|e| format!("become a subreaper: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("start a runtime: {e}"))?;
    let service = spec.service.clone();
    let kept = runtime.block_on(async {
        leftovers::end(&folder).await;
        child::keep(&folder, spec).await
    });
    runtime.shutdown_background();
    kept.map_err(|e| format!("{service}: {e}"))
}

/// How long the lock may be in the hands of one that ends. A process that was killed closes its socket, by which others
/// know that it is gone, some moments before its lock; whoever asks if a folder is taken holds it for a moment, too.
const HANDOVER: Duration = Duration::from_secs(1);

/// Leaves the session of whoever started us, and takes the folder's lock, if nobody has it. The kernel gives it back
/// however we end. Whoever gets none is to end: the wait for the lock may go on.
pub(super) fn alone(folder: &Path) -> Result<Option<OwnedFd>, String> {
    // Fails only for a group leader, which whoever started us by hand may have made us; nothing depends on it then.
    let _ = rustix::process::setsid();
    let path = folder.join(files::LOCK);
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = OwnedFd::from(file.map_err(|e| format!("open {}: {e}", path.display()))?);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let locked = rustix::io::retry_on_intr(|| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive));
        tell.send(locked.map(|()| file))
    });
    match told.recv_timeout(HANDOVER) {
        Ok(Ok(file)) => Ok(Some(file)),
        Ok(Err(e)) => Err(format!("lock {}: {e}", path.display())),
        Err(_) => Ok(None),
    }
}

/// Whether a keeper lives in this folder.
pub(super) fn is_taken(folder: &Path) -> bool {
    let Ok(file) = std::fs::File::open(folder.join(files::LOCK)) else { return false };
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
    locked == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Writes the status for whoever cannot ask. Renamed, so that no reader sees half of it; not synced: after a power cut no
/// process that it names is alive, which the boot's identity tells. Where the disk has no room for another file, the one that
/// is there takes it: in one piece, and only while this process lives, whom a reader can ask, could half of it be seen.
pub(super) fn publish(folder: &Path, status: &Status) -> std::io::Result<()> {
    let (beside, path, text) = (folder.join(".status.new"), folder.join(files::STATUS), serde_json::to_vec(status)?);
    match std::fs::write(&beside, &text).and_then(|()| std::fs::rename(beside, &path)) {
        Ok(()) => Ok(()),
        Err(error) => overwrite(&path, text).map_err(|_| error),
    }
}

/// Puts a text where a longer or shorter one is. It takes no room beyond the block that the other has.
fn overwrite(path: &Path, mut text: Vec<u8>) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    // Blanks at the end mean nothing, and leave no moment with the end of the other.
    text.resize(text.len().max(before), b' ');
    (&file).write_all(&text)
}

/// The last status written in this folder.
pub(super) fn last_status(folder: &Path) -> Option<Status> {
    serde_json::from_slice(&std::fs::read(folder.join(files::STATUS)).ok()?).ok()
}

/// A host that goes down asks every process to end (SIGTERM): to a keeper that means "stop", as do the signals of a terminal.
///
/// What is heard here is set back to its default in whatever this process starts, by `exec`. A node started by a script
/// in the background ignores SIGINT and SIGQUIT; its services must not inherit that: a shell cannot even trap what was
/// ignored when it began, and a `stop_signal` would be lost.
pub(super) fn stop_on_signal(stop: mpsc::Sender<()>) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()] {
        let (mut asked, stop) = (signal(kind)?, stop.clone());
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                let _ = stop.try_send(());
            }
        });
    }
    Ok(())
}

pub(super) use control::{Question, bind, callers, in_folder, serve, served};
pub(super) use leftovers::end as end_leftovers;
pub(crate) use leftovers::{boot, descendants, started};
#[cfg(test)]
pub(super) use log::Log;
