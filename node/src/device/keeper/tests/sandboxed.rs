//! The same keepers with children in sandboxes, as this machine can make them: what is asked, told and counted is the
//! service's, not the sandbox's.

use super::{DEADLINE, Kept, Phase, kill, so};
use crate::sandbox::{Machine, Who};
use softservice_protocol::{
    instance::{Sandbox, sandbox::Mount},
    release::{Restart, StopSignal},
    time::Span,
};
use std::path::Path;

fn machine() -> Machine {
    Machine::tried(&super::command(), Path::new("/"))
}

/// A kept service that may use its folder, with the rest of its sandbox.
fn kept(machine: &Machine, script: &str, restart: Restart, sandbox: Sandbox) -> Kept {
    let mut kept = Kept::new(script, restart);
    let data = kept.file("data");
    std::fs::create_dir(&data).expect("a folder");
    let user = machine.own_users().then_some(crate::sandbox::USERS.start + 1);
    if let Some(user) = user {
        std::os::unix::fs::chown(&data, Some(user), Some(user)).expect("given away");
    }
    let sandbox = Sandbox { write: vec![Mount { from: data.display().to_string(), at: "/data".into() }], ..sandbox };
    // Not below the folder that is another place inside.
    let home = Path::new("/home").join(kept.scratch.path().file_name().expect("a name"));
    let who = Who { label: "kept".into(), user, home };
    kept.spec.confinement = Some(machine.confinement(&sandbox, &who));
    kept
}

/// Whether a cgroup of this keeper's is somewhere.
fn group_is_there(keeper: i32) -> bool {
    let listed =
        std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("kept-*.{keeper}")]).output();
    !listed.expect("find runs").stdout.is_empty()
}

/// True where programs are in namespaces; otherwise says loudly what is skipped.
fn sandboxes(machine: &Machine) -> bool {
    if let Some(why) = machine.no_roots() {
        eprintln!("SKIPPED, needs namespaces: {why}");
    }
    machine.no_roots().is_none()
}

#[tokio::test]
async fn the_stop_signal_reaches_the_service_and_its_grace_is_its_own() {
    let machine = machine();
    if !sandboxes(&machine) {
        return;
    }
    let script = "trap 'echo bye > /data/bye; sleep 0.3; echo over > /data/over; exit 5' INT\n\
                  echo up > /data/up\nwhile :; do sleep 0.05; done";
    let mut kept = kept(&machine, script, Restart::Always, Sandbox::default());
    kept.spec.stop_signal = StopSignal::Int;
    kept.start().await;
    so(|| kept.file("data/up").exists()).await;
    let running = kept.until("the program", |s| s.phase == Phase::Running).await;
    let (pid, group) = (running.pid.expect("a process"), running.group.expect("a group"));
    assert_ne!(pid, group, "the service is not its sandbox");
    let cgroup = kept.spec.confinement.as_ref().is_some_and(|c| c.group.is_some());
    assert_eq!(group_is_there(running.keeper), cgroup);
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it lives");
    assert!(line.starts_with(b"/bin/sh\0-c\0trap"), "{}", String::from_utf8_lossy(&line));
    kept.stop().await;
    assert!(kept.file("data/over").exists(), "it had its time");
    assert!(kept.log().contains("stopped: ended with 5"), "{}", kept.log());
    assert!(!Path::new(&format!("/proc/{group}")).exists() && !group_is_there(running.keeper));
}

#[tokio::test]
async fn how_it_ended_is_told_truly() {
    let machine = machine();
    if !sandboxes(&machine) {
        return;
    }
    for (script, words, good) in [
        ("exit 0", "ended with 0", true),
        ("exit 3", "ended with 3", false),
        ("kill -9 $$", "ended with 137 (signal 9)", false),
    ] {
        let kept = kept(&machine, script, Restart::OnFailure, Sandbox::default());
        kept.start().await;
        let over = kept.until(words, |s| s.last_exit.is_some()).await;
        assert_eq!(over.last_exit.as_deref(), Some(words), "{script}");
        assert_eq!(over.phase == Phase::Exited, good, "{script}");
        kept.stop().await;
    }
    let mut missing = kept(&machine, "", Restart::No, Sandbox::default());
    missing.spec.command = vec!["/no/such/program".into()];
    missing.start().await;
    let over = missing.until("the failure", |s| s.last_exit.is_some()).await.last_exit.expect("words");
    assert!(over.starts_with("could not be started: ") && over.contains("/no/such/program"), "{over}");
    missing.stop().await;
}

#[tokio::test]
async fn whoever_is_killed_from_outside_is_told_and_comes_again() {
    let machine = machine();
    if !sandboxes(&machine) {
        return;
    }
    let kept = kept(&machine, "while :; do sleep 0.05; done", Restart::Always, Sandbox::default());
    kept.start().await;
    let pid = kept.until("the program", |s| s.phase == Phase::Running).await.pid.expect("a process");
    kill(pid);
    let again = kept.until("the next start", |s| s.phase == Phase::Running && s.restarts == 1).await;
    assert_eq!(again.last_exit.as_deref(), Some("ended with 137 (signal 9)"));
    // The sandbox itself.
    kill(again.group.expect("a group"));
    let again = kept.until("the next start", |s| s.phase == Phase::Running && s.restarts == 2).await;
    assert_eq!(again.last_exit.as_deref(), Some("ended by signal 9"));
    kept.stop().await;
}

#[tokio::test]
async fn a_memory_hog_is_named_and_its_group_goes() {
    let machine = machine();
    let sandbox = Sandbox { memory: Some(48 << 20), ..Sandbox::default() };
    let limited = machine.isolation([&sandbox].into_iter()).enforced.iter().any(|m| m.starts_with("memory"));
    if !sandboxes(&machine) || !limited {
        eprintln!("SKIPPED, needs a cgroup for memory");
        return;
    }
    // A line that never ends is kept in memory.
    let kept = kept(&machine, "exec tail -n 1 /dev/zero", Restart::No, sandbox);
    kept.start().await;
    let ended = kept.until("the end", |s| s.last_exit.is_some()).await;
    let over = ended.last_exit.expect("words");
    assert!(over.contains("signal 9") && over.contains("out of memory"), "{over}");
    kept.stop().await;
    assert!(!group_is_there(ended.keeper));
}

#[tokio::test]
async fn what_a_killed_keeper_leaves_is_ended_with_its_group() {
    let machine = machine();
    if !sandboxes(&machine) {
        return;
    }
    let mut kept = kept(&machine, "setsid sleep 1000 & wait", Restart::Always, Sandbox::default());
    kept.spec.grace = Span::seconds(1);
    kept.start().await;
    let running = kept.until("the program", |s| s.phase == Phase::Running).await;
    let (keeper, pid) = (running.keeper, running.pid.expect("a process"));
    kill(keeper);
    so(|| !Path::new(&format!("/proc/{pid}")).exists()).await;
    tokio::time::timeout(DEADLINE, super::super::end_leftovers(&kept.folder())).await.expect("in time");
    assert!(!group_is_there(keeper));
    kept.stop().await;
}
