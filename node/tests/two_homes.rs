//! Several homes of one publisher. Invariant: nobody who may not be the only one says anything unasked, neither root document nor
//! entry, unless the owner says that no other home speaks: two words for one place fork the publisher, or freeze its feed. A home
//! that made its publisher and gave nobody a right needs neither peers nor flags to publish.

mod village;

use serde_json::{Value, json};
use softservice_node::{
    Node,
    api::talk::Talk,
    start_on,
    verbs::{self, failure::Failure},
};
use village::{folder, quiet, settle, soon};

async fn verb(of: &Node, verb: &str, arguments: Value) -> Result<Value, Failure> {
    soon(verb, verbs::run(&of.context(), verb, arguments, &Talk::alone())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_was_just_started_asks_before_it_changes_keys_and_says_when_nobody_was_there() {
    let (alice, bea) = (settle().await, settle().await);
    let publisher = alice.own().await;
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    // Bea has a copy of everything that Alice has, and knows where Alice is.
    alice.copy_publisher_to(bea.home.path());
    soon("the publisher", bea.handle().follow(alice.ticket(publisher))).await.unwrap();
    let (home, store) = (bea.home.clone(), bea.store.clone());
    let settings = quiet(home.path(), "/ip4/127.0.0.1/tcp/0");
    soon("the end of bea's node", bea.node.stop()).await;

    let done = verb(&alice.node, "publisher_rotate", json!({ "days": 100 })).await.unwrap();
    assert_eq!(done["root_version"], 2, "{done}");
    // As a verb without a running node does it: started, asked at once, stopped.
    let bea = start_on(settings.clone(), store.clone()).await.unwrap();
    let done = verb(&bea, "publisher_rotate", json!({ "days": 200 })).await.unwrap();
    assert_eq!((&done["root_version"], &done["asked"]), (&json!(3), &json!(1)), "{done}");
    soon("the end of bea's node", bea.stop()).await;

    soon("the end of alice's node", alice.node.stop()).await;
    let bea = start_on(settings, store).await.unwrap();
    let refused = verb(&bea, "publisher_rotate", json!({ "days": 300 })).await.unwrap_err();
    assert!(refused.kind.exit() == 4 && refused.message.contains("no peer could be asked"), "{refused}");
    assert_eq!(refused.details["asked"], 0, "{refused:?}");
    let done = verb(&bea, "publisher_rotate", json!({ "days": 300, "alone": true })).await.unwrap();
    assert_eq!((&done["root_version"], &done["asked"]), (&json!(4), &json!(0)), "{done}");
    soon("the end of bea's node", bea.stop()).await;
}

fn source(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "format = 1\n[distro]\nname = \"hello\"\nversion = \"{version}\"\nsummary = \"Files\"\n\
         [role.main.artifact]\nroot = {{ tree = \"root\" }}\n"
    );
    std::fs::create_dir_all(dir.path().join("root")).unwrap();
    std::fs::write(dir.path().join("root/file"), version).unwrap();
    std::fs::write(dir.path().join("distro.toml"), toml).unwrap();
    dir
}

async fn publish(of: &Node, version: &str, more: Value) -> Result<Value, Failure> {
    let dir = source(version);
    let mut arguments = json!({ "dir": dir.path() });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    verb(of, "publish", arguments).await
}

fn refuses(refused: &Failure, others: &str) {
    assert!(refused.kind.exit() == 4 && refused.message.contains("no peer could be asked"), "{refused}");
    assert!(refused.hint.as_deref().is_some_and(|h| h.contains("--alone")), "{refused:?}");
    assert_eq!((&refused.details["others"], &refused.details["asked"]), (&json!(others), &json!(0)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_home_says_nothing_unasked_until_its_owner_says_that_it_is_the_only_one() {
    let (alice, bea) = (settle().await, settle().await);
    let publisher = alice.own().await;
    alice.copy_publisher_to(bea.home.path());
    // Whoever made the publisher needs neither peers nor flags, the first time and later.
    publish(&alice.node, "1.0.0", json!({})).await.unwrap();
    assert_eq!(verb(&alice.node, "publisher_rotate", json!({ "days": 100 })).await.unwrap()["root_version"], 2);
    let alice = alice.restart().await;
    publish(&alice.node, "1.1.0", json!({})).await.unwrap();

    let bea = bea.restart().await;
    let arguments = [
        ("publisher_rotate", json!({})),
        ("publisher_delegate", json!({ "key": "00".repeat(32), "remove": true })),
        ("publisher_recover", json!({ "from": 0 })),
    ];
    for (name, arguments) in arguments {
        refuses(&verb(&bea.node, name, arguments).await.unwrap_err(), "copied");
    }
    refuses(&publish(&bea.node, "2.0.0", json!({})).await.unwrap_err(), "copied");
    assert!(!bea.home.path().join("publisher/root-2").exists());
    assert_eq!(bea.known(publisher).map(|k| k.feed.head.at.seq), Some(0));
    // Her owner says it once: from now on hers is the home that speaks, also when it is started anew.
    let done = verb(&bea.node, "publisher_rotate", json!({ "alone": true })).await.unwrap();
    assert_eq!((&done["root_version"], &done["asked"]), (&json!(2), &json!(0)), "{done}");
    publish(&bea.node, "2.0.0", json!({})).await.unwrap();
    let bea = bea.restart().await;
    publish(&bea.node, "2.1.0", json!({})).await.unwrap();

    // Who can ask hears what was said elsewhere, and goes on behind it.
    let cyd = settle().await;
    alice.copy_publisher_to(cyd.home.path());
    let cyd = cyd.restart().await;
    soon("the publisher", cyd.handle().follow(alice.ticket(publisher))).await.unwrap();
    assert_eq!(publish(&cyd.node, "1.2.0", json!({})).await.unwrap()["sequence"], 3);
    soon("the end of alice's node", alice.node.stop()).await;
    cyd.meets("nobody", |peers| peers == 0).await;
    refuses(&publish(&cyd.node, "1.3.0", json!({})).await.unwrap_err(), "copied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_build_machines_nobody_publishes_unasked_and_they_take_turns() {
    let (alice, one, two) = (settle().await, settle().await, settle().await);
    let publisher = alice.own().await;
    publish(&alice.node, "1.0.0", json!({})).await.unwrap();
    for (n, machine) in [&one, &two].into_iter().enumerate() {
        let file = machine.home.path().join("ci.key");
        let key = softservice_node::publisher::make_key(&file).unwrap();
        let key = softservice_node::publisher::public(&key).to_string();
        let right = json!({ "key": key, "channel": "nightly", "distros": ["hello"], "days": 30, "entries": 9 });
        assert_eq!(verb(&alice.node, "publisher_delegate", right).await.unwrap()["root_version"], n + 2);
        let ticket = alice.ticket(publisher).to_string();
        verb(&machine.node, "publisher_join", json!({ "key": file, "ticket": ticket })).await.unwrap();
    }
    let nightly = || json!({ "channel": "nightly" });
    let two = two.restart().await;
    assert_eq!(publish(&one.node, "1.1.0", nightly()).await.unwrap()["sequence"], 2);
    // Started and asked at once, it goes on behind what the first one said.
    assert_eq!(publish(&two.node, "1.2.0", nightly()).await.unwrap()["sequence"], 3);
    assert_eq!(publish(&one.node, "1.3.0", nightly()).await.unwrap()["sequence"], 4);
    alice.learns("all of it", |all| all.get(&publisher).is_some_and(|k| k.feed.head.at.seq == 4 && !k.frozen)).await;

    // Nobody is left whom they could ask; nor may Alice know what they said since.
    soon("the end of the first machine's node", one.node.stop()).await;
    soon("the end of the second machine's node", two.node.stop()).await;
    alice.meets("nobody", |peers| peers == 0).await;
    refuses(&publish(&alice.node, "2.0.0", json!({})).await.unwrap_err(), "delegates");
    let done = publish(&alice.node, "2.0.0", json!({ "alone": true })).await.unwrap();
    assert_eq!(done["sequence"], 5, "{done}");
}
