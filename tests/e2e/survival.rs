//! `kill -9` of the node while a softservice runs: the service does not notice.

use softservice_tests::{
    World,
    sources::{Guestbook, text},
    visit,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[test]
fn a_service_outlives_its_node_and_is_found_again() {
    let world = World::new();
    let book = Guestbook::write(&world.path("sources"));
    let mut bob = world.node("bob");
    for folder in [&book.data, &book.web, &book.whole] {
        bob.ok(&["publish", text(folder)]);
    }
    let up = bob.ok(&["up", "guestbook", "--yes"]);
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
