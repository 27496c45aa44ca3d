//! Tickets, as a person pastes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::ticket::Ticket;

fuzz_target!(|text: &str| {
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string(), text.trim().to_ascii_uppercase());
    }
});
