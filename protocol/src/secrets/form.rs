//! Secrets that say what they are: private keys, and tokens with their issuer's prefix. Invariant: a form alone is not
//! enough: what follows must be as long and as varied as the real thing, so that programs and documents that speak of
//! a form are not it.

use super::{Hit, Place, Weight, count, value};
use ed25519_dalek::SigningKey;

const KEY: &str = "a private key";
const OWN_KEY: &str = "a key file of softservice";
const ENCRYPTED: &str = "a password-protected private key";
const WEB_TOKEN: &str = "a signed web token";

/// A form by what it always has in it.
pub(super) struct Form {
    pub(super) needle: &'static str,
    what: &'static str,
    shape: Shape,
}

/// What follows.
enum Shape {
    /// `-----BEGIN … PRIVATE KEY-----` and a body.
    Armour,
    /// So many letters and digits, `_` and `-` as said.
    Token { least: usize, also: &'static [u8] },
    /// Exactly so many capital letters and digits, as in key ids.
    Id(usize),
    /// Three parts with dots between them.
    WebToken,
    /// A line `Private-Lines:` further on.
    Putty,
    /// Base64 from the needle's begin on.
    Base64(usize),
    /// An armour as base64 once more, as settings of containers have it; so many of its letters stand before the first
    /// whole three bytes, and so many dashes in them.
    Wrapped { letters: usize, dashes: &'static [u8] },
}

const fn token(needle: &'static str, what: &'static str, least: usize) -> Form {
    Form { needle, what, shape: Shape::Token { least, also: b"_-" } }
}

/// All forms. With the names' needles they are at most 64.
pub(super) const FORMS: [Form; 45] = [
    Form { needle: "PRIVATE KEY", what: KEY, shape: Shape::Armour },
    // `-----BEGIN` at each of three places in a group.
    Form { needle: "LS0tLS1CRUdJTi", what: KEY, shape: Shape::Wrapped { letters: 0, dashes: b"" } },
    Form { needle: "0tLS0tQkVHSU4", what: KEY, shape: Shape::Wrapped { letters: 2, dashes: b"--" } },
    Form { needle: "tLS0tLUJFR0lO", what: KEY, shape: Shape::Wrapped { letters: 1, dashes: b"-" } },
    Form { needle: "PuTTY-User-Key-File-", what: KEY, shape: Shape::Putty },
    Form { needle: "AGE-SECRET-KEY-1", what: "an age identity", shape: Shape::Id(58) },
    Form { needle: "RWRTY0Iy", what: "a minisign secret key", shape: Shape::Base64(180) },
    Form { needle: "RWQAAEIy", what: "a minisign secret key", shape: Shape::Base64(180) },
    Form { needle: "RWRCSwAA", what: "a signify secret key", shape: Shape::Base64(130) },
    Form { needle: "AKIA", what: "an AWS access key", shape: Shape::Id(16) },
    Form { needle: "ASIA", what: "an AWS access key", shape: Shape::Id(16) },
    token("ghp_", "a GitHub token", 36),
    token("gho_", "a GitHub token", 36),
    token("ghu_", "a GitHub token", 36),
    token("ghs_", "a GitHub token", 36),
    token("ghr_", "a GitHub token", 36),
    token("github_pat_", "a GitHub token", 50),
    token("glpat-", "a GitLab token", 20),
    token("gldt-", "a GitLab token", 20),
    token("glrt-", "a GitLab token", 20),
    token("xoxb-", "a Slack token", 20),
    token("xoxp-", "a Slack token", 20),
    token("xoxa-", "a Slack token", 20),
    token("xoxs-", "a Slack token", 20),
    token("xoxr-", "a Slack token", 20),
    token("xapp-", "a Slack token", 20),
    Form {
        needle: "hooks.slack.com/services/",
        what: "a Slack webhook",
        shape: Shape::Token { least: 30, also: b"/" },
    },
    token("sk_live_", "a Stripe key", 20),
    token("rk_live_", "a Stripe key", 20),
    token("whsec_", "a Stripe key", 30),
    token("AIza", "a Google API key", 35),
    token("GOCSPX-", "a Google client secret", 24),
    token("npm_", "an npm token", 36),
    token("pypi-AgE", "a PyPI token", 50),
    token("T3BlbkFJ", "an OpenAI key", 20),
    token("sk-ant-", "an Anthropic key", 40),
    token("dop_v1_", "a DigitalOcean token", 60),
    token("dckr_pat_", "a Docker token", 20),
    token("hvs.", "a Vault token", 24),
    token("tskey-", "a Tailscale key", 20),
    token("shpat_", "a Shopify token", 32),
    Form { needle: "AccountKey=", what: "an Azure storage key", shape: Shape::Token { least: 80, also: b"+/=" } },
    Form { needle: "eyJhbGci", what: WEB_TOKEN, shape: Shape::WebToken },
    Form { needle: "eyJ0eXAi", what: WEB_TOKEN, shape: Shape::WebToken },
    Form { needle: "eyJraWQi", what: WEB_TOKEN, shape: Shape::WebToken },
];

/// Longest body of a key, of a token or the head of one that is signed, and of such a one as a whole.
const BODY: usize = 14 << 10;
/// Letters of an armour as base64, and how many bytes of it tell whether it is one.
const WRAPPED: usize = 12 << 10;
const FIRST_LINE: usize = 48;
const TOKEN: usize = 512;
const SIGNED: usize = 4 << 10;
/// What a token has in it that nobody was given.
const STAND_INS: [&[u8]; 7] = [b"example", b"xxxx", b"your", b"placeholder", b"redacted", b"dummy", b"notreal"];

impl Form {
    /// Judges the needle at a place.
    pub(super) fn judge<'a>(&self, text: &'a [u8], at: usize, place: Place) -> Option<Hit<'a>> {
        let before = at.checked_sub(1).and_then(|n| text.get(n)).copied().unwrap_or(b' ');
        let rest = text.get(at..)?;
        let after = rest.get(self.needle.len()..)?;
        let told = if place == Place::Specimen { Weight::Told } else { Weight::Refused };
        let hit =
            |length: usize, what, weight| Some(Hit { at, end: at + length, what, secret: rest.get(..length)?, weight });
        match self.shape {
            Shape::Armour => armour(text, at, self.needle.len(), told),
            Shape::Wrapped { letters, dashes } => {
                let (length, what) = wrapped(rest, self.needle, letters, dashes)?;
                hit(length, what, told)
            }
            Shape::Putty => {
                let text = after.get(..after.len().min(BODY))?;
                // Where the next one begins is the next one's.
                let text = text.get(..find(text, self.needle.as_bytes()).unwrap_or(text.len()))?;
                let lines = find(text, b"Private-Lines:")?;
                let body = run(text.get(lines..)?, b"+/=: -\r\n");
                (body > 60).then(|| hit(self.needle.len() + lines + body, self.what, told)).flatten()
            }
            Shape::Base64(least) => {
                if is_word(before) {
                    return None;
                }
                let length = run(rest.get(..rest.len().min(TOKEN))?, b"+/=");
                (length >= least).then(|| hit(length, self.what, told)).flatten()
            }
            Shape::Id(wanted) => {
                let length =
                    after.iter().take(wanted + 1).take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit()).count();
                let body = after.get(..length)?;
                let whole = length == wanted && !is_word(before) && !after.get(length).is_some_and(|b| is_word(*b));
                (whole && is_varied(body, 7))
                    .then(|| hit(self.needle.len() + length, self.what, Weight::Refused))
                    .flatten()
            }
            Shape::Token { least, also } => {
                // The prefix of an OpenAI key stands in its middle.
                if is_word(before) && !self.needle.starts_with('T') {
                    return None;
                }
                let body = after.get(..run(after.get(..after.len().min(TOKEN))?, also))?;
                let fits = body.len() >= least && body.iter().any(u8::is_ascii_digit) && is_varied(body, 8);
                fits.then(|| hit(self.needle.len() + body.len(), self.what, Weight::Refused)).flatten()
            }
            Shape::WebToken => {
                web_token(rest, before, at, if place.has_names() { Weight::Refused } else { Weight::Told })
            }
        }
    }
}

