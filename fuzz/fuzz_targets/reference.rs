//! References, as a person types them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::{
    name::check,
    reference::Reference,
    text::{Foreign, is_plain},
};

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    let _ = check(text);
    assert!(is_plain(&Foreign(text).to_string()));
});
