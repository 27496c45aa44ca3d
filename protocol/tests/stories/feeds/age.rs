//! How old a publisher's word is: who says it anew, who is asked for it, and what wrong clocks and absurd dates do. Invariant: no
//! date that one publisher signs ages another's feed.

use super::*;
use softservice_protocol::{
    feed::{Fresh, VALID_FOR},
    id::{Peer, PublicKey},
    io::{Asked, Output},
    machine::{Core, Settings},
    root::Root,
    time::Time,
};
use std::collections::BTreeSet;

fn freshness(world: &World, name: &str, publisher: &Publisher) -> Freshness {
    view(world, name, publisher).freshness
}
/// Statements that a node has kept.
fn statements(world: &World, name: &str) -> Vec<Fresh> {
    let envelope = |r: &Record| match r {
        Record::Fresh { envelope, .. } => Some(codec::decode::<Envelope>(envelope).unwrap().open().unwrap()),
        _ => None,
    };
    world.nodes[name].kept.iter().filter_map(envelope).collect()
}
/// "Bob's head is current", said at `issued_at` by whoever holds `publisher`'s keys.
fn statement(world: &World, publisher: &Publisher, issued_at: Time) -> Vec<u8> {
    let head = view(world, "bob", publisher).feed.head;
    let fresh = Fresh { head, root_version: 1, issued_at, valid_for: VALID_FOR };
    codec::encode(&publisher.seal(Kind::Fresh, codec::encode(&fresh).unwrap())).unwrap()
}

/// Two are connected for a minute: days of it would be the same minute over and over.
fn meet(world: &mut World, one: &'static str, other: &'static str) {
    world.connect(one, other);
    world.pass(Span::seconds(60));
    world.part(one, other);
}

#[test]
fn a_device_asleep_grows_stale_then_expired_and_one_peer_with_a_newer_word_wakes_it() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    world.connect("alice", "carol");
    world.follow("carol", &p);
    world.until("carol follows", |w| w.head("carol", &p) == 1);
    world.vanish("bob");
    world.vanish("alice");
    world.pass(Span::days(6));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh);
    world.pass(Span::days(10));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale);
    // Alice is heard by carol once more, and then by nobody.
    meet(&mut world, "alice", "carol");
    assert_eq!(freshness(&world, "carol", &p), Freshness::Fresh);
    world.pass(Span::days(25));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Expired);
    assert_eq!(view(&world, "bob", &p).feed.snapshot.listings, vec![listed(1)], "what was verified stays");
    assert_eq!(freshness(&world, "carol", &p), Freshness::Stale);
    let before = view(&world, "bob", &p).term.unwrap();
    world.connect("bob", "carol");
    world.until("bob hears of it", |w| freshness(w, "bob", &p) == Freshness::Stale);
    assert!(view(&world, "bob", &p).term.unwrap().fresh_until > before.fresh_until);
    world.connect("alice", "carol");
    world.until("alice is back", |w| freshness(w, "bob", &p) == Freshness::Fresh);
    // A restart forgets nothing of it.
    let known = view(&world, "bob", &p).term;
    world.restart("bob");
    assert_eq!(view(&world, "bob", &p).term, known);
}

#[test]
fn a_publisher_says_by_itself_that_its_feed_is_current_and_after_a_long_absence_too() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.vanish("alice");
    for day in 1..=60 {
        world.pass(Span::days(1));
        meet(&mut world, "alice", "bob");
        assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh, "on day {day}, without a release");
    }
    let said = statements(&world, "alice");
    assert!((30..=40).contains(&said.len()), "about every 42 hours: {}", said.len());
    assert!(said.windows(2).all(|w| w[0].issued_at < w[1].issued_at));
    // The device is off for a year and a half: the word expires, the keys are none the worse.
    world.node("alice").signs = false;
    world.pass(Span::days(500));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Expired);
    world.node("alice").signs = true;
    world.restart("alice");
    world.connect("alice", "bob");
    world.until("alice says that she is back", |w| freshness(w, "bob", &p) == Freshness::Fresh);
}

