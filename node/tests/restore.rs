//! Stories about backups that come back, with real processes: over what runs, over what was left, on a device that never saw
//! them; and whoever is killed on the way leaves what was there or what was backed up, whole.

mod workshop;

use softservice_node::device::{BackupRequest, DeviceError, Keys, PlanRequest, Restore, Standing, VolumeSum};
use softservice_protocol::{
    id::ReleaseId,
    io::{Effect, Generation, ProvisionInput},
};
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use workshop::{SERVER, Workshop, forward, get, kill, lives, seen};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}
#[test]
fn server_part() {
    workshop::play_server();
}

const NAME: &str = "shelf";

/// Rows that are copied, a base whose own program writes and reads its backup, a cache that is in none, and a page.
fn release(workshop: &Workshop, version: &str, page: &str) -> ReleaseId {
    let toml = format!(
        r#"format = 1
[distro]
name = "shelf"
version = "{version}"
[secret]
token = {{ generate = "bytes:16", for = ["data"] }}
[role.base.artifact]
bin = {{ tree = "bin" }}
[role.base.volume]
base = {{ backup = "copy" }}
[role.base.service.base]
command = ["${{artifact.bin}}/base", "${{volume.base}}"]
healthcheck = {{ exec = ["/bin/sh", "-c", "[ -e ${{volume.base}}/value ]"], interval = "100ms", timeout = "5s", start_period = "3s", retries = 3 }}
[role.base.hook.backup]
exec = ["/bin/sh", "-c", "cp ${{volume.base}}/value ${{backup}}/dump"]
[role.base.hook.restore]
exec = ["/bin/sh", "-c", "cp ${{backup}}/dump ${{volume.base}}/value"]
[role.data.artifact]
bin = {{ tree = "bin" }}
[role.data.volume]
cache = {{ backup = "none" }}
rows = {{ backup = "copy" }}
[role.data.service.db]
command = ["${{artifact.bin}}/db", "${{volume.rows}}", "${{volume.cache}}"]
secrets = ["token"]
healthcheck = {{ exec = ["/bin/sh", "-c", "[ -e ${{volume.cache}}/warm ]"], interval = "100ms", timeout = "5s", start_period = "3s", retries = 3 }}
[role.web.artifact]
site = {{ tree = "site" }}
[role.web.service.page]
command = [{SERVER}, "${{artifact.site}}", "${{port.http}}"]
healthcheck = {{ http = ":${{port.http}}/", interval = "100ms", timeout = "5s", start_period = "3s", retries = 3 }}
[role.web]
export.page = {{ type = "http/1", port = "http" }}
[test]
greets = {{ on = "web", http = "${{web.page.url}}/", status = 200, contains = "hello", within = "5s", when = ["always"] }}
[update]
settle = "100ms"
"#
    );
    let db = "#!/bin/sh\n[ -e \"$1/rows\" ] || printf 'one\\ntwo\\n' > \"$1/rows\"\n[ -e \"$2/warm\" ] || echo warm > \"$2/warm\"\nexec sleep 100000\n";
    let base = "#!/bin/sh\n[ -e \"$1/value\" ] || echo empty > \"$1/value\"\nexec sleep 100000\n";
    workshop.release(&toml, &[("bin/db", db), ("bin/base", base), ("site/index.html", page)])
}

fn volume(workshop: &Workshop, key: &str) -> PathBuf {
    workshop.softservice(NAME).join("volumes").join(key)
}

/// What an owner would miss: every volume and every secret.
fn all(workshop: &Workshop) -> BTreeMap<PathBuf, String> {
    let home = workshop.softservice(NAME);
    let mut all = seen(&home.join("volumes"));
    all.extend(seen(&home.join("secrets")));
    all
}

