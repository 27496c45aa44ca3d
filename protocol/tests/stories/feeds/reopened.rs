//! A root opens a new epoch after a named entry. Invariant: what came after it is invisible everywhere, and nothing that
//! was revoked comes back.

use super::*;

fn at(world: &World, name: &str, p: &Publisher, seq: u64) -> Head {
    world.nodes[name].core.reopens_at(p.id, seq).unwrap_or_else(|| panic!("{name} has no entry {seq}"))
}
fn listings(world: &World, name: &str, p: &Publisher) -> Vec<softservice_protocol::feed::Listing> {
    view(world, name, p).feed.snapshot.listings.clone()
}
/// Says again what an epoch gave up, as whoever opens it does.
fn say_again(world: &mut World, name: &'static str, p: &Publisher) {
    for (release, revocation) in world.nodes[name].core.unsaid(p.id) {
        world.append(name, p, Action::Revoke { release, revocation });
    }
}
/// Alice published `versions` releases, and bob has them.
fn published(names: &[&'static str], versions: u32) -> (World, Publisher) {
    let (mut world, p) = following(names);
    for version in 1..=versions {
        world.publish("alice", &p, listed(version));
    }
    world.until("bob has all", |w| w.head("bob", &p) == u64::from(versions));
    (world, p)
}

#[test]
fn the_publisher_goes_on_at_the_named_entry_and_everybody_leaves_what_came_after() {
    let (mut world, mut p) = published(&["alice", "bob", "carol", "dave"], 6);
    let named = at(&world, "alice", &p, 4);
    // Dave stays behind with the branch that is given up, and says so to everybody.
    world.connect("dave", "bob");
    world.follow("dave", &p);
    world.until("dave has six", |w| w.head("dave", &p) == 6);
    world.vanish("dave");
    p.reopen(2, named);
    world.own("alice", &p);
    world.until("bob left it", |w| view(w, "bob", &p).feed.head == named);
    for name in ["alice", "bob"] {
        assert_eq!(listings(&world, name, &p), (1..=4).map(listed).collect::<Vec<_>>(), "{name}");
        assert!(view(&world, name, &p).signed, "the root vouches for the entry that it names");
    }
    // A newcomer right after it begins at the named entry, though no entry of the new epoch exists.
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol begins there", |w| view(w, "carol", &p).feed.head == named);
    // What dave announces is not ahead: alice may publish.
    world.connect("dave", "alice");
    let job = world.publish("alice", &p, listed(20));
    assert!(!is_refused(&world, "alice", job));
    world.until("all go on there", |w| ["alice", "bob", "carol", "dave"].iter().all(|n| w.head(n, &p) == 5));
    let expected: Vec<_> = [1, 2, 3, 4, 20].map(listed).into();
    for name in ["alice", "bob", "carol", "dave"] {
        assert_eq!(listings(&world, name, &p), expected, "{name}");
        world.restart(name);
        assert_eq!(listings(&world, name, &p), expected, "{name} remembers");
        assert!(!is_frozen(&world, name, &p));
    }
    assert_eq!(view(&world, "bob", &p).feed.head.at, Position { epoch: 2, seq: 5 });
}

#[test]
fn a_revocation_outlives_the_entry_that_said_it() {
    let (mut world, mut p) = published(&["alice", "bob", "carol"], 3);
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    let named = at(&world, "alice", &p, 2);
    for version in [1, 3] {
        let release = listed(version).release;
        world.append("alice", &p, Action::Revoke { release, revocation: revocation.clone() });
    }
    world.until("bob is told", |w| w.head("bob", &p) == 5);
    // Without alice: bob hears of the root, and keeps what he was told.
    world.node("alice").signs = false;
    p.reopen(2, named);
    world.own("alice", &p);
    world.until("bob left the branch", |w| view(w, "bob", &p).feed.head == named);
    let revoked = |w: &World, name: &str| {
        let listings = listings(w, name, &p);
        listings.iter().filter(|l| l.revoked.as_ref().is_some_and(|r| r.reason == "leaks")).count()
    };
    assert_eq!((listings(&world, "bob", &p).len(), revoked(&world, "bob")), (2, 1));
    world.restart("bob");
    assert_eq!(revoked(&world, "bob"), 1, "bob remembers");
    // With her keys and asked to: she says it again, so that newcomers hear it, too.
    world.node("alice").signs = true;
    world.restart("alice");
    world.connect("alice", "bob");
    say_again(&mut world, "alice", &p);
    world.until("it stands in the new epoch", |w| view(w, "bob", &p).feed.head.at == Position { epoch: 2, seq: 3 });
    world.vanish("alice");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol is told", |w| w.head("carol", &p) == 3);
    assert_eq!(revoked(&world, "carol"), 1);
}

#[test]
fn a_place_whose_catalogue_is_gone_is_no_place_to_go_on_from() {
    let (mut world, mut p) = published(&["alice", "bob", "carol"], 4);
    let named = at(&world, "alice", &p, 2);
    // Alice's log is lost; from bob she takes the newest catalogue, and what led there is not in it.
    world.node("alice").kept.clear();
    world.vanish("alice");
    world.restart("alice");
    world.connect("alice", "bob");
    world.until("alice has the head again", |w| w.head("alice", &p) == 4);
    assert_eq!(world.nodes["alice"].core.reopens_at(p.id, 2), None);
    world.part("alice", "bob");
    p.reopen(2, named);
    world.own("alice", &p);
    let job = world.publish("alice", &p, listed(20));
    let why = world.nodes["alice"].events.iter().find_map(|e| match e {
        Event::Refused { job: j, why, .. } if *j == job => Some(why.clone()),
        _ => None,
    });
    assert!(why.unwrap().contains("the catalogue at that entry is not here"));
    // Bob was there, and has it.
    world.connect("alice", "bob");
    world.until("alice is there", |w| view(w, "alice", &p).feed.head == named);
    world.publish("alice", &p, listed(20));
    world.until("bob follows", |w| w.head("bob", &p) == 3 && listings(w, "bob", &p).len() == 3);
}

#[test]
fn floors_and_marks_of_an_older_epoch_are_below_the_newer_one_and_nothing_else_is() {
    let (mut world, mut p) = published(&["alice", "bob", "carol", "dave", "eve"], 6);
    let (floor, named) = (at(&world, "alice", &p, 6), at(&world, "alice", &p, 4));
    let early = at(&world, "alice", &p, 2);
    // Eve has the first two only.
    world.connect("eve", "bob");
    world.vanish("bob");
    p.reopen(2, named);
    world.own("alice", &p);
    world.until("alice left it", |w| view(w, "alice", &p).feed.head == named);
    // The disk's mark remembers what was given up, whatever became of the reservations: it is not lost.
    world.node("alice").kept.retain(|r| !matches!(r, Record::Reserved { .. }));
    world.restart("alice");
    world.input("alice", Input::Marked { publisher: p.id, head: floor });
    // A ticket from before the recovery: its floor lies behind the new epoch, wherever that begins.
    world.connect("dave", "alice");
    world.input("dave", Input::Follow { ticket: p.ticket(floor, &[]) });
    world.until("dave begins at the named entry", |w| view(w, "dave", &p).feed.head == named);
    let job = world.publish("alice", &p, listed(20));
    world.until("dave has the next", |w| w.head("dave", &p) == 5);
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job)));
    // What lies before the named entry is as far behind the floor as ever.
    let open = p.root().feed;
    assert!(open.rank(early) < Some(floor.at) && open.rank(named) > Some(floor.at) && open.rank(floor).is_none());
}

