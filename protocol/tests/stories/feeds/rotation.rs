//! Keys change hands while the feed goes on. Invariant: what only keys of the past signed moves nothing and freezes nobody.

use super::*;
use softservice_protocol::id::PublicKey;

/// Alice's release key is another from now on, and she has it at home.
fn rotate(world: &mut World, p: &mut Publisher, seed: u8) -> PublicKey {
    let key = p.new_key(seed);
    p.succeed(|root| root.roles.release = softservice_protocol::root::Role { threshold: 1, keys: vec![key] });
    world.own("alice", p);
    key
}
/// The entry that could follow what bob has, about another version, by these keys.
fn forged(world: &World, p: &Publisher, version: u32, keys: &[PublicKey]) -> Envelope {
    let feed = view(world, "bob", p).feed.clone();
    let after = feed.snapshot.after(&Action::Release(listed(version)), None).unwrap();
    let entry = Entry {
        at: Position { epoch: feed.head.at.epoch, seq: feed.head.at.seq + 1 },
        prev: feed.head.hash,
        action: Action::Release(listed(version)),
        state_root: after.state_root().unwrap(),
        issued_at: START,
        by: None,
    };
    p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), keys)
}
pub(super) fn tell(world: &mut World, from: &'static str, to: &'static str, p: &Publisher, entries: &[&Envelope]) {
    // Bob asks whoever says that there is more.
    let head = Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"more") };
    let heads = codec::encode(&Message::Heads(vec![(p.id, head)])).unwrap();
    let peer = world.peer(from);
    world.input(to, Input::Received { peer, bytes: heads });
    let bytes = |e: &&Envelope| softservice_protocol::message::Bytes(codec::encode(*e).unwrap());
    let entries = entries.iter().map(bytes).collect();
    let page = Message::Feed { publisher: p.id, roots: vec![], snapshot: None, entries, fresh: None, more: false };
    world.input(to, Input::Received { peer, bytes: codec::encode(&page).unwrap() });
}

#[test]
fn after_the_release_key_changed_newcomers_begin_with_the_head_signed_anew() {
    let (mut world, mut p) = first(&["alice", "bob", "carol"]);
    world.publish("alice", &p, listed(2));
    world.until("bob has both", |w| w.head("bob", &p) == 2);
    let digest = last_entry(&world).digest();
    rotate(&mut world, &mut p, 70);
    world.until("bob has the new root and the head signed anew", |w| {
        let view = view(w, "bob", &p);
        view.root_version == 2 && view.signed
    });
    assert_eq!(last_entry(&world).digest(), digest, "the same words");
    assert!(!is_frozen(&world, "bob", &p) && world.head("bob", &p) == 2);
    world.vanish("alice");
    world.restart("bob");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol has all", |w| w.head("carol", &p) == 2);
    assert_eq!(view(&world, "carol", &p).root_version, 2);
    // And the feed goes on for all three.
    world.connect("alice", "bob");
    world.publish("alice", &p, listed(3));
    world.until("the third reaches all", |w| w.head("bob", &p) == 3 && w.head("carol", &p) == 3);
}

#[test]
fn a_head_whose_new_key_is_elsewhere_is_signed_there() {
    let (mut world, mut p) = first(&["alice", "bob", "carol"]);
    let mut home = p.clone();
    let key = p.new_key(70);
    p.succeed(|root| root.roles.release = softservice_protocol::root::Role { threshold: 1, keys: vec![key] });
    home.roots.clone_from(&p.roots);
    world.own("alice", &home);
    world.until("bob knows the new root", |w| view(w, "bob", &p).root_version == 2);
    world.pass(Span::seconds(5));
    assert!(!view(&world, "alice", &p).signed && !view(&world, "bob", &p).signed);
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.pass(Span::seconds(60));
    assert_eq!(world.head("carol", &p), 0, "nobody can show her a head");
    let job = world.node("alice").job();
    world.input("alice", Input::Resign { job, publisher: p.id, request: true });
    let request = |w: &World| {
        w.nodes["alice"].events.iter().find_map(|e| match e {
            Event::Unsigned { job: j, request, have: 0, threshold: 1, .. } if *j == job => request.clone(),
            _ => None,
        })
    };
    world.until("a request is handed out", |w| request(w).is_some());
    let mut envelope: Envelope = codec::decode(&request(&world).unwrap()).unwrap();
    envelope.signatures = p.sealed(Kind::Entry, envelope.payload.clone(), &[key]).signatures;
    world.bring("alice", &p, codec::encode(&envelope).unwrap());
    world.until("carol has it", |w| w.head("carol", &p) == 1);
    assert!(view(&world, "alice", &p).signed && view(&world, "bob", &p).signed);
}

