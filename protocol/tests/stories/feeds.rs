//! Stories about feeds: alice publishes, bob and others follow, eve means no good.

use crate::world::{Node, Publisher, START, World, listing, release};
use softservice_protocol::{
    codec,
    feed::{Action, Entry, Freshness, Head, Position},
    id::Digest,
    io::{Event, Input, Record, Verdict},
    message::Message,
    sign::{Envelope, Kind},
    time::Span,
};

fn listed(version: u32) -> softservice_protocol::feed::Listing {
    listing("guestbook", version, release(version, 4, 0).0)
}
fn world(names: &[&'static str]) -> (World, Publisher) {
    let mut world = World::new(names);
    let publisher = Publisher::new(1);
    for version in 1..=40 {
        let (release, closure) = release(version, 4, 0);
        world.shelve(release, closure);
    }
    world.own("alice", &publisher);
    (world, publisher)
}
fn has(node: &Node, wanted: impl Fn(&Event) -> bool) -> bool {
    node.events.iter().any(wanted)
}
/// The newest entry that alice gossiped.
fn last_entry(world: &World) -> Envelope {
    let bytes = world.nodes["alice"].kept.iter().rev().find_map(|r| match r {
        Record::Entry { envelope, .. } => Some(envelope.clone()),
        _ => None,
    });
    codec::decode(&bytes.unwrap()).unwrap()
}
/// Another entry for the place of `entry`.
fn rival(entry: &Envelope, publisher: &Publisher) -> Envelope {
    let mut rival: Entry = entry.open().unwrap();
    rival.issued_at.0 += 1;
    publisher.seal(Kind::Entry, codec::encode(&rival).unwrap())
}

#[test]
fn what_alice_publishes_reaches_bob_and_his_neighbour() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    world.connect("alice", "bob");
    world.connect("bob", "carol");
    world.follow("bob", &p);
    world.follow("carol", &p);
    world.until("the root reaches carol", |w| has(&w.nodes["carol"], |e| matches!(e, Event::Followed { .. })));
    let job = world.publish("alice", &p, listed(1));
    world.until("the head reaches carol", |w| w.head("carol", &p) == 1);
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job)));
    assert_eq!(world.nodes["carol"].core.publisher(p.id).unwrap().feed.snapshot.listings, vec![listed(1)]);
    let head = |e: &Event| matches!(e, Event::Head { added, .. } if *added == vec![listed(1)]);
    assert!(has(&world.nodes["bob"], head) && has(&world.nodes["carol"], head));
    world.until("carol believes it", |w| {
        w.nodes["carol"].core.publisher(p.id).is_some_and(|v| v.freshness == Freshness::Fresh)
    });
}

#[test]
fn a_late_joiner_takes_head_and_snapshot_from_a_follower() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    for version in 1..=20 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has all", |w| w.head("bob", &p) == 20);
    world.vanish("alice");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol has all", |w| w.head("carol", &p) == 20);
    assert_eq!(world.nodes["carol"].core.publisher(p.id).unwrap().feed.snapshot.listings.len(), 20);
    let kept = &world.nodes["carol"].kept;
    assert!(kept.iter().any(|r| matches!(r, Record::Onboarded { .. })));
    assert!(!kept.iter().any(|r| matches!(r, Record::Entry { .. })), "history is not fetched one by one");
}

#[test]
fn a_gap_heals_by_asking_who_brought_the_news() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.part("alice", "bob");
    for version in 2..=5 {
        world.publish("alice", &p, listed(version));
    }
    world.until("alice has five", |w| w.head("alice", &p) == 5);
    let newest = codec::encode(&last_entry(&world)).unwrap();
    world.connect("alice", "bob");
    assert_eq!(world.whisper("alice", "bob", newest), Verdict::Ignore, "a gap is nobody's fault and is not passed on");
    world.until("bob caught up", |w| w.head("bob", &p) == 5);
    let order: Vec<_> = world.nodes["bob"].core.publisher(p.id).unwrap().feed.snapshot.listings.clone();
    assert_eq!(order, (1..=5).map(listed).collect::<Vec<_>>());
}

#[test]
fn heads_heal_what_gossip_and_a_bad_network_lose() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    (world.losses, world.doubles, world.disorder) = (3, 4, 400);
    world.connect("alice", "bob");
    world.connect("bob", "carol");
    world.follow("bob", &p);
    world.follow("carol", &p);
    for version in 1..=12 {
        world.publish("alice", &p, listed(version));
        world.pass(Span::seconds(2));
    }
    world.until("everybody has all", |w| w.head("bob", &p) == 12 && w.head("carol", &p) == 12);
    for name in ["alice", "bob", "carol"] {
        assert!(!world.node(name).events.iter().any(|e| matches!(e, Event::Liar { .. } | Event::Frozen { .. })));
        assert_eq!(world.node(name).links.len(), if name == "bob" { 2 } else { 1 }, "nobody honest was sent away");
    }
}

