//! Entries that are signed elsewhere. Invariant: a number that was handed out is never signed for something else.

use super::*;
use softservice_protocol::{
    id::PublicKey,
    root::Role,
    sign::{Signature, sign},
};

/// Two of three keys release; alice has the first of them at home.
fn two_of_three(names: &[&'static str]) -> (World, Publisher, [PublicKey; 3]) {
    let (mut world, mut p) = world(names);
    let keys = [60, 61, 62].map(|seed| p.new_key(seed));
    let mut sorted = keys.to_vec();
    sorted.sort();
    p.succeed(|root| root.roles.release = Role { threshold: 2, keys: sorted });
    world.own("alice", &p);
    let others: Vec<PublicKey> = p.root().roles.revoke.keys.iter().chain(&p.root().roles.fresh.keys).copied().collect();
    world.node("alice").publisher = Some(p.only(&[&keys[..1], &others].concat()));
    for name in names.iter().filter(|n| **n != "alice") {
        world.connect("alice", name);
        world.follow(name, &p);
    }
    (world, p, keys)
}
/// What alice was told of a publication: a request, if there is one, and how many signatures of how many are there.
fn unsigned(world: &World, job: Job) -> Option<(Option<Vec<u8>>, usize, usize)> {
    world.nodes["alice"].events.iter().find_map(|e| match e {
        Event::Unsigned { job: j, request, have, threshold, .. } if *j == job => {
            Some((request.clone(), *have, *threshold))
        }
        _ => None,
    })
}
fn request(world: &mut World, p: &Publisher, action: Action) -> Envelope {
    let job = world.request("alice", p, action);
    world.until("a request is handed out", |w| unsigned(w, job).is_some());
    codec::decode(&unsigned(world, job).unwrap().0.unwrap()).unwrap()
}
/// Signed on another machine, by keys of another drawer.
fn signed(mut request: Envelope, p: &Publisher, keys: &[PublicKey]) -> Vec<u8> {
    let more: Vec<Signature> =
        p.held(keys).into_iter().map(|k| sign(k, request.kind, p.id, request.feed, &request.payload)).collect();
    request.signatures.extend(more);
    request.signatures.sort();
    codec::encode(&request).unwrap()
}
fn refused(world: &World, job: Job) -> Option<String> {
    world.nodes["alice"].events.iter().find_map(|e| match e {
        Event::Refused { job: j, why, cause } if *j == job => {
            assert_eq!(*cause == Cause::Safety, why.contains("handed out"), "a number that is spoken for: {why}");
            Some(why.clone())
        }
        _ => None,
    })
}
fn is_published(world: &World, job: Job) -> bool {
    has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job))
}

#[test]
fn a_release_of_two_of_three_keys_is_handed_out_signed_elsewhere_and_brought_back() {
    let (mut world, p, keys) = two_of_three(&["alice", "bob"]);
    let request = request(&mut world, &p, Action::Release(listed(1)));
    assert_eq!(request.signatures.iter().map(|s| s.key).collect::<Vec<_>>(), keys[..1]);
    assert!(view(&world, "alice", &p).requested.is_some());
    // Not enough yet, or by nobody's key: refused as anybody's would be, and the request goes on.
    let job = world.bring("alice", &p, codec::encode(&request).unwrap());
    assert!(refused(&world, job).unwrap().contains("1 of the 2 signatures"));
    world.restart("alice");
    world.connect("alice", "bob");
    let job = world.bring("alice", &p, signed(request, &p, &keys[1..2]));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    assert!(is_published(&world, job) && view(&world, "alice", &p).requested.is_none());
    assert_eq!(view(&world, "bob", &p).feed.snapshot.listings, [listed(1)]);
}

