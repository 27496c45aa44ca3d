//! Where which `${…}` may stand. Invariant: a reference that passes names something that the device can resolve at that
//! place without asking anybody; what lies behind an include is checked with the closure, in `closure.rs`.

use super::{
    ENOUGH, Fault, names,
    substitution::{self, Part, Reference},
};
use crate::release::{Probe, Release, Role};

/// The place of a template.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// In a service: everything of its role; secrets only those that the service lists.
    Service(&'a Role, &'a [String]),
    /// In a rendered file or a migration: everything of its role.
    Role(&'a Role),
    /// In a hook: as in a file, and the folder of the backup.
    Hook(&'a Role),
    /// In a field of an export: what other devices may know.
    Export(&'a Role),
    /// In a test: everything of its role and every export.
    Test(&'a Role),
    /// In an answer to an include's question.
    Answer,
}

/// Fields that every binding has.
pub(crate) const FIELDS: [&str; 4] = ["address", "host", "port", "url"];

impl<'a> Scope<'a> {
    fn role(self) -> Option<&'a Role> {
        match self {
            Self::Service(r, _) | Self::Role(r) | Self::Hook(r) | Self::Export(r) | Self::Test(r) => Some(r),
            Self::Answer => None,
        }
    }
}

/// Adds what is wrong with a template at `at`, until there is [`ENOUGH`].
pub(crate) fn template(f: &mut Vec<Fault>, release: &Release, at: &str, text: &str, scope: Scope<'_>) {
    if f.len() >= ENOUGH {
        return;
    }
    let one = |part: Result<Part, substitution::BadSubstitution>| match part {
        Ok(Part::Text(_)) => None,
        Ok(Part::Reference(reference)) => judge(release, &reference, scope).map(|(message, hint)| {
            Fault::new(at, format!("`{reference}` {message}")).token(reference.to_string()).hint(hint)
        }),
        Err(bad) => Some(Fault::new(at, bad.to_string()).token(bad.token).hint(bad.hint)),
    };
    f.extend(substitution::scan(text).into_iter().filter_map(one).take(ENOUGH - f.len()));
}

type Verdict = Option<(String, Option<String>)>;

fn known<'a>(name: &str, what: &str, all: impl Iterator<Item = &'a str> + Clone, add: &str) -> Verdict {
    if all.clone().any(|n| n == name) {
        return None;
    }
    let hint = names::meant(name, all).unwrap_or_else(|| format!("declare it in [{add}]"));
    Some((format!("is unknown: there is no {what} {name:?}"), Some(hint)))
}

fn judge(release: &Release, reference: &Reference, scope: Scope<'_>) -> Verdict {
    let Some(role) = scope.role() else {
        return match reference {
            Reference::Param(n) => known(n, "parameter", release.params.iter().map(|p| p.name.as_str()), "param"),
            Reference::Export { of, export, field } => exported(release, of, export, field),
            Reference::Secret(_) => Some((
                "cannot answer an include's question: secrets stay where they are made".into(),
                Some("the included distro makes its own secrets and exports them".into()),
            )),
            _ => {
                Some(("means nothing here: only parameters and exports may answer an include's question".into(), None))
            }
        };
    };
    let below = |part: &str| format!("role.{}.{part}", role.name);
    match reference {
        Reference::Param(n) => known(n, "parameter", release.params.iter().map(|p| p.name.as_str()), "param"),
        Reference::Secret(n) => secret(release, n, role, scope),
        Reference::Platform => Some(("is known in the folder of an artifact only".into(), None)),
        Reference::Port(n) => known(n, "port", role.ports.iter().map(|p| p.name.as_str()), &below("port")),
        Reference::Import { import, field } => {
            known(import, "import", role.imports.iter().map(|i| i.name.as_str()), &below("import"))
                .or_else(|| import_field(release, role, import, field))
        }
        Reference::Artifact(_) | Reference::Volume(_) | Reference::Files | Reference::Softservice
            if matches!(scope, Scope::Export(_)) =>
        {
            Some(("is a path of one device and means nothing on another".into(), None))
        }
        Reference::Artifact(n) => {
            known(n, "artifact", role.artifacts.iter().map(|a| a.name.as_str()), &below("artifact"))
        }
        Reference::Volume(n) => known(n, "volume", role.volumes.iter().map(|v| v.name.as_str()), &below("volume")),
        Reference::Files | Reference::Softservice => None,
        Reference::Backup if matches!(scope, Scope::Hook(_)) => None,
        Reference::Backup => Some(("is known in hooks only".into(), None)),
        Reference::Export { of, export, field } => {
            let foreign = *of != role.name && !matches!(scope, Scope::Test(_));
            exported(release, of, export, field).or_else(|| {
                foreign.then(|| {
                    let hint = format!("declare `import.{export} = {{ type = \"…\", from = \"{of}.{export}\" }}` and write `${{import.{export}.{field}}}`");
                    (format!("belongs to {of:?}; a role reaches others through its imports"), Some(hint))
                })
            })
        }
    }
}

fn secret(release: &Release, name: &str, role: &Role, scope: Scope<'_>) -> Verdict {
    if let unknown @ Some(_) = known(name, "secret", release.secrets.iter().map(|s| s.name.as_str()), "secret") {
        return unknown;
    }
    match scope {
        Scope::Export(_) => Some((
            "cannot be a plain field".into(),
            Some(format!("write `secrets = {{ FIELD = {name:?} }}` beside `fields`")),
        )),
        Scope::Service(_, listed) if !listed.iter().any(|s| s == name) => {
            Some(("is not among the service's secrets".into(), Some(format!("add {name:?} to its `secrets`"))))
        }
        _ if !release.secrets.iter().any(|s| s.name == name && s.roles.contains(&role.name)) => {
            Some((format!("is not for the role {:?}", role.name), Some(format!("add it to `for` in [secret] {name}"))))
        }
        _ => None,
    }
}

/// A field of an import whose export stands in the same definition; others are checked with the closure.
fn import_field(release: &Release, role: &Role, import: &str, field: &str) -> Verdict {
    let from = role.imports.iter().find(|i| i.name == import)?.from.as_deref()?;
    let (of, export) = from.split_once('.')?;
    release.roles.iter().find(|r| r.name == of)?;
    exported(release, of, export, field)
}

fn exported(release: &Release, of: &str, export: &str, field: &str) -> Verdict {
    if release.includes.iter().any(|i| i.name == of) {
        return None;
    }
    let all = release.roles.iter().map(|r| r.name.as_str()).chain(release.includes.iter().map(|i| i.name.as_str()));
    let Some(role) = release.roles.iter().find(|r| r.name == of) else {
        return known(of, "role or include", all, &format!("role.{of}"));
    };
    let Some(found) = role.exports.iter().find(|e| e.name == export) else {
        return known(export, "export", role.exports.iter().map(|e| e.name.as_str()), &format!("role.{of}.export"));
    };
    if found.from.is_some() {
        return None;
    }
    let own = || {
        found.fields.iter().map(|(f, _)| f.as_str()).chain(found.secrets.iter().map(|(f, _)| f.as_str())).chain(FIELDS)
    };
    if own().any(|f| f == field) {
        return None;
    }
    let hint = names::meant(field, own()).unwrap_or_else(|| format!("known: {}", own().collect::<Vec<_>>().join(", ")));
    Some((format!("names the field {field:?}, which {of}.{export} has not"), Some(hint)))
}

/// A template of a release, where it stands and in whose role.
pub(crate) struct Text<'a> {
    pub(crate) at: String,
    pub(crate) text: &'a str,
    pub(crate) role: Option<&'a str>,
}