#[test]
fn a_forged_signature_is_rejected_and_its_bringer_sent_away() {
    let (mut world, p) = world(&["alice", "bob", "eve"]);
    world.connect("alice", "bob");
    world.connect("eve", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
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
    let (mut world, p) = world(&["alice", "bob", "eve"]);
    world.connect("alice", "bob");
    world.connect("eve", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
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
    };
    let envelope = stranger.seal(Kind::Entry, codec::encode(&entry).unwrap());
    assert_eq!(world.whisper("eve", "bob", codec::encode(&envelope).unwrap()), Verdict::Ignore);
    assert!(world.nodes["bob"].kept.is_empty());
}

#[test]
fn two_entries_for_one_place_freeze_the_feed_everywhere_and_for_ever() {
    let (mut world, p) = world(&["alice", "bob", "carol", "eve"]);
    world.connect("alice", "bob");
    world.connect("bob", "carol");
    world.connect("eve", "bob");
    world.follow("bob", &p);
    world.follow("carol", &p);
    world.publish("alice", &p, listed(1));
    world.until("the head reaches carol", |w| w.head("carol", &p) == 1);
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    let frozen = |w: &World, name: &str| w.nodes[name].core.publisher(p.id).is_some_and(|v| v.frozen);
    world.until("carol and alice hear of it", |w| frozen(w, "carol") && frozen(w, "alice"));
    world.pass(Span::seconds(1));
    for name in ["bob", "carol"] {
        assert!(has(&world.nodes[name], |e| matches!(e, Event::Frozen { .. })), "{name} is told");
        assert!(world.nodes[name].kept.iter().any(|r| matches!(r, Record::Proof { .. })), "{name} keeps the proof");
    }
    let job = world.publish("alice", &p, listed(2));
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job)));
    world.restart("bob");
    assert!(frozen(&world, "bob"), "a restart does not thaw it");
    assert_eq!(world.head("bob", &p), 1, "what was verified stays");
}

#[test]
fn a_device_that_follows_later_learns_of_the_proof_by_asking() {
    let (mut world, p) = world(&["alice", "bob", "carol", "eve"]);
    world.connect("alice", "bob");
    world.connect("eve", "bob");
    for name in ["bob", "carol"] {
        world.follow(name, &p);
    }
    world.publish("alice", &p, listed(1));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    let other = rival(&last_entry(&world), &p);
    world.whisper("eve", "bob", codec::encode(&other).unwrap());
    world.pass(Span::seconds(1));
    world.connect("carol", "bob");
    world.until("carol freezes it too", |w| w.nodes["carol"].core.publisher(p.id).is_some_and(|v| v.frozen));
}

