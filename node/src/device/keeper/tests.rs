//! Real keepers with real children. The keeper is this very test program, started again.

mod sandboxed;

use super::{
    super::control::{self, Watch},
    Launch, Phase, Spec, Status, last_status,
    log::FILE_BYTES,
};
use rustix::process::{Pid, Signal, kill_process};
use softservice_protocol::{
    release::{Restart, StopSignal},
    time::Span,
};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    time::Duration,
};
use tokio::time::timeout;

/// No event of any test takes so long on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Plays a keeper, and ends, if this process was started to be one.
#[test]
fn keeper_part() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|a| a == KEEPER[0]) && arguments.len() > 2 {
        let code = super::keeper_main(arguments.collect());
        let number = (0..=u8::MAX).find(|n| std::process::ExitCode::from(*n) == code);
        std::process::exit(number.map_or(1, i32::from));
    }
}

const KEEPER: [&str; 3] = ["device::keeper::tests::keeper_part", "--exact", "--nocapture"];

/// The command of a keeper, or of a front.
pub(in crate::device) fn command() -> Vec<String> {
    let this = std::env::current_exe().expect("this program").display().to_string();
    std::iter::once(this).chain(KEEPER.map(String::from)).collect()
}

/// A service with a folder for its keeper and its data; killed at the end, whatever happens.
struct Kept {
    scratch: tempfile::TempDir,
    spec: Spec,
}

impl Kept {
    fn new(script: &str, restart: Restart) -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        let spec = Spec {
            service: "test".into(),
            arguments: KEEPER.map(String::from).to_vec(),
            command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            folder: scratch.path().into(),
            log: scratch.path().join("x.log"),
            restart,
            stop_signal: StopSignal::Term,
            grace: Span::seconds(20),
            confinement: None,
        };
        Self { scratch, spec }
    }
    fn folder(&self) -> PathBuf {
        self.scratch.path().join("run")
    }
    async fn start(&self) {
        control::start(&command(), &self.folder(), &self.spec).await.expect("a keeper");
    }
    /// The first state that is so.
    async fn until(&self, what: &str, so: impl Fn(&Status) -> bool) -> Status {
        let mut watch = Watch::open(&self.folder()).await.expect("a keeper answers");
        let seen = async {
            loop {
                let now = watch.next().await.expect("the keeper lives");
                if so(&now) {
                    return now;
                }
            }
        };
        timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("never saw: {what}"))
    }
    async fn stop(&self) {
        let grace = Duration::from_millis(self.spec.grace.0);
        timeout(DEADLINE, control::stop(&self.folder(), grace)).await.expect("in time").expect("stopped");
    }
    fn log(&self) -> String {
        std::fs::read_to_string(&self.spec.log).expect("a log")
    }
    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Its child dies with it.
        let keeper = last_status(&self.folder()).and_then(|s| Pid::from_raw(s.keeper));
        if let Some(keeper) = keeper.filter(|_| std::thread::panicking()) {
            let _ = kill_process(keeper, Signal::KILL);
        }
    }
}