#[test]
fn whoever_lacks_its_fresh_key_is_told_once_and_can_say_it_again_when_it_is_back() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.node("alice").publisher = Some(p.without(&[Kind::Fresh]));
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.part("alice", "bob");
    world.pass(Span::days(6));
    let told = |w: &World| w.nodes["alice"].events.iter().filter(|e| matches!(e, Event::Unstated { .. })).count();
    assert_eq!(told(&world), 1, "once, not at every attempt");
    assert!(view(&world, "alice", &p).unstated);
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh, "the entry speaks for a week");
    world.pass(Span::days(2));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale);
    world.node("alice").publisher = Some(p.clone());
    world.connect("alice", "bob");
    world.until("the key is back", |w| freshness(w, "bob", &p) == Freshness::Fresh);
    assert!(!view(&world, "alice", &p).unstated);
}

#[test]
fn a_home_without_the_fresh_key_says_nothing_of_it_while_another_one_states() {
    let (mut world, p) = first(&["alice", "bob"]);
    // Bob takes part with a key of another role.
    world.own("bob", &p.without(&[Kind::Fresh]));
    world.pass(Span::days(5));
    let told = |w: &World| w.nodes["bob"].events.iter().filter(|e| matches!(e, Event::Unstated { .. })).count();
    assert_eq!((told(&world), view(&world, "bob", &p).unstated), (0, false), "alice states it in time");
    world.vanish("alice");
    world.pass(Span::days(4));
    assert_eq!((told(&world), view(&world, "bob", &p).unstated), (1, true), "once");
    world.connect("alice", "bob");
    world.until("alice is back", |w| !view(w, "bob", &p).unstated);
    world.vanish("alice");
    world.pass(Span::days(4));
    assert_eq!(told(&world), 2, "and once more, when it is so again");
}

#[test]
fn who_lost_the_end_of_its_feed_vouches_for_nothing() {
    let (mut world, p) = first(&["alice", "bob"]);
    let whole = world.nodes["alice"].kept.clone();
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    let head = view(&world, "alice", &p).feed.head;
    world.vanish("alice");
    world.node("alice").kept = whole;
    world.node("alice").publisher = None;
    world.restart("alice");
    world.input("alice", Input::Marked { publisher: p.id, head });
    world.own("alice", &p);
    let before = statements(&world, "alice").len();
    world.pass(Span::days(30));
    assert_eq!(
        (world.head("alice", &p), statements(&world, "alice").len()),
        (1, before),
        "entry 1 is not called current"
    );
    world.connect("alice", "bob");
    world.until("bob gave it back", |w| w.head("alice", &p) == 2);
    world.until("alice speaks again", |w| statements(w, "alice").len() > before);
}

#[test]
fn a_statement_about_an_older_head_says_nothing_about_the_newest() {
    let (mut world, p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    let old = view(&world, "bob", &p).feed.head;
    world.publish("alice", &p, listed(2));
    world.until("bob has the second", |w| w.head("bob", &p) == 2);
    world.pass(Span::seconds(1));
    let before = view(&world, "bob", &p).term;
    // With the fresh key, which is stolen most easily, somebody calls the head before last current for three months.
    let lie = Fresh { head: old, root_version: 1, issued_at: world.now, valid_for: Span::days(90) };
    let lie = codec::encode(&p.seal(Kind::Fresh, codec::encode(&lie).unwrap())).unwrap();
    assert_ne!(world.whisper("eve", "bob", lie), Verdict::Accept);
    world.pass(Span::seconds(1));
    assert_eq!(view(&world, "bob", &p).term, before);
}

#[test]
fn a_new_root_ends_the_word_of_a_stolen_fresh_key() {
    let (mut world, mut p) = first(&["alice", "bob", "eve"]);
    world.connect("eve", "bob");
    world.pass(Span::seconds(60));
    let head = view(&world, "bob", &p).feed.head;
    let lie = Fresh { head, root_version: 1, issued_at: world.now + Span::seconds(3000), valid_for: Span::days(90) };
    let lie = codec::encode(&p.seal(Kind::Fresh, codec::encode(&lie).unwrap())).unwrap();
    world.whisper("eve", "bob", lie);
    world.pass(Span::seconds(1));
    assert!(view(&world, "bob", &p).term.unwrap().fresh_until > world.now + Span::days(80));
    let newest: Envelope = codec::decode(p.roots.last().unwrap()).unwrap();
    let mut root: Root = newest.open().unwrap();
    (root.version, root.prev, root.publisher) = (2, newest.digest(), p.id);
    let heir = p.without(&[Kind::Fresh]);
    root.roles.fresh.keys = vec![softservice_protocol::id::PublicKey(heir.key(Kind::Fresh).verifying_key().to_bytes())];
    let next = p.seal(Kind::Root, codec::encode(&root).unwrap());
    p.roots.push(codec::encode(&next).unwrap());
    // Nobody who has the new root meets bob for some days, and what is gossiped meanwhile he misses.
    world.vanish("bob");
    world.own("alice", &p);
    world.pass(Span::days(4));
    world.connect("alice", "bob");
    world.until("bob has the new root", |w| view(w, "bob", &p).root_version == 2);
    world.pass(Span::seconds(1));
    assert!(view(&world, "bob", &p).term.unwrap().fresh_until <= world.now + VALID_FOR, "the lie is forgotten");
    world.vanish("bob");
    world.pass(Span::days(9));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale);
}

