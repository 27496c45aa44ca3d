//! Files of a store that another life, or a disk, wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_store::fuzzing::files(bytes));
