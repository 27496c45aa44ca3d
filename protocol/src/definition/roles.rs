//! `[role.NAME]` and what is below it. Invariant: after [`settle`] a role's ports are complete and every list stands in
//! its canonical order, so that two spellings of one definition compile to the same bytes.

use super::{
    ArtifactSource, Definition, TemplateSource, graph,
    read::probe,
    source::{Item, Section},
    substitution::{self, Reference},
};
use crate::{
    release::{
        Allow, Artifact, Export, File, Healthcheck, Hook, HookKind, Import, Port, Release, Restart, Role, Service,
        StopSignal, Volume,
    },
    time::Span,
};

pub(crate) fn role(name: String, item: &Item<'_>, d: &mut Definition) {
    let mut role = Role {
        name,
        devices_min: 1,
        devices_max: Some(1),
        needs_memory: None,
        needs_disk: None,
        imports: Vec::new(),
        exports: Vec::new(),
        artifacts: Vec::new(),
        volumes: Vec::new(),
        ports: Vec::new(),
        files: Vec::new(),
        services: Vec::new(),
        allow: Allow::default(),
        hooks: Vec::new(),
    };
    if let Some(s) = item.section() {
        body(&s, &mut role, d);
        s.finish();
    }
    d.draft.roles.push(role);
}

