//! Rules of what runs: services, and the questions that health checks and tests ask. Invariant: see `rules.rs`.

use super::{ascending, one_of, push, short};
use crate::{
    definition::{
        Fault, names,
        references::{self, Scope},
        substitution::{self, Reference},
    },
    release::{HookKind, Probe, Release, Role, Service, Template},
    time::Span,
};

pub(super) fn command(r: &Release, at: &str, command: &[Template], scope: Scope<'_>, f: &mut Vec<Fault>) {
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
        references::template(f, r, &at, text, scope);
    }
}

fn scope_tree(scope: Scope<'_>) -> Option<&str> {
    match scope {
        Scope::Service(role, _) | Scope::Role(role) | Scope::Hook(role) | Scope::Test(role) => {
            role.artifacts.first().map(|a| a.name.as_str())
        }
        _ => None,
    }
}

pub(super) fn service(r: &Release, role: &Role, at: &str, s: &Service, f: &mut Vec<Fault>) {
    let at = format!("{at}.service.{}", s.name);
    push(f, &at, names::strict(&s.name));
    let scope = Scope::Service(role, &s.secrets);
    command(r, &format!("{at}.command"), &s.command, scope, f);
    for (name, text) in &s.environment {
        let at = format!("{at}.environment.{name}");
        push(f, &at, names::variable(name));
        push(f, &at, names::block(text));
        references::template(f, r, &at, text, scope);
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

/// Hooks come in pairs: what one writes the other must be able to read.
pub(super) fn hooks(r: &Release, role: &Role, at: &str, f: &mut Vec<Fault>) {
    for hook in &role.hooks {
        let at = format!("{at}.hook.{}", hook.kind.word());
        command(r, &format!("{at}.exec"), &hook.command, Scope::Hook(role), f);
        short(&format!("{at}.within"), hook.within, f);
        if hook.within == Span(0) {
            f.push(Fault::new(format!("{at}.within"), "`within` must be longer than nothing"));
        }
        if !hook.command.iter().any(|text| substitution::references(text).contains(&Reference::Backup)) {
            let hint = Some("give the program `${backup}`, the folder of the backup".to_owned());
            f.push(Fault::new(format!("{at}.exec"), "the hook does not say where the backup is").hint(hint));
        }
    }
    ascending(f, &format!("{at}.hook"), role.hooks.iter().map(|h| h.kind.word()));
    if let [only] = role.hooks.as_slice() {
        let at = format!("{at}.hook.{}", only.kind.word());
        f.push(match only.kind {
            HookKind::Backup => Fault::new(at, "nothing brings back what the backup hook writes")
                .hint(Some("add `restore = { exec = […] }` beside it".into())),
            HookKind::Restore => Fault::new(at, "nothing writes what the restore hook reads")
                .hint(Some("add `backup = { exec = […] }` beside it".into())),
        });
    }
}

pub(super) fn probe(r: &Release, at: &str, p: &Probe, scope: Scope<'_>, f: &mut Vec<Fault>) {
    match p {
        Probe::Http { url, status, contains } => {
            let key = format!("{at}.http");
            push(f, &key, names::line(url));
            if ![":", "http://", "https://", "${"].iter().any(|start| url.starts_with(start)) {
                let hint = Some("\":${port.NAME}/path\" asks this device".to_owned());
                f.push(Fault::new(&key, format!("{url:?} is not an address")).hint(hint));
            }
            references::template(f, r, &key, url, scope);
            if !(100..=599).contains(status) {
                f.push(Fault::new(format!("{at}.status"), format!("there is no status {status}")));
            }
            if let Some(text) = contains {
                push(f, &format!("{at}.contains"), names::block(text));
                references::template(f, r, &format!("{at}.contains"), text, scope);
            }
        }
        Probe::Tcp { address } => {
            let key = format!("{at}.tcp");
            push(f, &key, names::line(address));
            if !address.contains(':') && substitution::is_literal(address) {
                let hint = Some("\":${port.NAME}\" asks this device".to_owned());
                f.push(Fault::new(&key, format!("{address:?} is not host:port")).hint(hint));
            }
            references::template(f, r, &key, address, scope);
        }
        Probe::Exec { command: c } => command(r, &format!("{at}.exec"), c, scope, f),
    }
}
