//! Chains of root documents under any mixture of keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_fuzz::walk::walk(bytes));
