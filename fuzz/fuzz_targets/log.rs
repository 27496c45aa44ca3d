//! Logs on a damaged disk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::script::Script;
use softservice_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(bytes);
    let (Some(at), Some(length), Some(with)) = (script.number(), script.byte(), script.byte()) else { return };
    let payloads: Vec<&[u8]> = std::iter::from_fn(|| script.piece()).take(64).collect();
    fuzzing::log(&payloads, at.into()..usize::from(at) + usize::from(length), with);
});
