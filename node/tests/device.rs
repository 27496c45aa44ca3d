//! Stories about one device with real processes: what is installed runs, what fails goes back, what is killed comes again.

mod workshop;

use softservice_node::device::{Device, DeviceError, PlanRequest, Standing};
use softservice_protocol::{
    id::ReleaseId,
    io::{Effect, ProvisionInput},
};
use std::{io::BufRead, path::Path, process::Stdio};
use workshop::{SERVER, Watched, Workshop, forward, get, kill, lives, outside, part, release, written};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}
#[test]
fn server_part() {
    workshop::play_server();
}

/// A page on a port, without data.
fn page(store: &Workshop, version: &str, text: &str) -> ReleaseId {
    store.release(&page_toml(version, "/"), &[("site/index.html", text)])
}
fn page_toml(version: &str, health: &str) -> String {
    format!(
        r#"format = 1
[distro]
name = "page"
version = "{version}"
[role.main.artifact]
site = {{ tree = "site" }}
[role.main.service.web]
command = [{SERVER}, "${{artifact.site}}", "${{port.http}}"]
healthcheck = {{ http = ":${{port.http}}{health}", interval = "100ms", timeout = "2s", start_period = "1s", retries = 3 }}
[role.main]
export.page = {{ type = "http/1", port = "http" }}
[test]
greets = {{ on = "main", http = "${{main.page.url}}/", status = 200, contains = "hello", within = "5s" }}
[update]
settle = "200ms"
"#
    )
}

