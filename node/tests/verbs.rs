//! Stories about what an owner asks of a softservice that is here: `start`, `down`, `hold`, as often as they like.

mod workshop;

use softservice_node::device::{DeviceError, ServiceInfo};
use softservice_protocol::{id::ReleaseId, io::Effect};
use std::path::PathBuf;
use workshop::{Watched, Workshop, lives, written};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}

/// A shell script as a service with data, and one beside it that never ends.
fn pair(workshop: &Workshop, text: &str, restart: &str) -> ReleaseId {
    let toml = format!(
        r#"format = 1
[distro]
name = "pair"
version = "1.0.0"
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.job]
command = ["${{artifact.bin}}/job", "${{volume.data}}"]
restart = "{restart}"
[role.main.service.rest]
command = ["/bin/sleep", "1000"]
[update]
settle = "100ms"
"#
    );
    workshop.release(&toml, &[("bin/job", text)])
}

/// Runs until it is told how to end; tells each run.
const ENDS: &str = "#!/bin/sh\necho run >> \"$1/runs\"\nwhile [ ! -e \"$1/end\" ]; do sleep 0.05; done\n\
                    code=$(cat \"$1/end\")\nrm \"$1/end\"\nexit $code\n";

async fn service(workshop: &Workshop, name: &str) -> ServiceInfo {
    let info = workshop.device.info("pair").await.expect("listed");
    info.services.into_iter().find(|s| s.name == name).expect("a service")
}

async fn state(workshop: &Workshop) -> String {
    workshop.device.info("pair").await.expect("listed").state
}

fn data(workshop: &Workshop) -> PathBuf {
    workshop.softservice("pair").join("volumes/main.data")
}

/// Lets the job end so, and returns when its keeper says that it is in this state.
async fn end(workshop: &Workshop, code: &str, then: &str) {
    let mut watched = Watched::new(&workshop.softservice("pair").join("run/1/job"));
    let beside = data(workshop).join(".end");
    std::fs::write(&beside, code).expect("write");
    std::fs::rename(beside, data(workshop).join("end")).expect("rename");
    watched.until(then, async || (service(workshop, "job").await.state == then).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_is_started_again_and_what_runs_is_left_alone() {
    let mut workshop = Workshop::new();
    workshop.up("pair", pair(&workshop, ENDS, "no")).await.expect("installed");
    let (first, rest) = (service(&workshop, "job").await, service(&workshop, "rest").await);
    for (code, words) in [("0", "ended with 0"), ("3", "ended with 3")] {
        end(&workshop, code, "exited").await;
        let ended = service(&workshop, "job").await;
        assert_eq!((ended.pid, ended.last_exit.as_deref()), (None, Some(words)));
        assert_eq!(state(&workshop).await, "degraded");
        workshop.device.start("pair").await.expect("started");
        assert_eq!(state(&workshop).await, "running");
        assert_eq!(service(&workshop, "rest").await, rest, "it ran all the time");
    }
    let last = service(&workshop, "job").await;
    assert!(last.pid.is_some() && last.pid != first.pid);
    workshop.device.start("pair").await.expect("started already");
    assert_eq!(service(&workshop, "job").await, last, "a start of what runs starts nothing");
    assert_eq!(written(&data(&workshop).join("runs")).await.lines().count(), 3);
    // A node that comes back finds what has ended for good, and nobody asked it for a start.
    end(&workshop, "0", "exited").await;
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert_eq!(service(&workshop, "job").await.state, "exited");
    workshop.device.start("pair").await.expect("started");
    assert_eq!(state(&workshop).await, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_does_not_wait_for_the_next_try_of_what_crashes() {
    let workshop = Workshop::new();
    let crashes = "#!/bin/sh\necho run >> \"$1/runs\"\nwhile [ ! -e \"$1/end\" ]; do sleep 0.05; done\n\
                   [ -e \"$1/mended\" ] && rm \"$1/end\" && exec sleep 1000\nexit 4\n";
    workshop.up("pair", pair(&workshop, crashes, "always")).await.expect("installed");
    let mut watched = Watched::new(&workshop.softservice("pair").join("run/1/job"));
    std::fs::write(data(&workshop).join("end"), "").expect("write");
    // Far enough that the next try is seconds away.
    let waits = async || {
        let job = service(&workshop, "job").await;
        (job.state == "waiting" && job.restarts >= 4).then_some(())
    };
    watched.until("a long wait", waits).await;
    std::fs::write(data(&workshop).join("mended"), "").expect("write");
    workshop.device.start("pair").await.expect("started");
    let job = service(&workshop, "job").await;
    assert_eq!((job.state.as_str(), job.restarts), ("running", 0), "a start that was asked for counts anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_and_holding_twice_is_stopping_and_holding() {
    let mut workshop = Workshop::new();
    workshop.up("pair", pair(&workshop, ENDS, "no")).await.expect("installed");
    let pid = service(&workshop, "rest").await.pid.expect("a process");
    for _ in 0..2 {
        workshop.device.down("pair").await.expect("stopped");
        assert_eq!(state(&workshop).await, "stopped");
    }
    assert!(!lives(pid));
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert_eq!(state(&workshop).await, "stopped", "it stays so");
    for held in [true, true, false, false] {
        workshop.device.hold("pair", held).await.expect("done");
        assert_eq!(workshop.device.info("pair").await.expect("listed").held, held);
    }
    for _ in 0..2 {
        workshop.device.start("pair").await.expect("started");
        assert_eq!(state(&workshop).await, "running");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_was_confirmed_is_not_started_and_says_why() {
    let workshop = Workshop::new();
    let (effect, _) = workshop.up("pair", pair(&workshop, "#!/bin/sh\nexit 5\n", "no")).await.expect_err("it ends");
    assert!(matches!(effect, Effect::Start | Effect::Confirm), "{effect:?}");
    let refused = workshop.device.start("pair").await.expect_err("nothing is current");
    assert!(matches!(refused, DeviceError::NeverConfirmed { .. }), "{refused}");
    assert!(refused.to_string().contains("pair never was confirmed"), "{refused}");
    workshop.device.down("pair").await.expect("nothing of it runs");
    assert_eq!(state(&workshop).await, "failed");
    let nobody = workshop.device.start("piar").await.expect_err("no such softservice");
    assert!(matches!(nobody, DeviceError::Unknown { .. }), "{nobody}");
}
