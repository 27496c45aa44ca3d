//! Substitution: what each reference stands for. Invariant: every evaluation ends: depth is bounded, and so is the
//! number of references followed, so that templates of a hostile release cannot multiply.

use super::{
    Answers, Assignment, BACKUP, HOST,
    component::{Component, Components},
    error::InstanceError,
    sandbox::{Network, Reach},
};
use crate::{
    definition::{
        answer,
        substitution::{self, Part, Reference},
    },
    release::{Export, Generate, Import, Role},
};
use std::{cell::Cell, collections::BTreeSet};

/// Deepest chain of references: includes inside each other, each with an export passed on and a field.
const DEPTH: usize = 64;
/// References followed in one resolution; a closure of 256 distros uses some thousands.
const FOLLOWED: usize = 1_000_000;
/// Bytes of one text after substitution.
const TEXT_BYTES: usize = 1 << 20;
/// Bytes of all texts of one resolution together.
const ALL_BYTES: usize = 64 << 20;

/// Where a template stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s, 'a> {
    pub(super) component: &'s Component<'a>,
    pub(super) role: &'s Role,
    pub(super) view: View,
}

/// From where a template looks at its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The role's own programs and files: `${port.X}` is where they listen themselves.
    Inside,
    /// A hook: as inside, and `${backup}` means something.
    Hook,
    /// Tests, bindings, endpoints: `${port.X}` is where others reach it.
    Outside,
}

/// What a binding leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'s, 'a> {
    pub(super) component: &'s Component<'a>,
    pub(super) role: &'s Role,
    pub(super) export: &'s Export,
}

/// A secret on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Component, secret.
    pub(super) key: String,
    /// Its file.
    pub(super) path: String,
    /// Of a keypair, the file of its public half.
    pub(super) public: Option<String>,
}

impl Kept {
    /// Every file of it.
    pub(super) fn files(self) -> impl Iterator<Item = String> {
        std::iter::once(self.path).chain(self.public)
    }
}

/// A value of a reference, or why there is none.
type Found<T> = Result<T, Lost>;

/// Why a reference has no value.
#[derive(Debug)]
pub(super) enum Lost {
    /// To be told with the reference and its place.
    Why(String),
    /// Already told.
    Told(InstanceError),
}
impl From<InstanceError> for Lost {
    fn from(error: InstanceError) -> Self {
        Self::Told(error)
    }
}
impl Lost {
    /// As an error about `reference` at `place`.
    pub(super) fn at(self, place: &str, reference: &str) -> InstanceError {
        match self {
            Self::Told(error) => error,
            Self::Why(why) => InstanceError::Reference { place: place.into(), reference: reference.into(), why },
        }
    }
}

/// Everything that substitution looks at.
#[derive(Debug)]
pub(super) struct Binder<'s, 'a> {
    pub(super) components: &'s Components<'a>,
    pub(super) answers: &'s Answers,
    /// None while needs are found: bindings are followed, but nothing has a place yet.
    pub(super) assignment: Option<&'s Assignment>,
    /// Numbers of all ports of the softservice.
    own: BTreeSet<u16>,
    followed: Cell<usize>,
    filled: Cell<usize>,
}

fn known<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "there is none".into() } else { format!("there are {}", names.join(", ")) }
}

impl<'s, 'a> Binder<'s, 'a> {
    pub(super) fn new(
        components: &'s Components<'a>,
        answers: &'s Answers,
        assignment: Option<&'s Assignment>,
    ) -> Self {
        let own = assignment.iter().flat_map(|a| a.ports.values().chain(a.inner.values())).copied().collect();
        Self { components, answers, assignment, own, followed: Cell::new(0), filled: Cell::new(0) }
    }

    /// Whether a number is one of the softservice's ports, public or inner.
    pub(super) fn is_own(&self, port: u16) -> bool {
        self.own.contains(&port)
    }

    /// A template with everything filled in.
    pub(super) fn fill(&self, text: &str, scope: Scope<'_, 'a>, place: &str) -> Result<String, InstanceError> {
        let filled = self.fill_at(text, scope, place, 0)?;
        self.spend(filled.len(), place)?;
        Ok(filled)
    }

    /// Counts bytes that the instance will hold.
    pub(super) fn spend(&self, bytes: usize, place: &str) -> Result<(), InstanceError> {
        let sum = self.filled.get().saturating_add(bytes);
        self.filled.set(sum);
        if sum > ALL_BYTES {
            let what = "bytes of all texts after substitution".into();
            return Err(InstanceError::TooMuch { place: place.into(), what, limit: ALL_BYTES });
        }
        Ok(())
    }