#[test]
fn nothing_is_shown_or_announced_before_it_is_durable() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    world.connect("alice", "bob");
    world.connect("bob", "carol");
    world.follow("bob", &p);
    world.until("bob follows", |w| has(&w.nodes["bob"], |e| matches!(e, Event::Followed { .. })));
    world.node("alice").slow_disk = true;
    world.publish("alice", &p, listed(1));
    world.pass(Span::seconds(40));
    assert!(matches!(world.nodes["alice"].waiting[..], [(_, Record::Reserved { .. })]), "nothing is signed yet");
    world.sync("alice");
    world.pass(Span::seconds(40));
    assert!(world.nodes["alice"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    assert_eq!((world.head("alice", &p), world.head("bob", &p)), (0, 0));
    assert!(world.nodes["alice"].gossiped.is_empty());
    world.node("bob").slow_disk = true;
    world.sync("alice");
    world.until("bob was told", |w| w.nodes["bob"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    assert_eq!(world.head("bob", &p), 0);
    assert!(!has(&world.nodes["bob"], |e| matches!(e, Event::Head { .. })));
    world.sync("bob");
    assert_eq!(world.head("bob", &p), 1);
}

#[test]
fn a_crash_between_reservation_and_entry_signs_nothing_twice() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.node("alice").slow_disk = true;
    world.publish("alice", &p, listed(2));
    world.sync("alice"); // the reservation is durable, the entry is signed and waits for the disk
    world.pass(Span::seconds(1));
    assert!(world.nodes["alice"].waiting.iter().any(|(_, r)| matches!(r, Record::Entry { .. })));
    world.restart("alice");
    world.node("alice").slow_disk = false;
    world.connect("alice", "bob");
    world.pass(Span::seconds(5));
    assert_eq!(world.head("alice", &p), 1);
    world.publish("alice", &p, listed(3));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    assert!(!world.nodes["bob"].core.publisher(p.id).unwrap().frozen, "nobody saw what was signed before the crash");
    let last = world.nodes["bob"].core.publisher(p.id).unwrap().feed.snapshot.listings.last().cloned();
    assert_eq!(last, Some(listed(3)));
}

#[test]
fn a_mark_above_the_log_keeps_alice_from_a_second_word() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    let whole = world.nodes["alice"].kept.clone();
    let head = Head { at: Position { epoch: 1, seq: 1 }, hash: last_entry(&world).digest() };
    let mark = Input::Marked { publisher: p.id, head };
    let refused =
        |w: &World| has(&w.nodes["alice"], |e| matches!(e, Event::Refused { why, .. } if why.contains("lost")));

    // A crash after the reservation: the log holds it, so the mark is no loss.
    world.node("alice").kept.retain(|r| !matches!(r, Record::Entry { .. }));
    world.restart("alice");
    world.input("alice", mark.clone());
    world.publish("alice", &p, listed(1));
    assert!(!refused(&world));

    // Neither entry nor reservation: alice, alone, signs nothing; with bob's help she goes on where she was.
    world.node("alice").kept = whole;
    world.node("alice").kept.retain(|r| !matches!(r, Record::Entry { .. } | Record::Reserved { .. }));
    world.restart("alice");
    world.input("alice", mark);
    world.publish("alice", &p, listed(2));
    assert!(refused(&world));
    world.connect("alice", "bob");
    world.until("alice got her entry back", |w| w.head("alice", &p) == 1);
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    assert!(!world.nodes["bob"].core.publisher(p.id).unwrap().frozen);
}

#[test]
fn a_publisher_that_lost_its_log_asks_before_it_signs() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    for version in 1..=3 {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has three", |w| w.head("bob", &p) == 3);
    world.node("alice").kept.clear();
    world.restart("alice");
    world.connect("bob", "alice");
    world.until("bob said that he knows more", |w| {
        w.nodes["bob"].sends.iter().filter(|(_, m)| matches!(m, Message::Heads(_))).count() > 1
    });
    world.pass(Span::millis(6));
    let job = world.publish("alice", &p, listed(4));
    let early = has(&world.nodes["alice"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job));
    world.until("alice has her own feed again", |w| w.head("alice", &p) >= 3);
    if early {
        world.publish("alice", &p, listed(4));
    }
    world.until("the fourth follows the third", |w| w.head("bob", &p) == 4);
    assert!(!world.nodes["bob"].core.publisher(p.id).unwrap().frozen);
}

#[test]
fn nobody_goes_behind_the_floor_of_a_ticket() {
    let (mut world, p) = world(&["alice", "bob", "carol", "dave"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.part("alice", "bob");
    world.publish("alice", &p, listed(2));
    world.until("alice has two", |w| w.head("alice", &p) == 2);
    let floor = world.nodes["alice"].core.publisher(p.id).unwrap().feed.head;
    world.connect("carol", "bob");
    world.input("carol", Input::Follow { ticket: p.ticket(floor, &[]) });
    world.pass(Span::seconds(120));
    assert_eq!(world.head("carol", &p), 0, "bob's head is behind what the ticket promised");
    world.restart("carol");
    world.connect("carol", "bob");
    world.pass(Span::seconds(120));
    assert_eq!(world.head("carol", &p), 0, "a restart remembers the floor");
    world.connect("carol", "alice");
    world.until("carol has the floor", |w| w.head("carol", &p) == 2);
    // Another head at the floor is another feed.
    let other = Head { hash: Digest::of(b"another"), ..floor };
    world.connect("dave", "alice");
    world.input("dave", Input::Follow { ticket: p.ticket(other, &[]) });
    world.pass(Span::seconds(120));
    assert_eq!(world.head("dave", &p), 0);
}

#[test]
fn a_root_that_the_ticket_does_not_pin_is_refused() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.publish("alice", &p, listed(1));
    world.connect("alice", "bob");
    let mut ticket = p.ticket(Head::START, &[]);
    ticket.root.1 = Digest::of(b"another root");
    world.input("bob", Input::Follow { ticket });
    world.pass(Span::seconds(60));
    let view = world.nodes["bob"].core.publisher(p.id).unwrap();
    assert_eq!((view.root_version, view.feed.head), (0, Head::START));
    assert!(!has(&world.nodes["bob"], |e| matches!(e, Event::Followed { .. })));
}

#[test]
fn freshness_ages_and_comes_back() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    let freshness = |w: &World| w.nodes["bob"].core.publisher(p.id).unwrap().freshness;
    world.part("alice", "bob");
    world.pass(Span::days(6));
    world.connect("alice", "bob");
    world.pass(Span::seconds(60));
    world.part("alice", "bob");
    world.pass(Span::days(5));
    assert_eq!(freshness(&world), Freshness::Fresh, "alice restated it");
    world.pass(Span::days(8));
    assert_eq!(freshness(&world), Freshness::Stale);
    assert!(has(&world.nodes["bob"], |e| matches!(e, Event::Freshness { freshness: Freshness::Stale, .. })));
    world.pass(Span::days(40));
    assert_eq!(freshness(&world), Freshness::Expired);
    world.connect("alice", "bob");
    world.until("bob hears from alice again", |w| freshness(w) == Freshness::Fresh);
}

#[test]
fn restarted_devices_remember_and_unfollowed_publishers_stay_silent() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has it", |w| w.head("bob", &p) == 1);
    world.restart("bob");
    assert_eq!(world.head("bob", &p), 1);
    assert!(world.nodes["bob"].topics.contains(&p.id));
    world.input("bob", Input::Unfollow { publisher: p.id });
    world.pass(Span::seconds(1));
    assert!(world.nodes["bob"].topics.is_empty() && world.nodes["bob"].core.publisher(p.id).is_none());
    world.restart("bob");
    assert!(world.nodes["bob"].topics.is_empty() && world.nodes["bob"].core.publisher(p.id).is_none());
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.node("alice").signs = false;
    let job = world.publish("alice", &p, listed(1));
    world.until("alice is told", |w| {
        has(&w.nodes["alice"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job))
    });
    world.node("alice").signs = true;
    world.publish("alice", &p, listed(1));
    world.until("alice has it", |w| w.head("alice", &p) == 1);
    let job = world.publish("alice", &p, listed(1));
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job)), "twice the same");
    let job = world.publish("bob", &p, listed(2));
    assert!(has(&world.nodes["bob"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job)), "not bob's");
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
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Refused { job: j, .. } if *j == job)));
    world.pass(Span::seconds(15));
    world.publish("alice", &p, listed(1));
    world.until("alice has it", |w| w.head("alice", &p) == 1);
}

