//! A new binary of the node while softservices run: nobody notices but the node.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, binary, eventually, processes_naming},
    sources::{Guestbook, put, text},
    visit,
};
use std::{
    collections::BTreeSet,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// A service that says one number more than before, all the time.
fn counter(folder: &Path) {
    put(
        &folder.join("distro.toml"),
        "format = 1\n[distro]\nname = \"counter\"\nversion = \"1.0.0\"\n\
         [role.main.artifact]\nbin = { tree = \"bin\" }\n\
         [role.main.service.count]\ncommand = [\"${artifact.bin}/count\"]\nrestart = \"on-failure\"\n\
         [update]\nsettle = \"200ms\"\n",
    );
    let script = folder.join("bin/count");
    put(&script, "#!/bin/sh\nn=0\nwhile :; do n=$((n+1)); echo \"number $n\"; sleep 0.01; done\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it can be made executable");
}

/// Puts another build in the place of `program`, as a package manager does: whole, in one rename.
fn upgrade(program: &Path, number: u8) {
    let next = program.with_extension("next");
    std::fs::copy(binary(), &next).expect("the binary can be copied");
    // Bytes after the end of an ELF file are nobody's: another file with another hash that behaves the same.
    let mut file = std::fs::OpenOptions::new().append(true).open(&next).expect("a copy");
    file.write_all(&[number]).expect("it can be made another");
    drop(file);
    std::fs::rename(next, program).expect("it can be replaced");
}

fn services(node: &Node) -> Value {
    let all = node.ok(&["ps"]);
    let mut services = Vec::new();
    for softservice in all.as_array().expect("a list") {
        assert_eq!(softservice["state"], "running", "{softservice}");
        for service in softservice["services"].as_array().expect("services") {
            assert!(service["pid"].as_u64().is_some(), "{service}");
            assert_eq!(service["restarts"], 0, "{service}");
            services.push(service.clone());
        }
    }
    services.into()
}

fn helpers(program: &Path, node: Option<u32>) -> BTreeSet<i32> {
    let all = processes_naming(text(program)).into_iter();
    all.filter(|pid| node.is_none_or(|node| *pid != node as i32)).collect()
}

#[test]
fn a_new_binary_finds_everything_as_the_old_one_left_it() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let program = world.path("softservice");
    upgrade(&program, 0);
    let mut bob = world.home("bob");
    bob.program = Some(program.clone());
    bob.start();
    counter(&world.path("sources/counter"));
    for folder in [&book.data, &book.web, &book.whole, &world.path("sources/counter")] {
        bob.ok(&["publish", text(folder)]);
    }
    let url = visit::url(&bob.ok(&["up", "guestbook", "--yes", "--accept-reduced"]));
    bob.ok(&["up", "counter", "--yes", "--accept-reduced"]);
    let before = services(&bob);
    let keepers = helpers(&program, Some(bob.pid()));
    assert!(keepers.len() >= 3, "each service has a keeper: {keepers:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let visitor = {
        let (stop, url) = (stop.clone(), url.clone());
        std::thread::spawn(move || {
            let (mut good, mut bad) = (0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match visit::ask(&url, "GET", "/", "") {
                    Ok((200, page)) if page.contains("guestbook") => good += 1,
                    other => bad.push(format!("{other:?}")),
                }
            }
            (good, bad)
        })
    };
    for number in 1..=3 {
        upgrade(&program, number);
        // The first node ends in order, the others are killed.
        if number == 1 {
            bob.stop()
        } else {
            bob.kill()
        }
        bob.start();
        assert_eq!(services(&bob), before, "upgrade {number}: the same processes, never started again");
        assert_eq!(helpers(&program, Some(bob.pid())), keepers, "upgrade {number}: all found again, none twice");
    }
    stop.store(true, Ordering::Relaxed);
    let (good, bad) = visitor.join().expect("the visitor comes back");
    eprintln!("requests during three upgrades: {good} answered, {} not", bad.len());
    assert!(good > 0 && bad.is_empty(), "{good} answered, not: {bad:?}");

    let lines = bob.output(&["logs", "counter"]).stdout;
    let lines = String::from_utf8(lines).expect("text");
    let numbers = lines.lines().filter_map(|l| {
        let line: Value = serde_json::from_str(l).expect("a document a line");
        line["line"].as_str()?.strip_prefix("number ")?.parse::<u64>().ok()
    });
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.len() > 50 && numbers.iter().copied().eq(1..=numbers.len() as u64), "a gap in {numbers:?}");

    // A keeper runs the binary of its birth, whose file is gone: it must still be able to start its service again.
    let victim = before[0]["pid"].as_i64().expect("a process") as i32;
    let victim = rustix::process::Pid::from_raw(victim).expect("a process");
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).expect("it can be killed");
    eventually("the killed service runs again", Instant::now() + PATIENCE, || {
        let all = bob.ok(&["ps"]).to_string();
        all.contains("\"restarts\":1") && !all.contains("degraded")
    });
    for name in ["guestbook", "counter"] {
        bob.ok(&["remove", name, "--data"]);
    }
    bob.stop();
    let left = helpers(&program, None);
    assert!(left.is_empty(), "somebody is left: {left:?}");
}
