//! The life of a kept service: start, restart with growing patience, stop. Invariant: before a start and after a stop,
//! no process of an earlier start lives.

use super::{
    Phase, Spec, Status, Task,
    backoff::Backoff,
    control, files, inside, last_status, leftovers,
    log::{FILE_BYTES, Log},
    outcome::Outcome,
    publish, say, stop_on_signal,
    story::Story,
};
use crate::sandbox::{Confinement, Launch, carried};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use softservice_protocol::release::{Restart, StopSignal};
use std::{
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::ExitStatus,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::unix::pipe,
    process::{Child, Command},
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

/// How long the last output and the last answers may take when everything else is over.
const GOODBYE: Duration = Duration::from_secs(1);
/// The first wait between two looks whether the program in a sandbox runs, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// Bytes that may be waiting in the pipe when a service ends.
const MOST_WORDS: usize = 1 << 20;

type Words = Arc<Mutex<Log>>;

/// Everything a kept service is made of.
struct Keeping<'a> {
    folder: &'a Path,
    spec: &'a Spec,
    me: i32,
    status: watch::Sender<Status>,
    log: Words,
    /// What it says, and where it says it.
    said: Arc<pipe::Receiver>,
    output: std::io::PipeWriter,
    /// A child ended, ours or an orphan's.
    ended: SignalStream,
    stop: mpsc::Receiver<()>,
}

/// Keeps the service until it is told to stop.
pub(super) async fn keep(folder: &Path, mut spec: Spec) -> std::io::Result<()> {
    // A cgroup of this keeper's own: whoever comes later sees by its name that nobody will remove it any more.
    if let Some(confinement) = &mut spec.confinement {
        confinement.group = confinement.group.take().map(|group| group.of_process(rustix::process::getpid()));
    }
    let spec = &spec;
    let own = Status::own();
    // A keeper that was stopped says so, and its folder goes: what is here was cut off in the middle of keeping.
    let before = last_status(folder).filter(|s| s.boot == own.boot && s.group.or(s.pid).is_some());
    let status = Status {
        restarts: before.as_ref().map_or(0, |s| s.restarts + 1),
        last_exit: before.map(|_| "ended with its keeper, which was killed".into()),
        ..own
    };
    let me = status.keeper;
    publish(folder, &status)?;
    let (status, seen) = watch::channel(status);
    let log = Arc::new(Mutex::new(Log::open(&spec.log, FILE_BYTES)?));
    let (reader, output) = std::io::pipe()?;
    let said = Arc::new(pipe::Receiver::from_owned_fd(reader.into())?);
    let pump = tokio::spawn(pump(Arc::clone(&said), Arc::clone(&log)));
    let ended = signal(SignalKind::child())?;
    let (tell, stop) = mpsc::channel(1);
    stop_on_signal(tell.clone())?;
    let callers = control::callers();
    let serve = tokio::spawn(control::serve(control::bind(folder)?, seen, tell, Arc::clone(&callers), None));
    let mut keeping = Keeping { folder, spec, me, status, log, said, output, ended, stop };
    super::ready();
    keeping.life().await;
    // The pump ends when nobody can write any more; a full disk keeps the status, and nothing else, from being written.
    let Keeping { output, status, .. } = keeping;
    drop(output);
    let _ = timeout(GOODBYE, pump).await;
    status.send_modify(|s| (s.phase, s.pid, s.group) = (Phase::Stopped, None, None));
    let written = publish(folder, &status.borrow());
    if let Err(e) = written {
        say(format_args!("keeper: write the status: {e}"));
    }
    let _ = timeout(GOODBYE, control::served(&callers)).await;
    serve.abort();
    std::fs::remove_file(folder.join(files::CONTROL))
}

