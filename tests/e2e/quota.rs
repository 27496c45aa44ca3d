//! An owner limits what a publisher may put on this device: what does not fit is refused before any of it is on the wire, and
//! by nobody's haste comes all the same.

use serde_json::Value;
use softservice_tests::{
    Node, World,
    process::{PATIENCE, bounded, eventually},
    sources::{plain, put, served, text},
};
use std::{fs, path::Path, time::Instant};

const MIB: usize = 1 << 20;

fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A version of a distro with one file of noise.
fn publish(node: &Node, folder: &Path, name: &str, version: &str, size: usize) -> String {
    plain(folder, name, version);
    put(&folder.join("root/name"), name);
    fs::write(folder.join("root/large"), noise(&format!("{name} {version}"), size)).expect("written");
    node.ok(&["publish", text(folder)])["ticket"].as_str().expect("a ticket").to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Bytes of content that a node has sent.
fn sent(node: &Node) -> u64 {
    number(&node.ok(&["status"])["traffic"]["sent"])
}

fn row<'a>(all: &'a Value, name: &str) -> &'a Value {
    all.as_array().and_then(|all| all.iter().find(|s| s["petname"] == name)).expect("a subscription")
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_on_the_wire_and_a_sweep_makes_room() {
    let world = World::new();
    let ann = world.node("ann");
    let folder = world.path("files");
    let ticket = publish(&ann, &folder, "files", "1.0.0", 6 * MIB);
    let mut bob = world.node("bob");
    let subscribed = bob.ok(&["subscribe", &ticket, "--as", "ann", "--quota", "4MiB"]);
    assert_eq!(number(&subscribed["quota"]), 4 << 20);

    let (code, refused) = bob.verb(&["fetch", "ann/files"]);
    assert_eq!((code, refused["error"]["kind"].as_str()), (4, Some("refused")), "{refused}");
    let over = &refused["over_quota"];
    assert_eq!((number(&over["quota"]), &over["name"]), (4 << 20, &"ann".into()), "{refused}");
    assert!(number(&over["needed"]) > 6 << 20 && number(&over["used"]) < 1 << 20, "{refused}");
    let hint = refused["error"]["hint"].as_str().expect("advice");
    assert!(hint.contains("softservice quota ann 7MiB"), "{hint}");
    assert!(sent(&ann) < 1 << 20, "only documents crossed the wire");
    for all in [bob.ok(&["subscriptions"]), bob.ok(&["status"])["subscriptions"].clone()] {
        assert_eq!(row(&all, "ann")["refused"]["needed"], over["needed"], "{all}");
    }

    // What is advised is enough; and a start anew forgets no limit.
    bob.ok(&["quota", "ann", "7MiB"]);
    bob.ok(&["fetch", "ann/files"]);
    bob.stop();
    bob.start();
    let shown = bob.ok(&["quota", "ann"])["publishers"][0].clone();
    assert!(number(&shown["quota"]) == 7 << 20 && number(&shown["used"]) > 6 << 20, "{shown}");

    // The newest is kept, so the one before goes to make room for it.
    publish(&ann, &folder, "files", "1.1.0", 5 * MIB);
    assert!(bob.ok(&["fetch", "ann/files"])["new_bytes"].as_u64() > Some(5 << 20));
    let used = number(&bob.ok(&["quota", "ann"])["publishers"][0]["used"]);
    assert!((5 << 20..7 << 20).contains(&used), "{used} bytes are here");
    // What is pinned does not go.
    bob.ok(&["pin", "ann/files@1.1.0"]);
    publish(&ann, &folder, "files", "1.2.0", 5 * MIB);
    let before = sent(&ann);
    let (code, refused) = bob.verb(&["fetch", "ann/files"]);
    assert_eq!(code, 4, "{refused}");
    assert!(number(&refused["over_quota"]["used"]) > 5 << 20, "{refused}");
    assert!(sent(&ann) < before + (1 << 20));
    // Nor is what is here refused, however low the limit.
    bob.ok(&["quota", "ann", "1MiB"]);
    bob.ok(&["fetch", "ann/files@1.1.0"]);
    assert_eq!(bob.ok(&["fsck"])["damaged"], serde_json::json!([]));

    // All together have a limit as well, and taking limits away lets everything in.
    bob.ok(&["quota", "ann", "none"]);
    bob.ok(&["quota", "--total", "7MiB"]);
    let (code, refused) = bob.verb(&["fetch", "ann/files"]);
    assert_eq!((code, &refused["over_quota"]["publisher"]), (4, &Value::Null), "{refused}");
    let store = bob.ok(&["status"])["store"].clone();
    assert!(number(&store["quota"]) == 7 << 20 && store["refused"].is_object(), "{store}");
    bob.ok(&["quota", "--total", "none"]);
    bob.ok(&["fetch", "ann/files"]);
    assert_eq!(row(&bob.ok(&["subscriptions"]), "ann")["refused"], Value::Null);
    assert_eq!(bob.verb(&["quota", "nobody", "1MiB"]).0, 3);
    assert_eq!(bob.verb(&["quota", "ann", "much"]).0, 2);
}

