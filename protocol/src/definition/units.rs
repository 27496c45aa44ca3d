//! Sizes and durations as people write them. Invariant: a text has one meaning or none; nothing overflows silently.

use crate::time::Span;

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// The longest duration: a year and a day, so that a typing error is found and sums of times cannot overflow.
const LONGEST: u64 = 366 * 86_400_000;

/// Bytes of a size such as `200MiB`, `1.5GB` or `4096B`.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(match SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit) || near(unit, name)) {
            Some((name, _)) => format!("{text:?} is not a size; write {number}{name}"),
            None => format!("{text:?} is not a size; write a number and a unit, such as 200MiB or 1.5GB"),
        });
    };
    decimal(number, *factor).ok_or_else(|| format!("{text:?} is not a size; write a number and a unit, such as 200MiB"))
}

/// Bytes for people: `1.5 KiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut units) = (n as f64 / 1024.0, UNITS.iter().peekable());
    while value >= 1023.95 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    format!("{value:.1} {}", units.peek().copied().unwrap_or(&"PiB"))
}

/// So many of something, for people: `1 file`, `2 files`.
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Compose's one-letter units.
fn near(unit: &str, name: &str) -> bool {
    unit.len() == 1
        && name.len() == 3
        && name.as_bytes().first().zip(unit.as_bytes().first()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// A duration such as `30s`, `500ms`, `2h30m`.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn duration(text: &str) -> Result<Span, String> {
    let bad = || format!("{text:?} is not a duration; write numbers with units, such as 30s, 500ms or 2h30m");
    let (mut rest, mut total, mut last) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, after) = split(rest);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        // Units fall, so that 1m1h and 1s1s cannot hide a slip of the finger.
        if *factor >= last {
            return Err(bad());
        }
        total = decimal(number, *factor).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        (rest, last) = (next, *factor);
    }
    match total {
        _ if last == u64::MAX => Err(bad()),
        t if t > LONGEST => Err(format!("{text:?} is longer than a year")),
        t => Ok(Span(t)),
    }
}

/// The number in front and what follows it.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// `number` × `factor`, exact: at most three decimals, which must come out whole.
fn decimal(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (fraction.is_empty() && number.contains('.')) || fraction.len() > 3 {
        return None;
    }
    let base: u64 = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(base);
    }
    let scale = 10u64.pow(u32::try_from(fraction.len()).ok()?);
    // u128 because a fraction of tebibytes leaves u64 on its way.
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    base.checked_add(u64::try_from(part / u128::from(scale)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536)], ["0 B", "1023 B", "1.5 KiB"]);
        assert_eq!([bytes(100 << 20), bytes((1 << 20) - 1)], ["100.0 MiB", "1.0 MiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn sizes_have_one_meaning() {
        assert_eq!(size("200MiB"), Ok(200 << 20));
        assert_eq!(size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(size("512m").unwrap_err(), "\"512m\" is not a size; write 512MiB");
        for bad in ["", "MiB", "1", "1.MiB", "1..2MiB", "-1MiB", "99999999999TiB", "1.23456MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_one_meaning() {
        assert_eq!(duration("30s"), Ok(Span(30_000)));
        assert_eq!(duration("2h30m"), Ok(Span(9_000_000)));
        assert_eq!(duration("1.5s"), Ok(Span(1_500)));
        for bad in ["", "30", "s", "1m1h", "1s1s", "999d", "1 s", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
