//! The rules of a release that need nothing but the release. Invariant: a release without faults can be handed to every
//! other part of the program: its names, paths, counts and references hold. Definitions are held to the same rules.

use super::{
    ANY, Fault, answer, graph, names,
    references::{self, Scope},
    substitution,
};
use crate::{
    limits,
    release::{Allow, Export, Generate, Import, Param, ParamKind, Probe, Release, Role, Service, Template, Test},
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
        role(release, r, &mut f);
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
            s.len(),
            a.listen.len().max(a.connect.len()).max(a.write.len()).max(a.read.len()),
            s.iter().map(|s| s.environment.len().max(s.secrets.len()).max(s.depends_on.len())).max().unwrap_or(0),
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
    if !all.contains(&name) {
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
            f.extend(references::template(r, &at, text, Scope::Answer));
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

fn role(r: &Release, role: &Role, f: &mut Vec<Fault>) {
    let at = format!("role.{}", role.name);
    named(f, &at, &role.name, names::strict);
    if role.devices_max.is_some_and(|max| max < role.devices_min || max == 0) {
        f.push(Fault::new(format!("{at}.devices"), "the role has no device"));
    }
    for i in &role.imports {
        import(r, &at, i, f);
    }
    for e in &role.exports {
        export(r, role, &at, e, f);
    }
    for a in &role.artifacts {
        let at = format!("{at}.artifact.{}", a.name);
        push(f, &at, names::local(&a.name));
        ascending(f, &at, a.trees.iter().map(|(p, _)| p.as_str()));
        for (platform, _) in a.trees.iter().filter(|(p, _)| p != ANY) {
            push(f, &at, names::platform(platform));
        }
    }
    for v in &role.volumes {
        let at = format!("{at}.volume.{}", v.name);
        push(f, &at, names::strict(&v.name));
        push(f, &format!("{at}.mount"), v.mount.as_deref().map_or(Ok(()), names::absolute));
        one_of(f, &format!("{at}.backup"), "backup", &v.backup, BACKUP.into_iter());
    }
    for p in &role.ports {
        let at = format!("{at}.port.{}", p.name);
        push(f, &at, names::local(&p.name));
        if p.wish == Some(0) {
            f.push(Fault::new(at, "0 is not a port"));
        }
    }
    for file in &role.files {
        let at = format!("{at}.file.{}", file.path);
        push(f, &at, names::relative(&file.path));
        if file.mode > 0o777 {
            f.push(Fault::new(format!("{at}.mode"), "only permission bits may be set"));
        }
        one_of(f, &format!("{at}.on_change"), "effect", &file.on_change, ON_CHANGE.into_iter());
        f.extend(references::template(r, &at, &file.template, Scope::Role(role)));
    }
    for s in &role.services {
        service(r, role, &at, s, f);
    }
    allow(role, &format!("{at}.allow"), &role.allow, f);
    ascending(f, &at, role.imports.iter().map(|x| x.name.as_str()));
    ascending(f, &at, role.exports.iter().map(|x| x.name.as_str()));
    ascending(f, &at, role.artifacts.iter().map(|x| x.name.as_str()));
    ascending(f, &at, role.volumes.iter().map(|x| x.name.as_str()));
    ascending(f, &at, role.ports.iter().map(|x| x.name.as_str()));
    ascending(f, &at, role.files.iter().map(|x| x.path.as_str()));
    let mut started: Vec<&str> = role.services.iter().map(|x| x.name.as_str()).collect();
    started.sort_unstable();
    ascending(f, &at, started.into_iter());
}

fn import(r: &Release, at: &str, i: &Import, f: &mut Vec<Fault>) {
    let at = format!("{at}.import.{}", i.name);
    push(f, &at, names::local(&i.name));
    push(f, &format!("{at}.type"), names::kind(&i.kind));
    if let Some(from) = &i.from {
        offered(r, &format!("{at}.from"), from, Some(&i.kind), f);
    }
}

fn export(r: &Release, role: &Role, at: &str, e: &Export, f: &mut Vec<Fault>) {
    let at = format!("{at}.export.{}", e.name);
    push(f, &at, names::local(&e.name));
    push(f, &format!("{at}.type"), names::kind(&e.kind));
    match (&e.port, &e.from) {
        (Some(port), None) => {
            one_of(f, &format!("{at}.port"), "port", port, role.ports.iter().map(|p| p.name.as_str()))
        }
        (None, Some(from)) => {
            let of = from.split_once('.').map_or(from.as_str(), |(of, _)| of);
            if !r.includes.iter().any(|i| i.name == of) {
                one_of(f, &format!("{at}.from"), "include", of, r.includes.iter().map(|i| i.name.as_str()));
            }
            if !e.fields.is_empty() || !e.secrets.is_empty() {
                f.push(Fault::new(
                    &at,
                    "what is passed on keeps its own fields; `fields` and `secrets` have no place here",
                ));
            }
        }
        _ => {
            let hint = Some("a port of this role, or an include's export to pass on".to_owned());
            f.push(Fault::new(&at, "an export needs exactly one of `port` and `from`").hint(hint));
        }
    }
    for (name, text) in &e.fields {
        let at = format!("{at}.fields.{name}");
        push(f, &at, names::local(name));
        push(f, &at, names::line(text));
        f.extend(references::template(r, &at, text, Scope::Export(role)));
    }
    for (name, secret) in &e.secrets {
        let at = format!("{at}.secrets.{name}");
        push(f, &at, names::local(name));
        one_of(f, &at, "secret", secret, r.secrets.iter().map(|s| s.name.as_str()));
    }
    for name in e.fields.iter().map(|(n, _)| n).chain(e.secrets.iter().map(|(n, _)| n)) {
        if references::FIELDS.contains(&name.as_str()) {
            f.push(Fault::new(&at, format!("every binding has the field {name:?}; it cannot be declared")));
        }
    }
    ascending(f, &at, e.fields.iter().map(|(n, _)| n.as_str()));
    ascending(f, &at, e.secrets.iter().map(|(n, _)| n.as_str()));
    if let Some((both, _)) = e.fields.iter().find(|(n, _)| e.secrets.iter().any(|(s, _)| s == n)) {
        f.push(Fault::new(&at, format!("{both:?} is a field and a secret")));
    }
}

fn command(r: &Release, at: &str, command: &[Template], scope: Scope<'_>, f: &mut Vec<Fault>) {
    let Some(program) = command.first().filter(|c| !c.is_empty()) else {
        f.push(
            Fault::new(at, "the command is empty")
                .hint(Some("name a program: [\"${artifact.NAME}/bin/server\"]".into())),
        );
        return;
    };
    if substitution::is_literal(program) && program.contains('/') && !program.starts_with('/') {
        let tree = scope_tree(scope).unwrap_or("NAME");
        let hint = format!("write \"${{artifact.{tree}}}/{}\"", program.trim_start_matches("./"));
        f.push(
            Fault::new(format!("{at}[0]"), format!("the program {program:?} is relative to nothing")).hint(Some(hint)),
        );
    }
    for (n, text) in command.iter().enumerate() {
        let at = format!("{at}[{n}]");
        push(f, &at, names::block(text));
        f.extend(references::template(r, &at, text, scope));
    }
}

fn scope_tree(scope: Scope<'_>) -> Option<&str> {
    match scope {
        Scope::Service(role, _) | Scope::Role(role) | Scope::Test(role) => {
            role.artifacts.first().map(|a| a.name.as_str())
        }
        _ => None,
    }
}

fn service(r: &Release, role: &Role, at: &str, s: &Service, f: &mut Vec<Fault>) {
    let at = format!("{at}.service.{}", s.name);
    push(f, &at, names::strict(&s.name));
    let scope = Scope::Service(role, &s.secrets);
    command(r, &format!("{at}.command"), &s.command, scope, f);
    for (name, text) in &s.environment {
        let at = format!("{at}.environment.{name}");
        push(f, &at, names::variable(name));
        push(f, &at, names::block(text));
        f.extend(references::template(r, &at, text, scope));
    }
    ascending(f, &format!("{at}.environment"), s.environment.iter().map(|(n, _)| n.as_str()));
    let imports = || role.imports.iter().map(|i| i.name.as_str());
    for secret in &s.secrets {
        let at = format!("{at}.secrets");
        match secret.strip_prefix("import.").map(|rest| rest.split_once('.')) {
            Some(Some((import, field))) => {
                one_of(f, &at, "import", import, imports());
                push(f, &at, names::local(field));
            }
            Some(None) => {
                f.push(Fault::new(at, format!("{secret:?} names no field; write \"import.NAME.FIELD\"")).token(secret))
            }
            None => {
                one_of(f, &at, "secret", secret, r.secrets.iter().map(|s| s.name.as_str()));
                if r.secrets.iter().any(|s| s.name == *secret && !s.roles.contains(&role.name)) {
                    let hint = Some(format!("add {:?} to its `for`", role.name));
                    f.push(
                        Fault::new(at, format!("the secret {secret:?} is not for the role {:?}", role.name))
                            .token(secret)
                            .hint(hint),
                    );
                }
            }
        }
    }
    for need in &s.depends_on {
        let at = format!("{at}.depends_on");
        match need.strip_prefix("import.") {
            Some(import) => one_of(f, &at, "import", import, imports()),
            None => one_of(f, &at, "service", need, role.services.iter().map(|s| s.name.as_str())),
        }
    }
    ascending(f, &format!("{at}.secrets"), s.secrets.iter().map(String::as_str));
    ascending(f, &format!("{at}.depends_on"), s.depends_on.iter().map(String::as_str));
    if let Some(root) = &s.root {
        one_of(f, &format!("{at}.root"), "artifact", root, role.artifacts.iter().map(|a| a.name.as_str()));
    }
    short(&format!("{at}.stop_grace_period"), s.stop_grace_period, f);
    if let Some(h) = &s.healthcheck {
        let at = format!("{at}.healthcheck");
        probe(r, &at, &h.probe, scope, f);
        for (key, span) in [("interval", h.interval), ("timeout", h.timeout)] {
            if span == Span(0) {
                f.push(Fault::new(format!("{at}.{key}"), format!("`{key}` must be longer than nothing")));
            }
            short(&format!("{at}.{key}"), span, f);
        }
        short(&format!("{at}.start_period"), h.start_period, f);
        if h.retries == 0 || h.retries > 1000 {
            f.push(Fault::new(format!("{at}.retries"), "retries must be within 1 and 1000"));
        }
    }
}

/// Nobody waits longer than a day for a process.
fn short(at: &str, span: Span, f: &mut Vec<Fault>) {
    if span > Span::days(1) {
        f.push(Fault::new(at, "longer than a day"));
    }
}

fn probe(r: &Release, at: &str, p: &Probe, scope: Scope<'_>, f: &mut Vec<Fault>) {
    match p {
        Probe::Http { url, status, contains } => {
            let key = format!("{at}.http");
            push(f, &key, names::line(url));
            if ![":", "http://", "https://", "${"].iter().any(|start| url.starts_with(start)) {
                let hint = Some("\":${port.NAME}/path\" asks this device".to_owned());
                f.push(Fault::new(&key, format!("{url:?} is not an address")).hint(hint));
            }
            f.extend(references::template(r, &key, url, scope));
            if !(100..=599).contains(status) {
                f.push(Fault::new(format!("{at}.status"), format!("there is no status {status}")));
            }
            if let Some(text) = contains {
                push(f, &format!("{at}.contains"), names::block(text));
                f.extend(references::template(r, &format!("{at}.contains"), text, scope));
            }
        }
        Probe::Tcp { address } => {
            let key = format!("{at}.tcp");
            push(f, &key, names::line(address));
            if !address.contains(':') && substitution::is_literal(address) {
                let hint = Some("\":${port.NAME}\" asks this device".to_owned());
                f.push(Fault::new(&key, format!("{address:?} is not host:port")).hint(hint));
            }
            f.extend(references::template(r, &key, address, scope));
        }
        Probe::Exec { command: c } => command(r, &format!("{at}.exec"), c, scope, f),
    }
}

fn allow(role: &Role, at: &str, a: &Allow, f: &mut Vec<Fault>) {
    let numbered = |entry: &str, words: &[&str], any: bool| {
        entry.split_once(':').is_some_and(|(word, port)| {
            words.contains(&word) && (port.parse::<u16>().is_ok_and(|p| p > 0) || (any && port == "*"))
        })
    };
    for entry in a.listen.iter().filter(|e| !numbered(e, &["tcp", "udp"], false)) {
        let message = format!("{entry:?} is nothing to listen on; write tcp:PORT or udp:PORT");
        f.push(Fault::new(format!("{at}.listen"), message).token(entry));
    }
    for entry in &a.connect {
        let at = format!("{at}.connect");
        match entry.strip_prefix("import.") {
            Some(import) => one_of(f, &at, "import", import, role.imports.iter().map(|i| i.name.as_str())),
            None if numbered(entry, &["internet", "lan", "device"], true) => {}
            None => {
                let message = format!(
                    "{entry:?} is nobody to connect to; write import.NAME, internet:PORT, lan:PORT or device:PORT"
                );
                f.push(Fault::new(at, message).token(entry));
            }
        }
    }
    for entry in &a.write {
        let at = format!("{at}.write");
        if entry.starts_with('/') {
            push(f, &at, names::absolute(entry));
        } else {
            one_of(f, &at, "volume", entry, role.volumes.iter().map(|v| v.name.as_str()));
        }
    }
    for entry in &a.read {
        push(f, &format!("{at}.read"), names::absolute(entry));
    }
    for (key, list) in [("listen", &a.listen), ("connect", &a.connect), ("write", &a.write), ("read", &a.read)] {
        ascending(f, &format!("{at}.{key}"), list.iter().map(String::as_str));
    }
    if a.memory == Some(0) || a.cpu == Some(0) || a.processes == Some(0) {
        f.push(Fault::new(at, "a limit of nothing lets nothing run"));
    }
}

fn test(r: &Release, t: &Test, f: &mut Vec<Fault>) {
    let at = format!("test.{}", t.name);
    push(f, &at, names::local(&t.name));
    match r.roles.iter().find(|role| role.name == t.role) {
        Some(role) => probe(r, &at, &t.probe, Scope::Test(role), f),
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
        Some(role) => command(r, "update.migrate.exec", &m.command, Scope::Role(role), f),
        None => one_of(f, "update.migrate.on", "role", &m.role, roles(r)),
    }
    if m.from_epoch >= r.epoch {
        let message = format!("data of epoch {} cannot be carried over to epoch {}", m.from_epoch, r.epoch);
        f.push(Fault::new("update.migrate.from_epoch", message).hint(Some("raise `epoch` in [distro]".into())));
    }
}
