//! Stories about whom to be connected to.

use crate::world::{Publisher, START, World};
use softservice_protocol::{
    codec,
    feed::Head,
    id::Peer,
    io::{Input, Output, Record, Source},
    machine::{Core, Settings},
    message::Message,
    time::{Span, Time},
};

fn address(n: u32) -> String {
    let peer = Peer(*blake3::hash(&n.to_le_bytes()).as_bytes());
    format!("/ip4/10.1.{}.{}/tcp/4001/p2p/{peer}", n / 250, n % 250)
}
fn found(world: &mut World, name: &'static str, n: u32, source: Source) {
    world.input(name, Input::Found { address: address(n), source });
}

#[test]
fn a_dial_that_fails_is_tried_again_ever_more_rarely() {
    let mut world = World::new(&["bob"]);
    world.input("bob", Input::Follow { ticket: Publisher::new(1).ticket(Head::START, &[&address(1)]) });
    let mut gaps = vec![];
    for _ in 0..6 {
        let before = world.now;
        world.until("bob dials", |w| !w.nodes["bob"].dials.is_empty());
        gaps.push(world.now.since(before).0);
        assert_eq!(std::mem::take(&mut world.node("bob").dials), [address(1)]);
        world.input("bob", Input::DialFailed { address: address(1) });
    }
    assert_eq!(gaps[0], 0, "at once");
    assert!(gaps[5] > 4 * gaps[1] && gaps[5] <= 45_000, "{gaps:?}");
}

#[test]
fn a_dial_without_an_answer_is_not_waited_for_for_ever() {
    let mut world = World::new(&["bob"]);
    found(&mut world, "bob", 1, Source::Owner);
    assert_eq!(world.node("bob").dials.len(), 1);
    world.until("bob tries again", |w| w.nodes["bob"].dials.len() == 2);
}

#[test]
fn strangers_addresses_are_dialled_up_to_the_wished_degree_and_an_owners_always() {
    let mut world = World::new(&["bob"]);
    for n in 0..100 {
        found(&mut world, "bob", n, Source::Dht);
    }
    assert_eq!(world.node("bob").dials.len(), 8);
    for dialled in std::mem::take(&mut world.node("bob").dials) {
        let (_, peer) = dialled.rsplit_once('/').unwrap();
        world.input("bob", Input::Connected { peer: peer.parse().unwrap(), address: dialled.clone(), outbound: true });
    }
    world.pass(Span::seconds(120));
    assert!(world.node("bob").dials.is_empty(), "eight peers are what bob wishes");
    found(&mut world, "bob", 500, Source::Owner);
    assert_eq!(world.node("bob").dials, [address(500)]);
}

#[test]
fn peers_of_one_publisher_are_told_of_each_other() {
    let mut world = World::new(&["alice", "bob", "carol"]);
    let p = Publisher::new(1);
    world.own("alice", &p);
    world.follow("bob", &p);
    world.follow("carol", &p);
    world.connect("bob", "alice");
    world.connect("bob", "carol"); // bob dialled both, so he knows where they are
    let (alice, carol) = (world.address("alice"), world.address("carol"));
    world.until("they hear of each other", |w| {
        w.nodes["alice"].dials.contains(&carol) || w.nodes["carol"].dials.contains(&alice)
    });
}

#[test]
fn a_flood_of_addresses_stays_bounded_and_ends_with_the_flooder_gone() {
    let mut world = World::new(&["bob", "eve"]);
    let p = Publisher::new(1);
    world.follow("bob", &p);
    world.connect("eve", "bob");
    let eve = world.peer("eve");
    for round in 0..50 {
        let addresses = (0..32).map(|n| address(1000 + round * 32 + n)).collect();
        let bytes = codec::encode(&Message::Peers { publisher: p.id, addresses }).unwrap();
        world.input("bob", Input::Received { peer: eve, bytes });
    }
    assert!(world.node("bob").dials.len() <= 8);
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    let mut all = std::collections::BTreeSet::new();
    for _ in 0..2000 {
        for dialled in std::mem::take(&mut world.node("bob").dials) {
            world.input("bob", Input::DialFailed { address: dialled.clone() });
            all.insert(dialled);
        }
        world.pass(Span::seconds(1));
    }
    assert!(all.len() <= 32, "one peer fills no more than its part of the book, not {}", all.len());
}

#[test]
fn who_served_us_is_remembered_and_dialled_after_a_restart() {
    let mut world = World::new(&["alice", "bob"]);
    let p = Publisher::new(1);
    world.own("alice", &p);
    world.follow("bob", &p);
    world.connect("bob", "alice");
    let alice = world.address("alice");
    world.until("bob keeps it", |w| w.nodes["bob"].kept.contains(&Record::Address { address: alice.clone() }));
    world.node("bob").dials.clear();
    world.restart("bob");
    world.until("bob dials alice", |w| w.nodes["bob"].dials.contains(&alice));
}

#[test]
fn a_ban_ends() {
    let mut world = World::new(&["bob", "eve"]);
    world.connect("eve", "bob");
    world.whisper("eve", "bob", vec![1]);
    world.whisper("eve", "bob", vec![2]);
    world.until("eve is gone", |w| !w.nodes["bob"].links.contains("eve"));
    world.pass(Span::seconds(11 * 60));
    world.connect("eve", "bob");
    world.pass(Span::seconds(60));
    assert!(world.nodes["bob"].links.contains("eve"));
}

#[test]
fn equal_inputs_give_equal_outputs() {
    let run = || {
        let me = Peer([7; 32]);
        let mut core = Core::new(Settings { me, seed: 42, outbound: 4, built: Time(0) });
        let mut trace: Vec<Output> = vec![];
        let ticket = Publisher::new(3).ticket(Head::START, &[&address(1), &address(2)]);
        trace.extend(core.handle(START, Input::Follow { ticket }));
        for n in 0..200_u32 {
            let now = Time(START.0 + u64::from(n) * 777);
            let peer = Peer([n as u8; 32]);
            trace.extend(core.handle(now, Input::Found { address: address(n), source: Source::Lan }));
            trace.extend(core.handle(now, Input::Connected { peer, address: address(n), outbound: n % 3 == 0 }));
            trace.extend(core.handle(now, Input::Woke));
        }
        trace
    };
    assert_eq!(run(), run());
}

#[test]
fn no_timer_is_asked_for_at_the_end_of_time() {
    let mut core = Core::new(Settings { me: Peer([7; 32]), seed: 42, outbound: 4, built: Time(0) });
    let ticket = Publisher::new(3).ticket(Head::START, &[]);
    for output in core.handle(START, Input::Follow { ticket }) {
        if let Output::Wake(at) = output {
            assert!(at <= START + Span::days(1), "{at:?}");
        }
    }
}