    fn fill_at(&self, text: &str, scope: Scope<'_, 'a>, place: &str, depth: usize) -> Result<String, InstanceError> {
        let pieces = substitution::parse(text).map_err(|why| InstanceError::Template { place: place.into(), why })?;
        let mut filled = String::new();
        for piece in pieces {
            match piece {
                Part::Text(text) => filled.push_str(&text),
                Part::Reference(reference) => {
                    // Written without its braces: errors put them there again.
                    let name = reference.to_string();
                    let name = name.trim_start_matches("${").trim_end_matches('}');
                    self.step(place, name, depth)?;
                    filled.push_str(&self.value(&reference, scope, depth + 1).map_err(|e| e.at(place, name))?);
                }
            }
            if filled.len() > TEXT_BYTES {
                let what = "bytes of a text after substitution".into();
                return Err(InstanceError::TooMuch { place: place.into(), what, limit: TEXT_BYTES });
            }
        }
        if filled.contains('\0') {
            return Err(InstanceError::Unsupported { place: place.into(), what: "a zero byte in a text".into() });
        }
        Ok(filled)
    }

    fn step(&self, place: &str, what: &str, depth: usize) -> Result<(), InstanceError> {
        self.followed.set(self.followed.get() + 1);
        if depth > DEPTH {
            return Err(InstanceError::Circle { place: place.into(), what: what.into() });
        }
        if self.followed.get() > FOLLOWED {
            return Err(InstanceError::TooMuch { place: place.into(), what: "references".into(), limit: FOLLOWED });
        }
        Ok(())
    }

