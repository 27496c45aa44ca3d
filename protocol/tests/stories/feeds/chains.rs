//! Two chains of root documents of one publisher. Invariant: whoever meets somebody of the other chain finds out, proves it
//! and stops, at the price of one question to each peer.

use super::*;
use softservice_protocol::message::Bytes;

/// Alice and dora are two homes of one publisher. Bob follows alice's second root document, carol dora's.
fn apart(change: impl Fn(&mut Publisher, &'static str)) -> (World, Publisher, Publisher) {
    let (mut world, p) = first(&["alice", "bob", "carol", "dora", "eve"]);
    world.connect("carol", "alice");
    world.connect("dora", "alice");
    world.own("dora", &p);
    world.follow("carol", &p);
    world.until("all have the first", |w| ["bob", "carol", "dora"].iter().all(|n| w.head(n, &p) == 1));
    for name in ["alice", "carol", "dora"] {
        world.vanish(name);
    }
    let mut chains = [p.clone(), p];
    for ((home, follower), chain) in [("alice", "bob"), ("dora", "carol")].into_iter().zip(&mut chains) {
        change(chain, home);
        world.own(home, chain);
        world.connect(home, follower);
        world.until("its follower knows the second", |w| view(w, follower, chain).root_version == 2);
    }
    let [ours, theirs] = chains;
    (world, ours, theirs)
}
fn later(chain: &mut Publisher, by: u64) {
    chain.succeed(|root| root.issued_at.0 += by);
}
/// Pulls that somebody sent, by the root version that they name.
fn pulls(world: &World, name: &str, version: u64) -> usize {
    let is = |m: &Message| matches!(m, Message::Pull { root, .. } if *root == version);
    world.nodes[name].sends.iter().filter(|(_, m)| is(m)).count()
}

#[test]
fn two_homes_that_made_a_root_each_are_found_out_by_the_next_one() {
    let (mut world, mut ours, _) = apart(|chain, home| later(chain, if home == "alice" { 1 } else { 2 }));
    later(&mut ours, 5);
    world.own("alice", &ours);
    world.publish("alice", &ours, listed(2));
    world.until("bob goes on", |w| view(w, "bob", &ours).root_version == 3 && w.head("bob", &ours) == 2);
    world.connect("bob", "carol");
    let all = ["alice", "bob", "carol", "dora"];
    assert!(world.within(Span::seconds(120), |w| all.iter().all(|n| is_frozen(w, n, &ours))), "all hold the proof");
    assert!(world.nodes["carol"].kept.iter().any(|r| matches!(r, Record::Proof { .. })));
    let job = world.publish("dora", &ours, listed(3));
    assert!(is_refused(&world, "dora", job));
}

#[test]
fn an_entry_under_keys_of_another_chain_is_a_doubt_and_not_noise() {
    let (mut world, ours, theirs) = apart(|chain, home| {
        let key = chain.new_key(if home == "alice" { 80 } else { 81 });
        chain.succeed(|root| root.roles.release = softservice_protocol::root::Role { threshold: 1, keys: vec![key] });
    });
    world.until("dora's head is signed", |w| view(w, "dora", &theirs).signed);
    world.publish("dora", &theirs, listed(2));
    world.until("carol has it", |w| w.head("carol", &theirs) == 2);
    world.connect("bob", "carol");
    let both = ["bob", "carol"];
    assert!(world.within(Span::seconds(120), |w| both.iter().all(|n| is_frozen(w, n, &ours))), "both hold the proof");
}

#[test]
fn a_stranger_chain_that_is_never_shown_costs_one_question() {
    let (mut world, ours, mut theirs) = apart(|chain, home| later(chain, if home == "alice" { 1 } else { 2 }));
    later(&mut theirs, 7);
    world.connect("eve", "bob");
    let page = Message::Feed {
        publisher: ours.id,
        roots: vec![Bytes(theirs.roots[2].clone())],
        snapshot: None,
        entries: vec![],
        fresh: None,
        more: false,
    };
    let (eve, head) = (world.peer("eve"), Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"more") });
    let before = pulls(&world, "bob", 1);
    for _ in 0..5 {
        for message in [Message::Heads(vec![(ours.id, head)]), page.clone()] {
            world.input("bob", Input::Received { peer: eve, bytes: codec::encode(&message).unwrap() });
        }
        world.pass(Span::seconds(11));
    }
    assert_eq!(pulls(&world, "bob", 1) - before, 1);
    assert!(!is_frozen(&world, "bob", &ours), "a document that was not shown proves nothing");
}
