//! Stories of crowds of strangers: addresses, connections and dials of one network, and devices that see nobody else.
//! Invariant: what one network can have many of never takes what another needs.

use crate::world::{Publisher, World, listing, release};
use softservice_protocol::{
    codec,
    feed::{Freshness, Head},
    id::Peer,
    io::{Event, Input, Job, Output, Source},
    limits,
    machine::{Core, Settings},
    message::Message,
    time::{Span, Time},
};
use std::collections::BTreeSet;

fn stranger(n: u32) -> Peer {
    Peer(*blake3::hash(&n.to_le_bytes()).as_bytes())
}
/// One of the 65,000 addresses that mallory rents.
fn rented(n: u32) -> String {
    format!("/ip4/9.8.{}.{}/tcp/4001/p2p/{}", n / 250, n % 250, stranger(n))
}
fn elsewhere(n: u32) -> String {
    format!("/ip4/{}.1.1.1/tcp/4001/p2p/{}", 20 + n, stranger(90_000 + n))
}
fn comes(core: &mut Core, now: Time, peer: Peer, address: &str, outbound: bool) -> Vec<Peer> {
    let outputs = core.handle(now, Input::Connected { peer, address: address.into(), outbound });
    let gone = |o: &Output| if let Output::Disconnect { peer, .. } = o { Some(*peer) } else { None };
    outputs.iter().filter_map(gone).collect()
}
fn bob() -> Core {
    Core::new(Settings { me: Peer([7; 32]), seed: 42, outbound: 16, built: softservice_protocol::time::Time(0) })
}
const NOW: Time = Time(1_700_000_000_000);

#[test]
fn a_book_full_of_one_network_has_room_for_others_and_they_are_dialled_first() {
    for source in [Source::PeerExchange, Source::Dht, Source::Remembered] {
        let mut world = World::new(&["bob"]);
        for n in 0..1000 {
            world.input("bob", Input::Found { address: rented(n), source });
        }
        let dialled = std::mem::take(&mut world.node("bob").dials);
        assert_eq!(dialled.len(), 2, "a network's share of eight");
        for n in 0..6 {
            world.input("bob", Input::Found { address: elsewhere(n), source });
        }
        world.pass(Span::seconds(3));
        let dials = &world.nodes["bob"].dials;
        assert_eq!(dials.iter().filter(|d| !d.starts_with("/ip4/9.8.")).count(), 6, "{source:?}: {dials:?}");
    }
}

/// Somebody comes, and tells of these.
fn tells(world: &mut World, p: &Publisher, (peer, address): (Peer, String), addresses: Vec<String>) {
    world.input("bob", Input::Connected { peer, address, outbound: false });
    let bytes = codec::encode(&Message::Peers { publisher: p.id, addresses }).unwrap();
    world.input("bob", Input::Received { peer, bytes });
}
/// Everything that bob dials within ten minutes in which nobody answers.
fn dialled_in_vain(world: &mut World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for _ in 0..600 {
        for address in std::mem::take(&mut world.node("bob").dials) {
            world.input("bob", Input::DialFailed { address: address.clone() });
            all.insert(address);
        }
        world.pass(Span::seconds(1));
    }
    all
}

