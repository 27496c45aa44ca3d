//! Texts with `${…}` in them. Invariant: substitution only, no logic; `$${` stands for a literal `${`, and any other `$`
//! stands for itself, so that shell snippets need no escaping.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Stands for itself.
    Text(String),
    /// What stood between `${` and `}`, split at its dots.
    Reference(Vec<String>),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("a \"${{\" at byte {at} is never closed; write \"$${{\" for the characters themselves")]
    Open {
        /// Where it begins.
        at: usize,
    },
    /// Something else than names and dots in between.
    #[error("\"${{{found}}}\" is no reference: only names of [a-z0-9_-] joined by dots may stand there")]
    Reference {
        /// What stood there, cut to 80 characters.
        found: String,
    },
}

/// Splits a text into its pieces; neighbouring texts are joined.
///
/// # Errors
/// See [`TemplateError`].
pub fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("$${") {
            plain.push_str("${");
            rest = after;
        } else if let Some(after) = from.strip_prefix("${") {
            let open = TemplateError::Open { at: text.len() - from.len() };
            let (inner, after) = after.split_once('}').ok_or(open)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Reference(reference(inner)?));
            rest = after;
        } else {
            plain.push('$');
            rest = from.strip_prefix('$').unwrap_or_default();
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn reference(inner: &str) -> Result<Vec<String>, TemplateError> {
    let name =
        |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    let parts: Vec<String> = inner.split('.').map(str::to_owned).collect();
    if parts.iter().all(|p| name(p)) {
        return Ok(parts);
    }
    Err(TemplateError::Reference { found: inner.chars().take(80).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Piece {
        Piece::Text(s.into())
    }
    fn reference(parts: &[&str]) -> Piece {
        Piece::Reference(parts.iter().map(|p| (*p).to_owned()).collect())
    }

    #[test]
    fn texts_and_references_take_turns() {
        let pieces = parse("http://${import.db.address}/x?$1&$$").expect("a template");
        assert_eq!(pieces, [text("http://"), reference(&["import", "db", "address"]), text("/x?$1&$$")]);
        assert_eq!(parse("").expect("empty"), []);
    }

    #[test]
    fn two_dollars_escape() {
        assert_eq!(parse("a $${HOME} b").expect("a template"), [text("a ${HOME} b")]);
    }

    #[test]
    fn what_is_not_closed_or_not_a_name_is_refused() {
        assert_eq!(parse("ab${x"), Err(TemplateError::Open { at: 2 }));
        for bad in ["${}", "${a..b}", "${a b}", "${A}", "${a.${b}}"] {
            assert!(matches!(parse(bad), Err(TemplateError::Reference { .. })), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_plain_text_survives(s in ".{0,200}") {
            if let Ok(pieces) = parse(&s) && !s.contains('$') {
                let joined: String = pieces.iter().map(|p| match p { Piece::Text(t) => t.as_str(), Piece::Reference(_) => "!" }).collect();
                proptest::prop_assert_eq!(joined, s);
            }
        }
    }
}
