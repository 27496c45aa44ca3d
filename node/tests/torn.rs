//! Publishers whose log lost its end. Invariant: power that goes while an entry is written stops no author; an entry that may
//! have been told to somebody stops its author until a peer was asked, and nobody sees two words for one place.

mod village;

use serde_json::{Value, json};
use softservice_node::{Node, api::talk::Talk, start, start_on, verbs, verbs::failure::Failure};
use softservice_protocol::{codec, id::PublisherId, io::Record, ticket::Ticket};
use softservice_store::{MemoryStore, wait_closed};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use village::{quiet, soon};

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// A home whose node comes and goes, over a store on the disk.
struct Home(tempfile::TempDir);

impl Home {
    async fn starts(&self) -> Node {
        start(quiet(self.0.path(), LISTEN)).await.unwrap()
    }
    async fn stops(&self, node: Node) {
        soon("the end of a node", node.stop()).await;
        wait_closed(&self.0.path().join("store")).unwrap();
    }
    fn log(&self) -> PathBuf {
        self.0.path().join("store/logs/records")
    }
    fn told(&self) -> PathBuf {
        self.log().with_extension("told")
    }
}

async fn verb(of: &Node, verb: &str, arguments: Value) -> Result<Value, Failure> {
    soon(verb, verbs::run(&of.context(), verb, arguments, &Talk::alone())).await
}
async fn publish(of: &Node, version: &str) -> Result<Value, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "format = 1\n[distro]\nname = \"hello\"\nversion = \"{version}\"\nsummary = \"Files\"\n\
         [role.main.artifact]\nroot = {{ tree = \"root\" }}\n"
    );
    std::fs::create_dir_all(dir.path().join("root")).unwrap();
    std::fs::write(dir.path().join("root/file"), version).unwrap();
    std::fs::write(dir.path().join("distro.toml"), toml).unwrap();
    verb(of, "publish", json!({ "dir": dir.path() })).await
}
/// Waits until this node has so many entries of the publisher, and says whether it calls the feed frozen.
async fn has(node: &Node, publisher: PublisherId, seq: u64) -> bool {
    let mut handle = node.handle();
    soon("an entry", async {
        while handle.catalogue().get(&publisher).is_none_or(|k| k.feed.head.at.seq != seq) {
            handle.catalogue_changed().await.unwrap();
        }
    })
    .await;
    handle.catalogue()[&publisher].frozen
}
async fn meet(one: &Node, other: &Node) {
    for address in other.addresses() {
        one.handle().dial(address).await.unwrap();
    }
}

/// Where the records of a log stand, with what they say.
fn records(log: &Path) -> Vec<(Range<usize>, Record)> {
    let (bytes, mut found, mut at) = (std::fs::read(log).unwrap(), Vec::new(), 8192);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = at + 24 + len;
        found.push((at..end, codec::decode(&bytes[at + 24..end]).unwrap()));
        at = end;
    }
    found
}
/// Cuts the log behind the record that reserves this number. Answers the bytes of the entry there.
fn cut_behind_reservation(log: &Path, seq: u64) -> Vec<u8> {
    let (bytes, all) = (std::fs::read(log).unwrap(), records(log));
    let reserved = |r: &Record| matches!(r, Record::Reserved { head, .. } if head.at.seq == seq);
    let place = all.iter().rposition(|(_, record)| reserved(record)).unwrap();
    let entry = all[place..].iter().find(|(_, record)| matches!(record, Record::Entry { .. })).unwrap();
    std::fs::write(log, &bytes[..all[place].0.end]).unwrap();
    bytes[entry.0.clone()].to_vec()
}

/// Alice has published two entries, of which bob has so many; neither runs now.
struct Story {
    alice: Home,
    bob: Home,
    store: Arc<MemoryStore>,
    publisher: PublisherId,
}

