//! This machine, whatever it is, holds programs as it says it does. The keeper is this very test program.

use super::{Machine, Who, command};
use softservice_protocol::instance::Sandbox;
use std::{collections::BTreeMap, path::Path};

fn machine() -> Machine {
    let this = std::env::current_exe().expect("this program").display().to_string();
    let part = ["device::keeper::tests::keeper_part", "--exact", "--nocapture"].map(String::from);
    Machine::tried(&std::iter::once(this).chain(part).collect::<Vec<_>>(), Path::new("/"))
}

/// What a script says in a sandbox, and how it ends. The test program that plays the keeper speaks before it.
async fn said(machine: &Machine, sandbox: &Sandbox, script: &str) -> (i32, String, String) {
    let user = machine.own_users().then_some(super::USERS.start);
    let who = Who { label: "test".into(), user, home: "/tmp/home of a test".into() };
    let argv = ["/bin/sh", "-c", script].map(String::from);
    let environment = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
    let ended = command(machine, sandbox, &who, &argv, &environment).output().await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (ended.status.code().unwrap_or(-1), text(&ended.stdout), text(&ended.stderr))
}

#[tokio::test]
async fn a_program_ends_as_it_ends_and_its_words_are_heard() {
    let machine = machine();
    let (code, out, err) = said(&machine, &Sandbox::default(), "echo out; echo err >&2; exit 7").await;
    assert_eq!((code, err.as_str()), (7, "err"), "{machine:?}");
    assert!(out.ends_with("out"), "{out}");
    assert_eq!(said(&machine, &Sandbox::default(), "kill -9 $$").await.0, 137);
}

#[tokio::test]
async fn what_cannot_be_shown_is_named_and_nothing_runs() {
    let machine = machine();
    let missing = softservice_protocol::instance::sandbox::Mount::here("/no/such/folder");
    let sandbox = Sandbox { read: vec![missing], ..Sandbox::default() };
    let (code, out, err) = said(&machine, &sandbox, "echo it ran").await;
    assert_eq!(code, 126, "{out} {err}");
    assert!(err.contains("/no/such/folder") && !out.contains("it ran"), "{out} {err}");
}
