//! Files that are there to hold credentials and have a grammar of their own: where in them a password stands. Invariant: as
//! for names, each look goes a bounded way to both sides.

use super::{
    Hit, Place, Weight,
    assigned::{LITERAL, given, is_comment, is_named, line_before},
    value::{self, Rule},
};
use std::ops::Range;

/// What stands before a password in them, besides the names: the colon of `.pgpass`, and `auth` of Docker and npm.
pub(super) const NEEDLES: [&str; 2] = [":", "auth"];

/// The longest word or field.
const FIELD: usize = 600;

/// Judges one needle by the grammar of its file.
pub(super) fn judge(text: &[u8], needle: Range<usize>, place: Place) -> Option<Hit<'_>> {
    let (at, secret) = match place {
        Place::Netrc => word(text, needle)?,
        Place::Pgpass => field(text, needle)?,
        Place::Registry => login(text, needle)?,
        _ => return None,
    };
    Some(Hit { at, end: at + secret.len(), what: LITERAL, secret, weight: Weight::Refused })
}

/// `machine host login anna password …`, over lines as well.
fn word(text: &[u8], needle: Range<usize>) -> Option<(usize, &[u8])> {
    let start = needle.start.checked_sub(1)?;
    let rest = text.get(start..text.len().min(start + FIELD))?;
    let rest = rest.strip_prefix(b"password")?;
    let before = start.checked_sub(1).and_then(|n| text.get(n)).is_some_and(|b| !b.is_ascii_whitespace());
    let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
    if before || blank == 0 || line_before(text, start).trim_ascii_start().starts_with(b"#") {
        return None;
    }
    let quote = usize::from(rest.get(blank) == Some(&b'"'));
    let rest = rest.get(blank + quote..)?;
    let length = rest.iter().position(|b| if quote == 1 { *b == b'"' } else { b.is_ascii_whitespace() });
    let secret = rest.get(..length.unwrap_or(rest.len()))?;
    value::is_plausible(secret, Rule::Own).then_some((start + b"password".len() + blank + quote, secret))
}

/// `host:port:database:user:…`; a backslash takes its meaning from a colon.
fn field(text: &[u8], needle: Range<usize>) -> Option<(usize, &[u8])> {
    let line = line_before(text, needle.end);
    if line.starts_with(b"#") {
        return None;
    }
    let mut colons = 0;
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b':' => colons += 1,
            _ => {}
        }
    }
    // An escaped one ends no field.
    if colons != 4 || line.strip_suffix(b":").is_none_or(|l| l.ends_with(b"\\")) {
        return None;
    }
    let rest = text.get(needle.end..text.len().min(needle.end + FIELD))?;
    let secret = rest.split(|b| b"\r\n".contains(b)).next()?;
    let said: Vec<u8> = secret.iter().copied().filter(|b| *b != b'\\').collect();
    value::is_plausible(&said, Rule::Own).then_some((needle.end, secret))
}

/// `"auth": "…"`, `//registry/:_auth=…`.
fn login(text: &[u8], needle: Range<usize>) -> Option<(usize, &[u8])> {
    let start = needle.start - usize::from(needle.start > 0 && text.get(needle.start - 1) == Some(&b'_'));
    let edge = |at: Option<&u8>| at.is_none_or(|b| !is_named(*b));
    let line = line_before(text, start);
    let whole = edge(start.checked_sub(1).and_then(|n| text.get(n))) && edge(text.get(needle.end));
    if !whole || text.get(needle.clone()) != Some(b"auth") || (is_comment(line) && !line.starts_with(b"//")) {
        return None;
    }
    let (at, secret, _) = given(text, start..needle.end, line)?;
    value::is_plausible(secret, Rule::Own).then_some((at, secret))
}
