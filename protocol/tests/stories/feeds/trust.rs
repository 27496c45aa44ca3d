//! How far a feed may be believed: the ticket's floor and pin, and the age of what was said.

use super::*;

#[test]
fn nobody_goes_behind_the_floor_of_a_ticket() {
    let (mut world, p) = first(&["alice", "bob", "carol", "dave"]);
    world.part("alice", "bob");
    world.publish("alice", &p, listed(2));
    world.until("alice has two", |w| w.head("alice", &p) == 2);
    let floor = view(&world, "alice", &p).feed.head;
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
    let view = view(&world, "bob", &p);
    assert_eq!((view.root_version, view.feed.head), (0, Head::START));
    assert!(!has(&world.nodes["bob"], |e| matches!(e, Event::Followed { .. })));
}

#[test]
fn freshness_ages_and_comes_back() {
    let (mut world, p) = first(&["alice", "bob"]);
    let freshness = |w: &World| view(w, "bob", &p).freshness;
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
fn an_older_statement_or_another_of_the_same_moment_changes_nothing() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    let statement = |world: &World, age: u64, days: u64| {
        let head = view(world, "bob", &p).feed.head;
        let issued_at = softservice_protocol::time::Time(world.now.0 - Span::seconds(age).0);
        let fresh = softservice_protocol::feed::Fresh { head, root_version: 1, issued_at, valid_for: Span::days(days) };
        codec::encode(&p.seal(Kind::Fresh, codec::encode(&fresh).unwrap())).unwrap()
    };
    world.part("alice", "bob");
    world.connect("eve", "bob");
    // With a key that was stolen for a day: the newest word holds for a week, older ones for three months.
    let (newest, others) = (statement(&world, 0, 7), [statement(&world, 10, 90), statement(&world, 0, 90)]);
    world.whisper("eve", "bob", newest);
    let kept = |w: &World| w.nodes["bob"].kept.iter().filter(|r| matches!(r, Record::Fresh { .. })).count();
    let before = kept(&world);
    for bytes in others {
        assert_ne!(world.whisper("eve", "bob", bytes), Verdict::Accept);
    }
    assert_eq!(kept(&world), before, "nothing of it is kept");
    world.pass(Span::days(8));
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale);
    // And one from the future waits for its time.
    let ahead = softservice_protocol::feed::Fresh {
        head: view(&world, "bob", &p).feed.head,
        root_version: 1,
        issued_at: world.now + Span::days(2),
        valid_for: Span::days(90),
    };
    let ahead = codec::encode(&p.seal(Kind::Fresh, codec::encode(&ahead).unwrap())).unwrap();
    assert_ne!(world.whisper("eve", "bob", ahead), Verdict::Accept);
    assert_eq!(view(&world, "bob", &p).freshness, Freshness::Stale);
}
