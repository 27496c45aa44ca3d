//! The head of a request to `serve-static`. Invariant: no more than [`BYTES`] of a caller are read, whatever they are, and
//! what a target asks for has one meaning.

use std::io::{self, BufRead as _, BufReader, Read};

/// Bytes of a head that are read; what is longer ends there.
pub(super) const BYTES: u64 = 8 << 10;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A page by its path below the folder, or none where the target is no path; its content, or its length alone.
    Page { path: Option<String>, content: bool },
    /// Something else than `GET` and `HEAD`.
    Other,
}

/// Reads a head to its end, or as far as it may be long.
///
/// # Errors
/// What reading says; lines that are no text are an error as well.
pub(super) fn read(from: impl Read) -> io::Result<Request> {
    let mut head = BufReader::new(from.take(BYTES));
    let mut request = String::new();
    head.read_line(&mut request)?;
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !matches!(method, "GET" | "HEAD") {
        return Ok(Request::Other);
    }
    Ok(Request::Page { path: decode(target), content: method == "GET" })
}

/// The path that a request's target asks for, relative, percent signs resolved.
fn decode(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let byte = match byte {
            b'%' => u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?,
            plain => plain,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|p| !p.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_strictly() {
        assert_eq!(decode("/a%20b?x=1").as_deref(), Some("a b"));
        for bad in ["", "x", "/%", "/%4", "/%zz", "/%00", "/%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn of_an_endless_head_only_the_beginning_is_read() {
        let long = [&b"GET /a HTTP/1.1\r\n"[..], &b"x: y\r\n".repeat(4000)].concat();
        let mut rest = long.as_slice();
        let page = Request::Page { path: Some("a".into()), content: true };
        assert_eq!(read(&mut rest).expect("it is text"), page);
        assert_eq!(long.len() - rest.len(), BYTES as usize);
        assert_eq!(read(&b"PUT /a HTTP/1.1\r\n\r\n"[..]).expect("it is text"), Request::Other);
        let head = Request::Page { path: Some("a".into()), content: false };
        assert_eq!(read(&b"HEAD /a HTTP/1.1\r\n\r\n"[..]).expect("it is text"), head);
    }
}
