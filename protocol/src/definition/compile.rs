//! Definition, lock, trees and included releases to one [`Release`]. Invariant: the same materials give the same bytes,
//! and what comes out passes the check that every device will make of it.

use super::{ANY, Definition, Fault, Lock, Problem, Sources, check, closure, lock, roles, rules, trees};
use crate::{
    codec,
    id::PublisherId,
    limits,
    release::{Artifact, Include, Parent, Release, ReleaseRef},
    tree::TreeRef,
};
use std::collections::BTreeMap;

/// What a release is made of beside its definition.
pub struct Materials<'a> {
    /// Who will sign it.
    pub publisher: PublisherId,
    /// The pins of its includes.
    pub lock: &'a Lock,
    /// The closure of its includes.
    pub releases: &'a closure::Releases,
    /// Its trees by (role, artifact, platform), one for each of [`trees`].
    pub trees: &'a BTreeMap<(String, String, String), TreeRef>,
    /// The definition's folder as a tree.
    pub source: TreeRef,
    /// The definition's folder, for templates.
    pub templates: &'a dyn Sources,
    /// Releases that it improves on.
    pub parents: Vec<Parent>,
}

/// Compiles a definition.
///
/// # Errors
/// All that is wrong, at the places of the definition and its templates.
pub fn compile(definition: &Definition, materials: &Materials<'_>) -> Result<Release, Vec<Problem>> {
    let (texts, mut problems) = check::templates(definition, materials.templates);
    let (wrong, floating) = lock::fit(definition, materials.lock);
    let unpinned = floating.into_iter().filter(|f| f.at != "include");
    problems.extend(wrong.into_iter().chain(unpinned).map(|f| definition.problem(f)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut release = definition.draft.clone();
    release.publisher = materials.publisher;
    release.source = materials.source.clone();
    release.parents = materials.parents.clone();
    release.includes = definition.includes.iter().filter_map(|i| pin(i, materials)).collect();
    for role in &mut release.roles {
        for file in &mut role.files {
            file.template = texts.get(&(role.name.clone(), file.path.clone())).cloned().unwrap_or_default();
            roles::declare_used(&mut role.ports, &file.template);
        }
    }
    let mut faults = plant(definition, materials, &mut release);
    roles::canonical(&mut release);
    if faults.is_empty() {
        faults.extend(rules::faults(&release));
    }
    if faults.is_empty() {
        faults.extend(release.check().err().map(|e| Fault::new(e.at, e.message)));
    }
    if faults.is_empty() {
        faults.extend(closure::faults(&release, materials.releases));
    }
    if faults.is_empty() {
        faults.extend(codec::encode(&release).err().map(|e| too_big(&release, &e.to_string())));
    }
    if faults.is_empty() {
        return Ok(release);
    }
    let mut problems: Vec<Problem> = faults.into_iter().map(|f| definition.problem(f)).collect();
    problems.sort_by_key(|p| (p.line, p.column));
    Err(problems)
}

/// An include as the lock pins it.
fn pin(i: &super::IncludeSource, materials: &Materials<'_>) -> Option<Include> {
    let l = materials.lock.get(&i.name)?;
    let child = materials.releases.get(&l.release.id);
    // A literal answer is stored in canonical text, so that `200MiB` and `209715200` make one release.
    let canonical = |(name, text): &(String, String)| {
        let param = child.and_then(|c| c.params.iter().find(|p| p.name == *name));
        let plain = super::substitution::is_literal(text).then(|| text.replace("$${", "${"));
        let accepted = param.zip(plain).and_then(|(p, plain)| super::answer::accept(p, &plain).ok());
        (name.clone(), accepted.map(|t| t.replace("${", "$${")).unwrap_or_else(|| text.clone()))
    };
    Some(Include {
        name: i.name.clone(),
        publisher: l.publisher,
        distro: l.distro.clone(),
        version: l.version.clone(),
        release: ReleaseRef { id: l.release.id, size: l.release.size },
        role: i.role.clone(),
        with: i.with.iter().map(canonical).collect(),
        bind: i.bind.clone(),
    })
}

/// Puts the trees in.
fn plant(definition: &Definition, materials: &Materials<'_>, release: &mut Release) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in trees(definition) {
        let at = format!("role.{}.artifact.{}.tree", source.role, source.artifact);
        let key = (source.role.clone(), source.artifact.clone(), source.platform.clone());
        let Some(tree) = materials.trees.get(&key) else {
            let which = if source.platform == ANY { String::new() } else { format!(" for {}", source.platform) };
            faults.push(Fault::new(at, format!("the tree of {:?}{which} was not made", source.artifact)));
            continue;
        };
        let role = release.roles.iter_mut().find(|r| r.name == source.role);
        let artifact: Option<&mut Artifact> =
            role.and_then(|r| r.artifacts.iter_mut().find(|a| a.name == source.artifact));
        if let Some(artifact) = artifact {
            artifact.trees.push((source.platform, tree.clone()));
        }
    }
    for artifact in release.roles.iter_mut().flat_map(|r| &mut r.artifacts) {
        artifact.trees.sort_by(|a, b| a.0.cmp(&b.0));
    }
    faults
}

fn too_big(release: &Release, why: &str) -> Fault {
    let biggest = release
        .roles
        .iter()
        .flat_map(|r| r.files.iter().map(move |f| (f.template.len(), r, f)))
        .max_by_key(|(n, ..)| *n);
    let hint = match biggest {
        Some((n, ..)) if n > limits::RELEASE_BYTES / 4 => "put long texts into an artifact instead of a template",
        _ => "make fewer or shorter entries",
    };
    let at = biggest.map_or("distro".to_owned(), |(_, r, f)| format!("role.{}.file.{}", r.name, f.path));
    Fault::new(at, why).hint(Some(hint.into()))
}
