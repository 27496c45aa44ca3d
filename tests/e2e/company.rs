//! Verbs of several processes in one home, at the same moment and without a node: each finds the node of another, or waits
//! for its turn.

use softservice_tests::{
    World,
    process::{PATIENCE, eventually},
    sources::{plain, put, served, text},
};
use std::{process::Child, time::Instant};

fn end(verb: Child) -> (Option<i32>, String) {
    let output = verb.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn verbs_that_come_at_once_all_get_their_answer() {
    let world = World::new();
    // A home that nobody ever used, and then one with a past.
    let home = world.home("home");
    for round in 0..4 {
        let verbs: Vec<Child> = (0..5).map(|_| home.spawn(&["publisher", "show"])).collect();
        let answers: Vec<_> = verbs.into_iter().map(end).collect();
        for (code, answer) in &answers {
            assert_eq!(*code, Some(0), "round {round}: {answer}");
            assert_eq!(*answer, answers[0].1, "one home has one publisher");
        }
    }
}

#[test]
fn of_publications_of_one_version_at_once_one_is_made_and_the_others_are_refused() {
    let world = World::new();
    for round in 0..3 {
        let home = if round == 2 { world.home("alone") } else { world.node(&format!("home-{round}")) };
        let folder = world.path(&format!("distro-{round}"));
        plain(&folder, "distro", "1.0.0");
        put(&folder.join("root/file"), "content");
        let verbs: Vec<Child> = (0..4).map(|_| home.spawn(&["publish", text(&folder)])).collect();
        let mut answers: Vec<_> = verbs.into_iter().map(end).collect();
        answers.sort();
        let (made, refused) = answers.split_first().expect("four answers");
        assert_eq!(made.0, Some(0), "{answers:?}");
        for (code, answer) in refused {
            assert_eq!(*code, Some(4), "{answer}");
            assert!(answer.contains("published already, exactly as it is"), "{answer}");
        }
        assert_eq!(home.ok(&["publisher", "show"])["releases"], 1);
    }
}

#[test]
fn a_verb_waits_for_others_that_found_its_node() {
    let world = World::new();
    let home = world.home("home");
    for (name, settle) in [("short", 1), ("long", 8)] {
        let folder = world.path(name);
        served(&folder, name, settle);
        home.ok(&["publish", text(&folder)]);
    }
    let first = home.spawn(&["up", "self/short", "--yes", "--accept-reduced"]);
    let socket = home.home.join("run/api.sock");
    eventually("the first verb's node listens", Instant::now() + PATIENCE, || socket.exists());
    // Longer than a node that stops lets calls go on.
    let second = home.spawn(&["up", "self/long", "--yes", "--accept-reduced"]);
    for (verb, name) in [(first, "short"), (second, "long")] {
        let (code, answer) = end(verb);
        assert_eq!(code, Some(0), "{name}: {answer}");
        assert!(answer.contains("\"state\":\"running\""), "{name}: {answer}");
    }
    for name in ["short", "long"] {
        home.ok(&["remove", name, "--data"]);
    }
}

#[test]
fn a_node_that_starts_beside_a_verb_is_found_or_refused_and_nothing_hangs() {
    let world = World::new();
    let mut home = world.home("home");
    home.ok(&["publisher", "show"]);
    home.start();
    let node = home.pid();
    let verbs: Vec<Child> = (0..5).map(|_| home.spawn(&["status"])).collect();
    for verb in verbs {
        let (code, answer) = end(verb);
        assert_eq!(code, Some(0), "{answer}");
        assert!(answer.contains(&format!("\"pid\":{node}")), "answered by the node that runs: {answer}");
    }
    let (code, refused) = home.verb(&["node"]);
    assert_eq!((code, &refused["error"]["kind"]), (4, &serde_json::json!("refused")));
}
