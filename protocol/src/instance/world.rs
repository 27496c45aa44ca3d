//! The sandbox of each program, filled in from its role's permissions. Invariant: default-deny: a program gets what its
//! role owns, what it lists and what `allow` names, and of other roles no more than the address of a binding.

use super::{
    InstanceError, Sandbox, ServiceSpec,
    bind::{Binder, Kept, Lost, Scope, View},
    destination::Destination,
    sandbox::{Listen, Mount, Network, Reach, Transport},
};
use crate::{
    definition::substitution::{self, Reference},
    release::{Probe, Service, Template},
};
use std::collections::BTreeMap;

/// The worlds of a role's programs: what all share is worked out once, for a role may have hundreds of them.
#[derive(Debug)]
pub(super) struct World {
    /// What every program of the role gets.
    role: Sandbox,
    /// What its services get together; the root is that of the first service that has one.
    together: Sandbox,
    /// The variables of its services together; of two with one name the later service's.
    environment: BTreeMap<String, String>,
    /// What `allow.connect` names beyond imports.
    allowed: Vec<Reach>,
}

impl World {
    pub(super) fn of<'a>(binder: &Binder<'_, 'a>, scope: Scope<'_, 'a>, place: &str) -> Result<Self, InstanceError> {
        let role = of_role(binder, scope, place)?;
        let allowed = scope.role.allow.connect.iter().filter_map(|entry| Reach::of(entry)).collect();
        Ok(Self { together: role.clone(), role, environment: BTreeMap::new(), allowed })
    }

    /// Whether the node may go there to ask for this role: to any port of the softservice, to the numbers that the role
    /// listens on by its own choice, and where its own programs may.
    pub(super) fn may_ask(&self, binder: &Binder<'_, '_>, to: &Destination) -> bool {
        let chosen = |port| self.role.listen.contains(&Listen { transport: Transport::Tcp, port });
        to.is_allowed(|port| binder.is_own(port) || chosen(port), &self.allowed)
    }

    /// What the node is held to when it asks at `to`: nothing is opened for what is the softservice's own.
    pub(super) fn asking(&self, to: &Destination) -> Sandbox {
        match to.host.is_own() {
            true => Sandbox::default(),
            false => Sandbox { connect: self.allowed.clone(), ..Sandbox::default() },
        }
    }

    /// What one service gets: its role's, its root, and the files of exactly the secrets that it lists.
    pub(super) fn service<'a>(
        &self,
        binder: &Binder<'_, 'a>,
        scope: Scope<'_, 'a>,
        service: &Service,
        secrets: Vec<Kept>,
        place: &str,
    ) -> Result<Sandbox, InstanceError> {
        let mut sandbox = self.role.clone();
        if let Some(name) = &service.root {
            sandbox.root = Some(binder.fill(&format!("${{artifact.{name}}}"), scope, place)?);
        }
        sandbox.read.extend(secrets.into_iter().flat_map(Kept::files).map(Mount::here));
        let texts = service.command.iter().chain(service.environment.iter().map(|(_, text)| text));
        let asks = service.healthcheck.iter().flat_map(|h| match &h.probe {
            Probe::Exec { command } => command.as_slice(),
            Probe::Http { .. } | Probe::Tcp { .. } => &[],
        });
        if texts.chain(asks).any(|text| names_program(text)) {
            sandbox.read.push(Mount::here(program(binder, place)?));
        }
        tidy(&mut sandbox);
        Ok(sandbox)
    }

    /// A service is there: programs that act for the role see what it sees.
    pub(super) fn join(&mut self, service: &ServiceSpec) {
        self.environment.extend(service.environment.clone());
        self.together.read.extend(service.sandbox.read.iter().cloned());
        if self.together.root.is_none() {
            self.together.root.clone_from(&service.sandbox.root);
        }
        tidy(&mut self.together);
    }

    /// What a program gets that is no service of the role but acts for it, a test, a hook or a migration: what its
    /// services get together, and what its own command names.
    pub(super) fn helper<'a>(
        &self,
        binder: &Binder<'_, 'a>,
        scope: Scope<'_, 'a>,
        command: &[Template],
        place: &str,
    ) -> Result<(BTreeMap<String, String>, Sandbox), InstanceError> {
        let variables = self.environment.iter().map(|(name, text)| name.len() + text.len());
        binder.spend(variables.sum(), place)?;
        let mut sandbox = self.together.clone();
        for reference in command.iter().flat_map(|text| substitution::references(text)) {
            name(binder, scope, &reference, &mut sandbox).map_err(|e| e.at(place, &reference.to_string()))?;
        }
        tidy(&mut sandbox);
        Ok((self.environment.clone(), sandbox))
    }
}

