//! Compiled releases.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::release::Release;

fuzz_target!(|bytes: &[u8]| {
    if let Some(release) = one_spelling::<Release>(bytes) {
        let _ = release.source.check();
    }
});
