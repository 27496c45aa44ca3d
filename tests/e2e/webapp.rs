//! A real web application with its database: from a publisher on the LAN to a page in a browser, and ten releases of it on
//! one disk.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    browser::{self, browser_or_skip},
    debian::{copy, disk, edit, examples},
    hosts::Lan,
    sources::publish,
    visit::endpoint,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// With characters that HTML writes in another way.
const TITLE: &str = "The club's wiki & notes";
/// Most that ten generations may take, as a multiple of one.
const TEN: f64 = 1.1;

/// Publishes the wiki and what it includes; the wiki's folder and the ticket.
fn publish_all(world: &World, examples: &Path, node: &Node) -> (PathBuf, String) {
    for part in ["nginx-edge", "postgresql", "mediawiki"] {
        copy(&examples.join(part), &world.path(part));
    }
    for part in ["nginx-edge", "postgresql"] {
        publish(node, &world.path(part));
    }
    let wiki = world.path("mediawiki");
    let ticket = publish(node, &wiki);
    (wiki, ticket)
}

fn up(node: &Node) -> Value {
    let title = format!("title={TITLE}");
    node.ok(&["up", "ann/mediawiki", "--as", "wiki", "--set", &title, "--yes", "--accept-reduced"])
}

fn all_green(answer: &Value) {
    let tests = answer["tests"].as_array().expect("an answer lists tests");
    assert!(tests.len() >= 5 && tests.iter().all(|t| t["ok"] == true), "{answer}");
}

#[test]
fn an_empty_device_shows_the_wiki_of_a_publisher_on_the_lan() {
    let Some(examples) = examples(env!("CARGO_TARGET_TMPDIR")) else { return };
    let lan = Lan::new("sw", 2);
    let world = World::new();
    let (mut ann, mut bob) = (world.home("ann"), world.home("bob"));
    ann.namespace = Some(lan.host(1));
    bob.namespace = Some(lan.host(2));
    ann.start_with(&["--no-dht"]);
    bob.start_with(&["--no-dht"]);
    let (_, ticket) = publish_all(&world, examples, &ann);

    let began = Instant::now();
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    let answer = up(&bob);
    let whole = began.elapsed();
    all_green(&answer);
    // The same bytes as files, without network, verification, database or tests: what nobody can be faster than.
    let began = Instant::now();
    let raw = world.path("raw");
    std::fs::create_dir(&raw).expect("a folder can be made");
    for root in ["nginx", "postgresql", "mediawiki"] {
        let status = Command::new("cp").arg("-a").arg(examples.join("roots").join(root)).arg(&raw).status();
        assert!(status.expect("cp runs").success());
    }
    assert!(Command::new("sync").arg("-f").arg(&raw).status().expect("sync runs").success());
    let copied = began.elapsed();
    eprintln!(
        "empty device to healthy wiki over a LAN: {:.1} s, phases {}, fetched {}; a raw copy of its trees, synced: {:.1} s",
        whole.as_secs_f64(),
        answer["phases"],
        answer["fetched"],
        copied.as_secs_f64()
    );

    if browser_or_skip("the wiki's first page") {
        let (namespace, page) = (bob.namespace.as_deref(), endpoint(&answer, "page"));
        let document = browser::document(namespace, &page, &world.path(""));
        let title = TITLE.replace('&', "&amp;");
        assert!(document.contains(&format!("<title>{title}</title>")), "{document}");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("artifacts").join("webapp.png");
        browser::screenshot(namespace, &page, &world.path(""), &file);
        let (width, height, colours) = browser::picture(&file);
        eprintln!("{}: {width} x {height}, {colours} colours", file.display());
        assert!(width >= 1000 && height >= 600 && colours > 50, "{width} x {height} with {colours} colours is blank");
    }
    bob.ok(&["remove", "wiki", "--data"]);
}

#[test]
fn ten_generations_of_the_wiki_take_little_more_than_one() {
    let Some(examples) = examples(env!("CARGO_TARGET_TMPDIR")) else { return };
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let (wiki, ticket) = publish_all(&world, examples, &ann);
    bob.ok(&["subscribe", &ticket, "--as", "ann"]);
    all_green(&up(&bob));
    // Data is nobody's generation.
    let used = |node: &Node| {
        let (store, softservices) = (node.home.join("store"), node.home.join("softservices"));
        disk(&[&store, &softservices], &["volumes", "snapshots"])
    };
    let one = used(&bob);
    let began = Instant::now();
    for number in 2..=10 {
        edit(&wiki.join("look/site.css"), |style| format!("{style}/* {number} */\n"));
        edit(&wiki.join("distro.toml"), |toml| match toml.split_once("\nrevision = ") {
            Some((head, tail)) => format!("{head}\nrevision = {number}{}", tail.trim_start_matches(char::is_numeric)),
            None => toml.replacen("\nsummary", &format!("\nrevision = {number}\nsummary"), 1),
        });
        publish(&ann, &wiki);
        let answer = bob.ok(&["update", "wiki", "--yes", "--accept-reduced"]);
        assert_eq!(answer["generation"], number, "{answer}");
    }
    let ten = used(&bob);
    let kept = std::fs::read_dir(bob.home.join("softservices/wiki/generations")).expect("they are there").count();
    eprintln!(
        "disk of generation 1: {one}, after 9 updates of one file each: {ten} ({:.3} x), {kept} generations as folders; {:.1} s an update",
        ten as f64 / one as f64,
        began.elapsed().as_secs_f64() / 9.0
    );
    assert!(ten as f64 <= TEN * one as f64, "{ten} bytes, one generation took {one}");
    bob.ok(&["remove", "wiki", "--data"]);
}
