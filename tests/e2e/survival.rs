//! What a service and a node live through: `kill -9` of the node, which the service does not notice, and a terminal that
//! hangs up.

use softservice_tests::{
    World,
    process::{binary, wait},
    sources::{Guestbook, text},
    visit,
};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[test]
fn a_service_outlives_its_node_and_is_found_again() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let mut bob = world.node("bob");
    for folder in [&book.data, &book.web, &book.whole] {
        bob.ok(&["publish", text(folder)]);
    }
    let up = bob.ok(&["up", "guestbook", "--yes", "--accept-reduced"]);
    let url = visit::url(&up);
    let before = bob.ok(&["ps", "guestbook"]);

    let stop = Arc::new(AtomicBool::new(false));
    let visitor = {
        let (stop, url) = (stop.clone(), url.clone());
        std::thread::spawn(move || {
            let (mut good, mut bad) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                match visit::ask(&url, "GET", "/", "") {
                    Ok((200, _)) => good += 1,
                    _ => bad += 1,
                }
            }
            (good, bad)
        })
    };
    for _ in 0..3 {
        bob.kill();
        assert!(visit::page(&url).contains("guestbook"), "the service answers while there is no node");
        bob.start();
    }
    let after = bob.ok(&["ps", "guestbook"]);
    stop.store(true, Ordering::Relaxed);
    let (good, bad) = visitor.join().expect("the visitor comes back");
    eprintln!("requests while the node was killed three times: {good} answered, {bad} not");
    assert!(good > 0 && bad == 0, "{good} answered, {bad} not");
    assert_eq!(pids(&before), pids(&after), "the same processes, found again");
    assert_eq!(after[0]["state"], before[0]["state"]);
    bob.ok(&["remove", "guestbook", "--data"]);
}

fn pids(list: &serde_json::Value) -> Vec<(String, u64)> {
    let services = list[0]["services"].as_array().expect("a softservice lists its services");
    let pid = |s: &serde_json::Value| s["pid"].as_u64().expect("a running service has a pid");
    services.iter().map(|s| (s["name"].to_string(), pid(s))).collect()
}

#[test]
fn a_node_whose_terminal_hangs_up_stops_in_order_unless_it_was_told_to_stay() {
    let world = World::new();
    for (stays, prelude) in [(false, ""), (true, "trap '' HUP; ")] {
        let home = world.home(if stays { "stays" } else { "goes" });
        let line = format!("{prelude}exec \"$0\" --home \"$1\" --json node --listen 127.0.0.1:0 --no-mdns --no-dht");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).arg(binary()).arg(&home.home).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut node = shell.spawn().expect("a shell runs");
        let mut ready = String::new();
        BufReader::new(node.stdout.take().expect("piped")).read_line(&mut ready).expect("a ready line");
        assert!(ready.contains("\"event\":\"ready\""), "{ready}");
        let hang_up = Command::new("kill").args(["-s", "HUP", &node.id().to_string()]).status();
        assert!(hang_up.expect("kill runs").success());
        if stays {
            assert_eq!(home.ok(&["status"])["pid"], node.id(), "it goes on");
            home.ok(&["stop"]);
        }
        wait(&mut node);
        assert_eq!(node.wait().expect("it ended").code(), Some(0), "in order");
        assert!(!home.home.join("run/api.sock").exists(), "nothing is left to knock at");
    }
}
