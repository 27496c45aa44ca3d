//! What limited a fetch is what was made to limit it. Invariant: no story asks how long anything took, only what took most.

mod village;

use softservice_protocol::io::{FetchFigures, LimitedBy};
use softservice_store::{MemoryStore, Store};
use std::{sync::Arc, time::Duration};
use village::{
    folder,
    odd::{Bent, Odd},
    settle_on, soon,
};

/// What one span of content costs whoever is slow: much more than anything else in these stories.
const PAUSE: Duration = Duration::from_millis(300);

/// Bob fetches eight megabytes from Alice.
async fn fetched(alices: Arc<dyn Store>, bobs: Arc<dyn Store>) -> FetchFigures {
    let loopback = "/ip4/127.0.0.1/tcp/0";
    let (alice, bob) = (settle_on(alices, loopback).await, settle_on(bobs, loopback).await);
    let publisher = alice.own().await;
    let (release, _) = alice.publish(publisher, "1.0.0", folder("shelf", 16, 500_000).path()).await;
    soon("the publisher", bob.handle().follow(alice.ticket(publisher))).await.unwrap();
    // Otherwise the manifests may have come before the fetch, and their figures are not its own.
    bob.has_looked_ahead(publisher).await;
    let figures = bob.fetch(release).await.unwrap();
    let (me, waits) = (alice.node.peer(), figures.waits);
    assert_eq!(figures.wire_by_peer.keys().collect::<Vec<_>>(), [&me]);
    assert_eq!(figures.wire_by_peer[&me], figures.wire_bytes + figures.wasted);
    assert_eq!(figures.carried.total().wire_bytes, figures.wire_bytes);
    let all = waits.looking + waits.peer + waits.link + waits.limit + waits.disk + waits.cpu;
    assert_eq!(all, figures.millis, "all of its time is booked: {figures:?}");
    figures
}

fn odd(bent: Bent) -> Arc<dyn Store> {
    Arc::new(Odd(MemoryStore::default(), bent))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_a_slow_disk_limits() {
    let figures = fetched(odd(Bent::Reads(PAUSE)), Arc::new(MemoryStore::default())).await;
    assert_eq!(figures.waits.limited_by(), LimitedBy::Peer, "{:?}", figures.waits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_here_limits() {
    let figures = fetched(Arc::new(MemoryStore::default()), odd(Bent::Writes(PAUSE))).await;
    assert_eq!(figures.waits.limited_by(), LimitedBy::Disk, "{:?}", figures.waits);
}
