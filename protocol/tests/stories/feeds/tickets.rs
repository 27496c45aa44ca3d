//! Tickets that say more than anybody shows: anybody can write one. Invariant: what was verified stays, and what the ticket
//! pins is what a newcomer gets, whoever comes first.

use super::*;
use softservice_protocol::{
    feed::Equivocation,
    id::{Peer, PublicKey},
    message::Bytes,
    root::Role,
    ticket::Ticket,
};

fn role(key: PublicKey) -> Role {
    Role { threshold: 1, keys: vec![key] }
}
fn newest(p: &Publisher) -> Envelope {
    codec::decode(p.roots.last().unwrap()).unwrap()
}
/// Pins the newest root document.
fn pinned(p: &Publisher) -> Ticket {
    Ticket { root: (p.root().version, newest(p).digest()), ..p.ticket(Head::START, &[]) }
}
/// The root key of version 1 was stolen, and rotated out by version 2; here is what the thief makes of it, too.
fn rotated(p: &mut Publisher) -> Publisher {
    let mut thief = p.clone();
    let key = p.new_key(80);
    p.succeed(|root| root.roles.root = role(key));
    p.succeed(|root| root.expires_at = root.expires_at + Span::days(1));
    let key = thief.new_key(81);
    thief.succeed(|root| root.roles.release = role(key));
    thief
}
fn has_root(world: &World, name: &str) -> bool {
    world.nodes[name].kept.iter().any(|r| matches!(r, Record::Root { .. }))
}
/// With the id of this publisher, and nothing else that is true.
fn invented(p: &Publisher) -> Ticket {
    let floor = Head { at: Position { epoch: u32::MAX, seq: 1 }, hash: Digest::of(b"floor") };
    Ticket { root: (u64::MAX, Digest::of(b"root")), ..p.ticket(floor, &[]) }
}

#[test]
fn a_thief_of_an_old_root_key_keeps_nobody_from_what_the_ticket_pins() {
    let (mut world, mut p) = world(&["alice", "carol", "eve"]);
    let thief = rotated(&mut p);
    world.own("alice", &p);
    world.publish("alice", &p, listed(1));
    world.own("eve", &thief);
    world.connect("eve", "carol");
    world.input("carol", Input::Follow { ticket: pinned(&p) });
    world.pass(Span::seconds(60));
    assert!(
        !has_root(&world, "carol") && world.nodes["carol"].core.roots(p.id).is_empty(),
        "it does not reach the pin"
    );
    world.connect("alice", "carol");
    world.until("carol has what is pinned", |w| w.head("carol", &p) == 1 && view(w, "carol", &p).root_version == 3);
    world.restart("carol");
    assert_eq!(view(&world, "carol", &p).root_version, 3);
    assert!(!is_frozen(&world, "carol", &p));
}

#[test]
fn a_chain_may_come_in_pieces_though_nothing_of_it_is_kept_before_it_reaches_the_pin() {
    let (mut world, mut p) = world(&["alice", "carol"]);
    rotated(&mut p);
    let [bob, eve] = [7, 8].map(|n| Peer([n; 32]));
    for peer in [bob, eve] {
        world.input(
            "carol",
            Input::Connected { peer, address: format!("/ip4/10.0.0.9/tcp/1/p2p/{peer}"), outbound: true },
        );
    }
    world.input("carol", Input::Follow { ticket: pinned(&p) });
    let pulls = |world: &World, from: u64| {
        let asks =
            |(peer, m): &(Peer, Message)| *peer == bob && matches!(m, Message::Pull { root, .. } if *root == from);
        world.nodes["carol"].sends.iter().any(asks)
    };
    for (n, root) in p.roots.clone().into_iter().enumerate() {
        assert!(pulls(&world, n as u64) && !has_root(&world, "carol"), "piece {n}");
        // Others who answer meanwhile have nothing to do with it.
        for (peer, roots, more) in [(eve, vec![], false), (bob, vec![Bytes(root)], n < 2)] {
            let page = Message::Feed { publisher: p.id, roots, snapshot: None, entries: vec![], fresh: None, more };
            world.input("carol", Input::Received { peer, bytes: codec::encode(&page).unwrap() });
        }
    }
    world.until("carol has the chain", |w| view(w, "carol", &p).root_version == 3);
    assert_eq!(world.nodes["carol"].core.roots(p.id), p.roots.as_slice());
}

#[test]
fn a_fork_below_what_a_ticket_tells_of_is_not_judged() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    world.part("alice", "bob");
    let second = {
        let mut p = p.clone();
        let key = p.new_key(80);
        p.succeed(|root| root.roles.root = role(key));
        newest(&p)
    };
    let thief = rotated(&mut p);
    assert_eq!(p.roots[1], codec::encode(&second).unwrap());
    world.input("bob", Input::Follow { ticket: pinned(&p) });
    let (one, other) = (second, newest(&thief));
    let (one, other) = if one.digest() < other.digest() { (one, other) } else { (other, one) };
    let proof = codec::encode(&Equivocation { publisher: p.id, one, other }).unwrap();
    world.connect("eve", "bob");
    world.whisper("eve", "bob", proof);
    world.pass(Span::seconds(10));
    assert!(!is_frozen(&world, "bob", &p), "keys that were rotated out since may have signed it");
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.until("bob has what is pinned", |w| view(w, "bob", &p).root_version == 3);
    assert_eq!(view(&world, "bob", &p).promised, None);
}

#[test]
fn a_ticket_that_tells_of_more_takes_nothing_that_is_known() {
    let (mut world, p) = first(&["alice", "bob"]);
    let known = view(&world, "bob", &p).feed.clone();
    world.input("bob", Input::Follow { ticket: invented(&p) });
    for _ in 0..2 {
        let seen = view(&world, "bob", &p);
        assert_eq!((seen.feed, seen.root_version, seen.freshness), (&known, 1, Freshness::Stale));
        assert_eq!(seen.promised, Some((u64::MAX, Position { epoch: u32::MAX, seq: 1 })));
        world.restart("bob");
    }
    // The feed goes on; most of all what takes something back is heard of.
    world.connect("alice", "bob");
    let stopped = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    world.append("alice", &p, Action::Revoke { release: listed(1).release, revocation: stopped });
    world.until("bob heard that it was taken back", |w| w.head("bob", &p) == 2);
    assert!(view(&world, "bob", &p).feed.snapshot.listings[0].revoked.is_some());
    // Another ticket does not make it fresh; beginning anew does.
    world.follow("bob", &p);
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale);
    world.input("bob", Input::Unfollow { publisher: p.id });
    world.follow("bob", &p);
    world.restart("bob");
    let seen = view(&world, "bob", &p);
    assert_eq!((seen.promised, seen.freshness, seen.feed.head.at.seq), (None, Freshness::Fresh, 2));
}

#[test]
fn who_was_given_an_invented_ticket_first_begins_anew_with_a_good_one() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    world.connect("alice", "carol");
    world.input("carol", Input::Follow { ticket: invented(&p) });
    world.pass(Span::seconds(60));
    assert_eq!((world.head("carol", &p), has_root(&world, "carol")), (0, false));
    world.input("carol", Input::Unfollow { publisher: p.id });
    world.restart("carol");
    world.connect("alice", "carol");
    world.follow("carol", &p);
    world.until("carol has the first", |w| w.head("carol", &p) == 1);
}
