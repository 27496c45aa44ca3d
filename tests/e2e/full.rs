//! A disk that is full to the last byte: what was before comes back all the same, and where even that finds no room its owner
//! is told, makes some, and starts it. The disk is a small tmpfs, for which this needs root.

use rustix::{
    fs::statvfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, bounded, eventually},
    root_or_skip,
    sources::{listing, put, text},
    visit,
};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// Room for a snapshot's reserve, and some: what fills it takes a moment.
const DISK: &std::ffi::CStr = c"size=112m,mode=0755";

const SHELF: &str = r#"format = 1
[distro]
name = "shelf"
version = "VERSION"
summary = "A shelf on a small disk"
[role.data.artifact]
bin = { tree = "bin" }
[role.data.volume]
rows = {}
[role.data.service.db]
command = ["/bin/sh", "${artifact.bin}/run", "${volume.rows}", "${port.http}", "${softservice}"]
restart = "no"
stop_grace_period = "2s"
healthcheck = { http = ":${port.http}/rows", interval = "100ms", timeout = "2s", start_period = "3s", retries = 1 }
[role.data]
export.page = { type = "http/1", port = "http" }
[role.web.artifact]
site = { tree = "site" }
[role.web.service.page]
command = ["${softservice}", "serve-static", "${artifact.site}", "${port.web}"]
healthcheck = { http = ":${port.web}/", interval = "100ms", start_period = "3s" }
[role.web]
export.web = { type = "http/1", port = "web" }
[test]
TEST
[update]
settle = "SETTLE"
"#;
const GOOD: &str = r#"rows = { on = "data", http = "${data.page.url}/rows", within = "5s" }"#;
/// Fills the disk, and fails.
const FILLS: &str =
    r#"fills = { on = "data", exec = ["/bin/sh", "${artifact.bin}/fill", "${volume.rows}"], within = "1s" }"#;
const SERVE: &str = "exec \"$3\" serve-static \"$1\" \"$2\"\n";
const FILL: &str = "cat /dev/zero >> \"$1/hog\" 2>/dev/null\nexit 1\n";

/// A disk, gone with the test.
struct Disk(PathBuf);

impl Disk {
    fn new(at: PathBuf) -> Self {
        fs::create_dir_all(&at).expect("a folder");
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), DISK).expect("root may mount");
        Self(at)
    }
    fn free(&self) -> u64 {
        let disk = statvfs(&self.0).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }
    /// Its owner's own file, which leaves nothing to others.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("films");
        let mut file = File::create(&path).expect("a file");
        let bytes = [1; 4096];
        while file.write_all(&bytes).is_ok() {}
        assert_eq!(self.free(), 0, "not a byte");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Publishes a version of the shelf.
fn publish(world: &World, node: &Node, version: &str, run: &str, test: &str, settle: &str) {
    let (folder, definition) = (world.path("shelf"), SHELF.replace("VERSION", version));
    put(&folder.join("distro.toml"), &definition.replace("TEST", test).replace("SETTLE", settle));
    put(&folder.join("bin/run"), &format!("{run}{SERVE}"));
    put(&folder.join("bin/fill"), FILL);
    put(&folder.join("site/index.html"), version);
    node.ok(&["publish", text(&folder)]);
}

fn shelf(node: &Node) -> Value {
    node.ok(&["ps", "shelf"])[0].clone()
}

fn page(node: &Node) -> String {
    visit::page(&visit::endpoint(&shelf(node), "web"))
}

fn standing(node: &Node, number: usize) -> (String, String) {
    let all = node.ok(&["generations", "shelf"]);
    let of = |key: &str| all[number - 1][key].as_str().unwrap_or_default().to_owned();
    (of("state"), of("why"))
}

fn rows(home: &Path) -> PathBuf {
    home.join("softservices/shelf/volumes/data.rows")
}

#[test]
fn a_new_version_that_fills_the_disk_is_taken_back() {
    if !root_or_skip("a small disk") {
        return;
    }
    let world = World::new();
    let mut node = world.home("bob");
    let disk = Disk::new(node.home.clone());
    node.start();
    let first = "[ -e \"$1/rows\" ] || printf one > \"$1/rows\"\n";
    publish(&world, &node, "1.0.0", first, GOOD, "100ms");
    node.ok(&["up", "self/shelf", "--yes", "--accept-reduced"]);
    let (before, free) = (listing(&rows(&node.home)), disk.free());
    assert_eq!(page(&node), "1.0.0");

    // The first fills it before ports are handed over, and again whatever is freed; the second when they have been.
    let hog = "printf two > \"$1/rows\"\ncat /dev/zero > \"$1/hog\" 2>/dev/null\n\
               while :; do cat /dev/zero >> \"$1/more\" 2>/dev/null; sleep 0.05; done &\n";
    for (number, version, run, test) in [(2, "2.0.0", hog, GOOD), (3, "3.0.0", "printf three > \"$1/rows\"\n", FILLS)] {
        publish(&world, &node, version, run, test, "100ms");
        let (code, answer) = node.verb(&["update", "shelf", "--yes"]);
        assert_eq!((code, answer["state"].as_str()), (1, Some("reverted")), "{answer}\n{}", node.log());
        let now = shelf(&node);
        assert_eq!((now["state"].as_str(), now["generation"].as_u64()), (Some("running"), Some(1)), "{now}");
        assert_eq!(listing(&rows(&node.home)), before, "bit by bit");
        let served = visit::ask(&visit::endpoint(&now, "page"), "GET", "/rows", "").expect("an answer");
        assert_eq!((served.1.as_str(), page(&node).as_str()), ("one", "1.0.0"));
        let (state, why) = standing(&node, number);
        assert!(state == "failed" && why != "it was given up", "{state}: {why}");
        assert!(disk.free() + (2 << 20) > free, "{} bytes are free of {free}", disk.free());
        let room = fs::metadata(node.home.join("softservices/shelf/room")).expect("room for the next way back");
        assert!(room.len() > 0);
    }
    // One that was never here before leaves nothing of it either.
    publish(&world, &node, "4.0.0", hog, GOOD, "100ms");
    let (code, answer) = node.verb(&["up", "self/shelf", "--as", "hog", "--yes", "--accept-reduced"]);
    assert_eq!((code, answer["state"].as_str()), (1, Some("reverted")), "{answer}\n{}", node.log());
    assert!(disk.free() + (4 << 20) > free, "{} bytes are free of {free}", disk.free());
    assert_eq!((node.ok(&["ps", "hog"])[0]["state"].as_str(), page(&node).as_str()), (Some("failed"), "1.0.0"));
    node.ok(&["remove", "hog", "--data"]);

    // What its owner put down comes up again where so little is left that the first word of it fits, and no keeper.
    node.ok(&["down", "shelf"]);
    let films = disk.fill();
    let file = fs::OpenOptions::new().write(true).open(&films).expect("the owner's own file");
    file.set_len(file.metadata().expect("a file").len() - (8 << 10)).expect("a little room");
    // Open, it would keep its bytes when it is removed.
    drop(file);
    assert_eq!(node.ok(&["start", "shelf"])["state"], "running", "{}", node.log());
    assert_eq!(page(&node), "1.0.0");
    fs::remove_file(films).expect("the owner's own file");

    publish(&world, &node, "5.0.0", first, GOOD, "100ms");
    assert_eq!(node.ok(&["update", "shelf", "--yes"])["state"], "running");
    node.ok(&["remove", "shelf", "--data"]);
    node.stop();
}

