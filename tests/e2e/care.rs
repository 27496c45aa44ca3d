//! Disks rot: `fsck` finds a flipped byte in any stored object, and heals it from a peer; what a log lost is told until a
//! peer has brought it back.

use rustix::process::Signal;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, bounded, eventually, signal},
    sources::{plain, put, served, text},
    visit,
};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    time::Instant,
};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a store can be read").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("an object can be read");
    // The beginning of a log is two headers, mostly padding.
    let log = path.parent().is_some_and(|folder| folder.ends_with("logs"));
    let at = if log { 8192 + 40 } else { bytes.len() / 2 };
    bytes[at] ^= 0x10;
    let mode = fs::metadata(path).expect("it exists").permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("its mode can change");
    fs::write(path, bytes).expect("it can be written");
    fs::set_permissions(path, mode).expect("its mode can change");
}

#[test]
fn every_flipped_object_is_found_and_healed_from_a_peer() {
    let world = World::new();
    let ann = world.node("ann");
    let source = world.path("files");
    plain(&source, "files", "1.0.0");
    for number in 0..8_u32 {
        let bytes: String =
            (0..4000 * (number + 1)).map(|i| char::from(b'a' + (i.wrapping_mul(7 + number) % 23) as u8)).collect();
        put(&source.join(format!("root/part-{number}")), &bytes);
    }
    let ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    let bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    bob.ok(&["fetch", "ann/files"]);

    let mut objects = Vec::new();
    files(&bob.home.join("store/objects"), &mut objects);
    assert!(objects.len() >= 8, "{objects:?}");
    for object in &objects {
        flip(object);
    }
    let (code, report) = bob.verb(&["fsck"]);
    assert_eq!(code, 6, "{report}");
    let damaged = report["damaged"].as_array().map_or(0, Vec::len);
    assert_eq!(damaged, objects.len(), "each flipped object is found: {report}");
    let healed = bob.ok(&["fsck", "--repair"]);
    assert!(healed["repaired"].as_array().is_some_and(|r| !r.is_empty()), "{healed}");
    let clean = bob.ok(&["fsck"]);
    assert_eq!(clean["damaged"].as_array().map(Vec::len), Some(0), "{clean}");
    let copy = world.path("copy");
    bob.ok(&["improve", "ann/files", text(&copy)]);
    for number in 0..8 {
        let name = format!("root/part-{number}");
        assert_eq!(fs::read(copy.join(&name)).expect("healed"), fs::read(source.join(&name)).expect("there"), "{name}");
    }
}

/// A generation's files are links to objects: a byte that flips in one flips in the other, and must be right again in both.
#[test]
fn a_flipped_byte_under_a_generation_is_healed_there_too() {
    let world = World::new();
    let ann = world.node("ann");
    let source = world.path("site");
    served(&source, "site", 0);
    put(&source.join("root/other"), "untouched");
    let ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    let bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let url = visit::url(&bob.ok(&["up", "ann/site", "--yes", "--accept-reduced"]));
    let page = || visit::ask(&url, "GET", "/file", "").expect("it answers");
    let right = (200, "site".to_owned());
    assert_eq!(page(), right);

    let mut files_of_it = Vec::new();
    files(&bob.home.join("softservices/site/trees"), &mut files_of_it);
    let victim = files_of_it.iter().find(|f| f.ends_with("file")).expect("it was materialised");
    flip(victim);
    assert_ne!(page(), right, "what is served is the damaged file");
    let (code, report) = bob.verb(&["fsck"]);
    assert_eq!(code, 6, "{report}");
    assert!(report["damaged"].to_string().contains("softservices/site/trees"), "the file is named: {report}");
    let healed = bob.ok(&["fsck", "--repair"]);
    assert_eq!(healed["mended"], serde_json::json!([victim]), "{healed}");
    assert_eq!(page(), right, "healed under the service that runs");
    assert_eq!(bob.ok(&["fsck"])["damaged"], serde_json::json!([]));
    bob.ok(&["remove", "site", "--data"]);
}

