//! Rules that need more than one release: a release with everything that it includes. Invariant: in a closure that
//! passes, every import is bound to an export of the same kind that has the fields in use, every answer fits its
//! question, no distro contains itself, and no release was taken on trust: each passed [`Release::check`].

use super::{
    ENOUGH, Fault, ReleaseFault, answer, names,
    references::{self, FIELDS},
    substitution::{self, Part, Reference},
};
use crate::{
    id::{PublisherId, ReleaseId},
    limits,
    release::{Export, Include, Param, ParamKind, Release, Role},
};
use std::collections::{BTreeMap, BTreeSet};

/// Releases by id: what a closure is checked against.
pub type Releases = BTreeMap<ReleaseId, Release>;

/// Checks a release together with everything that it includes.
///
/// # Errors
/// The first rule that is broken, or the first release that is missing.
pub fn check(root: &Release, releases: &Releases) -> Result<(), ReleaseFault> {
    root.check()?;
    match faults(root, releases).into_iter().next() {
        Some(fault) => Err(root.fault(fault)),
        None => Ok(()),
    }
}

type Contents = BTreeSet<(PublisherId, String)>;

/// What is wrong between releases; places are those of `root`.
pub(crate) fn faults(root: &Release, releases: &Releases) -> Vec<Fault> {
    let mut walk = Walk { releases, contents: BTreeMap::new() };
    let mut f = Vec::new();
    let mut own = Contents::new();
    for i in &root.includes {
        match walk.descend(i, 0) {
            Ok(contents) => own.extend(contents),
            Err(message) => f.push(Fault::new(format!("include.{}", i.name), message)),
        }
    }
    if own.contains(&(root.publisher, root.distro.clone())) {
        f.push(Fault::new("include", format!("the distro includes itself: {}", circle(root, releases))));
    }
    if f.is_empty() {
        f = bindings(root, releases);
    }
    f
}

/// The way from a distro back to itself, for people.
fn circle(root: &Release, releases: &Releases) -> String {
    let holds = |i: &Include| {
        let mut walk = Walk { releases, contents: BTreeMap::new() };
        walk.descend(i, 0).is_ok_and(|c| c.contains(&(root.publisher, root.distro.clone())))
    };
    let (mut path, mut at) = (vec![root.distro.as_str()], root);
    while let Some(next) = at.includes.iter().find(|i| holds(i)).filter(|_| path.len() < limits::CLOSURE) {
        path.push(&next.distro);
        if (next.publisher, &next.distro) == (root.publisher, &root.distro) {
            break;
        }
        let Some(release) = releases.get(&next.release.id) else { break };
        at = release;
    }
    path.join(" -> ")
}

struct Walk<'a> {
    releases: &'a Releases,
    /// What each release that was checked contains, itself included: each is visited once, however often it is included.
    contents: BTreeMap<ReleaseId, Contents>,
}

impl Walk<'_> {
    /// Checks an included release and what is below; answers with all distros in it. Depth and number are bounded by
    /// the size of a closure.
    fn descend(&mut self, i: &Include, depth: usize) -> Result<Contents, String> {
        if let Some(known) = self.contents.get(&i.release.id) {
            return Ok(known.clone());
        }
        let label = format!("{} {}", i.distro, i.version);
        let release = self
            .releases
            .get(&i.release.id)
            .ok_or_else(|| format!("{label} ({}) is not here", i.release.id.short()))?;
        // Those that are done, those that this one is inside of, itself, and the root.
        if self.contents.len() + depth + 2 > limits::CLOSURE {
            return Err(format!("more than {} releases in one closure", limits::CLOSURE));
        }
        if (release.publisher, &release.distro, &release.version) != (i.publisher, &i.distro, &i.version) {
            return Err(format!(
                "{label} is pinned, but its release is {} of {}",
                release.label(),
                release.publisher.short()
            ));
        }
        release.check().map_err(|e| e.to_string())?;
        let own = (release.publisher, release.distro.clone());
        let mut contents = Contents::new();
        for inner in &release.includes {
            contents.extend(
                self.descend(inner, depth + 1)
                    .map_err(|why| if depth == 0 { format!("{label}: {why}") } else { why })?,
            );
        }
        if contents.contains(&own) {
            return Err(format!("{label} includes itself: {}", circle(release, self.releases)));
        }
        if let Some(fault) = bindings(release, self.releases).into_iter().next() {
            return Err(release.fault(fault).to_string());
        }
        contents.insert(own);
        self.contents.insert(i.release.id, contents.clone());
        Ok(contents)
    }
}

