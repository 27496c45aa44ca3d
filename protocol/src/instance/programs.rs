//! The programs of a role, filled in: services, the files they read, hooks, migrations and tests. Invariant: a secret is
//! in none of them except as the path of its file.

use super::{
    HealthSpec, HookSpec, InstanceError, MigrateSpec, ProbeSpec, RenderedFile, ServiceSpec, TestSpec,
    bind::{Binder, Kept, Scope, View},
    component::Component,
    destination::Destination,
    order::Wish,
    role::Behaviour,
    world::World,
};
use crate::{
    release::{Probe, Role, Service, Template},
    text::Foreign,
};
use std::collections::BTreeMap;

/// Characters of an address that an error shows.
const SHOWN: usize = 200;

/// The programs of one role.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) services: Vec<Wish>,
    /// In the order of the role's own list.
    pub(super) files: Vec<RenderedFile>,
    pub(super) hooks: Vec<HookSpec>,
    world: World,
}

impl Programs {
    pub(super) fn of<'a>(
        binder: &Binder<'_, 'a>,
        component: &Component<'a>,
        role: &Role,
    ) -> Result<Self, InstanceError> {
        let scope = Scope { component, role, view: View::Inside };
        let key = component.key(&[&role.name]);
        let world = World::of(binder, scope, &format!("role {} of {}", role.name, component.label()))?;
        let mut made = Self { services: Vec::new(), files: Vec::new(), hooks: Vec::new(), world };
        for file in &role.files {
            let place = format!("file {} of {}", file.path, component.label());
            let stays =
                file.path.split('/').all(|p| !matches!(p, "" | "." | "..")) && !file.path.contains(['\0', '\\']);
            if !stays {
                return Err(InstanceError::Path { place, path: file.path.clone() });
            }
            let text = binder.fill(&file.template, scope, &place)?;
            made.files.push(RenderedFile { path: format!("{key}/{}", file.path), text, mode: file.mode & 0o777 });
        }
        for service in &role.services {
            let wish = wish(binder, scope, service, &key, &made.world)?;
            made.world.join(&wish.spec);
            made.services.push(wish);
        }
        for hook in &role.hooks {
            let place = format!("hook {} of role {} of {}", hook.kind.word(), role.name, component.label());
            let scope = Scope { view: View::Hook, ..scope };
            let (environment, sandbox) = made.world.helper(binder, scope, &hook.command, &place)?;
            made.hooks.push(HookSpec {
                role: key.clone(),
                kind: hook.kind,
                command: filled(binder, scope, &hook.command, &place)?,
                within: hook.within,
                environment,
                sandbox,
            });
        }
        Ok(made)
    }

    /// What of it decides how the role behaves; files that a change of does nothing are left out.
    pub(super) fn behaviour(&self, role: &Role) -> Behaviour<'_> {
        let files = self.files.iter().zip(&role.files).filter(|(_, f)| f.on_change != "nothing");
        Behaviour {
            services: self.services.iter().map(|w| &w.spec).collect(),
            files: files.map(|(rendered, _)| rendered).collect(),
            hooks: self.hooks.iter().collect(),
        }
    }
}

fn filled<'a>(
    binder: &Binder<'_, 'a>,
    scope: Scope<'_, 'a>,
    command: &[Template],
    place: &str,
) -> Result<Vec<String>, InstanceError> {
    let filled = command.iter().map(|text| binder.fill(text, scope, place)).collect::<Result<Vec<_>, _>>()?;
    if filled.first().is_none_or(String::is_empty) {
        return Err(InstanceError::Unsupported { place: place.into(), what: "its command is empty".into() });
    }
    Ok(filled)
}

/// A service's variables, and the secrets that it lists.
fn variables<'a>(
    binder: &Binder<'_, 'a>,
    scope: Scope<'_, 'a>,
    service: &Service,
    place: &str,
) -> Result<(BTreeMap<String, String>, Vec<Kept>), InstanceError> {
    let mut environment = BTreeMap::new();
    for (name, text) in &service.environment {
        environment.insert(name.clone(), binder.fill(text, scope, place)?);
    }
    let mut secrets = Vec::new();
    for listed in &service.secrets {
        let kept = binder.listed_secret(listed, scope).map_err(|e| e.at(place, listed))?;
        let name = listed.trim_start_matches("import.").replace(['-', '.'], "_").to_ascii_uppercase();
        environment.insert(format!("SECRET_{name}_FILE"), kept.path.clone());
        secrets.push(kept);
    }
    Ok((environment, secrets))
}

