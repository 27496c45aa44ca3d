//! Needs and the instance, from components and bindings. Invariant: services come in an order in which each one
//! stands behind all that it waits for.

use super::{
    Answers, Assignment, Closure, Endpoint, HealthSpec, Instance, InstanceError, Needs, PortNeed, ProbeSpec,
    RenderedFile, RoleNeed, SecretNeed, ServiceSpec, TestSpec, TreeNeed, VolumeNeed,
    bind::{Binder, Scope},
    component::{self, Component},
};
use crate::{
    definition::answer,
    id::ReleaseId,
    release::{Artifact, Probe, Role, Service},
    tree::TreeRef,
};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a key: it names a folder.
const KEY_BYTES: usize = 240;

pub(super) fn needs(
    closure: &Closure,
    top: ReleaseId,
    answers: &Answers,
    platform: &str,
) -> Result<Needs, InstanceError> {
    let components = component::walk(closure, top)?;
    let binder = Binder::new(&components, answers, None);
    let mut needs = Needs::default();
    if let Some(top) = components.by_path.get("") {
        needs.questions = questions(top, answers)?;
    }
    for component in components.order.iter().filter_map(|p| components.by_path.get(p)) {
        fits(component, platform)?;
        for secret in &component.release.secrets {
            let key = short(component.key(&[&secret.name]))?;
            needs.secrets.push(SecretNeed { key, generate: secret.generate.clone(), show_once: secret.show_once });
        }
        for role in &component.release.roles {
            let key = |name: &str| short(component.key(&[&role.name, name]));
            for port in &role.ports {
                needs.ports.push(PortNeed { key: key(&port.name)?, wish: port.wish });
            }
            for volume in &role.volumes {
                let (keep_on_remove, backup) = (volume.keep_on_remove, volume.backup.clone());
                needs.volumes.push(VolumeNeed { key: key(&volume.name)?, keep_on_remove, backup });
            }
            for artifact in &role.artifacts {
                let tree = tree(component, artifact, platform)?.clone();
                needs.trees.push(TreeNeed { key: key(&artifact.name)?, tree });
            }
            needs.roles.push(role_need(&binder, component, role)?);
        }
    }
    Ok(needs)
}

fn short(key: String) -> Result<String, InstanceError> {
    if key.len() <= KEY_BYTES {
        return Ok(key);
    }
    let place = key.chars().take(60).collect();
    Err(InstanceError::TooMuch { place, what: "bytes of names joined".into(), limit: KEY_BYTES })
}

fn questions(top: &Component<'_>, answers: &Answers) -> Result<Vec<crate::release::Param>, InstanceError> {
    let params = &top.release.params;
    for (name, given) in answers {
        let Some(param) = params.iter().find(|p| p.name == *name) else {
            let known: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
            let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
            return Err(InstanceError::Unasked { name: name.clone(), known });
        };
        answer::accept(param, given).map_err(|why| InstanceError::Answer { name: name.clone(), why })?;
    }
    Ok(params.iter().filter(|p| p.default.is_none() && !answers.contains_key(&p.name)).cloned().collect())
}

fn fits(component: &Component<'_>, platform: &str) -> Result<(), InstanceError> {
    let wanted = &component.release.platforms;
    if wanted.is_empty() || wanted.iter().any(|p| p == platform) {
        return Ok(());
    }
    Err(InstanceError::Platform { place: component.label(), wanted: wanted.join(", "), platform: platform.into() })
}

fn tree<'r>(component: &Component<'_>, artifact: &'r Artifact, platform: &str) -> Result<&'r TreeRef, InstanceError> {
    let of = |wanted: &str| artifact.trees.iter().find(|(p, _)| p == wanted).map(|(_, tree)| tree);
    of(platform).or_else(|| of("any")).ok_or_else(|| InstanceError::Platform {
        place: format!("artifact {} of {}", artifact.name, component.label()),
        wanted: artifact.trees.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>().join(", "),
        platform: platform.into(),
    })
}

