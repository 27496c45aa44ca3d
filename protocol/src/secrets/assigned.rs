//! Names that say what their value is: `password = "…"`, `api_key: …`, `<secret>…</secret>`, and addresses with a password in
//! them. Invariant: each look goes a bounded way to both sides.

use super::{
    Hit, Place, Weight, argument,
    value::{self, Rule},
};
use std::ops::Range;

pub(super) const LITERAL: &str = "a literal password or token";
const ADDRESS: &str = "a password in an address";

/// What stands in such names, in the cases in which they are written; the last is that of addresses.
pub(super) const NEEDLES: [&str; 19] = [
    "assw",
    "ASSW",
    "assphrase",
    "ASSPHRASE",
    "ecret",
    "ECRET",
    "oken",
    "OKEN",
    "pi_key",
    "PI_KEY",
    "pi-key",
    "pikey",
    "piKey",
    "PIKEY",
    "rivate_key",
    "rivateKey",
    "redential",
    "ccess_key",
    "://",
];

/// Ends of such names, without `-` and `_`.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "secretkey",
    "accesskey",
    "credential",
    "credentials",
    "passw",
];
/// Ends of names that are none: positions, and what everybody may know.
const OPEN: [&str; 16] = [
    "publickeytoken",
    "nexttoken",
    "pagetoken",
    "continuationtoken",
    "synctoken",
    "starttoken",
    "endtoken",
    "csrftoken",
    "xsrftoken",
    "canceltoken",
    "cancellationtoken",
    "nextpagetoken",
    "lasttoken",
    "nosecret",
    "nopassword",
    "emptypassword",
];

/// The longest name.
const NAME: usize = 64;
/// The longest value, and the longest line before one.
const VALUE: usize = 600;
const LINE: usize = 400;

/// Judges one needle.
pub(super) fn judge(text: &[u8], needle: Range<usize>, place: Place) -> Option<Hit<'_>> {
    if text.get(needle.clone()) == Some(b"://") {
        return address(text, needle, place);
    }
    let rule = match place {
        Place::Own | Place::Netrc | Place::Pgpass | Place::Registry => Rule::Own,
        Place::Settings => Rule::Chosen,
        Place::Program => Rule::Drawn,
        Place::Definition | Place::Specimen | Place::Written => return None,
    };
    let name = name(text, &needle)?;
    let line = line_before(text, name.start);
    // In npm's file a line begins with the host: `//registry/:_authToken=…`.
    if is_comment(line) && !(place == Place::Registry && line.starts_with(b"//")) {
        return None;
    }
    let (at, secret) = match given(text, name.clone(), line) {
        Some((_, _, false)) if rule == Rule::Drawn => return None,
        Some((at, secret, _)) if value::is_plausible(secret, rule) => (at, secret),
        Some(_) => return None,
        None => match argument::behind(text, name, line)? {
            // A word behind an option may be a sentence's.
            (at, secret, false) => {
                let rule = if rule == Rule::Own { Rule::Chosen } else { rule };
                value::is_plausible(secret, rule).then_some((at, secret))?
            }
            (at, secret, true) => value::is_plausible(secret, rule).then_some((at, secret))?,
        },
    };
    Some(Hit { at, end: at + secret.len(), what: LITERAL, secret, weight: Weight::Refused })
}

