//! The rules of a release that need nothing but the release. Invariant: a release without faults can be handed to every
//! other part of the program: its names, paths, counts and references hold. Definitions are held to the same rules.

mod process;
mod role;

use super::{
    ENOUGH, Fault, answer, graph, names,
    references::{self, Scope},
};
use crate::{
    limits,
    release::{Generate, Param, ParamKind, Release, Test},
    time::Span,
};

/// When a test may run.
pub(crate) const WHEN: [&str; 4] = ["install", "update", "restore", "always"];
/// What a backup may do.
pub(crate) const BACKUP: [&str; 3] = ["none", "copy", "snapshot"];
/// What a changed file may do.
pub(crate) const ON_CHANGE: [&str; 2] = ["restart", "nothing"];

/// Everything that is wrong.
pub(crate) fn faults(release: &Release) -> Vec<Fault> {
    let mut f = counts(release);
    // Longer lists would make the checks below slow, which a stranger could want.
    if !f.is_empty() {
        return f;
    }
    identity(release, &mut f);
    includes(release, &mut f);
    for p in &release.params {
        param(p, &mut f);
    }
    secrets(release, &mut f);
    for r in &release.roles {
        role::role(release, r, &mut f);
    }
    for t in &release.tests {
        test(release, t, &mut f);
    }
    update(release, &mut f);
    for circle in graph::waiting_circles(release) {
        let first = circle.first().and_then(|n| n.split_once('.')).unwrap_or_default();
        let at = format!("role.{}.service.{}.depends_on", first.0, first.1);
        f.push(Fault::new(at, format!("services wait for each other: {}", circle.join(" -> "))));
    }
    f
}

fn counts(r: &Release) -> Vec<Fault> {
    let mut f = Vec::new();
    let mut most = |at: &str, n: usize, limit: usize| {
        if n > limit {
            f.push(Fault::new(at, format!("{n} entries, more than {limit}")));
        }
    };
    most("include", r.includes.len(), limits::INCLUDES);
    most("parents", r.parents.len(), limits::PARENTS);
    for (at, n) in [
        ("param", r.params.len()),
        ("secret", r.secrets.len()),
        ("role", r.roles.len()),
        ("test", r.tests.len()),
        ("distro.platforms", r.platforms.len()),
        ("update.order", r.update.order.len()),
    ] {
        most(at, n, limits::LIST);
    }
    for i in &r.includes {
        most(&format!("include.{}", i.name), i.with.len().max(i.bind.len()), limits::LIST);
    }
    for t in &r.tests {
        most(&format!("test.{}.when", t.name), t.when.len(), WHEN.len());
    }
    for s in &r.secrets {
        most(&format!("secret.{}.for", s.name), s.roles.len(), limits::LIST);
    }
    for role in &r.roles {
        let at = format!("role.{}", role.name);
        let (a, s) = (&role.allow, &role.services);
        let lists = [
            role.imports.len(),
            role.exports.len(),
            role.artifacts.len(),
            role.volumes.len(),
            role.ports.len(),
            role.files.len(),
            role.hooks.len().max(role.hooks.iter().map(|h| h.command.len()).max().unwrap_or(0)),
            s.len(),
            a.listen.len().max(a.connect.len()).max(a.write.len()).max(a.read.len()),
            s.iter().map(|s| s.environment.len().max(s.secrets.len()).max(s.depends_on.len())).max().unwrap_or(0),
            s.iter().map(|s| s.command.len()).max().unwrap_or(0),
            role.exports.iter().map(|e| e.fields.len().max(e.secrets.len())).max().unwrap_or(0),
            role.artifacts.iter().map(|a| a.trees.len()).max().unwrap_or(0),
        ];
        most(&at, lists.into_iter().max().unwrap_or(0), limits::LIST);
    }
    f
}

fn push(f: &mut Vec<Fault>, at: &str, found: Result<(), String>) {
    f.extend(found.err().map(|why| Fault::new(at, why)));
}

/// Names must be ascending, and so each once.
fn ascending<'a>(f: &mut Vec<Fault>, at: &str, all: impl Iterator<Item = &'a str>) {
    let all: Vec<&str> = all.collect();
    for pair in all.windows(2) {
        if let [a, b] = pair
            && a >= b
        {
            let message =
                if a == b { format!("{a:?} stands there twice") } else { format!("{b:?} stands after {a:?}") };
            f.push(Fault::new(at, message).token(*b));
        }
    }
}

