//! The instance, from components and bindings. Invariant: what two resolutions of the same inputs say is the same, and
//! everything in it was bounded on the way.

use super::{
    Answers, Assignment, Closure, Endpoint, FrontSpec, Instance, InstanceError,
    bind::{Binder, Scope, View},
    component::{self, Component},
    needs,
    order::ordered,
    programs::{self, ByRole, Programs},
    role,
};
use crate::{id::ReleaseId, release::Role};
use std::collections::BTreeSet;

pub(super) fn instance(
    closure: &Closure,
    top: ReleaseId,
    answers: &Answers,
    assignment: &Assignment,
) -> Result<Instance, InstanceError> {
    let questions = needs::needs(closure, top, answers, &assignment.platform)?.questions;
    if !questions.is_empty() {
        let names: Vec<&str> = questions.iter().map(|q| q.name.as_str()).collect();
        return Err(InstanceError::Unanswered { names: names.join(", ") });
    }
    let components = component::walk(closure, top)?;
    let Some(first) = components.by_path.get("") else {
        return Err(InstanceError::Missing { release: top, place: "the softservice".into() });
    };
    let binder = Binder::new(&components, answers, Some(assignment));
    // The same roles once more, without anything that differs between generations of equal behaviour.
    let canonical = role::canonical(assignment);
    let plain = Binder::new(&components, answers, Some(&canonical));
    let known = reachable(&binder, first)?;
    let mut made = Instance {
        distro: first.release.distro.clone(),
        version: first.release.version.clone(),
        release: top,
        fingerprint: String::new(),
        epoch: first.release.epoch,
        epochs: components.by_path.values().map(|c| (c.path.clone(), c.release.epoch)).collect(),
        roles: Vec::new(),
        services: Vec::new(),
        files: Vec::new(),
        tests: Vec::new(),
        settle: first.release.update.settle,
        endpoints: endpoints(&binder, first)?,
        permissions: Vec::new(),
        ports: assignment.ports.clone(),
        fronts: Vec::new(),
        hooks: Vec::new(),
        migrate: Vec::new(),
    };
    let mut wishes = Vec::new();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softdist/v1/instance\0");
    for component in components.order.iter().filter_map(|p| components.by_path.get(p)) {
        for param in &component.release.params {
            binder.param(component, &param.name, 0)?;
        }
        let (mut programs, mut bare) = (ByRole::new(), ByRole::new());
        for role in &component.release.roles {
            programs.insert(&role.name, Programs::of(&binder, component, role)?);
            bare.insert(&role.name, Programs::of(&plain, component, role)?);
        }
        made.tests.extend(programs::tests(&binder, component, &programs)?);
        made.migrate.extend(programs::migrate(&binder, component, &programs)?);
        absorb(&mut hasher, &programs::tests(&plain, component, &bare)?);
        absorb(&mut hasher, &programs::migrate(&plain, component, &bare)?);
        for role in in_order(component) {
            let name = role.name.as_str();
            let (Some(programs), Some(bare)) = (programs.remove(name), bare.remove(name)) else { continue };
            let scope = Scope { component, role, view: View::Inside };
            let need = role::need(scope, &plain, &bare.behaviour(role), &assignment.platform)?;
            absorb(&mut hasher, &(&need, &bare.files));
            made.roles.push(need);
            made.fronts.extend(fronts(&binder, component, role, &known)?);
            made.permissions.extend(permissions(&component.key(&[name]), role));
            made.permissions.extend(exposed(component, role, &known));
            made.files.extend(programs.files);
            made.hooks.extend(programs.hooks);
            wishes.extend(programs.services);
        }
    }
    made.permissions.sort();
    made.permissions.dedup();
    absorb(&mut hasher, &(&made.endpoints, &made.permissions, &made.settle, &made.epochs));
    made.fingerprint = hasher.finalize().to_hex().to_string();
    made.services = ordered(wishes, &made.roles)?;
    made.fronts.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(made)
}

