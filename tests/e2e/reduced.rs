//! A machine that keeps less than it did: bubblewrap is there when the plan is agreed to, and gone later.

use softservice_tests::{
    Node, World,
    process::binary,
    root_or_skip,
    sources::{put, text},
    visit,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

const BWRAP: &str = "/usr/bin/bwrap";

const PAGE: &str = r#"format = 1
[distro]
name = "page"
version = "1.0.0"
summary = "A page"
[role.main.artifact]
site = { tree = "site" }
[role.main.service.web]
command = ["${softservice}", "serve-static", "${artifact.site}", "${port.http}"]
healthcheck = { http = ":${port.http}/" }
[role.main]
export.page = { type = "http/1", port = "http" }
[update]
settle = "100ms"
"#;

/// The program of this build, for which bubblewrap is not there.
fn without_bubblewrap(world: &World) -> std::path::PathBuf {
    let wrapper = world.path("without-bubblewrap");
    let hide = format!("mount --bind /dev/null {BWRAP} && exec {} \"$@\"", binary().display());
    put(&wrapper, &format!("#!/bin/sh\nexec unshare --mount sh -c '{hide}' sh \"$@\"\n"));
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("a file of ours");
    wrapper
}

fn lost(answer: &serde_json::Value) -> bool {
    answer.as_array().is_some_and(|list| list.iter().any(|r| r["measure"] == "files"))
}

fn start(node: &mut Node, program: Option<std::path::PathBuf>) {
    node.program = program;
    node.start();
}

#[test]
fn less_protection_than_was_agreed_to_starts_nothing() {
    if !root_or_skip("a machine that loses bubblewrap") {
        return;
    }
    let world = World::new();
    put(&world.path("page/distro.toml"), PAGE);
    put(&world.path("page/site/index.html"), "here");
    let mut node = world.home("home");
    node.start();
    node.ok(&["publish", text(&world.path("page"))]);
    let plan = node.ok(&["plan", "self/page"]);
    if lost(&plan["isolation"]["reduced"]) || !Path::new(BWRAP).exists() {
        eprintln!("SKIPPED, needs {BWRAP} to lose it: {}", plan["isolation"]);
        return;
    }
    let hash = plan["plan"].as_str().expect("a plan has a hash").to_owned();

    // A plan that was agreed to with bubblewrap is no agreement without.
    node.stop();
    start(&mut node, Some(without_bubblewrap(&world)));
    let (code, answer) = node.verb(&["up", "self/page", "--plan", &hash]);
    assert_eq!((code, answer["error"]["kind"].as_str()), (4, Some("refused")), "{answer}");
    let (code, answer) = node.verb(&["up", "self/page", "--yes"]);
    assert!(code == 4 && lost(&answer["reduced"]), "yes is no agreement to less: {answer}");

    // What runs does not fall back when it is started again.
    node.stop();
    start(&mut node, None);
    let up = node.ok(&["up", "self/page", "--plan", &hash]);
    assert_eq!(visit::page(&visit::url(&up)), "here");
    node.ok(&["down", "page"]);
    node.stop();
    start(&mut node, Some(without_bubblewrap(&world)));
    let (code, answer) = node.verb(&["start", "page"]);
    let told = answer["error"].to_string();
    assert!(code != 0 && told.contains("does not enforce files any more"), "{answer}");
    let service = &node.ok(&["ps", "page"])[0]["services"][0];
    assert_eq!(service["state"], "stopped", "{service}");

    // The owner may give it up, and updates keep to that.
    let (code, answer) = node.verb(&["up", "self/page", "--yes", "--accept-reduced"]);
    assert!(code == 0 && lost(&answer["reduced"]), "{answer}");
    assert_eq!(visit::page(&visit::url(&answer)), "here");
    put(&world.path("page/distro.toml"), &PAGE.replace("1.0.0", "1.1.0"));
    node.ok(&["publish", text(&world.path("page"))]);
    assert_eq!(node.ok(&["update", "page", "--yes"])["version"], "1.1.0");
    node.ok(&["remove", "page", "--data"]);
}
