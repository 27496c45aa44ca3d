//! Becoming the program. Invariant: from here on, this process dies with its parent, and either all of the confinement is
//! in place or the program does not run.
//!
//! A process of our own is run instead of the program, because what follows must be done by the child itself, and safe
//! code cannot run between fork and exec. Its order matters: what needs root comes first, then the own user, then the
//! signal (the kernel forgets it when the user changes), then the rules of the kernel, then bubblewrap, which needs no
//! more than the user has, and the system call filter last, by bubblewrap's hand.

use super::{
    confinement::{Confinement, Means},
    root::{Arguments, Root, memory},
    rules, staging,
    syscalls::{self, Sockets},
    variables,
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{
        Gid, Resource, Rlimit, Signal, Uid, getgid, getppid, getuid, set_parent_process_death_signal, setrlimit,
    },
    thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};
use softservice_protocol::instance::Sandbox;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

/// What is to be launched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The parent process; when it is gone already, nothing is launched.
    pub(crate) parent: i32,
    /// How it is held; none = not at all.
    #[serde(default)]
    pub(crate) confinement: Option<Confinement>,
    /// Standard input is a socket, and nothing is launched before a byte came through it: by then the parent has written
    /// down which process this is, so that whoever comes after it can end what it began (on a full disk it could not).
    #[serde(default)]
    pub(crate) waits: bool,
}

/// What the launched process tells its parent, a line of JSON each, through the pipe that was its standard input. The
/// last three are bubblewrap's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Told {
    /// Why the program does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
    /// The first process of the sandbox, as seen from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) child_pid: Option<i32>,
    /// The program ran, and ended with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
}

/// Becomes the program; returns only why that failed, after it has told so.
///
/// Standard input is a pipe or socket to the parent. Without bubblewrap it closes when the program runs.
pub(crate) fn launch(launch: &Launch) -> String {
    // Exec puts /dev/null where the pipe is: this is a copy.
    let Ok(pipe) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3) else {
        return "no descriptor is left".into();
    };
    let why = match launch.waits && !told_to_go(&pipe) {
        true => "the keeper is gone".into(),
        false => become_program(launch, &pipe),
    };
    let told = serde_json::to_string(&Told { failed: Some(why.clone()), ..Told::default() }).unwrap_or_default();
    // A parent that is gone needs no answer.
    let _ = writeln!(std::fs::File::from(pipe), "{told}");
    why
}

fn told_to_go(socket: &OwnedFd) -> bool {
    matches!(rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut [0; 1])), Ok(1))
}

fn become_program(launch: &Launch, pipe: &OwnedFd) -> String {
    let Launch { command, parent, confinement, .. } = launch;
    let Some((program, _)) = command.split_first() else {
        return "the command is empty".into();
    };
    let prepared = match confinement {
        Some(confinement) => confine(confinement, command, *parent, pipe),
        None => bind_to(*parent).map(|()| plain(command)),
    };
    match prepared {
        Ok(Prepared { mut command, _open }) => format!("run {program}: {}", command.stdin(Stdio::null()).exec()),
        Err(why) => why,
    }
}

/// A command, and the descriptors that it inherits.
struct Prepared {
    command: Command,
    _open: Vec<OwnedFd>,
}

fn plain(command: &[String]) -> Prepared {
    let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables::arrived());
    Prepared { command, _open: Vec::new() }
}

/// Dies with the parent from now on.
fn bind_to(parent: i32) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("bind it to its keeper: {e}"))?;
    // The parent may have died before the signal was set; then it will never be sent.
    if getppid().is_none_or(|p| p.as_raw_nonzero().get() != parent) {
        return Err("the keeper is gone".into());
    }
    Ok(())
}

fn confine(it: &Confinement, command: &[String], parent: i32, pipe: &OwnedFd) -> Result<Prepared, String> {
    if let Some(group) = &it.group {
        group.join().map_err(|e| format!("join its cgroup: {e}"))?;
    }
    if matches!(it.means, Means::RootNamespaces { .. }) && it.user.is_some() && !it.device_programs() {
        return Err("where only root gets namespaces, it may neither have a root tree of its own nor hide /usr".into());
    }
    limit(it)?;
    let (user, group) = it.user.map_or((getuid().as_raw(), getgid().as_raw()), |user| (user, user));
    let prepared = match it.means.bwrap() {
        Some(bwrap) => {
            let root = Root::of(it, user, group)?;
            let places = match it.user {
                Some(_) => staging::stage(&root.sources())?,
                None => BTreeMap::new(),
            };
            let mut arguments = root.arguments(&places, it.sandbox.memory)?;
            frame(it, &mut arguments, pipe)?;
            let mut run = Command::new(bwrap);
            let before = inside(it);
            if before.is_empty() {
                for (name, value) in variables::arrived() {
                    arguments.words.extend(["--setenv".into(), name, value]);
                }
            }
            run.arg("--args").arg(words(&mut arguments)?).arg("--").args(before).args(command).current_dir("/");
            // What bubblewrap has is not what the program gets.
            run.env_clear();
            Prepared { command: run, _open: arguments.descriptors }
        }
        None => plain(command),
    };
    let by_itself = !matches!(it.means, Means::RootNamespaces { .. });
    if let Some(user) = it.user.filter(|_| by_itself) {
        become_user(user).map_err(|e| format!("become user {user}: {e}"))?;
    }
    bind_to(parent)?;
    set_no_new_privs(true).map_err(|e| format!("give up new privileges: {e}"))?;
    rules::bind(it, it.means == Means::None)?;
    if it.syscalls && it.means == Means::None {
        for filter in syscalls::filters(sockets(&it.sandbox))? {
            seccompiler::apply_filter(&filter).map_err(|e| format!("filter its system calls: {e}"))?;
        }
    }
    Ok(prepared)
}

