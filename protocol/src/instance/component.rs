//! A closure as a tree of components: the top distro has path "", its include `pg` has path `pg`, that one's include
//! `x` has path `pg.x`. Invariant: every component's release is in the closure, and there are at most
//! [`limits::CLOSURE`] of them, however often releases include each other.
//!
//! Keys of things inside join the path, the role and the name with dots: `web.http`, `pg.main.sql`. Names have no dots and
//! each kind of key has a fixed number of parts after the path, so no two things share a key.

use super::error::InstanceError;
use crate::{
    id::ReleaseId,
    limits,
    release::{Include, Release, Role},
};
use std::collections::BTreeMap;

/// Deepest nesting of includes: templates are followed through it.
const DEPTH: usize = 16;

/// One distro at one place of the whole.
#[derive(Debug, Clone)]
pub(super) struct Component<'a> {
    /// "" for the top, else include names joined by dots.
    pub(super) path: String,
    /// What it is.
    pub(super) release: &'a Release,
    /// The path of whoever includes it, and how.
    pub(super) parent: Option<(String, &'a Include)>,
}

impl Component<'_> {
    /// `name` below this component.
    pub(super) fn key(&self, parts: &[&str]) -> String {
        let mut key = self.path.clone();
        for part in parts {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
        key
    }
    /// What people call it.
    pub(super) fn label(&self) -> String {
        if self.path.is_empty() { self.release.distro.clone() } else { format!("include {}", self.path) }
    }
    /// What a service of it is called: with its role where another role has one of the same name.
    pub(super) fn service_key(&self, role: &Role, service: &str) -> String {
        let namesakes = self.release.roles.iter().flat_map(|r| &r.services).filter(|s| s.name == service);
        match namesakes.count() {
            0 | 1 => self.key(&[service]),
            _ => self.key(&[&role.name, service]),
        }
    }
    /// A role of it.
    pub(super) fn role(&self, name: &str) -> Option<&Role> {
        self.release.roles.iter().find(|r| r.name == name)
    }
}

/// Components by path; also in the order in which their services start: what is included comes first.
#[derive(Debug)]
pub(super) struct Components<'a> {
    pub(super) by_path: BTreeMap<String, Component<'a>>,
    pub(super) order: Vec<String>,
}

impl<'a> Components<'a> {
    /// Every role with the component that has it.
    pub(super) fn all_roles(&self) -> impl Iterator<Item = (&Component<'a>, &'a Role)> {
        self.order.iter().filter_map(|p| self.by_path.get(p)).flat_map(|c| c.release.roles.iter().map(move |r| (c, r)))
    }
    /// The role of this key.
    pub(super) fn of_role(&self, key: &str) -> Option<(&Component<'a>, &'a Role)> {
        self.all_roles().find(|(c, r)| c.key(&[&r.name]) == key)
    }
    /// Keys of all roles.
    pub(super) fn roles(&self) -> Vec<String> {
        self.all_roles().map(|(c, r)| c.key(&[&r.name])).collect()
    }
    /// The service that is called so in the instance: where it stands, and its own name there.
    pub(super) fn of_service(&self, key: &str) -> Option<(&Component<'a>, &'a Role, String)> {
        let named = |(c, r): (&Component<'a>, &'a Role)| {
            let service = r.services.iter().find(|s| c.service_key(r, &s.name) == key)?;
            Some(service.name.clone())
        };
        self.all_roles().find_map(|(c, r)| Some((c, r, named((c, r))?)))
    }
    /// What all services are called.
    pub(super) fn services(&self) -> Vec<String> {
        self.all_roles().flat_map(|(c, r)| r.services.iter().map(move |s| c.service_key(r, &s.name))).collect()
    }
}

/// Walks the closure.
pub(super) fn walk<'a>(
    closure: &'a BTreeMap<ReleaseId, Release>,
    top: ReleaseId,
) -> Result<Components<'a>, InstanceError> {
    let mut found = Components { by_path: BTreeMap::new(), order: Vec::new() };
    visit(closure, top, None, String::new(), 0, &mut found)?;
    Ok(found)
}

fn visit<'a>(
    closure: &'a BTreeMap<ReleaseId, Release>,
    id: ReleaseId,
    parent: Option<(String, &'a Include)>,
    path: String,
    depth: usize,
    found: &mut Components<'a>,
) -> Result<(), InstanceError> {
    let place = || if path.is_empty() { "the softservice".to_owned() } else { format!("include {path}") };
    let release = closure.get(&id).ok_or_else(|| InstanceError::Missing { release: id, place: place() })?;
    if depth > DEPTH {
        return Err(InstanceError::TooMuch { place: place(), what: "includes inside each other".into(), limit: DEPTH });
    }
    if found.by_path.len() >= limits::CLOSURE {
        return Err(InstanceError::TooMuch { place: place(), what: "included distros".into(), limit: limits::CLOSURE });
    }
    let component = Component { path: path.clone(), release, parent };
    let children: Vec<_> = release.includes.iter().map(|i| (component.key(&[&i.name]), i)).collect();
    found.by_path.insert(path.clone(), component);
    for (child, include) in children {
        visit(closure, include.release.id, Some((path.clone(), include)), child, depth + 1, found)?;
    }
    found.order.push(path);
    Ok(())
}