#[test]
fn nothing_new_is_signed_unasked_so_two_homes_open_one_epoch_and_no_two() {
    let (mut world, mut p) = first(&["alice", "bob", "carol"]);
    world.connect("carol", "bob");
    world.own("carol", &p);
    for seq in [2, 3] {
        world
            .until("both homes are as far", |w| ["alice", "carol"].iter().all(|n| w.head(n, &p) + 1 == u64::from(seq)));
        world.publish("alice", &p, listed(seq));
    }
    let named = at(&world, "alice", &p, 2);
    let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
    world.append("alice", &p, Action::Revoke { release: listed(1).release, revocation });
    world.until("all are told", |w| ["alice", "bob", "carol"].iter().all(|n| w.head(n, &p) == 4));
    world.part("carol", "bob");
    p.reopen(2, named);
    world.own("alice", &p);
    world.pass(Span::seconds(1));
    world.own("carol", &p);
    world.pass(Span::seconds(1));
    for name in ["alice", "carol"] {
        assert_eq!(view(&world, name, &p).feed.head, named, "{name} says nothing by herself");
        let unsaid: Vec<_> = world.nodes[name].core.unsaid(p.id).into_iter().map(|(release, _)| release).collect();
        assert_eq!(unsaid, [listed(1).release], "{name} knows what is to be said again");
    }
    say_again(&mut world, "alice", &p);
    world.connect("carol", "bob");
    let said = Position { epoch: 2, seq: 3 };
    world.until("all have it", |w| ["alice", "bob", "carol"].iter().all(|n| view(w, n, &p).feed.head.at == said));
    assert!(world.nodes["carol"].core.unsaid(p.id).is_empty());
    // The end of her log is lost; what she said is not said in other words.
    world.vanish("alice");
    let lost = |r: &Record| match r {
        Record::Entry { envelope, .. } => codec::decode::<Envelope>(envelope).unwrap() == last_entry(&world),
        Record::Reserved { head, .. } => head.at == said,
        _ => false,
    };
    let kept: Vec<_> = world.nodes["alice"].kept.iter().filter(|r| !lost(r)).cloned().collect();
    world.node("alice").kept = kept.clone();
    world.restart("alice");
    world.pass(Span::seconds(60));
    let signed = |records: &[Record]| records.iter().filter(|r| matches!(r, Record::Entry { .. })).count();
    assert_eq!(signed(&world.nodes["alice"].kept), signed(&kept));
    world.connect("alice", "bob");
    world.until("she has it back", |w| view(w, "alice", &p).feed.head.at == said);
    assert!(["alice", "bob", "carol"].iter().all(|n| !is_frozen(&world, n, &p)));
}