fn wish<'a>(
    binder: &Binder<'_, 'a>,
    scope: Scope<'_, 'a>,
    service: &Service,
    key: &str,
    world: &World,
) -> Result<Wish, InstanceError> {
    let Scope { component, role, .. } = scope;
    let place = format!("service {} of role {} of {}", service.name, role.name, component.label());
    let command = filled(binder, scope, &service.command, &place)?;
    let (environment, secrets) = variables(binder, scope, service, &place)?;
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
    let name = component.service_key(role, &service.name);
    let health = match &service.healthcheck {
        None => None,
        Some(check) => Some(HealthSpec {
            probe: probe(binder, &check.probe, scope, world, &place)?.0,
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
        secrets: secrets.iter().map(|kept| kept.key.clone()).collect(),
        after: Vec::new(),
        restart: service.restart,
        stop_signal: service.stop_signal,
        grace: service.stop_grace_period,
        health,
        sandbox: world.service(binder, scope, service, secrets, &place)?,
    };
    Ok(Wish { spec, own: service.name.clone(), services, roles })
}

/// The programs of a component's roles, by role.
pub(super) type ByRole<'r> = BTreeMap<&'r str, Programs>;

/// The tests of a component.
pub(super) fn tests<'a>(
    binder: &Binder<'_, 'a>,
    component: &Component<'a>,
    roles: &ByRole<'_>,
) -> Result<Vec<TestSpec>, InstanceError> {
    let one = |test: &crate::release::Test| {
        let place = format!("test {} on role {} of {}", test.name, test.role, component.label());
        let (role, programs) = acting(component, roles, &test.role, &place)?;
        let scope = Scope { component, role, view: View::Outside };
        let (question, to) = probe(binder, &test.probe, scope, &programs.world, &place)?;
        // Only a program needs a world of its own; the other questions are the node's.
        let (environment, sandbox) = match (&test.probe, to) {
            (Probe::Exec { command }, _) => programs.world.helper(binder, scope, command, &place)?,
            (_, Some(to)) => (BTreeMap::new(), programs.world.asking(&to)),
            (_, None) => Default::default(),
        };
        Ok(TestSpec {
            name: component.key(&[&test.name]),
            role: component.key(&[&role.name]),
            probe: question,
            environment,
            sandbox,
            within: test.within,
            when: test.when.clone(),
        })
    };
    component.release.tests.iter().map(one).collect()
}

/// How a component's data is carried over, if it says so.
pub(super) fn migrate<'a>(
    binder: &Binder<'_, 'a>,
    component: &Component<'a>,
    roles: &ByRole<'_>,
) -> Result<Option<MigrateSpec>, InstanceError> {
    let Some(migrate) = &component.release.update.migrate else { return Ok(None) };
    let place = format!("migrate of {}", component.label());
    let (role, programs) = acting(component, roles, &migrate.role, &place)?;
    let scope = Scope { component, role, view: View::Inside };
    let (environment, sandbox) = programs.world.helper(binder, scope, &migrate.command, &place)?;
    Ok(Some(MigrateSpec {
        component: component.path.clone(),
        from_epoch: migrate.from_epoch,
        role: component.key(&[&role.name]),
        command: filled(binder, scope, &migrate.command, &place)?,
        needs_snapshot: migrate.needs_snapshot,
        environment,
        sandbox,
    }))
}

/// The role for which something acts.
fn acting<'c, 'p>(
    component: &'c Component<'_>,
    roles: &'p ByRole<'_>,
    name: &str,
    place: &str,
) -> Result<(&'c Role, &'p Programs), InstanceError> {
    let found = component.role(name).and_then(|role| Some((role, roles.get(name)?)));
    found.ok_or_else(|| InstanceError::Unsupported { place: place.into(), what: format!("there is no role {name:?}") })
}

/// A question filled in, and where the node goes to ask it.
fn probe<'a>(
    binder: &Binder<'_, 'a>,
    probe: &Probe,
    scope: Scope<'_, 'a>,
    world: &World,
    place: &str,
) -> Result<(ProbeSpec, Option<Destination>), InstanceError> {
    let fill = |text: &String| binder.fill(text, scope, place);
    // `:PORT` means this device.
    let here = |text: String, scheme: &str| match text.starts_with(':') {
        true => format!("{scheme}{}{text}", super::HOST),
        false => text,
    };
    let (question, address) = match probe {
        Probe::Http { url, status, contains } => {
            let url = here(fill(url)?, "http://");
            let contains = contains.as_ref().map(fill).transpose()?;
            (ProbeSpec::Http { url: url.clone(), status: *status, contains }, url)
        }
        Probe::Tcp { address } => {
            let address = here(fill(address)?, "");
            (ProbeSpec::Tcp { address: address.clone() }, address)
        }
        Probe::Exec { command } => {
            return Ok((ProbeSpec::Exec { command: filled(binder, scope, command, place)? }, None));
        }
    };
    let wrong = |why: String| InstanceError::Asks {
        place: place.into(),
        role: scope.role.name.clone(),
        address: Foreign(address.chars().take(SHOWN).collect::<String>()).to_string(),
        why,
    };
    let to = question.destination().map_err(wrong)?;
    match to {
        Some(to) if !world.may_ask(binder, &to) => Err(wrong("that is no port of this softservice".into())),
        to => Ok((question, to)),
    }
}
