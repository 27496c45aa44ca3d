//! Proofs that a publisher spoke twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::{
    feed::Equivocation,
    root::{TrustedRoot, publisher_of},
};

fuzz_target!(|bytes: &[u8]| {
    let Some(proof) = one_spelling::<Equivocation>(bytes) else { return };
    let first = &proof.one;
    if let Ok(root) = TrustedRoot::first(publisher_of(&first.payload), first) {
        let _ = proof.check(&root);
    }
});
