//! Four hundred days without a node, on a clock that is shown to it: `cli/tests/faketime.c`, which the transcripts use too.

use softservice_tests::{
    Node, World,
    process::{PATIENCE, binary, eventually},
    sources::{plain, put, repository, text},
};
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Instant};

/// A program that is the one of this build, so many days from now.
fn days_ahead(world: &World, days: u32) -> PathBuf {
    let library = world.path("faketime.so");
    if !library.exists() {
        let source = repository().join("cli/tests/faketime.c");
        let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(cc.expect("cc, which links Rust programs").success());
    }
    let program = world.path(&format!("softservice-{days}"));
    let (library, binary) = (library.display(), binary().display());
    put(&program, &format!("#!/bin/sh\nFAKETIME_DAYS={days} LD_PRELOAD={library} exec {binary} \"$@\"\n"));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    program
}

fn starts(node: &mut Node, world: &World, day: u32) {
    node.stop();
    node.program = Some(days_ahead(world, day));
    node.start();
}

/// What a node says of the publisher that it calls ann.
fn of_ann(node: &Node) -> serde_json::Value {
    let all = node.ok(&["subscriptions"]);
    let all = all.as_array().expect("a list");
    all.iter().find(|one| one["petname"] == "ann").expect("ann is followed").clone()
}

#[test]
fn a_node_asleep_for_four_hundred_days_catches_up_over_four_root_documents_from_a_peer_alone() {
    let world = World::new();
    let (mut ann, mut bob, mut carol) = (world.node("ann"), world.node("bob"), world.node("carol"));
    let source = world.path("notes");
    plain(&source, "notes", "1.0.0");
    put(&source.join("root/readme"), "first\n");
    let first = ann.ok(&["publish", text(&source)]);
    for follower in [&bob, &carol] {
        follower.ok(&["subscribe", first["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    }
    assert_eq!(of_ann(&bob)["freshness"], "fresh");
    bob.stop();

    // Meanwhile every key changes hands, again and again, and carol is there.
    for day in [100, 200, 300, 400] {
        starts(&mut ann, &world, day);
        starts(&mut carol, &world, day);
        let ticket = ann.ok(&["ticket"]);
        carol.ok(&["subscribe", ticket["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
        ann.ok(&["publisher", "rotate", "root", "release", "fresh", "revoke", "--yes"]);
    }
    let definition = std::fs::read_to_string(source.join("distro.toml")).expect("the definition");
    put(&source.join("distro.toml"), &definition.replace("1.0.0", "1.1.0"));
    put(&source.join("root/readme"), "second\n");
    let second = ann.ok(&["publish", text(&source)]);
    carol.ok(&["fetch", "ann/notes@1.1.0"]);
    ann.stop();

    bob.program = Some(days_ahead(&world, 400));
    bob.start();
    assert_eq!(of_ann(&bob)["freshness"], "expired");
    // Of carol he knows something of her own only; that it leads to ann's newest word as well is nobody's doing.
    let own = world.path("own");
    plain(&own, "own", "1.0.0");
    put(&own.join("root/readme"), "carol's\n");
    let carols = carol.ok(&["publish", text(&own)]);
    bob.ok(&["subscribe", carols["ticket"].as_str().expect("a ticket"), "--as", "carol"]);
    eventually("bob has ann's newest word", Instant::now() + PATIENCE, || of_ann(&bob)["freshness"] == "fresh");
    let fetched = bob.ok(&["fetch", "ann/notes@1.1.0"]);
    assert_eq!(fetched["release"], second["release"]);
    assert_eq!(of_ann(&bob)["root_version"], 5, "{}", of_ann(&bob));
}
