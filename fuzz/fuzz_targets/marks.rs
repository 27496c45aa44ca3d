//! The marks against going back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_store::fuzzing::marks(bytes));
