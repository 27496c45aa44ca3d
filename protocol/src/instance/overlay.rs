//! The owner's own changes, laid over a release: own variables of services, and own files in place of the author's or
//! beside them. Invariant: laying is pure, and loses nothing silently: where an author's text is no longer the one that an
//! own file was made against, both are merged line by line, and what cannot be merged is a conflict for the owner.
//!
//! Own texts are templates, as the author's are: `${…}` is filled in on each generation, so that they need no path or port of
//! today. Rendered text was refused as the base: it differs in every generation. Secrets do not go through overlays.

mod edit;

pub use edit::{Edit, OverlayError};

use super::{Closure, InstanceError, component};
use crate::{
    id::{Digest, ReleaseId},
    release::{File, Release},
};
use std::collections::BTreeMap;

/// Bytes of one own text.
pub const TEXT_BYTES: usize = 256 << 10;
/// Own files, and own variables of one service.
pub const ENTRIES: usize = crate::limits::LIST;
/// Permission bits of a file that says nothing else: what a definition gives.
const MODE: u32 = 0o640;

/// What the owner changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// Own variables by service and name; their values are templates.
    pub environment: BTreeMap<String, BTreeMap<String, String>>,
    /// Own files by `ROLE/PATH`: the role's key, and the path below `${files}`.
    pub files: BTreeMap<String, OwnFile>,
}

/// An own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Its template.
    pub text: String,
    /// Permission bits; none = the author's, or 0640.
    pub mode: Option<u32>,
    /// The author's template when it was made; none = there was no such file.
    pub base: Option<String>,
}

/// What laying an overlay over a release gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// The closure with the overlay in it: what [`super::needs`] and [`super::resolve`] are to be asked with.
    pub closure: Closure,
    /// The overlay as it is from now on: merged texts, and the author's new ones as their base.
    pub overlay: Overlay,
    /// What it does, in order.
    pub changes: Vec<OverlayChange>,
    /// What the owner must decide; with any, nothing may be made of `closure`.
    pub conflicts: Vec<Conflict>,
}

/// One effect of an overlay, for plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayChange {
    /// The file, or `SERVICE.NAME`.
    pub what: String,
    /// How, for people.
    pub detail: String,
}

/// A change of the owner's and one of the author's that do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The file, or `SERVICE.NAME`.
    pub what: String,
    /// Why.
    pub why: String,
    /// Both texts between markers, to be edited; none where there is nothing to merge.
    pub marked: Option<String>,
}

impl Overlay {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.environment.is_empty()
    }
}

/// The role's key and the path of a file's key.
pub fn split(key: &str) -> Option<(&str, &str)> {
    key.split_once('/').filter(|(role, path)| !role.is_empty() && !path.is_empty())
}

/// The author's templates of all files, by `ROLE/PATH`.
///
/// # Errors
/// The closure is not whole.
pub fn authored(closure: &Closure, top: ReleaseId) -> Result<BTreeMap<String, String>, InstanceError> {
    let components = component::walk(closure, top)?;
    let mut texts = BTreeMap::new();
    for (component, role) in components.all_roles() {
        let key = component.key(&[&role.name]);
        texts.extend(role.files.iter().map(|f| (format!("{key}/{}", f.path), f.template.clone())));
    }
    Ok(texts)
}

/// Lays an overlay over the release `top`.
///
/// # Errors
/// The closure is not whole; conflicts are no error but part of the answer.
pub fn lay(closure: &Closure, top: ReleaseId, overlay: &Overlay) -> Result<Laid, InstanceError> {
    let mut laid =
        Laid { closure: closure.clone(), overlay: Overlay::default(), changes: Vec::new(), conflicts: Vec::new() };
    if overlay.is_empty() {
        return Ok(laid);
    }
    let components = component::walk(closure, top)?;
    let mut altered: BTreeMap<String, Release> = BTreeMap::new();
    for (key, own) in &overlay.files {
        let found = split(key).and_then(|(role, path)| Some((components.of_role(role)?, path)));
        let Some(((component, role), path)) = found else {
            laid.conflict(key, "the new release has no such role".into(), None);
            laid.overlay.files.insert(key.clone(), own.clone());
            continue;
        };
        let release = altered.entry(component.path.clone()).or_insert_with(|| component.release.clone());
        let authored = role.files.iter().find(|f| f.path == path);
        let own = laid.file(key, own, authored);
        put_file(release, &role.name, path, &own);
        laid.overlay.files.insert(key.clone(), own);
    }
    for (service, variables) in &overlay.environment {
        let Some((component, role, name)) = components.of_service(service) else {
            for variable in variables.keys() {
                laid.conflict(&format!("{service}.{variable}"), "the new release has no such service".into(), None);
            }
            laid.overlay.environment.insert(service.clone(), variables.clone());
            continue;
        };
        let release = altered.entry(component.path.clone()).or_insert_with(|| component.release.clone());
        let role = role.name.clone();
        for (variable, value) in variables {
            let had = put_variable(release, &role, &name, variable, value);
            let detail = match had {
                Some(_) => "your own value over the author's",
                None => "your own variable",
            };
            laid.changes.push(OverlayChange { what: format!("{service}.{variable}"), detail: detail.into() });
        }
        laid.overlay.environment.insert(service.clone(), variables.clone());
    }
    laid.closure = rebuilt(closure, top, &altered);
    Ok(laid)
}

