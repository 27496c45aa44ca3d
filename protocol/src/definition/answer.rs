//! What may answer a question in a definition: defaults, bounds, and what `with` gives to an include. Invariant: what is
//! accepted here is accepted on every device, since [`crate::instance::param`] judges in both places.

use super::{names, units};
use crate::{
    instance::param,
    release::{Param, ParamKind},
};

/// The canonical text of an answer to `asked`; this is what `${param.NAME}` becomes: sizes are bytes, durations are
/// milliseconds.
///
/// # Errors
/// What is wrong with the answer, for people.
pub fn accept(asked: &Param, text: &str) -> Result<String, String> {
    names::line(text)?;
    // Definitions spell sizes and durations in one way everywhere: 1.5GB and 2h30m are fine in a default too.
    let plain = text.chars().all(|c| c.is_ascii_digit());
    let number = match asked.kind {
        ParamKind::Size if !plain => Some(units::size(text)?),
        ParamKind::Duration if !plain => Some(units::duration(text)?.0),
        _ => None,
    };
    param::canonical(asked, &number.map_or_else(|| text.to_owned(), |n| n.to_string()))
}

/// The canonical text of an answer of this kind, whatever the bounds.
pub(crate) fn unbounded(kind: &ParamKind, text: &str) -> Result<String, String> {
    let asked =
        Param { name: String::new(), kind: kind.clone(), ask: String::new(), default: None, min: None, max: None };
    accept(&asked, text)
}

/// How a kind is called in a definition.
pub fn kind_word(kind: &ParamKind) -> &'static str {
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
            (ParamKind::Size, "1.5GB", "1500000000"),
            (ParamKind::Duration, "2h30m", "9000000"),
            (ParamKind::Int, "-007", "-7"),
            (ParamKind::Hostname, "Shelf.Example", "shelf.example"),
            (ParamKind::Port, "080", "80"),
        ];
        for (kind, given, wanted) in cases {
            assert_eq!(unbounded(&kind, given).as_deref(), Ok(wanted));
            assert_eq!(unbounded(&kind, wanted).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn a_wrong_unit_is_explained() {
        assert_eq!(unbounded(&ParamKind::Size, "5m").unwrap_err(), "\"5m\" is not a size; write 5MiB");
        assert!(unbounded(&ParamKind::Size, "99999999999999999999").is_err());
    }
}
