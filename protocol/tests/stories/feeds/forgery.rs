//! What eve makes up: signatures, keys, garbage, publishers, heads. Invariant: nobody honest pays for it.

use super::*;

#[test]
fn a_forged_signature_is_rejected_and_its_bringer_sent_away() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let mut forged = last_entry(&world);
    let mut entry: Entry = forged.open().unwrap();
    entry.at.seq = 2;
    forged.payload = codec::encode(&entry).unwrap(); // alice's signature of something else
    assert_eq!(world.whisper("eve", "bob", codec::encode(&forged).unwrap()), Verdict::Reject);
    assert_eq!(world.head("bob", &p), 1);
    forged.signatures[0].bytes[5] ^= 1;
    assert_eq!(world.whisper("eve", "bob", codec::encode(&forged).unwrap()), Verdict::Reject);
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("alice"));
}

#[test]
fn a_key_that_nobody_knows_is_not_passed_on_either() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let eve = Publisher::new(9);
    let mut envelope = last_entry(&world);
    let key = eve.key(Kind::Entry);
    envelope.signatures =
        vec![softservice_protocol::sign::sign(key, Kind::Entry, p.id, envelope.feed, &envelope.payload)];
    // A newer root might know this key: so it is ignored, and its bringer asked for that root.
    assert_eq!(world.whisper("eve", "bob", codec::encode(&envelope).unwrap()), Verdict::Ignore);
    let asked = |m: &Message| matches!(m, Message::Pull { root: 1, .. });
    let eve = world.peer("eve");
    assert!(world.nodes["bob"].sends.iter().any(|(to, m)| *to == eve && asked(m)));
}

#[test]
fn garbage_and_giants_are_rejected() {
    let (mut world, p) = world(&["alice", "bob", "eve"]);
    world.follow("bob", &p);
    world.connect("eve", "bob");
    assert_eq!(world.whisper("eve", "bob", vec![1, 2, 3]), Verdict::Reject);
    assert_eq!(world.whisper("eve", "bob", vec![0; 5000]), Verdict::Reject);
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    world.connect("eve", "bob");
    world.until("a ban outlives a new connection", |w| !w.nodes["bob"].links.contains("eve"));
}

#[test]
fn a_stranger_publisher_is_ignored_and_costs_nothing() {
    let (mut world, _) = world(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let stranger = Publisher::new(5);
    let entry = Entry {
        at: Position { epoch: 1, seq: 1 },
        prev: Digest::ZERO,
        action: Action::Release(listed(1)),
        state_root: Digest::ZERO,
        issued_at: START,
        by: None,
    };
    let envelope = stranger.seal(Kind::Entry, codec::encode(&entry).unwrap());
    assert_eq!(world.whisper("eve", "bob", codec::encode(&envelope).unwrap()), Verdict::Ignore);
    assert!(world.nodes["bob"].kept.is_empty());
}

#[test]
fn a_liar_about_heads_does_not_keep_alice_from_publishing() {
    let (mut world, p) = world(&["alice", "eve"]);
    world.connect("eve", "alice");
    let claim = Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"no such entry") };
    let heads = codec::encode(&Message::Heads(vec![(p.id, claim)])).unwrap();
    let eve = world.peer("eve");
    world.input("alice", Input::Received { peer: eve, bytes: heads });
    let job = world.publish("alice", &p, listed(1));
    assert!(is_refused(&world, "alice", job));
    world.pass(Span::seconds(15));
    world.publish("alice", &p, listed(1));
    world.until("alice has it", |w| w.head("alice", &p) == 1);
}