impl Laid {
    fn conflict(&mut self, what: &str, why: String, marked: Option<String>) {
        self.conflicts.push(Conflict { what: what.into(), why, marked });
    }

    /// The own file as it goes with the author's present one.
    fn file(&mut self, key: &str, own: &OwnFile, authored: Option<&File>) -> OwnFile {
        let theirs = authored.map(|f| f.template.as_str());
        let (text, detail) = match (own.base.as_deref(), theirs) {
            (None, None) => (own.text.clone(), "your own file".to_owned()),
            (Some(base), Some(theirs)) if base == theirs => {
                (own.text.clone(), format!("your own text over the author's, {}", short(theirs)))
            }
            // The author came to the same.
            (_, Some(theirs)) if own.text == theirs => {
                (own.text.clone(), "your own text, which the author's now equals".into())
            }
            (Some(base), Some(theirs)) => match merged(base, &own.text, theirs) {
                Ok(text) => (text, format!("your own text merged with the author's new one, {}", short(theirs))),
                Err(marked) => {
                    let why = "both you and the author changed the same lines of it".into();
                    self.conflict(key, why, marked);
                    return own.clone();
                }
            },
            (Some(_), None) => {
                self.conflict(key, "the new release has no such file any more".into(), None);
                return own.clone();
            }
            (None, Some(theirs)) => {
                self.conflict(
                    key,
                    "the new release brings a file of this name".into(),
                    merged("", &own.text, theirs).err().flatten(),
                );
                return own.clone();
            }
        };
        self.changes.push(OverlayChange { what: key.into(), detail });
        OwnFile { text, mode: own.mode, base: theirs.map(str::to_owned) }
    }
}

/// The first digits of a text's BLAKE3, for people.
fn short(text: &str) -> String {
    Digest::of(text.as_bytes()).short()
}

/// One text of three; the error is both between markers, if the texts are not too long for it.
fn merged(base: &str, own: &str, theirs: &str) -> Result<String, Option<String>> {
    // Comparing takes longer than texts are long: what an author may write at most would hold a device up for minutes.
    if [base, own, theirs].iter().any(|text| text.len() > TEXT_BYTES) {
        return Err(None);
    }
    let text = diffy::merge(base, own, theirs).map_err(Some)?;
    if text.len() > TEXT_BYTES { Err(None) } else { Ok(text) }
}

fn put_file(release: &mut Release, role: &str, path: &str, own: &OwnFile) {
    let Some(role) = release.roles.iter_mut().find(|r| r.name == role) else { return };
    match role.files.iter_mut().find(|f| f.path == path) {
        Some(file) => {
            file.template.clone_from(&own.text);
            file.mode = own.mode.unwrap_or(file.mode);
        }
        None => role.files.push(File {
            path: path.into(),
            template: own.text.clone(),
            mode: own.mode.unwrap_or(MODE),
            on_change: "restart".into(),
        }),
    }
}

/// Sets a variable; what was there.
fn put_variable(release: &mut Release, role: &str, service: &str, name: &str, value: &str) -> Option<String> {
    let role = release.roles.iter_mut().find(|r| r.name == role)?;
    let service = role.services.iter_mut().find(|s| s.name == service)?;
    match service.environment.iter_mut().find(|(n, _)| n == name) {
        Some((_, text)) => Some(std::mem::replace(text, value.into())),
        None => {
            service.environment.push((name.into(), value.into()));
            service.environment.sort();
            None
        }
    }
}

/// The closure in which some components are others. A release may stand at two places of which one is altered, so an
/// altered one gets an id of its own, made of its place; the top keeps its id.
fn rebuilt(closure: &Closure, top: ReleaseId, altered: &BTreeMap<String, Release>) -> Closure {
    let mut out = closure.clone();
    rebuild(closure, top, "", altered, &mut out);
    out
}

fn rebuild(
    closure: &Closure,
    id: ReleaseId,
    path: &str,
    altered: &BTreeMap<String, Release>,
    out: &mut Closure,
) -> ReleaseId {
    let inside = |place: &String| path.is_empty() || place == path || place.starts_with(&format!("{path}."));
    let Some(mut release) = altered.get(path).or_else(|| closure.get(&id)).cloned() else { return id };
    if !altered.keys().any(inside) {
        return id;
    }
    for include in &mut release.includes {
        let below = if path.is_empty() { include.name.clone() } else { format!("{path}.{}", include.name) };
        include.release.id = rebuild(closure, include.release.id, &below, altered, out);
    }
    let id = if path.is_empty() {
        id
    } else {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softdist/v1/overlay\0").update(&id.0).update(path.as_bytes());
        ReleaseId(*hasher.finalize().as_bytes())
    };
    out.insert(id, release);
    id
}