#[test]
fn keys_that_were_rotated_out_move_nothing_and_freeze_nobody() {
    let (mut world, mut p) = first(&["alice", "bob", "dave", "eve"]);
    world.connect("dave", "alice");
    world.follow("dave", &p);
    world.until("dave has it", |w| w.head("dave", &p) == 1);
    world.part("dave", "alice");
    let old = p.root().roles.release.keys;
    rotate(&mut world, &mut p, 70);
    world.until("bob knows", |w| view(w, "bob", &p).root_version == 2 && view(w, "bob", &p).signed);
    world.connect("eve", "bob");
    world.connect("eve", "dave");
    // A thief has the old key: more than one word for the next place, and none of them counts.
    let (one, other) = (forged(&world, &p, 8, &old), forged(&world, &p, 9, &old));
    for envelope in [&one, &other] {
        assert_ne!(world.whisper("eve", "bob", codec::encode(envelope).unwrap()), Verdict::Accept);
    }
    tell(&mut world, "eve", "bob", &p, &[&one, &other]);
    world.pass(Span::seconds(1));
    assert!(world.head("bob", &p) == 1 && !is_frozen(&world, "bob", &p));
    // Dave slept through the change: to him they are a proof, until he hears of the root.
    let (small, large) = if one.digest() < other.digest() { (one, other) } else { (other, one) };
    let proof = softservice_protocol::feed::Equivocation { publisher: p.id, one: small, other: large };
    let bytes = codec::encode(&proof).unwrap();
    assert_ne!(world.whisper("eve", "bob", bytes.clone()), Verdict::Accept);
    world.whisper("eve", "dave", bytes);
    assert!(is_frozen(&world, "dave", &p) && !is_frozen(&world, "bob", &p));
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    world.connect("dave", "bob");
    world.until("dave has it, too", |w| w.head("dave", &p) == 2 && !is_frozen(w, "dave", &p));
    world.restart("dave");
    assert!(world.head("dave", &p) == 2 && !is_frozen(&world, "dave", &p));
}

#[test]
fn a_stolen_revoke_key_makes_no_catalogue_for_newcomers() {
    let (mut world, p) = first(&["alice", "bob", "carol", "eve"]);
    let revoke = p.root().roles.revoke.keys;
    let bad = listed(1).release;
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    let action = Action::Revoke { release: bad, revocation: revocation.clone() };
    let head = view(&world, "bob", &p).feed.head;
    let mut invented = softservice_protocol::feed::Snapshot { listings: vec![listed(1), listed(9)], spent: vec![] };
    invented.listings[0].revoked = Some(revocation);
    let entry = Entry {
        at: Position { epoch: 1, seq: 2 },
        prev: head.hash,
        action: action.clone(),
        state_root: invented.state_root().unwrap(),
        issued_at: START,
        by: None,
    };
    let envelope = p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), &revoke);
    let page = Message::Feed {
        publisher: p.id,
        roots: p.roots.iter().cloned().map(softservice_protocol::message::Bytes).collect(),
        snapshot: Some(softservice_protocol::message::Bytes(codec::encode(&invented).unwrap())),
        entries: vec![softservice_protocol::message::Bytes(codec::encode(&envelope).unwrap())],
        fresh: None,
        more: false,
    };
    world.connect("eve", "carol");
    world.follow("carol", &p);
    let eve = world.peer("eve");
    world.input("carol", Input::Received { peer: eve, bytes: codec::encode(&page).unwrap() });
    world.pass(Span::seconds(1));
    assert_eq!((view(&world, "carol", &p).root_version, world.head("carol", &p)), (1, 0));
    // What it may do, stop things, reaches newcomers behind what the release role signed.
    world.part("eve", "carol");
    let home = p.without(&[Kind::Entry]);
    world.node("alice").publisher = Some(home);
    world.append("alice", &p, action);
    world.until("bob is told", |w| w.head("bob", &p) == 2);
    world.vanish("alice");
    world.connect("carol", "bob");
    world.until("carol is told", |w| w.head("carol", &p) == 2);
    assert!(view(&world, "carol", &p).feed.snapshot.listings[0].revoked.is_some());
    world.restart("carol");
    assert_eq!(world.head("carol", &p), 2);
}