/// What stands behind `role.export` or `include.export`.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The release that has it.
    pub release: &'a Release,
    /// Its role there.
    pub role: &'a Role,
    /// The export itself, with a port.
    pub export: &'a Export,
    /// Local names of the includes on the way down; empty when it is the asking release's own.
    pub path: Vec<String>,
}

impl Offer<'_> {
    /// Names of all its fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> + Clone {
        let further = self.export.fields.iter().map(|(n, _)| n.as_str());
        FIELDS.into_iter().chain(further).chain(self.export.secrets.iter().map(|(n, _)| n.as_str()))
    }
}

/// Follows `role.export` or `include.export` of `release` down to the port that serves it.
///
/// # Errors
/// Why it leads nowhere, for people.
pub fn resolve<'a>(release: &'a Release, releases: &'a Releases, from: &str) -> Result<Offer<'a>, String> {
    let (mut at, mut from, mut path) = (release, from, Vec::new());
    // Each round goes one release deeper or stops; a closure is at most so deep.
    for _ in 0..=limits::CLOSURE {
        let (of, name) = from.split_once('.').ok_or_else(|| format!("{from:?} names no export"))?;
        let (role, export) = match at.roles.iter().find(|r| r.name == of) {
            Some(role) => {
                (role, role.exports.iter().find(|e| e.name == name).ok_or_else(|| format!("{of} exports no {name:?}"))?)
            }
            None => {
                let include = at
                    .includes
                    .iter()
                    .find(|i| i.name == of)
                    .ok_or_else(|| format!("there is no role or include {of:?}"))?;
                at = releases.get(&include.release.id).ok_or_else(|| format!("{} is not here", include.distro))?;
                path.push(include.name.clone());
                exported(at, name)?
            }
        };
        match &export.from {
            None => return Ok(Offer { release: at, role, export, path }),
            Some(deeper) => from = deeper,
        }
    }
    Err(format!("{from:?} leads nowhere"))
}

/// The one export of this name among all roles.
fn exported<'a>(release: &'a Release, name: &str) -> Result<(&'a Role, &'a Export), String> {
    let all = || release.roles.iter().flat_map(|r| r.exports.iter().map(move |e| (r, e)));
    let mut found = all().filter(|(_, e)| e.name == name);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(format!("{} exports {name:?} from several roles", release.label())),
        (None, _) => {
            let meant =
                names::meant(name, all().map(|(_, e)| e.name.as_str())).map(|m| format!("; {m}")).unwrap_or_default();
            Err(format!("{} exports no {name:?}{meant}", release.label()))
        }
    }
}

/// What is wrong between a release and those that it includes directly.
fn bindings(r: &Release, releases: &Releases) -> Vec<Fault> {
    let mut f = Vec::new();
    for i in &r.includes {
        if let Some(child) = releases.get(&i.release.id) {
            answers(r, i, child, &mut f);
            binds(r, i, child, releases, &mut f);
        }
    }
    let used = Used::by(r);
    for role in &r.roles {
        let at = format!("role.{}", role.name);
        for i in &role.imports {
            let at = format!("{at}.import.{}", i.name);
            if let Some(from) = &i.from {
                offer(r, releases, &at, from, &i.kind, used.of(role, &i.name), &mut f);
            }
        }
        for e in role.exports.iter().filter(|e| e.from.is_some()) {
            let at = format!("{at}.export.{}", e.name);
            offer(r, releases, &at, e.from.as_deref().unwrap_or_default(), &e.kind, &NOTHING, &mut f);
        }
    }
    references_down(r, releases, &mut f);
    f.extend(secret_fields(r, releases));
    f
}

