//! Stories of a publisher whose keys change hands while its node runs: its followers go on, a restart changes nothing, and another
//! home of the same people is never gone against.

mod village;

use serde_json::{Value, json};
use softservice_node::{
    api::talk::Talk,
    publisher::{make_key, public},
    verbs::{self, failure::Failure},
};
use village::{Villager, folder, settle, soon};

async fn verb(of: &Villager, verb: &str, arguments: Value) -> Result<Value, Failure> {
    soon(verb, verbs::run(&of.node.context(), verb, arguments, &Talk::alone())).await
}

async fn follows(bob: &Villager, alice: &Villager, publisher: softservice_protocol::id::PublisherId) {
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_while_the_node_runs_and_followers_go_on() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    follows(&bob, &alice, publisher).await;

    let done = verb(&alice, "publisher_rotate", json!({})).await.unwrap();
    assert_eq!((&done["adopted"], &done["root_version"]), (&json!(true), &json!(2)), "{done}");
    assert_eq!(done["made"].as_array().map(Vec::len), Some(3), "{done}");
    let (_, second) = alice.publish(publisher, "1.1.0", folder("two", 1, 1000).path()).await;
    bob.learns("what new keys signed", |all| {
        all.get(&publisher).is_some_and(|k| k.feed.head == second && k.root_version == 2)
    })
    .await;

    let alice = alice.restart().await;
    assert_eq!(alice.known(publisher).map(|k| (k.root_version, k.feed.head)), Some((2, second)));
    let (_, third) = alice.publish(publisher, "1.2.0", folder("three", 1, 1000).path()).await;
    assert_eq!(third.at.seq, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_document_that_the_node_did_not_hear_of_is_taken_at_its_next_start() {
    let alice = settle().await;
    let publisher = alice.own().await;
    // Beside the node, as if its process had died between the file's name and the core.
    let keys = softservice_node::publisher::Keys::open(alice.home.path()).unwrap();
    let next = {
        use softservice_node::publisher::{change::Change, request::Request};
        use softservice_protocol::{codec, sign::Kind, time::Time};
        let root = Change::default().apply(&keys.newest_root().unwrap(), Time(1_790_000_000_000)).unwrap();
        let payload = codec::encode(&root).unwrap();
        let mut request = Request::new(keys.newest_envelope().unwrap(), Kind::Root, payload).open().unwrap();
        request.sign_where_due(&keys.at_hand());
        request.sealed().unwrap()
    };
    keys.adopt(&next).unwrap();
    let alice = alice.restart().await;
    alice.learns("root document 2", |all| all.get(&publisher).is_some_and(|k| k.root_version == 2)).await;
    let shown = verb(&alice, "publisher", json!({})).await.unwrap();
    assert_eq!(shown["root_version"], 2, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_homes_root_document_is_taken_over_and_none_is_made_beside_it() {
    let (alice, bea) = (settle().await, settle().await);
    let publisher = alice.own().await;
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    // Bea has a copy of everything that Alice has.
    let (from, to) = (alice.home.path().join("publisher"), bea.home.path().join("publisher"));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let bea = bea.restart().await;
    follows(&bea, &alice, publisher).await;

    let guest = make_key(&alice.home.path().join("guest.key")).unwrap();
    let role = json!({ "roles": { "fresh": [public(&guest).to_string()] } });
    assert_eq!(verb(&alice, "publisher_rotate", role).await.unwrap()["root_version"], 2);
    // She does not know yet; a second document 2 would fork them both for good.
    let done = verb(&bea, "publisher_rotate", json!({ "renew": ["release"] })).await.unwrap();
    assert_eq!(done["root_version"], 3, "{done}");
    let shown = verb(&alice, "publisher_rotate", json!({ "days": 100 })).await.unwrap();
    assert_eq!(shown["root_version"], 4, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_signed_here_is_refused_with_what_is_lacking_and_changes_nothing() {
    let alice = settle().await;
    alice.own().await;
    let elsewhere = make_key(&alice.home.path().join("elsewhere.key")).unwrap();
    let role = json!({ "roles": { "root": [public(&elsewhere).to_string()] } });
    let refused = verb(&alice, "publisher_rotate", role.clone()).await.unwrap_err();
    assert_eq!(refused.kind.exit(), 4, "{refused}");
    assert!(refused.message.contains("lacks signatures: 1 of the root role of version 2"), "{refused}");
    let out = alice.home.path().join("next.request");
    let mut asked = role;
    asked["signing"] = json!({ "out": out });
    let done = verb(&alice, "publisher_rotate", asked.clone()).await.unwrap();
    assert_eq!((&done["adopted"], out.exists()), (&json!(false), true), "{done}");
    // It waits, through a restart, and nothing is made beside it until it is given up.
    let alice = alice.restart().await;
    let shown = verb(&alice, "publisher", json!({})).await.unwrap();
    assert_eq!(
        (shown["root_version"].as_u64(), shown["requests"].as_array().map(Vec::len)),
        (Some(1), Some(1)),
        "{shown}"
    );
    let refused = verb(&alice, "publisher_rotate", json!({})).await.unwrap_err();
    assert!(refused.message.contains("would fork the publisher"), "{refused}");
    verb(&alice, "publisher_withdraw", json!({})).await.unwrap();
    assert_eq!(verb(&alice, "publisher_rotate", json!({})).await.unwrap()["root_version"], 2);
    let late = verb(&alice, "publisher_assemble", json!({ "requests": [out] })).await.unwrap_err();
    assert_eq!(late.kind.exit(), 4, "{late}");
}