#[test]
fn what_the_log_of_records_lost_is_told_until_a_peer_has_brought_it_back() {
    let world = World::new();
    let ann = world.node("ann");
    let source = world.path("files");
    plain(&source, "files", "1.0.0");
    put(&source.join("root/file"), "content");
    let mut ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    let mut bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    for version in ["1.0.1", "1.0.2", "1.0.3"] {
        plain(&source, "files", version);
        ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    }
    let newest = bob.ok(&["subscribe", &ticket]);
    assert_eq!(newest["sequence"], 4);
    bob.stop();
    let log = bob.home.join("store/logs/records");
    let half = fs::metadata(&log).expect("a log").len() * 3 / 4;
    fs::File::options().write(true).open(&log).and_then(|f| f.set_len(half)).expect("it can be cut");

    let mut ann = ann;
    ann.stop();
    for _ in 0..2 {
        bob.start();
        for arguments in [&["fsck"][..], &["fsck", "--repair"]] {
            let (code, report) = bob.verb(arguments);
            let told = report["damaged"].to_string();
            assert_eq!(code, 6, "{arguments:?}: {report}");
            assert!(told.contains("torn record") && told.contains("entries of ann up to 4"), "{told}");
        }
        bob.stop();
    }
    ann.start();
    bob.start();
    let ticket = ann.ok(&["ticket"])["ticket"].as_str().expect("a ticket").to_owned();
    assert_eq!(bob.ok(&["subscribe", &ticket])["sequence"], 4, "nobody goes behind its mark");
    let report = bob.ok(&["fsck", "--repair"]);
    assert!(report["damaged"].to_string().contains("torn record"), "told a last time: {report}");
    for _ in 0..2 {
        assert_eq!(bob.ok(&["fsck"])["damaged"], serde_json::json!([]));
        bob.stop();
        bob.start();
    }
}

/// Sweeps again and again until a verb that goes on beside is over; the verb must succeed, and no sweep take what is needed.
fn sweeping_beside(node: &Node, arguments: &[&str]) -> usize {
    let mut child = node.spawn(arguments);
    let mut sweeps = 0;
    loop {
        let over = child.try_wait().expect("it can be asked").is_some();
        let swept = node.ok(&["gc"]);
        assert_eq!(swept["reachable_lost"], 0, "{swept}");
        sweeps += 1;
        if over {
            break;
        }
    }
    let output = bounded(child, "the verb");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    sweeps
}

#[test]
fn sweeps_beside_a_fetch_an_up_and_a_publication_take_nothing_that_is_needed() {
    let world = World::new();
    let mut ann = world.home("ann");
    // So slow that many sweeps fit into each transfer.
    ann.start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--limit-up", "2M"]);
    let noise = |seed: &str, size: usize| {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    let source = world.path("files");
    let mut ticket = String::new();
    for version in ["1.0.0", "1.1.0"] {
        plain(&source, "files", version);
        put(&source.join("root/version"), version);
        fs::write(source.join("root/large"), noise(version, 3 << 20)).expect("written");
        for number in 0..40 {
            fs::write(source.join(format!("root/{number}")), noise(&format!("{version}/{number}"), 20_000))
                .expect("written");
        }
        ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    }
    let page = world.path("site");
    served(&page, "site", 0);
    fs::write(page.join("root/large"), noise("site", 3 << 20)).expect("written");
    ann.ok(&["publish", text(&page)]);
    let bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);

    // An older release is nobody's root: only the verb that goes on keeps it.
    let beside = sweeping_beside(&bob, &["fetch", "ann/files@1.0.0"]);
    assert!(beside > 2, "{beside} sweeps");
    let beside = sweeping_beside(&bob, &["up", "ann/site", "--yes", "--accept-reduced"]);
    assert!(beside > 2, "{beside} sweeps");
    sweeping_beside(&bob, &["fetch", "ann/files"]);
    let own = world.path("own");
    plain(&own, "own", "1.0.0");
    put(&own.join("root/version"), "1.0.0");
    fs::write(own.join("root/large"), noise("own", 20 << 20)).expect("written");
    sweeping_beside(&bob, &["publish", text(&own)]);

    let last = bob.ok(&["gc"]);
    assert_eq!((&last["reachable_lost"], last["kept"].as_u64()), (&0.into(), last["reachable"].as_u64()), "{last}");
    assert_eq!(bob.ok(&["fsck"])["damaged"], serde_json::json!([]));
    let copy = world.path("copy");
    bob.ok(&["improve", "ann/files", text(&copy)]);
    assert_eq!(fs::read(copy.join("root/large")).expect("there"), noise("1.1.0", 3 << 20));
    bob.ok(&["remove", "site", "--data"]);
}

