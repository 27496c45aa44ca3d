//! Two homes of one publisher, of which one slept while the other changed keys. Invariant: a root document is made by nobody who
//! could have asked and did not: two of one version fork the publisher for good.

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
    let (from, to) = (alice.home.path().join("publisher"), bea.home.path().join("publisher"));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
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
