//! Which names, kinds, paths and lines a definition and a release may use. Invariant: what passes looks on every
//! screen like what it is: no control character, no direction override, one spelling.

use crate::{limits, text::is_hidden};
use unicode_normalization::UnicodeNormalization;

/// Words that begin a `${…}`; no role and no include may be called so.
pub(crate) const RESERVED: [&str; 9] =
    ["param", "secret", "artifact", "files", "volume", "port", "import", "platform", "softservice"];

fn spelled(text: &str, what: &str, extra: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || extra.contains(c);
    if text.is_empty() || text.len() > limits::NAME_BYTES || text.starts_with('-') || !text.chars().all(fine) {
        let shown: String = text.chars().take(80).collect();
        return Err(format!(
            "{shown:?} is not a {what}: 1 to {} of a-z, 0-9{}, not beginning with a dash",
            limits::NAME_BYTES,
            if extra.is_empty() { " and -" } else { ", - and _" },
        ));
    }
    Ok(())
}

/// A distro's, role's or service's name: it becomes part of paths, addresses and process names.
pub(crate) fn strict(text: &str) -> Result<(), String> {
    spelled(text, "name", "")
}

/// A name that only this definition sees, such as a parameter's or a test's.
pub(crate) fn local(text: &str) -> Result<(), String> {
    spelled(text, "name", "_")
}

/// The kind of a binding: `postgresql/1`.
pub(crate) fn kind(text: &str) -> Result<(), String> {
    let bad =
        || format!("{text:?} is not the type of a binding: a name, a slash and a whole number, such as postgresql/1");
    let (name, version) = text.split_once('/').ok_or_else(bad)?;
    let number = version.parse::<u16>().map_err(|_| bad())?;
    if strict(name).is_err() || number == 0 || version != number.to_string() {
        return Err(bad());
    }
    Ok(())
}

/// An `os/arch` pair.
pub(crate) fn platform(text: &str) -> Result<(), String> {
    match text.split_once('/') {
        Some((os, arch)) if local(os).is_ok() && local(arch).is_ok() => Ok(()),
        _ => Err(format!("{text:?} is not a platform: an os, a slash and an architecture, such as linux/amd64")),
    }
}

/// A name of an environment variable.
pub(crate) fn variable(text: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = text.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if !first || text.len() > limits::COMPONENT_BYTES || !text.chars().all(fine) {
        return Err(format!("{text:?} is not the name of a variable: A-Z, a-z, 0-9 and _, not beginning with a digit"));
    }
    Ok(())
}

/// One line of text that a person reads.
pub(crate) fn line(text: &str) -> Result<(), String> {
    match text.chars().find(|c| is_hidden(*c)) {
        Some(c) => Err(format!("the character U+{:04X} is not allowed here", u32::from(c))),
        None if text.len() > limits::LINE_BYTES => Err(format!("longer than {} bytes", limits::LINE_BYTES)),
        None => Ok(()),
    }
}

/// Text of any number of lines.
pub(crate) fn block(text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        Some(c) => Err(format!("the control character U+{:04X} is not allowed here", u32::from(c))),
        None => Ok(()),
    }
}

fn components(text: &str, path: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the path {path:?} {why}"));
    if path.len() > limits::PATH_BYTES || text.split('/').count() > limits::TREE_DEPTH {
        return wrong("is too long or too deep");
    }
    if path.chars().any(|c| is_hidden(c) || c == '\\') || path.nfc().ne(path.chars()) {
        return wrong("holds a control character, a backslash or a letter in an unusual form");
    }
    for part in text.split('/') {
        match part {
            "" => return wrong("has an empty part"),
            "." => return wrong("holds the part \".\", which means nothing"),
            ".." => return wrong("would leave its folder through \"..\""),
            p if p.len() > limits::COMPONENT_BYTES => return wrong("has a part that is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// A path that stays below its folder.
pub(crate) fn relative(path: &str) -> Result<(), String> {
    match path {
        "" => Err("the path is empty".into()),
        p if p.starts_with('/') => Err(format!("the path {p:?} is absolute; it must be below the definition's folder")),
        p => components(p, p),
    }
}

/// A path of the device, in its one spelling.
pub(crate) fn absolute(path: &str) -> Result<(), String> {
    match path.strip_prefix('/') {
        None => Err(format!("the path {path:?} must be absolute")),
        Some("") => Ok(()),
        Some(rest) => components(rest, path),
    }
}

/// The candidate that was probably meant: few letters differ, or one begins with the other.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = word.len() / 3 + 1;
    candidates
        .into_iter()
        .filter(|c| word.len() <= GUESSED && c.len() <= GUESSED && c.len().abs_diff(word.len()) <= word.len())
        .map(|c| (if c.len() > 2 && (word.starts_with(c) || c.starts_with(word)) { 1 } else { distance(word, c) }, c))
        .filter(|(d, c)| *d <= close && *d < c.chars().count())
        .min()
        .map(|(_, c)| c)
}

/// Longest word that a suggestion is made for: guessing is quadratic work.
const GUESSED: usize = 32;

/// Letters to insert, remove, replace or swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut best = (row[j] + usize::from(a[i] != b[j])).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

/// "did you mean …?", when something is near enough.
pub(crate) fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|c| format!("did you mean `{c}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        assert_eq!(nearest("healthchek", ["command", "healthcheck"]), Some("healthcheck"));
        assert_eq!(nearest("versoin", ["version", "revision"]), Some("version"));
        assert_eq!(nearest("xyzzy", ["version", "revision"]), None);
    }

    #[test]
    fn paths_stay_where_they_are() {
        assert!(relative("build/linux/amd64").is_ok() && absolute("/var/lib/shelf").is_ok());
        for bad in ["", "/etc", "../x", "a/../b", "a//b", "./a", "a/", "a\\b", "a\nb", "e\u{301}"] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_cannot_deceive() {
        assert!(strict("photo-shelf").is_ok() && local("sql_up").is_ok() && kind("postgresql/1").is_ok());
        for bad in ["", "-a", "A", "a_b", "a b", "a\u{7}", "ä", &"a".repeat(64)] {
            assert!(strict(bad).is_err(), "{bad:?}");
        }
        for bad in ["http", "http/", "http/0", "http/01", "HTTP/1", "http/99999"] {
            assert!(kind(bad).is_err(), "{bad:?}");
        }
    }
}