#[test]
fn what_one_network_tells_of_others_takes_its_share_of_the_book_and_no_more() {
    let mut world = World::new(&["bob"]);
    let p = Publisher::new(1);
    world.follow("bob", &p);
    // Mallory says what costs her nothing: addresses of two thousand networks that are not hers.
    let claimed = |n: u32| format!("/ip4/{}.{}.1.1/tcp/4001/p2p/{}", 60 + n / 250, n % 250, stranger(70_000 + n));
    for n in 0..64 {
        tells(&mut world, &p, (stranger(n), rented(n)), (0..32).map(|m| claimed(n * 32 + m)).collect());
    }
    let honest: Vec<String> = (0..20).map(elsewhere).collect();
    let carol = format!("/ip4/7.7.7.7/tcp/4001/p2p/{}", stranger(80_000));
    tells(&mut world, &p, (stranger(80_000), carol), honest.clone());
    let dialled = dialled_in_vain(&mut world);
    let missing: Vec<_> = honest.iter().filter(|a| !dialled.contains(*a)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(dialled.len() - honest.len(), 64, "a quarter of the book");
}

#[test]
fn no_stranger_sends_bob_into_his_lan_and_no_neighbour_to_his_own_machine() {
    let doors = ["/ip4/192.168.1.1/tcp/22", "/ip4/10.0.0.7/tcp/445", "/ip4/127.0.0.1/tcp/6379", "/ip6/::1/tcp/80"];
    let doors = doors.into_iter().chain(["/ip6/::ffff:192.168.1.1/tcp/23", "/dns4/router.lan/tcp/80"]);
    let doors: Vec<String> = doors.enumerate().map(|(n, d)| format!("{d}/p2p/{}", stranger(500 + n as u32))).collect();
    for (from, reaches) in [("9.8.7.6", [].as_slice()), ("192.168.1.9", &[0, 1, 4]), ("127.0.0.1", &[0, 1, 2, 3, 4, 5])]
    {
        let mut world = World::new(&["bob"]);
        let p = Publisher::new(1);
        world.follow("bob", &p);
        let mallory = format!("/ip4/{from}/tcp/4001/p2p/{}", stranger(1));
        tells(&mut world, &p, (stranger(1), mallory), doors.clone());
        let expected: BTreeSet<String> = reaches.iter().map(|n: &usize| doors[*n].clone()).collect();
        assert_eq!(dialled_in_vain(&mut world), expected, "{from}");
        let blamed = |o: &Peer| *o == stranger(1);
        assert!(!world.nodes["bob"].bans.keys().any(blamed), "an older program may tell of what it sees");
    }
}

#[test]
fn who_is_not_in_the_lan_is_told_nothing_of_it() {
    let mut world = World::new(&["alice", "bob"]);
    let p = Publisher::new(1);
    world.own("alice", &p);
    world.follow("bob", &p);
    world.connect("bob", "alice");
    world.until("bob follows", |w| w.nodes["bob"].core.publisher(p.id).is_some_and(|v| v.root_version == 1));
    let heads = codec::encode(&Message::Heads(vec![(p.id, Head::START)])).unwrap();
    for (n, from) in [(1, "9.8.7.6"), (2, "10.0.0.9")] {
        let address = format!("/ip4/{from}/tcp/4001/p2p/{}", stranger(n));
        world.input("bob", Input::Connected { peer: stranger(n), address, outbound: false });
        world.input("bob", Input::Received { peer: stranger(n), bytes: heads.clone() });
    }
    world.pass(Span::seconds(120));
    let told = |n: u32| {
        let sends = world.nodes["bob"].sends.iter();
        sends.filter(|(to, m)| *to == stranger(n) && matches!(m, Message::Peers { .. })).count()
    };
    assert_eq!((told(1), told(2)), (0, 1), "alice's address is of the LAN");
}

#[test]
fn a_lan_is_dialled_as_far_as_bob_wishes() {
    let mut world = World::new(&["bob"]);
    for n in 0..20 {
        let address = format!("/ip4/192.168.1.{}/tcp/4001/p2p/{}", n + 2, stranger(n));
        world.input("bob", Input::Found { address, source: Source::Lan });
    }
    assert_eq!(world.node("bob").dials.len(), 8);
}

#[test]
fn connections_of_one_network_beyond_its_share_do_not_count() {
    let mut core = bob();
    // Names without addresses, from the hash table: where they lead shows when they are dialled.
    for n in 0..16 {
        comes(&mut core, NOW, stranger(n), &rented(n), true);
    }
    let outputs = core.handle(NOW, Input::Found { address: elsewhere(1), source: Source::Dht });
    assert!(outputs.contains(&Output::Dial { address: elsewhere(1) }), "sixteen of one network are four");
}

#[test]
fn an_empty_door_is_open_to_everybody_and_at_a_full_one_the_largest_network_gives_way() {
    let mut core = bob();
    let limit = limits::INBOUND_PEERS as u32;
    for n in 0..limit {
        assert!(comes(&mut core, NOW, stranger(n), &rented(n), false).is_empty(), "there is room for number {n}");
    }
    // One more of the same network finds no room; who comes from elsewhere takes the place of its last.
    assert_eq!(comes(&mut core, NOW, stranger(5000), &rented(5000), false), [stranger(5000)]);
    for n in 0..40 {
        let gone = comes(&mut core, NOW, stranger(90_000 + n), &elsewhere(n), false);
        assert_eq!(gone, [stranger(limit - 1 - n)]);
    }
    assert_eq!(core.peers().count(), limits::INBOUND_PEERS);
    let others = core.peers().filter(|p| !p.address.starts_with("/ip4/9.8.")).count();
    assert_eq!(others, 40, "everybody from elsewhere stays");
}

#[test]
fn bob_dials_sixteen_and_holds_thirty_two_and_not_one_more() {
    let mut core = bob();
    let wished = limits::OUTBOUND_PEERS as u32;
    let dialled = |outputs: Vec<Output>| outputs.iter().any(|o| matches!(o, Output::Dial { .. }));
    for n in 0..wished {
        let found = Input::Found { address: elsewhere(n), source: Source::Dht };
        assert!(dialled(core.handle(NOW, found)), "number {n} is one of those that he wishes for");
        assert!(comes(&mut core, NOW, stranger(90_000 + n), &elsewhere(n), true).is_empty());
    }
    assert!(!dialled(core.handle(NOW, Input::Found { address: elsewhere(100), source: Source::Dht })));
    // Beyond that there is room for whom the owner names and for dials that crossed each other, and it ends as well.
    for n in wished..2 * wished {
        assert!(comes(&mut core, NOW, stranger(90_000 + n), &elsewhere(n), true).is_empty(), "number {n}");
    }
    assert_eq!(comes(&mut core, NOW, stranger(90_000 + 2 * wished), &elsewhere(2 * wished), true).len(), 1);
    assert_eq!(core.peers().count(), 2 * limits::OUTBOUND_PEERS);
}

#[test]
fn a_full_door_opens_for_who_the_owner_names_and_not_to_a_lone_stranger_of_many_networks() {
    let mut core = bob();
    for n in 0..limits::INBOUND_PEERS as u32 {
        let address = format!("/ip4/{}.{}.1.1/tcp/4001/p2p/{}", 11 + n / 100, n % 100, stranger(n));
        assert!(comes(&mut core, NOW, stranger(n), &address, false).is_empty());
    }
    assert_eq!(comes(&mut core, NOW, stranger(90_001), &elsewhere(1), false), [stranger(90_001)], "all are equal");
    core.handle(NOW, Input::Found { address: elsewhere(2), source: Source::Owner });
    let gone = comes(&mut core, NOW, stranger(90_002), &elsewhere(2), false);
    assert!(gone.len() == 1 && gone[0] != stranger(90_002), "{gone:?}");
}

#[test]
fn who_served_once_is_a_stranger_again_an_hour_later() {
    for (later, stays) in [(Span::seconds(50 * 60), true), (Span::seconds(70 * 60), false)] {
        let mut world = World::new(&["alice", "bob"]);
        let p = Publisher::new(1);
        world.own("alice", &p);
        world.follow("bob", &p);
        // Two of one network, and alice is the later one: who stands above her neighbour is not asked to go.
        let neighbour = format!("/ip4/10.0.0.1/tcp/2/p2p/{}", stranger(1000));
        world.input("bob", Input::Connected { peer: stranger(1000), address: neighbour, outbound: false });
        world.connect("alice", "bob");
        // Her root document is of use, and nothing comes after it.
        world.until("she serves", |w| w.nodes["bob"].core.publisher(p.id).is_some_and(|v| v.root_version == 1));
        world.pass(later);
        for n in 1..limits::INBOUND_PEERS as u32 {
            let address = format!("/ip4/{}.{}.1.1/tcp/4001/p2p/{}", 11 + n / 100, n % 100, stranger(n));
            world.input("bob", Input::Connected { peer: stranger(n), address, outbound: false });
        }
        let peers: Vec<Peer> = world.nodes["bob"].core.peers().map(|v| v.peer).collect();
        assert_eq!(peers.len(), limits::INBOUND_PEERS);
        assert_eq!(peers.contains(&world.peer("alice")), stays, "after {later:?}");
    }
}

#[test]
fn who_left_gives_the_place_back() {
    let mut core = bob();
    for round in 0..20 {
        for n in 0..limits::INBOUND_PEERS as u32 {
            let peer = stranger(round * 1000 + n);
            assert!(comes(&mut core, NOW, peer, &rented(n), false).is_empty(), "round {round}, number {n}");
        }
        for n in 0..limits::INBOUND_PEERS as u32 {
            core.handle(NOW, Input::Disconnected { peer: stranger(round * 1000 + n) });
        }
    }
    assert_eq!(core.peers().count(), 0);
}

#[test]
fn who_broke_the_protocol_is_no_newcomer_when_it_comes_back() {
    let mut core = bob();
    let mallory = stranger(1);
    let broke = |core: &mut Core| core.handle(NOW, Input::Broke { peer: mallory, why: "a story".into() });
    comes(&mut core, NOW, mallory, &rented(1), false);
    let first = broke(&mut core);
    assert!(first.iter().any(|o| matches!(o, Output::Disconnect { ban_until: None, .. })), "{first:?}");
    core.handle(NOW, Input::Disconnected { peer: mallory });
    assert!(comes(&mut core, NOW, mallory, &rented(1), false).is_empty(), "once may happen to anybody");
    let second = broke(&mut core);
    assert!(second.iter().any(|o| matches!(o, Output::Disconnect { ban_until: Some(_), .. })), "{second:?}");
    // A handshake that was under way in that moment ends now.
    assert_eq!(comes(&mut core, NOW, mallory, &rented(1), false), [mallory]);
    assert_eq!(core.peers().count(), 0);
    assert!(comes(&mut core, NOW + Span::seconds(601), mallory, &rented(1), false).is_empty(), "the ban is over");
}

#[test]
fn who_sends_bob_away_at_once_is_dialled_ever_more_rarely() {
    let mut world = World::new(&["bob"]);
    world.input("bob", Input::Found { address: elsewhere(1), source: Source::Owner });
    let peer = stranger(90_001);
    let mut gaps = vec![];
    for _ in 0..6 {
        let before = world.now;
        world.until("bob dials", |w| !w.nodes["bob"].dials.is_empty());
        gaps.push(world.now.since(before).0);
        world.node("bob").dials.clear();
        world.input("bob", Input::Connected { peer, address: elsewhere(1), outbound: true });
        world.input("bob", Input::Disconnected { peer });
    }
    assert!(gaps[5] > 4 * gaps[1], "{gaps:?}");
}

/// Ten of mallory's for each honest peer, before bob hears of anybody else: alice is the one that his ticket names.
#[test]
fn bob_finds_alice_among_ten_times_as_many_sybils_and_converges() {
    let mut world = World::new(&["alice", "bob"]);
    let p = Publisher::new(1);
    let (r, closure) = release(1, 4, 0);
    world.shelve(r, closure);
    world.own("alice", &p);
    for n in 0..400 {
        let source = if n % 2 == 0 { Source::Dht } else { Source::PeerExchange };
        world.input("bob", Input::Found { address: rented(n), source });
    }
    for n in 0..limits::INBOUND_PEERS as u32 {
        world.input("bob", Input::Connected { peer: stranger(5000 + n), address: rented(5000 + n), outbound: false });
    }
    let alice = world.address("alice");
    world.input("bob", Input::Follow { ticket: p.ticket(Head::START, &[&alice]) });
    let mut converged = false;
    for _ in 0..300 {
        for dialled in std::mem::take(&mut world.node("bob").dials) {
            if dialled == alice {
                world.connect("bob", "alice");
                world.publish("alice", &p, listing("guestbook", 1, r));
            } else if let Some((_, peer)) = dialled.rsplit_once('/') {
                let peer = peer.parse().unwrap();
                world.input("bob", Input::Connected { peer, address: dialled.clone(), outbound: true });
            }
        }
        world.pass(Span::seconds(1));
        converged = world.head("bob", &p) == 1;
        if converged {
            break;
        }
    }
    assert!(converged, "within five minutes");
    // And he keeps her, however many more come.
    for n in 0..1000 {
        world.input(
            "bob",
            Input::Connected { peer: stranger(9000 + n), address: rented(9000 + n), outbound: n % 2 == 0 },
        );
    }
    assert!(world.nodes["bob"].links.contains("alice"));
    let peers: Vec<Peer> = world.nodes["bob"].core.peers().map(|v| v.peer).collect();
    assert!(peers.contains(&world.peer("alice")) && peers.len() <= limits::INBOUND_PEERS + 16, "{}", peers.len());
}

#[test]
fn who_is_asked_for_news_is_of_as_many_networks_as_there_are() {
    let mut world = World::new(&["alice", "bob"]);
    let p = Publisher::new(1);
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.until("bob follows", |w| w.nodes["bob"].core.publisher(p.id).is_some_and(|v| v.root_version == 1));
    for n in 0..limits::INBOUND_PEERS as u32 {
        world.input("bob", Input::Connected { peer: stranger(n), address: rented(n), outbound: false });
    }
    for job in 1..20 {
        world.node("bob").sends.clear();
        world.input("bob", Input::Refresh { job: Job(job), publisher: p.id });
        let pulls = |(to, m): &(Peer, Message)| matches!(m, Message::Pull { .. }).then_some(*to);
        let asked: Vec<Peer> = world.nodes["bob"].sends.iter().filter_map(pulls).collect();
        assert!(asked.len() == 8 && asked.contains(&world.peer("alice")), "{asked:?}");
    }
}

/// Mallory is all that bob sees. She cannot make up anything, so all that she can do is to say nothing; that shows.
#[test]
fn bob_who_sees_nobody_but_sybils_knows_that_his_news_are_stale() {
    let mut world = World::new(&["alice", "bob"]);
    let p = Publisher::new(1);
    world.own("alice", &p);
    let (r, closure) = release(1, 4, 0);
    world.shelve(r, closure);
    // What bob looks at ahead comes as well: news alone are to be missing, and he asks nobody for eight days for the rest.
    world.give("alice", r);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listing("guestbook", 1, r));
    let freshness = |w: &World| w.nodes["bob"].core.publisher(p.id).map(|v| v.freshness);
    world.until("bob has it", |w| w.head("bob", &p) == 1 && freshness(w) == Some(Freshness::Fresh));
    world.until("bob has looked ahead", |w| w.nodes["bob"].core.transfers().is_empty());
    world.vanish("alice");
    let since = world.now;
    for n in 0..6 {
        world.input("bob", Input::Connected { peer: stranger(n), address: rented(n), outbound: n < 3 });
    }
    // They repeat what bob has, as if there were nothing newer.
    let head = world.nodes["bob"].core.publisher(p.id).unwrap().feed.head;
    let bytes = codec::encode(&Message::Heads(vec![(p.id, head)])).unwrap();
    while world.now < since + softservice_protocol::feed::VALID_FOR + Span::days(1) {
        for n in 0..6 {
            world.input("bob", Input::Received { peer: stranger(n), bytes: bytes.clone() });
        }
        world.pass(Span::days(1));
        world.node("bob").sends.clear();
    }
    assert_eq!(freshness(&world), Some(Freshness::Stale), "by the deadline");
    assert!(
        world.nodes["bob"].events.iter().any(|e| matches!(e, Event::Freshness { freshness: Freshness::Stale, .. }))
    );
    assert_eq!(world.head("bob", &p), 1, "what was verified stays");
    world.connect("alice", "bob");
    world.until("alice is heard again", |w| freshness(w) == Some(Freshness::Fresh));
}
