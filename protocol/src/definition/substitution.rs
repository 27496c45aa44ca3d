//! `${…}`: substitution only, no logic. Invariant: a text has one reading; `$${` stands for a plain `${`, and a `$`
//! in front of anything else stands for itself, so that `$host` of a web server's configuration needs no care.

use super::{ENOUGH, names};

/// Bytes in which a `${` must be closed: three names and two dots fit, and no text makes the search long.
const LONGEST: usize = 256;

/// What a `${…}` names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// `${param.NAME}`: the owner's answer, in canonical text.
    Param(String),
    /// `${secret.NAME}`: the path of the file that holds the secret.
    Secret(String),
    /// `${artifact.NAME}`: the path of the tree for this platform.
    Artifact(String),
    /// `${volume.NAME}`: the path of the volume.
    Volume(String),
    /// `${port.NAME}`: the number that the node assigned.
    Port(String),
    /// `${import.NAME.FIELD}`: `address`, `host`, `port`, `url` or a further field; of a secret field, its file's path.
    Import {
        /// The import.
        import: String,
        /// Its field.
        field: String,
    },
    /// `${ROLE.EXPORT.FIELD}` or `${INCLUDE.EXPORT.FIELD}`.
    Export {
        /// A role or an include of the same definition.
        of: String,
        /// What it exports.
        export: String,
        /// Its field.
        field: String,
    },
    /// `${files}`: the folder of the role's rendered files.
    Files,
    /// `${platform}`: `os/arch`, in the folder of an artifact only.
    Platform,
    /// `${softservice}`: the path of the node's own program.
    Softservice,
    /// `${backup}`: the folder that a hook writes a backup to or reads it from.
    Backup,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Param(n) => write!(f, "${{param.{n}}}"),
            Self::Secret(n) => write!(f, "${{secret.{n}}}"),
            Self::Artifact(n) => write!(f, "${{artifact.{n}}}"),
            Self::Volume(n) => write!(f, "${{volume.{n}}}"),
            Self::Port(n) => write!(f, "${{port.{n}}}"),
            Self::Import { import, field } => write!(f, "${{import.{import}.{field}}}"),
            Self::Export { of, export, field } => write!(f, "${{{of}.{export}.{field}}}"),
            Self::Files => f.write_str("${files}"),
            Self::Platform => f.write_str("${platform}"),
            Self::Softservice => f.write_str("${softservice}"),
            Self::Backup => f.write_str("${backup}"),
        }
    }
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(String),
    /// Is replaced on the device.
    Reference(Reference),
}

/// A `${…}` that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{token}` {why}")]
pub struct BadSubstitution {
    /// What stands there, cut to 80 characters.
    pub token: String,
    /// Its first byte in the text.
    pub at: usize,
    /// What is wrong.
    pub why: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

/// All pieces of a text, bad ones where they stand; after [`ENOUGH`] bad ones the rest is taken as it is.
pub fn scan(text: &str) -> Vec<Result<Part, BadSubstitution>> {
    let (mut parts, mut plain, mut at, mut bad_ones) = (Vec::new(), String::new(), 0, 0);
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let Some(dollar) = rest.find('$').filter(|_| bad_ones < ENOUGH) else {
            plain.push_str(rest);
            break;
        };
        let (before, from) = rest.split_at(dollar);
        plain.push_str(before);
        at += dollar;
        if from.starts_with("$${") {
            plain.push_str("${");
            at += 3;
        } else if let Some(body) = from.strip_prefix("${") {
            if !plain.is_empty() {
                parts.push(Ok(Part::Text(std::mem::take(&mut plain))));
            }
            let bad = |token: &str, (why, hint): (String, Option<String>)| BadSubstitution {
                token: token.chars().take(80).collect(),
                at,
                why,
                hint,
            };
            let end = body.bytes().take(LONGEST).position(|b| matches!(b, b'}' | b'\n'));
            let end = end.filter(|e| body.as_bytes().get(*e) == Some(&b'}'));
            let Some((inside, token)) = end.and_then(|e| Some((body.get(..e)?, from.get(..e + 3)?))) else {
                let open: String = from.chars().take(LONGEST).take_while(|c| *c != '\n').collect();
                parts.push(Err(bad(&open, ("is never closed".into(), Some("write `$${` for a plain `${`".into())))));
                at += 2;
                bad_ones += 1;
                continue;
            };
            parts.push(reference(inside).map(Part::Reference).map_err(|e| bad(token, e)));
            bad_ones += usize::from(parts.last().is_some_and(Result::is_err));
            at += token.len();
        } else {
            plain.push('$');
            at += 1;
        }
    }
    if !plain.is_empty() {
        parts.push(Ok(Part::Text(plain)));
    }
    parts
}