/// What a backup brings back: rows, the base's value and the secret.
fn brought(workshop: &Workshop) -> (BTreeMap<PathBuf, String>, String, String) {
    let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = volume(workshop, "data.rows");
    let below = |path: PathBuf| path.strip_prefix(&rows).expect("below").to_owned();
    // The softservice's own user has another number on another device.
    let own = std::fs::metadata(rows.join("rows")).map(|m| format!("({0}, {0})", m.uid())).expect("the service's own");
    let files = seen(&rows).into_iter().map(|(path, facts)| (below(path), facts.replace(&own, "own"))).collect();
    let secret = workshop.softservice(NAME).join("secrets/token");
    (files, read(volume(workshop, "base.base").join("value")), read(secret))
}

/// A shelf with data that no program would make again, and its backup.
struct Rescued {
    file: PathBuf,
    key: PathBuf,
    sums: BTreeMap<String, VolumeSum>,
    facts: (BTreeMap<PathBuf, String>, String, String),
    _scratch: tempfile::TempDir,
}

async fn rescued(workshop: &Workshop) -> Rescued {
    workshop.up(NAME, release(workshop, "1.0.0", "hello 1")).await.expect("installed");
    let rows = volume(workshop, "data.rows");
    std::fs::create_dir(rows.join("deep")).expect("a folder");
    std::fs::write(rows.join("deep/file"), vec![7; 300_000]).expect("a file");
    std::fs::hard_link(rows.join("deep/file"), rows.join("again")).expect("a link");
    std::os::unix::fs::symlink("deep", rows.join("short")).expect("a link");
    std::fs::write(volume(workshop, "base.base").join("value"), "precious\n").expect("a value");
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("shelf.softbackup");
    let request = BackupRequest { name: NAME.into(), file: file.clone(), witness: true, ..BackupRequest::default() };
    let record = workshop.device.backup(request, Arc::new(|_, _, _| {})).await.expect("a backup");
    assert_eq!(record.sums.keys().collect::<Vec<_>>(), ["data.rows"], "the only volume that goes in as it is");
    assert!(!workshop.softservice(NAME).join("backup").exists(), "nothing is left beside");
    let key = scratch.path().join("key");
    std::fs::copy(record.key_file.as_ref().expect("the home's own key"), &key).expect("kept elsewhere");
    Rescued { file, key, sums: record.sums, facts: brought(workshop), _scratch: scratch }
}

impl Rescued {
    /// What a restore asks for, its file verified and unpacked.
    async fn request(&self, workshop: &Workshop, replace: bool) -> Result<PlanRequest, DeviceError> {
        request_of(workshop, &self.file, &self.key, replace, self.sums.clone()).await
    }

    async fn prepare(&self, workshop: &Workshop) -> (Generation, Option<u32>) {
        let request = self.request(workshop, true).await.expect("a sound backup");
        let plan = workshop.device.plan(&request).await.expect("a plan");
        assert!(plan.steps.iter().any(|s| (s.kind.as_str(), s.what.as_str()) == ("restore", "data.rows")), "{plan:?}");
        workshop.device.prepare(&request, Some(&plan.hash)).await.expect("a generation")
    }
}

async fn request_of(
    workshop: &Workshop,
    file: &Path,
    key: &Path,
    replace: bool,
    expect: BTreeMap<String, VolumeSum>,
) -> Result<PlanRequest, DeviceError> {
    let keys = Keys { identity_file: Some(key.to_owned()), ..Keys::default() };
    let restore = Restore { name: NAME.into(), file: file.to_owned(), keys, replace, expect };
    let unpacked = workshop.device.unpack(restore, Arc::new(|_, _, _| {}), |_| Ok(())).await?;
    let (answers, release) = (unpacked.header.answers.iter().cloned().collect(), unpacked.header.release.id);
    let overlay = Some(unpacked.overlay.clone());
    let backup = Some(Arc::new(unpacked));
    Ok(PlanRequest { answers, exact: true, overlay, backup, ..PlanRequest::new(NAME, release) })
}

/// Another release, and data that came since the backup: what a restore over it would put away.
async fn moved_on(workshop: &Workshop) {
    workshop.up(NAME, release(workshop, "2.0.0", "hello 2")).await.expect("updated");
    let rows = volume(workshop, "data.rows");
    std::fs::remove_dir_all(rows.join("deep")).expect("removed");
    std::fs::write(rows.join("rows"), "newer\n").expect("rows");
    std::fs::write(volume(workshop, "base.base").join("value"), "newer\n").expect("a value");
}

