//! The demo is the product's first promise: it is run as a user runs it.

use serde_json::Value;
use softservice_tests::process::{binary, processes_naming};
use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

#[test]
fn the_demo_tells_its_whole_story_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let output =
        Command::new(binary()).env("TMPDIR", temporary.path()).args(["--json", "demo"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{said}"));
    assert!(output.status.success(), "{report}\n{said}");
    assert_eq!(report["bad_release"]["reverted"], true);
    assert_eq!(report["bad_release"]["requests_unanswered"], 0, "{report}");
    assert!(report["bad_release"]["requests_answered"].as_u64() > Some(0));
    assert_eq!(report["third_device"]["bytes_from_publisher"], 0);
    assert!(report["third_device"]["bytes_from_devices"].as_u64() > Some(0));
    let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("it can be read").flatten().collect();
    assert!(left.is_empty(), "files are left: {left:?}");
    assert!(processes_naming(&temporary.path().display().to_string()).is_empty(), "processes are left");
}

#[test]
fn a_demo_that_is_told_to_stop_leaves_nothing_either() {
    for signal in ["INT", "TERM", "HUP"] {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let mut demo = Command::new(binary())
            .env("TMPDIR", temporary.path())
            .args(["--json", "demo"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("runs");
        // In the middle: the nodes run and the first device serves the guestbook.
        let mut said = BufReader::new(demo.stderr.take().expect("piped")).lines();
        let told: Vec<String> = said.by_ref().take(4).map(|line| line.expect("text")).collect();
        if told.len() != 4 {
            panic!("it ended by itself: {told:?}, {:?}", demo.wait_with_output());
        }
        // As a terminal does it: to the whole group. One that hung up takes no more lines either.
        let group = format!("-{}", demo.id());
        assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().expect("kill runs").success());
        drop(said);
        let output = demo.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "SIG{signal}");
        let answer: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert_eq!(answer["error"]["kind"], "failed", "{answer}");
        let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("it can be read").flatten().collect();
        assert!(left.is_empty(), "SIG{signal} leaves files: {left:?}");
        let processes = processes_naming(&temporary.path().display().to_string());
        assert!(processes.is_empty(), "SIG{signal} leaves processes: {processes:?}");
    }
}
