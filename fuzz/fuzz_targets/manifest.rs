//! Tree manifests and every rule of trees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::{
    path::check_path,
    tree::{Manifest, Node},
};

fuzz_target!(|bytes: &[u8]| {
    let Some(manifest) = one_spelling::<Manifest>(bytes) else { return };
    let _ = (manifest.totals(), manifest.chunk_order());
    if manifest.check().is_err() {
        return;
    }
    for entry in &manifest.entries {
        assert!(check_path(&entry.path).is_ok());
        let sum: u64 = entry.node.chunk_list().iter().map(|c| u64::from(c.len)).sum();
        if let Node::File { size, .. } = &entry.node {
            assert_eq!(sum, *size);
        }
    }
});
