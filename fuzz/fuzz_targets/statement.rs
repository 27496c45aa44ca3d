//! Freshness statements and catalogue snapshots.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::feed::{Fresh, Snapshot};

fuzz_target!(|bytes: &[u8]| {
    one_spelling::<Fresh>(bytes);
    if let Some(snapshot) = one_spelling::<Snapshot>(bytes) {
        assert!(snapshot.state_root().is_ok());
    }
});
