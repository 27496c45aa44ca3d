//! Changing an overlay. Invariant: what an edit lets in can be laid over the release that it was made for, and holds no
//! secret by its name.

use super::{ENTRIES, Overlay, OwnFile, TEXT_BYTES, split};
use crate::{
    definition::{self, substitution},
    id::ReleaseId,
    instance::{Closure, InstanceError, component},
};

/// Bytes of a file's path below its role's folder.
const PATH_BYTES: usize = 240;
/// Bytes of a variable's value.
const VALUE_BYTES: usize = crate::limits::LINE_BYTES;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// An own text in place of the author's, or an own file.
    SetFile {
        /// `ROLE/PATH`.
        key: String,
        /// The template.
        text: String,
        /// Permission bits; none = the author's, or 0640.
        mode: Option<u32>,
    },
    /// An own variable, or an own value of the author's.
    SetVariable {
        /// The service.
        service: String,
        /// The variable.
        name: String,
        /// Its template.
        value: String,
    },
    /// No own file or variable any more: `ROLE/PATH` or `SERVICE.NAME`.
    Drop(String),
}

/// Why an edit cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// The release says no.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// A file of no role, or with a path that leads elsewhere.
    #[error("{key:?} is no file of this softservice: {why}")]
    File {
        /// As it was given.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// A variable of no service, or that none can have.
    #[error("{what:?} cannot be set: {why}")]
    Variable {
        /// `SERVICE.NAME`.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing to drop.
    #[error("nothing of your own is called {key:?}; there is {known}")]
    Absent {
        /// As it was given.
        key: String,
        /// What there is.
        known: String,
    },
    /// More than an overlay holds.
    #[error("{what} has more than {limit}, the most that an overlay holds")]
    TooMuch {
        /// What.
        what: String,
        /// How many.
        limit: usize,
    },
}

impl Overlay {
    /// The overlay after these edits, made for the release `top`: its present texts become the base of own files.
    ///
    /// # Errors
    /// The first edit that cannot be.
    pub fn edited(&self, closure: &Closure, top: ReleaseId, edits: &[Edit]) -> Result<Self, OverlayError> {
        let components = component::walk(closure, top)?;
        let mut edited = self.clone();
        for edit in edits {
            match edit {
                Edit::SetFile { key, text, mode } => {
                    let base = authored(&components, key)?;
                    check_text(key, text, *mode)?;
                    edited.files.insert(key.clone(), OwnFile { text: text.clone(), mode: *mode, base });
                }
                Edit::SetVariable { service, name, value } => {
                    let what = format!("{service}.{name}");
                    let wrong = |why: &str| OverlayError::Variable { what: what.clone(), why: why.into() };
                    if components.of_service(service).is_none() {
                        let known = components.services().join(", ");
                        return Err(wrong(&format!("there is no service {service:?}; there are {known}")));
                    }
                    check_variable(name, value).map_err(|why| wrong(&why))?;
                    edited.environment.entry(service.clone()).or_default().insert(name.clone(), value.clone());
                }
                Edit::Drop(key) => edited.remove(key)?,
            }
        }
        let most = edited.environment.values().map(std::collections::BTreeMap::len).chain([edited.files.len()]).max();
        if most > Some(ENTRIES) || edited.environment.len() > ENTRIES {
            return Err(OverlayError::TooMuch { what: "it".into(), limit: ENTRIES });
        }
        Ok(edited)
    }

    fn remove(&mut self, key: &str) -> Result<(), OverlayError> {
        if self.files.remove(key).is_some() {
            return Ok(());
        }
        let gone = key.rsplit_once('.').is_some_and(|(service, name)| {
            let variables = self.environment.get_mut(service);
            variables.is_some_and(|variables| variables.remove(name).is_some())
        });
        self.environment.retain(|_, variables| !variables.is_empty());
        if gone {
            return Ok(());
        }
        let files = self.files.keys().cloned();
        let variables = self.environment.iter().flat_map(|(s, v)| v.keys().map(move |n| format!("{s}.{n}")));
        let known: Vec<String> = files.chain(variables).collect();
        let known = if known.is_empty() { "nothing".into() } else { known.join(", ") };
        Err(OverlayError::Absent { key: key.into(), known })
    }
}

/// The author's template of a file, none when there is no such file in its role.
fn authored(components: &component::Components<'_>, key: &str) -> Result<Option<String>, OverlayError> {
    let wrong = |why: String| OverlayError::File { key: key.into(), why };
    let (role, path) = split(key).ok_or_else(|| wrong("write it as ROLE/PATH".into()))?;
    let Some((_, role)) = components.of_role(role) else {
        return Err(wrong(format!("there is no role {role:?}; there are {}", components.roles().join(", "))));
    };
    let stays = path.split('/').all(|p| !matches!(p, "" | "." | "..")) && !path.contains(['\0', '\\']);
    if !stays || path.len() > PATH_BYTES {
        return Err(wrong("its path must stay below the role's folder".into()));
    }
    Ok(role.files.iter().find(|f| f.path == path).map(|f| f.template.clone()))
}

fn check_text(key: &str, text: &str, mode: Option<u32>) -> Result<(), OverlayError> {
    let wrong = |why: String| OverlayError::File { key: key.into(), why };
    if text.len() > TEXT_BYTES {
        return Err(OverlayError::TooMuch { what: key.into(), limit: TEXT_BYTES });
    }
    if mode.is_some_and(|m| m > 0o777) {
        return Err(wrong("its mode has more than permission bits".into()));
    }
    substitution::parse(text).map(drop).map_err(|e| wrong(e.to_string()))
}

fn check_variable(name: &str, value: &str) -> Result<(), String> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("a variable's name has letters, digits and _ only".into());
    }
    if name.starts_with("SECRET_") && name.ends_with("_FILE") {
        return Err("it names a secret's file, which is this device's to set".into());
    }
    if definition::secretive(name) && substitution::is_literal(value) {
        return Err("by its name it is a secret, and an overlay is no place for one".into());
    }
    if value.len() > VALUE_BYTES || value.contains('\0') {
        return Err(format!("its value is longer than {VALUE_BYTES} bytes, or has a zero byte"));
    }
    substitution::parse(value).map(drop).map_err(|e| e.to_string())
}
