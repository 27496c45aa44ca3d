//! Heads of requests to a folder that is served.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softservice_fuzz::site::asks(bytes));