/// `name` is one of `all`.
fn one_of<'a>(f: &mut Vec<Fault>, at: &str, what: &str, name: &str, all: impl Iterator<Item = &'a str>) {
    let all: Vec<&str> = all.collect();
    if f.len() < ENOUGH && !all.contains(&name) {
        let hint = names::meant(name, all);
        f.push(Fault::new(at, format!("there is no {what} {name:?}")).token(name).hint(hint));
    }
}

fn roles(r: &Release) -> impl Iterator<Item = &str> {
    r.roles.iter().map(|role| role.name.as_str())
}

fn identity(r: &Release, f: &mut Vec<Fault>) {
    if !r.distro.is_empty() {
        push(f, "distro.name", names::strict(&r.distro));
    } else {
        f.push(Fault::new("distro.name", "the distro has no name"));
    }
    push(f, "distro.version", version(&r.version));
    push(f, "distro.summary", names::line(&r.summary));
    for p in &r.platforms {
        f.extend(names::platform(p).err().map(|why| Fault::new("distro.platforms", why).token(p)));
    }
    ascending(f, "distro.platforms", r.platforms.iter().map(String::as_str));
    for p in &r.parents {
        push(f, "parents", names::line(&p.label));
    }
}

fn version(text: &str) -> Result<(), String> {
    match semver::Version::parse(text) {
        Ok(_) if text.len() <= limits::NAME_BYTES => Ok(()),
        Ok(_) => Err(format!("the version is longer than {} characters", limits::NAME_BYTES)),
        Err(e) => Err(format!("{text:?} is not a semantic version ({e}); write three numbers, such as 1.0.0")),
    }
}

fn includes(r: &Release, f: &mut Vec<Fault>) {
    ascending(f, "include", r.includes.iter().map(|i| i.name.as_str()));
    for i in &r.includes {
        let at = format!("include.{}", i.name);
        named(f, &at, &i.name, names::strict);
        if roles(r).any(|role| role == i.name) {
            f.push(Fault::new(&at, format!("{:?} is the name of a role already", i.name)));
        }
        push(f, &format!("{at}.distro"), names::strict(&i.distro));
        push(f, &format!("{at}.version"), version(&i.version));
        if !i.role.is_empty() {
            one_of(f, &format!("{at}.role"), "role", &i.role, roles(r));
        }
        ascending(f, &format!("{at}.with"), i.with.iter().map(|(n, _)| n.as_str()));
        for (name, text) in &i.with {
            let at = format!("{at}.with.{name}");
            push(f, &at, names::local(name));
            push(f, &at, names::line(text));
            references::template(f, r, &at, text, Scope::Answer);
        }
        ascending(f, &format!("{at}.bind"), i.bind.iter().map(|(n, _)| n.as_str()));
        for (name, from) in &i.bind {
            let at = format!("{at}.bind.{name}");
            push(f, &at, names::local(name));
            if from.split_once('.').is_some_and(|(of, _)| of == i.name) {
                f.push(Fault::new(&at, "an include's import cannot be bound to itself"));
            }
            offered(r, &at, from, None, f);
        }
    }
}

/// A name that fits and does not shadow a word of the language.
fn named(f: &mut Vec<Fault>, at: &str, name: &str, fits: fn(&str) -> Result<(), String>) {
    push(f, at, fits(name));
    if names::RESERVED.contains(&name) {
        f.push(Fault::new(at, format!("{name:?} has a meaning in `${{…}}` and cannot be a name here")));
    }
}

/// `from` is `role.export` or `include.export`; of a role, the export is there and of the wanted kind.
fn offered(r: &Release, at: &str, from: &str, kind: Option<&str>, f: &mut Vec<Fault>) {
    let Some((of, export)) = from.split_once('.').filter(|(_, e)| names::local(e).is_ok()) else {
        f.push(
            Fault::new(at, format!("{from:?} names no export; write \"role.export\" or \"include.export\""))
                .token(from),
        );
        return;
    };
    if r.includes.iter().any(|i| i.name == of) {
        return;
    }
    let Some(role) = r.roles.iter().find(|role| role.name == of) else {
        return one_of(f, at, "role or include", of, roles(r).chain(r.includes.iter().map(|i| i.name.as_str())));
    };
    match role.exports.iter().find(|e| e.name == export) {
        None => one_of(f, at, &format!("export of {of}"), export, role.exports.iter().map(|e| e.name.as_str())),
        Some(found) => {
            if let Some(kind) = kind.filter(|k| *k != found.kind) {
                f.push(Fault::new(at, format!("{from} is {}, wanted is {kind}", found.kind)).token(from));
            }
        }
    }
}

