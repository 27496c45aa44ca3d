//! What the policy `auto` does not do unasked, and how its owner learns of it.

mod workshop;

use serde_json::{Value, json};
use softservice_node::{Config, Node, api::talk::Talk, start, verbs};
use std::path::{Path, PathBuf};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(workshop::DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come"),
    }
}

async fn node(home: &Path) -> Node {
    let config = Config {
        home: home.into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        mdns: false,
        dht: false,
        units: false,
        keeper: workshop::keeper(),
        ..Config::default()
    };
    start(config).await.expect("a node")
}

async fn done(node: &Node, verb: &str, arguments: Value) -> Value {
    let answer = soon(verb, verbs::run(&node.context(), verb, arguments, &Talk::alone())).await;
    answer.unwrap_or_else(|e| panic!("{verb}: {e:?}"))
}

fn distro(folder: &Path, version: &str, more: &str) -> PathBuf {
    let dir = folder.join("clockwork");
    std::fs::create_dir_all(&dir).expect("a folder");
    let toml = format!(
        "format = 1\n[distro]\nname = \"clockwork\"\nversion = \"{version}\"\n{more}\
         [role.main.service.tick]\ncommand = [\"/bin/sleep\", \"100000\"]\n[update]\nsettle = \"100ms\"\n"
    );
    std::fs::write(dir.join("distro.toml"), toml).expect("a definition");
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_cannot_be_planned_is_told_and_nothing_is_done() {
    let place = tempfile::tempdir().expect("a folder");
    let (anna, bob) = (node(&place.path().join("anna")).await, node(&place.path().join("bob")).await);
    let first = done(&anna, "publish", json!({ "dir": distro(place.path(), "1.0.0", "") })).await;
    done(&bob, "subscribe", json!({ "ticket": first["ticket"], "petname": "anna", "policy": "auto" })).await;
    done(&bob, "up", json!({ "reference": "clockwork", "yes": true, "accept_reduced": true })).await;
    let policies = tokio::spawn(verbs::follow_policies(bob.context()));

    let asks = "[param]\ncity = { type = \"text\", ask = \"Where is it?\" }\n";
    done(&anna, "publish", json!({ "dir": distro(place.path(), "1.1.0", asks) })).await;
    let task = soon("the task", async {
        loop {
            let one = done(&bob, "ps", json!({ "name": "clockwork" })).await[0].clone();
            if one["tasks"][0].is_object() {
                return one["tasks"][0].clone();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((&task["kind"], &task["what"]), (&json!("update_blocked"), &json!("clockwork 1.1.0")), "{task}");
    assert!(task["why"].as_str().is_some_and(|why| why.contains("asks for city")), "{task}");
    assert_eq!(task["resolve"][0], "softservice update clockwork --set city=…");
    let one = done(&bob, "ps", json!({ "name": "clockwork" })).await[0].clone();
    assert_eq!((&one["version"], &one["generation"]), (&json!("1.0.0"), &json!(1)), "{one}");
    policies.abort();

    let answered = json!({ "name": "clockwork", "set": { "city": "Bern" }, "yes": true, "accept_reduced": true });
    assert_eq!(done(&bob, "update", answered).await["version"], "1.1.0");
    assert_eq!(done(&bob, "ps", json!({ "name": "clockwork" })).await[0]["tasks"], json!([]));
    bob.device().clear().await.expect("nothing is left");
    bob.stop().await;
    anna.stop().await;
}

async fn until(what: &str, node: &Node, met: impl Fn(&Value) -> bool) -> Value {
    soon(what, async {
        loop {
            let one = done(node, "ps", json!({ "name": "clockwork" })).await[0].clone();
            if met(&one) {
                return one;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The revoke role can only stop things: what it names instead is offered, and no device goes there by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_revocation_names_instead_is_never_taken_unasked() {
    let place = tempfile::tempdir().expect("a folder");
    let (anna, bob) = (node(&place.path().join("anna")).await, node(&place.path().join("bob")).await);
    let published = async |version: &str, channel: &str, more: &str| {
        done(&anna, "publish", json!({ "dir": distro(place.path(), version, more), "channel": channel })).await
    };
    let first = published("1.0.0", "stable", "").await;
    published("1.1.0", "stable", "").await;
    done(&bob, "subscribe", json!({ "ticket": first["ticket"], "petname": "anna", "policy": "auto" })).await;
    done(&bob, "up", json!({ "reference": "clockwork", "yes": true, "accept_reduced": true })).await;
    let policies = tokio::spawn(verbs::follow_policies(bob.context()));
    // A newer one waits for its owner, so the policy looks whenever there are news.
    published("1.2.0", "stable", "[param]\ncity = { type = \"text\", ask = \"Where is it?\" }\n").await;
    until("the task", &bob, |one| one["tasks"][0]["kind"] == "update_blocked").await;

    let nightly = published("9.0.0", "nightly", "").await;
    for (level, instead) in [("withdraw", &nightly["release"]), ("unsafe", &first["release"])] {
        let revoke =
            json!({ "reference": "clockwork@1.1.0", "level": level, "reason": "it ticks", "replaced_by": instead });
        done(&anna, "revoke", revoke).await;
        until("the revocation", &bob, |one| one["revoked"]["level"] == level).await;
    }
    published("1.3.0", "stable", "").await;
    until("the next good one", &bob, |one| one["version"] == "1.3.0" && one["state"] == "running").await;
    policies.abort();
    let all = done(&bob, "generations", json!({ "name": "clockwork" })).await;
    let all: Vec<&Value> = all.as_array().into_iter().flatten().map(|g| &g["version"]).collect();
    assert_eq!(all, ["1.1.0", "1.3.0"], "and nothing in between");
    bob.device().clear().await.expect("nothing is left");
    bob.stop().await;
    anna.stop().await;
}