fn role_need<'a>(binder: &Binder<'_, 'a>, component: &Component<'a>, role: &Role) -> Result<RoleNeed, InstanceError> {
    let mut uses = BTreeSet::new();
    for import in &role.imports {
        let place = format!("role {} of {}", role.name, component.label());
        let target = binder.import(component, role, &import.name, 0);
        let target = target.map_err(|e| e.at(&place, &format!("import.{}", import.name)))?;
        uses.insert(target.component.key(&[&target.role.name]));
    }
    // Serde's JSON of these types is deterministic: no maps with random order are inside.
    let definition = serde_json::to_string(&(role, &component.release.secrets)).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(definition.as_bytes());
    for used in &uses {
        hasher.update(used.as_bytes()).update(b"\0");
    }
    for param in &component.release.params {
        let given = match &component.parent {
            None => binder.answers.get(&param.name),
            Some((_, include)) => include.with.iter().find(|(n, _)| *n == param.name).map(|(_, text)| text),
        };
        let value = given.or(param.default.as_ref()).map_or("", String::as_str);
        hasher.update(param.name.as_bytes()).update(b"\0").update(value.as_bytes()).update(b"\0");
    }
    // Includes get parameters as templates over their parent's: its answers decide as well.
    if component.parent.is_some() {
        for (name, answer) in binder.answers {
            hasher.update(name.as_bytes()).update(b"\0").update(answer.as_bytes()).update(b"\0");
        }
    }
    Ok(RoleNeed {
        key: component.key(&[&role.name]),
        volumes: role.volumes.iter().map(|v| component.key(&[&role.name, &v.name])).collect(),
        uses: uses.into_iter().collect(),
        fingerprint: hasher.finalize().to_hex().to_string(),
    })
}

pub(super) fn instance(
    closure: &Closure,
    top: ReleaseId,
    answers: &Answers,
    assignment: &Assignment,
) -> Result<Instance, InstanceError> {
    let needs = needs(closure, top, answers, &assignment.platform)?;
    if !needs.questions.is_empty() {
        let names: Vec<&str> = needs.questions.iter().map(|q| q.name.as_str()).collect();
        return Err(InstanceError::Unanswered { names: names.join(", ") });
    }
    let components = component::walk(closure, top)?;
    let binder = Binder::new(&components, answers, Some(assignment));
    let mut made = Made::default();
    for component in components.order.iter().filter_map(|p| components.by_path.get(p)) {
        for param in &component.release.params {
            binder.param(component, &param.name, 0)?;
        }
        for role in in_order(component) {
            made.role(&binder, Scope { component, role })?;
        }
        made.tests(&binder, component)?;
    }
    let Some(first) = components.by_path.get("") else {
        return Err(InstanceError::Missing { release: top, place: "the softservice".into() });
    };
    Ok(Instance {
        distro: first.release.distro.clone(),
        version: first.release.version.clone(),
        release: top,
        epoch: first.release.epoch,
        services: ordered(made.services, &needs.roles)?,
        roles: needs.roles,
        files: made.files,
        tests: made.tests,
        settle: first.release.update.settle,
        endpoints: endpoints(&binder, first)?,
        permissions: made.permissions.into_iter().collect(),
        ports: assignment.ports.clone(),
        fronts: Vec::new(),
        hooks: Vec::new(),
        migrate: None,
    })
}

/// Roles in the order that `[update] order` wishes, the others behind as listed.
fn in_order<'s>(component: &'s Component<'_>) -> Vec<&'s Role> {
    let order = &component.release.update.order;
    let mut roles: Vec<&Role> = component.release.roles.iter().collect();
    roles.sort_by_key(|r| order.iter().position(|o| *o == r.name).unwrap_or(order.len()));
    roles
}

/// What was made so far.
#[derive(Debug, Default)]
struct Made {
    services: Vec<Wish>,
    files: Vec<RenderedFile>,
    tests: Vec<TestSpec>,
    permissions: BTreeSet<String>,
}

/// A service with what it waits for, before names are known to exist.
#[derive(Debug)]
struct Wish {
    spec: ServiceSpec,
    /// The service's own name in its role.
    own: String,
    /// Services of the same role.
    services: Vec<String>,
    /// Roles all of whose services come first.
    roles: Vec<String>,
}

