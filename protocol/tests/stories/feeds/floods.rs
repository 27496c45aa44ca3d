//! Floods of gossip: valid, valid-looking and invalid. Invariant: who floods is sent away, whatever the messages say; who passes
//! on what it took for good is not.

use super::*;

/// Statements of alice, each newer than the one before, and each holds an hour longer.
fn statements(world: &World, p: &Publisher, count: u64) -> Vec<Vec<u8>> {
    let head = view(world, "bob", p).feed.head;
    let statement = |n: u64| {
        let issued_at = softservice_protocol::time::Time(world.now.0 + 10 + n);
        softservice_protocol::feed::Fresh {
            head,
            root_version: 1,
            issued_at,
            valid_for: Span::seconds(3600 * (7 * 24 + n)),
        }
    };
    let sealed = |n| codec::encode(&p.seal(Kind::Fresh, codec::encode(&statement(n)).unwrap())).unwrap();
    (1..=count).map(sealed).collect()
}

#[test]
fn one_publisher_has_ten_messages_passed_on_and_then_one_each_ten_seconds() {
    let (mut world, p) = first(&["alice", "bob"]);
    // What was passed on until now is forgiven by then.
    world.pass(Span::seconds(200));
    let all = statements(&world, &p, 60);
    let accepted = |world: &mut World, some: &[Vec<u8>]| {
        let verdicts: Vec<_> = some.iter().map(|s| world.whisper("alice", "bob", s.clone())).collect();
        assert!(verdicts.iter().all(|v| *v != Verdict::Reject), "nobody is blamed");
        verdicts.iter().filter(|v| **v == Verdict::Accept).count()
    };
    assert_eq!(accepted(&mut world, &all[..30]), 10, "the burst, and not one more");
    world.pass(Span::seconds(9));
    assert_eq!(accepted(&mut world, &all[30..33]), 0);
    world.pass(Span::seconds(2));
    assert_eq!(accepted(&mut world, &all[33..36]), 1);
    world.pass(Span::seconds(35));
    assert_eq!(accepted(&mut world, &all[36..50]), 3);
    assert!(world.nodes["bob"].links.contains("alice"));
}

#[test]
fn a_proof_is_passed_on_however_much_its_publisher_had_passed_on_before() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let filled =
        statements(&world, &p, 60).into_iter().filter(|s| world.whisper("eve", "bob", s.clone()) == Verdict::Accept);
    assert!(filled.count() <= 10, "her purse is empty");
    let (one, other) = (last_entry(&world), rival(&last_entry(&world), &p));
    let (one, other) = if one.digest() < other.digest() { (one, other) } else { (other, one) };
    let proof = softservice_protocol::feed::Equivocation { publisher: p.id, one, other };
    // Before the disk has it, too: the longer it waits, the more is taken of that publisher elsewhere.
    world.node("bob").slow_disk = true;
    let proof = codec::encode(&proof).unwrap();
    assert_eq!(world.whisper("eve", "bob", proof.clone()), Verdict::Accept);
    assert!(is_frozen(&world, "bob", &p));
    // Once: whoever repeats it makes nobody pass anything on.
    for _ in 0..3 {
        assert_eq!(world.whisper("eve", "bob", proof.clone()), Verdict::Ignore);
    }
}

#[test]
fn a_signature_that_holds_under_no_key_is_a_forgery_whosever_key_it_names() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let mut forged = last_entry(&world);
    let nobody = Publisher::new(9);
    let mut made =
        softservice_protocol::sign::sign(nobody.key(Kind::Entry), Kind::Entry, p.id, forged.feed, b"something else");
    forged.signatures = vec![made.clone()];
    assert_eq!(world.whisper("eve", "bob", codec::encode(&forged).unwrap()), Verdict::Reject);
    made.bytes[7] ^= 1;
    forged.signatures = vec![made];
    assert_eq!(world.whisper("eve", "bob", codec::encode(&forged).unwrap()), Verdict::Reject);
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("alice"));
}

#[test]
fn a_flood_under_keys_that_nobody_knows_ends_with_the_flooder_gone_and_a_few_such_messages_do_not() {
    let (mut world, p) = first(&["alice", "bob", "eve", "carol"]);
    world.connect("eve", "bob");
    world.connect("carol", "bob");
    let (entry, nobody) = (last_entry(&world), Publisher::new(9));
    let signed = |n: u8| {
        let mut envelope = entry.clone();
        envelope.payload.push(n);
        let key = nobody.key(Kind::Entry);
        envelope.signatures =
            vec![softservice_protocol::sign::sign(key, Kind::Entry, p.id, envelope.feed, &envelope.payload)];
        codec::encode(&envelope).unwrap()
    };
    for n in 0..60 {
        // As honest neighbours do while a new root is on its way to bob.
        if n % 6 == 0 {
            assert_eq!(world.whisper("carol", "bob", signed(n)), Verdict::Ignore);
        }
        assert_eq!(world.whisper("eve", "bob", signed(n)), Verdict::Ignore);
    }
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("carol"), "ten are no flood");
}

#[test]
fn what_somebody_adds_to_a_good_message_on_its_way_is_not_blamed_on_who_passes_it_on() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    world.connect("carol", "bob");
    // A newer root has another key; on the way somebody put a bad signature by the present one beside the good one.
    let (entry, newer) = (last_entry(&world), Publisher::new(9));
    let mut envelope = entry.clone();
    envelope.payload.push(1);
    let mut bad = entry.signatures[0].clone();
    bad.bytes[3] ^= 1;
    let key = newer.key(Kind::Entry);
    envelope.signatures =
        vec![bad, softservice_protocol::sign::sign(key, Kind::Entry, p.id, envelope.feed, &envelope.payload)];
    envelope.signatures.sort();
    for _ in 0..4 {
        assert_eq!(world.whisper("carol", "bob", codec::encode(&envelope).unwrap()), Verdict::Ignore);
    }
    world.pass(Span::seconds(60));
    assert!(world.nodes["bob"].links.contains("carol"));
}

#[test]
fn a_flood_of_gossip_ends_with_the_flooder_gone_whatever_it_says() {
    let stranger = Publisher::new(5);
    let of_a_stranger = |n: u16| codec::encode(&stranger.seal(Kind::Entry, n.to_le_bytes().to_vec())).unwrap();
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let known = codec::encode(&last_entry(&world)).unwrap();
    for n in 0..600 {
        let bytes = if n % 2 == 0 { of_a_stranger(n) } else { known.clone() };
        assert_ne!(world.whisper("eve", "bob", bytes), Verdict::Reject);
    }
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    assert!(world.nodes["bob"].links.contains("alice"));
    assert_eq!(world.head("bob", &p), 1);
}
