//! Secrets that stand in a definition. Whoever publishes one gives the same to everybody.

use super::Texts;
use crate::{
    definition::{Definition, FILE, Fault, Problem, Severity, Sources, references, source, substitution},
    secrets::{Finding, Place, Scanner},
};
use std::collections::{BTreeMap, BTreeSet};

const HINT: &str = "let each device make its own: [secret] NAME = { generate = \"bytes:32\" }, read as a file";

/// What ends the name of a key whose value is a secret.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "private_key",
    "passphrase",
    "credential",
    "credentials",
];

/// Whether a key's name says that its value is a secret itself, not a path of one.
pub(crate) fn secretive(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let path = ["_file", "_path", "_dir"].iter().any(|end| key.ends_with(end));
    !path && WORDS.iter().any(|w| key.contains(w))
}

/// Values in variables, fields and answers whose names say what they are: where, name and value.
fn named(d: &Definition) -> impl Iterator<Item = (String, &str, &str)> {
    let mut pairs: Vec<(String, &str, &str)> = Vec::new();
    for role in &d.draft.roles {
        let at = format!("role.{}", role.name);
        for s in &role.services {
            let at = format!("{at}.service.{}.environment", s.name);
            pairs.extend(s.environment.iter().map(|(n, t)| (format!("{at}.{n}"), n.as_str(), t.as_str())));
        }
        for e in &role.exports {
            let at = format!("{at}.export.{}.fields", e.name);
            pairs.extend(e.fields.iter().map(|(n, t)| (format!("{at}.{n}"), n.as_str(), t.as_str())));
        }
    }
    for i in &d.includes {
        pairs.extend(i.with.iter().map(|(n, t)| (format!("include.{}.with.{n}", i.name), n.as_str(), t.as_str())));
    }
    for p in &d.draft.params {
        pairs.extend(p.default.iter().map(|t| (format!("param.{}.default", p.name), p.name.as_str(), t.as_str())));
    }
    let literal =
        |(_, key, text): &(String, &str, &str)| secretive(key) && !text.is_empty() && substitution::is_literal(text);
    pairs.into_iter().filter(literal)
}

/// The same, and private keys anywhere.
pub(super) fn literal(d: &Definition) -> Vec<Fault> {
    let fault = |(at, key, _): (String, &str, &str)| {
        Fault::new(at, format!("{key:?} looks like a secret, and everybody would get the same one"))
            .hint(Some(HINT.into()))
    };
    let keys = references::texts_of(&d.draft).into_iter().filter(|t| private_key(t.text).is_some());
    let keys = keys.map(|t| Fault::new(t.at, KEY).hint(Some(key_hint())));
    named(d).map(fault).chain(keys).collect()
}

/// What of a definition and its templates must not be published; templates that cannot be read are others' to tell of.
pub(crate) fn findings(d: &Definition, sources: &dyn Sources) -> Vec<Finding> {
    let line = |at: &str| d.warning(Fault::new(at, "")).line;
    let mut found: Vec<Finding> =
        named(d).filter_map(|(at, _, value)| Finding::of_value(FILE, line(&at), value)).collect();
    found.extend(Scanner::placed(FILE, Place::Definition).whole(d.text().as_bytes()));
    // Programs of services, and those of hooks, migrations and probes.
    let runs = |at: &str| at.contains(".command[") || at.contains(".exec[");
    let mut commands: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let texts: Vec<_> = references::texts_of(&d.draft).into_iter().filter(|t| runs(&t.at)).collect();
    for text in &texts {
        let line = line(&text.at);
        let inside = Scanner::placed(FILE, Place::Own).whole(text.text.as_bytes());
        found.extend(inside.into_iter().map(|f| Finding { line, ..f }));
        let command = text.at.rsplit_once('[').map_or(text.at.as_str(), |(command, _)| command);
        commands.entry(command).or_default().push(text.text);
    }
    for (at, command) in &commands {
        found.extend(Finding::of_command(FILE, line(&format!("{at}[0]")), command));
    }
    let templates: BTreeSet<&String> = d.templates.iter().map(|t| &t.template).collect();
    for path in templates {
        let text = sources.text(path).unwrap_or_default();
        found.extend(Scanner::placed(path, Place::Own).whole(text.as_bytes()));
    }
    found.sort();
    found.dedup();
    found
}