/// Header, claims, signature; each says something.
fn web_token(rest: &[u8], before: u8, at: usize, weight: Weight) -> Option<Hit<'_>> {
    if is_word(before) {
        return None;
    }
    let text = rest.get(..rest.len().min(SIGNED))?;
    let (mut parts, mut end) = (0, 0);
    while parts < 3 {
        let part = text.get(end..)?;
        let part = if parts == 0 { part.get(..part.len().min(TOKEN))? } else { part };
        let length = run(part, b"_-");
        let least = if parts == 2 { 27 } else { 10 };
        let ended = parts == 2 || part.get(length) == Some(&b'.');
        if length < least || !ended || (parts == 1 && !part.starts_with(b"eyJ")) || !is_varied(part.get(..length)?, 6) {
            return None;
        }
        (end, parts) = (end + length, parts + 1);
        end += usize::from(parts < 3);
    }
    Some(Hit { at, end: at + end, what: WEB_TOKEN, secret: text.get(..end)?, weight })
}

/// The key around `PRIVATE KEY` at a place, if it is the armour's first line and not a program's mention of one.
fn armour(text: &[u8], at: usize, needle: usize, weight: Weight) -> Option<Hit<'_>> {
    let before = text.get(at.saturating_sub(40)..at)?;
    let begin = before.windows(11).rposition(|w| w == b"-----BEGIN ")?;
    let kind = before.get(begin + 11..)?;
    if !kind.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ') {
        return None;
    }
    let start = at - before.len() + begin;
    let rest = text.get(at + needle..text.len().min(at + needle + BODY))?;
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest).strip_prefix(b"-----")?;
    // Where the next one begins is the next one's; each byte is looked at for one of them.
    let stop = rest.windows(6).position(|w| w == b"-----B" || w == b"-----E");
    let inside = rest.get(..stop.unwrap_or(rest.len()))?;
    count(inside.len());
    let whole = stop.filter(|at| rest.get(*at..).is_some_and(|r| r.starts_with(b"-----END ")));
    let (length, varied) = body(inside);
    // A short body may have been cut down to be shown; one with an end says that it is all there is.
    if length < if whole.is_some() { 24 } else { 64 } || varied < 10 {
        return None;
    }
    let what = if kind.starts_with(b"ENCRYPTED") { ENCRYPTED } else { KEY };
    let end = at + needle + inside.len();
    Some(Hit { at: start, end, what, secret: text.get(start..end)?, weight })
}

