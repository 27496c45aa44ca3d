//! What a node refuses to start with, each by name; and peers that lie.

mod village;

use serde_json::json;
use softservice_node::{HomeError, NetError, StartError, identity::KeyError, start_on, verbs::failure::Kind};
use softservice_protocol::{
    feed::Listing,
    id::{PublisherId, ReleaseId},
    release::ReleaseRef,
};
use softservice_store::{MemoryStore, Store};
use std::sync::Arc;
use village::{
    DEADLINE, Villager, equal_to, folder,
    odd::{Bent, Gate, Odd, Opener},
    quiet, settle, settle_on, soon,
};

const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::test]
async fn one_home_is_one_node() {
    let alice = settle().await;
    let second = start_on(quiet(alice.home.path(), LOOPBACK), alice.store.clone()).await;
    assert!(matches!(second, Err(StartError::Home(HomeError::InUse(_)))), "{second:?}");
    let home = alice.home.clone();
    soon("the end", alice.node.stop()).await;
    start_on(quiet(home.path(), LOOPBACK), alice.store).await.unwrap().stop().await;
}

#[tokio::test]
async fn damaged_keys_swarm_keys_and_impossible_addresses_are_named() {
    let home = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    std::fs::write(home.path().join("node.key"), "not a key\n").unwrap();
    let refused = start_on(quiet(home.path(), LOOPBACK), store.clone()).await;
    assert!(matches!(refused, Err(StartError::Key(KeyError::Damaged { .. }))), "{refused:?}");
    std::fs::remove_file(home.path().join("node.key")).unwrap();

    let mut config = quiet(home.path(), LOOPBACK);
    config.swarm_key = Some("swarm.key".into());
    assert!(matches!(start_on(config, store.clone()).await, Err(StartError::SwarmKey(_))));
    let mut config = quiet(home.path(), LOOPBACK);
    config.peers = vec!["192.0.2.1:4001".into()];
    assert!(matches!(start_on(config, store.clone()).await, Err(StartError::PeerAddress { .. })));
    let refused = start_on(quiet(home.path(), "127.0.0.1:4001"), store.clone()).await;
    assert!(matches!(refused, Err(StartError::Net(NetError::Address { .. }))), "{refused:?}");
    // An address of nobody here (RFC 5737).
    let refused = start_on(quiet(home.path(), "/ip4/192.0.2.1/tcp/4001"), store).await;
    assert!(matches!(refused, Err(StartError::Net(NetError::Listen { .. }))), "{refused:?}");
}

