//! Names, paths, addresses, key words, and strangers' text on a screen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softservice_protocol::{address, name, path, text};

fuzz_target!(|bytes: &[u8]| {
    let Ok(said) = std::str::from_utf8(bytes) else { return };
    let shown = text::Foreign(said).to_string();
    assert!(!shown.chars().any(|c| c.is_control() || text::is_hidden(c)), "{said:?} is shown as {shown:?}");
    if name::check(said).is_ok() {
        assert!(said.len() <= 63 && said.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        assert!(name::skeleton(said).is_ascii());
    }
    if path::check_path(said).is_ok() {
        assert!(said.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255));
        assert!(!said.contains(['\\', ':', '\0']) && !said.contains(char::is_control));
        // From where it stands, whatever it says, a link stays below.
        if let Some((at, target)) = said.split_once("/-/")
            && path::check_target(at, target).is_ok()
        {
            let mut depth = at.split('/').count() - 1;
            for part in target.split('/').filter(|part| *part != ".") {
                depth = if part == ".." { depth.checked_sub(1).expect("a link leaves its tree") } else { depth + 1 };
            }
        }
    }
    let (transport, peer) = address::split(said);
    if let Some(peer) = peer {
        let again = address::join(transport, peer);
        assert_eq!(address::peer_of(&again), Some(peer), "{said:?} as {again:?}");
    }
    let _ = address::is_plausible(said);
});