    fn placed(&self) -> Found<&'s Assignment> {
        self.assignment.ok_or_else(|| Lost::Why("has no value before ports and folders are assigned".into()))
    }

    fn value(&self, reference: &Reference, scope: Scope<'_, 'a>, depth: usize) -> Found<String> {
        let Scope { component, role, view } = scope;
        match reference {
            Reference::Files => Ok(format!("{}/{}", self.placed()?.files, component.key(&[&role.name]))),
            Reference::Platform => Ok(self.placed()?.platform.clone()),
            Reference::Softservice => self.softservice(),
            Reference::Artifact(name) => {
                let Some(artifact) = role.artifacts.iter().find(|a| a.name == *name) else {
                    return Err(lost("artifact", role, role.artifacts.iter().map(|a| a.name.as_str())));
                };
                let placed = self.placed()?;
                Ok(format!("{}/{}", placed.trees, super::role::tree(component, artifact, &placed.platform)?.manifest))
            }
            Reference::Volume(name) if role.volumes.iter().any(|v| v.name == *name) => {
                Ok(format!("{}/{}", self.placed()?.volumes, component.key(&[&role.name, name])))
            }
            Reference::Volume(_) => Err(lost("volume", role, role.volumes.iter().map(|v| v.name.as_str()))),
            Reference::Port(name) => self.port(component, role, name, view).map(|p| p.to_string()),
            Reference::Backup if view == View::Hook => Ok(BACKUP.into()),
            Reference::Backup => Err(Lost::Why("is known in hooks only".into())),
            Reference::Param(name) => Ok(self.param(component, name, depth)?),
            Reference::Secret(name) => self.secret(component, role, name).map(|kept| kept.path),
            Reference::Import { import, field } => {
                self.field(self.import(component, role, import, depth)?, field, depth)
            }
            Reference::Export { of, export, field } => {
                self.field(self.target(component, of, export, depth)?, field, depth)
            }
        }
    }

    /// The number of a port, as seen from inside of its role or from elsewhere.
    pub(super) fn port(&self, component: &Component<'a>, role: &Role, name: &str, view: View) -> Found<u16> {
        if !role.ports.iter().any(|p| p.name == name) {
            return Err(lost("port", role, role.ports.iter().map(|p| p.name.as_str())));
        }
        let key = component.key(&[&role.name, name]);
        let placed = self.placed()?;
        let inner = placed.inner.get(&key).filter(|_| view != View::Outside);
        let port = inner.or_else(|| placed.ports.get(&key)).copied();
        port.ok_or_else(|| Lost::Why(format!("no number was assigned to {key}")))
    }

    /// The path of the node's own program.
    pub(super) fn softservice(&self) -> Found<String> {
        Ok(self.placed()?.softservice.clone())
    }

    /// Where a binding is reached.
    pub(super) fn reach(&self, target: Target<'s, 'a>) -> Found<Reach> {
        let port = target.export.port.as_deref();
        let port = port.ok_or_else(|| Lost::Why(format!("export {} has no port", target.export.name)))?;
        let port = self.port(target.component, target.role, port, View::Outside)?;
        Ok(Reach { to: Network::Import, port: Some(port) })
    }

    /// Where a secret is, if this role may read it.
    pub(super) fn secret(&self, component: &Component<'a>, role: &Role, name: &str) -> Found<Kept> {
        let secrets = &component.release.secrets;
        let secret = secrets.iter().find(|s| s.name == name).ok_or_else(|| {
            Lost::Why(format!("there is no such secret, {}", known(secrets.iter().map(|s| s.name.as_str()))))
        })?;
        if !secret.roles.is_empty() && !secret.roles.contains(&role.name) {
            return Err(Lost::Why(format!("role {} is not in the secret's \"for\"", role.name)));
        }
        let key = component.key(&[name]);
        let path = format!("{}/{key}", self.placed()?.secrets);
        let public = matches!(secret.generate, Generate::Keypair).then(|| format!("{path}.pub"));
        Ok(Kept { key, path, public })
    }

    /// A parameter's canonical value.
    pub(super) fn param(&self, component: &Component<'a>, name: &str, depth: usize) -> Result<String, InstanceError> {
        let place = component.label();
        self.step(&place, name, depth)?;
        let Some(asked) = component.release.params.iter().find(|p| p.name == name) else {
            let names = component.release.params.iter().map(|p| p.name.as_str());
            return Err(InstanceError::Unasked { name: name.into(), known: known(names) });
        };
        let given = match &component.parent {
            None => self.answers.get(name).cloned(),
            Some((parent, include)) => match include.with.iter().find(|(n, _)| n == name) {
                None => None,
                Some((_, text)) => {
                    let place = format!("{place}, with {name}");
                    let (component, role) = self.beside(parent, &include.role, &place)?;
                    let scope = Scope { component, role, view: View::Outside };
                    Some(self.fill_at(text, scope, &place, depth + 1)?)
                }
            },
        };
        match given.or_else(|| asked.default.clone()) {
            Some(text) => {
                answer::accept(asked, &text).map_err(|why| InstanceError::Answer { name: component.key(&[name]), why })
            }
            None if component.parent.is_none() => Err(InstanceError::Unanswered { names: name.into() }),
            None => Err(InstanceError::Withheld { component: place, param: name.into() }),
        }
    }

    fn beside(&self, parent: &str, role: &str, place: &str) -> Result<(&'s Component<'a>, &'s Role), InstanceError> {
        let found = self.components.by_path.get(parent).and_then(|c| Some((c, c.role(role)?)));
        found.ok_or_else(|| InstanceError::Unsupported {
            place: place.into(),
            what: format!("there is no role {role:?}"),
        })
    }

    /// What an import of a role leads to.
    pub(super) fn import(
        &self,
        component: &Component<'a>,
        role: &Role,
        name: &str,
        depth: usize,
    ) -> Found<Target<'s, 'a>> {
        let import = role.imports.iter().find(|i| i.name == name);
        let import = import.ok_or_else(|| lost("import", role, role.imports.iter().map(|i| i.name.as_str())))?;
        let target = match (&import.from, &component.parent) {
            (Some(from), _) => self.pointed(component, from, depth + 1)?,
            (None, Some((parent, include))) => {
                let bound = include.bind.iter().find(|(i, _)| i == name).map(|(_, from)| from);
                let parent = self.components.by_path.get(parent);
                let (Some(from), Some(parent)) = (bound, parent) else {
                    return Err(Lost::Why(format!("nobody binds import {name} of {}", component.label())));
                };
                self.pointed(parent, from, depth + 1)?
            }
            (None, None) => {
                return Err(Lost::Why(format!("import {name} has no \"from\", and nobody includes this distro")));
            }
        };
        matching(import, target)
    }

    fn pointed(&self, component: &Component<'a>, from: &str, depth: usize) -> Found<Target<'s, 'a>> {
        let parts: Vec<&str> = from.split('.').collect();
        let [first, export] = *parts else {
            return Err(Lost::Why(format!("\"from\" must be role.export or include.export, found {from:?}")));
        };
        self.target(component, first, export, depth)
    }

    /// `first.export` as seen from inside a component: a role of it, else an include of it.
    pub(super) fn target(
        &self,
        component: &Component<'a>,
        first: &str,
        export: &str,
        depth: usize,
    ) -> Found<Target<'s, 'a>> {
        self.step(&component.label(), &format!("{first}.{export}"), depth)?;
        let component = self.components.by_path.get(&component.path);
        let component = component.ok_or_else(|| Lost::Why("its component is gone".into()))?;
        let (component, roles) = match component.role(first) {
            Some(role) => (component, vec![role]),
            None => {
                let child = self.components.by_path.get(&component.key(&[first]));
                let child = child.ok_or_else(|| Lost::Why(format!("there is no role and no include {first:?}")))?;
                (child, child.release.roles.iter().collect())
            }
        };
        let mut found = roles.iter().flat_map(|r| r.exports.iter().filter(|e| e.name == export).map(|e| (*r, e)));
        let (role, found, second) = match (found.next(), found.next()) {
            (Some((role, export)), second) => (role, export, second),
            (None, _) => {
                let names = known(roles.iter().flat_map(|r| r.exports.iter().map(|e| e.name.as_str())));
                return Err(Lost::Why(format!("{first} exports no {export:?}, {names}")));
            }
        };
        if second.is_some() {
            return Err(Lost::Why(format!("several roles of {first} export {export:?}")));
        }
        match &found.from {
            Some(from) => self.pointed(component, from, depth + 1),
            None => Ok(Target { component, role, export: found }),
        }
    }

    /// A field of a binding; of a secret one, the path of its file.
    pub(super) fn field(&self, target: Target<'s, 'a>, field: &str, depth: usize) -> Found<String> {
        let Target { component, role, export } = target;
        let place = format!("{}, export {}", component.label(), export.name);
        if let Some((_, text)) = export.fields.iter().find(|(name, _)| name == field) {
            let scope = Scope { component, role, view: View::Outside };
            return Ok(self.fill_at(text, scope, &place, depth + 1)?);
        }
        if let Some((_, secret)) = export.secrets.iter().find(|(name, _)| name == field) {
            return self.secret(component, role, secret).map(|kept| kept.path);
        }
        let number = || {
            let port =
                export.port.as_deref().ok_or_else(|| Lost::Why(format!("export {} has no port", export.name)))?;
            self.port(component, role, port, View::Outside)
        };
        match field {
            "host" => Ok(HOST.into()),
            "port" => number().map(|p| p.to_string()),
            "address" => number().map(|p| format!("{HOST}:{p}")),
            "url" => number().map(|p| format!("{}://{HOST}:{p}", export.kind.split('/').next().unwrap_or("tcp"))),
            _ => {
                let own = export.fields.iter().map(|(n, _)| n).chain(export.secrets.iter().map(|(n, _)| n));
                let all = ["host", "port", "address", "url"].into_iter().chain(own.map(String::as_str));
                Err(Lost::Why(format!("export {} has no field {field:?}, {}", export.name, known(all))))
            }
        }
    }

    /// Where a secret is as a service lists it: `session` or `import.db.password`.
    pub(super) fn listed_secret(&self, listed: &str, scope: Scope<'_, 'a>) -> Found<Kept> {
        let parts: Vec<&str> = listed.split('.').collect();
        match *parts {
            [name] => self.secret(scope.component, scope.role, name),
            ["import", import, field] => {
                let target = self.import(scope.component, scope.role, import, 0)?;
                let secret = target.export.secrets.iter().find(|(name, _)| name == field);
                let (_, secret) = secret.ok_or_else(|| {
                    let names = known(target.export.secrets.iter().map(|(n, _)| n.as_str()));
                    Lost::Why(format!("export {} has no such secret field, {names}", target.export.name))
                })?;
                self.secret(target.component, target.role, secret)
            }
            _ => Err(Lost::Why("a secret is listed as NAME or import.NAME.FIELD".into())),
        }
    }
}

fn lost<'n>(what: &str, role: &Role, names: impl Iterator<Item = &'n str>) -> Lost {
    Lost::Why(format!("role {} has no such {what}, {}", role.name, known(names)))
}

/// Types are compared whole: `postgresql/1` does not take `postgresql/2`.
fn matching<'s, 'a>(import: &Import, target: Target<'s, 'a>) -> Found<Target<'s, 'a>> {
    if import.kind == target.export.kind {
        return Ok(target);
    }
    Err(Lost::Why(format!(
        "import {} wants {}, but {} of {} is {}",
        import.name,
        import.kind,
        target.export.name,
        target.component.label(),
        target.export.kind
    )))
}
