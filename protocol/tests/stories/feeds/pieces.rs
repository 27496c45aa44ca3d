//! A catalogue that is too long for one message. Invariant: whoever may begin with it gets it whole, as it was signed, from
//! any peer that has it; nobody sees a part of one, and whoever sends something else is found out.

use super::*;
use softservice_protocol::{
    feed::{FeedState, Listing, Snapshot},
    id::PublicKey,
    limits,
    message::Bytes,
    root::{Delegation, Role},
};

/// A catalogue of so many releases, each as long as one may be.
fn catalogue(releases: u32) -> Snapshot {
    let one = |n: u32| {
        let (release, _) = release(100 + n, 1, 0);
        let id = |salt: u32| ReleaseId(*blake3::hash(&[n.to_le_bytes(), salt.to_le_bytes()].concat()).as_bytes());
        Listing {
            distro: format!("{:0>60}", n % 1000),
            version: format!("{n}.0.0"),
            revision: 1,
            channel: "stable".into(),
            release: release.id,
            size: release.size,
            summary: "s".repeat(limits::SUMMARY_BYTES),
            parents: (1..=limits::PARENTS as u32).map(id).collect(),
            revoked: None,
        }
    };
    Snapshot { listings: (0..releases).map(one).collect(), spent: vec![] }
}

/// The entry behind which stands this catalogue.
fn entry(p: &Publisher, snapshot: &Snapshot) -> Envelope {
    let newest = snapshot.listings.last().unwrap().clone();
    let entry = Entry {
        at: Position { epoch: 1, seq: snapshot.listings.len() as u64 },
        prev: Digest::of(b"the entry before"),
        action: Action::Release(newest),
        state_root: snapshot.state_root().unwrap(),
        issued_at: START,
        by: None,
    };
    p.seal(Kind::Entry, codec::encode(&entry).unwrap())
}

