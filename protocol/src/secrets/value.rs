//! Whether a value may be a secret, or is a reference, a placeholder or prose. Invariant: bytes only, no allocation beyond
//! a value's length, which is bounded.

/// How much a value has to look like a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Whatever is neither a reference nor a placeholder.
    Own,
    /// Letters and digits, and no technical term.
    Chosen,
    /// Drawn by lot.
    Drawn,
}

/// Longer ones are text.
const LONGEST: usize = 512;

/// Words that say that a value is none; of drawn values only those that no lot draws.
const STAND_INS: [&str; 58] = [
    "example",
    "changeme",
    "change_me",
    "change-me",
    "changeit",
    "placeholder",
    "redacted",
    "replace",
    "insert",
    "xxxx",
    "****",
    "....",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "private",
    "dummy",
    "sample",
    "lorem",
    "undefined",
    "invalid",
    "required",
    "optional",
    "missing",
    "default",
    "username",
    "encrypted",
    "generated",
    "your",
    "todo",
    "fixme",
    "test",
    "demo",
    "fake",
    "mock",
    "foo",
    "bar",
    "baz",
    "qwerty",
    "12345",
    "abcdef",
    "none",
    "null",
    "unset",
    "admin",
    "guest",
    "user",
    "hidden",
    "value",
    "string",
    "field",
    "notset",
];
/// Of these, how many no lot draws.
const LONG: usize = 34;

/// Begins of terms that end in a number and are no password.
const TERMS: [&str; 40] = [
    "sha", "md", "aes", "des", "rc", "rsa", "dsa", "ecdsa", "ed", "x", "pkcs", "utf", "iso", "base", "oauth", "http",
    "tls", "ssl", "ip", "ipv", "v", "scram", "hmac", "pbkdf", "bcrypt", "argon", "hs", "rs", "es", "ps", "rfc", "cp",
    "latin", "s", "ec", "p", "secp", "curve", "win", "int",
];

/// Whether a value may be a secret under a rule.
pub(super) fn is_plausible(value: &[u8], rule: Rule) -> bool {
    let shortest = match rule {
        Rule::Own => 4,
        Rule::Chosen => 6,
        Rule::Drawn => 12,
    };
    if value.len() < shortest || value.len() > LONGEST || is_reference(value) {
        return false;
    }
    let lower = value.to_ascii_lowercase();
    if is_stand_in(&lower, rule) || distinct(value) < 3 {
        return false;
    }
    if rule == Rule::Own {
        return !value.iter().any(u8::is_ascii_whitespace);
    }
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    if !value.iter().all(u8::is_ascii_graphic) || digits == 0 || letters == 0 || is_terms(&lower) || is_uuid(value) {
        return false;
    }
    rule != Rule::Drawn || (digits >= 2 && letters >= 4 && distinct(value) >= 8 && !has_word(value))
}

/// Something that stands for the value: a variable, a path, a call, a tag.
fn is_reference(value: &[u8]) -> bool {
    let starts = value.first().is_none_or(|b| b"$%{}[]()<>/&*!~.@?|+,;:#\\'\"`=-".contains(b));
    let inside = |what: &[u8]| value.windows(what.len()).any(|w| w == what);
    starts
        || [
            &b"${"[..],
            b"$(",
            b"{{",
            b"}}",
            b"%(",
            b"%s",
            b"%d",
            b"::",
            b"->",
            b"()",
            b"://",
            b"<",
            b">",
            b"(",
            b"[",
            b"\\",
        ]
        .into_iter()
        .any(inside)
}

fn is_stand_in(lower: &[u8], rule: Rule) -> bool {
    let whole = |word: &str| lower == word.as_bytes();
    let inside = |word: &str| lower.windows(word.len()).any(|w| w == word.as_bytes());
    let said = ["true", "false", "never", "always", "root", "pass", "prompt", "inherit", "auto", "enabled", "disabled"];
    if said.into_iter().any(whole) {
        return true;
    }
    match rule {
        Rule::Drawn if lower.len() >= 20 => STAND_INS.iter().take(LONG).any(|w| inside(w)),
        // Short words stand in weak passwords as well, and what an author chose is what everybody would get.
        Rule::Own => STAND_INS.iter().take(LONG).any(|w| whole(w)) || STAND_INS.iter().take(12).any(|w| inside(w)),
        _ => STAND_INS.iter().any(|w| inside(w)),
    }
}

/// `scram-sha-256`, `oauth2`, `v1.2.3`: words and terms alone.
fn is_terms(lower: &[u8]) -> bool {
    let mut pieces = lower.split(|b| !b.is_ascii_alphanumeric()).filter(|p| !p.is_empty());
    pieces.all(|piece| {
        let letters = piece.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let (head, tail) = piece.split_at(letters);
        tail.is_empty()
            || head.is_empty() && tail.iter().all(u8::is_ascii_digit)
            || TERMS.iter().any(|t| t.as_bytes() == head) && tail.len() <= 5
    })
}

fn is_uuid(value: &[u8]) -> bool {
    let dashes = [8, 13, 18, 23];
    value.len() == 36
        && value.iter().enumerate().all(|(n, b)| if dashes.contains(&n) { *b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Eight lower-case letters in a row: in a drawn value of forty characters once in fifty.
fn has_word(value: &[u8]) -> bool {
    let mut run = 0;
    value.iter().any(|b| {
        run = if b.is_ascii_lowercase() { run + 1 } else { 0 };
        run >= 8
    })
}

/// Different bytes.
pub(super) fn distinct(value: &[u8]) -> u32 {
    let mut seen = [0u64; 4];
    for byte in value {
        if let Some(word) = seen.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }
    seen.iter().map(|word| word.count_ones()).sum()
}

/// At most the first four characters, never more than a quarter, and the length.
pub(super) fn redacted(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret.get(..secret.len().min(LONGEST)).unwrap_or_default());
    let length = if secret.len() > LONGEST { secret.len() } else { text.chars().count() };
    let start: String = text.chars().take((length / 4).min(4)).take_while(char::is_ascii_graphic).collect();
    format!("\"{start}…\", {length} characters")
}