/// Nothing of a restore lies about, neither plain data nor old secrets.
fn nothing_left(workshop: &Workshop) {
    let home = workshop.softservice(NAME);
    let list = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(list(&home.join("snapshots")), Vec::<String>::new());
    assert!(!home.join("secrets.before").exists() && !home.join("backup").exists());
    let hidden = |folder: &Path| list(folder).into_iter().filter(|n| n.starts_with('.')).collect::<Vec<_>>();
    assert_eq!(hidden(&home.join("volumes")), Vec::<String>::new());
    assert_eq!(hidden(home.parent().expect("softservices")), Vec::<String>::new());
    for generation in list(&home.join("generations")) {
        assert!(!home.join("generations").join(&generation).join("restore").exists(), "in generation {generation}");
    }
}

/// Who dies with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Nobody,
    All,
}

/// Kills all keepers, and the front.
fn kill_with(killed: Killed, workshop: &Workshop) {
    if killed == Killed::Nobody {
        return;
    }
    let below = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let run = workshop.softservice(NAME).join("run");
    let folders: Vec<PathBuf> = below(run.clone()).flat_map(below).chain([run.join("front")]).collect();
    for folder in folders {
        let Ok(status) = std::fs::read(folder.join("status.json")) else { continue };
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        kill(status["keeper"].as_i64().expect("a number") as i32);
    }
}