#[test]
fn a_number_that_was_handed_out_is_spoken_for_until_it_is_withdrawn() {
    let (mut world, p, keys) = two_of_three(&["alice", "bob"]);
    let first = request(&mut world, &p, Action::Release(listed(1)));
    world.pass(Span::seconds(10));
    world.restart("alice");
    let again = request(&mut world, &p, Action::Release(listed(1)));
    assert_eq!(again.payload, first.payload, "the same request, whenever it is asked for");
    let other = world.request("alice", &p, Action::Release(listed(2)));
    assert!(refused(&world, other).unwrap().contains("handed out"));
    // Nor may something else come back at that number, or be signed at home.
    let mut rival: Entry = first.open().unwrap();
    rival.issued_at.0 += 1;
    let rival = Envelope { payload: codec::encode(&rival).unwrap(), signatures: vec![], ..first.clone() };
    let rival = world.bring("alice", &p, signed(rival, &p, &keys[1..]));
    assert!(refused(&world, rival).unwrap().contains("handed out"));
    let home = world.node("alice").publisher.clone();
    world.node("alice").publisher = Some(p.clone());
    let other = world.publish("alice", &p, listed(2));
    assert!(refused(&world, other).unwrap().contains("handed out"));
    world.node("alice").publisher = home;

    world.input("alice", Input::Withdraw { publisher: p.id });
    let second = request(&mut world, &p, Action::Release(listed(2)));
    assert_ne!(second.payload, first.payload);
    world.restart("alice");
    let late = world.bring("alice", &p, signed(first, &p, &keys[1..]));
    assert!(
        refused(&world, late).unwrap().contains("handed out"),
        "what was withdrawn is no longer what is waited for"
    );
    world.connect("alice", "bob");
    world.bring("alice", &p, signed(second, &p, &keys[1..]));
    world.until("bob has the second", |w| w.head("bob", &p) == 1);
    assert!(!is_frozen(&world, "bob", &p));
}

#[test]
fn what_found_too_few_keys_and_was_not_handed_out_speaks_for_no_number() {
    let (mut world, p, keys) = two_of_three(&["alice", "bob"]);
    let job = world.publish("alice", &p, listed(1));
    world.until("alice is told", |w| unsigned(w, job).is_some());
    assert_eq!(unsigned(&world, job), Some((None, 1, 2)));
    assert!(view(&world, "alice", &p).requested.is_none());
    world.restart("alice");
    world.connect("alice", "bob");
    let other = request(&mut world, &p, Action::Release(listed(2)));
    world.bring("alice", &p, signed(other, &p, &keys[1..]));
    world.until("bob has the other", |w| w.head("bob", &p) == 1);
    assert!(!is_frozen(&world, "alice", &p) && !is_frozen(&world, "bob", &p));
}

#[test]
fn nothing_leaves_before_it_is_written_down() {
    let (mut world, p, _) = two_of_three(&["alice", "bob"]);
    world.node("alice").slow_disk = true;
    let job = world.request("alice", &p, Action::Release(listed(1)));
    world.sync("alice"); // the reservation
    world.pass(Span::seconds(1));
    assert!(matches!(world.nodes["alice"].waiting[..], [(_, Record::Requested { .. })]));
    assert_eq!(unsigned(&world, job), None);
    world.restart("alice");
    world.node("alice").slow_disk = false;
    request(&mut world, &p, Action::Release(listed(2)));
}

#[test]
fn one_key_that_may_revoke_is_enough_and_a_strangers_entry_is_not_appended() {
    let (mut world, p, keys) = two_of_three(&["alice", "bob"]);
    let first = request(&mut world, &p, Action::Release(listed(1)));
    world.bring("alice", &p, signed(first.clone(), &p, &keys[1..]));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    let job = world.append("alice", &p, Action::Revoke { release: listed(1).release, revocation });
    world.until("it stands", |w| is_published(w, job));
    let mallory = Publisher::new(7);
    for envelope in [vec![1, 2, 3], codec::encode(&mallory.seal(Kind::Entry, first.payload.clone())).unwrap()] {
        let job = world.bring("alice", &p, envelope);
        assert!(refused(&world, job).is_some());
    }
    // What stands already is no second word, however often it is brought.
    let newest = codec::encode(&last_entry(&world)).unwrap();
    let job = world.bring("alice", &p, newest.clone());
    assert!(is_published(&world, job));
    let job = world.bring("bob", &p, newest);
    assert!(is_refused(&world, "bob", job), "not bob's feed");
}
