//! A release is taken back: who runs it is told and may go on, who does not cannot begin.

use softservice_tests::{
    World,
    process::{PATIENCE, eventually},
    sources::{plain, put, served, text},
    visit,
};
use std::time::Instant;

#[test]
fn an_unsafe_release_runs_on_and_is_neither_installed_nor_started_again() {
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let source = world.path("clock");
    served(&source, "clock", 1);
    let first = ann.ok(&["publish", text(&source)]);
    bob.ok(&["subscribe", first["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    let up = bob.ok(&["up", "ann/clock", "--yes", "--accept-reduced"]);
    let definition = std::fs::read_to_string(source.join("distro.toml")).expect("the definition");
    put(&source.join("distro.toml"), &definition.replace("1.0.0", "1.0.1"));
    let second = ann.ok(&["publish", text(&source)]);

    let revoke = ["revoke", "clock@1.0.0", "--level", "unsafe", "--reason", "tells the wrong time"];
    let revoked = ann.ok(&[&revoke[..], &["--replaced-by", "clock@1.0.1"]].concat());
    assert_eq!((&revoked["release"], &revoked["level"]), (&first["release"], &"unsafe".into()));
    assert_eq!(revoked["sequence"], 3);

    // Told within the usual time of news, without bob asking his peers for anything.
    eventually("bob's node knows it", Instant::now() + PATIENCE, || {
        bob.ok(&["status"])["softservices"][0]["revoked"]["level"] == "unsafe"
    });
    let one = &bob.ok(&["ps", "clock"])[0];
    assert_eq!((&one["state"], &one["revoked"]["reason"]), (&"running".into(), &"tells the wrong time".into()));
    assert_eq!(one["revoked"]["replaced_by"]["release"], second["release"]);
    let page = visit::ask(&visit::url(&up), "GET", "/file", "").expect("it answers");
    assert_eq!(page, (200, "clock".to_owned()), "nothing that runs is stopped from afar");

    for verb in
        [&["plan", "ann/clock@1.0.0", "--as", "again"][..], &["up", "ann/clock@1.0.0", "--as", "again", "--yes"]]
    {
        let (code, answer) = bob.verb(verb);
        assert_eq!((code, &answer["revoked"]["level"]), (4, &"unsafe".into()), "{verb:?}: {answer}");
    }
    let change = ["overlay", "clock", "--set-env", "web.MODE=1", "--yes", "--accept-reduced"];
    let (code, answer) = bob.verb(&change);
    assert_eq!((code, &answer["revoked"]["level"]), (4, &"unsafe".into()), "a change starts it anew: {answer}");
    bob.ok(&[&change[..], &["--accept-revoked"]].concat());
    bob.ok(&["down", "clock"]);
    let (code, answer) = bob.verb(&["start", "clock"]);
    assert_eq!((code, &answer["error"]["kind"]), (4, &"refused".into()), "{answer}");
    bob.ok(&["start", "clock", "--accept-revoked"]);
    assert!(bob.log().contains("tells the wrong time"), "the log remembers who insisted");
    let moved = bob.ok(&["update", "clock", "--yes", "--accept-reduced"]);
    assert_eq!(moved["release"], second["release"]);
    assert_eq!(bob.verb(&["rollback", "clock"]).0, 4, "back is a start as well");
    let way_back = "goes back to an older release: its owner said so";
    assert!(!bob.log().contains(way_back), "nothing did so far");
    bob.ok(&["rollback", "clock", "--accept-revoked", "--accept-reduced"]);
    assert!(bob.log().contains(way_back), "and the log calls it what it is");
    bob.ok(&["remove", "clock", "--data"]);
}

#[test]
fn a_withdrawn_release_may_stay_where_it_is_and_its_children_are_warned_of() {
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let source = world.path("notes");
    plain(&source, "notes", "1.0.0");
    put(&source.join("root/readme"), "first\n");
    let parent = ann.ok(&["publish", text(&source)]);
    bob.ok(&["subscribe", parent["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    bob.ok(&["up", "ann/notes", "--yes", "--accept-reduced"]);
    let copy = world.path("copy");
    bob.ok(&["improve", "ann/notes", text(&copy)]);
    let definition = std::fs::read_to_string(copy.join("distro.toml")).expect("the definition came along");
    put(&copy.join("distro.toml"), &definition.replace("1.0.0", "1.1.0"));
    bob.ok(&["publish", text(&copy)]);

    ann.ok(&["revoke", "notes@1.0.0", "--level", "withdraw", "--reason", "full of typos"]);
    let (code, answer) = bob.verb(&["plan", "ann/notes@1.0.0", "--as", "more"]);
    assert_eq!((code, &answer["revoked"]["level"]), (4, &"withdraw".into()), "no new install: {answer}");
    bob.ok(&["down", "notes"]);
    bob.ok(&["start", "notes"]);
    let child = bob.ok(&["show", "self/notes"]);
    assert_eq!((&child["revoked"], &child["warnings"][0]["release"]), (&serde_json::Value::Null, &parent["release"]));
    assert_eq!(
        (&child["warnings"][0]["relation"], &child["warnings"][0]["level"]),
        (&"parent".into(), &"withdraw".into())
    );
    let plan = bob.ok(&["plan", "self/notes", "--as", "mine"]);
    assert!(plan["warnings"][0]["message"].as_str().is_some_and(|m| m.contains("full of typos")), "{plan}");
    let (code, _) = bob.verb(&["revoke", "ann/notes@1.0.0", "--level", "withdraw", "--reason", "not mine"]);
    assert_eq!(code, 4, "only its publisher takes a release back");
    bob.ok(&["remove", "notes", "--data"]);
}

#[test]
fn a_release_with_an_unsafe_part_waits_for_its_owner() {
    let world = World::new();
    let (ann, bob) = (world.node("ann"), world.node("bob"));
    let (part, whole) = (world.path("part"), world.path("whole"));
    plain(&part, "part", "1.0.0");
    put(&part.join("root/readme"), "a part");
    let released = ann.ok(&["publish", text(&part)]);
    served(&whole, "whole", 1);
    let definition = std::fs::read_to_string(whole.join("distro.toml")).expect("the definition");
    let include = "[include.part]\ndistro = \"part\"\nversion = \"^1\"\nrole = \"main\"\n";
    let version = |version: &str| put(&whole.join("distro.toml"), &(definition.replace("1.0.0", version) + include));
    version("1.0.0");
    let first = ann.ok(&["publish", text(&whole)]);
    assert_eq!(first["warnings"], serde_json::json!([]));
    bob.ok(&["subscribe", first["ticket"].as_str().expect("a ticket"), "--as", "ann", "--policy", "auto"]);
    bob.ok(&["up", "ann/whole", "--yes", "--accept-reduced"]);

    ann.ok(&["revoke", "part@1.0.0", "--level", "unsafe", "--reason", "it lets strangers in"]);
    version("1.1.0");
    let second = ann.ok(&["publish", text(&whole)]);
    assert_eq!(second["warnings"][0]["release"], released["release"], "who signs it is told: {second}");
    eventually("bob is told that it waits", Instant::now() + PATIENCE, || {
        let one = &bob.ok(&["status"])["softservices"][0];
        one["available"]["release"] == second["release"] && one["tasks"][0]["kind"] == "revoked_parts"
    });
    let one = &bob.ok(&["ps", "whole"])[0];
    assert_eq!((&one["version"], &one["generation"]), (&"1.0.0".into(), &1.into()), "nothing was taken unasked");
    let done = bob.ok(&["update", "whole", "--yes", "--accept-reduced"]);
    assert_eq!((&done["version"], &done["warnings"][0]["level"]), (&"1.1.0".into(), &"unsafe".into()), "{done}");
    bob.ok(&["remove", "whole", "--data"]);
}
