//! A service with data that is updated, rolled back, and that returns from a bad release: stop-first, so every moment between
//! the old one's end and the new one's start is a moment in which nothing runs.

use super::figures::Figure;
use crate::{
    Node, World,
    api::{self, Failure, call},
    sources::{put, text},
};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, path::Path};

fn write(folder: &Path, edition: u32, script: &str) {
    let toml = format!(
        r#"format = 1
[distro]
name = "job"
version = "{edition}.0.0"
[role.main.artifact]
bin = {{ tree = "bin" }}
[role.main.volume]
data = {{ backup = "none" }}
[role.main.service.job]
command = ["${{artifact.bin}}/job", "${{volume.data}}"]
restart = "no"
[role.main.allow]
write = ["data"]
[update]
settle = "200ms"
"#
    );
    put(&folder.join("distro.toml"), &toml);
    let path = folder.join("bin/job");
    put(&path, &format!("#!/bin/bash\n# edition {edition}\n{script}"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be made executable");
}

/// Says when it began and when it ended, in seconds with microseconds; writes a mebibyte of data.
const JOB: &str = r#"echo "started $EPOCHREALTIME"
trap 'echo "ended $EPOCHREALTIME"; exit 0' TERM
[ -e "$1/data" ] || head -c 1048576 /dev/urandom > "$1/data"
while :; do sleep 1000 & wait $!; done
"#;

/// The time behind the last line of a generation's log that begins with `word`.
fn said(node: &Node, generation: u64, word: &str) -> f64 {
    let log = node.home.join(format!("softservices/job/generations/{generation}/logs/job.log"));
    let log = std::fs::read_to_string(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    let mut times = log.lines().filter_map(|l| l.strip_prefix(word)?.trim().parse().ok());
    times.next_back().unwrap_or_else(|| panic!("no line begins with {word:?}: {log}"))
}

fn number(answer: &Value) -> u64 {
    answer["generation"].as_u64().unwrap_or_else(|| panic!("no generation: {answer}"))
}

/// Milliseconds that an effect took.
fn phase(answer: &Value, effect: &str) -> f64 {
    answer["phases"][effect].as_f64().unwrap_or(0.0) * 1000.0
}

pub(super) fn measure(world: &World, switches: usize, returns: usize) -> Vec<Figure> {
    let node = world.node("job");
    let folder = world.path("job-source");
    for (edition, script) in [(1, JOB), (2, JOB), (3, "exit 3\n")] {
        write(&folder, edition, script);
        node.ok(&["publish", text(&folder)]);
    }
    let up = |edition: u32| api::up(&node.home, &format!("job@{edition}.0.0"));
    let good = |answer: Result<Value, Failure>| answer.unwrap_or_else(|e| panic!("{e:?}\n{}", node.log()));
    let mut old = number(&good(up(1)));
    let (mut stopped, mut rollbacks, mut backs) = (Vec::new(), Vec::new(), Vec::new());
    for switch in 0..switches {
        let answer = if switch % 2 == 0 {
            good(up(2))
        } else {
            let answer = good(call(&node.home, "rollback", &json!({ "name": "job" })));
            let whole = answer["seconds"].as_f64().unwrap_or(f64::NAN) * 1000.0;
            rollbacks.push(whole - phase(&answer, "start") - phase(&answer, "confirm"));
            answer
        };
        let new = number(&answer);
        stopped.push((said(&node, new, "started ") - said(&node, old, "ended ")) * 1000.0);
        old = new;
    }
    for _ in 0..returns {
        let Err(Failure::Refused(answer)) = up(3) else { panic!("a service that ends at once is refused") };
        let way = ["hand_back", "stop_new", "restore_data", "point_back"];
        backs.push(way.iter().map(|effect| phase(&answer, effect)).sum());
    }
    call(&node.home, "remove", &json!({ "name": "job", "data": true })).expect("it can be removed");
    vec![
        Figure::differences("stop-first switch: the old ended to the new runs", "p95 ≤ 250 ms", stopped),
        Figure::differences("rollback by its owner, without start and settling", "≤ 2 s", rollbacks),
        Figure::differences("return from a bad release, without the old one's start", "≤ 2 s", backs),
    ]
}
