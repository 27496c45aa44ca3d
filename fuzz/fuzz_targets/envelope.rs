//! Envelopes, and the payload inside as whatever it claims to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::{
    feed::FeedState,
    root::{TrustedRoot, publisher_of},
    sign::Envelope,
};

fuzz_target!(|bytes: &[u8]| {
    let Some(envelope) = one_spelling::<Envelope>(bytes) else { return };
    let trusted = TrustedRoot::first(publisher_of(&envelope.payload), &envelope);
    if let Ok(trusted) = trusted {
        let _ = trusted.next(&envelope);
        let _ = FeedState::default().accept(&trusted, &envelope);
    }
});