#[test]
fn of_two_at_once_that_fit_one_by_one_only_one_is_let_in() {
    let world = World::new();
    let mut ann = world.home("ann");
    // So slow that both go on at the same time.
    ann.start_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--no-dht", "--limit-up", "2M"]);
    publish(&ann, &world.path("one"), "one", "1.0.0", 4 * MIB);
    let ticket = publish(&ann, &world.path("two"), "two", "1.0.0", 4 * MIB);
    let bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann", "--quota", "6MiB"]);
    let fetches = ["ann/one", "ann/two"].map(|reference| bob.spawn(&["fetch", reference]));
    let codes = fetches.map(|child| bounded(child, "a fetch").status.code());
    assert!(codes == [Some(0), Some(4)] || codes == [Some(4), Some(0)], "{codes:?}\n{}", bob.log());
    let used = number(&bob.ok(&["quota", "ann"])["publishers"][0]["used"]);
    assert!((4 << 20..6 << 20).contains(&used), "{used} bytes are here");
}

#[test]
fn what_is_published_here_counts_too_and_is_refused_before_it_is_signed() {
    let world = World::new();
    let ann = world.node("ann");
    ann.ok(&["publisher", "show"]);
    ann.ok(&["quota", "self", "8MiB"]);
    let folder = world.path("files");
    publish(&ann, &folder, "files", "1.0.0", 5 * MIB);
    let head = ann.ok(&["publisher", "show"])["sequence"].clone();
    plain(&folder, "files", "1.1.0");
    fs::write(folder.join("root/large"), noise("another", 5 * MIB)).expect("written");
    let (code, refused) = ann.verb(&["publish", text(&folder)]);
    assert_eq!((code, &refused["over_quota"]["name"]), (4, &"self".into()), "{refused}");
    assert!(number(&refused["over_quota"]["used"]) > 5 << 20, "{refused}");
    assert_eq!(ann.ok(&["publisher", "show"])["sequence"], head, "nothing was signed");
    // What both versions have is there once.
    fs::write(folder.join("root/large"), noise("files 1.0.0", 5 * MIB)).expect("written");
    put(&folder.join("root/small"), "new");
    ann.ok(&["publish", text(&folder)]);
    ann.ok(&["quota", "self", "11MiB"]);
    fs::write(folder.join("root/large"), noise("another", 5 * MIB)).expect("written");
    plain(&folder, "files", "1.2.0");
    ann.ok(&["publish", text(&folder)]);
    assert_eq!(ann.ok(&["gc"])["reachable_lost"], 0);
    assert_eq!(ann.ok(&["fsck"])["damaged"], serde_json::json!([]));
}

#[test]
fn an_update_by_policy_is_refused_alike_told_and_made_up_for() {
    let world = World::new();
    let ann = world.node("ann");
    let page = world.path("site");
    served(&page, "site", 0);
    let ticket = ann.ok(&["publish", text(&page)])["ticket"].as_str().expect("a ticket").to_owned();
    let bob = world.node("bob");
    bob.ok(&["subscribe", &ticket, "--as", "ann", "--policy", "auto", "--quota", "2MiB"]);
    bob.ok(&["up", "ann/site", "--yes", "--accept-reduced"]);
    let definition = fs::read_to_string(page.join("distro.toml")).expect("a definition");
    fs::write(page.join("distro.toml"), definition.replace("1.0.0", "1.1.0")).expect("written");
    fs::write(page.join("root/large"), noise("site", 3 * MIB)).expect("written");
    ann.ok(&["publish", text(&page)]);
    eventually("the refusal is told", Instant::now() + PATIENCE, || {
        row(&bob.ok(&["subscriptions"]), "ann")["refused"].is_object()
    });
    let version = || bob.ok(&["ps", "site"])[0]["version"].clone();
    assert_eq!(version(), "1.0.0");
    assert!(sent(&ann) < 2 << 20);
    bob.ok(&["quota", "ann", "8MiB"]);
    eventually("the update comes when there is room", Instant::now() + PATIENCE, || version() == "1.1.0");
    assert_eq!(row(&bob.ok(&["subscriptions"]), "ann")["refused"], Value::Null);
    // It runs before it is confirmed, and nobody takes away what is on its way.
    let removed = || bob.verb(&["remove", "site", "--data"]).0 == 0;
    eventually("it is confirmed, and can be removed", Instant::now() + PATIENCE, removed);
}