fn offer(r: &Release, all: &Releases, at: &str, from: &str, kind: &str, used: &BTreeSet<String>, f: &mut Vec<Fault>) {
    match resolve(r, all, from) {
        Err(why) => f.push(Fault::new(format!("{at}.from"), why).token(from)),
        Ok(offer) if offer.export.kind != kind => {
            f.push(
                Fault::new(format!("{at}.from"), format!("{from} is {}, wanted is {kind}", offer.export.kind))
                    .token(from),
            );
        }
        Ok(offer) => {
            for field in used.iter().filter(|u| !offer.fields().any(|f| f == *u)) {
                let hint = Some(format!("known: {}", offer.fields().collect::<Vec<_>>().join(", ")));
                f.push(Fault::new(at, format!("the field {field:?} is used, which {from} has not")).hint(hint));
            }
        }
    }
}

fn answers(r: &Release, i: &Include, child: &Release, f: &mut Vec<Fault>) {
    let at = format!("include.{}", i.name);
    for (name, text) in &i.with {
        let at = format!("{at}.with.{name}");
        let Some(param) = child.params.iter().find(|p| p.name == *name) else {
            let hint = names::meant(name, child.params.iter().map(|p| p.name.as_str()));
            f.push(Fault::new(at, format!("{} asks no {name:?}", child.label())).hint(hint));
            continue;
        };
        match substitution::parse(text).as_deref() {
            Ok([Part::Reference(Reference::Param(own))]) => {
                let own = r.params.iter().find(|p| p.name == *own);
                if let Some(own) = own.filter(|own| !answerable(own, param)) {
                    let (ours, theirs) = (answer::kind_word(&own.kind), answer::kind_word(&param.kind));
                    f.push(Fault::new(at, format!("{name:?} wants {theirs}, {:?} is {ours}", own.name)));
                }
            }
            Ok(parts) if parts.iter().all(|p| matches!(p, Part::Text(_))) => {
                let plain: String = parts.iter().map(|p| if let Part::Text(t) = p { t.as_str() } else { "" }).collect();
                f.extend(answer::accept(param, &plain).err().map(|why| Fault::new(at, why)));
            }
            _ => {}
        }
    }
    for p in child.params.iter().filter(|p| p.default.is_none() && !i.with.iter().any(|(n, _)| *n == p.name)) {
        let hint = Some(format!("add `with = {{ {} = … }}`, perhaps with a `${{param.…}}` of your own", p.name));
        f.push(
            Fault::new(&at, format!("{} asks {:?} ({}) and gets no answer", child.label(), p.name, p.ask)).hint(hint),
        );
    }
}

