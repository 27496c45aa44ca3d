//! Stories about a switch from one generation to the next, with real processes: what did not change runs on, what has no
//! data changes without a gap, what has data changes with it or not at all, and whoever is killed on the way leaves the
//! old one or the new one.

mod workshop;

use softservice_node::device::{DeviceError, PlanRequest, Standing};
use softservice_protocol::{
    id::ReleaseId,
    io::{Effect, ProvisionInput},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use workshop::{SERVER, Watched, Workshop, forward, get, kill, lives, seen, written};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}
#[test]
fn server_part() {
    workshop::play_server();
}

/// A shelf: a role with data beside a page without. The parts of a release that stories change.
#[derive(Clone)]
struct Shelf {
    version: &'static str,
    epoch: u32,
    /// What the database does with its data, `$1`, before it goes on for ever.
    db: &'static str,
    page: String,
    /// A file that the database reads, and what its change does.
    note: (&'static str, &'static str),
    migrate: &'static str,
    /// Further text of the definition.
    more: &'static str,
}

impl Default for Shelf {
    fn default() -> Self {
        let db = "[ -e \"$1/rows\" ] || printf 'one\\ntwo\\n' > \"$1/rows\"";
        let (page, note) = ("hello 1".into(), ("quiet", "nothing"));
        Self { version: "1.0.0", epoch: 1, db, page, note, migrate: "", more: "" }
    }
}

impl Shelf {
    fn page(&self, text: &str) -> Self {
        Self { page: text.into(), ..self.clone() }
    }
    fn release(&self, workshop: &Workshop) -> ReleaseId {
        let Self { version, epoch, db, page, note: (text, on_change), migrate, more } = self;
        let toml = format!(
            r#"format = 1
[distro]
name = "shelf"
version = "{version}"
epoch = {epoch}
[role.data.artifact]
bin = {{ tree = "bin" }}
[role.data.volume]
rows = {{ backup = "copy" }}
[role.data.file]
note = {{ template = "note", on_change = "{on_change}" }}
[role.data.service.db]
command = ["${{artifact.bin}}/db", "${{volume.rows}}", "${{files}}/note"]
healthcheck = {{ exec = ["/bin/sh", "-c", "[ -e ${{volume.rows}}/rows ] && [ ! -e ${{volume.rows}}/sick ]"], interval = "100ms", timeout = "5s", start_period = "3s", retries = 3 }}
[role.web.artifact]
site = {{ tree = "site" }}
[role.web.service.page]
command = [{SERVER}, "${{artifact.site}}", "${{port.http}}"]
healthcheck = {{ http = ":${{port.http}}/", interval = "100ms", timeout = "5s", start_period = "3s", retries = 3 }}
stop_grace_period = "5s"
[role.web]
export.page = {{ type = "http/1", port = "http" }}
[test]
greets = {{ on = "web", http = "${{web.page.url}}/", status = 200, contains = "hello", within = "5s" }}
[update]
settle = "100ms"
{migrate}
{more}"#
        );
        let db = format!("#!/bin/sh\n{db}\nexec sleep 100000\n");
        workshop.release(&toml, &[("bin/db", &db), ("site/index.html", page), ("note", text)])
    }
}

const NAME: &str = "shelf";

