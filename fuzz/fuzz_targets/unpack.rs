//! Compressed answers, also against a base.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::{content, script::Script};

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(bytes);
    let (Some(length), Some(base)) = (script.number(), script.piece()) else { return };
    let length = usize::from(length);
    if let Ok(content) = content::unpack(script.0, base, length) {
        assert_eq!(content.len(), length);
    }
    if let Some(packed) = content::pack_over(script.0, base) {
        assert_eq!(content::unpack(&packed, base, script.0.len()).as_deref(), Ok(script.0));
    }
});