/// A restore over a newer generation that runs, cut off behind each step.
async fn over_what_runs(killed: Killed) {
    let mut workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    moved_on(&workshop).await;
    for last in forward(Some(1)) {
        let (url, before) = (workshop.url(NAME).await, all(&workshop));
        let (generation, previous) = backup.prepare(&workshop).await;
        for effect in forward(previous).take_while(|e| *e <= last) {
            workshop.perform(&generation, previous, effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
        }
        workshop.restart();
        kill_with(killed, &workshop);
        let told = workshop.device.recover().await;
        if last == Effect::Commit {
            assert!(told.is_empty(), "a committed life is over: {told:?}");
            workshop.device.start(NAME).await.expect("all of it runs");
            assert_eq!(brought(&workshop), backup.facts);
            assert_eq!(get(&url).expect("an answer").1, "hello 1");
        } else {
            let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{last:?}: {told:?}") };
            assert_eq!((step.effect, &step.generation), (last, &generation));
            workshop.go_back(&generation, previous, last).await;
            workshop.device.start(NAME).await.expect("all of it runs");
            assert_eq!(all(&workshop), before, "cut off behind {last:?}, {killed:?} killed");
            assert_eq!(get(&url).expect("an answer").1, "hello 2", "cut off behind {last:?}, {killed:?} killed");
        }
        assert_eq!(workshop.device.info(NAME).await.expect("listed").state, "running", "{last:?}");
        nothing_left(&workshop);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_at_any_step_of_a_restore_leaves_what_was_there_or_what_was_backed_up() {
    over_what_runs(Killed::Nobody).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_step_of_a_restore_leaves_what_was_there_or_what_was_backed_up() {
    over_what_runs(Killed::All).await;
}

/// The same where nothing runs: on another device, and over what a removed softservice left.
async fn over_nothing_that_runs(left: bool) {
    let first = Workshop::new();
    let backup = rescued(&first).await;
    for last in forward(None) {
        let mut workshop = Workshop::new();
        let id = release(&workshop, "1.0.0", "hello 1");
        if left {
            workshop.up(NAME, id).await.expect("installed");
            std::fs::write(volume(&workshop, "data.rows").join("rows"), "left\n").expect("rows");
            workshop.device.remove(NAME, false).await.expect("removed");
            let refused = backup.request(&workshop, false).await.expect_err("what is left is not put away unasked");
            assert!(matches!(refused, DeviceError::Occupied { .. }), "{refused}");
        }
        let before = if left { all(&workshop) } else { BTreeMap::new() };
        let (generation, previous) = backup.prepare(&workshop).await;
        assert_eq!(previous, None);
        for effect in forward(None).take_while(|e| *e <= last) {
            workshop.perform(&generation, None, effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
        }
        workshop.restart();
        kill_with(Killed::All, &workshop);
        let told = workshop.device.recover().await;
        if last != Effect::Commit {
            assert!(matches!(&told[..], [ProvisionInput::Interrupted { .. }]), "{last:?}: {told:?}");
            workshop.go_back(&generation, None, last).await;
            assert_eq!(all(&workshop), before, "cut off behind {last:?}");
            nothing_left(&workshop);
            let failed = workshop.device.generations(NAME).await.expect("its logs stay");
            assert_eq!(failed.last().expect("one").record.state, Standing::Failed);
            // What failed and left nothing is in nobody's way.
            let again = backup.request(&workshop, left).await.expect("once more");
            let (generation, previous) = workshop.device.prepare(&again, None).await.expect("prepared");
            workshop.live(&generation, previous).await.expect("restored");
        }
        workshop.device.start(NAME).await.expect("all of it runs");
        assert_eq!(brought(&workshop), backup.facts, "cut off behind {last:?}");
        assert_eq!(get(&workshop.url(NAME).await).expect("an answer").1, "hello 1");
        nothing_left(&workshop);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_on_another_device_may_be_cut_off_at_any_step() {
    over_nothing_that_runs(false).await;
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_over_left_data_may_be_cut_off_at_any_step() {
    over_nothing_that_runs(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_back_of_a_restore_may_be_cut_off_at_any_step_too() {
    use Effect::*;
    let mut workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    moved_on(&workshop).await;
    let (url, before) = (workshop.url(NAME).await, all(&workshop));
    for cut in [HandBack, StopNew, RestoreData, PointBack, StartPrevious] {
        let (generation, previous) = backup.prepare(&workshop).await;
        for effect in forward(previous).take_while(|e| *e != Confirm) {
            workshop.perform(&generation, previous, effect).await.expect("a step");
        }
        assert_eq!(brought(&workshop), backup.facts, "it is all there, and not confirmed");
        for effect in [HandBack, StopNew, RestoreData, PointBack, StartPrevious].into_iter().take_while(|e| *e <= cut) {
            workshop.perform(&generation, previous, effect).await.expect("a step back");
        }
        workshop.restart();
        let told = workshop.device.recover().await;
        let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{cut:?}: {told:?}") };
        assert_eq!(step.effect, cut);
        workshop.go_back(&generation, previous, cut).await;
        assert_eq!(all(&workshop), before, "{cut:?}");
        assert_eq!(get(&url).expect("an answer").1, "hello 2", "{cut:?}");
        nothing_left(&workshop);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_restore_may_be_repeated() {
    use Effect::*;
    let workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    moved_on(&workshop).await;
    let before = all(&workshop);
    let twice = async |workshop: &Workshop, effects: &[Effect], of: &Generation, previous| {
        for effect in effects {
            for _ in 0..2 {
                workshop.perform(of, previous, *effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
            }
        }
    };
    let (generation, previous) = backup.prepare(&workshop).await;
    twice(&workshop, &forward(previous).filter(|e| *e != Commit).collect::<Vec<_>>(), &generation, previous).await;
    assert_eq!(brought(&workshop), backup.facts);
    let back = [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed];
    twice(&workshop, &back, &generation, previous).await;
    assert_eq!(all(&workshop), before);
    let (generation, previous) = backup.prepare(&workshop).await;
    twice(&workshop, &forward(previous).collect::<Vec<_>>(), &generation, previous).await;
    assert_eq!(brought(&workshop), backup.facts);
    nothing_left(&workshop);

    let other = Workshop::new();
    release(&other, "1.0.0", "hello 1");
    let (generation, previous) = backup.prepare(&other).await;
    twice(&other, &forward(previous).collect::<Vec<_>>(), &generation, previous).await;
    assert_eq!(brought(&other), backup.facts);
    nothing_left(&other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_does_not_come_back_as_it_was_is_found_before_anything_runs_on_it() {
    let workshop = Workshop::new();
    let mut backup = rescued(&workshop).await;
    moved_on(&workshop).await;
    let before = all(&workshop);
    backup.sums.get_mut("data.rows").expect("its sum").blake3.replace_range(..1, "z");
    let request = backup.request(&workshop, true).await.expect("a sound backup");
    let (generation, previous) = workshop.device.prepare(&request, None).await.expect("prepared");
    let (effect, why) = workshop.live(&generation, previous).await.expect_err("it differs");
    assert_eq!(effect, Effect::Migrate);
    assert!(why.contains("data.rows is not what it was"), "{why}");
    assert_eq!(all(&workshop), before);
    nothing_left(&workshop);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_an_earlier_restore_left_are_not_taken_for_the_present_ones() {
    let mut workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    moved_on(&workshop).await;
    let before = all(&workshop);
    // As the end of a restore would, had its clearing away failed.
    let stale = workshop.softservice(NAME).join("secrets.before");
    std::fs::create_dir(&stale).expect("a folder");
    std::fs::write(stale.join("token"), "stale").expect("a secret");
    let (generation, previous) = backup.prepare(&workshop).await;
    for effect in forward(previous).take_while(|e| *e != Effect::Confirm) {
        workshop.perform(&generation, previous, effect).await.expect("a step");
    }
    assert_eq!(brought(&workshop), backup.facts);
    workshop.go_back(&generation, previous, Effect::Confirm).await;
    assert_eq!(all(&workshop), before);
    std::fs::create_dir(&stale).expect("a folder");
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert!(!stale.exists(), "the next start clears it away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prepared_and_never_begun_is_gone_with_the_next_start() {
    let mut workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    let other = release(&workshop, "2.0.0", "hello 2");
    let before = all(&workshop);
    let (restoring, _) = backup.prepare(&workshop).await;
    let folder = workshop.softservice(NAME).join("generations").join(restoring.number.to_string());
    assert!(folder.join("restore/volumes/data.rows").is_dir(), "plain data lies there");
    // A file that was verified and not even planned with.
    std::fs::create_dir(workshop.softservice(NAME).with_file_name(".restoring-shelf.0")).expect("a folder");
    let pid = workshop.pid(NAME).await;
    workshop.restart();
    assert!(workshop.device.recover().await.is_empty());
    assert!(!folder.exists());
    nothing_left(&workshop);
    assert!(lives(pid), "what runs was not touched");
    assert_eq!(all(&workshop), before);
    workshop.up(NAME, other).await.expect("and nothing is in the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_two_restores_of_one_name_brings_its_own_data() {
    let workshop = Workshop::new();
    let backup = rescued(&workshop).await;
    let old = backup.request(&workshop, true).await.expect("a sound backup");
    // While its owner looks at the plan, another comes, and goes away again.
    moved_on(&workshop).await;
    let file = backup.file.with_file_name("newer.softbackup");
    let request = BackupRequest { name: NAME.into(), file: file.clone(), ..BackupRequest::default() };
    workshop.device.backup(request, Arc::new(|_, _, _| {})).await.expect("a backup");
    let expect = BTreeMap::new();
    let second = request_of(&workshop, &file, &backup.key, true, expect.clone()).await.expect("a sound backup");
    let third = request_of(&workshop, &file, &backup.key, true, expect).await.expect("a sound backup");
    drop(third);
    let (generation, previous) = workshop.device.prepare(&old, None).await.expect("what was unpacked first is there");
    workshop.live(&generation, previous).await.expect("restored");
    assert_eq!(brought(&workshop), backup.facts);
    let (generation, previous) = workshop.device.prepare(&second, None).await.expect("and what came second, too");
    workshop.live(&generation, previous).await.expect("restored");
    let rows = std::fs::read_to_string(volume(&workshop, "data.rows").join("rows")).expect("rows");
    assert_eq!(rows, "newer\n");
    drop((old, second));
    nothing_left(&workshop);
}