#[test]
fn what_finds_no_room_is_told_and_starts_when_there_is_some() {
    if !root_or_skip("a small disk") {
        return;
    }
    let world = World::new();
    let mut node = world.home("bob");
    let disk = Disk::new(node.home.clone());
    node.start();
    // From its second start on it needs more room than is kept for it and than its data took, and takes whatever there is
    // until it has that.
    let first = "if [ -e \"$1/rows\" ]; then\n\
                 have=$(wc -c < \"$1/index\"); want=$((3 * have + 4194304))\n\
                 while [ $have -lt $want ]; do\n\
                 head -c $((want - have)) /dev/zero >> \"$1/index\" 2>/dev/null; sleep 0.02; have=$(wc -c < \"$1/index\")\n\
                 done\nelse\n: > \"$1/index\"; printf one > \"$1/rows\"\nfi\n";
    publish(&world, &node, "1.0.0", first, GOOD, "100ms");
    node.ok(&["up", "self/shelf", "--yes", "--accept-reduced"]);
    publish(&world, &node, "2.0.0", "printf two > \"$1/rows\"\n", GOOD, "10m");
    let films = stuck(&node, &disk, 2);

    // Nobody is told to wait.
    let now = shelf(&node);
    assert_eq!(now["state"], "stuck", "{now}\n{}", node.log());
    assert!(now["why"].as_str().is_some_and(|why| why.contains("No space left")), "{now}");
    let (code, refused) = node.verb(&["down", "shelf"]);
    let told = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(code == 4 && told.contains("softservice start shelf"), "{refused}");
    let (code, answer) = node.verb(&["start", "shelf"]);
    assert!(code != 0 && shelf(&node)["state"] == "stuck", "there is no room yet: {answer}");

    fs::remove_file(films).expect("the owner's own file");
    let started = node.ok(&["start", "shelf"]);
    assert_eq!((started["state"].as_str(), started["generation"].as_u64()), (Some("running"), Some(1)), "{started}");
    assert!(started["why"].is_null(), "{started}");
    assert_eq!(fs::read_to_string(rows(&node.home).join("rows")).expect("rows"), "one");
    assert_eq!((page(&node).as_str(), standing(&node, 2).0.as_str()), ("1.0.0", "failed"));

    // The owner may as well give it up: data comes back all the same.
    publish(&world, &node, "3.0.0", "printf two > \"$1/rows\"\n", GOOD, "10m");
    let films = stuck(&node, &disk, 3);
    fs::remove_file(films).expect("the owner's own file");
    node.ok(&["remove", "shelf"]);
    assert_eq!(node.ok(&["ps"]).as_array().map(Vec::len), Some(0));
    assert_eq!(fs::read_to_string(rows(&node.home).join("rows")).expect("rows"), "one");
    node.stop();
}

/// Updates to a version that would run for long, and has that fail on a disk without any room; gives the file that took it.
fn stuck(node: &Node, disk: &Disk, number: u64) -> PathBuf {
    let update = node.spawn(&["update", "shelf", "--yes"]);
    let mut pid = None;
    eventually("the new version runs", Instant::now() + PATIENCE, || {
        let now = shelf(node);
        let services = now["services"].as_array().cloned().unwrap_or_default();
        let db =
            services.iter().find(|s| s["state"] == "running" && s["name"].as_str().is_some_and(|n| n.contains("db")));
        pid = db.filter(|_| now["generation"] == number).and_then(|s| s["pid"].as_i64());
        pid.is_some() && fs::read(rows(&node.home).join("rows")).is_ok_and(|rows| rows == b"two")
    });
    let films = disk.fill();
    let pid = pid.and_then(|pid| Pid::from_raw(pid as i32)).expect("a process");
    kill_process(pid, Signal::KILL).expect("it runs");
    let answer = bounded(update, "update");
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.code() == Some(1) && said.contains("\"stuck\""), "{said}\n{}", node.log());
    films
}