#[test]
fn an_absurd_date_of_one_publisher_ages_nobody_else() {
    let (mut world, p) = first(&["alice", "bob", "mallory"]);
    let m = Publisher::new(9);
    world.own("mallory", &m);
    world.connect("mallory", "bob");
    world.follow("bob", &m);
    world.until("bob follows mallory", |w| view(w, "bob", &m).root_version == 1);
    // An entry cannot be refused for its date, or the feed would have a gap. It is dated eight years ahead.
    let mut entry: Entry = last_entry(&world).open().unwrap();
    let snapshot = softservice_protocol::feed::Snapshot { listings: vec![listed(9)], ..Default::default() };
    (entry.action, entry.state_root) = (Action::Release(listed(9)), snapshot.state_root().unwrap());
    entry.issued_at = world.now + Span::days(8 * 365);
    let entry = codec::encode(&m.seal(Kind::Entry, codec::encode(&entry).unwrap())).unwrap();
    world.whisper("mallory", "bob", entry);
    world.until("bob has it", |w| w.head("bob", &m) == 1);
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh, "alice's feed is as young as before");
    let future = statement(&world, &p, world.now + Span::days(2));
    assert_ne!(world.whisper("mallory", "bob", future), Verdict::Accept, "and bob's clock as good, for alice's feed");
    world.vanish("bob");
    world.pass(Span::days(6));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh);
}

#[test]
fn a_clock_of_1970_takes_what_is_said_today_and_a_clock_that_comes_right_drops_what_was_absurd() {
    let (mut world, p) = world(&["alice", "bob", "eve"]);
    world.pass(Span::days(200));
    let today = world.now;
    world.node("bob").behind = Span(today.0 - 1000);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    world.until("and alice's statement", |w| view(w, "bob", &p).term.is_some_and(|t| t.said > today));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale, "of an age that nobody here knows");
    // While nobody knows the time, a stolen fresh key may date as it likes …
    world.part("alice", "bob");
    world.connect("eve", "bob");
    let absurd = statement(&world, &p, today + Span::days(3000));
    world.whisper("eve", "bob", absurd);
    world.pass(Span::seconds(1));
    assert!(view(&world, "bob", &p).term.unwrap().said > today + Span::days(2999));
    // … until the clock is set: then the entry counts alone, and alice's next word comes through.
    world.node("bob").behind = Span(0);
    world.restart("bob");
    world.pass(Span::seconds(1));
    assert!(view(&world, "bob", &p).term.unwrap().said <= world.now);
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh);
    world.pass(Span::days(8));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale);
    world.connect("alice", "bob");
    world.until("alice is heard", |w| freshness(w, "bob", &p) == Freshness::Fresh);
}

