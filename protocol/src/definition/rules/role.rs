//! Rules of one role: what it uses, offers, holds and may do. Invariant: see `rules.rs`; the order of checks is the order
//! of a definition's sections.

use super::{ascending, named, offered, one_of, process, push};
use crate::{
    definition::{
        ANY, Fault, names,
        references::{self, Scope},
    },
    release::{Allow, Export, Import, Release, Role},
};

pub(super) fn role(r: &Release, role: &Role, f: &mut Vec<Fault>) {
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
        push(f, &format!("{at}.mount"), v.mount.as_deref().map_or(Ok(()), shown));
        one_of(f, &format!("{at}.backup"), "backup", &v.backup, super::BACKUP.into_iter());
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
        one_of(f, &format!("{at}.on_change"), "effect", &file.on_change, super::ON_CHANGE.into_iter());
        // Some formats end their lines so.
        push(f, &at, names::block(&file.template.replace("\r\n", "\n")));
        references::template(f, r, &at, &file.template, Scope::Role(role));
    }
    for s in &role.services {
        process::service(r, role, &at, s, f);
    }
    process::hooks(r, role, &at, f);
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
        references::template(f, r, &at, text, Scope::Export(role));
    }
    for (name, secret) in &e.secrets {
        let at = format!("{at}.secrets.{name}");
        push(f, &at, names::local(name));
        one_of(f, &at, "secret", secret, r.secrets.iter().map(|s| s.name.as_str()));
        if r.secrets.iter().any(|s| s.name == *secret && !s.roles.contains(&role.name)) {
            let hint = Some(format!("add {:?} to its `for`", role.name));
            f.push(Fault::new(at, format!("the secret {secret:?} is not for the role {:?}", role.name)).hint(hint));
        }
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

/// A path that may be shown in a sandbox: not all of the device, and not what the kernel makes for each sandbox anew, in
/// the place of which the device's own would show every process and every disk.
fn shown(path: &str) -> Result<(), String> {
    names::absolute(path)?;
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "" => Err("the whole device is shown to nobody; name a folder".into()),
        "proc" | "dev" => Err(format!("every sandbox has a /{first} of its own; the device's is shown to nobody")),
        _ => Ok(()),
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
            push(f, &at, shown(entry));
        } else {
            one_of(f, &at, "volume", entry, role.volumes.iter().map(|v| v.name.as_str()));
        }
    }
    for entry in &a.read {
        push(f, &format!("{at}.read"), shown(entry));
    }
    for (key, list) in [("listen", &a.listen), ("connect", &a.connect), ("write", &a.write), ("read", &a.read)] {
        ascending(f, &format!("{at}.{key}"), list.iter().map(String::as_str));
    }
    if a.memory == Some(0) || a.cpu == Some(0) || a.processes == Some(0) {
        f.push(Fault::new(at, "a limit of nothing lets nothing run"));
    }
}