/// Takes a value into a hash; serde's JSON of these types is deterministic, for their maps are ordered.
fn absorb(hasher: &mut blake3::Hasher, value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).unwrap_or_default();
    hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}

/// Roles in the order that `[update] order` wishes, the others behind as listed.
fn in_order<'s>(component: &'s Component<'_>) -> Vec<&'s Role> {
    let order = &component.release.update.order;
    let mut roles: Vec<&Role> = component.release.roles.iter().collect();
    roles.sort_by_key(|r| order.iter().position(|o| *o == r.name).unwrap_or(order.len()));
    roles
}

/// What a role asks for beyond its own ports, imports and volumes.
fn permissions(key: &str, role: &Role) -> Vec<String> {
    let own = role.imports.iter().map(|i| format!("import.{}", i.name)).collect::<Vec<_>>();
    let volumes: Vec<&str> = role.volumes.iter().map(|v| v.name.as_str()).collect();
    let connect = role.allow.connect.iter().filter(|c| !own.contains(c));
    let write = role.allow.write.iter().filter(|w| !volumes.contains(&w.as_str()));
    let asked = (role.allow.listen.iter().map(|x| ("listen", x)))
        .chain(connect.map(|x| ("connect", x)))
        .chain(write.map(|x| ("write", x)))
        .chain(role.allow.read.iter().map(|x| ("read", x)));
    asked.map(|(verb, what)| format!("{key}: {verb} {what}")).collect()
}

/// Ports at which others reach this role from outside of the device.
fn exposed<'a>(
    component: &'a Component<'_>,
    role: &'a Role,
    reachable: &'a BTreeSet<String>,
) -> impl Iterator<Item = String> + 'a {
    let key = component.key(&[&role.name]);
    let ports = role.ports.iter().filter(|p| reachable.contains(&component.key(&[&role.name, &p.name])));
    ports.map(move |port| reached(&key, &port.name))
}

/// The permission that this is, by the role's key.
pub(crate) fn reached(role: &str, port: &str) -> String {
    format!("{role}: be reached from the network at port {port}")
}

/// Keys of the ports behind what the top distro exports: people reach them.
fn reachable<'a>(binder: &Binder<'_, 'a>, top: &Component<'a>) -> Result<BTreeSet<String>, InstanceError> {
    let mut keys = BTreeSet::new();
    for role in &top.release.roles {
        for export in &role.exports {
            let place = format!("export {} of role {}", export.name, role.name);
            let target = binder.target(top, &role.name, &export.name, 0).map_err(|e| e.at(&place, &export.name))?;
            keys.extend(target.export.port.iter().map(|port| target.component.key(&[&target.role.name, port])));
        }
    }
    Ok(keys)
}

/// The ports of a role that starts beside its predecessor: the device listens on them itself. Also those that no export
/// names, for a test may ask there, and two generations cannot both listen on one number.
fn fronts<'a>(
    binder: &Binder<'_, 'a>,
    component: &Component<'a>,
    role: &Role,
    reachable: &BTreeSet<String>,
) -> Result<Vec<FrontSpec>, InstanceError> {
    let ports = role.ports.iter().filter(|_| !role::alone(role));
    let one = |port: &crate::release::Port| {
        let key = component.key(&[&role.name, &port.name]);
        let place = format!("port {} of role {} of {}", port.name, role.name, component.label());
        let number = |view| binder.port(component, role, &port.name, view).map_err(|e| e.at(&place, &port.name));
        let (public, inner) = (number(View::Outside)?, number(View::Inside)?);
        let everywhere = reachable.contains(&key);
        Ok(FrontSpec { role: component.key(&[&role.name]), public, inner, everywhere, key })
    };
    ports.map(one).collect()
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
        let url = binder.fill(&reference, Scope { component: top, role, view: View::Outside }, &place)?;
        endpoints.push(Endpoint { name, url });
    }
    endpoints.sort();
    Ok(endpoints)
}
