//! Real nodes over loopback: following, publishing, fetching, restarting.

mod village;

use softservice_node::start;
use softservice_protocol::{id::FeedId, io::Depth};
use softservice_store::MemoryStore;
use std::sync::Arc;
use village::{compile, equal_to, folder, quiet, settle, settle_on, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bob_follows_by_ticket_and_hears_of_the_next_release() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    let first = folder("one", 3, 1000);
    let (release, head) = alice.publish(publisher, "1.0.0", first.path()).await;

    let known = soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    assert_eq!((known.root_version, known.feed.head), (1, head));
    assert_eq!(known.feed.snapshot.listings.first().map(|l| l.release), Some(release.id));

    let second = folder("two", 3, 1000);
    let (newer, _) = alice.publish(publisher, "1.1.0", second.path()).await;
    bob.learns("the newer release", |all| {
        all.get(&publisher).is_some_and(|k| k.feed.snapshot.listings.iter().any(|l| l.release == newer.id))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carol_fetches_from_alice_and_bob_at_once() {
    let (alice, bob, carol) = (settle().await, settle().await, settle().await);
    let publisher = alice.own().await;
    let shelf = folder("shelf", 30, 700_000);
    let (release, _) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    for villager in [&bob, &carol] {
        soon("the publisher", villager.handle().follow(alice.ticket(publisher))).await.unwrap();
    }
    let figures = bob.fetch(release).await.unwrap();
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&alice.node.peer()]);
    equal_to(&*bob.store, release, shelf.path());

    carol.handle().dial(bob.node.addresses().remove(0)).await.unwrap();
    carol.meets("alice and bob", |peers| peers == 2).await;
    let figures = carol.fetch(release).await.unwrap();
    equal_to(&*carol.store, release, shelf.path());
    assert_eq!(figures.by_peer.len(), 2, "{figures:?}");
    assert!(figures.wasted == 0 && figures.new_bytes > 20_000_000, "{figures:?}");

    // Again: everything is here, nothing moves.
    let again = carol.fetch(release).await.unwrap();
    assert_eq!((again.new_bytes, again.by_peer.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dave_gets_everything_over_quic_after_the_publisher_is_gone() {
    let quic = "/ip4/127.0.0.1/udp/0/quic-v1";
    let alice = settle_on(Arc::new(MemoryStore::default()), quic).await;
    let bob = settle_on(Arc::new(MemoryStore::default()), quic).await;
    let dave = settle_on(Arc::new(MemoryStore::default()), quic).await;
    let publisher = alice.own().await;
    let shelf = folder("shelf", 10, 300_000);
    let (release, head) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    let mut ticket = alice.ticket(publisher);
    soon("the publisher", bob.handle().follow(ticket.clone())).await.unwrap();
    bob.fetch(release).await.unwrap();
    soon("the end of alice", alice.node.stop()).await;

    ticket.addresses = bob.node.addresses();
    let known = soon("the publisher", dave.handle().follow(ticket)).await.unwrap();
    assert_eq!(known.feed.head, head);
    let figures = dave.fetch(release).await.unwrap();
    assert_eq!(figures.by_peer.keys().collect::<Vec<_>>(), [&bob.node.peer()]);
    equal_to(&*dave.store, release, shelf.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_feed_and_followed_feed_survive_restarts() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    let shelf = folder("shelf", 3, 100_000);
    let (release, head) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();

    let (me, bob) = (bob.node.peer(), bob.restart().await);
    assert_eq!(bob.node.peer(), me);
    assert_eq!(bob.known(publisher).map(|k| k.feed.head), Some(head));

    let alice = alice.restart().await;
    assert_eq!(alice.known(publisher).map(|k| k.feed.head), Some(head));
    let (_, newer) = alice.publish(publisher, "1.0.1", folder("patch", 3, 100_000).path()).await;
    assert_eq!(newer.at.seq, head.at.seq + 1);
    // Bob remembers nobody's new port; he is told.
    bob.handle().dial(alice.node.addresses().remove(0)).await.unwrap();
    bob.learns("the newer head", |all| all.get(&publisher).is_some_and(|k| k.feed.head == newer)).await;
    bob.fetch(release).await.unwrap();
    equal_to(&*bob.store, release, shelf.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erin_keeps_what_she_fetched_on_her_disk() {
    let (alice, home) = (settle().await, tempfile::tempdir().unwrap());
    let publisher = alice.own().await;
    let shelf = folder("shelf", 12, 300_000);
    let (release, head) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    let config = quiet(home.path(), "/ip4/127.0.0.1/tcp/0");

    let erin = start(config.clone()).await.unwrap();
    soon("the publisher", erin.handle().follow(alice.ticket(publisher))).await.unwrap();
    let figures = soon("a fetch", erin.handle().fetch(release, Depth::Content, None)).await.unwrap();
    assert!(figures.new_bytes > 3_600_000, "{figures:?}");
    soon("erin's end", erin.stop()).await;

    let erin = start(config).await.unwrap();
    assert_eq!(erin.handle().catalogue().remove(&publisher).map(|k| k.feed.head), Some(head));
    equal_to(&*erin.store(), release, shelf.path());
    // A release of her own goes into the same store, and out of it again.
    let mine = erin.keys().create(softservice_node::clock::Clock::default().moment().time()).unwrap();
    erin.handle().own(mine, erin.keys().roots()).await.unwrap();
    let (_, listing) = compile(&*erin.store(), mine, "2.0.0", folder("mine", 3, 50_000).path());
    soon("publication", erin.handle().publish(mine, softservice_protocol::feed::Action::Release(listing)))
        .await
        .unwrap();
    soon("erin's end", erin.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_lost_its_node_key_is_another_device_with_the_same_subscriptions_and_marks() {
    let (alice, home) = (settle().await, tempfile::tempdir().unwrap());
    let publisher = alice.own().await;
    let (release, head) = alice.publish(publisher, "1.0.0", folder("one", 3, 1000).path()).await;
    let config = quiet(home.path(), "/ip4/127.0.0.1/tcp/0");
    let erin = start(config.clone()).await.unwrap();
    let mine = erin.keys().create(softservice_node::clock::Clock::default().moment().time()).unwrap();
    soon("her own feed", erin.handle().own(mine, erin.keys().roots())).await.unwrap();
    let publish = async |erin: &softservice_node::Node, version: &str| {
        let (_, listing) = compile(&*erin.store(), mine, version, folder(version, 3, 1000).path());
        let entry = softservice_protocol::feed::Action::Release(listing);
        soon("publication", erin.handle().publish(mine, entry)).await.unwrap()
    };
    let own = publish(&erin, "2.0.0").await;
    soon("the publisher", erin.handle().follow(alice.ticket(publisher))).await.unwrap();
    soon("a fetch", erin.handle().fetch(release, Depth::Content, None)).await.unwrap();
    let device = erin.peer();
    let subscribed = |erin: &softservice_node::Node| {
        let known = erin.handle().catalogue();
        known.iter().map(|(id, known)| (*id, known.feed.head)).collect::<Vec<_>>()
    };
    let before = subscribed(&erin);
    assert_eq!(before.len(), 2);
    soon("erin's end", erin.stop()).await;

    std::fs::remove_file(home.path().join("node.key")).unwrap();
    let erin = start(config).await.unwrap();
    assert_ne!(erin.peer(), device, "another device for everybody else");
    assert_eq!(subscribed(&erin), before);
    for (id, head) in [(publisher, head), (mine, own)] {
        assert_eq!(erin.store().mark(FeedId::main(id)).unwrap(), Some(head));
    }
    // Her keys as a publisher are others, in another place: the feed goes on, under the same name.
    assert_eq!(publish(&erin, "2.0.1").await.at.seq, own.at.seq + 1);
    // Nothing she follows was bound to the old name: news reach her as before.
    let (_, newer) = alice.publish(publisher, "1.0.1", folder("two", 3, 1000).path()).await;
    soon("a dial", erin.handle().dial(alice.node.addresses().remove(0))).await.unwrap();
    let mut handle = erin.handle();
    soon("the newer head", async {
        while handle.catalogue().get(&publisher).is_none_or(|k| k.feed.head != newer) {
            handle.catalogue_changed().await.unwrap();
        }
    })
    .await;
    soon("erin's end", erin.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_fetches_of_one_release_at_once_all_end_well_on_one_disk() {
    let alice = settle().await;
    let publisher = alice.own().await;
    let shelf = folder("shelf", 6, 50_000);
    let (release, _) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    for _ in 0..4 {
        let home = tempfile::tempdir().unwrap();
        let erin = start(quiet(home.path(), "/ip4/127.0.0.1/tcp/0")).await.unwrap();
        // The core begins to look at the release by itself as soon as it hears of it.
        soon("the publisher", erin.handle().follow(alice.ticket(publisher))).await.unwrap();
        let handle = erin.handle();
        let fetch = || handle.fetch(release, Depth::Content, None);
        let all = soon("four fetches", async { tokio::join!(fetch(), fetch(), fetch(), fetch()) }).await;
        for figures in [all.0, all.1, all.2, all.3] {
            assert!(figures.unwrap().bytes > 300_000);
        }
        equal_to(&*erin.store(), release, shelf.path());
        soon("erin's end", erin.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_commands_are_answered_when_the_node_stops() {
    let (alice, bob) = (settle().await, settle().await);
    let publisher = alice.own().await;
    let shelf = folder("shelf", 3, 1000);
    let (release, _) = alice.publish(publisher, "1.0.0", shelf.path()).await;
    // Bob knows nobody, so his fetch waits for peers.
    let handle = bob.handle();
    let fetch = tokio::spawn({
        let handle = handle.clone();
        async move { handle.fetch(release, Depth::Content, None).await }
    });
    bob.meets("nobody", |peers| peers == 0).await;
    soon("bob's end", bob.node.stop()).await;
    let error = soon("an answer", fetch).await.unwrap().unwrap_err();
    assert!(matches!(error, softservice_node::handle::CommandError::Stopping), "{error}");
    assert!(handle.status().await.is_err());
}