/// The publications of this node that were refused: because they were not safe, or for another reason.
fn refusals(world: &World, name: &str) -> Vec<Cause> {
    let refused = |e: &Event| match e {
        Event::Refused { cause, .. } => Some(*cause),
        _ => None,
    };
    world.nodes[name].events.iter().filter_map(refused).collect()
}
/// Whoever has the revoke key takes back entry 1 behind it, at a date of his own, and bob hears of it.
fn take_back(world: &mut World, p: &Publisher, key: PublicKey, issued_at: Time) {
    let feed = view(world, "bob", p).feed.clone();
    let revocation = Revocation { level: RevokeLevel::Withdraw, replaced_by: None, reason: "no reason".into() };
    let action = Action::Revoke { release: listed(1).release, revocation };
    let (at, prev) = (Position { epoch: feed.head.at.epoch, seq: feed.head.at.seq + 1 }, feed.head.hash);
    let state_root = feed.snapshot.after(&action, None).unwrap().state_root().unwrap();
    let entry = Entry { at, prev, action, state_root, issued_at, by: None };
    let entry = p.sealed(Kind::Entry, codec::encode(&entry).unwrap(), &[key]);
    world.whisper("eve", "bob", codec::encode(&entry).unwrap());
    world.until("bob has it", |w| w.head("bob", p) == at.seq);
}

#[test]
fn what_a_revoke_key_dates_ahead_stops_a_release_and_keeps_nothing_fresh() {
    for rotated in ["nothing", "the revoke key", "the release key"] {
        let (mut world, mut p) = first(&["alice", "bob", "eve"]);
        world.connect("eve", "bob");
        let (key, absurd) = (p.root().roles.revoke.keys[0], world.now + Span::days(3000));
        take_back(&mut world, &p, key, absurd);
        let bound = |w: &World| view(w, "bob", &p).term.unwrap().fresh_until <= w.now + VALID_FOR;
        assert!(bound(&world), "alice's last word holds for a week, not for eight years");
        let soon = statement(&world, &p, world.now + Span::days(2));
        assert_ne!(world.whisper("eve", "bob", soon), Verdict::Accept, "nor does it prove bob's clock wrong");
        world.until("alice has it as well", |w| w.head("alice", &p) == 2);
        let mut heir = p.clone();
        let new = heir.new_key(77);
        match rotated {
            "the revoke key" => heir.succeed(|root| root.roles.revoke.keys = vec![new]),
            "the release key" => heir.succeed(|root| root.roles.release.keys = vec![new]),
            _ => {}
        }
        p.roots.clone_from(&heir.roots);
        world.own("alice", &heir);
        let version = p.root().version;
        world.until("bob has the newest root", |w| view(w, "bob", &p).root_version == version);
        world.pass(Span::seconds(60));
        assert!(view(&world, "bob", &p).term.unwrap().fresh_until <= world.now + VALID_FOR, "{rotated} is another now");
        world.vanish("bob");
        world.pass(Span::days(8));
        assert_eq!(freshness(&world, "bob", &p), Freshness::Stale, "{rotated} is another now");
        // Whoever signed that very entry anew would make the date his own. The next one is a word like any other.
        let job = world.node("alice").job();
        world.input("alice", Input::Resign { job, publisher: p.id, request: false });
        world.pass(Span::seconds(1));
        let refused = if rotated == "nothing" { vec![] } else { vec![Cause::Safety] };
        assert_eq!(refusals(&world, "alice"), refused, "{rotated} is another now");
        world.publish("alice", &p, listed(2));
        world.connect("alice", "bob");
        world.until("bob hears of the next", |w| w.head("bob", &p) == 3);
        assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh);
        assert!(view(&world, "bob", &p).term.unwrap().fresh_until <= world.now + VALID_FOR);
    }
}

