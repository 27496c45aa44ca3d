//! A publisher that speaks with two tongues, in a network of eight real processes: two homes with the same keys publish two
//! different entries at one number and tell them to different devices. As soon as both branches meet, everybody holds the proof and
//! what ran runs on; the root role names the last good entry, and all go on from there.

use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually},
    sources::{put, served, text},
};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// The device whose updates come by themselves.
const AUTO: usize = 1;
/// How long the proof may take from the first meeting on.
const PROVEN: Duration = Duration::from_secs(60);

fn one<'a>(of: &'a serde_json::Value, key: &str) -> &'a serde_json::Value {
    &of.as_array().and_then(|all| all.first()).unwrap_or(&serde_json::Value::Null)[key]
}

fn is_frozen(node: &Node, own: bool) -> bool {
    match own {
        true => node.ok(&["publisher", "show"])["frozen"] == true,
        false => one(&node.ok(&["subscriptions"]), "frozen") == true,
    }
}

/// The same service as another version with other words in it.
fn edit(source: &Path, from: &str, to: &str, words: &str) {
    let definition = std::fs::read_to_string(source.join("distro.toml")).expect("the definition");
    put(&source.join("distro.toml"), &definition.replace(from, to));
    put(&source.join("root/file"), words);
}

fn address(node: &Node) -> String {
    node.ready["addresses"][0].as_str().expect("an address").to_owned()
}