pub(super) fn is_named(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The name that the needle stands in, if it says that its value is a secret.
fn name(text: &[u8], needle: &Range<usize>) -> Option<Range<usize>> {
    let before = text.get(needle.start.saturating_sub(NAME)..needle.start)?;
    let start = needle.start - before.iter().rev().take_while(|b| is_named(**b)).count();
    let after = text.get(needle.end..text.len().min(needle.end + NAME))?;
    let end = needle.end + after.iter().take_while(|b| is_named(**b)).count();
    let mut word = [0; 2 * NAME + 16];
    let mut length = 0;
    for byte in text.get(start..end)?.iter().filter(|b| b.is_ascii_alphanumeric()) {
        *word.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let word = word.get(..length)?;
    let ends = |all: &[&str]| all.iter().any(|w| word.ends_with(w.as_bytes()));
    (ends(&WORDS) && !ends(&OPEN)).then_some(start..end)
}

/// What stands on the line before a place.
pub(super) fn line_before(text: &[u8], at: usize) -> &[u8] {
    let before = text.get(at.saturating_sub(LINE)..at).unwrap_or_default();
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    before.get(start..).unwrap_or_default()
}

pub(super) fn is_comment(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    [&b"#"[..], b";", b"//", b"/*", b"*", b"<!", b"--", b"%", b">>>", b"..."]
        .into_iter()
        .any(|mark| line.starts_with(mark))
        || line.windows(3).any(|w| w == b" //" || w == b" # ")
}

/// The value that a name is given: where it begins, and whether it stands in quotes.
pub(super) fn given<'a>(text: &'a [u8], name: Range<usize>, line: &[u8]) -> Option<(usize, &'a [u8], bool)> {
    let rest = text.get(name.end..text.len().min(name.end + VALUE))?;
    let rest = rest.split(|b| *b == b'\n').next()?;
    let tagged = line.ends_with(b"<");
    let mut at = 0;
    let skip = |at: &mut usize, which: &[u8], most: usize| {
        *at += rest.iter().skip(*at).take(most).take_while(|b| which.contains(b)).count();
    };
    skip(&mut at, b"\"'`", 1);
    let named_in_quotes = at > 0;
    skip(&mut at, b"])", 1);
    let close = at;
    skip(&mut at, b" \t", 40);
    let mut tight = at == close;
    let separator = (rest.get(at).copied()?, rest.get(at + 1).copied().unwrap_or(b' '));
    at += match separator {
        (b'=', b'=' | b'~') | (b':', b':') => return None,
        (b'=', b'>') | (b':', b'=') => 2,
        (b'=' | b':', _) => 1,
        (b'>', _) if tagged => 1,
        (b',', _) if named_in_quotes && line.windows(6).any(|w| w == b"define") => 1,
        _ => return None,
    };
    let close = at;
    skip(&mut at, b" \t", 40);
    tight &= at == close;
    if !tagged
        && rest.get(at).is_some_and(|b| b"brufL@".contains(b))
        && rest.get(at + 1).is_some_and(|b| b"\"'".contains(b))
    {
        at += 1;
    }
    let value = rest.get(at..)?;
    let quote = value.first().copied().filter(|b| b"\"'`".contains(b));
    if let Some(quote) = quote {
        let inner = value.get(1..)?;
        let length = inner.iter().position(|b| *b == quote)?;
        return Some((name.end + at + 1, inner.get(..length)?, true));
    }
    let ends: &[u8] = if tagged { b"<" } else { b" \t\r\"'<>`" };
    let length = value.iter().position(|b| ends.contains(b)).unwrap_or(value.len());
    let (value, after) = value.split_at(length);
    if !tagged && !tight && is_prose(after) {
        return None;
    }
    let end = value.iter().rposition(|b| !b",;".contains(b)).map_or(0, |n| n + 1);
    let value = value.get(..end)?;
    // Other settings of the same line: `password=…&user=…`; a comma alone may be part of a password that begins with it.
    let first = value.split(|b| b";&,".contains(b)).next().unwrap_or_default();
    let value = if tight && (first.len() > 3 || value.contains(&b'=')) { first } else { value };
    Some((name.end + at, value, tagged))
}

/// Whether more words follow. They do so behind `password: ` and `password = `, which people write in sentences; and
/// nothing that was in quotes, or in brackets, goes on behind them.
fn is_prose(after: &[u8]) -> bool {
    let closed = match after {
        // `doesn't`
        [b'\'', next, ..] => !next.is_ascii_alphabetic(),
        [first, ..] => b"\"`".contains(first),
        [] => true,
    };
    let after = after.trim_ascii();
    !closed
        && ![&b"#"[..], b";", b"//", b"}", b"]", b")"].into_iter().any(|mark| after.starts_with(mark))
        && !after.is_empty()
}

/// `scheme://user:password@host`.
fn address(text: &[u8], needle: Range<usize>, place: Place) -> Option<Hit<'_>> {
    let rule = match place {
        Place::Own | Place::Definition | Place::Netrc | Place::Pgpass | Place::Registry => Rule::Own,
        Place::Settings | Place::Program => Rule::Chosen,
        Place::Specimen | Place::Written => return None,
    };
    let scheme = text.get(needle.start.saturating_sub(2)..needle.start)?;
    let rest = text.get(needle.end..text.len().min(needle.end + 256))?;
    let user = rest.iter().position(|b| !(is_named(*b) || *b == b'.' || *b == b'+' || *b == b'%'))?;
    if rest.get(user) != Some(&b':') || scheme.len() < 2 || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let password = rest.get(user + 1..)?;
    let length = password.iter().position(|b| b"@/?#\"'<>` \t\r\n".contains(b))?;
    if password.get(length) != Some(&b'@') {
        return None;
    }
    let (secret, host) = (password.get(..length)?, password.get(length + 1..)?);
    let host = host.split(|b| !(is_named(*b) || *b == b'.')).next().unwrap_or_default().to_ascii_lowercase();
    let nowhere = [&b"example.com"[..], b"example.org", b"example.net", b".example", b".test", b".invalid", b"host"];
    let name = rest.get(..user).unwrap_or_default();
    if nowhere.into_iter().any(|end| host.ends_with(end)) || name == secret || !value::is_plausible(secret, rule) {
        return None;
    }
    if is_comment(line_before(text, needle.start)) && rule != Rule::Own {
        return None;
    }
    let at = needle.end + user + 1;
    Some(Hit { at, end: at + length, what: ADDRESS, secret, weight: Weight::Refused })
}
