//! Two hosts on one network that nobody introduced: multicast DNS finds them.

use softservice_tests::{
    World,
    hosts::Lan,
    root_or_skip,
    sources::{Guestbook, text},
};
use std::time::Instant;

#[test]
fn a_device_finds_the_publisher_on_the_lan_and_provisions() {
    if !root_or_skip("two nodes in network namespaces of their own") {
        return;
    }
    let lan = Lan::new("sl", 2);
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let (mut ann, mut bob) = (world.home("ann"), world.home("bob"));
    ann.namespace = Some(lan.host(1));
    bob.namespace = Some(lan.host(2));
    ann.start_with(&["--no-dht"]);
    bob.start_with(&["--no-dht"]);
    let mut ticket = String::new();
    for folder in [&book.data, &book.web, &book.whole] {
        let answer = ann.ok(&["publish", text(folder)]);
        ticket = answer["ticket"].as_str().expect("publishing gives a ticket").to_owned();
    }
    let began = Instant::now();
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let up = bob.ok(&["up", "guestbook", "--yes", "--accept-reduced"]);
    eprintln!("subscribe and up across two namespaces: {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(up["version"], "1.0.0");
    assert!(up["tests"].as_array().is_some_and(|t| t.iter().all(|t| t["ok"] == true)), "{up}");
    bob.ok(&["remove", "guestbook", "--data"]);
}

#[test]
fn nodes_find_each_other_without_any_address() {
    if !root_or_skip("multicast between network namespaces") {
        return;
    }
    let lan = Lan::new("sm", 2);
    let world = World::new();
    let (mut ann, mut bob) = (world.home("ann"), world.home("bob"));
    ann.namespace = Some(lan.host(1));
    bob.namespace = Some(lan.host(2));
    ann.start_with(&["--no-dht"]);
    bob.start_with(&["--no-dht"]);
    let end = Instant::now() + softservice_tests::process::PATIENCE;
    softservice_tests::process::eventually("bob meets ann by multicast", end, || {
        bob.ok(&["peers"]).as_array().is_some_and(|peers| peers.iter().any(|p| p["device"] == ann.device()))
    });
}
