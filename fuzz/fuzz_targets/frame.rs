//! Frames of a stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::frames::{frames, put};

fuzz_target!(|bytes: &[u8]| {
    const LIMIT: usize = 512;
    let frames = frames(bytes, LIMIT);
    let mut again = Vec::new();
    for frame in &frames {
        assert!((1..=LIMIT).contains(&frame.len()));
        put(&mut again, frame);
    }
    assert!(bytes.starts_with(&again), "frames are not what came");
});
