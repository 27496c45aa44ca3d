//! Valid signed objects, changed: by bits and bytes as a broken link would, and by somebody who knows the format and lacks
//! the keys. Invariant: none is taken for something else, nothing panics, and no decoder takes much more memory than it
//! was given bytes.
//!
//! A failure prints its seed and number: `SOFTSERVICE_SEED` and `SOFTSERVICE_MUTATIONS` repeat or lengthen a run.

#[path = "../cast/mod.rs"]
mod cast;
mod draw;
mod forger;
mod memory;
mod objects;
#[path = "../specimens/mod.rs"]
mod specimens;

use draw::Draw;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What decoding may take beyond the bytes that it was given.
const ROOM: usize = 8 << 20;
/// Mutations of a run that nobody asked to be another.
const MUTATIONS: u64 = 200_000;

/// Memory is counted for the whole process, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wall is around the crate; whoever runs a test may ask for more of it"
)]
fn asked(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |n| n.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

#[test]
fn two_hundred_thousand_mutations_mean_nothing_else_and_cost_little() {
    let _alone = alone();
    let (seed, count) = (asked("SOFTSERVICE_SEED", 5), asked("SOFTSERVICE_MUTATIONS", MUTATIONS));
    let objects = objects::all();
    let (mut refused, mut same, mut most) = (0, 0, 0);
    for number in 0..count {
        let mut draw = Draw::new(seed, number);
        let object = draw.of(&objects);
        let bad = forger::changed(&mut draw, object, &objects);
        let before = memory::mark();
        let meant = catch_unwind(AssertUnwindSafe(|| (object.meaning)(&bad)));
        let taken = memory::peak_since(before);
        let place = || {
            format!("mutation {number} of seed {seed}, of {}: {}", object.name, data_encoding::HEXLOWER.encode(&bad))
        };
        match meant {
            Err(_) => panic!("panicked at {}", place()),
            Ok(None) => refused += 1,
            Ok(Some(now)) if now == object.meant => same += 1,
            Ok(Some(now)) => panic!("{} was taken for {now}, at {}", object.meant, place()),
        }
        assert!(taken <= bad.len() + ROOM, "{taken} bytes of memory for {} at {}", bad.len(), place());
        most = most.max(taken.saturating_sub(bad.len()));
    }
    println!(
        "seed {seed}: {count} mutations of {} kinds of object, 0 taken for something else, 0 panics; {refused} refused, \
         {same} meant the same; at most {most} bytes of memory beyond the input",
        objects.len()
    );
    assert!(refused > 0 && same > 0, "both ends are reached");
}

#[test]
fn nine_bytes_that_ask_for_a_terabyte_are_an_error_of_every_decoder() {
    let _alone = alone();
    for version in [0u8, 1, 2, 255] {
        for length in [1u64 << 40, u64::MAX, 1 << 32, (128 << 20) + 1] {
            let nine = [&[version][..], &length.to_le_bytes()].concat();
            assert_eq!(nine.len(), 9);
            let before = memory::mark();
            assert_eq!(specimens::taken_by(&nine), 0);
            assert!(objects::archive(&nine).is_none());
            let framed = [&softservice_protocol::archive::MAGIC[..], &u32::MAX.to_le_bytes()].concat();
            assert!(objects::archive(&framed).is_none());
            let taken = memory::peak_since(before);
            assert!(taken < 1 << 20, "{taken} bytes of memory for nine");
        }
    }
    // The same length wherever a length may stand, in a good object of every kind.
    for specimen in specimens::all() {
        for at in 1..specimen.bytes.len().saturating_sub(8) {
            let mut bytes = specimen.bytes.clone();
            bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
            let before = memory::mark();
            if let Ok(again) = (specimen.again)(&bytes) {
                assert_eq!(again, bytes, "{} at {at}", specimen.name);
            }
            let taken = memory::peak_since(before);
            assert!(taken <= bytes.len() + ROOM, "{}: {taken} bytes of memory at {at}", specimen.name);
        }
    }
}

/// Not mutations but the densest inputs there can be: as many of the smallest elements as a kind's limit lets in.
#[test]
fn the_densest_inputs_of_every_kind_stay_bounded() {
    let _alone = alone();
    for (name, bytes, times) in objects::dense() {
        let before = memory::mark();
        let _ = specimens::taken_by(&bytes);
        let taken = memory::peak_since(before);
        println!("{name}: {} bytes in, {taken} bytes of memory at the peak", bytes.len());
        assert!(taken <= bytes.len() * times + ROOM, "{name}: {taken} bytes of memory for {}", bytes.len());
    }
}