#[test]
fn a_clock_that_is_set_back_takes_ages_with_it_and_holds_no_timer_up() {
    let (mut world, p) = first(&["alice", "bob"]);
    world.part("alice", "bob");
    // Bob's clock ran weeks ahead: nothing is fresh by it.
    let ahead = Span::days(40);
    world.pass(ahead);
    assert_eq!(freshness(&world, "bob", &p), Freshness::Expired);
    let told = world.nodes["bob"].events.len();
    world.input("bob", Input::SetBack { behind: ahead });
    assert_eq!(freshness(&world, "bob", &p), Freshness::Fresh);
    let news = |e: &Event| matches!(e, Event::Freshness { freshness: Freshness::Fresh, .. });
    assert!(world.nodes["bob"].events[told..].iter().any(news), "the owner is told");
    // Time passes as ever.
    world.pass(Span::days(8));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Stale);
    world.pass(Span::days(30));
    assert_eq!(freshness(&world, "bob", &p), Freshness::Expired);
    // And of an own feed, the next statement is dated by what the clock shows.
    world.input("alice", Input::SetBack { behind: Span(ahead.0 + Span::days(38).0) });
    let last = statements(&world, "alice").last().unwrap().issued_at;
    world.pass(Span::days(3));
    let now = Time(world.now.0 - ahead.0 - Span::days(38).0);
    let said: Vec<Time> = statements(&world, "alice").iter().map(|f| f.issued_at).filter(|at| *at < last).collect();
    assert!(said.last().is_some_and(|at| *at <= now && *at + Span::days(2) > now), "{said:?} at {now:?}");
}

#[test]
fn a_clock_of_1970_makes_nobody_sign_without_pause() {
    let (mut world, p) = world(&["alice", "bob"]);
    world.pass(Span::days(200));
    world.node("alice").behind = Span(world.now.0 - 1000);
    world.node("alice").publisher = Some(p.without(&[Kind::Fresh]));
    world.restart("alice");
    world.publish("alice", &p, listed(1));
    world.pass(Span::seconds(1));
    let asked = |w: &World| w.nodes["alice"].asked_to_sign;
    let before = asked(&world);
    world.connect("alice", "bob");
    world.pass(Span::seconds(3600));
    assert!((1..=8).contains(&(asked(&world) - before)), "every ten minutes: {}", asked(&world) - before);
}

#[test]
fn whoever_wants_the_newest_word_asks_in_as_many_parts_of_the_network_as_there_are() {
    let p = Publisher::new(3);
    for seed in 0..20 {
        let me = Peer([255; 32]);
        let mut core = Core::new(Settings { me, seed, outbound: 8, built: START });
        core.handle(START, Input::Follow { ticket: p.ticket(Head::START, &[]) });
        // A crowd from one place, and two others.
        let place = |n: u8| match n {
            40 => "/ip4/198.51.100.7/tcp/1".into(),
            41 => "/ip6/2001:db8::7/tcp/1".into(),
            n => format!("/ip4/203.0.113.{n}/tcp/1"),
        };
        for n in 0..42 {
            let peer = Peer([n; 32]);
            core.handle(START, Input::Connected { peer, address: place(n), outbound: true });
        }
        let job = Job(1);
        let later = START + Span::seconds(60);
        core.handle(later, Input::Woke);
        let pulled = |out: &[Output]| -> BTreeSet<Peer> {
            let pull = |o: &Output| match o {
                Output::Send { peer, bytes } => {
                    matches!(codec::decode(bytes), Ok(Message::Pull { .. })).then_some(*peer)
                }
                _ => None,
            };
            out.iter().filter_map(pull).collect()
        };
        let asked = pulled(&core.handle(later, Input::Refresh { job, publisher: p.id }));
        assert!(asked.len() >= 3, "{asked:?}");
        assert!(
            [40, 41].iter().all(|n| asked.contains(&Peer([*n; 32]))),
            "seed {seed}: the crowd is not all: {asked:?}"
        );
        // Those who follow it and answer are counted, and those who only were asked. Who never heard of it has said nothing.
        let heads = codec::encode(&Message::Heads(vec![(p.id, Head::START)])).unwrap();
        core.handle(later, Input::Received { peer: Peer([40; 32]), bytes: heads });
        let page =
            Message::Feed { publisher: p.id, roots: vec![], snapshot: None, entries: vec![], fresh: None, more: false };
        let bytes = codec::encode(&page).unwrap();
        for n in [40, 41] {
            core.handle(later, Input::Received { peer: Peer([n; 32]), bytes: bytes.clone() });
        }
        let out = core.handle(later + Span::seconds(6), Input::Woke);
        let told = out.iter().find_map(|o| match o {
            Output::Tell(Event::Refreshed { asked, .. }) => Some(*asked),
            _ => None,
        });
        assert_eq!(told, Some(Asked { peers: u32::try_from(asked.len()).unwrap(), groups: 1, answered: 1 }));
    }
}