fn param(p: &Param, f: &mut Vec<Fault>) {
    let at = format!("param.{}", p.name);
    push(f, &at, names::local(&p.name));
    push(f, &format!("{at}.ask"), names::line(&p.ask));
    if let ParamKind::Enum(of) = &p.kind {
        if of.is_empty() || of.len() > limits::LIST {
            let hint = Some("add `of = [\"one\", \"other\"]`".to_owned());
            f.push(Fault::new(&at, "an enum needs at least one answer, and not hundreds").hint(hint));
        }
        of.iter().for_each(|o| push(f, &format!("{at}.of"), names::line(o)));
    }
    if let (Some(min), Some(max)) = (p.min, p.max)
        && min > max
    {
        f.push(Fault::new(format!("{at}.min"), format!("the lower bound {min} is above the upper bound {max}")));
    }
    if let Some(default) = &p.default {
        match answer::accept(p, default) {
            Ok(same) if same == *default => {}
            Ok(_) => f.push(Fault::new(format!("{at}.default"), "the default is not in canonical form")),
            Err(why) => f.push(Fault::new(format!("{at}.default"), why)),
        }
    }
}

fn secrets(r: &Release, f: &mut Vec<Fault>) {
    ascending(f, "param", r.params.iter().map(|p| p.name.as_str()));
    ascending(f, "secret", r.secrets.iter().map(|s| s.name.as_str()));
    for s in &r.secrets {
        let at = format!("secret.{}", s.name);
        push(f, &at, names::local(&s.name));
        let fits = match s.generate {
            Generate::Bytes(n) => (16..=1024).contains(&n),
            Generate::Words(n) => (4..=64).contains(&n),
            Generate::Password(n) => (12..=256).contains(&n),
            Generate::Keypair => true,
        };
        if !fits {
            let message = "a secret has 16 to 1024 bytes, 4 to 64 words or 12 to 256 characters";
            f.push(Fault::new(format!("{at}.generate"), message));
        }
        for role in &s.roles {
            one_of(f, &format!("{at}.for"), "role", role, roles(r));
        }
        ascending(f, &format!("{at}.for"), s.roles.iter().map(String::as_str));
    }
}

/// Nobody waits longer than a day for a process.
fn short(at: &str, span: Span, f: &mut Vec<Fault>) {
    if span > Span::days(1) {
        f.push(Fault::new(at, "longer than a day"));
    }
}

fn test(r: &Release, t: &Test, f: &mut Vec<Fault>) {
    let at = format!("test.{}", t.name);
    push(f, &at, names::local(&t.name));
    match r.roles.iter().find(|role| role.name == t.role) {
        Some(role) => process::probe(r, &at, &t.probe, Scope::Test(role), f),
        None if t.role.is_empty() => {}
        None => one_of(f, &format!("{at}.on"), "role", &t.role, roles(r)),
    }
    short(&format!("{at}.within"), t.within, f);
    for when in &t.when {
        one_of(f, &format!("{at}.when"), "moment", when, WHEN.into_iter());
    }
    ascending(f, &format!("{at}.when"), t.when.iter().map(String::as_str));
    if t.when.is_empty() {
        f.push(Fault::new(format!("{at}.when"), "the test would never run"));
    }
}

fn update(r: &Release, f: &mut Vec<Fault>) {
    ascending(f, "role", roles(r));
    ascending(f, "test", r.tests.iter().map(|t| t.name.as_str()));
    for (n, name) in r.update.order.iter().enumerate() {
        one_of(f, "update.order", "role", name, roles(r));
        if r.update.order.iter().take(n).any(|other| other == name) {
            f.push(Fault::new("update.order", format!("{name:?} stands there twice")).token(name));
        }
    }
    short("update.settle", r.update.settle, f);
    let Some(m) = &r.update.migrate else { return };
    match r.roles.iter().find(|role| role.name == m.role) {
        Some(role) => process::command(r, "update.migrate.exec", &m.command, Scope::Role(role), f),
        None => one_of(f, "update.migrate.on", "role", &m.role, roles(r)),
    }
    if m.from_epoch >= r.epoch {
        let message = format!("data of epoch {} cannot be carried over to epoch {}", m.from_epoch, r.epoch);
        f.push(Fault::new("update.migrate.from_epoch", message).hint(Some("raise `epoch` in [distro]".into())));
    }
}
