//! Trials that are killed: whoever starts next in their home ends what they left, and nothing else.

use rustix::process::Signal;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, eventually, processes_naming, signal, wait},
    sources::{served, text},
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Folders of the throwaway places that a home knows of.
fn places(home: &Path) -> Vec<PathBuf> {
    // A home without a node is made by the first verb.
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let entries = entries.flatten();
    let entries = entries.filter(|e| e.file_name().to_string_lossy().starts_with("throwaway-"));
    let read = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).ok()?).ok();
    entries.filter_map(|e| read(e.path())?["folder"].as_str().map(PathBuf::from)).collect()
}

/// Processes of services in a place: they name its trees.
fn services(place: &Path) -> Vec<i32> {
    processes_naming(text(&place.join("home/softservices/test/trees")))
}

/// The place of the only trial of a home, once its service runs.
fn running(home: &Node) -> PathBuf {
    let mut place = PathBuf::new();
    eventually("a trial's service runs", Instant::now() + PATIENCE, || match places(&home.home).as_slice() {
        [one] => {
            place.clone_from(one);
            !services(one).is_empty()
        }
        _ => false,
    });
    place
}

/// Nothing of a place is there any more.
fn gone(home: &Node, place: &Path) -> bool {
    processes_naming(text(place)).is_empty() && !place.exists() && !places(&home.home).iter().any(|p| p == place)
}

#[test]
fn what_a_killed_node_left_of_a_trial_ends_with_the_next_start() {
    let world = World::new();
    let mut node = world.node("home");
    let long = world.path("long");
    served(&long, "long", 600);
    let verb = node.spawn(&["test", text(&long)]);
    let place = running(&node);
    node.kill();
    verb.wait_with_output().expect("it ends with its node");
    assert!(!services(&place).is_empty(), "keepers outlive their node");

    node.start();
    eventually("it is cleared", Instant::now() + PATIENCE, || gone(&node, &place));
}

#[test]
fn the_next_trial_clears_too_and_leaves_those_alone_that_are_under_way() {
    let world = World::new();
    let mut home = world.home("home");
    let (long, short) = (world.path("long"), world.path("short"));
    served(&long, "long", 600);
    served(&short, "short", 1);

    // Without a node the verb itself is the owner.
    let mut verb = home.spawn(&["test", text(&long)]);
    let killed = running(&home);
    verb.kill().expect("a process of ours");
    verb.wait().expect("it ends");
    assert!(!services(&killed).is_empty(), "keepers outlive it as well");
    assert_eq!(home.ok(&["test", text(&short)])["failed"], 0);
    assert!(gone(&home, &killed), "before the other trial began");

    home.start();
    let mut verb = home.spawn(&["test", text(&long)]);
    let lives = running(&home);
    let before = services(&lives);
    assert_eq!(home.ok(&["test", text(&short)])["failed"], 0);
    let now = services(&lives);
    assert!(!before.is_empty() && before.iter().all(|pid| now.contains(pid)), "its owner lives: {before:?}, {now:?}");
    home.kill();
    verb.wait().expect("it ends with its node");
    home.start();
    eventually("it is cleared", Instant::now() + PATIENCE, || gone(&home, &lives));
}

/// Whether the step that a softservice's journal tells of last is this one, begun and not over.
pub(crate) fn is_in(softservice: &Path, effect: &str) -> bool {
    let journal = std::fs::read_to_string(softservice.join("journal")).unwrap_or_default();
    let last = journal.lines().last().unwrap_or_default();
    last.contains(&format!("\"effect\":\"{effect}\"")) && last.contains("\"mark\":\"begun\"")
}

/// The place of the only trial of a home, once it does nothing but settle, for ten minutes.
fn settling(home: &Node) -> PathBuf {
    let place = running(home);
    let softservice = place.join("home/softservices/test");
    eventually("it settles", Instant::now() + PATIENCE, || is_in(&softservice, "confirm"));
    place
}

#[test]
fn a_stop_ends_a_trial_that_settles() {
    let world = World::new();
    let long = world.path("long");
    served(&long, "long", 600);

    // The node is asked, or told by a signal.
    let mut node = world.home("home");
    for asked in [true, false] {
        node.start();
        let verb = node.spawn(&["test", text(&long)]);
        let place = settling(&node);
        if !asked {
            signal(node.pid(), Signal::TERM);
        }
        // Returns when the process has ended, or fails: `stop` waits for a minute, and so would the trial.
        node.end(asked);
        let answer = verb.wait_with_output().expect("it ends with its node");
        assert!(!answer.status.success(), "{answer:?}");
        assert!(gone(&node, &place), "asked: {asked}: something is left in {}", place.display());
    }

    // Ctrl-C of a verb that runs in a process of its own, and of one that asks a node.
    for own in [true, false] {
        if !own {
            node.start();
        }
        let mut verb = node.spawn(&["test", text(&long)]);
        let place = settling(&node);
        signal(verb.id(), Signal::INT);
        wait(&mut verb);
        match own {
            true => assert!(gone(&node, &place), "something is left in {}", place.display()),
            // Nobody tells a caller who went away.
            false => eventually("it is cleared", Instant::now() + PATIENCE, || gone(&node, &place)),
        }
    }
}

/// Nodes that a trial of this home runs in processes of their own.
fn nodes(home: &Node) -> Vec<i32> {
    let of_it = places(&home.home).into_iter().flat_map(|place| processes_naming(text(&place)));
    let line = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    of_it.filter(|pid| line(pid).contains("\0node\0")).collect()
}

#[test]
fn nodes_of_a_trial_end_with_it_and_what_they_left_with_the_next_start() {
    let world = World::new();
    let mut home = world.home("home");
    let short = world.path("short");
    served(&short, "short", 1);
    let mut verb = home.spawn(&["test", text(&short), "--matrix", "--releases", "0"]);
    eventually("the row that kills nodes", Instant::now() + 3 * PATIENCE, || !nodes(&home).is_empty());
    verb.kill().expect("a process of ours");
    verb.wait().expect("it ends");
    let left = places(&home.home);
    assert!(!left.is_empty(), "nobody cleared up");
    eventually("its nodes end", Instant::now() + PATIENCE, || nodes(&home).is_empty());
    home.start();
    eventually("all is cleared", Instant::now() + PATIENCE, || left.iter().all(|place| gone(&home, place)));
}
