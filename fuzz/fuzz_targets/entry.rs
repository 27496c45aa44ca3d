//! Feed entries, statements and snapshots, and what an entry does to an empty catalogue.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::feed::{Entry, Fresh, Snapshot};

fuzz_target!(|bytes: &[u8]| {
    if let Some(entry) = one_spelling::<Entry>(bytes)
        && let Ok(snapshot) = Snapshot::default().after(&entry.action, entry.by)
    {
        snapshot.check().expect("a checked action leaves a good catalogue");
        assert!(snapshot.state_root().is_ok());
    }
    let _ = one_spelling::<Fresh>(bytes);
    if let Some(snapshot) = one_spelling::<Snapshot>(bytes) {
        let _ = snapshot.check();
    }
});