#[test]
fn two_root_documents_of_one_version_stop_the_publisher_everywhere() {
    let (mut world, mut p) = first(&["alice", "bob", "carol", "eve"]);
    world.connect("bob", "carol");
    world.follow("carol", &p);
    world.until("carol has it", |w| w.head("carol", &p) == 1);
    let rival = p.successor(|root| root.issued_at.0 += 1);
    p.succeed(|root| root.issued_at.0 += 2);
    world.own("alice", &p);
    world.until("all know the second root", |w| ["bob", "carol"].iter().all(|n| view(w, n, &p).root_version == 2));
    world.connect("eve", "bob");
    let head = Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"more") };
    let eve = world.peer("eve");
    let heads = codec::encode(&Message::Heads(vec![(p.id, head)])).unwrap();
    world.input("bob", Input::Received { peer: eve, bytes: heads });
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![softservice_protocol::message::Bytes(codec::encode(&rival).unwrap())],
        snapshot: None,
        entries: vec![],
        fresh: None,
        more: false,
    };
    world.input("bob", Input::Received { peer: eve, bytes: codec::encode(&page).unwrap() });
    world.until("all hold the proof", |w| ["alice", "bob", "carol"].iter().all(|n| is_frozen(w, n, &p)));
    world.pass(Span::seconds(1));
    for name in ["alice", "bob", "carol"] {
        assert!(has(&world.nodes[name], |e| matches!(e, Event::Frozen { .. })), "{name} is told");
        assert!(world.nodes[name].kept.iter().any(|r| matches!(r, Record::Proof { .. })), "{name} keeps the proof");
    }
    let job = world.publish("alice", &p, listed(2));
    assert!(is_refused(&world, "alice", job));
    world.restart("bob");
    assert!(is_frozen(&world, "bob", &p) && world.head("bob", &p) == 1, "a restart does not thaw it");
    // A new epoch does not either: which of two chains is the publisher's, people have to say.
    p.reopen(2, view(&world, "bob", &p).feed.head);
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.pass(Span::seconds(60));
    assert!(is_frozen(&world, "bob", &p));
}

#[test]
fn a_root_that_comes_while_an_entry_is_signed_has_the_head_signed_anew_afterwards() {
    let (mut world, mut p) = first(&["alice", "bob"]);
    let job = world.publish("alice", &p, listed(2));
    rotate(&mut world, &mut p, 70);
    world.until("the old key's signature is not enough", |w| is_refused(w, "alice", job));
    world.until("the head is signed by the new one", |w| {
        let bob = view(w, "bob", &p);
        bob.root_version == 2 && bob.signed && view(w, "alice", &p).signed
    });
}

#[test]
fn an_entry_whose_root_could_not_be_kept_is_not_published() {
    let (mut world, mut p) = first(&["alice", "bob"]);
    world.node("alice").slow_disk = true;
    p.succeed(|root| root.issued_at.0 += 1);
    world.own("alice", &p);
    let (root, _) = world.nodes["alice"].waiting[0].clone();
    let job = world.publish("alice", &p, listed(2));
    let (reserved, _) = world.nodes["alice"].waiting[1].clone();
    world.input("alice", Input::Durable(reserved));
    world.until("it is signed", |w| w.nodes["alice"].waiting.len() == 3);
    let (entry, _) = world.nodes["alice"].waiting[2].clone();
    world.input("alice", Input::NotKept { token: root, why: "the disk is full".into() });
    world.input("alice", Input::Durable(entry));
    assert!(is_refused(&world, "alice", job));
    assert!(!has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job)));
}
