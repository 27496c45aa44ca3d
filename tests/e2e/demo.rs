//! The demo is the product's first promise: it is run as a user runs it.

use serde_json::Value;
use softservice_tests::process::{binary, processes_naming};
use std::process::Command;

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