#[test]
fn a_second_return_before_the_first_is_kept_mixes_no_branches() {
    let (mut world, mut p) = published(&["alice", "bob"], 6);
    world.node("bob").slow_disk = true;
    p.reopen(2, at(&world, "alice", &p, 4));
    world.own("alice", &p);
    let waits = |w: &World, wanted: fn(&Record) -> bool| w.nodes["bob"].waiting.iter().any(|(_, r)| wanted(r));
    world.until("bob is about to keep the root", |w| waits(w, |r| matches!(r, Record::Root { .. })));
    world.publish("alice", &p, listed(20));
    world.publish("alice", &p, listed(22));
    let entries = |w: &World| w.nodes["bob"].waiting.iter().filter(|(_, r)| matches!(r, Record::Entry { .. })).count();
    world.until("bob is about to keep both entries", |w| entries(w) == 2);
    let named = at(&world, "alice", &p, 5);
    p.reopen(3, named);
    world.own("alice", &p);
    let roots = |w: &World| w.nodes["bob"].waiting.iter().filter(|(_, r)| matches!(r, Record::Root { .. })).count();
    world.until("and the next root, too", |w| roots(w) == 2);
    world.node("bob").slow_disk = false;
    world.sync("bob");
    let expected: Vec<_> = [1, 2, 3, 4, 20].map(listed).into();
    world.until("bob is there", |w| view(w, "bob", &p).feed.head == named);
    assert_eq!(listings(&world, "bob", &p), expected);
    world.publish("alice", &p, listed(21));
    world.until("bob goes on", |w| w.head("bob", &p) == 6);
    world.restart("bob");
    assert_eq!(listings(&world, "bob", &p).len(), 6);
}
