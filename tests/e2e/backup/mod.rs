//! Backups that come back, with real nodes: on a device that never saw them, with the owner's own changes, through kills; and
//! files that are not what they should be change nothing.

mod kills;
mod refusals;

use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually},
    sources::{Guestbook, listing, publish, put, text},
    visit::{self, url},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// A page that is filled in on the device, beside a volume: where the page says version 1, the rows are the first ones.
fn shelf(folder: &Path, version: u32, welcome: &str) {
    put(
        &folder.join("distro.toml"),
        &format!(
            r#"format = 1
[distro]
name = "shelf"
version = "{version}.0.0"
[secret]
token = {{ generate = "bytes:16", for = ["main"] }}
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
rows = {{ backup = "copy" }}
[role.main.file]
"index.html" = {{ template = "page.html", mode = "0644" }}
[role.main.service.web]
command = ["${{artifact.bin}}/run", "${{volume.rows}}", "${{files}}", "${{port.http}}", "${{softservice}}"]
secrets = ["token"]
stop_grace_period = "2s"
healthcheck = {{ http = ":${{port.http}}/", interval = "100ms", start_period = "10s", retries = 3 }}
[role.main]
export.page = {{ type = "http/1", port = "http" }}
[test]
greets = {{ on = "main", http = "${{main.page.url}}/", contains = "version {version}", within = "10s", when = ["always"] }}
[update]
settle = "100ms"
"#
        ),
    );
    put(
        &folder.join("page.html"),
        &format!("<h1>shelf</h1>\n<p>{welcome}</p>\n\n<footer>version {version}</footer>\n"),
    );
    put(
        &folder.join("bin/run"),
        "#!/bin/sh\n[ -e \"$1/rows\" ] || echo none > \"$1/rows\"\nexec \"$4\" serve-static \"$2\" \"$3\"\n",
    );
    fs::set_permissions(folder.join("bin/run"), fs::Permissions::from_mode(0o755)).expect("a mode can be set");
}

/// Bytes that nobody could guess, so that they are as many in a backup.
fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn rows(node: &Node) -> PathBuf {
    node.home.join("softservices/shelf/volumes/main.rows")
}

/// Fills the volume of a shelf.
fn fill(node: &Node, words: &str) {
    let rows = rows(node);
    fs::write(rows.join("rows"), words).expect("it can be written");
    fs::create_dir_all(rows.join("deep")).expect("a folder can be made");
    fs::write(rows.join("deep").join(words), noise(words, 300_000)).expect("it can be written");
}

/// Names in a folder that begin with a dot, and folders of restores and backups: nothing of them may stay.
fn leftovers(node: &Node, beside: &Path) -> Vec<PathBuf> {
    let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let home = node.home.join("softservices/shelf");
    let mut found: Vec<PathBuf> =
        list(beside.into()).chain(list(node.home.join("softservices"))).filter(hidden).collect();
    found.extend(list(home.join("volumes")).filter(hidden));
    found.extend(list(home.join("generations")).map(|g| g.join("restore")).filter(|r| r.exists()));
    found.extend([home.join("backup"), home.join("secrets.before")].into_iter().filter(|p| p.exists()));
    found
}

/// Waits until nothing of a softservice is on its way and all of it runs.
fn settled(node: &Node) -> Value {
    let mut last = Value::Null;
    eventually("an unfinished restore comes to its end", Instant::now() + PATIENCE, || {
        last = node.ok(&["ps", "shelf"]);
        last[0]["state"] == "running"
    });
    // Returns when every service is healthy.
    node.ok(&["start", "shelf"]);
    last
}

struct Story {
    world: World,
    ann: Node,
    bob: Node,
    source: PathBuf,
    file: PathBuf,
    key: PathBuf,
}

impl Story {
    /// A shelf of version 1 with rows, its backup, and the key of the home in a place of its own.
    fn begin() -> Self {
        let world = World::new();
        let (ann, bob) = (world.node("ann"), world.node("bob"));
        let source = world.path("source");
        shelf(&source, 1, "Welcome.");
        let ticket = publish(&ann, &source);
        bob.ok(&["subscribe", &ticket, "--as", "ann"]);
        bob.ok(&["up", "shelf", "--yes", "--accept-reduced"]);
        fill(&bob, "first");
        let kept = world.path("kept");
        fs::create_dir(&kept).expect("a folder can be made");
        let (file, key) = (kept.join("shelf.softbackup"), kept.join("key"));
        bob.ok(&["backup", "shelf", text(&file)]);
        fs::copy(bob.home.join("backup-key.txt"), &key).expect("the key can be kept");
        Self { world, ann, bob, source, file, key }
    }

    /// Version 2 over it, with rows of its own.
    fn move_on(&self) {
        shelf(&self.source, 2, "Welcome.");
        publish(&self.ann, &self.source);
        self.update();
    }

    fn update(&self) {
        self.bob.ok(&["update", "shelf", "--yes", "--accept-reduced"]);
        fs::remove_file(rows(&self.bob).join("deep/first")).expect("the first rows can go");
        fill(&self.bob, "second");
    }
}