const KEY: &str = "a private key stands here, and everybody would get the same one";

fn key_hint() -> String {
    "let each device make its own: [secret] NAME = { generate = \"keypair:ed25519\" }".into()
}

/// Where a private key begins.
fn private_key(text: &str) -> Option<usize> {
    let begins = text.match_indices("-----BEGIN ");
    let private = |at: usize| {
        let line = text.get(at..).unwrap_or_default().lines().next().unwrap_or_default();
        line.contains("PRIVATE KEY")
    };
    begins.map(|(at, _)| at).find(|at| private(*at))
}

/// The same in templates, whose format is not known: lines of `key = value` or `key: value`.
pub(super) fn in_templates(d: &Definition, texts: &Texts) -> Vec<Problem> {
    let mut problems = Vec::new();
    for template in &d.templates {
        let Some(text) = texts.get(&(template.role.clone(), template.path.clone())) else { continue };
        let mut warn = |offset: usize, message: String, hint: String| {
            let (line, column) = source::position(text, offset);
            let (file, severity, hint) = (template.template.clone(), Severity::Warning, Some(hint));
            problems.push(Problem { file, line, column, severity, message, hint });
        };
        if let Some(at) = private_key(text) {
            warn(at, KEY.into(), key_hint());
        }
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            if let Some((key, at)) = assignment(line) {
                let message = format!("{key:?} looks like a secret, and everybody would get the same one");
                warn(offset + at, message, HINT.into());
            }
            offset += line.len();
        }
    }
    problems
}

/// The key of a line that gives a secret a plain value, and where it stands. A key counts only when such a word ends it:
/// `password_encryption = md5` is no secret.
fn assignment(line: &str) -> Option<(&str, usize)> {
    let start = line.len() - line.trim_start().len();
    if line.trim_start().starts_with(['#', ';', '/', '*', '<']) {
        return None;
    }
    let (before, value) = line.split_at(line.find(['=', ':'])?);
    let key = before.trim().trim_matches(['"', '\'']);
    let word = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).next().unwrap_or(key);
    let last = word.to_ascii_lowercase().replace('-', "_");
    if !WORDS.iter().any(|w| last.ends_with(w)) {
        return None;
    }
    let value = value.trim_start_matches(['=', ':', '>']).trim().trim_end_matches([',', ';']);
    let value = value.trim_matches(['"', '\'']);
    let said = ["true", "false", "yes", "no", "on", "off", "none", "null", "never", "required"];
    let plain = !value.is_empty()
        && !value.starts_with(['/', '{', '[', '$', '<'])
        && !said.contains(&value.to_ascii_lowercase().as_str())
        && substitution::is_literal(value);
    plain.then(|| (word, line.get(start..).and_then(|l| l.find(word)).map_or(start, |at| start + at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_give_secrets_away_are_found_and_others_are_not() {
        let found = |line: &str| assignment(line).map(|(key, at)| (key.to_owned(), at));
        assert_eq!(found("  db_password = hunter2;\n"), Some(("db_password".into(), 2)));
        assert_eq!(found("\"api-key\": \"abc\",\n"), Some(("api-key".into(), 1)));
        assert_eq!(found("set auth token: abc"), Some(("token".into(), 9)));
        for fine in [
            "password = ${secret.x}",
            "password_file = x",
            "password_encryption = scram-sha-256",
            "token = /run/token",
            "token =",
            "# password = x",
            "tokens are good",
            "require_password = true",
        ] {
            assert_eq!(found(fine), None, "{fine}");
        }
    }
}