/// Sockets that the promise needs.
pub(super) fn sockets(sandbox: &Sandbox) -> Sockets {
    match (rules::udp(sandbox), sandbox.listen.is_empty() && sandbox.connect.is_empty()) {
        (true, _) => Sockets::TcpUdp,
        (false, false) => Sockets::Tcp,
        (false, true) => Sockets::Local,
    }
}

/// Bubblewrap's words that are the same for every root.
fn frame(it: &Confinement, arguments: &mut Arguments, pipe: &OwnedFd) -> Result<(), String> {
    let mut add = |words: &[&str]| arguments.words.extend(words.iter().map(OsString::from));
    add(&["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "softservice"]);
    add(&["--cap-drop", "ALL"]);
    match &it.means {
        Means::RootNamespaces { .. } if it.user.is_some() => {
            // Given up by `setpriv` inside.
            for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
                add(&["--cap-add", capability]);
            }
        }
        Means::RootNamespaces { .. } => {}
        Means::Namespaces { .. } | Means::None => add(&["--unshare-user"]),
    }
    arguments.words.extend(["--chdir".into(), it.home.clone().into_os_string()]);
    if it.syscalls {
        for filter in syscalls::filters(sockets(&it.sandbox))? {
            let file = memory(&syscalls::bytes(&filter))?;
            arguments.words.extend(["--add-seccomp-fd".into(), file.as_raw_fd().to_string().into()]);
            arguments.descriptors.push(file);
        }
    }
    // A copy without the mark: bubblewrap inherits it, tells through it, and closes it before the program.
    let status = rustix::io::dup(pipe).map_err(|e| format!("keep the pipe to its keeper: {e}"))?;
    fcntl_setfd(&status, FdFlags::empty()).map_err(|e| format!("keep the pipe to its keeper: {e}"))?;
    arguments.words.extend(["--json-status-fd".into(), status.as_raw_fd().to_string().into()]);
    arguments.descriptors.push(status);
    Ok(())
}

/// The descriptor, as text, of a file with all words: a command line has room for fewer, and everybody may read it.
fn words(arguments: &mut Arguments) -> Result<String, String> {
    let mut all = Vec::new();
    for word in &arguments.words {
        all.extend_from_slice(word.as_encoded_bytes());
        all.push(0);
    }
    let file = memory(&all)?;
    let number = file.as_raw_fd().to_string();
    arguments.descriptors.push(file);
    Ok(number)
}

/// Programs of the sandbox's own root that run before the program and become it; the last of them gives it its variables.
/// Only where those programs are the device's own, see [`Confinement::device_programs`].
fn inside(it: &Confinement) -> Vec<OsString> {
    let mut words: Vec<String> = Vec::new();
    if let (Means::RootNamespaces { .. }, Some(user)) = (&it.means, it.user) {
        words.extend(["/usr/bin/setpriv".into(), format!("--reuid={user}"), format!("--regid={user}")]);
        words.extend(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"].map(String::from));
    }
    if let Some(most) = it.most_processes.filter(|_| it.counts_by_namespace()) {
        // Set inside the user namespace: outside, all processes of the user would count. The namespace's first counts.
        let most = u64::from(most) + 1;
        words.extend(["/usr/bin/prlimit".into(), format!("--nproc={most}:{most}"), "--".into()]);
    }
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    if !words.is_empty() {
        words.push("/usr/bin/env".into());
        for (mut variable, value) in variables::arrived() {
            variable.push("=");
            variable.push(value);
            words.push(variable);
        }
    }
    words
}

/// Limits of each process for itself, for want of a cgroup.
fn limit(it: &Confinement) -> Result<(), String> {
    let set = |what: Resource, most: u64| {
        setrlimit(what, Rlimit { current: Some(most), maximum: Some(most) }).map_err(|e| format!("limit it: {e}"))
    };
    if let Some(bytes) = it.most_memory {
        set(Resource::Data, bytes)?;
    }
    // Counted by user, so only where the user is its own.
    if let Some(most) = it.most_processes.filter(|_| it.means == Means::None && it.user.is_some()) {
        set(Resource::Nproc, u64::from(most))?;
    }
    Ok(())
}

fn become_user(user: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