/// Alice has published for years.
fn long_ago(names: &[&'static str], releases: u32) -> (World, Publisher, Snapshot) {
    let (mut world, p) = (World::new(names), Publisher::new(1));
    let snapshot = catalogue(releases);
    // What devices look ahead at.
    for version in (1..=3).chain(100 + releases - 20..100 + releases) {
        let (release, closure) = release(version, if version < 100 { 4 } else { 1 }, 0);
        world.shelve(release, closure);
    }
    let envelope = codec::encode(&entry(&p, &snapshot)).unwrap();
    world.node("alice").publisher = Some(p.clone());
    world.node("alice").kept = vec![
        Record::Root { publisher: p.id, envelope: p.roots[0].clone() },
        Record::Onboarded { publisher: p.id, envelope, snapshot: codec::encode(&snapshot).unwrap() },
    ];
    world.restart("alice");
    assert_eq!(world.head("alice", &p), u64::from(releases));
    (world, p, snapshot)
}

/// Three messages long.
const MANY: u32 = 4000;

#[test]
fn a_catalogue_of_several_messages_reaches_newcomers_and_sleepers_after_keys_changed() {
    let (mut world, mut p, snapshot) = long_ago(&["alice", "bob", "carol", "dave"], MANY);
    let size = codec::encode(&snapshot).unwrap().len();
    assert!(size > 2 * limits::MESSAGE_BYTES, "{size}");
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.until("bob has all", |w| w.head("bob", &p) == u64::from(MANY));
    world.publish("alice", &p, listed(1));
    world.until("bob has one more", |w| w.head("bob", &p) == u64::from(MANY) + 1);
    world.vanish("bob");
    // While he sleeps, keys change and the feed goes on: what he has is behind what anybody can show him one by one.
    let key = p.new_key(70);
    world.publish("alice", &p, listed(2));
    world.pass(Span::seconds(1));
    p.succeed(|root| root.roles.release = Role { threshold: 1, keys: vec![key] });
    world.own("alice", &p);
    world.pass(Span::seconds(1));
    world.publish("alice", &p, listed(3));
    world.pass(Span::seconds(1));
    world.connect("alice", "carol");
    world.follow("carol", &p);
    world.connect("alice", "bob");
    for name in ["bob", "carol"] {
        world.until("it arrives", |w| w.head(name, &p) == u64::from(MANY) + 3);
        assert_eq!(view(&world, name, &p).feed.snapshot, view(&world, "alice", &p).feed.snapshot, "{name}");
    }
    // And on from whoever has it, also after a restart.
    world.vanish("alice");
    world.restart("carol");
    world.connect("carol", "dave");
    world.follow("dave", &p);
    world.until("dave has all", |w| w.head("dave", &p) == u64::from(MANY) + 3);
    for node in world.nodes.values() {
        assert!(!has(node, |e| matches!(e, Event::Liar { .. })) && node.bans.is_empty());
        let long = node.sends.iter().filter(|(_, m)| codec::encode(m).unwrap().len() > limits::MESSAGE_BYTES);
        assert_eq!(long.count(), 0);
    }
}

#[test]
fn a_piece_that_is_lost_is_asked_for_again_and_a_bringer_that_leaves_is_replaced() {
    let (mut world, p, _) = long_ago(&["alice", "bob", "carol"], MANY);
    world.losses = 4;
    world.doubles = 5;
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.until("bob has all", |w| w.head("bob", &p) == u64::from(MANY));
    world.losses = 0;
    world.connect("alice", "carol");
    world.follow("carol", &p);
    let has_some = |w: &World| {
        w.nodes["alice"].sends.iter().any(|(_, m)| matches!(m, Message::Snapshot { from, .. } if *from > 0))
    };
    world.until("she has begun", has_some);
    world.vanish("alice");
    assert_eq!(world.head("carol", &p), 0, "a part of a catalogue is none");
    world.connect("bob", "carol");
    world.until("carol has all", |w| w.head("carol", &p) == u64::from(MANY));
}

/// Eve says to carol that she has the head, and answers as she likes.
fn eve_says(world: &mut World, message: &Message) {
    let eve = world.peer("eve");
    world.input("carol", Input::Received { peer: eve, bytes: codec::encode(message).unwrap() });
}
/// That she has more: whoever hears it asks.
fn ahead(p: &Publisher) -> Message {
    Message::Heads(vec![(p.id, Head { at: Position { epoch: 1, seq: 9000 }, hash: Digest::of(b"more") })])
}
fn begin(p: &Publisher, envelope: &Envelope) -> Message {
    Message::Feed {
        publisher: p.id,
        roots: p.roots.iter().cloned().map(Bytes).collect(),
        snapshot: Some(Bytes(vec![])),
        entries: vec![Bytes(codec::encode(envelope).unwrap())],
        fresh: None,
        more: false,
    }
}
fn asked_for_pieces(world: &World) -> Vec<u32> {
    let from = |(_, m): &(_, Message)| match m {
        Message::PullSnapshot { from, .. } => Some(*from),
        _ => None,
    };
    world.nodes["carol"].sends.iter().filter_map(from).collect()
}

#[test]
fn pieces_that_are_not_what_was_signed_are_refused_and_their_bringer_pays() {
    let (_, p, snapshot) = long_ago(&["alice"], MANY);
    let envelope = entry(&p, &snapshot);
    let good = codec::encode(&snapshot).unwrap();
    let digest = Digest::of(&good);
    let piece = |from: usize, of: usize, bytes: &[u8]| Message::Snapshot {
        publisher: p.id,
        snapshot: digest,
        from: from as u32,
        of: of as u32,
        piece: Bytes(bytes.to_vec()),
    };
    let full = limits::SNAPSHOT_PIECE;
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let lies: Vec<(&str, Vec<Message>)> = vec![
        ("longer than any catalogue", vec![piece(0, limits::SNAPSHOT_BYTES + 1, &good[..full])]),
        ("a short piece", vec![piece(0, good.len(), &good[..full - 1])]),
        ("an empty piece", vec![piece(0, good.len(), &[])]),
        ("a long piece", vec![piece(0, good.len(), &good[..full + 1])]),
        ("two lengths", vec![piece(0, good.len(), &good[..full]), piece(full, good.len() + 1, &good[full..2 * full])]),
        (
            "one bit",
            (0..good.len())
                .step_by(full)
                .map(|at| piece(at, good.len(), &bad[at..good.len().min(at + full)]))
                .collect(),
        ),
    ];
    for (what, messages) in lies {
        let mut world = World::new(&["alice", "carol", "eve"]);
        world.connect("eve", "carol");
        world.follow("carol", &p);
        eve_says(&mut world, &begin(&p, &envelope));
        assert_eq!(asked_for_pieces(&world), [0], "{what}");
        // From elsewhere, or for elsewhere: nobody asked for it.
        eve_says(&mut world, &piece(full, good.len(), &good[full..2 * full]));
        let stray = Message::Snapshot {
            publisher: p.id,
            snapshot: Digest::of(b"another"),
            from: 0,
            of: 3,
            piece: Bytes(vec![1; 3]),
        };
        eve_says(&mut world, &stray);
        assert!(world.nodes["carol"].bans.is_empty() && asked_for_pieces(&world).len() == 1, "{what}");
        let asked = messages.len() as u32;
        for message in &messages {
            eve_says(&mut world, message);
        }
        assert_eq!((world.head("carol", &p), asked_for_pieces(&world).len() as u32), (0, asked), "{what}");
        // Once more, and she is sent away.
        eve_says(&mut world, &ahead(&p));
        eve_says(&mut world, &begin(&p, &envelope));
        for message in &messages {
            eve_says(&mut world, message);
        }
        assert!(!world.nodes["carol"].bans.is_empty(), "{what}: {:?}", asked_for_pieces(&world));
        assert_eq!(world.head("carol", &p), 0, "{what}");
    }
}

#[test]
fn a_catalogue_is_put_together_for_a_signed_entry_only_and_never_behind_what_is_here() {
    let (mut world, p, snapshot) = long_ago(&["alice", "carol", "eve"], MANY);
    world.connect("eve", "carol");
    world.follow("carol", &p);
    let mut forged = entry(&p, &snapshot);
    forged.payload =
        codec::encode(&Entry { issued_at: softservice_protocol::time::Time(1), ..forged.open::<Entry>().unwrap() })
            .unwrap();
    eve_says(&mut world, &begin(&p, &forged));
    assert!(asked_for_pieces(&world).is_empty() && world.head("carol", &p) == 0);
    world.connect("alice", "carol");
    world.until("carol has all", |w| w.head("carol", &p) == u64::from(MANY));
    let asked = asked_for_pieces(&world).len();
    let behind = catalogue(MANY - 1);
    eve_says(&mut world, &ahead(&p));
    eve_says(&mut world, &begin(&p, &entry(&p, &behind)));
    assert_eq!((asked_for_pieces(&world).len(), world.head("carol", &p)), (asked, u64::from(MANY)));
}

#[test]
fn roots_that_fill_a_page_are_followed_by_what_did_not_fit_beside_them() {
    let (mut world, mut p, _) = long_ago(&["alice", "bob"], 400);
    let rights = |salt: u8| -> Vec<Delegation> {
        let one = |n: u8| Delegation {
            key: PublicKey([n, salt].repeat(16).try_into().unwrap()),
            channel_prefix: "nightly".into(),
            distros: (0..12).map(|d| format!("{:0>60}", d)).collect(),
            not_after: START,
            max_entries: 1,
        };
        (1..=limits::DELEGATIONS as u8).map(one).collect()
    };
    for n in 1..=17 {
        p.succeed(|root| root.delegations = rights(n));
    }
    let long: usize = p.roots.iter().map(Vec::len).sum();
    assert!((900 << 10..limits::MESSAGE_BYTES - (8 << 10)).contains(&long), "{long}");
    world.own("alice", &p);
    world.pass(Span::seconds(1));
    world.connect("alice", "bob");
    world.follow("bob", &p);
    assert!(world.within(Span::seconds(1), |w| w.head("bob", &p) == 400), "at once, not when he happens to ask again");
}

#[test]
fn a_full_catalogue_takes_no_release_and_still_takes_revocations() {
    let p = Publisher::new(1);
    let root = softservice_protocol::root::TrustedRoot::first(p.id, &codec::decode(&p.roots[0]).unwrap()).unwrap();
    let one = codec::encode(&catalogue(2)).unwrap().len() - codec::encode(&catalogue(1)).unwrap().len();
    let state = FeedState { snapshot: catalogue((limits::CATALOGUE_BYTES / one) as u32 + 1), ..FeedState::default() };
    assert!(codec::encode(&state.snapshot).unwrap().len() > limits::CATALOGUE_BYTES - one);
    let refused = state.draft(&root, Action::Release(listed(1)), START).unwrap_err();
    assert!(refused.to_string().contains("the catalogue is full"), "{refused}");
    let release = state.snapshot.listings[0].release;
    let revocation =
        Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "r".repeat(limits::REASON_BYTES) };
    state.draft(&root, Action::Revoke { release, revocation }, START).unwrap();
}