/// One byte of one file, of each kind that a store has, and then of all of them at once.
#[test]
fn whatever_file_of_a_store_rots_a_repair_makes_all_of_it_right_again() {
    let world = World::new();
    let ann = world.node("ann");
    let source = world.path("files");
    plain(&source, "files", "1.0.0");
    for number in 0..6_u32 {
        let mut bytes = vec![0; 150_000 + 1000 * number as usize];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
        put(&source.join("root/name"), "files");
        fs::write(source.join(format!("root/{number}")), bytes).expect("written");
    }
    let mut ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    let mut bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    // More than one record of the feed.
    plain(&source, "files", "1.0.1");
    ticket = ann.ok(&["publish", text(&source)])["ticket"].as_str().expect("a ticket").to_owned();
    bob.ok(&["subscribe", &ticket]);
    bob.ok(&["fetch", "ann/files"]);
    bob.ok(&["pin", "ann/files"]);

    let store = bob.home.join("store");
    let object = || {
        let mut objects = Vec::new();
        files(&store.join("objects"), &mut objects);
        objects.sort();
        objects.into_iter().find(|o| fs::metadata(o).is_ok_and(|m| m.len() > 100_000)).expect("a large object")
    };
    let of_the_store = |name: &str| store.join(name);
    let kinds = ["object", "logs/records", "logs/layouts", "marks.a", "marks.b", "index/db", "index.seal"];
    for rotten in kinds.iter().map(std::slice::from_ref).chain([&kinds[..]]) {
        bob.stop();
        let damaged: Vec<PathBuf> =
            rotten.iter().map(|kind| if *kind == "object" { object() } else { of_the_store(kind) }).collect();
        damaged.iter().for_each(|file| flip(file));
        bob.start();
        // Whoever lost a record of where peers are finds them by a ticket.
        assert_eq!(bob.ok(&["subscribe", &ticket])["sequence"], 2, "{rotten:?}: nobody goes behind its mark");
        let report = bob.ok(&["fsck", "--repair"]);
        let told = report["damaged"].to_string();
        for (kind, file) in rotten.iter().zip(&damaged) {
            // The seal is of the index.
            let name = if kind.starts_with("index") { of_the_store("index") } else { file.clone() };
            assert!(told.contains(text(&name)), "{kind} is not told of: {report}");
        }
        let clean = bob.ok(&["fsck"]);
        assert_eq!(
            (&clean["damaged"], &clean["reindexed"]),
            (&serde_json::json!([]), &0.into()),
            "{rotten:?}: {clean}"
        );
        let copy = world.path("copy");
        bob.ok(&["improve", "ann/files", text(&copy)]);
        for number in 0..6 {
            let name = format!("root/{number}");
            let right = fs::read(source.join(&name)).expect("there");
            assert_eq!(fs::read(copy.join(&name)).expect("healed"), right, "{rotten:?}: {name}");
        }
        fs::remove_dir_all(copy).expect("removed");
        assert_eq!(bob.ok(&["gc"])["reachable_lost"], 0);
    }
}

/// Ctrl-C while a check or a sweep goes on, in a node of its own and in one that runs: what is left is right.
#[test]
fn a_check_or_a_sweep_that_is_interrupted_leaves_the_store_right() {
    let world = World::new();
    let mut node = world.home("ann");
    let source = world.path("files");
    plain(&source, "files", "1.0.0");
    put(&source.join("root/name"), "files");
    for number in 0..3000_u32 {
        fs::write(source.join(format!("root/{number}")), [number.to_le_bytes(); 2000].concat()).expect("written");
    }
    node.ok(&["publish", text(&source)]);
    for running in [false, true] {
        if running {
            node.start();
        }
        for verb in ["fsck", "gc"] {
            for _ in 0..3 {
                let child = node.spawn(&[verb]);
                // It has begun when it, or the node that it asked, answers others.
                eventually("it has begun", Instant::now() + PATIENCE, || node.home.join("run/api.sock").exists());
                signal(child.id(), Signal::INT);
                // Which may have been too late; or so early that it did not listen for signals yet, and ended by this one.
                let status = bounded(child, verb).status;
                let told = status.signal() == Some(Signal::INT.as_raw());
                assert!(told || matches!(status.code(), Some(0 | 1 | 5)), "{verb}: {status}");
            }
        }
        assert_eq!(node.ok(&["fsck"])["damaged"], serde_json::json!([]));
        assert_eq!(node.ok(&["gc"])["reachable_lost"], 0);
        let copy = world.path(if running { "second" } else { "first" });
        node.ok(&["improve", "self/files", text(&copy)]);
        assert_eq!(fs::read(copy.join("root/7")).expect("there"), fs::read(source.join("root/7")).expect("there"));
    }
    node.stop();
}
