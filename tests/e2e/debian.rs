//! Real input: a root tree of Debian's packages, fetched whole, fetched again in a newer version, and fetched by a node
//! that is killed twenty times on the way.

use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually},
    root_or_skip,
    sources::{listing, plain, repository, text},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Instant,
};

/// Bytes that may come again after a kill.
const LOST: u64 = 8 << 20;

/// Both trees, made once for all tests of this run; None where there is no apt.
fn trees() -> Option<&'static (PathBuf, PathBuf)> {
    static TREES: OnceLock<Option<(PathBuf, PathBuf)>> = OnceLock::new();
    TREES
        .get_or_init(|| {
            if !root_or_skip("a root tree of Debian's packages") {
                return None;
            }
            if Command::new("apt-get").arg("--version").output().is_err() {
                eprintln!("SKIPPED, needs apt: a root tree of Debian's packages");
                return None;
            }
            // Kept beside the build, so that one build makes them once; a half-made one has another name.
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
            let script = repository().join("examples/debian-root/build.sh");
            let recipe = blake3::hash(&std::fs::read(&script).expect("the script is there")).to_hex();
            let made = |name: &str, flag: Option<&str>| {
                let name = format!("{name}-{}", &recipe[..8]);
                let (ready, half) = (folder.join(&name), folder.join(format!("{name}.half")));
                if !ready.exists() {
                    let _ = std::fs::remove_dir_all(&half);
                    let status = Command::new(&script).arg(&half).args(flag).status().expect("the script runs");
                    assert!(status.success(), "the tree cannot be made");
                    std::fs::rename(&half, &ready).expect("it can be renamed");
                }
                ready
            };
            Some((made("debian-older", Some("--older")), made("debian-newer", None)))
        })
        .as_ref()
}

fn source(world: &World, tree: &Path, version: &str) -> PathBuf {
    let folder = world.path(&format!("source-{version}"));
    plain(&folder, "debian-root", version);
    let status = Command::new("cp").arg("-a").arg(tree).arg(folder.join("root")).status().expect("cp runs");
    assert!(status.success());
    folder
}

fn publish(node: &Node, folder: &Path) -> String {
    let answer = node.ok(&["publish", text(folder)]);
    answer["ticket"].as_str().expect("publishing gives a ticket").to_owned()
}

fn number(answer: &serde_json::Value, field: &str) -> u64 {
    answer[field].as_u64().unwrap_or_else(|| panic!("{field} is a number in {answer}"))
}

#[test]
fn a_root_tree_arrives_whole_and_a_newer_one_moves_only_what_changed() {
    let Some((older, newer)) = trees() else { return };
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let ticket = publish(&ann, &source(&world, older, "1.0.0"));
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let began = Instant::now();
    let first = bob.ok(&["fetch", "ann/debian-root"]);
    eprintln!("first fetch {:.2} s: {first}", began.elapsed().as_secs_f64());
    let copy = world.path("copy");
    bob.ok(&["improve", "ann/debian-root", text(&copy)]);
    let (want, have) = (listing(older), listing(&copy.join("root")));
    assert!(want.len() >= 4000 && number(&first, "bytes") >= 100_000_000, "{first}");
    assert_eq!(want, have, "every file, executable bit and link is the source's");

    publish(&ann, &source(&world, newer, "1.1.0"));
    let second = bob.ok(&["fetch", "ann/debian-root@1.1.0"]);
    eprintln!("second fetch: {second}");
    // What changed, counted file by file, bounds what may move; chunks make it less.
    let (before, after) = (listing(older), listing(newer));
    let changed: u64 = after
        .iter()
        .filter(|e| !before.iter().any(|b| b.2 == e.2))
        .filter_map(|e| std::fs::symlink_metadata(newer.join(&e.0)).ok().filter(|m| m.is_file()).map(|m| m.len()))
        .sum();
    let moved = number(&second, "new_bytes");
    eprintln!("changed files hold {changed} bytes, {moved} moved");
    assert!(moved <= changed + changed / 10 + (2 << 20), "{moved} moved, changed files hold {changed}");
    let copy = world.path("copy-newer");
    bob.ok(&["improve", "ann/debian-root@1.1.0", text(&copy)]);
    assert_eq!(after, listing(&copy.join("root")));
}

#[test]
fn a_fetch_survives_twenty_kills() {
    let Some((older, _)) = trees() else { return };
    let world = World::new();
    let (mut ann, mut bob) = (world.home("ann"), world.node("bob"));
    // Slow enough that twenty moments fit into one fetch.
    ann.start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--limit-up", "40MiB"]);
    let ticket = publish(&ann, &source(&world, older, "1.0.0"));
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let whole = number(&bob.ok(&["show", "ann/debian-root"]), "fetch_bytes");
    let (mut worst, mut lost, mut received) = (0, 0, 0);
    for round in 0..20_u64 {
        let mut fetch = bob.spawn(&["fetch", "ann/debian-root"]);
        // A moment in this round's twenty-first part of the fetch, drawn from the round's number.
        let goal = whole / 21 * round + (round * 7919 + 131) * 65_537 % (whole / 21);
        let end = Instant::now() + PATIENCE;
        eventually("the fetch comes to the next kill", end, || {
            traffic(&ann, "sent") >= goal || fetch.try_wait().expect("it can be asked").is_some()
        });
        // What it has received, not what is on the wire: only the former can come again.
        received += traffic(&bob, "received");
        bob.kill();
        let _ = fetch.kill();
        let _ = fetch.wait();
        bob.start();
        let here = whole - number(&bob.ok(&["show", "ann/debian-root"]), "fetch_bytes");
        // Everything received so far is here, but for what this kill and those before cost.
        let cost = received.saturating_sub(here);
        worst = worst.max(cost.saturating_sub(lost));
        lost = cost;
    }
    let last = bob.ok(&["fetch", "ann/debian-root"]);
    let sent = traffic(&ann, "sent");
    eprintln!("20 kills: {whole} bytes wanted, {sent} sent, at worst {worst} lost a kill; last fetch {last}");
    assert!(worst <= LOST, "{worst} bytes came again after a kill");
    let copy = world.path("copy");
    bob.ok(&["improve", "ann/debian-root", text(&copy)]);
    assert_eq!(listing(older), listing(&copy.join("root")));
}

/// Content bytes that a node has sent or received since it started.
fn traffic(node: &Node, direction: &str) -> u64 {
    number(&node.ok(&["status"])["traffic"], direction)
}