impl Made {
    fn role<'a>(&mut self, binder: &Binder<'_, 'a>, scope: Scope<'_, 'a>) -> Result<(), InstanceError> {
        let Scope { component, role } = scope;
        let key = component.key(&[&role.name]);
        for file in &role.files {
            let place = format!("file {} of {}", file.path, component.label());
            let stays =
                file.path.split('/').all(|p| !matches!(p, "" | "." | "..")) && !file.path.contains(['\0', '\\']);
            if !stays {
                return Err(InstanceError::Path { place, path: file.path.clone() });
            }
            let text = binder.fill(&file.template, scope, &place)?;
            self.files.push(RenderedFile { path: format!("{key}/{}", file.path), text, mode: file.mode & 0o777 });
        }
        for service in &role.services {
            self.service(binder, scope, service, &key)?;
        }
        let own = role.imports.iter().map(|i| format!("import.{}", i.name)).collect::<Vec<_>>();
        let volumes: Vec<&str> = role.volumes.iter().map(|v| v.name.as_str()).collect();
        let connect = role.allow.connect.iter().filter(|c| !own.contains(c));
        let write = role.allow.write.iter().filter(|w| !volumes.contains(&w.as_str()));
        let asked = (role.allow.listen.iter().map(|x| ("listen", x)))
            .chain(connect.map(|x| ("connect", x)))
            .chain(write.map(|x| ("write", x)))
            .chain(role.allow.read.iter().map(|x| ("read", x)));
        self.permissions.extend(asked.map(|(verb, what)| format!("{key}: {verb} {what}")));
        Ok(())
    }

    fn service<'a>(
        &mut self,
        binder: &Binder<'_, 'a>,
        scope: Scope<'_, 'a>,
        service: &Service,
        key: &str,
    ) -> Result<(), InstanceError> {
        let Scope { component, role } = scope;
        let place = format!("service {} of role {} of {}", service.name, role.name, component.label());
        if service.root.as_deref().is_some_and(|r| r != "host") {
            let what = "root: a tree of its own needs the sandbox, which this version does not have".into();
            return Err(InstanceError::Unsupported { place, what });
        }
        let fill = |text: &String| binder.fill(text, scope, &place);
        let command = service.command.iter().map(fill).collect::<Result<Vec<_>, _>>()?;
        if command.first().is_none_or(String::is_empty) {
            return Err(InstanceError::Unsupported { place, what: "its command is empty".into() });
        }
        let mut environment = BTreeMap::new();
        for (name, text) in &service.environment {
            environment.insert(name.clone(), fill(text)?);
        }
        let mut secrets = Vec::new();
        for listed in &service.secrets {
            let (key, path) = binder.listed_secret(listed, scope).map_err(|e| e.at(&place, listed))?;
            let name = listed.trim_start_matches("import.").replace(['-', '.'], "_").to_ascii_uppercase();
            environment.insert(format!("SECRET_{name}_FILE"), path);
            secrets.push(key);
        }
        let (mut services, mut roles) = (Vec::new(), Vec::new());
        for wanted in &service.depends_on {
            if let Some(import) = wanted.strip_prefix("import.") {
                let target = binder.import(component, role, import, 0).map_err(|e| e.at(&place, wanted))?;
                roles.push(target.component.key(&[&target.role.name]));
            } else if role.services.iter().any(|s| s.name == *wanted) {
                services.push(wanted.clone());
            } else {
                let what = format!(
                    "depends_on {wanted:?}: there is no such service in its role, and imports are written import.NAME"
                );
                return Err(InstanceError::Unsupported { place, what });
            }
        }
        let namesakes = component.release.roles.iter().flat_map(|r| &r.services).filter(|s| s.name == service.name);
        let name = match namesakes.count() {
            0 | 1 => component.key(&[&service.name]),
            _ => component.key(&[&role.name, &service.name]),
        };
        let health = match &service.healthcheck {
            None => None,
            Some(check) => Some(HealthSpec {
                probe: probe(binder, &check.probe, scope, &place)?,
                interval: check.interval,
                timeout: check.timeout,
                start_period: check.start_period,
                retries: check.retries,
            }),
        };
        let spec = ServiceSpec {
            name,
            role: key.into(),
            command,
            environment,
            secrets,
            after: Vec::new(),
            restart: service.restart,
            stop_signal: service.stop_signal,
            grace: service.stop_grace_period,
            health,
            sandbox: super::Sandbox::default(),
        };
        self.services.push(Wish { spec, own: service.name.clone(), services, roles });
        Ok(())
    }

    fn tests<'a>(&mut self, binder: &Binder<'_, 'a>, component: &Component<'a>) -> Result<(), InstanceError> {
        for test in &component.release.tests {
            let place = format!("test {} of {}", test.name, component.label());
            let Some(role) = component.role(&test.role) else {
                let what = format!("there is no role {:?}", test.role);
                return Err(InstanceError::Unsupported { place, what });
            };
            let probe = probe(binder, &test.probe, Scope { component, role }, &place)?;
            let (name, role) = (component.key(&[&test.name]), component.key(&[&role.name]));
            let (within, when) = (test.within, test.when.clone());
            let (environment, sandbox) = (BTreeMap::new(), super::Sandbox::default());
            self.tests.push(TestSpec { name, role, probe, environment, sandbox, within, when });
        }
        Ok(())
    }
}

