//! A publisher whose store is gone while its keys are not. Invariant: a number that was signed once is never signed for
//! something else, whoever was met since and whatever the disk took.

mod village;

use softservice_node::start_on;
use softservice_protocol::feed::Action;
use softservice_store::MemoryStore;
use std::sync::Arc;
use village::{compile, folder, quiet, settle, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_lost_its_store_signs_nothing_until_a_peer_shows_its_feed() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    let shelf = folder("one", 1, 1000);
    alice.publish(publisher, "1.0.0", shelf.path()).await;
    alice.publish(publisher, "1.1.0", shelf.path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    bob.learns("both releases", |c| c.get(&publisher).is_some_and(|k| k.feed.head.at.seq == 2)).await;
    let home = alice.home.clone();
    soon("the end of alice's node", alice.node.stop()).await;

    // The disk with the store is gone, and nothing in its place knows of anybody.
    let store = Arc::new(MemoryStore::default());
    let config = quiet(home.path(), "/ip4/127.0.0.1/tcp/0");
    let alice = start_on(config.clone(), store.clone()).await.unwrap();
    let next = || Action::Release(compile(&*store, publisher, "2.0.0", shelf.path()).1);
    let refused = soon("a refusal", alice.handle().publish(publisher, next())).await.unwrap_err();
    assert!(refused.to_string().contains("entry 2 of this feed was written here and is lost"), "{refused}");
    soon("the end of alice's node", alice.stop()).await;

    // Nor after another start: that there was nothing to read does not settle it.
    let alice = start_on(config, store.clone()).await.unwrap();
    let refused = soon("a refusal", alice.handle().publish(publisher, next())).await.unwrap_err();
    assert!(refused.to_string().contains("is lost"), "{refused}");

    for address in bob.node.addresses() {
        alice.handle().dial(address).await.unwrap();
    }
    let mut handle = alice.handle();
    soon("her feed", async {
        while handle.catalogue().get(&publisher).is_none_or(|k| k.feed.head.at.seq < 2) {
            handle.catalogue_changed().await.unwrap();
        }
    })
    .await;
    let head = soon("the third entry", alice.handle().publish(publisher, next())).await.unwrap();
    assert_eq!(head.at.seq, 3);
    bob.learns("the third", |c| c.get(&publisher).is_some_and(|k| k.feed.head == head && !k.frozen)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_beside_the_keys_is_written_before_anybody_hears_and_anew_when_it_is_damaged() {
    let alice = settle().await;
    let publisher = alice.own().await;
    let (_, head) = alice.publish(publisher, "1.0.0", folder("one", 1, 1000).path()).await;
    assert_eq!(alice.node.keys().mark().unwrap().map(|m| m.at), Some(head.at));
    let file = alice.home.path().join("publisher/mark");
    std::fs::write(&file, "1 1 damaged\n").unwrap();
    // The store knows as well, so nothing is in doubt.
    let alice = alice.restart().await;
    assert_eq!(alice.node.keys().mark().unwrap().map(|m| m.at), Some(head.at));

    let home = alice.home.clone();
    soon("the end of alice's node", alice.node.stop()).await;
    std::fs::write(&file, "1 1 damaged\n").unwrap();
    let config = quiet(home.path(), "/ip4/127.0.0.1/tcp/0");
    let Err(refused) = start_on(config, Arc::new(MemoryStore::default())).await else {
        panic!("nobody knows the number");
    };
    assert!(refused.to_string().contains("nobody knows how far this publisher's feed came"), "{refused}");
}
