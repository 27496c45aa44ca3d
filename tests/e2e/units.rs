//! Where systemd runs the machine, services are units: they outlive the node's own unit, come back without it, also at boot,
//! and leave nothing behind.

use serde_json::{Value, json};
use softservice_tests::{
    World,
    api::call,
    process::{PATIENCE, binary, eventually},
    sources::{Guestbook, put, text},
    systemd::Machine,
    visit,
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

fn soon(what: &str, so: impl FnMut() -> bool) {
    eventually(what, Instant::now() + PATIENCE, so);
}

fn ok(home: &Path, verb: &str, arguments: &Value) -> Value {
    call(home, verb, arguments).unwrap_or_else(|e| panic!("{verb}: {e:?}"))
}

/// The node as an administrator would have it: a unit of its own, with systemd's usual way to end it - everybody in it.
fn install_node(machine: &Machine, home: &Path) {
    let arguments = "--json node --listen /ip4/127.0.0.1/tcp/0 --no-mdns --no-dht --web off";
    let unit = format!("[Service]\nExecStart={} --home {} {arguments}\n", text(binary()), text(home));
    put(&machine.units().join("node.service"), &unit);
}

fn start_node(machine: &Machine, home: &Path) {
    let (started, said) = machine.systemctl(&["restart", "node.service"]);
    assert!(started, "{said}");
    soon("the node answers", || call(home, "status", &json!({})).is_ok());
}

/// Units of ours: name, main process, cgroup.
fn units(machine: &Machine) -> Vec<(String, String, String)> {
    let (_, said) = machine.systemctl(&["list-units", "--plain", "--no-legend", "softservice-*.service"]);
    let names = said.lines().filter_map(|l| l.split_whitespace().next());
    names.map(|n| (n.to_owned(), machine.property(n, "MainPID"), machine.property(n, "ControlGroup"))).collect()
}

fn services(home: &Path) -> Vec<(String, u64, u64)> {
    let all = ok(home, "ps", &json!({ "name": "guestbook" }));
    let service =
        |s: &Value| (s["name"].to_string(), s["pid"].as_u64().unwrap_or(0), s["restarts"].as_u64().unwrap_or(0));
    all[0]["services"].as_array().expect("services").iter().map(service).collect()
}

fn publish(home: &Path, folders: &[&PathBuf]) {
    for folder in folders {
        ok(home, "publish", &json!({ "dir": text(folder) }));
    }
}

#[test]
fn services_are_units_where_systemd_runs_the_machine() {
    let world = World::new();
    let what = "services as units outlive the node and come back at boot";
    let Some(mut machine) = Machine::boot_or_skip(&world.path("machine"), what) else { return };
    let home = world.path("bob");
    install_node(&machine, &home);
    start_node(&machine, &home);
    let book = Guestbook::write(&world.path("sources"));
    publish(&home, &[&book.data, &book.web, &book.whole]);
    let plan = ok(&home, "plan", &json!({ "reference": "guestbook" }));
    let boot = plan["steps"].as_array().expect("steps").iter().filter(|s| s["kind"] == "boot").count();
    assert_eq!(boot, 2, "the plan says what comes back at boot: {plan}");
    let url = visit::url(&ok(&home, "up", &json!({ "reference": "guestbook", "yes": true, "accept_reduced": true })));
    assert!(visit::page(&url).contains("guestbook"));

    let first = units(&machine);
    assert!(first.len() >= 2, "each service is a unit: {first:?}; {}", machine.console());
    let node = machine.property("node.service", "ControlGroup");
    for (name, pid, group) in &first {
        assert_eq!(machine.property(name, "ActiveState"), "active", "{name}");
        assert!(group.contains("/softservice-guestbook.slice/") && !group.starts_with(&node), "{name}: {group}");
        assert_ne!(pid, "0", "{name}");
        assert_eq!(machine.property(name, "UnitFileState"), "enabled", "{name} comes back at boot");
        let (good, said) = machine.run(&["systemd-analyze", "verify", "--man=no", name]);
        assert!(good, "{said}");
    }

    // systemd ends everybody in the node's unit, and nobody else.
    let before = services(&home);
    start_node(&machine, &home);
    assert_eq!(services(&home), before, "the same processes, never started again");
    let (killed, said) = machine.systemctl(&["kill", "--signal=KILL", "node.service"]);
    assert!(killed, "{said}");
    assert!(visit::page(&url).contains("guestbook"), "it answers while there is no node");

    // Without a node, systemd brings a killed keeper back, and with it the service.
    for (name, pid, _) in &first {
        let (killed, said) = machine.run(&["kill", "-9", pid]);
        assert!(killed, "{said}");
        soon("another keeper", || {
            let now = machine.property(name, "MainPID");
            now != *pid && now != "0" && machine.property(name, "ActiveState") == "active"
        });
    }
    soon("the page", || visit::ask(&url, "GET", "/", "").is_ok_and(|(status, _)| status == 200));

    machine.reboot();
    soon("the page after a reboot, without a node", || {
        visit::ask(&url, "GET", "/", "").is_ok_and(|(status, _)| status == 200)
    });
    let booted: Vec<_> = units(&machine).into_iter().map(|(name, pid, _)| (name, pid)).collect();
    assert_eq!(booted.len(), first.len(), "{booted:?}");
    start_node(&machine, &home);
    let found: Vec<_> = units(&machine).into_iter().map(|(name, pid, _)| (name, pid)).collect();
    assert_eq!(found, booted, "the node found them as systemd had started them");

    book.set_version(2);
    publish(&home, &[&book.web, &book.whole]);
    ok(&home, "update", &json!({ "name": "guestbook", "yes": true, "accept_reduced": true }));
    assert!(visit::page(&url).contains("Our guestbook"));
    assert_eq!(units(&machine).len(), first.len(), "the old generation's units are gone: {:?}", units(&machine));
    a_bad_release_leaves_no_unit(&machine, &home, &book, &url);
    ok(&home, "down", &json!({ "name": "guestbook" }));
    assert!(units(&machine).is_empty(), "what is down does not come back at boot: {:?}", units(&machine));
    ok(&home, "start", &json!({ "name": "guestbook" }));
    ok(&home, "remove", &json!({ "name": "guestbook", "data": true }));
    let left: Vec<_> = std::fs::read_dir(machine.units()).expect("a folder").flatten().map(|e| e.file_name()).collect();
    let left: Vec<_> = left.iter().filter(|n| n.to_string_lossy().starts_with("softservice-")).collect();
    assert!(left.is_empty() && units(&machine).is_empty(), "left behind: {left:?}, {:?}", units(&machine));
}

/// It fails beside the one that serves, which is what comes back at boot.
fn a_bad_release_leaves_no_unit(machine: &Machine, home: &Path, book: &Guestbook, url: &str) {
    book.set_version(3);
    publish(home, &[&book.web, &book.whole]);
    let (before, count) = (services(home), units(machine).len());
    let bad = call(home, "update", &json!({ "name": "guestbook", "yes": true, "accept_reduced": true }));
    assert!(bad.is_err(), "its health check fails: {bad:?}");
    assert!(visit::page(url).contains("Our guestbook"));
    assert_eq!(services(home), before, "what serves was not touched");
    let left = units(machine);
    assert_eq!(left.len(), count, "the failed generation's units are gone: {left:?}");
    assert!(left.iter().all(|(name, ..)| machine.property(name, "UnitFileState") == "enabled"), "{left:?}");
}