fn probe<'a>(
    binder: &Binder<'_, 'a>,
    probe: &Probe,
    scope: Scope<'_, 'a>,
    place: &str,
) -> Result<ProbeSpec, InstanceError> {
    let fill = |text: &String| binder.fill(text, scope, place);
    Ok(match probe {
        Probe::Http { url, status, contains } => {
            let url = fill(url)?;
            // `:PORT/path` means this device.
            let url = if url.starts_with(':') { format!("http://{}{url}", super::HOST) } else { url };
            ProbeSpec::Http { url, status: *status, contains: contains.as_ref().map(fill).transpose()? }
        }
        Probe::Tcp { address } => {
            let address = fill(address)?;
            let address = if address.starts_with(':') { format!("{}{address}", super::HOST) } else { address };
            ProbeSpec::Tcp { address }
        }
        Probe::Exec { command } => ProbeSpec::Exec { command: command.iter().map(fill).collect::<Result<_, _>>()? },
    })
}

fn endpoints<'a>(binder: &Binder<'_, 'a>, top: &Component<'a>) -> Result<Vec<Endpoint>, InstanceError> {
    let all: Vec<(&Role, &str)> =
        top.release.roles.iter().flat_map(|r| r.exports.iter().map(move |e| (r, e.name.as_str()))).collect();
    let mut endpoints = Vec::new();
    for (role, export) in &all {
        let several = all.iter().filter(|(_, name)| name == export).count() > 1;
        let name = if several { format!("{}.{export}", role.name) } else { (*export).to_owned() };
        let reference = format!("${{{}.{export}.url}}", role.name);
        let place = format!("export {export} of role {}", role.name);
        let url = binder.fill(&reference, Scope { component: top, role }, &place)?;
        endpoints.push(Endpoint { name, url });
    }
    endpoints.sort();
    Ok(endpoints)
}

/// Start order: what `depends_on` says always holds; that a role comes after the roles it uses holds unless roles use
/// each other; the rest keeps the order of the definition.
fn ordered(wishes: Vec<Wish>, roles: &[RoleNeed]) -> Result<Vec<ServiceSpec>, InstanceError> {
    let mut names = BTreeSet::new();
    for wish in &wishes {
        if !names.insert(wish.spec.name.clone()) {
            return Err(InstanceError::Twice { name: wish.spec.name.clone() });
        }
    }
    let hard: Vec<BTreeSet<usize>> = wishes.iter().map(|w| before(&wishes, w)).collect();
    let soft: Vec<BTreeSet<usize>> = wishes
        .iter()
        .zip(&hard)
        .map(|(wish, hard)| {
            let uses = roles.iter().find(|r| r.key == wish.spec.role).map_or(&[][..], |r| r.uses.as_slice());
            let used = (0..wishes.len()).filter(|i| {
                wishes.get(*i).is_some_and(|w| w.spec.role != wish.spec.role && uses.contains(&w.spec.role))
            });
            hard.iter().copied().chain(used).collect()
        })
        .collect();
    let order = sorted(&soft).or_else(|| sorted(&hard)).ok_or_else(|| InstanceError::Circle {
        place: "depends_on".into(),
        what: wishes.iter().map(|w| w.spec.name.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let after: Vec<Vec<String>> = hard
        .iter()
        .map(|set| set.iter().filter_map(|i| wishes.get(*i)).map(|w| w.spec.name.clone()).collect())
        .collect();
    let mut specs: Vec<Option<ServiceSpec>> =
        wishes.into_iter().zip(after).map(|(w, after)| Some(ServiceSpec { after, ..w.spec })).collect();
    Ok(order.into_iter().filter_map(|i| specs.get_mut(i).and_then(Option::take)).collect())
}

fn before(wishes: &[Wish], wish: &Wish) -> BTreeSet<usize> {
    let waits = |other: &Wish| {
        let beside = other.spec.role == wish.spec.role && wish.services.contains(&other.own);
        beside || (other.spec.role != wish.spec.role && wish.roles.contains(&other.spec.role))
    };
    wishes.iter().enumerate().filter(|(_, other)| waits(other)).map(|(i, _)| i).collect()
}

/// A topological order that keeps ascending numbers where it may; none when there is a circle.
fn sorted(before: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(before.len());
    let mut done = BTreeSet::new();
    while order.len() < before.len() {
        let ready = before.iter().enumerate().find(|(i, b)| !done.contains(i) && b.is_subset(&done));
        let (next, _) = ready?;
        done.insert(next);
        order.push(next);
    }
    Some(order)
}