async fn pump(said: Arc<pipe::Receiver>, log: Words) {
    let mut buffer = vec![0; 16 << 10];
    while said.readable().await.is_ok() {
        match said.try_read(&mut buffer) {
            Ok(n @ 1..) => {
                if let (Some(bytes), Ok(mut log)) = (buffer.get(..n), log.lock()) {
                    log.write(bytes);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

impl Keeping<'_> {
    fn change(&self, change: impl FnOnce(&mut Status)) {
        if let Err(e) = self.written(change) {
            say(format_args!("keeper: write the status: {e}"));
        }
    }

    fn written(&self, change: impl FnOnce(&mut Status)) -> std::io::Result<()> {
        self.status.send_modify(change);
        publish(self.folder, &self.status.borrow())
    }

    /// Takes what it said before it ended, so that the log tells things in their order.
    fn last_words(&self) {
        let mut buffer = vec![0; 16 << 10];
        // More than a pipe holds. Somebody who could not be killed may write on: that must not keep us here.
        for _ in 0..MOST_WORDS / buffer.len() {
            // The kernel is asked, not the runtime, which hears of new output only between tasks.
            match rustix::io::read(&*self.said, &mut buffer) {
                Ok(n @ 1..) => {
                    if let (Some(bytes), Ok(mut log)) = (buffer.get(..n), self.log.lock()) {
                        log.write(bytes);
                    }
                }
                _ => return,
            }
        }
    }

    fn note(&self, what: &str) {
        if let Ok(mut log) = self.log.lock() {
            log.note(what);
        }
    }

    async fn life(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            let outcome = match self.spawn() {
                Ok(started) => match self.run(started).await {
                    Some(outcome) => outcome,
                    None => return,
                },
                Err(e) => Outcome::not_started(e),
            };
            let again = match self.spec.restart {
                Restart::No => false,
                Restart::OnFailure => !outcome.good,
                Restart::Always => true,
            };
            let phase = if again { Phase::Waiting } else { Phase::Exited };
            self.change(|s| {
                (s.phase, s.pid, s.group) = (phase, None, None);
                (s.last_exit, s.succeeded) = (Some(outcome.words.clone()), outcome.good);
            });
            self.last_words();
            if !again {
                self.note(&format!("{}; not started again", outcome.words));
                let _ = self.stop.recv().await;
                return;
            }
            let wait = backoff.after(began.elapsed());
            self.note(&format!("{}; started again in {:.1} s", outcome.words, wait.as_secs_f32()));
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.stop.recv() => return,
            }
            self.change(|s| s.restarts += 1);
        }
    }

    /// The child, and the socket through which it tells how it gets on.
    fn spawn(&self) -> std::io::Result<Started> {
        let confinement = self.spec.confinement.clone();
        if let Some((group, sandbox)) = confinement.as_ref().and_then(|c| Some((c.group.as_ref()?, &c.sandbox))) {
            group.make(sandbox)?;
            group.sweep();
        }
        let (command, parent) = (self.spec.command.clone(), self.me);
        let task = Task::Launch(Box::new(Launch { command, parent, confinement, waits: true }));
        let path = self.folder.join(files::LAUNCH);
        std::fs::write(&path, serde_json::to_vec(&task)?)?;
        let (mut launched, launching) = UnixStream::pair()?;
        // Not the path of our program: an upgrade may have replaced or removed it while we ran.
        let mut child = Command::new("/proc/self/exe")
            .args(&self.spec.arguments)
            .arg(path)
            .env_clear()
            .envs(carried(&self.spec.environment))
            .current_dir(&self.spec.folder)
            .stdin(OwnedFd::from(launching))
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?)
            .process_group(0)
            .spawn()?;
        let group = child.id().map(|p| p as i32);
        // Only then may it go on: were this keeper killed before, the next would not know whom to end.
        let told = self.written(|s| (s.pid, s.group, s.phase) = (group, group, Phase::Starting)).and_then(|()| {
            self.note(&format!("started as process {}", group.unwrap_or(0)));
            launched.write_all(b"\n")
        });
        if let Err(e) = told {
            // It waits for its word and has run nothing.
            let _ = child.start_kill();
            return Err(std::io::Error::new(e.kind(), format!("write down which process it is: {e}")));
        }
        let sandboxed = self.spec.confinement.as_ref().is_some_and(Confinement::bubblewrap);
        Ok(Started { child, group, story: Story::new(launched)?, sandboxed })
    }

    /// How the child ended by itself; none when it was stopped.
    async fn run(&mut self, started: Started) -> Option<Outcome> {
        let Started { mut child, group, mut story, sandboxed } = started;
        let mut wait = FIRST_LOOK;
        loop {
            let told = story.told();
            let starting = self.status.borrow().phase == Phase::Starting;
            let first = told.child_pid.filter(|_| starting);
            tokio::select! {
                () = story.goes_on(), if !story.over => {
                    // Without a sandbox the socket closes when the program runs.
                    if story.over && !sandboxed && story.told().failed.is_none() {
                        self.change(|s| s.phase = Phase::Running);
                    }
                }
                () = sleep(wait), if first.is_some() => {
                    wait = (wait * 2).min(LONGEST_LOOK);
                    if let Some(pid) = first.and_then(inside::service) {
                        self.change(|s| (s.pid, s.phase) = (Some(pid), Phase::Running));
                    }
                }
                ended = child.wait() => {
                    self.end_rest(None).await;
                    let outcome = self.outcome(ended, &mut story);
                    self.leave_cgroup().await;
                    return Some(outcome);
                }
                _ = self.ended.recv() => self.reap(group),
                _ = self.stop.recv() => {
                    self.stop_child(child, group, story, sandboxed).await;
                    return None;
                }
            }
        }
    }

    /// The stop signal to the service, SIGKILL to whatever lives when the grace is over.
    async fn stop_child(&mut self, mut child: Child, group: Option<i32>, mut story: Story, sandboxed: bool) {
        self.change(|s| s.phase = Phase::Stopping);
        let grace = Duration::from_millis(self.spec.grace.0);
        let end = Instant::now() + grace;
        self.ask_to_stop(group, story.told().child_pid, sandboxed);
        let mut ended = None;
        loop {
            tokio::select! {
                status = child.wait(), if ended.is_none() => ended = Some(status),
                _ = self.ended.recv() => self.reap(group.filter(|_| ended.is_none())),
                () = sleep_until(end) => break,
            }
            if ended.is_some() && leftovers::descendants(self.me).is_empty() {
                break;
            }
        }
        let words = match ended {
            Some(status) => self.outcome(status, &mut story).words,
            None => {
                if let Some(pid) = group.and_then(Pid::from_raw) {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
                let _ = child.wait().await;
                format!("killed, it did not end within {:.1} s", grace.as_secs_f32())
            }
        };
        self.end_rest(None).await;
        self.leave_cgroup().await;
        self.last_words();
        self.note(&format!("stopped: {words}"));
        self.change(|s| (s.pid, s.group, s.last_exit) = (None, None, Some(words)));
    }

    /// Sends the stop signal. In a sandbox only the service's own processes get it; one that is not there yet has
    /// nothing to finish, and its sandbox is ended at once.
    fn ask_to_stop(&self, group: Option<i32>, first: Option<i32>, sandboxed: bool) {
        let signal = stop_signal(self.spec.stop_signal);
        let Some(group) = group else { return };
        let members = match first {
            Some(first) if sandboxed => inside::members(first, group),
            _ => Vec::new(),
        };
        for pid in members.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, signal);
        }
        if let Some(group) = Pid::from_raw(group).filter(|_| members.is_empty()) {
            let _ = kill_process_group(group, if sandboxed { Signal::KILL } else { signal });
        }
    }

    fn outcome(&self, ended: std::io::Result<ExitStatus>, story: &mut Story) -> Outcome {
        story.catch_up();
        let last = || {
            self.last_words();
            super::log::last_line(&self.spec.log)
        };
        Outcome::of(ended, &story.told(), self.spec.confinement.as_ref(), last)
    }

    /// Removes the cgroup, for nothing of the service lives.
    async fn leave_cgroup(&self) {
        if let Some(group) = self.spec.confinement.as_ref().and_then(|c| c.group.as_ref()) {
            group.removed().await;
        }
    }

    /// Kills every descendant and waits until none is left.
    async fn end_rest(&mut self, but: Option<i32>) {
        // Each round kills all that is seen; a process that forks faster than we kill is stopped by its parent's death.
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            self.reap(but);
            let left = leftovers::descendants(self.me);
            if left.is_empty() {
                return;
            }
            for process in &left {
                if let Some(pid) = Pid::from_raw(process.pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            tokio::select! {
                _ = self.ended.recv() => {}
                () = sleep_until(patience) => {
                    self.note("some of its processes could not be killed");
                    return;
                }
            }
        }
    }

    /// Collects orphans that became ours; `but` is the child that tokio collects itself.
    fn reap(&self, but: Option<i32>) {
        for orphan in leftovers::descendants(self.me) {
            if orphan.parent == self.me && orphan.zombie && Some(orphan.pid) != but {
                let _ = waitpid(Pid::from_raw(orphan.pid), WaitOptions::NOHANG);
            }
        }
    }
}

fn stop_signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
    }
}

/// A child, and what there is to know of it.
struct Started {
    child: Child,
    /// Its process, which leads the group.
    group: Option<i32>,
    story: Story,
    /// It becomes a sandbox, which runs the service.
    sandboxed: bool,
}
