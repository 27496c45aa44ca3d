//! A stop in the middle of a change that takes long: the node ends at once, and its next life takes back what was begun.

use crate::trials::is_in;
use rustix::process::Signal;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually, signal, wait},
    sources::{publish, served},
    visit,
};
use std::{path::PathBuf, time::Instant};

/// Publishes `page`, which is confirmed after `settle` seconds, as this version.
fn published(world: &World, node: &Node, version: u32, settle: u32) {
    let folder = world.path("page");
    served(&folder, "page", settle);
    let toml = std::fs::read_to_string(folder.join("distro.toml")).expect("it is there");
    let toml = toml.replace("version = \"1.0.0\"", &format!("version = \"{version}.0.0\""));
    std::fs::write(folder.join("distro.toml"), toml).expect("written");
    std::fs::write(folder.join("root/file"), format!("page {version}")).expect("written");
    publish(node, &folder);
}

fn softservice(node: &Node) -> PathBuf {
    node.home.join("softservices/page")
}

fn settles(node: &Node) {
    eventually("it settles", Instant::now() + PATIENCE, || is_in(&softservice(node), "confirm"));
}

/// What `ps` says of it, once nothing of it is on its way.
fn rested(node: &Node) -> (String, u64) {
    let mut seen = (String::new(), 0);
    eventually("it comes to rest", Instant::now() + PATIENCE, || {
        let list = node.ok(&["ps", "page"]);
        let text = |key: &str| list[0][key].as_str().unwrap_or_default().to_owned();
        seen = (text("state"), list[0]["generation"].as_u64().unwrap_or(0));
        seen.0 != "provisioning"
    });
    seen
}

fn page(url: &str) -> String {
    visit::ask(url, "GET", "/file", "").expect("it answers").1
}

#[test]
fn a_stop_while_a_generation_settles_is_taken_back_by_the_next_start() {
    let world = World::new();
    let mut node = world.node("home");
    published(&world, &node, 1, 600);
    let first = node.spawn(&["up", "page", "--yes", "--accept-reduced"]);
    settles(&node);
    // Whoever asked may go: it goes on. See docs/api.md.
    signal(first.id(), Signal::INT);
    first.wait_with_output().expect("it ends");
    assert!(is_in(&softservice(&node), "confirm"), "the node works on it");
    node.end(true);
    assert!(is_in(&softservice(&node), "confirm"), "nothing is done on the way out");
    node.start();
    assert_eq!(rested(&node), ("failed".into(), 1));
    let services = node.ok(&["ps", "page"])[0]["services"].clone();
    assert_eq!(services.as_array().map(Vec::len), Some(0), "{services}");

    published(&world, &node, 2, 1);
    let url = visit::url(&node.ok(&["up", "page", "--yes", "--accept-reduced"]));
    published(&world, &node, 3, 600);
    for asked in [true, false] {
        let mut update = node.spawn(&["update", "page", "--yes", "--accept-reduced"]);
        settles(&node);
        if !asked {
            signal(node.pid(), Signal::TERM);
        }
        node.end(asked);
        wait(&mut update);
        assert!(page(&url).starts_with("page "), "services outlive their node");
        node.start();
        assert_eq!(rested(&node), ("running".into(), 2), "asked: {asked}");
        assert_eq!(page(&url), "page 2");
    }
    node.ok(&["remove", "page", "--data"]);
}