/// Alice publishes, Mallory has it as well but his store is odd; Carol knows both.
async fn alice_mallory_and_carol(odd: Bent) -> (Villager, Villager, Villager, ReleaseRef, tempfile::TempDir) {
    let (alice, carol) = (settle().await, settle().await);
    let mallory = settle_on(Arc::new(Odd(MemoryStore::default(), odd)), LOOPBACK).await;
    let publisher = alice.own().await;
    let shelf = folder("shelf", 20, 500_000);
    let (release, _) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    for villager in [&mallory, &carol] {
        soon("the publisher", villager.handle().follow(alice.ticket(publisher))).await.unwrap();
    }
    mallory.fetch(release).await.unwrap();
    // A late look ahead would meet the oddity before the story begins.
    carol.has_looked_ahead(publisher).await;
    carol.handle().dial(mallory.node.addresses().remove(0)).await.unwrap();
    carol.meets("alice and mallory", |peers| peers == 2).await;
    (alice, mallory, carol, release, shelf)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carol_finishes_although_mallory_lies_and_mallory_is_sent_away() {
    let (alice, _mallory, carol, release, shelf) = alice_mallory_and_carol(Bent::Lies).await;
    let figures = carol.fetch(release).await.unwrap();
    equal_to(&*carol.store, release, shelf.path());
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&alice.node.peer()]);
    carol.meets("alice alone", |peers| peers == 1).await;
    let left = carol.handle().status().await.unwrap().peers;
    assert_eq!(left.first().map(|p| p.device.clone()), Some(alice.node.peer().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carol_finishes_although_mallory_never_answers() {
    let gate = Arc::new(Gate::default());
    let _opener = Opener(gate.clone());
    let (alice, _mallory, carol, release, shelf) = alice_mallory_and_carol(Bent::Stalls(gate)).await;
    let figures = carol.fetch(release).await.unwrap();
    equal_to(&*carol.store, release, shelf.path());
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&alice.node.peer()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_and_nobody_is_blamed() {
    let alice = settle().await;
    let bob = settle_on(Arc::new(Odd(MemoryStore::default(), Bent::Full)), LOOPBACK).await;
    let publisher = alice.own().await;
    let (release, _) = alice.publish(publisher, "1.0.0", folder("shelf", 3, 1000).path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    let error = bob.fetch(release).await.unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    bob.meets("alice still", |peers| peers == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_own_document_does_not_bear_out_is_refused_and_nobody_who_served_it_is_blamed() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    type Lie = fn(&mut Listing);
    let another = PublisherId([9; 32]);
    let lies: [(&str, PublisherId, Lie); 6] = [
        ("publisher", another, |l| l.distro = "shelf".into()),
        ("distro", publisher, |l| l.distro = "shell".into()),
        ("version", publisher, |l| l.version = "1.1.0".into()),
        ("revision", publisher, |l| l.revision = 7),
        ("summary", publisher, |l| l.summary = "harmless".into()),
        ("parents", publisher, |l| l.parents = vec![ReleaseId([3; 32])]),
    ];
    for (seed, (_, whose, lie)) in lies.iter().enumerate() {
        // Each a release of its own.
        let (version, folder) = (format!("1.0.{seed}"), folder(&seed.to_string(), 1, 100));
        alice.lies(publisher, *whose, &version, folder.path(), lie).await;
    }
    let honest = folder("honest", 1, 100);
    let (honest, _) = alice.publish(publisher, "2.0.0", honest.path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    bob.learns("all of it", |c| c.get(&publisher).is_some_and(|k| k.feed.snapshot.listings.len() == 7)).await;
    let listings = bob.known(publisher).expect("a publisher").feed.snapshot.listings.clone();
    for ((what, ..), listing) in lies.iter().zip(&listings) {
        let reference = json!({ "reference": listing.release.to_string() });
        for verb in ["plan", "show", "fetch"] {
            let refused = bob.verb(verb, reference.clone()).await.unwrap_err();
            assert_eq!(
                (refused.kind, &refused.details["disagreement"]["what"]),
                (Kind::Refused, &json!(what)),
                "{verb}: {refused}"
            );
        }
    }
    bob.verb("fetch", json!({ "reference": honest.id.to_string() })).await.expect("what tells the truth is taken");
    bob.meets("alice still", |peers| peers == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_ends_when_nobody_waits_for_it_or_the_node_is_to_stop() {
    let (tell, hear) = std::sync::mpsc::channel();
    let hear = |what| tokio::task::block_in_place(|| assert_eq!(hear.recv_timeout(DEADLINE), Ok(what)));
    let bob = settle_on(Arc::new(Odd(MemoryStore::default(), Bent::Checks(tell))), LOOPBACK).await;
    let check = || {
        let context = bob.node.context();
        tokio::spawn(async move {
            let talk = softservice_node::api::talk::Talk::alone();
            softservice_node::verbs::run(&context, "fsck", serde_json::json!({}), &talk).await
        })
    };
    let abandoned = check();
    hear("begun");
    abandoned.abort();
    hear("stopped");
    let stopped = check();
    hear("begun");
    bob.node.context().stop.ask();
    hear("stopped");
    stopped.await.unwrap().unwrap_err();
    soon("the end", bob.node.stop()).await;
}

/// A distro of one tree with settings in it.
fn settings(dir: &std::path::Path, version: &str, settings: &str) {
    let toml = format!(
        "format = 1\n[distro]\nname = \"conf\"\nversion = \"{version}\"\nsummary = \"Settings\"\n\
         [role.main.artifact]\nroot = {{ tree = \"root\" }}\n"
    );
    std::fs::create_dir_all(dir.join("root")).unwrap();
    std::fs::write(dir.join("distro.toml"), toml).unwrap();
    std::fs::write(dir.join("root/app.ini"), settings).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_folder_leaves_nothing_behind_and_is_looked_at_again() {
    let (scratch, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alice = settle_on(Arc::new(softservice_store::open(scratch.path()).unwrap()), LOOPBACK).await;
    let lines: Vec<String> = (0..80).map(|n| format!("password = hunter{n}\n")).collect();
    settings(source.path(), "1.0.0", &lines.concat());
    let before = alice.store.totals().unwrap();
    let publish = |allow: Vec<String>| json!({ "dir": source.path(), "allow_secrets": allow });
    for _ in 0..2 {
        let refused = alice.verb("publish", publish(vec![])).await.unwrap_err();
        assert_eq!((refused.kind, refused.kind.exit(), refused.kind.name()), (Kind::Secrets, 4, "secrets"));
        let told = refused.line();
        assert_eq!((&told["secrets_in_all"], &told["secrets_not_listed"]), (&json!(80), &json!(30)), "{told}");
        let first = &told["secrets"][0];
        assert_eq!((&first["file"], &first["line"]), (&json!("root/app.ini"), &json!(1)));
        assert!(!told.to_string().contains("hunter"), "{told}");
        assert_eq!(alice.store.totals().unwrap(), before, "something of it is in the store");
        assert!(alice.node.keys().publisher().is_none(), "a publisher that has nothing to say");
    }
    let checked = alice.verb("check", json!({ "dir": source.path() })).await.unwrap();
    let advice: Vec<_> =
        checked["problems"].as_array().unwrap().iter().filter(|p| p["file"] == "root/app.ini").collect();
    assert!(advice.len() == 80 && advice.iter().all(|p| p["severity"] == "warning"), "{checked}");

    // However many are allowed, the one that is not is refused, and named.
    let all_but_one: Vec<String> = (1..80).map(|n| format!("root/app.ini:{n}")).collect();
    let refused = alice.verb("publish", publish(all_but_one)).await.unwrap_err();
    assert_eq!((&refused.details["secrets_in_all"], &refused.details["secrets"][0]["line"]), (&json!(1), &json!(80)));
    let done = alice.verb("publish", publish(vec!["root/app.ini:80".into()])).await.unwrap();
    assert_eq!(done["version"], "1.0.0");
    let allowed = std::fs::read_to_string(source.path().join("distro.allow")).unwrap();
    assert!(allowed.lines().filter(|l| !l.starts_with('#')).count() == 80 && !allowed.contains("hunter"));

    // Another secret on an allowed line, and one in a definition.
    settings(source.path(), "1.0.1", &lines.concat().replacen("hunter7\n", "hunted7\n", 1));
    let refused = alice.verb("publish", publish(vec![])).await.unwrap_err();
    assert_eq!((&refused.details["secrets_in_all"], &refused.details["secrets"][0]["line"]), (&json!(1), &json!(8)));
    settings(source.path(), "1.0.1", "");
    let definition = source.path().join("distro.toml");
    let toml = std::fs::read_to_string(&definition).unwrap();
    let more = "[param]\nadmin_password = { type = \"text\", ask = \"?\", default = \"tr0ub4dor\" }\n";
    std::fs::write(&definition, toml + more).unwrap();
    let refused = alice.verb("publish", publish(vec![])).await.unwrap_err();
    assert_eq!(
        (refused.kind, &refused.details["secrets"][0]["file"]),
        (Kind::Secrets, &json!("distro.toml")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_name_of_a_tree_nor_a_crowded_line_lets_a_secret_through() {
    let (scratch, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alice = settle_on(Arc::new(softservice_store::open(scratch.path()).unwrap()), LOOPBACK).await;
    settings(source.path(), "1.0.0", "");
    let crowd: String = (0..17).map(|n| format!("password=hunter{n}; ")).collect();
    std::fs::remove_dir_all(source.path().join("root")).unwrap();
    std::fs::create_dir(source.path().join("doc")).unwrap();
    std::fs::write(source.path().join("doc/app.ini"), crowd).unwrap();
    let toml = std::fs::read_to_string(source.path().join("distro.toml")).unwrap().replace("\"root\" }", "\"doc\" }");
    let test = "[test.answers]\non = \"main\"\nexec = [\"mysql\", \"--password=hunter2x9\", \"shop\"]\n";
    std::fs::write(source.path().join("distro.toml"), toml + test).unwrap();
    let publish = |allow: Vec<String>| json!({ "dir": source.path(), "allow_secrets": allow });
    let refused = alice.verb("publish", publish(vec![])).await.unwrap_err();
    assert_eq!((refused.kind, &refused.details["secrets_in_all"]), (Kind::Secrets, &json!(18)), "{refused}");
    let line = refused.details["secrets"][0]["line"].as_u64().unwrap();
    assert_eq!(refused.details["secrets"][0]["file"], "distro.toml");

    let crowded = alice.verb("publish", publish(vec!["doc/app.ini:1".into()])).await.unwrap_err();
    assert_eq!(crowded.kind, Kind::Usage, "{crowded}");
    assert!(crowded.hint.as_ref().is_some_and(|h| h.contains("doc/app.ini:1:17")), "{crowded}");
    let none = alice.verb("publish", publish(vec!["doc/app.ini:1:18".into()])).await.unwrap_err();
    assert_eq!(none.kind, Kind::Usage, "{none}");
    let one = alice.verb("publish", publish(vec!["doc/app.ini:1:2".into()])).await.unwrap_err();
    assert_eq!(one.details["secrets_in_all"], 17, "{one}");
    let mut rest: Vec<String> = (1..18).map(|n| format!("doc/app.ini:1:{n}")).collect();
    rest.push(format!("distro.toml:{line}"));
    let done = alice.verb("publish", publish(rest)).await.unwrap();
    assert_eq!(done["version"], "1.0.0");
}

/// What `publish` will refuse, file and line.
async fn refused(alice: &Villager, dir: &std::path::Path) -> Vec<(String, u64)> {
    let refused = alice.verb("publish", json!({ "dir": dir })).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Secrets, "{refused}");
    let all = refused.details["secrets"].as_array().unwrap().clone();
    all.iter().map(|s| (s["file"].as_str().unwrap().to_owned(), s["line"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_of_exactly_what_publish_refuses_and_a_refusal_makes_no_publisher() {
    let (scratch, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alice = settle_on(Arc::new(softservice_store::open(scratch.path()).unwrap()), LOOPBACK).await;
    settings(source.path(), "1.0.0", "password = hunter1\n");
    let put = |path: &str, text: &str| {
        let path = source.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    // A history in a tree is published with the tree; that of the source is not.
    put("root/.git/config", "url = https://ann:sunny7days@git.lan/a\n[b]\ntoken = hunter2x\n");
    put("root/.git/hooks/push.conf", "password = hunter3\n");
    put(".git/config", "password = hunter4\n");
    put("other/app.ini", "password = hunter5\n");
    let refused = refused(&alice, source.path()).await;
    let files: Vec<&str> = refused.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(
        files,
        ["other/app.ini", "root/.git/config", "root/.git/hooks/push.conf", "root/app.ini"],
        "{refused:?}"
    );
    let checked = alice.verb("check", json!({ "dir": source.path() })).await.unwrap();
    let told: Vec<(String, u64)> = checked["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|p| p["message"].as_str().unwrap().ends_with("`publish` refuses it"))
        .map(|p| (p["file"].as_str().unwrap().to_owned(), p["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, refused);
    assert_eq!(checked["secrets_in_all"], 4);
    assert!(alice.node.keys().publisher().is_none(), "a refusal made a publisher");
    assert_eq!(std::fs::read_dir(alice.home.path().join("publisher")).map_or(0, Iterator::count), 0);
}

/// A page that may reach the internet, or read a place.
fn asking(allow: &str) -> tempfile::TempDir {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("site")).unwrap();
    std::fs::write(source.path().join("site/index.html"), allow).unwrap();
    let toml = format!(
        "format = 1\n[distro]\nname = \"page\"\nversion = \"1.0.0\"\nsummary = \"A page\"\n[role.main.artifact]\n\
         site = {{ tree = \"site\" }}\n[role.main.service.web]\n\
         command = [\"${{softservice}}\", \"serve-static\", \"${{artifact.site}}\", \"8080\"]\n[role.main.allow]\n{allow}\n"
    );
    std::fs::write(source.path().join("distro.toml"), toml).unwrap();
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_stranger_is_tried_that_its_owner_did_not_agree_to() {
    let (alice, bob) = (settle().await, settle().await);
    let source = asking("connect = [\"internet:443\"]");
    alice.verb("publish", json!({ "dir": source.path() })).await.unwrap();
    let publisher = *alice.handle().catalogue().keys().next().expect("her own");
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    bob.learns("the page", |c| c.get(&publisher).is_some_and(|k| !k.feed.snapshot.listings.is_empty())).await;
    for how in [json!({}), json!({ "restore": true }), json!({ "matrix": true })] {
        let mut wanted = json!({ "reference": "page", "accept_reduced": true });
        wanted.as_object_mut().unwrap().extend(how.as_object().cloned().unwrap());
        let refused = bob.verb("test", wanted).await.unwrap_err();
        let added = &refused.details["permissions"]["added"];
        assert_eq!((refused.kind, added), (Kind::Refused, &json!(["main: connect internet:443"])), "{how}: {refused}");
    }
    let revoke = json!({ "reference": "page", "level": "unsafe", "reason": "it lets strangers in" });
    alice.verb("revoke", revoke).await.unwrap();
    let revoked = |c: &softservice_node::handle::Catalogue| {
        c.get(&publisher).is_some_and(|k| k.feed.snapshot.listings.iter().all(|l| l.revoked.is_some()))
    };
    bob.learns("that it is unsafe", revoked).await;
    let wanted = json!({ "reference": "page@1.0.0", "yes": true, "accept_reduced": true });
    let refused = bob.verb("test", wanted).await.unwrap_err();
    assert_eq!((refused.kind, &refused.details["revoked"]["level"]), (Kind::Refused, &json!("unsafe")), "{refused}");
    let refused = bob.verb("test", json!({ "reference": "page@1.0.0", "accept_revoked": true })).await.unwrap_err();
    assert!(refused.details.contains_key("permissions"), "a word about one is no word about the other: {refused}");

    // Nobody's yes reaches the home in whose stead a throwaway place is.
    for place in [bob.home.path().to_owned(), bob.home.path().join("publisher")] {
        let own = asking(&format!("read = [\"{}\"]", place.display()));
        let refused = bob.verb("test", json!({ "dir": own.path() })).await.unwrap_err();
        let told = refused.message.contains("no permission reaches there");
        assert!(refused.kind == Kind::Refused && told, "{}: {refused}", place.display());
    }
}