/// Waits for what nobody announces: the doings of the service itself.
async fn so(so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !so() {
        assert!(std::time::Instant::now() < end, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(in crate::device) fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it can be killed");
}

#[tokio::test]
async fn each_policy_restarts_after_the_ends_it_names_and_no_others() {
    let cases = [
        (Restart::Always, "exit 0", "ended with 0", true),
        (Restart::Always, "exit 3", "ended with 3", true),
        (Restart::OnFailure, "exit 0", "ended with 0", false),
        (Restart::OnFailure, "exit 3", "ended with 3", true),
        (Restart::OnFailure, "kill -9 $$", "ended by signal 9", true),
        (Restart::No, "exit 0", "ended with 0", false),
        (Restart::No, "exit 3", "ended with 3", false),
        (Restart::No, "kill -15 $$", "ended by signal 15", false),
    ];
    for (restart, script, end, again) in cases {
        let kept = Kept::new(script, restart);
        kept.start().await;
        let what = format!("{restart:?} after {script}");
        let status = kept.until(&what, |s| s.phase == Phase::Exited || s.restarts >= 2).await;
        assert_eq!(status.last_exit.as_deref(), Some(end), "{what}");
        assert_eq!((status.restarts > 0, status.phase == Phase::Exited), (again, !again), "{what}: {status:?}");
        kept.stop().await;
        let started = kept.log().matches("started as process").count();
        assert_eq!(started > 1, again, "{what}: {}", kept.log());
        assert_eq!(kept.log().contains("not started again"), !again, "{what}: {}", kept.log());
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_that_says_so() {
    let mut kept = Kept::new("", Restart::No);
    kept.spec.command = vec!["/nothing/here".into()];
    kept.start().await;
    let status = kept.until("the end", |s| s.phase == Phase::Exited).await;
    let why = status.last_exit.expect("a reason");
    assert!(why.starts_with("could not be started: run /nothing/here: No such file"), "{why}");
    kept.stop().await;
}

#[tokio::test]
async fn the_stop_signal_is_the_one_that_was_asked_for() {
    for (signal, name) in [(StopSignal::Term, "TERM"), (StopSignal::Int, "INT"), (StopSignal::Quit, "QUIT")] {
        let script = "for s in TERM INT QUIT; do trap \"echo got $s; exit 7\" $s; done; touch ready; while :; do sleep 60 & wait; done";
        let mut kept = Kept::new(script, Restart::Always);
        kept.spec.stop_signal = signal;
        kept.start().await;
        kept.until("a running program", |s| s.phase == Phase::Running).await;
        let ready = kept.file("ready");
        so(|| ready.exists()).await;
        kept.stop().await;
        let log = kept.log();
        assert!(log.contains(&format!("got {name}\n")) && log.matches("got ").count() == 1, "{log}");
        assert!(log.ends_with("-- softservice: stopped: ended with 7\n"), "not started again: {log}");
        assert!(!kept.folder().exists(), "nothing of the keeper stays");
    }
}

#[tokio::test]
async fn whoever_does_not_end_in_its_grace_is_killed() {
    let mut kept = Kept::new("trap 'echo not yet' TERM; touch ready; while :; do sleep 0.05; done", Restart::Always);
    kept.spec.grace = Span(300);
    kept.start().await;
    let ready = kept.file("ready");
    so(|| ready.exists()).await;
    let pid = kept.until("a process", |s| s.pid.is_some()).await.pid.expect("one");
    kept.stop().await;
    let log = kept.log();
    assert!(log.contains("not yet\n") && log.contains("stopped: killed, it did not end within 0.3 s"), "{log}");
    assert_eq!(super::leftovers::started(pid), None);
}

#[tokio::test]
async fn what_a_node_was_started_with_is_not_passed_on() {
    let mut kept = Kept::new("", Restart::No);
    let secret = kept.file("secret");
    std::fs::write(&secret, "of whoever started the node").expect("a file");
    let open = std::os::fd::OwnedFd::from(std::fs::File::open(&secret).expect("open"));
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).expect("inherited from now on");
    kept.spec.command[2] =
        format!("ls -l /proc/self/fd > {0}.new; mv {0}.new {0}; exec sleep 1000", kept.file("seen").display());
    kept.start().await;
    so(|| kept.file("seen").exists()).await;
    let seen = std::fs::read_to_string(kept.file("seen")).expect("a list");
    assert!(seen.contains("2 -> ") && !seen.contains("secret"), "{seen}");
    kept.stop().await;
}

#[tokio::test]
async fn a_keeper_waits_for_the_lock_of_one_that_is_about_to_be_gone() {
    use std::os::unix::fs::MetadataExt;
    let kept = Kept::new("exec sleep 1000", Restart::No);
    std::fs::create_dir(kept.folder()).expect("a folder");
    let lock = std::fs::File::create(kept.folder().join(super::files::LOCK)).expect("a lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let inode = format!(":{} ", lock.metadata().expect("it is there").ino());
    let waited_for = || {
        let locks = std::fs::read_to_string("/proc/locks").expect("locks");
        locks.lines().any(|l| l.contains("->") && l.contains(&inode))
    };
    let given_back = async {
        so(waited_for).await;
        drop(lock);
    };
    tokio::join!(kept.start(), given_back);
    kept.until("a running program", |s| s.phase == Phase::Running).await;
    kept.stop().await;
}

#[tokio::test]
async fn the_successor_of_a_killed_keeper_goes_on_counting_and_says_why() {
    let kept = Kept::new("echo again; exec sleep 1000", Restart::OnFailure);
    kept.start().await;
    let first = kept.until("a running program", |s| s.phase == Phase::Running).await;
    assert_eq!((first.restarts, first.last_exit), (0, None));
    kill(first.keeper);
    let child = first.pid.expect("a process");
    so(|| super::leftovers::started(child).is_none()).await;
    kept.start().await;
    let second = kept.until("a running program", |s| s.phase == Phase::Running).await;
    assert_eq!(second.restarts, 1);
    assert!(second.last_exit.expect("a reason").contains("with its keeper"));
    kept.stop().await;
    kept.start().await;
    let third = kept.until("a running program", |s| s.phase == Phase::Running).await;
    assert_eq!((third.restarts, third.last_exit), (0, None), "a stop in order begins anew");
    kept.stop().await;
}

#[test]
fn nothing_is_launched_before_it_is_written_down_who_it_is() {
    for told in [true, false] {
        let scratch = tempfile::tempdir().expect("a folder");
        let mark = scratch.path().join("mark");
        let touch = ["/usr/bin/touch".into(), mark.display().to_string()];
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let task = super::launch_task(Launch { command: touch.into(), parent, confinement: None, waits: true });
        let (mut ours, theirs) = UnixStream::pair().expect("a socket");
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        let mut child = command.args(KEEPER).arg(task).stdin(OwnedFd::from(theirs)).spawn().expect("it runs");
        // It holds the other end as well.
        drop(command);
        if told {
            ours.write_all(b"\n").expect("it listens");
        }
        // As when a keeper is killed; what is told can still be heard.
        ours.shutdown(std::net::Shutdown::Write).expect("closed");
        let mut heard = String::new();
        ours.read_to_string(&mut heard).expect("the end");
        assert_eq!(child.wait().expect("it ends").success(), told, "{heard}");
        assert_eq!((mark.exists(), heard.contains("the keeper is gone")), (told, !told), "{heard}");
    }
}

#[tokio::test]
async fn callers_that_went_away_leave_their_places_to_others() {
    let kept = Kept::new("exec sleep 1000", Restart::Always);
    kept.start().await;
    // More than there are places; a service that runs well has no change in weeks by which to notice.
    for _ in 0..40 {
        let mut watch = Watch::open(&kept.folder()).await.expect("a keeper answers");
        assert!(watch.next().await.is_some(), "the first state comes at once");
    }
    assert!(control::status(&kept.folder()).await.is_some());
    kept.stop().await;
}

#[tokio::test]
async fn a_flood_of_output_keeps_its_newest_lines_in_three_files() {
    const LINES: u32 = 4_000_000;
    let kept = Kept::new(&format!("seq 1 {LINES}; exit 3"), Restart::No);
    kept.start().await;
    kept.until("the end", |s| s.phase == Phase::Exited).await;
    kept.stop().await;
    let mut last = None;
    for end in [".2", ".1", ""] {
        let path = format!("{}{end}", kept.spec.log.display());
        let text = std::fs::read_to_string(&path).expect("three files");
        assert!(text.len() as u64 <= FILE_BYTES + (64 << 10), "{path} has {} bytes", text.len());
        for line in text.lines().filter(|l| !l.starts_with("--")) {
            let number: u32 = line.parse().unwrap_or_else(|_| panic!("{path}: {line:?} is torn"));
            assert!(last.is_none_or(|last| last + 1 == number), "{path}: {number} after {last:?}");
            last = Some(number);
        }
    }
    assert_eq!(last, Some(LINES), "nothing is lost at the end");
    assert!(!PathBuf::from(format!("{}.3", kept.spec.log.display())).exists());
    assert!(kept.log().ends_with("ended with 3; not started again\n"), "the reason is the last word");
}

#[tokio::test]
async fn a_full_disk_costs_words_and_never_the_service_or_its_stop() {
    let mut kept = Kept::new("seq 1 100000; echo $$ > said; exec sleep 1000", Restart::Always);
    kept.spec.log = "/dev/full".into();
    std::fs::create_dir(kept.folder()).expect("a folder");
    std::os::unix::fs::symlink("/dev/full", kept.folder().join(super::files::WORDS)).expect("a link");
    kept.start().await;
    let first = kept.until("a running program", |s| s.phase == Phase::Running).await;
    // More than a pipe holds: somebody reads on.
    let said = kept.file("said");
    so(|| said.exists()).await;
    // From now on its status cannot be written either.
    std::os::unix::fs::symlink("/dev/full", kept.folder().join(".status.new")).expect("a link");
    let pid = first.pid.expect("a process");
    kill(pid);
    let again = kept.until("another start", |s| s.restarts == 1 && s.phase == Phase::Running).await;
    assert_eq!(again.keeper, first.keeper, "it lives on");
    let child = again.pid.expect("a process");
    let group = last_status(&kept.folder()).and_then(|s| s.group);
    assert_eq!(group, again.group, "were the keeper killed now, the next would know whom to end");
    kept.stop().await;
    assert!(super::leftovers::started(child).is_none() && super::leftovers::started(again.keeper).is_none());
    assert!(!kept.folder().exists(), "nothing of it stays");
}

#[tokio::test]
async fn whom_nobody_could_end_is_not_started() {
    let kept = Kept::new("echo $$ >> ran; exec sleep 1000", Restart::Always);
    kept.start().await;
    let first = kept.until("a running program", |s| s.phase == Phase::Running).await;
    let ran = kept.file("ran");
    so(|| ran.exists()).await;
    // A disk that takes not even a note in the place of another.
    let (status, beside) = (kept.folder().join(super::files::STATUS), kept.folder().join(".status.new"));
    std::os::unix::fs::symlink("/dev/full", &beside).expect("a link");
    std::fs::remove_file(&status).expect("removed");
    std::fs::create_dir(&status).expect("in its place");
    kill(first.pid.expect("a process"));
    let failed = |s: &Status| s.restarts == 2 && s.phase == Phase::Waiting;
    let tried = kept.until("a second try", failed).await;
    let why = tried.last_exit.expect("a reason");
    assert!(why.starts_with("could not be started: write down which process it is: No space left"), "{why}");
    let once = |text: String| text.lines().count() == 1;
    assert!(once(std::fs::read_to_string(&ran).expect("one")), "it ran although nobody could have ended it");
    // With room it comes again, by itself.
    std::fs::remove_dir(&status).expect("removed");
    std::fs::remove_file(&beside).expect("room");
    kept.until("a third", |s| s.phase == Phase::Running).await;
    kept.stop().await;
    assert!(!kept.folder().exists(), "nothing of it stays");
}
