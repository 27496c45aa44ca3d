//! A publisher that falls silent, seen by its follower: years pass at a word, and what runs goes on. Invariant: nothing waits
//! for a clock; time passes when a story says so.

mod workshop;

use serde_json::{Value, json};
use softservice_node::{
    Config, Node,
    api::talk::Talk,
    clock::Clock,
    start,
    verbs::{self, failure::Failure},
};
use softservice_protocol::{
    feed::{Head, Position},
    id::{Digest, FeedId, PublisherId},
    ticket::Ticket,
    time::Span,
};
use softservice_store::Store as _;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

#[test]
fn keeper_part() {
    workshop::play_keeper();
}

/// Waits for something that must come.
async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(workshop::DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come"),
    }
}

/// Homes of one story, and the clock that all of them have.
struct Place {
    folder: tempfile::TempDir,
    clock: Arc<Clock>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), clock: Arc::default() }
    }
    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    async fn node(&self, name: &str) -> Node {
        self.sending(name, None).await
    }
    /// One that sends so many bytes of content a second at most.
    async fn sending(&self, name: &str, limit_up: Option<u64>) -> Node {
        let config = Config {
            limit_up,
            home: self.home(name),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            mdns: false,
            dht: false,
            units: false,
            keeper: workshop::keeper(),
            clock: Arc::clone(&self.clock),
            ..Config::default()
        };
        start(config).await.expect("a node")
    }
    /// Writes a version of a distro that runs for ever.
    fn distro(&self, version: &str) -> PathBuf {
        self.named("clockwork", version)
    }
    fn named(&self, name: &str, version: &str) -> PathBuf {
        let dir = self.folder.path().join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let toml = format!(
            "format = 1\n[distro]\nname = \"{name}\"\nversion = \"{version}\"\n\
             [role.main.service.tick]\ncommand = [\"/bin/sleep\", \"100000\"]\n[update]\nsettle = \"100ms\"\n"
        );
        std::fs::write(dir.join("distro.toml"), toml).expect("a definition");
        dir
    }
    /// Ends what a device runs.
    async fn clear(&self, node: Node) {
        let device = node.device();
        device.clear().await.expect("nothing is left");
        node.stop().await;
    }
}

async fn ask(node: &Node, verb: &str, arguments: Value) -> Result<Value, Failure> {
    soon(verb, verbs::run(&node.context(), verb, arguments, &Talk::alone())).await
}
async fn done(node: &Node, verb: &str, arguments: Value) -> Value {
    ask(node, verb, arguments).await.unwrap_or_else(|e| panic!("{verb}: {e:?}"))
}
async fn publish(node: &Node, dir: &Path) -> Value {
    done(node, "publish", json!({ "dir": dir })).await
}
fn up(reference: &str) -> Value {
    json!({ "reference": reference, "yes": true, "accept_reduced": true })
}
/// A restore.
fn back(name: &str, file: &Path, more: Value) -> Value {
    let mut wanted = json!({ "name": name, "file": file });
    for (key, value) in more.as_object().into_iter().flatten() {
        wanted[key] = value.clone();
    }
    wanted
}
/// Bob meets whoever this is.
async fn meet(bob: &Node, other: &Node) {
    for address in other.addresses() {
        bob.handle().dial(address).await.expect("a dial");
    }
}
/// Waits until what is known of a publisher is as wished.
async fn until(
    node: &Node,
    publisher: PublisherId,
    what: &str,
    wished: impl Fn(&softservice_node::handle::Known) -> bool,
) {
    let mut handle = node.handle();
    soon(what, async {
        while !handle.catalogue().get(&publisher).is_some_and(&wished) {
            handle.catalogue_changed().await.expect("a node");
        }
    })
    .await;
}