#[test]
fn many_pages_of_a_long_feed_arrive() {
    let (mut world, p) = world(&["alice", "bob", "carol"]);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.part("alice", "bob");
    for version in 100..400 {
        world.publish("alice", &p, listed(version));
        world.pass(Span::millis(10));
    }
    world.until("alice has all", |w| w.head("alice", &p) == 301);
    world.connect("alice", "bob");
    world.until("bob has all", |w| w.head("bob", &p) == 301);
    let pages =
        world.nodes["alice"].sends.iter().filter(|(_, m)| matches!(m, Message::Feed { more: true, .. })).count();
    assert!(pages >= 1, "300 entries are more than one page");
}

#[test]
fn a_new_root_reopens_a_frozen_feed_from_its_last_good_entry() {
    let (mut world, mut p) = world(&["alice", "bob", "carol", "eve"]);
    world.connect("alice", "bob");
    world.connect("carol", "bob");
    world.connect("eve", "carol");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    let good = last_entry(&world);
    // carol hears of the rival only: she is on the other branch.
    world.part("carol", "bob");
    world.follow("carol", &p);
    let mut other: Entry = good.open().unwrap();
    let snapshot = softservice_protocol::feed::Snapshot { listings: vec![listed(9)] };
    (other.action, other.state_root) = (Action::Release(listed(9)), snapshot.state_root().unwrap());
    let other = p.seal(Kind::Entry, codec::encode(&other).unwrap());
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![softservice_protocol::message::Bytes(p.roots[0].clone())],
        snapshot: None,
        entries: vec![softservice_protocol::message::Bytes(codec::encode(&other).unwrap())],
        fresh: None,
        more: false,
    };
    let eve = world.peer("eve");
    world.input("carol", Input::Received { peer: eve, bytes: codec::encode(&page).unwrap() });
    world.until("carol is on the other branch", |w| w.head("carol", &p) == 1);
    world.connect("carol", "bob");
    let frozen = |w: &World, name: &str| w.nodes[name].core.publisher(p.id).is_some_and(|v| v.frozen);
    world.until("all see it", |w| ["alice", "bob", "carol"].iter().all(|n| frozen(w, n)));
    let head = Head { at: Position { epoch: 1, seq: 1 }, hash: good.digest() };
    let publisher = p.clone();
    p.reopen(2, head);
    world.own("alice", &p);
    world.until("alice is open again", |w| !w.nodes["alice"].core.publisher(p.id).unwrap().frozen);
    world.publish("alice", &p, listed(2));
    world.until("all have the second", |w| ["alice", "bob", "carol"].iter().all(|n| w.head(n, &publisher) == 2));
    for name in ["alice", "bob", "carol"] {
        let view = world.nodes[name].core.publisher(p.id).unwrap();
        assert_eq!(
            (view.feed.snapshot.listings.clone(), view.frozen, view.root_version),
            (vec![listed(1), listed(2)], false, 2)
        );
    }
    world.restart("carol");
    assert_eq!(world.head("carol", &publisher), 2);
    assert!(!world.nodes["carol"].core.publisher(p.id).unwrap().frozen);
}
