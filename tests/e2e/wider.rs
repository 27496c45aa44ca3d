//! What a softservice may do grows with its owner's yes alone, whichever way a wider release comes.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually},
    sources::{put, text},
};
use std::{path::Path, time::Instant};

/// A page, with more in its definition.
fn page(folder: &Path, version: &str, more: &str) {
    let toml = format!(
        "format = 1\n[distro]\nname = \"page\"\nversion = \"{version}\"\nsummary = \"A page\"\n[update]\nsettle = \"100ms\"\n\
         [role.main.artifact]\nsite = {{ tree = \"site\" }}\n[role.main.service.web]\n\
         command = [\"${{softservice}}\", \"serve-static\", \"${{artifact.site}}\", \"${{port.http}}\"]\n\
         healthcheck = {{ http = \":${{port.http}}/\" }}\n[role.main]\n\
         export.page = {{ type = \"http/1\", port = \"http\" }}\n{more}"
    );
    put(&folder.join("distro.toml"), &toml);
    put(&folder.join("site/index.html"), version);
    let _ = std::fs::remove_file(folder.join("distro.lock"));
}

fn softservice(node: &Node) -> Value {
    node.ok(&["status"])["softservices"][0].clone()
}

/// Refused for want of a yes; what runs is what ran.
fn refused(node: &Node, verb: &[&str], runs: &str) -> Value {
    let (code, answer) = node.verb(verb);
    assert_eq!((code, &answer["error"]["kind"]), (4, &"refused".into()), "{verb:?}: {answer}");
    assert_eq!(softservice(node)["version"], runs, "{verb:?}");
    answer
}

#[test]
fn an_automatic_update_that_asks_for_more_waits_for_a_yes() {
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let source = world.path("page");
    let wide = "[role.main.allow]\nconnect = [\"internet:443\"]\n";
    page(&source, "1.0.0", "");
    let first = ann.ok(&["publish", text(&source)]);
    bob.ok(&["subscribe", first["ticket"].as_str().expect("a ticket"), "--as", "ann", "--policy", "auto"]);
    bob.ok(&["up", "ann/page", "--yes", "--accept-reduced"]);

    page(&source, "1.1.0", wide);
    ann.ok(&["publish", text(&source)]);
    eventually("bob is told that it waits", Instant::now() + PATIENCE, || {
        softservice(&bob)["tasks"][0]["kind"] == "wider_permissions" && bob.log().contains("waits for its owner's yes")
    });
    let one = softservice(&bob);
    assert_eq!((&one["version"], &one["generation"]), (&"1.0.0".into(), &1.into()));
    let task = &one["tasks"][0];
    assert_eq!(task["permissions"]["added"], serde_json::json!(["main: connect internet:443"]), "{task}");
    assert_eq!(bob.ok(&["generations", "page"]).as_array().map(Vec::len), Some(1), "nothing was even prepared");

    // What was agreed to is this plan, and no other one.
    let seen = bob.ok(&["plan", "ann/page"])["plan"].as_str().expect("a hash").to_owned();
    refused(&bob, &["update", "page"], "1.0.0");
    page(&source, "1.1.1", wide);
    let newer = ann.ok(&["publish", text(&source)]);
    eventually("bob knows the next one", Instant::now() + PATIENCE, || {
        softservice(&bob)["available"]["release"] == newer["release"]
    });
    refused(&bob, &["up", "ann/page", "--plan", &seen, "--yes"], "1.0.0");
    let done = bob.ok(&["update", "page", "--yes", "--accept-reduced"]);
    assert_eq!(done["version"], "1.1.1");
    let generations = bob.ok(&["generations", "page"]);
    assert_eq!(generations[1]["allowed"], serde_json::json!(["main: connect internet:443"]), "it is written down");
    assert_eq!(softservice(&bob)["tasks"], serde_json::json!([]));

    // What asks for less comes by itself, and going back from there is more.
    page(&source, "1.2.0", "");
    ann.ok(&["publish", text(&source)]);
    eventually("the policy takes it", Instant::now() + PATIENCE, || {
        let one = softservice(&bob);
        one["version"] == "1.2.0" && one["state"] == "running"
    });
    let answer = refused(&bob, &["rollback", "page"], "1.2.0");
    assert!(answer["error"]["hint"].as_str().is_some_and(|h| h.contains("--yes")), "{answer}");
    assert_eq!(bob.ok(&["rollback", "page", "--yes", "--accept-reduced"])["version"], "1.1.1");
    assert_eq!(bob.ok(&["rollback", "page", "--to", "1", "--accept-reduced"])["version"], "1.0.0", "less needs no yes");
    bob.ok(&["remove", "page", "--data"]);
}

#[test]
fn every_kind_of_widening_needs_a_yes() {
    let world = World::new();
    let ann = world.node("ann");
    let (source, part) = (world.path("page"), world.path("part"));
    let parts = |version: &str, more: &str| {
        let toml = format!(
            "format = 1\n[distro]\nname = \"part\"\nversion = \"{version}\"\nsummary = \"A part\"\n\
             [role.main.artifact]\nfiles = {{ tree = \"files\" }}\n{more}"
        );
        put(&part.join("distro.toml"), &toml);
        put(&part.join("files/a"), version);
        ann.ok(&["publish", text(&part)]);
    };
    parts("1.0.0", "");
    let include = "[include.part]\ndistro = \"part\"\nversion = \"^1\"\nrole = \"main\"\n";
    let limit = |memory: &str| format!("[role.main.allow]\nmemory = \"{memory}\"\n{include}");
    page(&source, "1.0.0", &limit("64MiB"));
    ann.ok(&["publish", text(&source)]);
    ann.ok(&["up", "self/page", "--yes", "--accept-reduced"]);
    let extra = "[role.extra.artifact]\nsite = { tree = \"site\" }\n";
    let steps = [
        ("1.0.1", limit("128MiB"), "main: memory 128.0 MiB instead of 64.0 MiB"),
        ("1.0.2", limit("128MiB") + extra, "extra: run as a new role, without limit"),
        ("1.0.3", limit("128MiB") + extra, "part.main: connect internet:443"),
    ];
    let mut runs = "1.0.0";
    for (version, more, line) in &steps {
        if line.starts_with("part") {
            parts("1.1.0", "[role.main.allow]\nconnect = [\"internet:443\"]\n");
        }
        page(&source, version, more);
        ann.ok(&["publish", text(&source)]);
        refused(&ann, &["update", "page"], runs);
        let plan = ann.ok(&["plan", "self/page"]);
        assert_eq!(plan["permissions"]["added"], serde_json::json!([line]), "{version}");
        // The hash of what was seen is a yes as well.
        let hash = plan["plan"].as_str().expect("a hash");
        assert_eq!(&ann.ok(&["up", "self/page", "--plan", hash, "--accept-reduced"])["version"], version);
        runs = version;
    }
    ann.ok(&["remove", "page", "--data"]);
}
