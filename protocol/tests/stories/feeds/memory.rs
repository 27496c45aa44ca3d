//! What is remembered of a feed beside its log: the disk's mark, and what tickets say. Invariant: what was verified once is
//! never forgotten for an older word or for another one, and none of it hides or stops what is here.

use super::*;
use softservice_protocol::{
    message::Bytes,
    root::PROTOCOL,
    ticket::{Contradiction, Ticket},
};

/// Bob and carol had as many entries; then bob hears one more, and his log loses it.
fn behind(entries: u32) -> (World, Publisher, Head) {
    let (mut world, p) = following(&["alice", "bob", "carol", "eve"]);
    world.connect("carol", "alice");
    world.follow("carol", &p);
    for version in 1..=entries + 1 {
        if version > entries {
            world.vanish("carol");
        }
        world.publish("alice", &p, listed(version));
        world.until("bob has it", |w| w.head("bob", &p) == u64::from(version));
    }
    let mark = view(&world, "bob", &p).feed.head;
    world.vanish("bob");
    let last = world.node("bob").kept.iter().rposition(|r| matches!(r, Record::Entry { .. })).unwrap();
    world.node("bob").kept.truncate(last);
    world.restart("bob");
    world.input("bob", Input::Marked { publisher: p.id, head: mark });
    (world, p, mark)
}

fn ticket(p: &Publisher, root: (u64, Digest), floor: Head) -> Ticket {
    Ticket { root, ..p.ticket(floor, &[]) }
}

#[test]
fn a_feed_behind_its_mark_is_not_fresh_until_what_was_lost_is_back() {
    let (mut world, p, mark) = behind(2);
    let bob = view(&world, "bob", &p);
    assert_eq!((bob.feed.head.at.seq, bob.freshness), (2, Freshness::Stale), "an old word, whatever its date");
    assert_eq!(bob.behind.map(|b| (b.mark, b.rival)), Some((mark, false)));
    assert!(has(&world.nodes["bob"], |e| matches!(e, Event::Freshness { freshness: Freshness::Stale, .. })));
    // Whoever lags as well changes nothing; that what she shows is of this week is no help.
    world.connect("bob", "carol");
    world.pass(Span::seconds(90));
    assert_eq!((world.head("carol", &p), view(&world, "bob", &p).freshness), (2, Freshness::Stale));
    world.connect("bob", "alice");
    world.until("bob has it again", |w| w.head("bob", &p) == 3);
    let bob = view(&world, "bob", &p);
    assert_eq!((bob.freshness, bob.behind), (Freshness::Fresh, None));
}

#[test]
fn at_the_mark_stands_what_stood_there_and_nothing_else() {
    let (mut world, p, mark) = behind(2);
    let other = rival(&last_entry(&world), &p);
    world.connect("eve", "bob");
    assert_eq!(world.whisper("eve", "bob", codec::encode(&other).unwrap()), Verdict::Ignore);
    assert_eq!(world.head("bob", &p), 2, "another entry for a place that was verified once");
    // Nor with a catalogue.
    let snapshot = view(&world, "alice", &p).feed.snapshot.clone();
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![],
        snapshot: Some(Bytes(codec::encode(&snapshot).unwrap())),
        entries: vec![Bytes(codec::encode(&other).unwrap())],
        fresh: None,
        more: false,
    };
    let (eve, head) = (world.peer("eve"), Head { at: mark.at, hash: other.digest() });
    for message in [Message::Heads(vec![(p.id, head)]), page] {
        world.input("bob", Input::Received { peer: eve, bytes: codec::encode(&message).unwrap() });
    }
    let bob = view(&world, "bob", &p);
    assert_eq!((bob.feed.head.at.seq, bob.frozen, bob.freshness), (2, false, Freshness::Stale));
    assert_eq!(bob.behind.map(|b| (b.mark, b.rival)), Some((mark, true)), "it is told");
    world.restart("bob");
    assert_eq!(world.head("bob", &p), 2, "nothing of it is kept");
    world.input("bob", Input::Marked { publisher: p.id, head: mark });
    // Who brings what was here is as welcome as ever.
    world.connect("alice", "bob");
    world.until("bob has it again", |w| view(w, "bob", &p).feed.head == mark);
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Fresh);
}

#[test]
fn a_mark_that_is_a_tickets_floor_or_was_given_up_is_no_loss() {
    let (mut world, mut p, mark) = behind(2);
    world.connect("carol", "eve");
    world.input("carol", Input::Follow { ticket: p.ticket(mark, &[]) });
    world.input("carol", Input::Marked { publisher: p.id, head: mark });
    assert_eq!(view(&world, "carol", &p).behind, None, "it was no entry of hers: the floor guards itself");
    let named = view(&world, "carol", &p).feed.head;
    let named = if named.at.seq == 2 { named } else { view(&world, "bob", &p).feed.head };
    p.reopen(2, named);
    world.own("alice", &p);
    world.connect("alice", "bob");
    world.until("bob hears of the epoch", |w| view(w, "bob", &p).root_version == 2);
    world.pass(Span::seconds(60));
    let bob = view(&world, "bob", &p);
    assert_eq!((bob.behind, bob.freshness), (None, Freshness::Fresh));
}

