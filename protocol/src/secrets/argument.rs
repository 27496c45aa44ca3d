//! Values that are arguments of their own behind the option that names them: `"--password", "…"`, the same over the lines of
//! a list, `--password …`; and `-p…` of the programs that take it so. Invariant: each look goes a bounded way.

use super::value::{self, Rule};
use std::ops::Range;

/// The longest value with what stands before it.
const VALUE: usize = 700;
/// The most blanks between two of a list.
const BLANKS: usize = 120;

/// The value behind an option: where it begins, and whether it is one of a list, where no sentence stands.
pub(super) fn behind<'a>(text: &'a [u8], option: Range<usize>, line: &[u8]) -> Option<(usize, &'a [u8], bool)> {
    if text.get(option.start) != Some(&b'-') {
        return None;
    }
    let rest = text.get(option.end..text.len().min(option.end + VALUE))?;
    let found = |at: usize, value: &'a [u8], listed| Some((option.end + at, value, listed));
    let quote = rest.first().copied().filter(|b| b"\"'".contains(b));
    let (close, before) = match quote {
        Some(quote) => (1, line.strip_suffix(&[quote])?),
        None => (0, line),
    };
    let blank = |at: usize| at + rest.iter().skip(at).take(BLANKS).take_while(|b| b.is_ascii_whitespace()).count();
    // An item of YAML: the value is the next one.
    if before.trim_ascii() == b"-" {
        let at = blank(close);
        let between = rest.get(close..at)?;
        if !between.contains(&b'\n') || rest.get(at) != Some(&b'-') || rest.get(at + 1) != Some(&b' ') {
            return None;
        }
        let at = blank(at + 1);
        let value = rest.get(at..)?.split(|b| b"\r\n".contains(b)).next()?.trim_ascii_end();
        return match quoted(value) {
            Some(inner) => found(at + 1, inner, true),
            None => found(at, value.split(|b| b.is_ascii_whitespace()).next()?, true),
        };
    }
    if quote.is_some() {
        let comma = blank(close);
        let at = blank(comma + 1);
        return (rest.get(comma) == Some(&b',')).then(|| found(at + 1, quoted(rest.get(at..)?)?, true)).flatten();
    }
    let at = rest.iter().take_while(|b| b" \t".contains(b)).count();
    let value = rest.get(at..).filter(|_| at > 0)?;
    if let Some(inner) = quoted(value) {
        return found(at + 1, inner, false);
    }
    let ends = |b: &u8| b.is_ascii_whitespace() || b"\"'`;|&<>()[]{},\\".contains(b);
    found(at, value.get(..value.iter().position(ends).unwrap_or(value.len()))?, false)
}

/// What stands in the quotes that this begins with.
fn quoted(value: &[u8]) -> Option<&[u8]> {
    let (quote, inner) = value.split_first().filter(|(b, _)| b"\"'".contains(b))?;
    inner.get(..inner.iter().position(|b| b == quote)?)
}

/// Programs that take a password as `-p…`.
const PROGRAMS: [&str; 13] = [
    "mysql",
    "mysqladmin",
    "mysqlcheck",
    "mysqldump",
    "mysqlimport",
    "mysqlsh",
    "mysqlshow",
    "mariadb",
    "mariadb-admin",
    "mariadb-check",
    "mariadb-dump",
    "mariadb-import",
    "sshpass",
];

/// Passwords behind `-p` in a command of such a program, or in one that a shell reads.
pub(super) fn short<'a>(command: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut known = false;
    for word in command.iter().flat_map(|text| text.split_whitespace()) {
        let bare = word.trim_matches(['"', '\'']);
        if PROGRAMS.contains(&bare.rsplit('/').next().unwrap_or(bare)) {
            known = true;
        } else if let Some(password) = bare.strip_prefix("-p").filter(|_| known).map(|p| p.trim_matches(['"', '\'']))
            && value::is_plausible(password.as_bytes(), Rule::Own)
        {
            found.push(password);
        }
        // What a shell reads next is another command.
        known &= !word.ends_with([';', '|', '&']);
    }
    found
}
