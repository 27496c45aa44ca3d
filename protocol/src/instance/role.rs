//! A role as one device plays it: what it uses, whether two of it may run at once, and the fingerprint of its behaviour.
//! Invariant: equal fingerprints mean that programs started by either generation behave the same; so everything that
//! reaches a program is in it, and nothing else.

use super::{
    HookSpec, InstanceError, Limits, Minimum, RenderedFile, RoleNeed, ServiceSpec,
    bind::{Binder, Scope},
    component::Component,
};
use crate::{
    release::{Artifact, Role},
    tree::TreeRef,
};
use serde::Serialize;
use std::collections::BTreeSet;

/// What decides the behaviour of a role's programs. Filled in with [`canonical`] places, so that the same content in
/// another generation's folder, or on other inner ports, is the same.
#[derive(Debug, Serialize)]
pub(super) struct Behaviour<'m> {
    pub(super) services: Vec<&'m ServiceSpec>,
    pub(super) files: Vec<&'m RenderedFile>,
    pub(super) hooks: Vec<&'m HookSpec>,
}

/// The assignment that fingerprints are made with: public ports as they are, since bindings say them; every folder a
/// marker that no definition can write, for control characters are refused in them.
pub(super) fn canonical(placed: &super::Assignment) -> super::Assignment {
    super::Assignment {
        ports: placed.ports.clone(),
        inner: Default::default(),
        trees: "\u{1}trees".into(),
        files: "\u{1}files".into(),
        volumes: "\u{1}volumes".into(),
        secrets: "\u{1}secrets".into(),
        platform: placed.platform.clone(),
        softservice: "\u{1}softservice".into(),
    }
}

/// Whether two of a role cannot run at once: it keeps data, listens on numbers of its own choice or writes outside of
/// what the device gives it. A role that is not alone starts beside its predecessor, and its ports are fronted.
pub(super) fn alone(role: &Role) -> bool {
    let outside = role.allow.write.iter().any(|w| w.starts_with('/'));
    !role.volumes.is_empty() || !role.allow.listen.is_empty() || outside
}

/// Keys of the roles that its imports lead to.
pub(super) fn uses<'a>(scope: Scope<'_, 'a>, binder: &Binder<'_, 'a>) -> Result<BTreeSet<String>, InstanceError> {
    let Scope { component, role, .. } = scope;
    let place = format!("role {} of {}", role.name, component.label());
    let lead = |name: &str| {
        let target = binder.import(component, role, name, 0).map_err(|e| e.at(&place, &format!("import.{name}")))?;
        Ok(target.component.key(&[&target.role.name]))
    };
    role.imports.iter().map(|i| lead(&i.name)).collect()
}

/// The role with its fingerprint.
pub(super) fn need<'a>(
    scope: Scope<'_, 'a>,
    binder: &Binder<'_, 'a>,
    behaviour: &Behaviour<'_>,
    platform: &str,
) -> Result<RoleNeed, InstanceError> {
    let Scope { component, role, .. } = scope;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"softdist/v1/role\0");
    // Serde's JSON of these types is deterministic: their maps are ordered.
    hasher.update(serde_json::to_string(behaviour).unwrap_or_default().as_bytes());
    for artifact in &role.artifacts {
        let found = tree(component, artifact, platform)?;
        hasher.update(b"\0").update(artifact.name.as_bytes()).update(b"\0").update(&found.manifest.0);
    }
    Ok(RoleNeed {
        key: component.key(&[&role.name]),
        volumes: role.volumes.iter().map(|v| component.key(&[&role.name, &v.name])).collect(),
        uses: uses(scope, binder)?.into_iter().collect(),
        alone: alone(role),
        limits: Limits::of(&role.allow),
        needs: Minimum { memory: role.needs_memory, disk: role.needs_disk },
        fingerprint: hasher.finalize().to_hex().to_string(),
    })
}

/// The tree of an artifact for this platform.
pub(super) fn tree<'r>(
    component: &Component<'_>,
    artifact: &'r Artifact,
    platform: &str,
) -> Result<&'r TreeRef, InstanceError> {
    let of = |wanted: &str| artifact.trees.iter().find(|(p, _)| p == wanted).map(|(_, tree)| tree);
    of(platform).or_else(|| of("any")).ok_or_else(|| InstanceError::Platform {
        place: format!("artifact {} of {}", artifact.name, component.label()),
        wanted: artifact.trees.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>().join(", "),
        platform: platform.into(),
    })
}
