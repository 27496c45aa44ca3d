//! The folder beside a definition, and advice. Invariant: what stops a publication is an error here already; advice is
//! a warning and stops nothing.

use super::{
    Definition, Fault, Lock, Problem, Severity, Sources, lock,
    references::{self, Scope},
    roles, source, substitution, trees,
};
use crate::release::{Probe, Role};
use std::collections::BTreeMap;

/// Checks what a definition needs of the folder beside it, and gives advice. Errors come first.
pub fn check(definition: &Definition, lock: Option<&Lock>, sources: &dyn Sources) -> Vec<Problem> {
    let mut problems = folders(definition, sources);
    problems.extend(templates(definition, sources).1);
    let empty = Lock::default();
    let (wrong, floating) = lock::fit(definition, lock.unwrap_or(&empty));
    // A pin that no longer fits is no mistake of the author's: it is chosen again before anything is compiled.
    let again = || Some("publishing chooses it again".to_owned());
    let outdated = wrong.into_iter().map(|f| f.hint(again()));
    let advice = outdated.chain(floating).chain(unverified(definition)).chain(permissions(definition));
    let advice = advice.chain(literal_secrets(definition)).chain(fixed_ports(definition));
    problems.extend(advice.map(|f| definition.warning(f)));
    problems.sort_by(|a, b| (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column)));
    problems.dedup();
    problems
}

fn folders(d: &Definition, sources: &dyn Sources) -> Vec<Problem> {
    let missing = trees(d).into_iter().filter(|t| !sources.is_dir(&t.dir));
    let fault = |t: super::TreeSource| {
        let what = if sources.is_file(&t.dir) { "is a file, not a folder" } else { "does not exist" };
        Fault::new(format!("role.{}.artifact.{}.tree", t.role, t.artifact), format!("the folder {:?} {what}", t.dir))
            .hint(Some(format!("build it, or point `tree` at the folder that becomes ${{artifact.{}}}", t.artifact)))
    };
    missing.map(|t| d.problem(fault(t))).collect()
}

/// The texts of all templates by role and path, and what is wrong with them.
pub(crate) fn templates(d: &Definition, sources: &dyn Sources) -> (BTreeMap<(String, String), String>, Vec<Problem>) {
    let (mut texts, mut problems) = (BTreeMap::new(), Vec::new());
    for t in &d.templates {
        let at = format!("role.{}.file.{}.template", t.role, t.path);
        let Some(text) = sources.text(&t.template) else {
            let why = if sources.is_file(&t.template) { "is not readable UTF-8 text" } else { "does not exist" };
            problems.push(d.problem(Fault::new(at, format!("the template {:?} {why}", t.template))));
            continue;
        };
        if let Some(role) = d.draft.roles.iter().find(|r| r.name == t.role) {
            let mut role = role.clone();
            roles::declare_used(&mut role.ports, &text);
            let mut faults = Vec::new();
            references::template(&mut faults, &d.draft, "", &text, Scope::Role(&role));
            for fault in faults {
                let offset = fault.token.as_deref().and_then(|token| text.find(token)).unwrap_or(0);
                let (line, column) = source::position(&text, offset);
                let (file, severity) = (t.template.clone(), Severity::Error);
                problems.push(Problem { file, line, column, severity, message: fault.message, hint: fault.hint });
            }
        }
        texts.insert((t.role.clone(), t.path.clone()), text);
    }
    (texts, problems)
}

fn unverified(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    if d.draft.tests.is_empty() {
        let hint = Some("add a [test]: it decides whether an update stays".to_owned());
        f.push(Fault::new("distro", "the distro has no test: devices will show it as \"unverified\"").hint(hint));
    }
    for (role, s) in d.draft.roles.iter().flat_map(|r| r.services.iter().map(move |s| (r, s))) {
        if s.healthcheck.is_none() {
            let hint = Some("add `healthcheck = { http = \":${port.NAME}/\" }`, or tcp, or exec".to_owned());
            let message = format!("the service {:?} has no healthcheck: started will count as healthy", s.name);
            f.push(Fault::new(format!("role.{}.service.{}", role.name, s.name), message).hint(hint));
        }
    }
    f
}

fn permissions(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut wide = |at: String, entry: &str, why: &str| {
        f.push(Fault::new(at, format!("{entry:?} {why}")).token(entry));
    };
    for role in &d.draft.roles {
        let at = format!("role.{}.allow", role.name);
        for entry in role.allow.connect.iter().filter(|e| e.ends_with(":*")) {
            wide(format!("{at}.connect"), entry, "allows every port: owners will ask why");
        }
        for entry in &role.allow.read {
            if matches!(entry.as_str(), "/" | "/etc" | "/home" | "/root" | "/proc" | "/sys" | "/var" | "/dev") {
                wide(format!("{at}.read"), entry, "is wide: name the files that are needed");
            }
        }
        for entry in role.allow.write.iter().filter(|e| e.starts_with('/')) {
            wide(format!("{at}.write"), entry, "is outside of the service: a volume keeps data with its generations");
        }
        for file in role.files.iter().filter(|f| f.mode & 0o002 != 0) {
            let mode = format!("{:04o}", file.mode);
            wide(format!("role.{}.file.{}.mode", role.name, file.path), &mode, "lets everybody write the file");
        }
    }
    f
}

/// Whether a key's name says that its value is a secret itself, not a path of one.
pub(crate) fn secretive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let path = ["_file", "_path", "_dir", "-file", "-path"].iter().any(|end| key.ends_with(end));
    let words =
        ["password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "passphrase", "credential"];
    !path && words.iter().any(|w| key.contains(w))
}

fn literal_secrets(d: &Definition) -> Vec<Fault> {
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
    let fault = |(at, key, _): (String, &str, &str)| {
        let hint = Some(
            "let each device make its own: [secret] NAME = { generate = \"bytes:32\" }, read as a file".to_owned(),
        );
        Fault::new(at, format!("{key:?} looks like a secret, and everybody would get the same one")).hint(hint)
    };
    pairs.into_iter().filter(literal).map(fault).collect()
}

/// A wished number that is written out where the node may have assigned another.
fn fixed_ports(d: &Definition) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut look = |role: &Role, at: String, text: &str| {
        for port in &role.ports {
            let Some(wish) = port.wish.map(|w| w.to_string()) else { continue };
            let after = text.split_once(&format!(":{wish}")).map(|(_, rest)| rest);
            if text == wish || after.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())) {
                let hint = Some(format!("write ${{port.{}}}", port.name));
                f.push(
                    Fault::new(&at, format!("{wish} is only a wish: the node may assign another port"))
                        .token(wish)
                        .hint(hint),
                );
            }
        }
    };
    for role in &d.draft.roles {
        for s in &role.services {
            let at = format!("role.{}.service.{}", role.name, s.name);
            s.command.iter().enumerate().for_each(|(n, t)| look(role, format!("{at}.command[{n}]"), t));
            s.environment.iter().for_each(|(n, t)| look(role, format!("{at}.environment.{n}"), t));
            match s.healthcheck.as_ref().map(|h| &h.probe) {
                Some(Probe::Http { url, .. }) => look(role, format!("{at}.healthcheck.http"), url),
                Some(Probe::Tcp { address }) => look(role, format!("{at}.healthcheck.tcp"), address),
                _ => {}
            }
        }
    }
    f
}
