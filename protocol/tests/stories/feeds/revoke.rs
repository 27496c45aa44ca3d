//! A release is taken back: everybody hears of it, and nobody but the publisher can.

use super::*;

fn taken_back(version: u32, level: RevokeLevel, replacement: Option<u32>) -> Action {
    let id = |version| listed(version).release;
    let revocation = Revocation { level, replaced_by: replacement.map(id), reason: "lets strangers in".into() };
    Action::Revoke { release: id(version), revocation }
}
fn revoked(world: &World, name: &str, publisher: &Publisher, release: ReleaseId) -> Option<Revocation> {
    let view = world.nodes[name].core.publisher(publisher.id)?;
    view.feed.snapshot.listings.iter().find(|l| l.release == release)?.revoked.clone()
}

#[test]
fn a_revocation_reaches_who_follows_and_who_comes_later_with_all_its_words() {
    let (mut world, p) = first(&["alice", "bob", "carol"]);
    world.publish("alice", &p, listed(2));
    let job = world.append("alice", &p, taken_back(1, RevokeLevel::Unsafe, Some(2)));
    let bad = listed(1).release;
    world.until("bob hears of it", |w| revoked(w, "bob", &p, bad).is_some());
    assert!(has(&world.nodes["alice"], |e| matches!(e, Event::Published { job: j, .. } if *j == job)));
    let by: Vec<_> = last_entry(&world).signatures.iter().map(|s| s.key).collect();
    assert_eq!(by.len(), 2, "the revoke key signs, and the release key where it is here as well");
    world.vanish("alice");
    world.connect("carol", "bob");
    world.follow("carol", &p);
    world.until("carol knows it from the snapshot", |w| revoked(w, "carol", &p, bad).is_some());
    for name in ["bob", "carol"] {
        let words = revoked(&world, name, &p, bad).unwrap();
        assert_eq!((words.level, words.replaced_by), (RevokeLevel::Unsafe, Some(listed(2).release)));
        assert_eq!(words.reason, "lets strangers in");
        world.restart(name);
        assert_eq!(revoked(&world, name, &p, bad), Some(words), "{name} remembers");
        assert_eq!(revoked(&world, name, &p, listed(2).release), None);
    }
}

#[test]
fn the_revoke_key_alone_stops_a_release_and_makes_none() {
    let (mut world, p) = first(&["alice", "bob"]);
    let lost = p.without(&[Kind::Entry]);
    world.node("alice").publisher = Some(lost);
    let job = world.publish("alice", &p, listed(2));
    world.until("nobody signs it", |w| is_refused(w, "alice", job));
    world.append("alice", &p, taken_back(1, RevokeLevel::Withdraw, None));
    world.until("bob is told", |w| revoked(w, "bob", &p, listed(1).release).is_some());
    assert_eq!(last_entry(&world).signatures.len(), 1);
    assert_eq!(view(&world, "bob", &p).feed.head.at.seq, 2, "the refused release took no number");
}

#[test]
fn what_was_never_published_is_not_revoked() {
    let (mut world, p) = first(&["alice", "bob"]);
    let job = world.append("alice", &p, taken_back(7, RevokeLevel::Withdraw, None));
    world.until("it is refused", |w| is_refused(w, "alice", job));
    let job = world.append("bob", &p, taken_back(1, RevokeLevel::Withdraw, None));
    world.until("bob is no publisher", |w| is_refused(w, "bob", job));
}
