//! Control messages between peers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_fuzz::one_spelling;
use softservice_protocol::message::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Some(Message::Has { chunks: Some(map), .. }) = one_spelling::<Message>(bytes) {
        assert!(map.is_valid() && map.count() <= map.len());
    }
});