impl Story {
    async fn new(heard: u64) -> Self {
        let [alice, bob] = [(); 2].map(|()| Home(tempfile::tempdir().unwrap()));
        let story = Self { alice, bob, store: Arc::default(), publisher: PublisherId([0; 32]) };
        let (node, follower) = (story.alice.starts().await, story.bob_starts().await);
        let first = publish(&node, "1.0.0").await.unwrap();
        let ticket: Ticket = first["ticket"].as_str().unwrap().parse().unwrap();
        let publisher = ticket.publisher;
        soon("the publisher", follower.handle().follow(ticket)).await.unwrap();
        meet(&follower, &node).await;
        has(&follower, publisher, 1).await;
        if heard == 2 {
            publish(&node, "1.1.0").await.unwrap();
            has(&follower, publisher, 2).await;
        }
        soon("the end of bob's node", follower.stop()).await;
        if heard == 1 {
            publish(&node, "1.1.0").await.unwrap();
        }
        story.alice.stops(node).await;
        Self { publisher, ..story }
    }
    async fn bob_starts(&self) -> Node {
        start_on(quiet(self.bob.0.path(), LISTEN), self.store.clone()).await.unwrap()
    }
    /// What a power cut left that came while alice wrote down her second entry.
    fn tear(&self, part: impl Fn(usize) -> usize) {
        let entry = cut_behind_reservation(&self.alice.log(), 2);
        // What was acknowledged last was the reservation.
        std::fs::remove_file(self.alice.told()).unwrap();
        let store = self.alice.0.path().join("store");
        drop(softservice_store::open(&store).unwrap());
        wait_closed(&store).unwrap();
        let torn = &entry[..part(entry.len())];
        let bytes = [std::fs::read(self.alice.log()).unwrap().as_slice(), torn].concat();
        std::fs::write(self.alice.log(), bytes).unwrap();
    }
    /// Alice and bob are of one mind about so many entries.
    async fn agree(&self, alice: &Node, bob: &Node, seq: u64) {
        assert!(!has(bob, self.publisher, seq).await && !has(alice, self.publisher, seq).await);
        let head = |node: &Node| node.handle().catalogue()[&self.publisher].feed.head;
        assert_eq!(head(alice), head(bob));
    }
    async fn end(self, alice: Node, bob: Node) {
        soon("the end of bob's node", bob.stop()).await;
        self.alice.stops(alice).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_that_goes_while_an_entry_is_written_does_not_stop_its_author() {
    let story = Story::new(1).await;
    story.tear(|len| len / 2);
    let alice = story.alice.starts().await;
    // Nobody is there to be asked, and nobody needs to be.
    let (talk, mut said) = Talk::channel();
    let found = soon("fsck", verbs::run(&alice.context(), "fsck", json!({}), &talk)).await.unwrap();
    assert_eq!(found["damaged"], json!([]), "{found}");
    drop(talk);
    let mut lines = Vec::new();
    while let Some(line) = soon("what it said", said.recv()).await {
        lines.push(line.to_string());
    }
    assert!(lines.iter().any(|l| l.contains("nobody was told of")), "{lines:?}");
    verb(&alice, "publisher_freshen", json!({})).await.unwrap();
    let done = publish(&alice, "1.2.0").await.unwrap();
    assert_eq!((&done["epoch"], &done["sequence"]), (&json!(1), &json!(2)), "{done}");

    let bob = story.bob_starts().await;
    meet(&alice, &bob).await;
    story.agree(&alice, &bob, 2).await;
    publish(&alice, "1.3.0").await.unwrap();
    story.agree(&alice, &bob, 3).await;
    story.end(alice, bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_acknowledged_and_is_gone_stops_its_author_until_a_peer_was_asked() {
    let story = Story::new(2).await;
    // Only the promise of the number is left; without the note beside it the log looks whole.
    cut_behind_reservation(&story.alice.log(), 2);
    for _ in 0..2 {
        let alice = story.alice.starts().await;
        for arguments in [json!({}), json!({ "repair": true })] {
            let failed = verb(&alice, "fsck", arguments).await.unwrap_err();
            assert!(failed.kind.exit() == 6 && format!("{failed:?}").contains("are gone"), "{failed:?}");
        }
        let refused = publish(&alice, "1.2.0").await.unwrap_err();
        assert!(refused.kind.exit() == 4 && refused.message.contains("fsck --repair"), "{refused}");
        let refused = verb(&alice, "publisher_freshen", json!({})).await.unwrap_err();
        assert!(refused.kind.exit() == 4 && refused.message.contains("nothing was stated"), "{refused}");
        story.alice.stops(alice).await;
    }
    let (alice, bob) = (story.alice.starts().await, story.bob_starts().await);
    meet(&alice, &bob).await;
    story.agree(&alice, &bob, 2).await;
    let told = verb(&alice, "fsck", json!({ "repair": true })).await.unwrap();
    assert!(told["damaged"].to_string().contains("are gone"), "{told}");
    assert_eq!(verb(&alice, "fsck", json!({})).await.unwrap()["damaged"], json!([]));
    verb(&alice, "publisher_freshen", json!({})).await.unwrap();
    assert_eq!(publish(&alice, "1.2.0").await.unwrap()["sequence"], 3);
    story.agree(&alice, &bob, 3).await;
    story.end(alice, bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_entry_of_which_nothing_is_known_waits_for_a_peers_word_and_no_longer() {
    let story = Story::new(1).await;
    story.tear(|len| len - 1);
    std::fs::remove_file(story.alice.told()).unwrap();
    let alice = story.alice.starts().await;
    let failed = verb(&alice, "fsck", json!({ "repair": true })).await.unwrap_err();
    assert!(failed.kind.exit() == 6 && format!("{failed:?}").contains("is not known"), "{failed:?}");
    assert_eq!(publish(&alice, "1.2.0").await.unwrap_err().kind.exit(), 4);

    // Bob has heard of no second entry; in this very life the number may be used then.
    let bob = story.bob_starts().await;
    meet(&alice, &bob).await;
    soon("bob", async {
        // As in the village: each question is a turn of the node's loop.
        while alice.handle().status().await.unwrap().peers.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    verb(&alice, "fsck", json!({ "repair": true })).await.unwrap();
    assert_eq!(publish(&alice, "1.2.0").await.unwrap()["sequence"], 2);
    story.agree(&alice, &bob, 2).await;
    story.end(alice, bob).await;
}