/// How long a key is that begins here as base64 once more, and what it is.
fn wrapped(rest: &[u8], needle: &str, letters: usize, dashes: &[u8]) -> Option<(usize, &'static str)> {
    let text = rest.get(..rest.len().min(WRAPPED))?;
    // Where the next one begins is the next one's.
    let next = find(text.get(needle.len()..)?, needle.as_bytes());
    let text = text.get(..next.map_or(text.len(), |next| needle.len() + next))?;
    let (mut plain, mut group, mut held, mut end) = (dashes.to_vec(), 0u32, 0, text.len());
    let mut bytes = text.iter().enumerate().skip(letters).peekable();
    while let Some((n, byte)) = bytes.next() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            // As a text of lines has it, or a program's.
            b'\\' if bytes.peek().is_some_and(|(_, b)| b"nr".contains(b)) => {
                bytes.next();
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' => continue,
            _ => {
                end = n;
                break;
            }
        };
        (group, held) = (group << 6 | u32::from(value), held + 1);
        if held == 4 {
            plain.extend(group.to_be_bytes().into_iter().skip(1));
            (group, held) = (0, 0);
            // Certificates and public keys are as common, and for everybody.
            if (FIRST_LINE..FIRST_LINE + 3).contains(&plain.len()) && find(&plain, b"PRIVATE KEY").is_none() {
                count(n);
                return None;
            }
            // What stands behind it is no part of it.
            let tail = plain.get(plain.len().saturating_sub(11)..).unwrap_or_default();
            if tail.windows(9).any(|w| w == b"-----END ") {
                end = n + 1;
                break;
            }
        }
    }
    count(end);
    let at = find(plain.get(..plain.len().min(FIRST_LINE))?, b"PRIVATE KEY")?;
    let inside = armour(&plain, at, b"PRIVATE KEY".len(), Weight::Refused)?;
    Some((end, inside.what))
}

/// Letters of base64 in the longest stretch of lines that have nothing else, and how many different ones. Lines may be
/// those of a program's or JSON's text: quotes, commas, `\n`, `+`; lines with a colon are the armour's own headers.
fn body(text: &[u8]) -> (usize, u32) {
    let (mut length, mut varied) = (0, 0);
    let mut rest = text;
    while !rest.is_empty() {
        // As a program's text writes it, or a real one.
        let end =
            rest.iter().enumerate().position(|(n, b)| *b == b'\n' || *b == b'\\' && rest.get(n + 1) == Some(&b'n'));
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let skip = end.map_or(rest.len(), |end| end + if rest.get(end) == Some(&b'\\') { 2 } else { 1 });
        rest = rest.get(skip..).unwrap_or_default();
        count(skip);
        let trim = |b: &u8| b" \t\r\"',+;*#|>".contains(b);
        let from = line.iter().position(|b| !trim(b)).unwrap_or(line.len());
        let to = line.iter().rposition(|b| !trim(b)).map_or(from, |n| n + 1);
        let line = line.get(from..to).unwrap_or_default();
        if line.is_empty() || line == b"\\r" || line.contains(&b':') {
            continue;
        }
        if run(line, b"+/=") < line.len() {
            break;
        }
        length += line.len();
        varied = varied.max(value::distinct(line));
    }
    (length, varied)
}

