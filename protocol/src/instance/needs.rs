//! What a device must have or make before a release can run. Invariant: nothing here depends on where things are: needs are
//! known before anything has a place.

use super::{
    Answers, Closure, InstanceError, Needs, PortNeed, SecretNeed, TreeNeed, VolumeNeed,
    bind::{Binder, Scope, View},
    component::{self, Component},
    role,
};
use crate::{definition::answer, id::ReleaseId};

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
            role::uses(Scope { component, role, view: View::Inside }, &binder)?;
            let key = |name: &str| short(component.key(&[&role.name, name]));
            let fronted = !role::alone(role);
            for port in &role.ports {
                needs.ports.push(PortNeed { key: key(&port.name)?, wish: port.wish, fronted });
            }
            for volume in &role.volumes {
                let (keep_on_remove, backup) = (volume.keep_on_remove, volume.backup.clone());
                needs.volumes.push(VolumeNeed { key: key(&volume.name)?, keep_on_remove, backup });
            }
            for artifact in &role.artifacts {
                let tree = role::tree(component, artifact, platform)?.clone();
                needs.trees.push(TreeNeed { key: key(&artifact.name)?, tree });
            }
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
