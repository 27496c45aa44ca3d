//! Stories about feeds: alice publishes, bob and others follow, eve means no good.

mod age;
mod bounds;
mod chains;
mod counted;
mod delegated;
mod disk;
mod floods;
mod forgery;
mod key_loss;
mod memory;
mod news;
mod offline;
mod padding;
mod pieces;
mod reopened;
mod revoke;
mod rotation;
mod second_word;
mod tickets;
mod trust;
mod victims;
mod writer;

use crate::world::{Node, Publisher, START, World, listing, release};
use softservice_protocol::{
    codec,
    feed::{Action, Entry, Freshness, Head, Position, Revocation, RevokeLevel},
    id::{Digest, ReleaseId},
    io::{Cause, Event, Input, Job, Record, Verdict},
    machine::PublisherView,
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
/// Alice and bob are connected, and bob follows.
fn following(names: &[&'static str]) -> (World, Publisher) {
    let (mut world, p) = world(names);
    world.connect("alice", "bob");
    world.follow("bob", &p);
    (world, p)
}
/// And bob has alice's first entry.
fn first(names: &[&'static str]) -> (World, Publisher) {
    let (mut world, p) = following(names);
    world.publish("alice", &p, listed(1));
    world.until("bob has the first", |w| w.head("bob", &p) == 1);
    (world, p)
}
fn view<'a>(world: &'a World, name: &str, publisher: &Publisher) -> PublisherView<'a> {
    world.nodes[name].core.publisher(publisher.id).unwrap_or_else(|| panic!("{name} does not know the publisher"))
}
fn is_frozen(world: &World, name: &str, publisher: &Publisher) -> bool {
    world.nodes[name].core.publisher(publisher.id).is_some_and(|v| v.frozen)
}
fn is_refused(world: &World, name: &str, job: Job) -> bool {
    has(
        &world.nodes[name],
        |e| matches!(e, Event::Refused { job: j, .. } | Event::Unsigned { job: j, .. } if *j == job),
    )
}
