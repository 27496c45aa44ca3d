//! Stories of a publisher whose keys change hands while its node runs: its followers go on, a restart changes nothing, and another
//! home of the same people is never gone against.

mod village;

use serde_json::{Value, json};
use softservice_node::{
    api::talk::Talk,
    publisher::{
        Keys,
        change::Change,
        make_key, public,
        request::{Opened, Request},
        role::RoleName,
    },
    verbs::{self, failure::Failure},
};
use softservice_protocol::{codec, sign::Kind, time::Time};
use village::{Villager, folder, settle, soon};

async fn verb(of: &Villager, verb: &str, arguments: Value) -> Result<Value, Failure> {
    soon(verb, verbs::run(&of.node.context(), verb, arguments, &Talk::alone())).await
}

/// The next root document, in the files of a home alone.
fn renew(keys: &Keys) {
    let mut request = asks(keys, &Change::default());
    request.sign_where_due(&keys.at_hand());
    keys.adopt(&request.sealed().unwrap()).unwrap();
}

fn asks(keys: &Keys, change: &Change) -> Opened {
    let root = change.apply(&keys.newest_root().unwrap(), Time(1_790_000_000_000)).unwrap();
    Request::new(keys.newest_envelope().unwrap(), Kind::Root, codec::encode(&root).unwrap()).open().unwrap()
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
    let keys = Keys::open(alice.home.path()).unwrap();
    renew(&keys);
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
    alice.copy_publisher_to(bea.home.path());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_home_joins_with_a_key_of_its_own_and_both_take_turns() {
    let (alice, bea) = (settle().await, settle().await);
    let publisher = alice.own().await;
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    let file = bea.home.path().join("bea.key");
    let key = public(&make_key(&file).unwrap());
    let ticket = alice.ticket(publisher).to_string();
    let refused = verb(&bea, "publisher_join", json!({ "key": file, "ticket": ticket })).await.unwrap_err();
    assert!(refused.kind.exit() == 4 && refused.message.contains("no right"), "{refused}");
    assert_eq!(bea.node.keys().publisher(), None);

    let shown = verb(&alice, "publisher", json!({})).await.unwrap();
    let hers = shown["roles"][1]["keys"][0]["key"].as_str().unwrap().to_owned();
    let both = json!({ "roles": { "release": [hers, key.to_string()] } });
    let done = verb(&alice, "publisher_rotate", both).await.unwrap();
    assert_eq!(done["head_signed"], true, "{done}");
    let ticket = alice.ticket(publisher).to_string();
    let joined = verb(&bea, "publisher_join", json!({ "key": file, "ticket": ticket })).await.unwrap();
    assert_eq!((&joined["role"], &joined["root_version"]), (&json!("release"), &json!(2)), "{joined}");

    let (_, second) = bea.publish(publisher, "1.1.0", folder("two", 1, 1000).path()).await;
    assert_eq!(second.at.seq, 2);
    alice.learns("what bea published", |all| all.get(&publisher).is_some_and(|k| k.feed.head == second)).await;
    let (_, third) = alice.publish(publisher, "1.2.0", folder("three", 1, 1000).path()).await;
    let bea = bea.restart().await;
    assert_eq!(bea.node.keys().publisher(), Some(publisher));
    bea.handle().dial(alice.node.addresses().remove(0)).await.unwrap();
    bea.learns("what alice published", |all| all.get(&publisher).is_some_and(|k| k.feed.head == third)).await;
    let (_, fourth) = bea.publish(publisher, "1.3.0", folder("four", 1, 1000).path()).await;
    assert_eq!(fourth.at.seq, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fresh_key_alone_says_that_the_head_is_current_and_nothing_else_does() {
    let alice = settle().await;
    let publisher = alice.own().await;
    let nothing = verb(&alice, "publisher_freshen", json!({})).await.unwrap_err();
    assert!(nothing.message.contains("nothing is published"), "{nothing}");
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    let file = |role: &str| alice.home.path().join(format!("publisher/{role}.key"));
    for role in ["root", "release", "revoke"] {
        std::fs::remove_file(file(role)).unwrap();
    }
    let done = verb(&alice, "publisher_freshen", json!({})).await.unwrap();
    assert!(done["sequence"] == 1 && done["fresh_until"].as_u64().is_some(), "{done}");
    // Taken elsewhere, and lent for the time of a verb.
    let stick = alice.home.path().join("stick.key");
    std::fs::rename(file("fresh"), &stick).unwrap();
    let refused = verb(&alice, "publisher_freshen", json!({})).await.unwrap_err();
    assert!(refused.kind.exit() == 4 && refused.message.contains("0 are at hand"), "{refused}");
    verb(&alice, "publisher_freshen", json!({ "keys": [stick] })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_machine_publishes_what_was_delegated_to_it_and_nothing_else() {
    let (alice, ci, bob) = (settle().await, settle().await, settle().await);
    let publisher = alice.own().await;
    alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    let file = ci.home.path().join("ci.key");
    let key = public(&make_key(&file).unwrap()).to_string();
    let right = json!({ "key": key, "channel": "nightly", "distros": ["hello"], "days": 30, "entries": 1 });
    assert_eq!(verb(&alice, "publisher_delegate", right).await.unwrap()["root_version"], 2);
    let ticket = alice.ticket(publisher).to_string();
    let joined = verb(&ci, "publisher_join", json!({ "key": file, "ticket": ticket })).await.unwrap();
    assert!(joined["role"].is_null() && joined["delegation"].is_string(), "{joined}");
    follows(&bob, &alice, publisher).await;

    let source = tempfile::tempdir().unwrap();
    let write = |name: &str, version: &str| {
        let toml = format!(
            "format = 1\n[distro]\nname = \"{name}\"\nversion = \"{version}\"\nsummary = \"Files\"\n\
             [role.main.artifact]\nroot = {{ tree = \"root\" }}\n"
        );
        std::fs::create_dir_all(source.path().join("root")).unwrap();
        std::fs::write(source.path().join("root/file"), version).unwrap();
        std::fs::write(source.path().join("distro.toml"), toml).unwrap();
    };
    let publish = |channel: &str| json!({ "dir": source.path(), "channel": channel });
    write("hello", "0.1.0");
    let refused = verb(&ci, "publish", publish("stable")).await.unwrap_err();
    assert!(refused.kind.exit() == 4 && refused.message.contains("does not reach this channel"), "{refused}");
    let done = verb(&ci, "publish", publish("nightly")).await.unwrap();
    assert_eq!((&done["sequence"], &done["published"]), (&json!(2), &json!(true)), "{done}");
    for node in [&alice, &bob] {
        node.learns("what the machine published", |all| all.get(&publisher).is_some_and(|k| k.feed.head.at.seq == 2))
            .await;
    }
    write("other", "0.1.0");
    let refused = verb(&ci, "publish", publish("nightly")).await.unwrap_err();
    assert!(refused.message.contains("does not name this distro"), "{refused}");
    write("hello", "0.2.0");
    let refused = verb(&ci, "publish", publish("nightly")).await.unwrap_err();
    assert_ne!(refused.kind.exit(), 0, "its one entry is spent: {refused}");
    assert_eq!(alice.known(publisher).map(|k| k.feed.head.at.seq), Some(2));

    // The right is taken away, and its key says nothing more.
    let gone = json!({ "key": key, "remove": true });
    assert_eq!(verb(&alice, "publisher_delegate", gone).await.unwrap()["root_version"], 3);
    let refused = verb(&ci, "publish", publish("nightly")).await.unwrap_err();
    assert_ne!(refused.kind.exit(), 0, "{refused}");
    let (_, third) = alice.publish(publisher, "1.1.0", folder("three", 1, 1000).path()).await;
    bob.learns("that the publisher goes on", |all| all.get(&publisher).is_some_and(|k| k.feed.head == third)).await;
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

async fn publish(of: &Villager, version: &str, signing: Value) -> Result<Value, Failure> {
    let dir = source(version);
    verb(of, "publish", json!({ "dir": dir.path(), "signing": signing })).await
}

async fn release_key_leaves(alice: &Villager) -> std::path::PathBuf {
    let stick = alice.home.path().join("stick.key");
    std::fs::rename(alice.home.path().join("publisher/release.key"), &stick).unwrap();
    verb(alice, "publisher", json!({})).await.unwrap();
    stick
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_root_document_gets_no_signature_by_being_assembled() {
    let alice = settle().await;
    let publisher = alice.own().await;
    // All that it takes is public: her root document, and a key of Mallory's.
    let mallory = make_key(&alice.home.path().join("mallory.key")).unwrap();
    let mut theft = Change::default();
    theft.keys.insert(RoleName::Root, vec![public(&mallory)]);
    let mut request = asks(&alice.node.keys(), &theft);
    request.sign(&[mallory]).unwrap();
    let file = alice.home.path().join("theft.request");
    request.write(&file).unwrap();
    let refused = verb(&alice, "publisher_assemble", json!({ "requests": [file] })).await.unwrap_err();
    assert_eq!(refused.kind.exit(), 4, "{refused}");
    assert!(refused.message.contains("lacks signatures: 1 of the root role of version 1"), "{refused}");
    assert!(refused.hint.as_deref().is_some_and(|h| h.contains("not handed out here")), "{refused:?}");
    assert_eq!(alice.known(publisher).map(|k| k.root_version), Some(1));
    assert!(!alice.home.path().join("publisher/root-2").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_given_up_blocks_nothing_after_a_restart() {
    let alice = settle().await;
    alice.own().await;
    let stick = release_key_leaves(&alice).await;
    let out = alice.home.path().join("one.request");
    let asked = publish(&alice, "1.0.0", json!({ "out": out })).await.unwrap();
    assert_eq!(asked["published"], false, "{asked}");
    verb(&alice, "publisher_withdraw", json!({})).await.unwrap();
    let alice = alice.restart().await;
    let done = publish(&alice, "1.1.0", json!({ "keys": [stick] })).await.unwrap();
    assert_eq!(done["sequence"], 1, "{done}");

    // Cut off between what the core keeps and the file in the home: nobody has a copy.
    let out = alice.home.path().join("two.request");
    publish(&alice, "1.2.0", json!({ "out": out })).await.unwrap();
    let alice = alice.restart().await;
    std::fs::remove_dir_all(alice.home.path().join("publisher/requests")).unwrap();
    let done = publish(&alice, "1.3.0", json!({ "keys": [stick] })).await.unwrap();
    assert_eq!(done["sequence"], 2, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_an_epoch_that_was_given_up_blocks_nothing_and_goes() {
    let alice = settle().await;
    alice.own().await;
    publish(&alice, "1.0.0", json!({})).await.unwrap();
    let stick = release_key_leaves(&alice).await;
    let out = alice.home.path().join("two.request");
    publish(&alice, "1.1.0", json!({ "out": out })).await.unwrap();
    let refused = publish(&alice, "1.2.0", json!({ "keys": [stick] })).await.unwrap_err();
    assert!(refused.kind.exit() == 4 && refused.message.contains("handed out to be signed elsewhere"), "{refused}");
    verb(&alice, "publisher_recover", json!({ "from": 1 })).await.unwrap();
    let done = publish(&alice, "1.2.0", json!({ "keys": [stick] })).await.unwrap();
    assert_eq!((&done["epoch"], &done["sequence"]), (&json!(2), &json!(2)), "{done}");
    let left = std::fs::read_dir(alice.home.path().join("publisher/requests")).unwrap().count();
    assert_eq!(left, 0, "what is over waits no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_read_still_guards_against_a_fork() {
    let alice = settle().await;
    let publisher = alice.own().await;
    let requests = alice.home.path().join("publisher/requests");
    std::fs::create_dir(&requests).unwrap();
    std::fs::write(requests.join("root-2.request"), "half").unwrap();
    for (name, arguments) in [("publisher_rotate", json!({})), ("publisher_recover", json!({ "from": 0 }))] {
        let refused = verb(&alice, name, arguments).await.unwrap_err();
        assert!(refused.kind.exit() == 6 && refused.message.contains("root-2.request"), "{refused}");
    }
    let refused = publish(&alice, "1.0.0", json!({})).await.unwrap_err();
    assert_eq!(refused.kind.exit(), 6, "{refused}");
    std::fs::remove_dir_all(&requests).unwrap();
    std::fs::write(&requests, "").unwrap();
    let refused = verb(&alice, "publisher_rotate", json!({})).await.unwrap_err();
    assert_eq!(refused.kind.exit(), 6, "{refused}");
    assert_eq!(alice.known(publisher).map(|k| k.root_version), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_that_nothing_could_keep_is_refused() {
    let alice = settle().await;
    alice.own().await;
    let commit = |keys: Vec<String>| json!({ "commit": keys });
    // A digest is no key; nor is the neutral point, for which anybody signs.
    let weak = format!("01{}", "0".repeat(62));
    let no_point = format!("02{}", "0".repeat(62));
    for bad in [weak, no_point] {
        let refused = verb(&alice, "publisher_rotate", commit(vec![bad.clone()])).await.unwrap_err();
        assert!(refused.kind.exit() == 2 && refused.message.contains("public key"), "{refused}");
        let role = json!({ "roles": { "fresh": [bad] } });
        let refused = verb(&alice, "publisher_rotate", role).await.unwrap_err();
        assert_eq!(refused.kind.exit(), 2, "{refused}");
    }
    let keys: Vec<String> =
        (0..40).map(|n| public(&make_key(&alice.home.path().join(format!("{n}.key"))).unwrap()).to_string()).collect();
    let refused = verb(&alice, "publisher_rotate", commit(keys.clone())).await.unwrap_err();
    assert_eq!(refused.kind.exit(), 2, "{refused}");
    assert!(!alice.home.path().join("publisher/root-2").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_document_that_an_aborted_verb_left_is_handed_over_by_the_next_one() {
    let alice = settle().await;
    let publisher = alice.own().await;
    alice.learns("root document 1", |all| all.get(&publisher).is_some_and(|k| k.root_version == 1)).await;
    renew(&alice.node.keys());
    verb(&alice, "publisher", json!({})).await.unwrap();
    assert_eq!(alice.known(publisher).map(|k| k.root_version), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_home_is_made_nobody_by_verbs_that_change_a_publisher() {
    let alice = settle().await;
    let key = public(&make_key(&alice.home.path().join("ci.key")).unwrap()).to_string();
    let changes = [
        ("publisher_rotate", json!({})),
        ("publisher_recover", json!({ "from": 0 })),
        ("publisher_delegate", json!({ "key": key, "remove": true })),
        ("publisher_withdraw", json!({})),
        ("publisher_sign_head", json!({})),
        ("publisher_freshen", json!({})),
    ];
    for (name, arguments) in changes {
        let refused = verb(&alice, name, arguments).await.unwrap_err();
        assert!(refused.kind.exit() == 4 && refused.message.contains("does not publish"), "{name}: {refused}");
    }
    assert!(!alice.home.path().join("publisher").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_cannot_be_read_keeps_no_node_from_its_work() {
    let alice = settle().await;
    alice.own().await;
    let bad = alice.home.path().join("publisher/half.key");
    std::fs::write(&bad, "").unwrap();
    let alice = alice.restart().await;
    let shown = verb(&alice, "publisher", json!({})).await.unwrap();
    assert_eq!(shown["unreadable"][0]["file"].as_str(), bad.to_str(), "{shown}");
    publish(&alice, "1.0.0", json!({})).await.unwrap();
}