#[test]
fn eight_processes_hold_the_proof_and_follow_the_root_into_a_new_epoch() {
    let world = World::new();
    let source = world.path("clock");
    served(&source, "clock", 1);
    let mut anna = world.node("anna");
    anna.ok(&["publish", text(&source)]);
    anna.stop();
    // The same keys in two homes: a backup that was brought back while the other one went on.
    let mut twin = world.home("twin");
    let copied = Command::new("cp").arg("-a").arg(&anna.home).arg(&twin.home).status().expect("cp runs");
    assert!(copied.success());
    std::fs::remove_file(twin.home.join("node.key")).expect("another device has a key of its own");
    anna.start();
    twin.start();

    let ticket = |of: &Node| of.ok(&["ticket"])["ticket"].as_str().expect("a ticket").to_owned();
    let (hers, its) = (ticket(&anna), ticket(&twin));
    let mut devices: Vec<Node> = (1..=6).map(|n| world.node(&format!("device-{n}"))).collect();
    for (n, device) in devices.iter().enumerate() {
        let policy = if n == AUTO { "auto" } else { "notify" };
        device.ok(&["subscribe", if n < 3 { &hers } else { &its }, "--as", "anna", "--policy", policy]);
    }
    for device in [&devices[0], &devices[AUTO]] {
        let up = device.ok(&["up", "anna/clock", "--yes", "--accept-reduced"]);
        assert_eq!(up["version"], "1.0.0");
    }
    // What its policy would take waits for a word.
    devices[AUTO].ok(&["hold", "clock"]);

    edit(&source, "1.0.0", "1.1.0", "one tongue");
    let first = anna.ok(&["publish", text(&source)]);
    edit(&source, "1.1.0", "1.2.0", "the other");
    let second = twin.ok(&["publish", text(&source)]);
    assert_eq!((&first["sequence"], &second["sequence"]), (&2.into(), &2.into()));
    for (n, device) in devices.iter().enumerate() {
        eventually("both halves know their entry 2", Instant::now() + PATIENCE, || {
            one(&device.ok(&["subscriptions"]), "sequence") == 2
        });
        assert!(!is_frozen(device, false), "device {n} has met nobody who knows better");
    }

    // Two devices meet.
    let bridge = address(&devices[2]);
    devices[3].stop();
    devices[3].start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--peer", &bridge]);
    let end = Instant::now() + PROVEN;
    for device in &devices {
        eventually("every device holds the proof", end, || is_frozen(device, false));
    }
    for home in [&anna, &twin] {
        eventually("both homes of the publisher hold it", end, || is_frozen(home, true));
    }

    devices[AUTO].ok(&["unhold", "clock"]);
    // Makes the policy look again: nothing keeps it back now but the proof.
    devices[AUTO].ok(&["quota", "anna", "10GiB"]);
    for (n, device) in devices.iter().enumerate() {
        let release = format!("anna/clock@{}", if n < 3 { "1.1.0" } else { "1.2.0" });
        let (code, answer) = device.verb(&["up", &release, "--yes", "--accept-reduced", "--as", "new"]);
        assert_eq!(code, 4, "nothing new is installed on device {n}: {answer}");
        let all = device.ok(&["ps"]);
        let versions: Vec<&serde_json::Value> = all.as_array().into_iter().flatten().map(|s| &s["version"]).collect();
        assert_eq!(versions.len(), usize::from(n == 0 || n == AUTO), "device {n}: {all}");
        assert!(versions.iter().all(|v| **v == "1.0.0"), "device {n}: {all}");
    }
    let (code, answer) = devices[0].verb(&["update", "clock", "--yes", "--accept-reduced"]);
    assert_eq!(code, 4, "nothing is updated: {answer}");
    let runs = devices[0].ok(&["ps", "clock"]);
    assert_eq!((one(&runs, "version"), one(&runs, "state")), (&"1.0.0".into(), &"running".into()), "what ran runs on");
    edit(&source, "1.2.0", "1.3.0", "after all");
    let (code, answer) = anna.verb(&["publish", text(&source)]);
    assert_ne!(code, 0, "a frozen feed takes nothing: {answer}");

    // Only the root role has a way back: from the last entry that both branches share.
    let (code, answer) = anna.verb(&["publisher", "recover", "--from", "1"]);
    assert_eq!(code, 4, "nobody is there to say yes: {answer}");
    let done = anna.ok(&["publisher", "recover", "--from", "1", "--yes"]);
    assert_eq!((&done["root_version"], &done["from_sequence"]), (&2.into(), &1.into()), "{done}");
    let again = anna.ok(&["publish", text(&source)]);
    assert_eq!((&again["epoch"], &again["sequence"]), (&2.into(), &2.into()), "{again}");
    for device in &devices {
        eventually("every device follows the new epoch", Instant::now() + PATIENCE, || {
            let known = device.ok(&["subscriptions"]);
            one(&known, "epoch") == 2 && one(&known, "frozen") == false
        });
    }
    eventually("the other home follows as well", Instant::now() + PATIENCE, || {
        let shown = twin.ok(&["publisher", "show"]);
        shown["epoch"] == 2 && shown["sequence"] == 2 && shown["frozen"] == false
    });
    // The other half has heard of it, and its content is where anna is.
    devices[5].stop();
    devices[5].start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--peer", &address(&anna)]);
    let up = devices[5].ok(&["up", "anna/clock", "--yes", "--accept-reduced"]);
    assert_eq!((&up["version"], &up["release"]), (&"1.3.0".into(), &again["release"]));
    let up = devices[0].ok(&["update", "clock", "--yes", "--accept-reduced"]);
    assert_eq!(up["version"], "1.3.0");
    eventually("the policy goes on with the new epoch", Instant::now() + PATIENCE, || {
        let runs = devices[AUTO].ok(&["ps", "clock"]);
        one(&runs, "version") == "1.3.0" && one(&runs, "state") == "running"
    });
    let all = devices[AUTO].ok(&["generations", "clock"]);
    let had: Vec<&serde_json::Value> = all.as_array().into_iter().flatten().map(|g| &g["version"]).collect();
    assert_eq!(had, ["1.0.0", "1.3.0"], "and took nothing of what was proven to be two");
    for device in [&devices[0], &devices[AUTO], &devices[5]] {
        device.ok(&["remove", "clock", "--data"]);
    }
}
