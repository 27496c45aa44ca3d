//! Headers of requests and answers on content streams.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::{
    limits,
    message::{SpanAnswer, SpanRequest},
};

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = one_spelling::<SpanRequest>(bytes)
        && let Some(asked) = request.checked_bytes()
    {
        assert!(asked <= limits::SPAN_BYTES as u64 && request.chunks.len() <= limits::SPAN_CHUNKS);
    }
    if let Some(answer) = one_spelling::<SpanAnswer>(bytes) {
        assert!(answer.held.is_valid());
    }
});
