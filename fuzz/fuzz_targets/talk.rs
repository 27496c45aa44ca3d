//! What the core makes of whatever peers say and gossip.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_fuzz::talk::talk(bytes));
