//! Whatever a peer says, in whatever order: no panic, and nothing of it lasts but what was signed.

use crate::world::{Publisher, World, bitmap, listing, release};
use proptest::prelude::*;
use softservice_protocol::{
    bitmap::Bitmap,
    codec,
    feed::{Head, Position},
    id::{Digest, PublisherId, ReleaseId},
    io::{Delivery, Depth, Input, Job, Record, Request, Spent, Token},
    message::{Bytes, Message},
    time::Span,
};

fn head() -> impl Strategy<Value = Head> {
    (0..4u32, prop_oneof![0..5u64, Just(u64::MAX)], 0..3u8)
        .prop_map(|(epoch, seq, hash)| Head { at: Position { epoch, seq }, hash: Digest([hash; 32]) })
}
fn bits() -> impl Strategy<Value = Bitmap> {
    prop::collection::vec(any::<bool>(), 0..60).prop_map(|b| bitmap(b.into_iter()))
}
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}
fn message(publisher: PublisherId, release: ReleaseId, good: Vec<Vec<u8>>) -> impl Strategy<Value = Message> {
    let part = prop_oneof![bytes(), prop::sample::select(good)].prop_map(Bytes);
    let parts = prop::collection::vec(part.clone(), 0..4);
    prop_oneof![
        prop::collection::vec(head(), 0..4)
            .prop_map(move |h| Message::Heads(h.into_iter().map(|h| (publisher, h)).collect())),
        (any::<u64>(), head()).prop_map(move |(root, head)| Message::Pull { publisher, root, head }),
        (parts.clone(), prop::option::of(bytes()), parts, prop::option::of(part), any::<bool>()).prop_map(
            move |(roots, snapshot, entries, fresh, more)| Message::Feed {
                publisher,
                roots,
                snapshot: snapshot.map(Bytes),
                entries,
                fresh,
                more
            }
        ),
        Just(Message::Have { release }),
        prop::option::of(bits()).prop_map(move |chunks| Message::Has { release, chunks }),
        (any::<u8>(), any::<u32>()).prop_map(move |(n, from)| Message::PullSnapshot {
            publisher,
            snapshot: Digest([n; 32]),
            from
        }),
        (any::<u8>(), 0..300u32, 0..300u32, bytes()).prop_map(move |(n, from, of, piece)| Message::Snapshot {
            publisher,
            snapshot: Digest([n; 32]),
            from,
            of,
            piece: Bytes(piece)
        }),
        prop::collection::vec(".{0,80}", 0..40).prop_map(move |addresses| Message::Peers { publisher, addresses }),
    ]
}

/// What eve, or a driver that has lost its mind, may do next.
#[derive(Debug, Clone)]
enum Act {
    Say(Message),
    Send(Vec<u8>),
    Gossip(Vec<u8>),
    Delivered(u64, u8, Bitmap),
    Durable(u64),
    Wait(u64),
    Leave,
    Come,
}

fn world() -> (World, Publisher, softservice_protocol::release::ReleaseRef, Vec<Vec<u8>>) {
    let mut world = World::new(&["alice", "bob", "eve"]);
    let p = Publisher::new(1);
    let (r, closure) = release(1, 40, 0);
    world.shelve(r, closure);
    world.give("alice", r);
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listing("guestbook", 1, r));
    world.until("bob has the head", |w| w.head("bob", &p) == 1);
    let good = |r: &Record| match r {
        Record::Root { envelope, .. } | Record::Entry { envelope, .. } | Record::Fresh { envelope, .. } => {
            Some(envelope.clone())
        }
        _ => None,
    };
    let good = world.nodes["alice"].kept.iter().filter_map(good).collect();
    (world, p, r, good)
}

fn act() -> impl Strategy<Value = Act> {
    let (_, p, r, good) = world();
    prop_oneof![
        6 => message(p.id, r.id, good.clone()).prop_map(Act::Say),
        1 => bytes().prop_map(Act::Send),
        1 => prop_oneof![bytes(), prop::sample::select(good)].prop_map(Act::Gossip),
        2 => (0..60u64, 0..4u8, bits()).prop_map(|(r, how, held)| Act::Delivered(r, how, held)),
        1 => (0..60u64).prop_map(Act::Durable),
        2 => (0..3000u64).prop_map(Act::Wait),
        1 => Just(Act::Leave),
        2 => Just(Act::Come),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_eve_does_breaks_bob(acts in prop::collection::vec(act(), 1..60)) {
        let (mut world, p, r, _) = world();
        world.connect("eve", "bob");
        world.fetch("bob", r, Depth::Content);
        let eve = world.peer("eve");
        let honest = world.nodes["bob"].core.publisher(p.id).unwrap().feed.clone();
        for act in acts {
            match act {
                Act::Say(message) => {
                    let Ok(bytes) = codec::encode(&message) else { continue };
                    world.input("bob", Input::Received { peer: eve, bytes });
                }
                Act::Send(bytes) => world.input("bob", Input::Received { peer: eve, bytes }),
                Act::Gossip(bytes) => drop(world.whisper("eve", "bob", bytes)),
                Act::Delivered(request, how, held) => {
                    let outcome = match how {
                        0 => Delivery::Lied { held: Bitmap::empty(held.len()), why: "a story".into() },
                        1 => Delivery::Broke { held: Bitmap::empty(held.len()) },
                        _ => Delivery::Came { held: Bitmap::empty(held.len()), bytes: u64::MAX, wire: u64::MAX },
                    };
                    world.input("bob", Input::Delivered { peer: eve, request: Request(request), outcome, spent: Spent::default() });
                }
                Act::Durable(token) => world.input("bob", Input::NotKept { token: Token(token + 1000), why: "a story".into() }),
                Act::Wait(millis) => world.pass(Span::millis(millis)),
                Act::Leave => world.part("eve", "bob"),
                Act::Come => if !world.nodes["bob"].links.contains("eve") { world.connect("eve", "bob") },
            }
        }
        let view = world.nodes["bob"].core.publisher(p.id).unwrap();
        prop_assert_eq!(view.feed, &honest, "nothing unsigned lasts");
        prop_assert!(!view.frozen);
        prop_assert!(world.nodes["bob"].links.contains("alice"), "nobody honest is sent away");
        world.vanish("eve");
        let job = Job(1);
        world.fetched("bob", job);
    }
}