#[test]
fn a_guestbook_comes_back_on_a_device_that_never_saw_it_after_its_publisher_is_gone() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let (mut ann, mut bob) = (world.node("ann"), world.node("bob"));
    for folder in [&book.data, &book.web] {
        publish(&ann, folder);
    }
    let ticket = publish(&ann, &book.whole);
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let up = bob.ok(&["up", "guestbook", "--yes", "--accept-reduced"]);
    assert_eq!(visit::ask(&url(&up), "POST", "/sign", "name=Ada&words=first").expect("it signs").0, 303);
    let (file, key) = (world.path("guestbook.softbackup"), world.path("key"));
    let made = bob.ok(&["backup", "guestbook", text(&file)]);
    assert_eq!((&made["verified"], made["volumes"].as_array().map(Vec::len)), (&"opened".into(), Some(1)), "{made}");
    fs::copy(bob.home.join("backup-key.txt"), &key).expect("the key can be kept");
    let secret = |node: &Node| listing(&node.home.join("softservices/guestbook/secrets"));
    let (data, secrets) = (listing(&bob.home.join("softservices/guestbook/volumes")), secret(&bob));
    ann.kill();

    // Whom nobody vouches for is refused; what no peer has cannot come. Nothing is changed by either.
    let dora = world.node("dora");
    let restore = ["restore", "guestbook", text(&file), "--identity", text(&key), "--yes", "--accept-reduced"];
    let (code, refused) = dora.verb(&restore);
    assert_eq!((code, &refused["error"]["kind"]), (4, &"refused".into()), "{refused}");
    let ticket = bob.ok(&["ticket", "ann"])["ticket"].as_str().expect("a ticket").to_owned();
    dora.ok(&["subscribe", &ticket, "--as", "ann"]);
    bob.kill();
    let (code, refused) = dora.verb(&restore);
    assert_eq!((code, &refused["error"]["kind"]), (5, &"no_peer".into()), "{refused}");
    assert_eq!(dora.ok(&["ps"]), serde_json::json!([]));
    bob.start();

    let carol = world.node("carol");
    let ticket = bob.ok(&["ticket", "ann"])["ticket"].as_str().expect("a ticket").to_owned();
    carol.ok(&["subscribe", &ticket, "--as", "ann"]);
    let restored = carol.ok(&restore);
    assert!(restored["fetched"]["bytes"].as_u64() > Some(0), "the release came from bob: {restored}");
    assert!(visit::page(&url(&restored)).contains("Ada: first"));
    assert_eq!(listing(&carol.home.join("softservices/guestbook/volumes")), data);
    assert_eq!(secret(&carol), secrets, "it is the same service: its parts know each other by the same token");
    // Two of them, and neither knows of the other.
    assert_eq!(visit::ask(&url(&restored), "POST", "/sign", "name=Bea&words=second").expect("it signs").0, 303);
    assert!(!visit::page(&url(&up)).contains("Bea"));
    for node in [&carol, &bob] {
        node.ok(&["remove", "guestbook", "--data"]);
    }
}

#[test]
fn own_changes_come_back_and_a_conflict_waits_for_its_owner() {
    let mut story = Story::begin();
    let own = story.world.path("own.html");
    put(&own, "<h1>shelf</h1>\n<p>Our shelf on ${port.http}.</p>\n\n<footer>version 1</footer>\n");
    let set = format!("main/index.html={}", text(&own));
    story.bob.ok(&["overlay", "shelf", "--set-file", &set, "--set-env", "web.CACHE=200", "--yes", "--accept-reduced"]);
    let file = story.world.path("kept/own");
    story.bob.ok(&["backup", "shelf", text(&file)]);
    let page = |node: &Node| visit::page(&url(&node.ok(&["ps", "shelf"])[0]));
    assert!(page(&story.bob).contains("Our shelf"));

    // Over a newer generation without them, and on another device.
    story.bob.ok(&[
        "overlay",
        "shelf",
        "--drop",
        "main/index.html",
        "--drop",
        "web.CACHE",
        "--yes",
        "--accept-reduced",
    ]);
    assert!(page(&story.bob).contains("Welcome."));
    story.bob.ok(&["restore", "shelf", text(&file), "--replace", "--yes", "--accept-reduced"]);
    let carol = story.world.node("carol");
    carol.ok(&["subscribe", story.ann.ok(&["ticket"])["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    carol.ok(&["restore", "shelf", text(&file), "--identity", text(&story.key), "--yes", "--accept-reduced"]);
    for node in [&story.bob, &carol] {
        let overlay = node.ok(&["overlay", "shelf"]);
        assert_eq!(overlay["environment"]["web"]["CACHE"], "200", "{overlay}");
        assert!(page(node).contains("Our shelf on "), "filled in for this device");
    }

    // The author changes the same line: nobody decides that but the owner, and until then nothing changes.
    shelf(&story.source, 2, "Come in.");
    publish(&story.ann, &story.source);
    let before = listing(&rows(&story.bob));
    let (code, refused) = story.bob.verb(&["update", "shelf", "--yes", "--accept-reduced"]);
    assert_eq!((code, refused["tasks"].as_array().map(Vec::len)), (4, Some(1)), "{refused}");
    story.bob.kill();
    story.bob.start();
    let list = settled(&story.bob);
    assert_eq!(list[0]["version"], "1.0.0", "{list}");
    assert_eq!(list[0]["tasks"][0]["kind"], "overlay_conflict", "it waits through a kill: {list}");
    assert!(page(&story.bob).contains("Our shelf"));
    assert_eq!(listing(&rows(&story.bob)), before);
    put(&own, "<h1>shelf</h1>\n<p>Come in to our shelf.</p>\n\n<footer>version 2</footer>\n");
    story.bob.ok(&["overlay", "shelf", "--next", "--set-file", &set, "--yes", "--accept-reduced"]);
    let list = settled(&story.bob);
    assert_eq!((&list[0]["version"], list[0]["tasks"].as_array().map(Vec::len)), (&"2.0.0".into(), Some(0)), "{list}");
    assert!(page(&story.bob).contains("Come in to our shelf."));
    assert_eq!(listing(&rows(&story.bob)), before, "data is as it was");
}