/// Whether every answer to `own` answers `theirs`, as far as types say.
fn answerable(own: &Param, theirs: &Param) -> bool {
    match (&own.kind, &theirs.kind) {
        (_, ParamKind::Text) | (ParamKind::Port, ParamKind::Int) => true,
        (ParamKind::Enum(ours), ParamKind::Enum(all)) => ours.iter().all(|o| all.contains(o)),
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn binds(r: &Release, i: &Include, child: &Release, releases: &Releases, f: &mut Vec<Fault>) {
    let at = format!("include.{}", i.name);
    let used = Used::by(child);
    let open = || {
        child
            .roles
            .iter()
            .flat_map(|role| role.imports.iter().map(move |m| (role, m)))
            .filter(|(_, m)| m.from.is_none())
    };
    for (name, _) in i.bind.iter().filter(|(n, _)| !open().any(|(_, m)| m.name == *n)) {
        let hint = names::meant(name, open().map(|(_, m)| m.name.as_str()));
        f.push(
            Fault::new(format!("{at}.bind.{name}"), format!("{} has no open import {name:?}", child.label()))
                .hint(hint),
        );
    }
    for (role, import) in open() {
        let Some((_, from)) = i.bind.iter().find(|(n, _)| *n == import.name) else {
            let hint = Some(format!("add `bind = {{ {} = \"role.export\" }}`", import.name));
            let message =
                format!("{} imports {:?} ({}) and nothing is bound to it", child.label(), import.name, import.kind);
            f.push(Fault::new(&at, message).hint(hint));
            continue;
        };
        let at = format!("{at}.bind.{}", import.name);
        offer(r, releases, &at, from, &import.kind, used.of(role, &import.name), f);
    }
}

/// Fields of imports that the texts, secrets and tests of a release use, by role and import.
struct Used(BTreeMap<(String, String), BTreeSet<String>>);

static NOTHING: BTreeSet<String> = BTreeSet::new();

impl Used {
    fn by(r: &Release) -> Self {
        let mut all = Self(BTreeMap::new());
        for text in references::texts_of(r) {
            for reference in substitution::references(text.text) {
                if let (Reference::Import { import, field }, Some(role)) = (reference, text.role) {
                    all.0.entry((role.to_owned(), import)).or_default().insert(field);
                }
            }
        }
        for (role, listed) in
            r.roles.iter().flat_map(|r| r.services.iter().flat_map(move |s| s.secrets.iter().map(move |l| (r, l))))
        {
            if let Some((import, field)) = listed.strip_prefix("import.").and_then(|rest| rest.split_once('.')) {
                all.0.entry((role.name.clone(), import.to_owned())).or_default().insert(field.to_owned());
            }
        }
        all
    }
    fn of(&self, role: &Role, import: &str) -> &BTreeSet<String> {
        self.0.get(&(role.name.clone(), import.to_owned())).unwrap_or(&NOTHING)
    }
}

/// `${include.export.field}` of includes, and of exports that pass one on.
fn references_down(r: &Release, releases: &Releases, f: &mut Vec<Fault>) {
    for text in references::texts_of(r) {
        for reference in substitution::references(text.text) {
            let Reference::Export { of, export, field } = &reference else { continue };
            if f.len() >= ENOUGH {
                return;
            }
            let from = format!("{of}.{export}");
            let why = match resolve(r, releases, &from) {
                Err(why) => Some(why),
                Ok(offer) if offer.fields().any(|n| n == field) => None,
                Ok(_) => Some(format!("{from} has no field {field:?}")),
            };
            f.extend(why.map(|why| Fault::new(&text.at, format!("`{reference}`: {why}")).token(reference.to_string())));
        }
    }
}

/// A service that reads a secret field of an import must list it, and may list secret fields only.
fn secret_fields(r: &Release, releases: &Releases) -> Vec<Fault> {
    let mut f = Vec::new();
    for role in &r.roles {
        let secret = |import: &str, field: &str| {
            let from = role.imports.iter().find(|i| i.name == import)?.from.as_deref()?;
            let offer = resolve(r, releases, from).ok()?;
            Some(offer.export.secrets.iter().any(|(n, _)| n == field))
        };
        for s in &role.services {
            let at = format!("role.{}.service.{}", role.name, s.name);
            for listed in &s.secrets {
                let Some((import, field)) = listed.strip_prefix("import.").and_then(|l| l.split_once('.')) else {
                    continue;
                };
                if secret(import, field) == Some(false) {
                    let message = format!("the field {field:?} of the import {import:?} is no secret");
                    let hint = Some(format!("write `${{import.{import}.{field}}}` where it is needed"));
                    f.push(Fault::new(format!("{at}.secrets"), message).token(listed).hint(hint));
                }
            }
            let templates = s.command.iter().chain(s.environment.iter().map(|(_, t)| t));
            for reference in templates.flat_map(|t| substitution::references(t)) {
                let Reference::Import { import, field } = &reference else { continue };
                let name = format!("import.{import}.{field}");
                if secret(import, field) == Some(true) && !s.secrets.contains(&name) {
                    let message = format!("`{reference}` is a secret that the service does not list");
                    f.push(
                        Fault::new(&at, message)
                            .token(reference.to_string())
                            .hint(Some(format!("add {name:?} to its `secrets`"))),
                    );
                }
            }
        }
    }
    f
}
