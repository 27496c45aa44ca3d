//! Records of the log that a node keeps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::io::Record;

fuzz_target!(|bytes: &[u8]| {
    let _ = one_spelling::<Record>(bytes);
});
