//! What may answer a question to the owner. Invariant: an accepted answer is canonical: sizes are bytes, durations are
//! milliseconds, both as plain numbers, and a canonical answer is accepted as itself.

use super::{names, units};
use crate::release::{Param, ParamKind};

/// The canonical text of an answer to `param`; this is what `${param.NAME}` becomes.
///
/// # Errors
/// What is wrong with the answer, for people.
pub fn accept(param: &Param, text: &str) -> Result<String, String> {
    let canonical = canonical(&param.kind, text)?;
    let number = match param.kind {
        ParamKind::Int | ParamKind::Size | ParamKind::Duration => canonical.parse::<i64>().ok(),
        _ => None,
    };
    let unit = match param.kind {
        ParamKind::Size => " bytes",
        ParamKind::Duration => " ms",
        _ => "",
    };
    match (number, param.min, param.max) {
        (Some(n), Some(min), _) if n < min => Err(format!("{text} is less than {min}{unit}")),
        (Some(n), _, Some(max)) if n > max => Err(format!("{text} is more than {max}{unit}")),
        _ => Ok(canonical),
    }
}

/// The canonical text of an answer of this kind.
///
/// # Errors
/// What is wrong with the answer, for people.
pub fn canonical(kind: &ParamKind, text: &str) -> Result<String, String> {
    names::line(text)?;
    let same = || text.to_owned();
    match kind {
        ParamKind::Text => Ok(same()),
        ParamKind::Int => {
            text.parse::<i64>().map(|n| n.to_string()).map_err(|_| format!("{text:?} is not a whole number"))
        }
        ParamKind::Bool if matches!(text, "true" | "false") => Ok(same()),
        ParamKind::Bool => Err(format!("{text:?} is neither true nor false")),
        ParamKind::Enum(of) if of.iter().any(|o| o == text) => Ok(same()),
        ParamKind::Enum(of) => Err(format!("{text:?} is none of {}", of.join(", "))),
        ParamKind::Size => plain(text).map_or_else(|| units::size(text), Ok).and_then(fits),
        ParamKind::Duration => plain(text).map_or_else(|| units::duration(text).map(|s| s.0), Ok).and_then(fits),
        ParamKind::Hostname if hostname(text) => Ok(text.to_ascii_lowercase()),
        ParamKind::Hostname => Err(format!("{text:?} is not a host name, such as shelf.example.org")),
        ParamKind::Port => match text.parse::<u16>() {
            Ok(n) if n > 0 => Ok(n.to_string()),
            _ => Err(format!("{text:?} is not a port, 1 to 65535")),
        },
        ParamKind::Url if url(text) => Ok(same()),
        ParamKind::Url => Err(format!("{text:?} is not an address that begins with http:// or https://")),
        ParamKind::Path => names::absolute(text).map(|()| same()),
    }
}

fn plain(text: &str) -> Option<u64> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn fits(n: u64) -> Result<String, String> {
    i64::try_from(n).map(|n| n.to_string()).map_err(|_| format!("{n} is too much"))
}

fn hostname(text: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && !text.contains([' ', '"', '<', '>', '\\']))
}

/// How a kind is called in a definition.
pub(crate) fn kind_word(kind: &ParamKind) -> &'static str {
    match kind {
        ParamKind::Text => "text",
        ParamKind::Int => "int",
        ParamKind::Bool => "bool",
        ParamKind::Enum(_) => "enum",
        ParamKind::Size => "size",
        ParamKind::Duration => "duration",
        ParamKind::Hostname => "hostname",
        ParamKind::Port => "port",
        ParamKind::Url => "url",
        ParamKind::Path => "path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_answers_are_accepted_as_themselves() {
        let cases = [
            (ParamKind::Size, "200MiB", "209715200"),
            (ParamKind::Duration, "30s", "30000"),
            (ParamKind::Int, "-007", "-7"),
            (ParamKind::Hostname, "Shelf.Example", "shelf.example"),
            (ParamKind::Port, "080", "80"),
        ];
        for (kind, given, wanted) in cases {
            assert_eq!(canonical(&kind, given).as_deref(), Ok(wanted));
            assert_eq!(canonical(&kind, wanted).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn wrong_answers_are_refused() {
        let cases = [
            (ParamKind::Text, "a\nb"),
            (ParamKind::Size, "big"),
            (ParamKind::Size, "99999999999999999999"),
            (ParamKind::Port, "0"),
            (ParamKind::Url, "ftp://x"),
            (ParamKind::Path, "/a/../b"),
            (ParamKind::Hostname, "a..b"),
        ];
        for (kind, given) in cases {
            assert!(canonical(&kind, given).is_err(), "{given}");
        }
    }
}
