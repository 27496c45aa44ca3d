//! Root documents and their rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::{feed::{Moment, freshness}, root::Root, time::Time};

fuzz_target!(|bytes: &[u8]| {
    if let Some(root) = one_spelling::<Root>(bytes) {
        if root.check().is_ok() {
            assert!(root.roles.root.threshold >= 1 && root.version >= 1);
        }
        let _ = freshness(None, root.issued_at, &root, Moment { clock: Time(u64::MAX), built: Time(0) });
    }
});
