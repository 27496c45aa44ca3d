//! Typed answers. Invariant: [`canonical`] gives one text for each meaning, in the unit that programs get: sizes as
//! bytes, durations as milliseconds, everything else as it was written.

use crate::release::{Param, ParamKind};

/// Longest answer in bytes: one line for a person, not a file.
const ANSWER_BYTES: usize = 4096;

/// The canonical text of an answer.
///
/// # Errors
/// What is wrong with it, as a fragment for people.
pub fn canonical(param: &Param, answer: &str) -> Result<String, String> {
    if answer.len() > ANSWER_BYTES {
        return Err(format!("longer than {ANSWER_BYTES} bytes"));
    }
    if answer.chars().any(char::is_control) {
        return Err("control characters are not allowed".into());
    }
    let number = |value: Option<i64>, wanted: &str| {
        let value = value.ok_or_else(|| format!("expected {wanted}, found {answer:?}"))?;
        bounds(param, value)?;
        Ok(value.to_string())
    };
    match &param.kind {
        ParamKind::Text => Ok(answer.to_owned()),
        ParamKind::Int => number(answer.trim().parse().ok(), "a whole number"),
        ParamKind::Size => number(size(answer), "a size like 200MiB"),
        ParamKind::Duration => number(duration(answer), "a duration like 30s"),
        ParamKind::Port => {
            let port = answer.trim().parse::<u16>().ok().filter(|p| *p > 0);
            number(port.map(i64::from), "a port from 1 to 65535")
        }
        ParamKind::Bool if matches!(answer, "true" | "false") => Ok(answer.to_owned()),
        ParamKind::Bool => Err(format!("expected true or false, found {answer:?}")),
        ParamKind::Enum(of) if of.iter().any(|o| o == answer) => Ok(answer.to_owned()),
        ParamKind::Enum(of) => Err(format!("expected one of {}, found {answer:?}", of.join(", "))),
        ParamKind::Hostname if hostname(answer) => Ok(answer.to_ascii_lowercase()),
        ParamKind::Hostname => Err(format!("expected a host name like shelf.example.org, found {answer:?}")),
        ParamKind::Url if url(answer) => Ok(answer.to_owned()),
        ParamKind::Url => Err(format!("expected an address like https://example.org/, found {answer:?}")),
        ParamKind::Path if path(answer) => Ok(answer.to_owned()),
        ParamKind::Path => Err(format!("expected an absolute path without \"..\", found {answer:?}")),
    }
}

fn bounds(param: &Param, value: i64) -> Result<(), String> {
    match (param.min, param.max) {
        (Some(min), _) if value < min => Err(format!("{value} is below the least allowed, {min}")),
        (_, Some(max)) if value > max => Err(format!("{value} is above the most allowed, {max}")),
        _ => Ok(()),
    }
}

fn scaled(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// Bytes of a text like `200MiB`, `5MB`, `17`. `5M` is refused: people disagree about what it means.
pub fn size(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 12] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("PiB", 1 << 50),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    scaled(text, &UNITS)
}

/// Milliseconds of a text like `30s`, `500ms`, `17`.
pub fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 6] =
        [("", 1), ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    scaled(text, &UNITS)
}

pub(super) fn hostname(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.map(|r| r.split(['/', '?', '#']).next().unwrap_or_default());
    authority.is_some_and(|a| !a.is_empty()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn path(text: &str) -> bool {
    text.starts_with('/') && text.split('/').all(|part| part != ".." && part != ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(kind: ParamKind, min: Option<i64>, max: Option<i64>) -> Param {
        Param { name: "p".into(), kind, ask: String::new(), default: None, min, max }
    }

    #[test]
    fn each_type_takes_its_own() {
        let good: [(ParamKind, &str, &str); 10] = [
            (ParamKind::Text, "Grüße", "Grüße"),
            (ParamKind::Int, "-3", "-3"),
            (ParamKind::Bool, "true", "true"),
            (ParamKind::Enum(vec!["a".into(), "b".into()]), "b", "b"),
            (ParamKind::Size, "200MiB", "209715200"),
            (ParamKind::Duration, "30s", "30000"),
            (ParamKind::Hostname, "Shelf.Example.org", "shelf.example.org"),
            (ParamKind::Port, "8080", "8080"),
            (ParamKind::Url, "https://example.org/x", "https://example.org/x"),
            (ParamKind::Path, "/srv/x", "/srv/x"),
        ];
        for (kind, answer, wanted) in good {
            assert_eq!(canonical(&ask(kind, None, None), answer).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn each_type_refuses_the_rest() {
        let bad = [
            (ParamKind::Text, "two\nlines"),
            (ParamKind::Int, "3.5"),
            (ParamKind::Bool, "yes"),
            (ParamKind::Enum(vec!["a".into()]), "c"),
            (ParamKind::Size, "5M"),
            (ParamKind::Size, "99999999999TiB"),
            (ParamKind::Duration, "soon"),
            (ParamKind::Hostname, "-x.org"),
            (ParamKind::Port, "0"),
            (ParamKind::Port, "65536"),
            (ParamKind::Url, "ftp://x"),
            (ParamKind::Path, "/srv/../etc"),
            (ParamKind::Path, "srv"),
        ];
        for (kind, answer) in bad {
            assert!(canonical(&ask(kind.clone(), None, None), answer).is_err(), "{kind:?} took {answer:?}");
        }
    }

    #[test]
    fn bounds_hold_in_the_unit_of_the_type() {
        let upload = ask(ParamKind::Size, Some(1), Some(2 << 30));
        assert!(canonical(&upload, "2GiB").is_ok());
        assert!(canonical(&upload, "3GiB").unwrap_err().contains("above"));
        assert!(canonical(&upload, "0").unwrap_err().contains("below"));
    }

    proptest::proptest! {
        #[test]
        fn canonical_texts_are_fixed_points(answer in "[0-9a-zA-Z./:-]{0,40}") {
            for kind in [ParamKind::Size, ParamKind::Duration, ParamKind::Hostname, ParamKind::Int, ParamKind::Url] {
                let param = ask(kind, None, None);
                if let Ok(once) = canonical(&param, &answer) {
                    proptest::prop_assert_eq!(canonical(&param, &once), Ok(once));
                }
            }
        }
    }
}
