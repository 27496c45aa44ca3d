//! What is refused is counted by the step of verification that refused it. Invariant: one refusal, one count, at the first step
//! that does not hold.

use super::*;
use softservice_protocol::io::Step;

/// The steps at which what eve brings ends, and what it is.
type Case = (&'static [Step], fn(&mut World, &Publisher));

fn says(world: &mut World, bytes: Vec<u8>) {
    world.whisper("eve", "bob", bytes);
}
/// What alice's next entry would be if it was as `wrong` makes it, with her good signature.
fn entry(world: &World, p: &Publisher, wrong: impl FnOnce(&mut Entry)) -> Envelope {
    let last = last_entry(world);
    let mut entry: Entry = last.open().unwrap();
    (entry.at.seq, entry.prev, entry.action) = (2, last.digest(), Action::Release(listed(2)));
    wrong(&mut entry);
    p.seal(Kind::Entry, codec::encode(&entry).unwrap())
}

const CASES: [Case; 7] = [
    (&[Step::Limits], |world, p| {
        let claim = Head { at: Position { epoch: 1, seq: 900 }, hash: Digest::of(b"no such entry") };
        let heads = vec![(p.id, claim); softservice_protocol::limits::HEADS + 1];
        let (peer, bytes) = (world.peer("eve"), codec::encode(&Message::Heads(heads)).unwrap());
        world.input("bob", Input::Received { peer, bytes });
    }),
    (&[Step::Length], |world, _| says(world, vec![0; softservice_protocol::limits::GOSSIP_BYTES + 1])),
    (&[Step::Unfollowed], |world, _| {
        let (stranger, last) = (Publisher::new(5), last_entry(world));
        says(world, codec::encode(&stranger.seal(Kind::Entry, last.payload)).unwrap());
    }),
    // Another entry for a place that is taken is refused, and proves what the next one is refused for.
    (&[Step::Frozen, Step::Place], |world, p| {
        let other = rival(&last_entry(world), p);
        says(world, codec::encode(&other).unwrap());
        assert!(is_frozen(world, "bob", p));
        let next = entry(world, p, |_| {});
        says(world, codec::encode(&next).unwrap());
    }),
    (&[Step::Signature], |world, p| {
        let mut forged = entry(world, p, |_| {});
        forged.signatures[0].bytes[5] ^= 1;
        says(world, codec::encode(&forged).unwrap());
    }),
    (&[Step::Form], |world, _| says(world, vec![1, 2, 3])),
    (&[Step::Place], |world, p| {
        let broken = entry(world, p, |e| e.prev = Digest::of(b"another feed"));
        says(world, codec::encode(&broken).unwrap());
    }),
];

#[test]
fn each_step_of_verification_counts_what_it_refuses_and_no_other_does() {
    for (steps, bring) in CASES {
        let (mut world, p) = first(&["alice", "bob", "eve"]);
        world.connect("eve", "bob");
        let count = |world: &World| Step::ALL.map(|s| world.nodes["bob"].core.refusals().of(s));
        let before = count(&world);
        bring(&mut world, &p);
        let grown: Vec<Step> = Step::ALL
            .into_iter()
            .zip(before.into_iter().zip(count(&world)))
            .flat_map(|(s, (b, a))| std::iter::repeat_n(s, usize::try_from(a - b).unwrap()))
            .collect();
        assert_eq!(grown, steps);
    }
}