/// The pieces of a text.
///
/// # Errors
/// The first `${…}` that means nothing.
pub fn parse(text: &str) -> Result<Vec<Part>, BadSubstitution> {
    scan(text).into_iter().collect()
}

/// The references of a text, bad ones left out.
pub fn references(text: &str) -> Vec<Reference> {
    let reference = |p| match p {
        Ok(Part::Reference(r)) => Some(r),
        _ => None,
    };
    scan(text).into_iter().filter_map(reference).collect()
}

/// Replaces every reference by what `resolve` says.
///
/// # Errors
/// The first bad substitution, or the first error of `resolve`.
pub fn render<E: From<BadSubstitution>>(
    text: &str,
    mut resolve: impl FnMut(&Reference) -> Result<String, E>,
) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    for part in scan(text) {
        match part? {
            Part::Text(plain) => out.push_str(&plain),
            Part::Reference(reference) => out.push_str(&resolve(&reference)?),
        }
    }
    Ok(out)
}

/// Whether a text stands for itself.
pub fn is_literal(text: &str) -> bool {
    scan(text).iter().all(|p| matches!(p, Ok(Part::Text(_))))
}

fn reference(inside: &str) -> Result<Reference, (String, Option<String>)> {
    let parts: Vec<&str> = inside.split('.').collect();
    let own = |t: &str| t.to_owned();
    let named = parts.iter().all(|p| names::local(p).is_ok());
    match parts.as_slice() {
        _ if !named => Err((
            "is not a reference; substitution knows names and dots only".into(),
            Some(format!("write `$${{{inside}}}` to keep it as it stands")),
        )),
        ["files"] => Ok(Reference::Files),
        ["platform"] => Ok(Reference::Platform),
        ["softservice"] => Ok(Reference::Softservice),
        ["backup"] => Ok(Reference::Backup),
        ["param", n] => Ok(Reference::Param(own(n))),
        ["secret", n] => Ok(Reference::Secret(own(n))),
        ["artifact", n] => Ok(Reference::Artifact(own(n))),
        ["volume", n] => Ok(Reference::Volume(own(n))),
        ["port", n] => Ok(Reference::Port(own(n))),
        ["import", n, field] => Ok(Reference::Import { import: own(n), field: own(field) }),
        ["import", n] => {
            Err(("names no field".into(), Some(format!("write `${{import.{n}.address}}`, or host, port, url"))))
        }
        [first, ..] if names::RESERVED.contains(first) => Err((format!("does not fit `{first}`"), Some(shape(first)))),
        [of, export, field] => Ok(Reference::Export { of: own(of), export: own(export), field: own(field) }),
        [of, export] if names::nearest(of, names::RESERVED).is_none() => {
            Err(("names no field".into(), Some(format!("write `${{{of}.{export}.address}}`, or host, port, url"))))
        }
        [first, rest @ ..] => Err((
            "is unknown".into(),
            names::nearest(first, names::RESERVED)
                .map(|word| format!("did you mean `${{{}}}`?", [&[word], rest].concat().join("."))),
        )),
        [] => Err(("is empty".into(), None)),
    }
}

fn shape(word: &str) -> String {
    match word {
        "files" | "platform" | "softservice" => format!("write `${{{word}}}` alone"),
        "import" => "write `${import.NAME.FIELD}`".into(),
        word => format!("write `${{{word}.NAME}}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_one_reading() {
        let text = "a $host $${x} ${param.p}:${web.app.url}$";
        let parts = parse(text).unwrap();
        assert_eq!(parts[0], Part::Text("a $host ${x} ".into()));
        assert_eq!(parts[1], Part::Reference(Reference::Param("p".into())));
        let shown = render::<BadSubstitution>(text, |r| Ok(format!("<{r}>"))).unwrap();
        assert_eq!(shown, "a $host ${x} <${param.p}>:<${web.app.url}>$");
    }

    #[test]
    fn mistakes_are_explained() {
        let error = |text: &str| parse(text).unwrap_err();
        assert!(error("${parm.x}").hint.unwrap().contains("${param.x}"));
        assert!(error("${x:-1}").hint.unwrap().contains("$${x:-1}"));
        assert!(error("x ${open").why.contains("never closed"));
        assert_eq!(error("x ${open").at, 2);
        assert!(error("${import.db}").hint.unwrap().contains("address"));
        assert!(error("${}").why.contains("not a reference"));
        assert_eq!(scan("${a} ${b}").iter().filter(|p| p.is_err()).count(), 2, "all mistakes in one pass");
    }
}