async fn pids(workshop: &Workshop) -> BTreeMap<String, i32> {
    let services = workshop.device.info(NAME).await.expect("a softservice").services;
    services.into_iter().map(|s| (s.name, s.pid.expect("a process"))).collect()
}
fn data(workshop: &Workshop) -> PathBuf {
    workshop.softservice(NAME).join("volumes/data.rows")
}
fn snapshots(workshop: &Workshop) -> Vec<String> {
    let entries = std::fs::read_dir(workshop.softservice(NAME).join("snapshots")).expect("snapshots");
    entries.map(|e| e.expect("entry").file_name().into_string().expect("a name")).collect()
}
/// The process of the front's or a keeper's folder.
fn keeper(workshop: &Workshop, folder: &str) -> i32 {
    let status = workshop.softservice(NAME).join("run").join(folder).join("status.json");
    let status: serde_json::Value = serde_json::from_slice(&std::fs::read(status).expect("a status")).expect("JSON");
    status["keeper"].as_i64().expect("a number") as i32
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_change_runs_on_over_many_generations() {
    let mut workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let (first, url) = (pids(&workshop).await, workshop.url(NAME).await);
    let plan = workshop.device.plan(&PlanRequest::new(NAME, shelf.page("hello 2").release(&workshop))).await;
    let steps: Vec<(String, String)> = plan.expect("a plan").steps.into_iter().map(|s| (s.kind, s.what)).collect();
    for step in [("keep", "db"), ("beside", "page"), ("retire", "page")] {
        assert!(steps.iter().any(|(k, w)| (k.as_str(), w.as_str()) == step), "{step:?} is missing: {steps:?}");
    }
    assert!(steps.iter().all(|(kind, _)| kind != "stop" && kind != "snapshot"), "{steps:?}");
    // More than are kept: the folder out of which the database runs must outlast them.
    for generation in 2..=13 {
        let page = shelf.page(&format!("hello {generation}"));
        workshop.up(NAME, page.release(&workshop)).await.expect("updated");
        let now = pids(&workshop).await;
        assert_eq!(now["db"], first["db"], "the database runs on");
        assert_ne!(now["page"], first["page"]);
        assert_eq!(get(&url).expect("an answer").1, page.page);
    }
    assert!(!lives(first["page"]), "what was replaced has ended");
    let here: Vec<u32> =
        workshop.device.generations(NAME).await.expect("all").iter().map(|g| g.record.generation).collect();
    let kept: Vec<u32> = [1].into_iter().chain(4..=13).collect();
    assert_eq!(here, kept, "generation 1 is still run from");
    assert!(snapshots(&workshop).is_empty(), "no data was touched");
    let mut logs = workshop.device.logs(NAME, Some("db"), false).await.expect("its log is found");
    assert!(logs.next().await.expect("readable").is_some_and(|l| l.line.contains("started as process")));

    // The next life of the node finds it where it runs.
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert_eq!(pids(&workshop).await["db"], first["db"]);
    // A monitor of that life brings it back, too.
    let mut watched = Watched::new(&workshop.softservice(NAME).join("run/1/db"));
    kill(keeper(&workshop, "1/db"));
    let next = watched
        .until("another database", async || {
            let info = workshop.device.info(NAME).await.ok()?;
            let db = info.services.into_iter().find(|s| s.name == "db")?;
            db.pid.filter(|pid| *pid != first["db"] && db.state == "running")
        })
        .await;
    assert!(lives(next) && !lives(first["db"]));
    workshop.device.down(NAME).await.expect("down");
    assert!(!lives(next) && get(&url).is_err());
    workshop.device.start(NAME).await.expect("started");
    assert_eq!(get(&url).expect("an answer").1, "hello 13");
    workshop.device.remove(NAME, true).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_of_a_page_drops_nobody() {
    let workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let url = workshop.url(NAME).await;
    let (over, failed, answered) =
        (Arc::new(AtomicBool::default()), Arc::new(AtomicUsize::default()), Arc::new(AtomicUsize::default()));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (over, failed, answered) = (Arc::clone(&over), Arc::clone(&failed), Arc::clone(&answered));
            let url = url.clone();
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match get(&url) {
                        Ok((200, text)) if !text.is_empty() => answered.fetch_add(1, Ordering::Relaxed),
                        other => {
                            eprintln!("a visitor got {other:?}");
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    for generation in 2..=4 {
        let page = shelf.page(&format!("hello {generation}"));
        workshop.up(NAME, page.release(&workshop)).await.expect("updated");
        assert_eq!(get(&url).expect("an answer").1, page.page, "once it is confirmed, all see it");
    }
    // Healthy, but its test does not pass: the fronts are turned forth and back.
    let (effect, _) = workshop.up(NAME, shelf.page("good bye").release(&workshop)).await.expect_err("refused");
    assert_eq!(effect, Effect::Confirm);
    assert_eq!(get(&url).expect("an answer").1, "hello 4");
    over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().expect("a visitor");
    }
    assert!(answered.load(Ordering::Relaxed) > 50, "they came all the time");
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_update_leaves_data_as_it_was() {
    let workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    std::fs::create_dir_all(data(&workshop).join("deep/er")).expect("folders");
    std::fs::write(data(&workshop).join("deep/er/file"), "kept").expect("file");
    std::fs::hard_link(data(&workshop).join("deep/er/file"), data(&workshop).join("again")).expect("a link");
    std::os::unix::fs::symlink("deep", data(&workshop).join("short")).expect("a link");
    let (before, url, first) = (seen(&data(&workshop)), workshop.url(NAME).await, pids(&workshop).await);
    let bad = Shelf {
        version: "2.0.0",
        db: "echo three >> \"$1/rows\"; rm -r \"$1/deep\"; echo x > \"$1/sick\"; chmod 700 \"$1/again\"",
        ..shelf.page("hello 2")
    };
    let plan = workshop.device.plan(&PlanRequest::new(NAME, bad.release(&workshop))).await.expect("a plan");
    let step = plan.steps.iter().find(|s| s.kind == "snapshot").expect("data is kept");
    assert!(step.what == "data.rows" && step.bytes.is_some_and(|b| b > 0), "{step:?}");
    let away: Vec<(&str, bool)> = plan.downtimes.iter().map(|d| (d.service.as_str(), d.away)).collect();
    assert_eq!(away, [("db", true), ("page", false)]);
    let (effect, why) = workshop.up(NAME, bad.release(&workshop)).await.expect_err("refused");
    assert!(matches!(effect, Effect::Start | Effect::Confirm), "{effect:?}");
    assert!(why.contains("service db is not healthy"), "{why}");
    assert_eq!(seen(&data(&workshop)), before, "bit by bit");
    assert!(snapshots(&workshop).is_empty(), "and nothing is left beside");
    assert_eq!(get(&url).expect("an answer").1, "hello 1");
    assert_eq!(pids(&workshop).await["page"], first["page"], "the page served all the time");
    assert_eq!(workshop.device.info(NAME).await.expect("listed").state, "running");
    let good = Shelf { version: "2.0.1", db: "echo three >> \"$1/rows\"", ..shelf };
    workshop.up(NAME, good.release(&workshop)).await.expect("a new one may replace a failed one");
    assert!(snapshots(&workshop).is_empty(), "no longer needed");
}

/// Carries rows over to a layout where they are in capitals.
const MIGRATE: &str = r#"migrate = { from_epoch = 1, on = "data", exec = ["/bin/sh", "-c", "tr a-z A-Z < ${volume.rows}/rows > ${volume.rows}/new && mv ${volume.rows}/new ${volume.rows}/rows"] }"#;
const BAD_MIGRATE: &str = r#"migrate = { from_epoch = 1, on = "data", exec = ["/bin/sh", "-c", "rm ${volume.rows}/rows; echo no such column >&2; exit 3"] }"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_is_carried_over_and_comes_back_only_whole() {
    let workshop = Workshop::new();
    let shelf = Shelf::default();
    let rows = || std::fs::read_to_string(data(&workshop).join("rows")).expect("rows");
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let before = seen(&data(&workshop));

    let broken = Shelf { version: "2.0.0", epoch: 2, migrate: BAD_MIGRATE, ..shelf.clone() };
    let (effect, why) = workshop.up(NAME, broken.release(&workshop)).await.expect_err("refused");
    assert_eq!(effect, Effect::Migrate);
    assert!(why.contains("ended with 3: ") && why.contains("no such column"), "{why}");
    assert_eq!(seen(&data(&workshop)), before);
    let words = workshop.device.last_words(NAME, 2, 10).await.expect("logs");
    assert!(words.iter().any(|l| l.service == "migrate@" && l.line == "no such column"), "{words:?}");

    // A migration that failed does not stand in the way of its mending.
    let second = Shelf { version: "2.0.1", epoch: 2, migrate: MIGRATE, ..shelf.page("hello 2") };
    workshop.up(NAME, second.release(&workshop)).await.expect("carried over");
    assert_eq!(rows(), "ONE\nTWO\n");
    assert_eq!(snapshots(&workshop), ["1"], "the old data is kept with its generation");
    std::fs::write(data(&workshop).join("rows"), "ONE\nTWO\nTHREE\n").expect("new data");

    // An epoch further, and nothing leads there from here.
    let far = Shelf { version: "4.0.0", epoch: 4, migrate: MIGRATE, ..shelf.clone() };
    let refused = workshop.device.plan(&PlanRequest::new(NAME, far.release(&workshop))).await.expect_err("refused");
    assert!(matches!(refused, DeviceError::NoMigration { from: 2, to: 4, .. }), "{refused}");
    let back = workshop.device.plan(&PlanRequest::new(NAME, shelf.release(&workshop))).await.expect_err("refused");
    assert!(matches!(back, DeviceError::Epoch { old: 1, now: 2, .. }), "code alone never meets newer data: {back}");

    let request = workshop.device.rollback_request(NAME, Some(1)).await.expect("with its data");
    assert_eq!(request.restore, Some(1));
    let plan = workshop.device.plan(&request).await.expect("a plan");
    let step = plan.steps.iter().find(|s| s.kind == "restore").expect("data comes back");
    assert!(step.detail.contains("what was written since leaves the service"), "{step:?}");
    let (generation, previous) = workshop.device.prepare(&request, Some(&plan.hash)).await.expect("prepared");
    workshop.live(&generation, previous).await.expect("rolled back");
    assert_eq!(rows(), "one\ntwo\n");
    let mut kept = snapshots(&workshop);
    kept.sort();
    assert_eq!(kept, ["1", "3"], "what was there is kept, too");

    // And forward again, to what was written there.
    let request = workshop.device.rollback_request(NAME, Some(3)).await.expect("forward");
    let (generation, previous) = workshop.device.prepare(&request, None).await.expect("prepared");
    workshop.live(&generation, previous).await.expect("forward again");
    assert_eq!(rows(), "ONE\nTWO\nTHREE\n");

    std::fs::remove_dir_all(workshop.softservice(NAME).join("snapshots/1")).expect("lost");
    std::fs::remove_dir_all(workshop.softservice(NAME).join("snapshots/4")).expect("lost");
    let refused = workshop.device.rollback_request(NAME, Some(1)).await.expect_err("refused");
    assert!(matches!(refused, DeviceError::Epoch { number: 1, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_change_does_nothing_is_renewed_under_the_running_service() {
    let workshop = Workshop::new();
    let shelf = Shelf { db: "echo ready > \"$1/rows\"; cat \"$2\" > \"$1/seen\"", ..Shelf::default() };
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let (first, file) = (pids(&workshop).await, workshop.softservice(NAME).join("generations/1/files/data/note"));
    assert_eq!(written(&data(&workshop).join("seen")).await, "quiet");
    let louder = Shelf { version: "1.1.0", note: ("louder", "nothing"), ..shelf.clone() };
    workshop.up(NAME, louder.release(&workshop)).await.expect("updated");
    assert_eq!(pids(&workshop).await, first, "nothing of it is replaced");
    assert_eq!(std::fs::read_to_string(&file).expect("the file it reads"), "louder");
    let bad = Shelf { version: "1.2.0", note: ("loudest", "nothing"), ..shelf.page("good bye") };
    let (effect, _) = workshop.up(NAME, bad.release(&workshop)).await.expect_err("refused");
    assert_eq!(effect, Effect::Confirm);
    assert_eq!(std::fs::read_to_string(&file).expect("the file it reads"), "louder", "as it was");
    let other = Shelf { version: "1.3.0", note: ("other", "restart"), ..shelf };
    workshop.up(NAME, other.release(&workshop)).await.expect("updated");
    assert_ne!(pids(&workshop).await["db"], first["db"]);
    assert_eq!(written(&data(&workshop).join("seen")).await, "other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_gone_serves_until_the_commit() {
    let workshop = Workshop::new();
    let more = "[role.side.artifact]\nsite = { tree = \"site\" }\n[role.side.service.side]\ncommand = [\"/bin/sleep\", \"100000\"]\n";
    let shelf = Shelf { more, ..Shelf::default() };
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let side = pids(&workshop).await["side"];
    let without = Shelf { more: "", ..shelf.page("good bye") };
    workshop.up(NAME, without.release(&workshop)).await.expect_err("its test fails");
    assert_eq!(pids(&workshop).await["side"], side, "it was never touched");
    workshop.up(NAME, without.page("hello 2").release(&workshop)).await.expect("updated");
    assert!(!lives(side));
    assert!(!pids(&workshop).await.contains_key("side"));
}

/// What may be killed together with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Nobody,
    Keepers,
    Front,
    All,
}

/// Kills those of these generations that die with the node.
fn strike(workshop: &Workshop, killed: Killed, generations: [u32; 2]) {
    let run = workshop.softservice(NAME).join("run");
    if matches!(killed, Killed::Keepers | Killed::All) {
        for number in generations {
            for entry in std::fs::read_dir(run.join(number.to_string())).into_iter().flatten().flatten() {
                kill(keeper(workshop, &format!("{number}/{}", entry.file_name().display())));
            }
        }
    }
    if matches!(killed, Killed::Front | Killed::All) && run.join("front").exists() {
        kill(keeper(workshop, "front"));
    }
}

/// An update of both roles, cut off behind each step; `killed` die with the node. In the end it is the old one or the new
/// one, with its data.
async fn cut_off_everywhere(killed: Killed) {
    let mut workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let url = workshop.url(NAME).await;
    let mut before = (shelf.page.clone(), seen(&data(&workshop)));
    let all: Vec<Effect> = forward(Some(1)).collect();
    for (at, last) in all.iter().enumerate() {
        let db = "grep -q more \"$1/rows\" || echo more >> \"$1/rows\"";
        let next = Shelf { db, note: ("changed", "restart"), ..shelf.page(&format!("hello {at} again")) };
        // Each differs from the last that was confirmed in both roles.
        let next = Shelf { version: if at % 2 == 0 { "1.1.0" } else { "1.2.0" }, ..next };
        let (generation, previous) = workshop.prepare(NAME, next.release(&workshop)).await;
        for effect in &all[..=at] {
            workshop.perform(&generation, previous, *effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
        }
        workshop.restart();
        strike(&workshop, killed, [generation.number, previous.unwrap_or(1)]);
        let told = workshop.device.recover().await;
        if *last == Effect::Commit {
            assert!(told.is_empty(), "a committed life is over: {told:?}");
            let rows = data(&workshop).join("rows");
            let changed =
                async || Some(()).filter(|()| std::fs::read_to_string(&rows).is_ok_and(|r| r.contains("more")));
            Watched::new(&data(&workshop)).until("the new one's rows", changed).await;
            before = (next.page.clone(), seen(&data(&workshop)));
        } else {
            let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{last:?}: {told:?}") };
            assert_eq!((step.effect, &step.generation), (*last, &generation));
            workshop.go_back(&generation, previous, *last).await;
            let failed = workshop.device.generations(NAME).await.expect("all");
            assert!(
                failed.iter().any(|g| g.record.generation == generation.number && g.record.state == Standing::Failed)
            );
        }
        assert_eq!(get(&url).expect("an answer").1, before.0, "cut off behind {last:?}, {killed:?} killed");
        assert_eq!(seen(&data(&workshop)), before.1, "cut off behind {last:?}, {killed:?} killed");
        // Killed keepers may still be on their way back.
        workshop.device.start(NAME).await.expect("all of it runs");
        assert_eq!(workshop.device.info(NAME).await.expect("listed").state, "running", "{last:?}");
        assert!(snapshots(&workshop).is_empty(), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_at_any_step_leaves_old_or_new() {
    cut_off_everywhere(Killed::Nobody).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_with_its_keepers_at_any_step_leaves_old_or_new() {
    cut_off_everywhere(Killed::Keepers).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_with_its_front_at_any_step_leaves_old_or_new() {
    cut_off_everywhere(Killed::Front).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_step_leaves_old_or_new() {
    cut_off_everywhere(Killed::All).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_back_may_be_cut_off_at_any_step_too() {
    cut_off_the_way_back(Killed::Nobody).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_back_may_be_cut_off_by_a_power_cut_too() {
    cut_off_the_way_back(Killed::All).await;
}

/// The journal of a life whose last step was announced and not done: as if it had been cut off just then.
fn announced(workshop: &Workshop, done: &str, next: &str) {
    let path = workshop.softservice(NAME).join("journal");
    let journal = std::fs::read_to_string(&path).expect("a journal");
    let (_, last) = journal.lines().last().and_then(|l| l.split_once(' ')).expect("a line");
    let line = last.replace(&format!("\"{done}\""), &format!("\"{next}\"")).replace("\"done\"", "\"begun\"");
    assert!(line.contains(next) && line.contains("begun"), "{last}");
    let sum = &blake3::hash(line.as_bytes()).to_hex()[..16];
    std::fs::write(path, format!("{journal}{sum} {line}\n")).expect("written");
}

async fn cut_off_the_way_back(killed: Killed) {
    use Effect::*;
    let mut workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let (url, before) = (workshop.url(NAME).await, seen(&data(&workshop)));
    for cut in [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed] {
        let bad = Shelf { db: "echo x > \"$1/rows\"; echo y > \"$1/new\"", ..shelf.page("hello bad") };
        let (generation, previous) = workshop.prepare(NAME, bad.release(&workshop)).await;
        for effect in forward(previous).take_while(|e| *e != Confirm) {
            workshop.perform(&generation, previous, effect).await.expect("a step");
        }
        for effect in [HandBack, StopNew, RestoreData, PointBack, StartPrevious].into_iter().take_while(|e| *e <= cut) {
            workshop.perform(&generation, previous, effect).await.expect("a step back");
        }
        if cut == MarkFailed {
            announced(&workshop, "start_previous", "mark_failed");
        }
        workshop.restart();
        strike(&workshop, killed, [generation.number, previous.unwrap_or(1)]);
        let told = workshop.device.recover().await;
        let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{cut:?}: {told:?}") };
        assert_eq!(step.effect, cut);
        workshop.go_back(&generation, previous, cut).await;
        let info = workshop.device.info(NAME).await.expect("listed");
        assert!(info.services.iter().all(|s| s.state != "stopped"), "{cut:?}: {info:?}");
        // They were started; here somebody waits until they are healthy.
        workshop.device.start(NAME).await.expect("all of it runs");
        assert_eq!(get(&url).expect("an answer").1, "hello 1", "{cut:?}");
        assert_eq!(seen(&data(&workshop)), before, "{cut:?}");
        assert_eq!(workshop.device.info(NAME).await.expect("listed").state, "running", "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_life_and_of_the_way_back_may_be_repeated() {
    use Effect::*;
    let workshop = Workshop::new();
    let shelf = Shelf { version: "1.0.0", ..Shelf::default() };
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let before = seen(&data(&workshop));
    let twice = async |effects: &[Effect], of: &softservice_protocol::io::Generation, previous| {
        for effect in effects {
            for _ in 0..2 {
                workshop.perform(of, previous, *effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
            }
        }
    };
    let next = Shelf { version: "2.0.0", epoch: 2, migrate: MIGRATE, ..shelf.page("hello 2") };
    let (generation, previous) = workshop.prepare(NAME, next.release(&workshop)).await;
    let forth: Vec<Effect> = forward(previous).filter(|e| *e != Commit).collect();
    twice(&forth, &generation, previous).await;
    assert_eq!(std::fs::read_to_string(data(&workshop).join("rows")).expect("rows"), "ONE\nTWO\n");
    twice(&[HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed], &generation, previous).await;
    assert_eq!(seen(&data(&workshop)), before);
    let (generation, previous) = workshop.prepare(NAME, next.release(&workshop)).await;
    twice(&forward(previous).collect::<Vec<_>>(), &generation, previous).await;
    assert_eq!(get(&workshop.url(NAME).await).expect("an answer").1, "hello 2");
    assert_eq!(workshop.device.info(NAME).await.expect("listed").state, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_front_comes_back_and_the_next_node_finds_it() {
    let mut workshop = Workshop::new();
    workshop.up(NAME, Shelf::default().release(&workshop)).await.expect("installed");
    let (url, first) = (workshop.url(NAME).await, keeper(&workshop, "front"));
    let mut watched = Watched::new(&workshop.softservice(NAME).join("run/front"));
    kill(first);
    let next = watched
        .until("another front", async || {
            let running = workshop.device.info(NAME).await.ok()?.state == "running";
            Some(keeper(&workshop, "front")).filter(|now| running && *now != first)
        })
        .await;
    assert_eq!(get(&url).expect("an answer").1, "hello 1");
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert_eq!(keeper(&workshop, "front"), next, "adopted, not started again");
    assert_eq!(get(&url).expect("an answer").1, "hello 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_takes_what_the_definition_says_even_when_files_are_damaged() {
    let workshop = Workshop::new();
    let more = "[role.cache.volume]\nscratch = { backup = \"none\", keep_on_remove = false }\n[role.cache.service.cache]\ncommand = [\"/bin/sleep\", \"100000\"]\n";
    let shelf = Shelf { more, ..Shelf::default() };
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    let (home, all) = (workshop.softservice(NAME), pids(&workshop).await);
    assert!(home.join("volumes/cache.scratch").is_dir());
    for file in ["state.json", "generations/1/instance.json", "ports.json"] {
        std::fs::write(home.join(file), "{ torn").expect("damaged");
    }
    assert_eq!(workshop.device.list().await.expect("a list")[0].state, "damaged");
    workshop.device.remove(NAME, false).await.expect("removed");
    assert!(all.values().all(|pid| !lives(*pid)), "nothing of it runs on");
    assert!(home.join("volumes/data.rows/rows").exists(), "data stays");
    assert!(!home.join("volumes/cache.scratch").exists(), "what goes with it has gone");
    assert!(workshop.device.list().await.expect("a list").is_empty());

    // What is left is of epoch 1: a release that reads another is told so before it starts.
    let newer = Shelf { version: "2.0.0", epoch: 2, migrate: MIGRATE, ..Shelf::default() };
    let refused = workshop.device.plan(&PlanRequest::new(NAME, newer.release(&workshop))).await.expect_err("refused");
    assert!(matches!(refused, DeviceError::LeftData { there: 1, wanted: 2, .. }), "{refused}");
    workshop.up(NAME, Shelf::default().release(&workshop)).await.expect("installed again, on its data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_cut_off_is_finished() {
    let mut workshop = Workshop::new();
    workshop.up(NAME, Shelf::default().release(&workshop)).await.expect("installed");
    let (home, all) = (workshop.softservice(NAME), pids(&workshop).await);
    // As a removal without data begins, and not one step further.
    std::fs::write(home.join("removal.json"), "{ \"data\": false }").expect("begun");
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert!(all.values().all(|pid| !lives(*pid)));
    assert!(home.join("volumes/data.rows/rows").exists() && !home.join("generations").exists());
    assert!(workshop.device.list().await.expect("a list").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_again_blocks_no_mending() {
    use Effect::*;
    let workshop = Workshop::new();
    let shelf = Shelf::default();
    workshop.up(NAME, shelf.release(&workshop)).await.expect("installed");
    // The old one will not come up again, and the new one fails.
    std::fs::write(data(&workshop).join("sick"), "").expect("sick");
    let bad = Shelf { db: "exit 1", ..shelf.clone() };
    let (generation, previous) = workshop.prepare(NAME, bad.release(&workshop)).await;
    for effect in forward(previous).take_while(|e| *e != Start) {
        workshop.perform(&generation, previous, effect).await.expect("a step");
    }
    workshop.perform(&generation, previous, Start).await.expect_err("it ends at once");
    for effect in [HandBack, StopNew, RestoreData, PointBack] {
        workshop.perform(&generation, previous, effect).await.expect("a step back");
    }
    for _ in 0..3 {
        workshop.perform(&generation, previous, StartPrevious).await.expect_err("it stays sick");
    }
    let info = workshop.device.info(NAME).await.expect("listed");
    assert_eq!((info.generation, info.state.as_str()), (1, "running"), "its process is there");
    std::fs::remove_file(data(&workshop).join("sick")).expect("mended");
    workshop.up(NAME, shelf.page("hello 2").release(&workshop)).await.expect("nothing is in the way");
    assert_eq!(get(&workshop.url(NAME).await).expect("an answer").1, "hello 2");
}
