//! Heads of requests to `serve-static`, without the server around them: the node's own source file, as it is.

#[path = "../../node/src/device/static_server/head.rs"]
#[allow(dead_code)]
mod head;

use head::{BYTES, Request};
use std::fmt::Write as _;

/// Takes the bytes as what a caller sends. No more than a head is read of them, and the path that they ask for is asked for
/// by its plainest spelling as well.
pub fn asks(bytes: &[u8]) {
    let mut rest = bytes;
    let asked = head::read(&mut rest);
    assert!((bytes.len() - rest.len()) as u64 <= BYTES, "more than a head was read");
    let Ok(Request::Page { path: Some(path), content }) = asked else { return };
    assert!(!path.contains('\0'));
    let mut plain = String::from(if content { "GET /" } else { "HEAD /" });
    for byte in path.bytes() {
        write!(plain, "%{byte:02x}").expect("a text");
    }
    plain.push_str(" HTTP/1.1\r\n\r\n");
    if plain.len() as u64 <= BYTES {
        let again = head::read(plain.as_bytes()).expect("it is text");
        assert_eq!(again, Request::Page { path: Some(path), content });
    }
}
