//! Names of distros, channels, roles, parameters and the like. Invariant: a name that passes is one to
//! [`crate::limits::NAME_BYTES`] of `a-z`, `0-9` and `-`, not `-` first, so that it reads alike in a terminal, a path, a QR code and
//! an environment, and no two names look the same.

use crate::{limits, text::Foreign};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing stands there.
    #[error("name is empty: use 1 to {} of a-z, 0-9 and -", limits::NAME_BYTES)]
    Empty,
    /// More than [`limits::NAME_BYTES`].
    #[error("name {:?} has {length} bytes: use at most {}", Foreign(.found), limits::NAME_BYTES)]
    TooLong {
        /// Its beginning, cut to 80 characters.
        found: String,
        /// How many bytes it has.
        length: usize,
    },
    /// A character that names do not have.
    #[error("name {:?} has '{}' as character {at}: use only a-z, 0-9 and -", Foreign(.found), Foreign(.character.to_string()))]
    Character {
        /// The name, cut to 80 characters.
        found: String,
        /// The character.
        character: char,
        /// Where it stands, from 1.
        at: usize,
    },
    /// A hyphen at the beginning: a command line reads it as a flag, a ticket writes `-` alone for "no distro".
    #[error("name {:?} begins with a hyphen: begin with a letter or digit", Foreign(.found))]
    Hyphen {
        /// The name.
        found: String,
    },
}

/// Checks that `name` is a name.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    let found = || name.chars().take(80).collect::<String>();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some((at, character)) = name.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        return Err(NameError::Character { found: found(), character, at: at + 1 });
    }
    if name.len() > limits::NAME_BYTES {
        return Err(NameError::TooLong { found: found(), length: name.len() });
    }
    if name.starts_with('-') {
        return Err(NameError::Hyphen { found: found() });
    }
    Ok(())
}

/// What a name looks like: equal for names that eyes take for each other, such as `guestbook` and `guestb00k`, `rnail`
/// and `mail`. The skeleton of UTS 39, in lower case, since zero's prototype there is the capital letter. For comparing
/// only; names of any alphabet will do, so that it judges petnames and what strangers call themselves alike.
pub fn skeleton(name: &str) -> String {
    unicode_security::confusable_detection::skeleton(name).flat_map(char::to_lowercase).collect()
}

/// Whether two different names look the same.
pub fn are_confusable(one: &str, other: &str) -> bool {
    one != other && skeleton(one) == skeleton(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_found() {
        for (one, other) in [
            ("guestbook", "guestb00k"),
            ("mail", "rnail"),
            ("mail", "mai1"),
            ("wiki", "w\u{456}ki"),
            ("paypal", "\u{440}\u{430}ypal"),
            ("wiki", "w\u{200b}iki"),
        ] {
            assert!(are_confusable(one, other) && are_confusable(other, one), "{one} {other}");
        }
        for (one, other) in [("mail", "mail"), ("mail", "mall"), ("guestbook", "guest-book"), ("web", "wed")] {
            assert!(!are_confusable(one, other), "{one} {other}");
        }
    }

    #[test]
    fn names_at_the_limit_pass_and_one_more_fails() {
        assert_eq!(check(&"a".repeat(63)), Ok(()));
        assert!(matches!(check(&"a".repeat(64)), Err(NameError::TooLong { length: 64, .. })));
        assert_eq!(check("guest-book-2"), Ok(()));
        assert_eq!(check(""), Err(NameError::Empty));
        assert!(matches!(check("-"), Err(NameError::Hyphen { .. })));
        assert!(matches!(check("-web"), Err(NameError::Hyphen { .. })));
    }

    #[test]
    fn the_wrong_character_is_named_with_its_place() {
        let error = check("gu\u{202e}est").unwrap_err();
        assert!(matches!(error, NameError::Character { character: '\u{202e}', at: 3, .. }));
        assert!(!error.to_string().contains('\u{202e}'), "{error}");
        for bad in ["Web", "a_b", "a.b", "a/b", "ä", "a b", "a\n"] {
            assert!(matches!(check(bad), Err(NameError::Character { .. })), "{bad:?}");
        }
    }
}