/// What every program of a role gets.
fn of_role<'a>(binder: &Binder<'_, 'a>, scope: Scope<'_, 'a>, place: &str) -> Result<Sandbox, InstanceError> {
    let Scope { component, role, .. } = scope;
    let fill = |reference: String| binder.fill(&reference, scope, place);
    let mut sandbox = Sandbox {
        memory: role.allow.memory,
        cpu: role.allow.cpu,
        processes: role.allow.processes,
        ..Sandbox::default()
    };
    for artifact in &role.artifacts {
        sandbox.read.push(Mount::here(fill(format!("${{artifact.{}}}", artifact.name))?));
    }
    sandbox.read.push(Mount::here(fill("${files}".into())?));
    sandbox.read.extend(role.allow.read.iter().map(Mount::here));
    if role.files.iter().any(|f| names_program(&f.template)) {
        sandbox.read.push(Mount::here(program(binder, place)?));
    }
    for volume in &role.volumes {
        let from = fill(format!("${{volume.{}}}", volume.name))?;
        sandbox.write.extend(volume.mount.iter().map(|at| Mount { from: from.clone(), at: at.clone() }));
        sandbox.write.push(Mount::here(from));
    }
    // The other entries name own volumes, which are there already.
    sandbox.write.extend(role.allow.write.iter().filter(|w| w.starts_with('/')).map(Mount::here));
    for port in &role.ports {
        let number = |view| binder.port(component, role, &port.name, view).map_err(|e| e.at(place, &port.name));
        let (inner, public) = (number(View::Inside)?, number(View::Outside)?);
        sandbox.listen.push(Listen { transport: Transport::Tcp, port: inner });
        sandbox.connect.extend([inner, public].map(|n| Reach { to: Network::Device, port: Some(n) }));
    }
    sandbox.listen.extend(role.allow.listen.iter().filter_map(|entry| Listen::of(entry)));
    for import in &role.imports {
        let target = binder.import(component, role, &import.name, 0);
        sandbox
            .connect
            .push(target.and_then(|t| binder.reach(t)).map_err(|e| e.at(place, &format!("import.{}", import.name)))?);
    }
    sandbox.connect.extend(role.allow.connect.iter().filter_map(|entry| Reach::of(entry)));
    tidy(&mut sandbox);
    Ok(sandbox)
}

/// Adds what a reference leads to, beyond what the role has anyhow.
fn name<'a>(
    binder: &Binder<'_, 'a>,
    scope: Scope<'_, 'a>,
    reference: &Reference,
    sandbox: &mut Sandbox,
) -> Result<(), Lost> {
    let Scope { component, role, .. } = scope;
    match reference {
        Reference::Secret(name) => {
            sandbox.read.extend(binder.secret(component, role, name)?.files().map(Mount::here));
        }
        Reference::Softservice => sandbox.read.push(Mount::here(binder.softservice()?)),
        Reference::Import { import, field } => {
            let target = binder.import(component, role, import, 0)?;
            if let Some((_, secret)) = target.export.secrets.iter().find(|(name, _)| name == field) {
                let kept = binder.secret(target.component, target.role, secret)?;
                sandbox.read.extend(kept.files().map(Mount::here));
            }
        }
        Reference::Export { of, export, .. } => {
            let target = binder.target(component, of, export, 0)?;
            sandbox.connect.push(binder.reach(target)?);
        }
        Reference::Param(_)
        | Reference::Artifact(_)
        | Reference::Volume(_)
        | Reference::Port(_)
        | Reference::Files
        | Reference::Platform
        | Reference::Backup => {}
    }
    Ok(())
}

fn program(binder: &Binder<'_, '_>, place: &str) -> Result<String, InstanceError> {
    binder.softservice().map_err(|e| e.at(place, "softservice"))
}

fn names_program(text: &str) -> bool {
    substitution::references(text).contains(&Reference::Softservice)
}

/// Canonical: ascending, each once.
fn tidy(sandbox: &mut Sandbox) {
    sandbox.read.sort();
    sandbox.read.dedup();
    sandbox.write.sort();
    sandbox.write.dedup();
    sandbox.listen.sort();
    sandbox.listen.dedup();
    sandbox.connect.sort();
    sandbox.connect.dedup();
}