/// Every template of a release.
pub(crate) fn texts_of<'r>(release: &'r Release) -> Vec<Text<'r>> {
    let mut all = Vec::new();
    for i in &release.includes {
        all.extend(i.with.iter().map(|(n, text)| Text {
            at: format!("include.{}.with.{n}", i.name),
            text,
            role: None,
        }));
    }
    for r in &release.roles {
        let (at, role) = (format!("role.{}", r.name), Some(r.name.as_str()));
        for e in &r.exports {
            let at = format!("{at}.export.{}.fields", e.name);
            all.extend(e.fields.iter().map(|(n, text)| Text { at: format!("{at}.{n}"), text, role }));
        }
        all.extend(r.files.iter().map(|f| Text { at: format!("{at}.file.{}", f.path), text: &f.template, role }));
        for s in &r.services {
            let at = format!("{at}.service.{}", s.name);
            all.extend(s.command.iter().enumerate().map(|(n, text)| Text {
                at: format!("{at}.command[{n}]"),
                text,
                role,
            }));
            all.extend(s.environment.iter().map(|(n, text)| Text { at: format!("{at}.environment.{n}"), text, role }));
            if let Some(h) = &s.healthcheck {
                probe(&h.probe, &format!("{at}.healthcheck"), role, &mut all);
            }
        }
        for h in &r.hooks {
            let at = format!("{at}.hook.{}.exec", h.kind.word());
            let one = |(n, text): (usize, &'r String)| Text { at: format!("{at}[{n}]"), text, role };
            all.extend(h.command.iter().enumerate().map(one));
        }
    }
    for t in &release.tests {
        probe(&t.probe, &format!("test.{}", t.name), Some(&t.role), &mut all);
    }
    if let Some(m) = &release.update.migrate {
        let one = |(n, text)| Text { at: format!("update.migrate.exec[{n}]"), text, role: Some(m.role.as_str()) };
        all.extend(m.command.iter().map(String::as_str).enumerate().map(one));
    }
    all
}

fn probe<'a>(probe: &'a Probe, at: &str, role: Option<&'a str>, all: &mut Vec<Text<'a>>) {
    match probe {
        Probe::Http { url, contains, .. } => {
            all.push(Text { at: format!("{at}.http"), text: url, role });
            all.extend(contains.iter().map(|text| Text { at: format!("{at}.contains"), text, role }));
        }
        Probe::Tcp { address } => all.push(Text { at: format!("{at}.tcp"), text: address, role }),
        Probe::Exec { command } => {
            all.extend(command.iter().enumerate().map(|(n, text)| Text { at: format!("{at}.exec[{n}]"), text, role }));
        }
    }
}