#[test]
fn a_ticket_of_another_history_is_refused_and_changes_nothing() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    let head = view(&world, "bob", &p).feed.head;
    let (other, before) = (Digest([0xff; 32]), world.nodes["bob"].kept.clone());
    let root = ticket(&p, (1, other), Head::START);
    let floor = p.ticket(Head { hash: other, ..head }, &[]);
    let known = Contradiction::Root { version: 1, ticket: other, known: p.root_digest };
    assert_eq!(world.nodes["bob"].core.contradiction(&root), Some(known));
    let known = Contradiction::Entry { at: head.at, ticket: other, known: head.hash };
    assert_eq!(world.nodes["bob"].core.contradiction(&floor), Some(known));
    for ticket in [root, floor] {
        world.input("bob", Input::Follow { ticket });
    }
    assert_eq!(world.nodes["bob"].kept, before, "neither pin nor floor is replaced");
    // One that agrees is taken, whether or not its publisher is followed.
    let ours = p.ticket(head, &[]);
    assert_eq!(world.nodes["bob"].core.contradiction(&ours), None);
    world.input("bob", Input::Unfollow { publisher: p.id });
    let root = ticket(&p, (1, other), Head::START);
    assert!(world.nodes["bob"].core.contradiction(&root).is_some(), "what was verified stays");
    world.input("bob", Input::Follow { ticket: ours });
    world.restart("bob");
    world.connect("alice", "bob");
    world.publish("alice", &p, listed(2));
    world.until("bob goes on", |w| w.head("bob", &p) == 2);
    // Also of what no peer has shown yet.
    let ahead = |digest| ticket(&p, (7, digest), Head::START);
    world.input("carol", Input::Follow { ticket: ahead(Digest::of(b"seven")) });
    assert!(world.nodes["carol"].core.contradiction(&ahead(Digest::of(b"seven"))).is_none());
    assert!(world.nodes["carol"].core.contradiction(&ahead(other)).is_some());
}

#[test]
fn what_the_floor_refuses_is_not_even_remembered() {
    let (mut world, p) = first(&["alice", "bob", "carol", "eve"]);
    world.publish("alice", &p, listed(2));
    world.until("alice has two", |w| w.head("alice", &p) == 2);
    let two = view(&world, "alice", &p).feed.head;
    let floor = Head { hash: Digest::of(b"another"), ..two };
    world.connect("eve", "carol");
    world.input("carol", Input::Follow { ticket: p.ticket(floor, &[]) });
    // One by one, so that the first stands below the floor.
    let entry = |r: &Record| if let Record::Entry { envelope, .. } = r { Some(Bytes(envelope.clone())) } else { None };
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![Bytes(p.roots[0].clone())],
        snapshot: None,
        entries: world.nodes["alice"].kept.iter().filter_map(entry).collect(),
        fresh: None,
        more: false,
    };
    world.input("carol", Input::Received { peer: world.peer("eve"), bytes: codec::encode(&page).unwrap() });
    world.pass(Span::seconds(1));
    assert_eq!(world.head("carol", &p), 0, "behind the floor nothing is shown, and at it stands another");
    world.publish("alice", &p, listed(3));
    world.connect("alice", "carol");
    world.pass(Span::seconds(60));
    assert_eq!(world.head("carol", &p), 0);
    // Whoever has verified something already is shown that, and what follows it: anybody can have written the ticket.
    world.input("bob", Input::Follow { ticket: p.ticket(Head { at: Position { seq: 4, ..floor.at }, ..floor }, &[]) });
    world.publish("alice", &p, listed(4));
    world.until("bob has the fourth", |w| w.head("bob", &p) == 4);
    assert!(view(&world, "bob", &p).promised.is_some() && view(&world, "bob", &p).freshness == Freshness::Stale);
}

#[test]
fn what_needs_a_later_protocol_is_said() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    assert_eq!(view(&world, "bob", &p).needs, None);
    p.succeed(|root| root.min_protocol = PROTOCOL + 1);
    let page = Message::Feed {
        publisher: p.id,
        roots: vec![Bytes(p.roots[1].clone())],
        snapshot: None,
        entries: vec![],
        fresh: None,
        more: false,
    };
    let (eve, head) = (world.peer("eve"), Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"more") });
    let told = |w: &World| w.nodes["bob"].events.iter().filter(|e| matches!(e, Event::Freshness { .. })).count();
    let before = told(&world);
    for message in [Message::Heads(vec![(p.id, head)]), page] {
        world.input("bob", Input::Received { peer: eve, bytes: codec::encode(&message).unwrap() });
    }
    let bob = view(&world, "bob", &p);
    assert_eq!((bob.needs, bob.root_version, bob.feed.head.at.seq), (Some(PROTOCOL + 1), 1, 1));
    assert_eq!(told(&world), before + 1, "whoever watches hears of it");
}
