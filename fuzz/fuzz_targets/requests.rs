//! Files that ask for signatures.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_fuzz::requests::take(bytes));