/// A shell script as a service with data. `more` are further keys of the service.
fn script(workshop: &Workshop, version: &str, text: &str, more: &str) -> ReleaseId {
    let toml = format!(
        r#"format = 1
[distro]
name = "script"
version = "{version}"
[secret]
token = {{ generate = "bytes:32" }}
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.job]
command = ["${{artifact.bin}}/job", "${{volume.data}}"]
environment = {{ TOKEN_FILE = "${{secret.token}}" }}
secrets = ["token"]
{more}
[update]
settle = "200ms"
"#
    );
    workshop.release(&toml, &[("bin/job", text)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_installed_updated_and_rolled_back() {
    let workshop = Workshop::new();
    let first = page(&workshop, "1.0.0", "hello one");
    workshop.up("page", first).await.expect("installed");
    let url = workshop.url("page").await;
    assert_eq!(get(&url).expect("an answer"), (200, "hello one".into()));
    let info = workshop.device.info("page").await.expect("listed");
    assert_eq!((info.state.as_str(), info.version.as_str(), info.generation), ("running", "1.0.0", 1));
    assert!(workshop.device.tests("page", 1).await.expect("tests").iter().all(|t| t.ok && t.name == "greets"));
    assert!(workshop.device.phases("page", 1).await.expect("phases").contains_key("start"));

    let second = page(&workshop, "1.1.0", "hello two");
    let plan = workshop.device.plan(&PlanRequest::new("page", second)).await.expect("a plan");
    assert!(plan.steps.iter().any(|s| s.kind == "beside"), "it runs and has no data");
    workshop.up("page", second).await.expect("updated");
    assert_eq!(workshop.url("page").await, url, "a port stays");
    assert_eq!(get(&url).expect("an answer").1, "hello two");

    let back = workshop.device.rollback_request("page", None).await.expect("a way back");
    assert_eq!(back.release, first);
    let (generation, previous) = workshop.device.prepare(&back, None).await.expect("prepared");
    assert_eq!((generation.number, previous), (3, Some(2)));
    workshop.live(&generation, previous).await.expect("rolled back");
    assert_eq!(get(&url).expect("an answer").1, "hello one");
    let states: Vec<_> = workshop
        .device
        .generations("page")
        .await
        .expect("generations")
        .into_iter()
        .map(|g| (g.record.state, g.current))
        .collect();
    assert_eq!(states, [(Standing::Superseded, false), (Standing::Superseded, false), (Standing::Committed, true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_page_is_found_beside_the_old_one_which_serves_on() {
    let workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello one")).await.expect("installed");
    let (url, pid) = (workshop.url("page").await, workshop.pid("page").await);
    let broken = workshop.release(&page_toml("3.0.0", "/nothing-here"), &[("site/index.html", "hello three")]);
    let (effect, why) = workshop.up("page", broken).await.expect_err("refused");
    assert_eq!(effect, Effect::Beside);
    assert!(why.contains("page generation 2, service web") && why.contains("404"), "{why}");
    assert_eq!(workshop.pid("page").await, pid, "the old one was never touched");
    assert_eq!(get(&url).expect("an answer").1, "hello one");
    let failed = workshop.device.generations("page").await.expect("generations").remove(1).record;
    assert_eq!(failed.state, Standing::Failed);
    assert!(failed.why.expect("a reason").contains("404"));
    let words = workshop.device.last_words("page", 2, 10).await.expect("logs");
    assert!(words.iter().any(|l| l.line.contains("stopped")), "the failed one's log stays: {words:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_test_brings_the_old_page_back() {
    let workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello one")).await.expect("installed");
    let url = workshop.url("page").await;
    // Healthy, but its test looks for "hello".
    let (effect, why) = workshop.up("page", page(&workshop, "2.0.0", "good bye")).await.expect_err("refused");
    assert_eq!(effect, Effect::Confirm);
    assert!(why.contains("1 of 1 tests failed: greets"), "{why}");
    assert_eq!(get(&url).expect("an answer").1, "hello one");
    assert_eq!(workshop.device.info("page").await.expect("listed").state, "running");
    assert!(!workshop.device.tests("page", 2).await.expect("tests")[0].ok, "what was seen is kept");
    workshop
        .up("page", page(&workshop, "2.0.1", "hello again"))
        .await
        .expect("a new one may always replace a failed one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_is_refused_before_anything_stops() {
    let workshop = Workshop::new();
    workshop.up("job", script(&workshop, "1.0.0", "#!/bin/sh\nexec sleep 1000\n", "")).await.expect("installed");
    let pid = workshop.pid("job").await;
    let (effect, why) =
        workshop.up("job", script(&workshop, "2.0.0", "exec sleep 1000\n", "")).await.expect_err("refused");
    assert_eq!(effect, Effect::Stage);
    assert!(why.contains("it is not executable"), "{why}");
    assert_eq!(workshop.pid("job").await, pid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_service_with_data_goes_back_to_the_old_one() {
    let workshop = Workshop::new();
    let good = "#!/bin/sh\necho one >> \"$1/runs\"\nexec sleep 1000\n";
    workshop.up("job", script(&workshop, "1.0.0", good, "")).await.expect("installed");
    let bad = script(&workshop, "2.0.0", "#!/bin/sh\necho no such luck\nexit 3\n", "restart = \"on-failure\"");
    let (effect, why) = workshop.up("job", bad).await.expect_err("refused");
    assert!(matches!(effect, Effect::Start | Effect::Confirm), "{effect:?}");
    assert!(why.contains("ended with 3"), "{why}");
    let words = workshop.device.last_words("job", 2, 20).await.expect("logs");
    assert!(words.iter().any(|l| l.line == "no such luck"), "{words:?}");
    assert_eq!(workshop.device.info("job").await.expect("listed").state, "running");
    let runs = std::fs::read_to_string(workshop.softservice("job").join("volumes/main.data/runs")).expect("data");
    assert_eq!(runs, "one\none\n", "the old one ran again on the same data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_files_and_nothing_else() {
    let workshop = Workshop::new();
    let job = "#!/bin/sh\ntest -s \"$SECRET_TOKEN_FILE\" && test \"$TOKEN_FILE\" = \"$SECRET_TOKEN_FILE\" || exit 9\nexec sleep 1000\n";
    workshop.up("job", script(&workshop, "1.0.0", job, "restart = \"no\"")).await.expect("installed");
    let folder = workshop.softservice("job");
    let path = folder.join("secrets/token");
    let secret = std::fs::read_to_string(&path).expect("a secret");
    assert_eq!(secret.len(), 64);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let pid = workshop.pid("job").await;
    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("proc");
        assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{file} holds the secret");
    }
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("proc");
    let environment = String::from_utf8_lossy(&environment);
    let mut names: Vec<&str> = environment.split('\0').filter_map(|v| Some(v.split_once('=')?.0)).collect();
    names.retain(|n| !matches!(*n, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    names.sort_unstable();
    assert_eq!(names, ["HOME", "PATH", "SECRET_TOKEN_FILE", "TOKEN_FILE"]);
    let mut looked = 0;
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("list").map(|e| e.expect("entry")) {
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path() != path {
                looked += 1;
                let text = std::fs::read(entry.path()).expect("a file");
                assert!(!String::from_utf8_lossy(&text).contains(&secret), "{} holds it", entry.path().display());
            }
        }
    }
    assert!(looked > 5, "records, logs, specs and the journal were looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_shown_once_waits_for_an_installation_that_holds() {
    let workshop = Workshop::new();
    let shown = "[secret.admin]\ngenerate = \"words:6\"\nshow = \"once\"\n";
    let job = |version, text| script(&workshop, version, text, shown);
    workshop.up("job", job("1.0.0", "#!/bin/sh\nexit 1\n")).await.expect_err("it ends at once");
    workshop.up("job", job("1.0.1", "#!/bin/sh\nexec sleep 1000\n")).await.expect("installed");
    let admin = std::fs::read_to_string(workshop.softservice("job").join("secrets/admin")).expect("a secret");
    let now = workshop.device.current("job").await.expect("readable").expect("one").0;
    assert_eq!(workshop.device.take_shown_once("job", now).await.expect("read"), [("admin".to_owned(), admin)]);
    assert_eq!(workshop.device.take_shown_once("job", now).await.expect("read"), [], "once");
    // Nobody was shown it again by the next.
    workshop.up("job", job("1.0.2", "#!/bin/sh\nexec sleep 2000\n")).await.expect("updated");
    assert_eq!(workshop.device.take_shown_once("job", now + 1).await.expect("read"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_grace_and_then_leaves_nobody() {
    let workshop = Workshop::new();
    let stubborn = "#!/bin/sh\ntrap 'echo not yet' TERM\nsetsid sleep 1000 &\necho $! > \"$1/child\"\nwhile :; do sleep 0.1; done\n";
    let release = script(&workshop, "1.0.0", stubborn, "stop_grace_period = \"500ms\"");
    workshop.up("job", release).await.expect("installed");
    let pid = workshop.pid("job").await;
    let data = workshop.softservice("job").join("volumes/main.data/child");
    let child = outside(pid, written(&data).await.trim().parse().expect("a number"));
    assert!(lives(pid) && lives(child));
    workshop.device.down("job").await.expect("stopped");
    assert!(!lives(pid) && !lives(child), "also the one that left its group");
    let mut logs = workshop.device.logs("job", Some("job"), false).await.expect("logs");
    let mut text = Vec::new();
    while let Some(line) = logs.next().await.expect("a log") {
        text.push(line.line);
    }
    assert!(text.iter().any(|l| l == "not yet"), "it was asked first: {text:?}");
    assert!(text.iter().any(|l| l.contains("killed, it did not end within 0.5 s")), "{text:?}");
    assert_eq!(workshop.device.info("job").await.expect("listed").state, "stopped");
    workshop.device.start("job").await.expect("started");
    assert_eq!(workshop.device.info("job").await.expect("listed").state, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_follow_the_policy() {
    let workshop = Workshop::new();
    let twice = "#!/bin/sh\necho x >> \"$1/n\"\n[ $(wc -l < \"$1/n\") -gt 2 ] && exec sleep 1000\nexit 4\n";
    let check = "restart = \"on-failure\"\nhealthcheck = { exec = [\"/bin/sh\", \"-c\", \"[ $(wc -l < ${volume.data}/n) -gt 2 ]\"], interval = \"100ms\", timeout = \"2s\", start_period = \"20s\" }";
    workshop.up("twice", script(&workshop, "1.0.0", twice, check)).await.expect("it comes up at the third start");
    let service = workshop.device.info("twice").await.expect("listed").services.remove(0);
    assert_eq!((service.restarts, service.last_exit.as_deref()), (2, Some("ended with 4")));

    let once = script(&workshop, "1.0.0", "#!/bin/sh\nexit 5\n", "restart = \"no\"");
    let (_, why) = workshop.up("once", once).await.expect_err("it ended for good");
    assert!(why.contains("ended with 5"), "{why}");
    assert_eq!(workshop.device.info("once").await.expect("listed").state, "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_the_nodes_own_folder() {
    let workshop = Workshop::new();
    let place = workshop.softservice("script");
    let softservices = place.parent().expect("a folder");
    let asking = |path: &Path| {
        let allow = format!("[role.main.allow]\nread = [\"{}\"]\n", path.display());
        script(&workshop, "1.0.0", "#!/bin/sh\nexec sleep 1000\n", &allow)
    };
    for path in [place.as_path(), softservices, &softservices.with_file_name("store"), Path::new("/tmp")] {
        let refused = workshop.device.plan(&PlanRequest::new("script", asking(path))).await;
        assert!(matches!(refused, Err(DeviceError::Trespass { .. })), "{}: {refused:?}", path.display());
    }
    // A path that is harmless when it is planned, and leads into the home when it is used.
    let scratch = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let shown = scratch.path().join("shown");
    std::fs::create_dir(&shown).expect("a folder");
    let (generation, previous) = workshop.prepare("script", asking(&shown)).await;
    std::fs::remove_dir(&shown).expect("removed");
    std::os::unix::fs::symlink(softservices, &shown).expect("a link");
    let (effect, why) = workshop.live(&generation, previous).await.expect_err("refused");
    assert!(effect == Effect::Start && why.contains("no permission reaches there"), "{effect:?}: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_the_home_that_a_throwaway_place_was_made_for() {
    let mut workshop = Workshop::new();
    let scratch = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let (home, shown) = (scratch.path().join("home"), scratch.path().join("shown"));
    std::fs::create_dir_all(home.join("publisher")).expect("folders");
    std::fs::create_dir(&shown).expect("a folder");
    workshop.device = workshop.device.clone().beside(vec![home.clone()]);
    let asking = |path: &Path| {
        let allow = format!("[role.main.allow]\nread = [\"{}\"]\n", path.display());
        script(&workshop, "1.0.0", "#!/bin/sh\nexec sleep 1000\n", &allow)
    };
    for path in [home.join("publisher"), home.clone(), scratch.path().into()] {
        let refused = workshop.device.plan(&PlanRequest::new("script", asking(&path))).await;
        assert!(matches!(refused, Err(DeviceError::Trespass { .. })), "{}: {refused:?}", path.display());
    }
    let (generation, previous) = workshop.prepare("script", asking(&shown)).await;
    std::fs::remove_dir(&shown).expect("removed");
    std::os::unix::fs::symlink(home.join("publisher"), &shown).expect("a link");
    let (effect, why) = workshop.live(&generation, previous).await.expect_err("refused");
    assert!(effect == Effect::Start && why.contains("no permission reaches there"), "{effect:?}: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_softservices_that_wish_one_port_get_two() {
    let workshop = Workshop::new();
    // The others wish for nothing: stories are told side by side on one machine, and would get in each other's way.
    let wishing = format!("{}[role.main.port]\nhttp = 28080\n", page_toml("1.0.0", "/"));
    let release = workshop.release(&wishing, &[("site/index.html", "hello")]);
    let (one, two) = tokio::join!(workshop.up("one", release), workshop.up("two", release));
    one.expect("one");
    two.expect("two");
    let (one, two) = (workshop.url("one").await, workshop.url("two").await);
    assert_ne!(one, two);
    for url in [one, two] {
        assert_eq!(get(&url).expect("an answer").1, "hello");
    }
    workshop.device.remove("one", false).await.expect("removed");
    assert!(!workshop.softservice("one").exists(), "it had no data");
    assert!(matches!(workshop.device.info("one").await, Err(DeviceError::Unknown { .. })));
    assert_eq!(workshop.device.list().await.expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_outlives_a_removal_unless_asked() {
    let workshop = Workshop::new();
    let release = script(&workshop, "1.0.0", "#!/bin/sh\necho x >> \"$1/n\"\nexec sleep 1000\n", "");
    workshop.up("job", release).await.expect("installed");
    let data = workshop.softservice("job").join("volumes/main.data/n");
    written(&data).await;
    workshop.device.remove("job", false).await.expect("removed");
    assert!(data.exists(), "data stays");
    assert!(workshop.device.list().await.expect("a list").is_empty());
    workshop.up("job", release).await.expect("installed again, on its data");
    workshop.device.remove("job", true).await.expect("removed with data");
    assert!(!workshop.softservice("job").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_softservice_and_a_changed_plan_are_refused() {
    let workshop = Workshop::new();
    let first = page(&workshop, "1.0.0", "hello one");
    workshop.up("page", first).await.expect("installed");
    let request = PlanRequest::new("page", page(&workshop, "2.0.0", "hello two"));
    workshop.device.hold("page", true).await.expect("held");
    assert!(matches!(workshop.device.prepare(&request, None).await, Err(DeviceError::Held { .. })));
    workshop.device.hold("page", false).await.expect("let go");
    let old = workshop.device.plan(&PlanRequest::new("page", first)).await.expect("a plan").hash;
    assert!(matches!(workshop.device.prepare(&request, Some(&old)).await, Err(DeviceError::PlanChanged { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_keeper_takes_its_service_with_it_and_both_come_back() {
    let workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello")).await.expect("installed");
    let (url, pid) = (workshop.url("page").await, workshop.pid("page").await);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("proc");
    let keeper: i32 =
        stat.rsplit_once(") ").expect("stat").1.split(' ').nth(1).expect("a parent").parse().expect("a number");
    let mut watched = Watched::new(&workshop.softservice("page").join("run/1/web"));
    kill(keeper);
    let next = watched
        .until("another process", async || {
            let service = workshop.device.info("page").await.ok()?.services.remove(0);
            service.pid.filter(|p| *p != pid && service.state == "running")
        })
        .await;
    assert!(!lives(pid), "never two copies");
    assert_eq!(get(&url).expect("the front waits for it").1, "hello");
    assert!(lives(next));
}

/// The node of the next story: installs a page, says so, and waits to be killed.
#[test]
fn node_part() {
    let Some(arguments) = part("node_part") else { return };
    let home = Path::new(&arguments[0]);
    let release: ReleaseId = arguments[1].to_str().expect("an id").parse().expect("an id");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = std::sync::Arc::new(softservice_store::open(&home.join("store")).expect("a store"));
        let device = Device::open(home.into(), store, workshop::keeper()).expect("a device");
        let (generation, previous) = device.prepare(&PlanRequest::new("page", release), None).await.expect("prepared");
        for effect in forward(previous) {
            let step = softservice_protocol::io::ProvisionStep { generation: generation.clone(), previous, effect };
            device.perform(step).await.expect("a step");
        }
        println!("\ninstalled");
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_leaves_its_services_running_and_finds_them_again() {
    let scratch = tempfile::tempdir().expect("a folder");
    let home = scratch.path().join("home");
    std::fs::create_dir(&home).expect("a home");
    let release = {
        let store = softservice_store::open(&home.join("store")).expect("a store");
        release(&store, &page_toml("1.0.0", "/"), &[("site/index.html", "hello")])
    };
    let mut node = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["node_part", "--exact", "--nocapture"])
        .arg(&home)
        .arg(release.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a node");
    let lines = std::io::BufReader::new(node.stdout.take().expect("output")).lines();
    assert!(lines.map_while(Result::ok).any(|l| l == "installed"), "the node died early");
    let open = || {
        let store = std::sync::Arc::new(softservice_store::open(&home.join("store")).expect("a store"));
        Device::open(home.clone(), store, workshop::keeper()).expect("a device")
    };
    node.kill().expect("kill");
    node.wait().expect("wait");

    let device = open();
    let before = device.info("page").await.expect("listed");
    let url = before.endpoints[0].url.clone();
    assert_eq!(get(&url).expect("it serves without its node").1, "hello");
    assert!(device.recover().await.is_empty(), "nothing was in the middle");
    let after = device.info("page").await.expect("listed");
    assert_eq!(before.services, after.services, "the same process, no restart");
    device.down("page").await.expect("the new node can stop it");
    assert!(get(&url).is_err());
    device.clear().await.expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_ends_in_the_old_or_the_new() {
    let mut workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello 0")).await.expect("installed");
    let url = workshop.url("page").await;
    let mut serving = "hello 0".to_owned();
    let all: Vec<Effect> = forward(Some(1)).collect();
    for (at, last) in all.iter().enumerate() {
        let text = format!("hello {}", at + 1);
        let release = page(&workshop, &format!("1.0.{}", at + 1), &text);
        let (generation, previous) = workshop.prepare("page", release).await;
        for effect in &all[..=at] {
            workshop.perform(&generation, previous, *effect).await.expect("a step");
        }
        workshop.restart();
        let told = workshop.device.recover().await;
        if *last == Effect::Commit {
            assert!(told.is_empty(), "a committed life is over: {told:?}");
            serving = text;
        } else {
            let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{last:?}: {told:?}") };
            assert_eq!((step.effect, &step.generation), (*last, &generation));
            let busy = workshop.device.down("page").await;
            assert!(matches!(busy, Err(DeviceError::Busy { .. })), "nobody may meddle in between");
            let device = workshop.device.clone();
            let settled = tokio::spawn(async move { device.settled().await });
            workshop.go_back(&generation, previous, *last).await;
            tokio::time::timeout(workshop::DEADLINE, settled).await.expect("told of the end").expect("no panic");
            workshop.device.down("page").await.expect("nothing is on its way");
            workshop.device.start("page").await.expect("started again");
        }
        assert_eq!(get(&url).expect("an answer").1, serving, "after a crash behind {last:?}");
        assert_eq!(workshop.device.info("page").await.expect("listed").state, "running");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_at_a_time_makes_a_generation_or_removes_all() {
    let workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello")).await.expect("installed");
    let turn = workshop.device.turn("page").expect("a turn");
    assert!(matches!(workshop.device.turn("page"), Err(DeviceError::Busy { number: 1, .. })));
    assert!(matches!(workshop.device.remove("page", true).await, Err(DeviceError::Busy { .. })));
    drop(turn);
    let (one, other) = tokio::join!(workshop.device.remove("page", true), workshop.device.remove("page", true));
    let (done, late) = if one.is_ok() { (one, other) } else { (other, one) };
    done.expect("removed");
    assert!(matches!(late, Err(DeviceError::Unknown { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_may_be_repeated() {
    let workshop = Workshop::new();
    let (generation, previous) = workshop.prepare("page", page(&workshop, "1.0.0", "hello")).await;
    for effect in forward(previous) {
        for _ in 0..2 {
            workshop.perform(&generation, previous, effect).await.unwrap_or_else(|e| panic!("{effect:?}: {e}"));
        }
    }
    assert_eq!(get(&workshop.url("page").await).expect("an answer").1, "hello");
    assert_eq!(workshop.device.info("page").await.expect("listed").services[0].restarts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_is_never_taken_back() {
    use Effect::*;
    let mut workshop = Workshop::new();
    workshop.up("page", page(&workshop, "1.0.0", "hello one")).await.expect("installed");
    let (generation, previous) = workshop.prepare("page", page(&workshop, "1.1.0", "hello two")).await;
    workshop.live(&generation, previous).await.expect("updated");
    // The last lines of its journal are lost: it ends before the commit.
    let path = workshop.softservice("page").join("journal");
    let journal = std::fs::read_to_string(&path).expect("a journal");
    let until = journal.rfind("\"confirm\"").expect("it was confirmed");
    let end = until + journal[until..].find('\n').expect("a whole line") + 1;
    std::fs::write(&path, &journal[..end]).expect("cut");
    workshop.restart();
    let told = workshop.device.recover().await;
    let [ProvisionInput::Interrupted { step }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((step.effect, &step.generation), (Commit, &generation), "on, not back");
    for effect in [HandBack, StopNew, RestoreData, PointBack, StartPrevious, MarkFailed] {
        let why = workshop.perform(&generation, previous, effect).await.expect_err("refused");
        assert!(why.contains("was confirmed, which is not taken back"), "{why}");
    }
    workshop.perform(&generation, previous, Commit).await.expect("committed again");
    let info = workshop.device.info("page").await.expect("listed");
    assert_eq!((info.generation, info.state.as_str()), (2, "running"));
    assert_eq!(get(&workshop.url("page").await).expect("an answer").1, "hello two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_followed_as_they_grow() {
    let workshop = Workshop::new();
    let talker = "#!/bin/sh\necho first\nwhile [ ! -e \"$1/go\" ]; do sleep 0.05; done\necho second\nexec sleep 1000\n";
    workshop.up("job", script(&workshop, "1.0.0", talker, "")).await.expect("installed");
    let mut logs = workshop.device.logs("job", None, true).await.expect("logs");
    let mut wait_for = async |wanted: &str| loop {
        let line = tokio::time::timeout(workshop::DEADLINE, logs.next()).await.expect("in time").expect("a log");
        if line.expect("following has no end").line == wanted {
            break;
        }
    };
    wait_for("first").await;
    std::fs::write(workshop.softservice("job").join("volumes/main.data/go"), "").expect("go");
    wait_for("second").await;
    let wrong = workshop.device.logs("job", Some("jbo"), false).await.expect_err("no such service");
    assert!(wrong.to_string().contains("it has job"), "{wrong}");
}
