//! Text that somebody else wrote, made safe to look at. Invariant: what [`Foreign`] prints has no character that moves
//! a cursor, starts an escape sequence, reorders what stands beside it or cannot be seen.

use std::fmt::{self, Write as _};

/// Peer-supplied text on its way to a terminal, a log or an error. Wrap it where it is printed; keep the text itself
/// as it came, since signatures cover it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign<T: AsRef<str>>(pub T);

impl<T: AsRef<str>> fmt::Display for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(self.0.as_ref(), f)
    }
}

/// In double quotes; a quote or backslash inside is escaped as well.
impl<T: AsRef<str>> fmt::Debug for Foreign<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for piece in self.0.as_ref().split_inclusive(['"', '\\']) {
            match piece.char_indices().next_back() {
                Some((at, quote @ ('"' | '\\'))) => {
                    escape(piece.get(..at).unwrap_or_default(), f)?;
                    write!(f, "\\{quote}")?;
                }
                _ => escape(piece, f)?,
            }
        }
        f.write_char('"')
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| match c {
        '\n' => f.write_str("\\n"),
        '\t' => f.write_str("\\t"),
        '\r' => f.write_str("\\r"),
        c if is_hidden(c) => write!(f, "\\u{{{:x}}}", u32::from(c)),
        c => f.write_char(c),
    })
}

/// A document as one line of JSON that can be looked at: what is hidden is written by its number, which means the same
/// to whoever reads it. JSON itself demands that of C0 alone, and terminals obey C1 and bidi controls as well.
pub fn json(document: &serde_json::Value) -> String {
    let text = document.to_string();
    if is_plain(&text) {
        return text;
    }
    // Hidden characters stand in strings only: between them compact JSON has nothing but ASCII that is seen.
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if is_hidden(c) {
            line.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
        line
    })
}

/// Whether a text is one line of characters that can all be seen.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(is_hidden)
}

/// Controls (C0 with ESC, DEL, C1), line separators, bidi controls, zero-width and other invisible characters.
/// Joined emoji are escaped too: a joiner hides as well inside letters, and nobody needs one to read a name.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mallory_cannot_move_the_cursor_or_turn_the_line_around() {
        assert_eq!(Foreign("\u{1b}[2Jgone\u{7}").to_string(), "\\u{1b}[2Jgone\\u{7}");
        assert_eq!(Foreign("a\u{202e}b\u{200b}c\u{9b}d\ne").to_string(), "a\\u{202e}b\\u{200b}c\\u{9b}d\\ne");
        assert_eq!(Foreign("Gästebuch 📖").to_string(), "Gästebuch 📖");
        assert_eq!(format!("{:?}", Foreign("a\"b\\")), "\"a\\\"b\\\\\"");
    }

    #[test]
    fn json_hides_nothing_and_means_the_same() {
        let value = serde_json::json!({ "a\u{7f}": "\u{1b}[2J\u{9b}\u{202e}\u{e0041}\n\"ü" });
        let line = json(&value);
        assert_eq!(line, r#"{"a\u007f":"\u001b[2J\u009b\u202e\udb40\udc41\n\"ü"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_ever_printed(text in "\\PC*|(\\p{C}|[a-z\"\\\\]){0,40}") {
            prop_assert!(is_plain(&Foreign(&text).to_string()));
            let quoted = format!("{:?}", Foreign(&text));
            prop_assert!(is_plain(&quoted));
            if is_plain(&text) { prop_assert_eq!(Foreign(&text).to_string(), text); }
        }
    }
}