/// Anna has published `clockwork` 1.0.0, and bob follows and runs it.
async fn running(place: &Place) -> (Node, Node, PublisherId, String) {
    let (anna, bob) = (place.node("anna").await, place.node("bob").await);
    let ticket = publish(&anna, &place.distro("1.0.0")).await["ticket"].as_str().expect("a ticket").to_owned();
    let followed = done(&bob, "subscribe", json!({ "ticket": ticket, "petname": "anna" })).await;
    assert_eq!(followed["freshness"], "fresh");
    assert!(followed["fresh_until"].as_u64() < followed["stale_until"].as_u64(), "{followed}");
    let upped = done(&bob, "up", up("clockwork")).await;
    assert_eq!((&upped["state"], &upped["freshness"]), (&json!("running"), &json!("fresh")));
    (anna, bob, followed["publisher"].as_str().expect("an id").parse().expect("an id"), ticket)
}
/// Anna publishes 1.0.1, and bob has heard of it.
async fn second(place: &Place, anna: &Node, bob: &Node, publisher: PublisherId) {
    publish(anna, &place.distro("1.0.1")).await;
    until(bob, publisher, "the second release", |k| k.feed.head.at.seq == 2).await;
    // Its documents are looked at ahead; then they are here, whoever is gone.
    let content = json!({ "reference": "clockwork@1.0.1" });
    done(bob, "fetch", content).await;
}
async fn pid(bob: &Node) -> Value {
    let one = done(bob, "ps", json!({ "name": "clockwork" })).await[0].clone();
    assert_eq!(one["state"], "running");
    one["services"][0]["pid"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_waits_for_a_word_or_for_its_owner_and_what_runs_runs_on() {
    let place = Place::new();
    let (anna, bob, publisher, _) = running(&place).await;
    second(&place, &anna, &bob, publisher).await;
    let process = pid(&bob).await;
    soon("anna's end", anna.stop()).await;

    place.clock.pass(Span::days(8));
    let listed = done(&bob, "subscriptions", json!({})).await;
    assert_eq!(listed[0]["freshness"], "stale");
    for verb in ["ps", "search"] {
        assert_eq!(done(&bob, verb, json!({})).await[0]["freshness"], "stale", "{verb}");
    }
    assert_eq!(done(&bob, "status", json!({})).await["softservices"][0]["freshness"], "stale");
    // By hand all goes as ever; the plan says how old the word is.
    let plan = done(&bob, "plan", json!({ "reference": "clockwork", "name": "other" })).await;
    assert_eq!((&plan["freshness"], &plan["petname"]), (&json!("stale"), &json!("anna")));
    let newer = done(&bob, "plan_update", json!({ "name": "clockwork" })).await;
    assert_eq!((&newer["newer"], &newer["freshness"]), (&json!(true), &json!("stale")));

    place.clock.pass(Span::days(30));
    assert_eq!(done(&bob, "show", json!({ "reference": "clockwork" })).await["freshness"], "expired");
    for (verb, arguments) in [
        ("plan", json!({ "reference": "clockwork", "name": "other" })),
        ("questions", json!({ "reference": "clockwork", "name": "other" })),
        ("up", up("clockwork@1.0.1")),
        ("test", json!({ "reference": "clockwork@1.0.1" })),
        ("plan_update", json!({ "name": "clockwork" })),
        ("update", json!({ "name": "clockwork", "yes": true, "accept_reduced": true })),
        (
            "set_overlay",
            json!({ "name": "clockwork", "next": true, "yes": true, "accept_reduced": true,
                    "edits": [{ "set_env": { "service": "tick", "name": "A", "value": "b" } }] }),
        ),
    ] {
        let refused = ask(&bob, verb, arguments).await.expect_err(verb);
        assert_eq!(refused.kind.exit(), 4, "{verb}: {refused}");
        let hint = refused.hint.clone().unwrap_or_default();
        assert!(hint.contains("--accept-expired") && hint.contains("peers"), "{verb}: {hint}");
        assert_eq!(refused.details["freshness"], "expired", "{verb}");
    }
    // What is here is started, mended and taken back as ever.
    assert_eq!(pid(&bob).await, process, "nothing touched it");
    assert_eq!(done(&bob, "up", up("clockwork@1.0.0")).await["generation"], 1);
    done(&bob, "down", json!({ "name": "clockwork" })).await;
    done(&bob, "start", json!({ "name": "clockwork" })).await;
    // And the owner may insist.
    let insist = json!({ "name": "clockwork", "yes": true, "accept_reduced": true, "accept_expired": true });
    let updated = done(&bob, "update", insist).await;
    assert_eq!((&updated["version"], &updated["freshness"]), (&json!("1.0.1"), &json!("expired")));
    let back = done(&bob, "rollback", json!({ "name": "clockwork", "accept_reduced": true })).await;
    assert_eq!(back["version"], "1.0.0");

    // Anna comes back, says so by herself, and nobody has to insist any more.
    let anna = place.node("anna").await;
    meet(&bob, &anna).await;
    let mut handle = bob.handle();
    soon("a fresh word", async {
        while done(&bob, "subscriptions", json!({})).await[0]["freshness"] != "fresh" {
            handle.catalogue_changed().await.expect("a node");
        }
    })
    .await;
    done(&bob, "plan", json!({ "reference": "clockwork", "name": "other" })).await;
    place.clear(bob).await;
    anna.stop().await;
}

/// Bob starts again and his disk's mark remembers an entry that his log has lost.
async fn forgetful(place: &Place, bob: Node, publisher: PublisherId) -> Node {
    soon("bob's end", bob.stop()).await;
    let store = place.home("bob").join("store");
    let open = softservice_store::open(&store).expect("bob's store");
    let head = Head { at: Position { epoch: 1, seq: 3 }, hash: Digest::of(b"revoked") };
    open.raise_mark(FeedId::main(publisher), head).expect("a mark");
    drop(open);
    softservice_store::wait_closed(&store).expect("closed");
    place.node("bob").await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_mark_nothing_new_is_taken_unasked_and_what_runs_runs_on() {
    let place = Place::new();
    let (anna, bob, publisher, ticket) = running(&place).await;
    second(&place, &anna, &bob, publisher).await;
    soon("anna's end", anna.stop()).await;
    let process = pid(&bob).await;
    let bob = forgetful(&place, bob, publisher).await;
    let listed = done(&bob, "subscriptions", json!({})).await[0].clone();
    assert_eq!((&listed["freshness"], &listed["behind"]["sequence"]), (&json!("stale"), &json!(3)), "{listed}");
    for (verb, arguments) in [
        ("up", up("clockwork@1.0.1")),
        ("plan_update", json!({ "name": "clockwork" })),
        ("update", json!({ "name": "clockwork", "yes": true, "accept_reduced": true })),
    ] {
        let refused = ask(&bob, verb, arguments).await.expect_err(verb);
        assert_eq!(refused.kind.exit(), 4, "{verb}: {refused}");
        assert!(refused.message.contains("entry 3 is lost"), "{verb}: {refused}");
        assert_eq!(refused.details["behind"]["sequence"], 3, "{verb}");
    }
    let given = done(&bob, "ticket", json!({ "publisher": "anna" })).await;
    assert!(given["warnings"][0].as_str().is_some_and(|w| w.contains("entry 3 is lost")), "{given}");
    assert_eq!(pid(&bob).await, process, "nothing touched it");
    done(&bob, "down", json!({ "name": "clockwork" })).await;
    done(&bob, "start", json!({ "name": "clockwork" })).await;
    // Following anew forgets nothing either.
    done(&bob, "unsubscribe", json!({ "publisher": "anna" })).await;
    done(&bob, "subscribe", json!({ "ticket": ticket, "petname": "anna" })).await;
    assert_eq!(done(&bob, "subscriptions", json!({})).await[0]["behind"]["sequence"], 3);
    // And the owner may insist.
    let insist = json!({ "name": "clockwork", "yes": true, "accept_reduced": true, "accept_expired": true });
    assert_eq!(done(&bob, "update", insist).await["version"], "1.0.1");
    place.clear(bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_another_history_is_refused_and_stops_the_policy_until_its_owner_decides() {
    let place = Place::new();
    let (anna, bob, publisher, ticket) = running(&place).await;
    done(&bob, "subscribe", json!({ "ticket": ticket, "policy": "auto" })).await;
    let honest: Ticket = ticket.parse().expect("a ticket");
    let other = Digest([0xff; 32]);
    let root = Ticket { root: (honest.root.0, other), ..honest.clone() };
    let floor = Ticket { floor: Head { hash: other, ..honest.floor }, ..honest };
    for (ticket, what) in [(root, "root document 1"), (floor, "entry 1")] {
        let ticket = json!({ "ticket": ticket.to_string(), "petname": "ann", "policy": "auto" });
        let refused = ask(&bob, "subscribe", ticket).await.expect_err(what);
        assert_eq!(refused.kind.exit(), 4, "{refused}");
        assert!(refused.message.contains("another history") && refused.message.contains(what), "{refused}");
    }
    let listed = done(&bob, "subscriptions", json!({})).await[0].clone();
    assert_eq!((&listed["policy"], &listed["petname"]), (&json!("notify"), &json!("anna")), "{listed}");
    publish(&anna, &place.distro("1.0.1")).await;
    until(&bob, publisher, "the second release", |k| k.feed.head.at.seq == 2).await;
    let again = done(&bob, "subscribe", json!({ "ticket": ticket, "policy": "auto" })).await;
    assert_eq!(again["policy"], "auto", "the owner has decided");
    place.clear(bob).await;
    anna.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_acts_on_a_fresh_word_only() {
    let place = Place::new();
    let (anna, bob, publisher, ticket) = running(&place).await;
    second(&place, &anna, &bob, publisher).await;
    // Carol stays, and bob runs something of hers whose name comes after: the policy looks at one after the other.
    let carol = place.node("carol").await;
    let hers = publish(&carol, &place.named("zeppelin", "1.0.0")).await["ticket"].clone();
    let carols: PublisherId = done(&bob, "subscribe", json!({ "ticket": hers })).await["publisher"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    done(&bob, "up", up("zeppelin")).await;
    soon("anna's end", anna.stop()).await;
    place.clock.pass(Span::days(8));
    publish(&carol, &place.named("zeppelin", "1.0.1")).await;
    until(&bob, carols, "carol's second release", |k| k.feed.head.at.seq == 2).await;
    for ticket in [json!(ticket), hers] {
        done(&bob, "subscribe", json!({ "ticket": ticket, "policy": "auto" })).await;
    }
    assert_eq!(done(&bob, "plan_update", json!({ "name": "clockwork" })).await["newer"], true);
    let policies = tokio::spawn(verbs::follow_policies(bob.context()));
    let version = async |name: &str| done(&bob, "ps", json!({ "name": name })).await[0]["version"].clone();
    soon("carol's update by policy", async {
        while version("zeppelin").await != "1.0.1" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(version("clockwork").await, "1.0.0", "nothing was taken on a stale word");
    let anna = place.node("anna").await;
    meet(&bob, &anna).await;
    soon("the update by policy", async {
        while version("clockwork").await != "1.0.1" || bob.device().at_rest("clockwork").is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    policies.abort();
    place.clear(bob).await;
    anna.stop().await;
    carol.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_publisher_with_two_histories_nothing_new_is_taken_and_the_first_difference_is_shown() {
    let place = Place::new();
    let (anna, bob, publisher, _) = running(&place).await;
    // Somebody has anna's keys, and publishes another first entry.
    let stolen = place.home("mallory").join("publisher");
    std::fs::create_dir_all(&stolen).expect("a folder");
    for file in std::fs::read_dir(place.home("anna").join("publisher")).expect("her keys") {
        let file = file.expect("a file").path();
        // What would keep her from a first entry a thief leaves behind.
        if file.ends_with("mark") {
            continue;
        }
        std::fs::copy(&file, stolen.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let mallory = place.node("mallory").await;
    done(&mallory, "publish", json!({ "dir": place.distro("6.6.6"), "alone": true })).await;
    let file = place.home("before.softbackup");
    done(&bob, "backup", json!({ "name": "clockwork", "file": file })).await;
    meet(&bob, &mallory).await;
    until(&bob, publisher, "the proof", |k| k.frozen && k.difference.is_some()).await;

    let one = done(&bob, "ps", json!({})).await[0].clone();
    assert_eq!((&one["state"], &one["frozen"]), (&json!("running"), &json!(true)));
    let told = one["conflict"]["message"].as_str().expect("a difference");
    assert!(told.starts_with("entry 1 is") && told.contains("1.0.0") && told.contains("6.6.6"), "{told}");
    // What was verified here stays in the catalogue, and says so.
    let found = done(&bob, "search", json!({})).await[0].clone();
    let shown = done(&bob, "show", json!({ "reference": "clockwork" })).await;
    for of in [&found, &shown] {
        assert_eq!((&of["frozen"], of["conflict"]["message"].as_str()), (&json!(true), Some(told)), "{of}");
    }
    assert_eq!(found["version"], "1.0.0", "not what only the other history has");
    for (verb, arguments) in [
        ("plan", json!({ "reference": "clockwork", "name": "other", "accept_expired": true })),
        ("up", json!({ "reference": "clockwork", "name": "other", "yes": true, "accept_expired": true })),
        ("plan_restore", back("other", &file, json!({ "accept_expired": true }))),
        ("restore", back("other", &file, json!({ "yes": true, "accept_reduced": true }))),
    ] {
        let refused = ask(&bob, verb, arguments).await.expect_err(verb);
        assert_eq!(refused.kind.exit(), 4, "{verb}: {refused}");
        assert!(refused.message.contains(told), "{verb}: {refused}");
    }
    let counted = done(&bob, "status", json!({})).await["refused"].clone();
    assert!(counted["frozen"].as_u64() >= Some(4) && counted["revoked"] == 0, "{counted}");
    // What was backed up before comes back where it was, and anywhere at its owner's word.
    done(&bob, "plan_restore", back("clockwork", &file, json!({ "replace": true }))).await;
    done(&bob, "plan_restore", back("other", &file, json!({ "accept_frozen": true }))).await;
    let given = done(&bob, "ticket", json!({ "publisher": "anna" })).await;
    assert!(given["warnings"][0].as_str().is_some_and(|w| w.contains("two different histories")), "{given}");
    done(&bob, "down", json!({ "name": "clockwork" })).await;
    done(&bob, "start", json!({ "name": "clockwork" })).await;
    assert_eq!(done(&bob, "up", up("clockwork")).await["generation"], 1, "what runs here may be put in order");
    place.clear(bob).await;
    mallory.stop().await;
    anna.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_where_it_ran_and_elsewhere_asks_how_old_the_word_is() {
    let place = Place::new();
    let (anna, bob, publisher, _) = running(&place).await;
    let file = place.home("clockwork.softbackup");
    done(&bob, "backup", json!({ "name": "clockwork", "file": file })).await;
    soon("anna's end", anna.stop()).await;
    place.clock.pass(Span::days(38));
    for (verb, more) in [("plan_restore", json!({})), ("restore", json!({ "yes": true, "accept_reduced": true }))] {
        let refused = ask(&bob, verb, back("other", &file, more)).await.expect_err(verb);
        assert_eq!(refused.kind.exit(), 4, "{verb}: {refused}");
        assert!(refused.hint.clone().is_some_and(|h| h.contains("--accept-expired")), "{verb}: {:?}", refused.hint);
        assert_eq!(refused.details["freshness"], "expired", "{verb}");
    }
    assert_eq!(done(&bob, "ps", json!({})).await.as_array().map(Vec::len), Some(1), "nothing of it is here");
    // Where it ran it is nothing new; and its owner may insist.
    let whole = json!({ "replace": true, "yes": true, "accept_reduced": true });
    assert_eq!(done(&bob, "restore", back("clockwork", &file, whole)).await["generation"], 2);
    done(&bob, "plan_restore", back("other", &file, json!({ "accept_expired": true }))).await;
    // Once withdrawn, it comes back where it ran, and nowhere else.
    let anna = place.node("anna").await;
    meet(&bob, &anna).await;
    done(&anna, "revoke", json!({ "reference": "clockwork@1.0.0", "level": "withdraw", "reason": "old" })).await;
    until(&bob, publisher, "the revocation", |k| k.feed.snapshot.listings[0].revoked.is_some()).await;
    done(&bob, "plan_restore", back("clockwork", &file, json!({ "replace": true }))).await;
    let refused = ask(&bob, "plan_restore", back("other", &file, json!({}))).await.expect_err("withdrawn");
    assert_eq!(refused.details["revoked"]["level"], "withdraw", "{refused}");
    place.clear(bob).await;
    anna.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_while_it_is_fetched_does_not_begin() {
    let place = Place::new();
    // Carol has all of it, and nobody knows her yet. Anna sends so slowly that it would take hours.
    let (anna, carol) = (place.node("anna").await, place.node("carol").await);
    let dir = place.distro("1.0.0");
    let mut number = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number.to_le_bytes()
    })
    .take(1 << 19)
    .flatten()
    .collect();
    std::fs::create_dir_all(dir.join("bulk")).expect("a folder");
    std::fs::write(dir.join("bulk/noise"), noise).expect("a file");
    let toml = std::fs::read_to_string(dir.join("distro.toml")).expect("a definition");
    let toml =
        toml.replace("[role.main.service", "[role.main.artifact]\nbulk = { tree = \"bulk\" }\n[role.main.service");
    std::fs::write(dir.join("distro.toml"), toml).expect("a definition");
    let ticket = publish(&anna, &dir).await["ticket"].clone();
    done(&carol, "subscribe", json!({ "ticket": ticket })).await;
    done(&carol, "fetch", json!({ "reference": "clockwork" })).await;
    soon("anna's end", anna.stop()).await;
    let anna = place.sending("anna", Some(20_000)).await;
    let ticket = done(&anna, "ticket", json!({})).await["ticket"].clone();
    let bob = place.node("bob").await;
    let followed = done(&bob, "subscribe", json!({ "ticket": ticket })).await;
    let publisher: PublisherId = followed["publisher"].as_str().expect("an id").parse().expect("an id");
    let context = bob.context();
    let upping = tokio::spawn(async move { verbs::run(&context, "up", up("clockwork"), &Talk::alone()).await });
    let content = |t: &Value| t["transfers"].as_array().is_some_and(|all| all.iter().any(|t| t["stage"] == "content"));
    soon("the content's beginning", async {
        while !content(&done(&bob, "status", json!({})).await) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    done(&anna, "revoke", json!({ "reference": "clockwork", "level": "unsafe", "reason": "it lets strangers in" }))
        .await;
    until(&bob, publisher, "the revocation", |k| k.feed.snapshot.listings[0].revoked.is_some()).await;
    assert!(!upping.is_finished(), "it is on its way");
    meet(&bob, &carol).await;
    soon("anna's end", anna.stop()).await;
    let refused = soon("the end of it", upping).await.expect("no panic").expect_err("it was taken back");
    assert_eq!(refused.kind.exit(), 4, "{refused}");
    assert_eq!(refused.details["revoked"]["level"], "unsafe", "{refused}");
    assert_eq!(done(&bob, "ps", json!({})).await, json!([]), "nothing of it began");
    place.clear(bob).await;
    carol.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_corrected_is_followed_and_by_a_wrong_one_no_policy_acts() {
    let place = Place::new();
    let (anna, bob, publisher, ticket) = running(&place).await;
    second(&place, &anna, &bob, publisher).await;
    soon("anna's end", anna.stop()).await;
    let state = async || {
        let one = done(&bob, "subscriptions", json!({})).await[0].clone();
        (one["freshness"].clone(), one["age_known"].clone())
    };
    // It ran ahead, and somebody set it right.
    place.clock.pass(Span::days(40));
    assert_eq!(state().await, (json!("expired"), json!(true)));
    place.clock.set_back(Span::days(40));
    assert_eq!(state().await, (json!("fresh"), json!(true)));
    // It lost its battery.
    place.clock.set_back(Span::days(30_000));
    assert_eq!(state().await, (json!("stale"), json!(false)));
    done(&bob, "subscribe", json!({ "ticket": ticket, "policy": "auto" })).await;
    let policies = tokio::spawn(verbs::follow_policies(bob.context()));
    let newer = done(&bob, "plan_update", json!({ "name": "clockwork" })).await;
    assert_eq!((&newer["newer"], &newer["age_known"]), (&json!(true), &json!(false)), "by hand it goes on");
    // The policy looks again whenever anything is heard; then the clock is right.
    let carol = place.node("carol").await;
    let hers = publish(&carol, &place.named("zeppelin", "1.0.0")).await["ticket"].clone();
    done(&bob, "subscribe", json!({ "ticket": hers })).await;
    assert_eq!(done(&bob, "ps", json!({})).await[0]["version"], "1.0.0", "nothing was taken");
    place.clock.pass(Span::days(30_000));
    let anna = place.node("anna").await;
    meet(&bob, &anna).await;
    soon("the update by policy", async {
        while done(&bob, "ps", json!({})).await[0]["version"] != "1.0.1" || bob.device().at_rest("clockwork").is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    policies.abort();
    place.clear(bob).await;
    anna.stop().await;
    carol.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_whose_time_is_over_begins_nothing() {
    let place = Place::new();
    let (anna, bob) = (place.node("anna").await, place.node("bob").await);
    publish(&anna, &place.distro("1.0.0")).await;
    let given = done(&anna, "ticket", json!({ "expires_in": 3600 })).await;
    assert!(
        given["expires"].is_u64()
            && given["words"].as_str().is_some_and(|w| w.split('-').count() > 1 || w.contains(' '))
    );
    let ticket = given["ticket"].clone();
    done(&bob, "subscribe", json!({ "ticket": ticket })).await;
    place.clock.pass(Span::days(1));
    let carol = place.node("carol").await;
    let join = json!({ "ticket": ticket, "key": place.home("no-key") });
    for (verb, wanted) in [("subscribe", json!({ "ticket": ticket })), ("publisher_join", join)] {
        let refused = ask(&carol, verb, wanted).await.expect_err(verb);
        assert_eq!(refused.kind.exit(), 4, "{verb}: {refused}");
        assert!(refused.message.contains("the ticket expired"), "{verb}: {refused}");
    }
    assert_eq!(done(&carol, "subscriptions", json!({})).await, json!([]), "nobody is followed by it");
    assert_eq!(done(&bob, "subscriptions", json!({})).await[0]["sequence"], 1, "who began in time goes on");
    soon("the ends", async { tokio::join!(anna.stop(), bob.stop(), carol.stop()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_histories_that_a_ticket_tells_of_keep_new_things_away_until_a_new_epoch() {
    let place = Place::new();
    let (anna, bob, publisher, ticket) = running(&place).await;
    second(&place, &anna, &bob, publisher).await;
    let honest: Ticket = ticket.parse().expect("a ticket");
    let warns = Ticket { conflict: Some(Digest([7; 32])), ..honest.clone() };
    let told = done(&bob, "subscribe", json!({ "ticket": warns.to_string(), "policy": "auto" })).await;
    let says = |of: &Value| {
        of["warnings"]
            .as_array()
            .is_some_and(|all| all.iter().any(|w| w.as_str().is_some_and(|w| w.contains("two different"))))
    };
    assert!(says(&told), "{told}");
    // An older ticket takes nothing of that back.
    assert!(says(&done(&bob, "subscribe", json!({ "ticket": ticket })).await));
    for (verb, wanted) in [
        ("update", json!({ "name": "clockwork", "yes": true })),
        ("up", json!({ "reference": "anna/clockwork", "name": "other", "yes": true })),
    ] {
        let refused = ask(&bob, verb, wanted).await.expect_err(verb);
        assert_eq!(
            (refused.kind.exit(), &refused.details["told_conflict"]["root_version"]),
            (4, &json!(1)),
            "{verb}: {refused}"
        );
    }
    let handed = done(&bob, "ticket", json!({ "publisher": "anna" })).await["ticket"].clone();
    let handed: Ticket = handed.as_str().expect("a line").parse().expect("a ticket");
    assert_eq!(handed.conflict, warns.conflict, "who gets a ticket of bob is told as well");
    assert_eq!(done(&bob, "ps", json!({ "name": "clockwork" })).await[0]["state"], "running", "what runs runs on");

    done(&anna, "publisher_recover", json!({ "from": 2, "alone": true })).await;
    publish(&anna, &place.distro("1.0.2")).await;
    until(&bob, publisher, "the new epoch", |k| k.feed.head.at.epoch == 2 && k.feed.head.at.seq == 3).await;
    let update = json!({ "name": "clockwork", "yes": true, "accept_reduced": true });
    assert_eq!(done(&bob, "update", update).await["version"], "1.0.2");
    assert!(!says(&done(&bob, "subscriptions", json!({})).await[0]));
    place.clear(bob).await;
    anna.stop().await;
}
