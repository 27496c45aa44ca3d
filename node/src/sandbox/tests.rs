//! This machine, whatever it is, holds programs as it says it does. The keeper is this very test program.

use super::{Machine, Who, command};
use softservice_protocol::instance::{Sandbox, sandbox::Mount};
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
async fn nothing_before_the_program_obeys_its_variables() {
    let machine = machine();
    let user = machine.own_users().then_some(super::USERS.start);
    let who = Who { label: "test".into(), user, home: "/tmp/home of a test".into() };
    let argv = ["/bin/sh", "-c", "echo \"$GREETING\" ${SERVICE_VARIABLE_GREETING-clean}"].map(String::from);
    // The dynamic linker of every program that sees it complains, and goes on.
    let environment = [("GREETING", "a = b\nc"), ("LD_PRELOAD", "/no/such/library.so"), ("PATH", "/usr/bin:/bin")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let ended = command(&machine, &Sandbox::default(), &who, &argv, &environment).output().await.expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && out.trim().ends_with("a = b\nc clean"), "{out}\n{err}");
    assert_eq!(err.matches("/no/such/library.so").count(), 1, "the program alone: {err}");
}

/// Puts a program into a tree, with the libraries that it needs, at the paths that it looks for them.
fn plant(tree: &Path, program: &str) {
    let place = |path: &Path| {
        let target = tree.join(path.strip_prefix("/").expect("absolute"));
        std::fs::create_dir_all(target.parent().expect("a parent")).expect("a folder");
        std::fs::copy(path, target).expect("a copy");
    };
    place(Path::new(program));
    let needs = std::process::Command::new("ldd").arg(program).output().expect("ldd runs");
    let needs = String::from_utf8_lossy(&needs.stdout).into_owned();
    needs.split_whitespace().filter(|word| word.starts_with('/')).for_each(|path| place(Path::new(path)));
}

#[tokio::test]
async fn a_root_tree_is_all_there_is_and_volumes_have_their_places_in_it() {
    let machine = machine();
    if let Some(why) = machine.no_roots() {
        eprintln!("SKIPPED, needs namespaces: {why}");
        return;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let (tree, volume) = (scratch.path().join("tree"), scratch.path().join("volume"));
    for program in ["/usr/bin/cat", "/usr/bin/ls", "/usr/bin/touch", "/usr/bin/id"] {
        plant(&tree, program);
    }
    plant(&tree, "/bin/sh");
    for folder in ["var/lib/other", "etc", "run"] {
        std::fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    std::os::unix::fs::symlink("/run", tree.join("var/run")).expect("a link");
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\npostgres:x:105:109::/:/bin/sh\n")
        .expect("a file");
    std::fs::write(tree.join("marker"), "the tree").expect("a file");
    std::fs::create_dir(&volume).expect("a folder");
    if machine.own_users() {
        let user = Some(super::USERS.start);
        std::os::unix::fs::chown(&volume, user, user).expect("given away");
    }
    let (from, tree) = (volume.display().to_string(), tree.display().to_string());
    let places = ["/var/lib/mine/data", "/var/run/mine", &from].map(|at| Mount { from: from.clone(), at: at.into() });
    let sandbox =
        Sandbox { root: Some(tree.clone()), read: vec![Mount::here(tree)], write: places.into(), ..Sandbox::default() };
    let script = "cat /marker; id -un; cat /etc/passwd; touch /var/lib/mine/data/written && ls /run/mine /var/lib; \
                  touch /new /usr/new /var/lib/new /etc/new || echo read only; ls /home /root /opt; test -e /usr/bin/env || echo alone";
    let (code, out, err) = said(&machine, &sandbox, script).await;
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(volume.join("written").exists(), "{out}\n{err}");
    for wanted in ["the tree", "softservice\n", "postgres:x:105", "written", "mine\nother", "read only", "alone"] {
        assert!(out.contains(wanted), "{wanted:?} in {out}\n{err}");
    }
    assert_eq!(err.matches("Read-only file system").count(), 4, "{err}");
}

#[tokio::test]
async fn what_cannot_be_shown_is_named_and_nothing_runs() {
    let machine = machine();
    let missing = Mount::here("/no/such/folder");
    let sandbox = Sandbox { read: vec![missing], ..Sandbox::default() };
    let (code, out, err) = said(&machine, &sandbox, "echo it ran").await;
    assert_eq!(code, 126, "{out} {err}");
    assert!(err.contains("/no/such/folder") && !out.contains("it ran"), "{out} {err}");
}
