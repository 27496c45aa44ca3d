//! What a node refuses to start with, each by name; and peers that lie.

mod village;

use softservice_node::{HomeError, NetError, StartError, identity::KeyError, start_on};
use softservice_protocol::release::ReleaseRef;
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
