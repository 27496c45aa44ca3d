//! Stories about removals: whoever asks for one gets all of it, however it is cut off, and nothing that came after it.

mod workshop;

use softservice_node::device::{DeviceError, PlanRequest};
use softservice_protocol::{
    id::ReleaseId,
    io::{Effect, ProvisionStep},
};
use std::path::PathBuf;
use workshop::{Watched, Workshop, lives};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}

const NAME: &str = "job";

/// A service with data that goes on until there is a file `go` in it, whatever it is told.
fn job(workshop: &Workshop, version: &str) -> ReleaseId {
    let toml = format!(
        r#"format = 1
[distro]
name = "job"
version = "{version}"
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.job]
command = ["${{artifact.bin}}/job", "${{volume.data}}"]
stop_grace_period = "60s"
[update]
settle = "100ms"
"#
    );
    let text = format!("#!/bin/sh\n# {version}\ntrap '' TERM\nwhile [ ! -e \"$1/go\" ]; do sleep 0.05; done\n");
    workshop.release(&toml, &[("bin/job", &text)])
}

fn data(workshop: &Workshop) -> PathBuf {
    workshop.softservice(NAME).join("volumes/main.data")
}

/// Everything that would make or start something refuses, and says what to do.
async fn refuses_everything(workshop: &Workshop, release: ReleaseId) {
    let device = &workshop.device;
    let refusals = [
        ("start", device.start(NAME).await.err()),
        ("down", device.down(NAME).await.err()),
        ("hold", device.hold(NAME, true).await.err()),
        ("plan", device.plan(&PlanRequest::new(NAME, release)).await.err()),
        ("prepare", device.prepare(&PlanRequest::new(NAME, release), None).await.err()),
        ("turn", device.turn(NAME).err()),
        ("rest", device.at_rest(NAME).err()),
        ("rollback", device.rollback_request(NAME, Some(1)).await.err()),
        ("logs", device.logs(NAME, None, false).await.err()),
    ];
    for (verb, refusal) in refusals {
        let refusal = refusal.unwrap_or_else(|| panic!("{verb} is done to what is being removed"));
        assert!(matches!(&refusal, DeviceError::Removing { name } if name == NAME), "{verb}: {refusal}");
        assert!(refusal.to_string().contains("`softservice remove job` again ends it"), "{refusal}");
    }
    assert_eq!(device.info(NAME).await.expect("shown").state, "removing");
    let listed = device.list().await.expect("a list");
    assert_eq!(listed.iter().map(|i| (i.name.as_str(), i.state.as_str())).collect::<Vec<_>>(), [(NAME, "removing")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_goes_on_when_nobody_waits_for_it_and_nothing_comes_in_between() {
    let workshop = Workshop::new();
    let release = job(&workshop, "1.0.0");
    workshop.up(NAME, release).await.expect("installed");
    let (pid, home) = (workshop.pid(NAME).await, workshop.softservice(NAME));
    let mut above = Watched::new(home.parent().expect("a folder"));
    let mut watched = Watched::new(&home);
    let asked = tokio::spawn({
        let device = workshop.device.clone();
        async move { device.remove(NAME, true).await }
    });
    watched.until("its beginning", async || home.join("removal.json").exists().then_some(())).await;
    asked.abort();
    assert!(asked.await.expect_err("nobody waits any more").is_cancelled());
    refuses_everything(&workshop, job(&workshop, "2.0.0")).await;
    assert!(lives(pid), "it has not been ended yet");
    // Another may wait for its end instead.
    let device = workshop.device.clone();
    let again = tokio::spawn(async move { device.remove(NAME, true).await });
    std::fs::write(data(&workshop).join("go"), "").expect("go");
    above.until("its end", async || (!home.exists()).then_some(())).await;
    again.await.expect("no panic").expect("removed");
    assert!(!lives(pid));
    assert!(matches!(workshop.device.remove(NAME, true).await, Err(DeviceError::Unknown { .. })));
    workshop.up(NAME, release).await.expect("its name is free");
    std::fs::write(data(&workshop).join("go"), "").expect("go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removal_left_waits_for_its_end_and_data_may_still_be_kept() {
    let mut workshop = Workshop::new();
    workshop.up(NAME, job(&workshop, "1.0.0")).await.expect("installed");
    std::fs::write(data(&workshop).join("go"), "").expect("go");
    let home = workshop.softservice(NAME);
    // As a removal with data begins that then fails.
    std::fs::write(home.join("removal.json"), "{ \"data\": true }").expect("begun");
    refuses_everything(&workshop, job(&workshop, "2.0.0")).await;
    workshop.device.remove(NAME, false).await.expect("removed");
    assert!(data(&workshop).join("go").exists(), "the last word counts: data stays");
    assert!(matches!(workshop.device.remove(NAME, false).await, Err(DeviceError::Unknown { .. })));
    workshop.device.remove(NAME, true).await.expect("and goes when that is asked");
    assert!(!home.exists());
    assert!(matches!(workshop.device.remove(NAME, true).await, Err(DeviceError::Unknown { .. })));

    // The next life of the node ends what nobody ended.
    workshop.up(NAME, job(&workshop, "1.0.0")).await.expect("installed");
    std::fs::write(data(&workshop).join("go"), "").expect("go");
    std::fs::write(home.join("removal.json"), "{ \"data\": true }").expect("begun");
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert!(!home.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_a_switch_got_stuck_with_outlives_a_removal() {
    let workshop = Workshop::new();
    workshop.up(NAME, job(&workshop, "1.0.0")).await.expect("installed");
    std::fs::write(data(&workshop).join("precious"), "of 1.0.0").expect("written");
    let (generation, previous) = workshop.prepare(NAME, job(&workshop, "2.0.0")).await;
    std::fs::write(data(&workshop).join("go"), "").expect("go");
    for effect in workshop::forward(previous).take_while(|e| *e <= Effect::Snapshot) {
        workshop.perform(&generation, previous, effect).await.expect("performed");
    }
    std::fs::write(data(&workshop).join("precious"), "spoilt by 2.0.0").expect("written");
    // What keeps the way back from its end is mended when nobody tries it any more.
    let record = workshop.softservice(NAME).join("snapshots/1/snapshot.json");
    let whole = std::fs::read(&record).expect("a record");
    std::fs::write(&record, "{ torn").expect("damaged");
    for _ in 0..3 {
        workshop.perform(&generation, previous, Effect::RestoreData).await.expect_err("its record is damaged");
    }
    assert_eq!(workshop.device.info(NAME).await.expect("it is here").state, "stuck");
    workshop.device.remove(NAME, false).await.expect_err("data would be lost");
    std::fs::write(&record, whole).expect("mended");
    workshop.device.remove(NAME, false).await.expect("removed");
    assert_eq!(std::fs::read_to_string(data(&workshop).join("precious")).expect("data stays"), "of 1.0.0");
    workshop.device.remove(NAME, true).await.expect("and goes");
}

/// What a life waits in for ten minutes, and the effect that does.
fn waits(workshop: &Workshop) -> Vec<(&'static str, Effect, ReleaseId)> {
    let toml = |more: &str| {
        format!(
            r#"format = 1
[distro]
name = "job"
version = "2.0.0"
epoch = 2
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.job]
command = ["${{artifact.bin}}/job", "${{volume.data}}"]
{more}
"#
        )
    };
    let job = ("bin/job", "#!/bin/sh\nexec sleep 600\n");
    let never = ("bin/never", "#!/bin/sh\nsleep 600\n");
    let health =
        "healthcheck = { exec = [\"/bin/false\"], interval = \"1s\", timeout = \"1s\", start_period = \"600s\" }\n";
    let test = "[test]\nlate = { on = \"main\", exec = [\"/bin/false\"], within = \"600s\" }\n";
    let asks = "[test]\nslow = { on = \"main\", exec = [\"/bin/sleep\", \"600\"], within = \"600s\" }\n";
    let settle = "[update]\nsettle = \"600s\"\n";
    let good = "[update]\nsettle = \"100ms\"\nmigrate = { from_epoch = 1, exec = [\"/bin/true\"] }\n";
    let migrate = "[update]\nsettle = \"100ms\"\nmigrate = { from_epoch = 1, exec = [\"${artifact.bin}/never\"] }\n";
    let made = |more: &str| workshop.release(&toml(more), &[job, never]);
    vec![
        (
            "settling",
            Effect::Confirm,
            made(&format!("{settle}migrate = {{ from_epoch = 1, exec = [\"/bin/true\"] }}\n")),
        ),
        ("a test that is tried again", Effect::Confirm, made(&format!("{test}{good}"))),
        ("a test that takes long", Effect::Confirm, made(&format!("{asks}{good}"))),
        ("health", Effect::Start, made(&format!("{health}{good}"))),
        ("a migration", Effect::Migrate, made(migrate)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clearing_waits_for_no_life_that_is_under_way() {
    let count = waits(&Workshop::new()).len();
    for which in 0..count {
        let workshop = Workshop::new();
        let (what, waiting, release) = waits(&workshop).remove(which);
        workshop.up(NAME, job(&workshop, "1.0.0")).await.expect("installed");
        std::fs::write(data(&workshop).join("go"), "").expect("go");
        let (generation, previous) = workshop.prepare(NAME, release).await;
        for effect in workshop::forward(previous).take_while(|e| *e < waiting) {
            workshop.perform(&generation, previous, effect).await.expect("performed");
        }
        let home = workshop.softservice(NAME);
        let mut journal = Watched::new(&home);
        let before = std::fs::read(home.join("journal")).expect("a journal").len();
        let step = ProvisionStep { generation, previous, effect: waiting };
        let life = tokio::spawn({
            let device = workshop.device.clone();
            async move { device.perform(step).await }
        });
        let begun = async || (std::fs::read(home.join("journal")).is_ok_and(|j| j.len() > before)).then_some(());
        journal.until("its step", begun).await;
        let cleared = tokio::time::timeout(workshop::DEADLINE, workshop.device.clear()).await;
        cleared.unwrap_or_else(|_| panic!("{what} holds the end up")).expect("cleared");
        let why = life.await.expect("no panic").expect_err("it was cut off");
        assert!(why.contains("everything here is being removed"), "{what}: {why}");
        assert!(!home.exists(), "{what}");
    }
}