fn body(s: &Section<'_>, role: &mut Role, d: &mut Definition) {
    if let Some((min, max)) = s.get("devices").and_then(|i| devices(&i)) {
        (role.devices_min, role.devices_max) = (min, max);
    }
    if let Some(needs) = s.get("needs").and_then(|i| i.section()) {
        role.needs_memory = needs.get("memory").and_then(|i| i.size());
        role.needs_disk = needs.get("disk").and_then(|i| i.size());
        needs.finish();
    }
    role.ports = s.named("port").into_iter().map(|(name, i)| Port { name, wish: i.within(1, 65_535) }).collect();
    role.imports = s.named("import").into_iter().map(import).collect();
    for (name, item) in s.named("export") {
        let export = export(name, &item, &mut role.ports);
        role.exports.push(export);
    }
    for (name, item) in s.named("artifact") {
        let found = item.section();
        let text = |key| found.as_ref().and_then(|a: &Section<'_>| a.need(key, "\"build\"")).and_then(|i| i.text());
        d.artifacts.push(ArtifactSource {
            role: role.name.clone(),
            name: name.clone(),
            tree: text("tree").unwrap_or_else(|| "unknown".into()),
            exclude: found.as_ref().and_then(|a| a.get("exclude")).map(|i| i.texts()).unwrap_or_default(),
        });
        role.artifacts.push(Artifact { name, trees: Vec::new() });
        found.into_iter().for_each(Section::finish);
    }
    role.volumes = s.named("volume").into_iter().map(volume).collect();
    for (path, item) in s.named("file") {
        let (file, template) = file(path, &item);
        d.templates.push(TemplateSource { role: role.name.clone(), path: file.path.clone(), template });
        role.files.push(file);
    }
    if let Some(section) = s.get("hook").and_then(|i| i.section()) {
        role.hooks = hooks(&section);
        section.finish();
    }
    role.services = s.named("service").into_iter().map(service).collect();
    if let Some(section) = s.get("allow").and_then(|i| i.section()) {
        role.allow = allow(&section);
        section.finish();
    }
}

/// `1`, `"1"`, `"1.."`, `"2..5"`.
fn devices(item: &Item<'_>) -> Option<(u32, Option<u32>)> {
    if item.is_int() {
        return item.within::<u32>(1, i64::from(u32::MAX)).map(|n| (n, Some(n)));
    }
    item.parsed(|text| {
        let bad = || format!("{text:?} is not a number of devices; write \"1\", \"1..\" or \"2..5\"");
        let number = |t: &str| t.parse::<u32>().map_err(|_| bad());
        match text.split_once("..") {
            None => number(text).map(|n| (n, Some(n))),
            Some((min, "")) => number(min).map(|n| (n, None)),
            Some((min, max)) => {
                let (min, max) = (number(min)?, number(max)?);
                if min > max { Err(bad()) } else { Ok((min, Some(max))) }
            }
        }
    })
}

fn import((name, item): (String, Item<'_>)) -> Import {
    let mut import = Import { name, kind: "unknown/1".into(), from: None };
    if let Some(s) = item.section() {
        if let Some(kind) = s.need("type", "\"http/1\"").and_then(|i| i.text()) {
            import.kind = kind;
        }
        import.from = s.get("from").and_then(|i| i.text());
        s.finish();
    }
    import
}

fn export(name: String, item: &Item<'_>, ports: &mut Vec<Port>) -> Export {
    let mut export =
        Export { name, kind: "unknown/1".into(), port: None, from: None, fields: Vec::new(), secrets: Vec::new() };
    let Some(s) = item.section() else { return Export { port: Some(declare(ports, "unknown")), ..export } };
    if let Some(kind) = s.need("type", "\"http/1\"").and_then(|i| i.text()) {
        export.kind = kind;
    }
    if let Some(port) = s.get("port") {
        if port.is_text() {
            export.port = port.text().map(|p| declare(ports, &p));
        } else if let Some(wish) = port.within(1, 65_535) {
            export.port = Some(wished(ports, &export.name, wish, &port));
        }
    }
    export.from = s.get("from").and_then(|i| i.text());
    export.fields = s.named("fields").into_iter().filter_map(|(n, i)| Some((n, i.scalar()?))).collect();
    export.secrets = s.named("secrets").into_iter().filter_map(|(n, i)| Some((n, i.text()?))).collect();
    s.finish();
    export
}

fn declare(ports: &mut Vec<Port>, name: &str) -> String {
    if !ports.iter().any(|p| p.name == name) {
        ports.push(Port { name: name.into(), wish: None });
    }
    name.into()
}

/// A wished number makes a port that is called like the export.
fn wished(ports: &mut Vec<Port>, name: &str, wish: u16, item: &Item<'_>) -> String {
    match ports.iter_mut().find(|p| p.name == name) {
        Some(port) if port.wish.is_some_and(|other| other != wish) => {
            let other = port.wish.unwrap_or_default();
            item.complain(
                format!("the port {name:?} wishes {other} and {wish}"),
                Some(format!("write `port = \"{name}\"` and keep the wish in one place")),
            );
        }
        Some(port) => port.wish = Some(wish),
        None => ports.push(Port { name: name.into(), wish: Some(wish) }),
    }
    name.into()
}

fn volume((name, item): (String, Item<'_>)) -> Volume {
    let mut volume = Volume { name, mount: None, backup: "copy".into(), keep_on_remove: true };
    if let Some(s) = item.section() {
        volume.mount = s.get("mount").and_then(|i| i.text());
        if let Some(backup) = s.get("backup").and_then(|i| i.one_of(&super::rules::BACKUP)) {
            volume.backup = backup.into();
        }
        volume.keep_on_remove = s.get("keep_on_remove").and_then(|i| i.bool()).unwrap_or(true);
        s.finish();
    }
    volume
}

fn file(path: String, item: &Item<'_>) -> (File, String) {
    let mut file = File { path, template: String::new(), mode: 0o640, on_change: "restart".into() };
    let Some(s) = item.section() else { return (file, "unknown".into()) };
    let template = s.need("template", "\"templates/…\"").and_then(|i| i.text()).unwrap_or_else(|| "unknown".into());
    let octal = |t: &str| {
        u32::from_str_radix(t, 8)
            .ok()
            .filter(|m| *m <= 0o777 && t.len() <= 4 && !t.starts_with('+'))
            .ok_or_else(|| format!("{t:?} is not a mode; write permission bits in octal, such as \"0640\""))
    };
    if let Some(item) = s.get("mode") {
        if item.is_int() {
            item.mismatch("a text", Some("write the mode as text: \"0640\"".into()));
        } else if let Some(mode) = item.parsed(octal) {
            file.mode = mode;
        }
    }
    if let Some(word) = s.get("on_change").and_then(|i| i.one_of(&super::rules::ON_CHANGE)) {
        file.on_change = word.into();
    }
    s.finish();
    (file, template)
}

fn service((name, item): (String, Item<'_>)) -> Service {
    let mut service = Service {
        name,
        command: vec!["true".into()],
        environment: Vec::new(),
        secrets: Vec::new(),
        depends_on: Vec::new(),
        restart: Restart::OnFailure,
        stop_signal: StopSignal::Term,
        stop_grace_period: Span::seconds(10),
        healthcheck: None,
        root: None,
    };
    let Some(s) = item.section() else { return service };
    if let Some(command) = s.need("command", "[\"${artifact.NAME}/bin/server\"]") {
        service.command = command.texts();
    }
    service.environment = s.named("environment").into_iter().filter_map(|(n, i)| Some((n, i.scalar()?))).collect();
    service.secrets = s.get("secrets").map(|i| i.texts()).unwrap_or_default();
    service.depends_on = s.get("depends_on").map(|i| i.texts()).unwrap_or_default();
    service.restart = match s.get("restart").and_then(|i| i.one_of(&["on-failure", "no", "always"])) {
        Some("no") => Restart::No,
        Some("always") => Restart::Always,
        _ => Restart::OnFailure,
    };
    service.stop_signal = match s.get("stop_signal").and_then(|i| i.one_of(&["SIGTERM", "SIGINT", "SIGQUIT"])) {
        Some("SIGINT") => StopSignal::Int,
        Some("SIGQUIT") => StopSignal::Quit,
        _ => StopSignal::Term,
    };
    if let Some(period) = s.get("stop_grace_period").and_then(|i| i.duration()) {
        service.stop_grace_period = period;
    }
    service.healthcheck = s.get("healthcheck").and_then(|i| i.section()).map(healthcheck);
    service.root = s.get("root").and_then(|i| root(&i));
    s.finish();
    service
}

/// In the order in which a release holds them.
fn hooks(s: &Section<'_>) -> Vec<Hook> {
    let hook = |key, kind| {
        let section = s.get(key).and_then(|i| i.section())?;
        let command = section.need("exec", "[\"${artifact.NAME}/dump\", \"${backup}\"]").map(|i| i.texts());
        let within = section.get("within").and_then(|i| i.duration()).unwrap_or(Span::seconds(600));
        section.finish();
        Some(Hook { kind, command: command.unwrap_or_else(|| vec!["true".into(), "${backup}".into()]), within })
    };
    [hook("backup", HookKind::Backup), hook("restore", HookKind::Restore)].into_iter().flatten().collect()
}

fn root(item: &Item<'_>) -> Option<String> {
    let name = item.parsed(|text| match text.strip_prefix("artifact.") {
        Some(name) => Ok(Some(name.to_owned())),
        None if text == "host" => Ok(None),
        None => {
            Err(format!("{text:?} is no root; write \"host\", or \"artifact.NAME\" for a tree that holds everything"))
        }
    });
    name.flatten()
}

fn healthcheck(s: Section<'_>) -> Healthcheck {
    let span = |key, default| s.get(key).and_then(|i| i.duration()).unwrap_or(Span::seconds(default));
    let found = Healthcheck {
        probe: probe(&s),
        interval: span("interval", 10),
        timeout: span("timeout", 5),
        start_period: span("start_period", 30),
        retries: s.get("retries").and_then(|i| i.within(1, 1000)).unwrap_or(3),
    };
    for key in ["interval", "timeout"] {
        if let Some(item) = s.get(key)
            && item.text().as_deref() == Some("0s")
        {
            item.complain(format!("`{key}` must be longer than nothing"), None);
        }
    }
    s.finish();
    found
}

fn allow(s: &Section<'_>) -> Allow {
    let texts = |key| s.get(key).map(|i| i.texts()).unwrap_or_default();
    Allow {
        listen: texts("listen"),
        connect: texts("connect"),
        write: texts("write"),
        read: texts("read"),
        memory: s.get("memory").and_then(|i| i.size()),
        cpu: s.get("cpu").and_then(|i| i.thousandths(1_024_000)),
        processes: s.get("processes").and_then(|i| i.within(1, 4_194_304)),
    }
}

/// Completes what follows from other parts and puts every list into canonical order.
pub(crate) fn settle(d: &mut Definition) {
    d.includes.sort_by(|a, b| a.name.cmp(&b.name));
    d.includes.iter_mut().for_each(|i| {
        i.with.sort();
        i.bind.sort();
    });
    d.artifacts.sort_by(|a, b| (&a.role, &a.name).cmp(&(&b.role, &b.name)));
    d.templates.sort_by(|a, b| (&a.role, &a.path).cmp(&(&b.role, &b.path)));
    for role in &mut d.draft.roles {
        for template in texts(role) {
            declare_used(&mut role.ports, &template);
        }
    }
    canonical(&mut d.draft);
}

/// Every text of a role that may use a port without declaring it.
fn texts(role: &Role) -> Vec<String> {
    use crate::release::Probe;
    let mut all: Vec<String> = role.exports.iter().flat_map(|e| e.fields.iter().map(|(_, t)| t.clone())).collect();
    for s in &role.services {
        all.extend(s.command.iter().cloned().chain(s.environment.iter().map(|(_, t)| t.clone())));
        match s.healthcheck.as_ref().map(|h| &h.probe) {
            Some(Probe::Http { url, .. }) => all.push(url.clone()),
            Some(Probe::Tcp { address }) => all.push(address.clone()),
            Some(Probe::Exec { command }) => all.extend(command.iter().cloned()),
            None => {}
        }
    }
    all.extend(role.hooks.iter().flat_map(|h| h.command.iter().cloned()));
    all
}

/// Declares the ports that a text names.
pub(crate) fn declare_used(ports: &mut Vec<Port>, template: &str) {
    for reference in substitution::references(template) {
        if let Reference::Port(name) = reference {
            declare(ports, &name);
        }
    }
}

/// Sorts every list whose order means nothing, fills in the orders that follow.
pub(crate) fn canonical(release: &mut Release) {
    for secret in &mut release.secrets {
        if secret.roles.is_empty() {
            let reads = |r: &Role| r.services.iter().any(|s| s.secrets.contains(&secret.name));
            let hands_out = |r: &Role| r.exports.iter().any(|e| e.secrets.iter().any(|(_, s)| *s == secret.name));
            secret.roles = release.roles.iter().filter(|r| reads(r) || hands_out(r)).map(|r| r.name.clone()).collect();
        }
        secret.roles.sort();
    }
    release.platforms.sort();
    release.parents.sort_by_key(|p| (p.publisher, p.release));
    release.includes.sort_by(|a, b| a.name.cmp(&b.name));
    for include in &mut release.includes {
        include.with.sort();
        include.bind.sort();
    }
    release.params.sort_by(|a, b| a.name.cmp(&b.name));
    release.secrets.sort_by(|a, b| a.name.cmp(&b.name));
    release.tests.sort_by(|a, b| a.name.cmp(&b.name));
    release.tests.iter_mut().for_each(|t| t.when.sort());
    release.roles.sort_by(|a, b| a.name.cmp(&b.name));
    for role in &mut release.roles {
        role.imports.sort_by(|a, b| a.name.cmp(&b.name));
        role.exports.sort_by(|a, b| a.name.cmp(&b.name));
        for export in &mut role.exports {
            export.fields.sort();
            export.secrets.sort();
        }
        role.artifacts.sort_by(|a, b| a.name.cmp(&b.name));
        role.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        role.ports.sort_by(|a, b| a.name.cmp(&b.name));
        role.files.sort_by(|a, b| a.path.cmp(&b.path));
        role.hooks.sort_by_key(|h| h.kind);
        for service in &mut role.services {
            service.environment.sort();
            service.secrets.sort();
            service.depends_on.sort();
        }
        for list in [&mut role.allow.listen, &mut role.allow.connect, &mut role.allow.write, &mut role.allow.read] {
            list.sort();
        }
        graph::order_services(&mut role.services);
    }
    graph::complete_order(release);
}