/// Keys that are no text, and softservice's own.
pub(super) fn whole_file<'a>(path: &str, bytes: &'a [u8], place: Place) -> Option<Hit<'a>> {
    let weight = if place == Place::Specimen { Weight::Told } else { Weight::Refused };
    let what = if is_own(bytes) || is_made(path) {
        (OWN_KEY, Weight::Refused)
    } else if is_binary_key(bytes) {
        (KEY, weight)
    } else {
        return None;
    };
    Some(Hit { at: 0, end: bytes.len(), what: what.0, secret: bytes, weight: what.1 })
}

/// Secrets that a device made for a softservice stand in its home.
fn is_made(path: &str) -> bool {
    path.split_once("softservices/").is_some_and(|(_, rest)| {
        let mut parts = rest.split('/');
        (parts.next().is_some(), parts.next(), parts.next().is_some()) == (true, Some("secrets"), true)
    })
}

/// Two lines of 64 hexadecimal digits: a secret, and the key that belongs to it.
fn is_own(bytes: &[u8]) -> bool {
    if bytes.len() < 129 || bytes.len() > 132 {
        return false;
    }
    let mut lines = bytes.split(|b| *b == b'\n').map(|line| hex(line.trim_ascii()));
    let (Some(Some(secret)), Some(Some(public))) = (lines.next(), lines.next()) else { return false };
    SigningKey::from_bytes(&secret).verifying_key().to_bytes() == public
}

fn hex(line: &[u8]) -> Option<[u8; 32]> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(line).ok()?.try_into().ok()
}

/// The fixed beginnings of PKCS#8, PKCS#1, SEC 1, PKCS#12 with a key in it, and Java's key stores with one.
fn is_binary_key(bytes: &[u8]) -> bool {
    if let Some(store) = bytes.strip_prefix(&[0xfe, 0xed, 0xfe, 0xed]) {
        return store.get(8..12) == Some(&[0, 0, 0, 1]);
    }
    let (inner, length) = match bytes {
        [0x30, 0x82, high, low, inner @ ..] => (inner, usize::from(*high) << 8 | usize::from(*low)),
        [0x30, 0x81, length, inner @ ..] => (inner, usize::from(*length)),
        [0x30, length @ 0..=0x7f, inner @ ..] => (inner, usize::from(*length)),
        _ => return false,
    };
    // A file that is one structure from its begin to its end.
    if inner.len() != length || length < 40 {
        return false;
    }
    let algorithms: [&[u8]; 4] = [
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01",
        b"\x2a\x86\x48\xce\x3d\x02\x01",
        b"\x2b\x65\x70",
        b"\x2a\x86\x48\xce\x38\x04\x01",
    ];
    let bags: [&[u8]; 2] =
        [b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01", b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02"];
    let head = inner.get(..inner.len().min(32)).unwrap_or_default();
    match inner {
        [2, 1, 0, 0x30, ..] | [2, 1, 1, 0x30, ..] => algorithms.iter().any(|a| find(head, a).is_some()),
        [2, 1, 0, 2, 0x81 | 0x82, ..] | [2, 1, 1, 4, 20..=66, ..] => true,
        [2, 1, 3, 0x30, ..] => bags.iter().any(|b| find(inner, b).is_some()),
        _ => false,
    }
}

/// How many letters and digits stand at the begin, `also` counted.
fn run(text: &[u8], also: &[u8]) -> usize {
    let length = text.iter().take_while(|b| b.is_ascii_alphanumeric() || also.contains(b)).count();
    count(length);
    length
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_varied(body: &[u8], least: u32) -> bool {
    let lower = body.to_ascii_lowercase();
    value::distinct(body) >= least && !STAND_INS.iter().any(|w| find(&lower, w).is_some())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let at = text.windows(what.len()).position(|w| w == what);
    count(at.unwrap_or(text.len()));
    at
}
