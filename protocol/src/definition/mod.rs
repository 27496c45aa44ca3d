//! What an author writes, `distro.toml` and `distro.lock`, and how it becomes a [`Release`].
//!
//! Order of work: [`read`] (text to [`Definition`]), [`check`] (the folder beside it, and advice), [`trees`] (which
//! folders to ingest), [`compile()`] (one canonical [`Release`] with its whole closure pinned). The language is
//! described in `docs/definition.md`. Invariant: every problem names file, line, column, what is wrong and, where that
//! can be known, what was meant; one pass finds all of them; and the rules that a definition must keep are the very
//! rules that a foreign release must keep ([`Release::check`]), or those of every device's plan (`asked.rs`).

mod advice;
pub mod answer;
mod asked;
mod check;
pub mod closure;
mod compile;
mod foreign;
mod graph;
pub mod lock;
mod names;
mod read;
mod references;
mod roles;
mod rules;
pub mod scaffold;
mod source;
pub mod substitution;
pub mod units;

pub(crate) use advice::secretive;
pub use check::check;
pub use compile::{Materials, compile};
pub use foreign::ReleaseFault;
pub use lock::{Lock, Locked};
pub use read::read;

use crate::{
    release::{Param, Release, Test},
    secrets::Finding,
};
use serde::{Deserialize, Serialize};
use source::Places;

/// How the file is called that an author writes.
pub const FILE: &str = "distro.toml";
/// How the file is called that the tool writes beside it.
pub const LOCK_FILE: &str = "distro.lock";
/// The format of definitions that this program reads.
pub const FORMAT: i64 = 1;
/// The platform of a tree that fits all.
pub const ANY: &str = "any";

/// Whether a problem stops a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// Advice.
    Warning,
}

/// Something wrong with a definition, a lock or a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file, relative to the definition's folder.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// Whether it stops a publication.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl Problem {
    /// Whether it stops a publication.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Faults after which nothing more is looked for. A person has enough of them, and a stranger's megabyte of mistakes must
/// not buy hours of guessing what was meant.
pub(crate) const ENOUGH: usize = 100;

/// A rule that a release, or a definition on its way to become one, breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The dotted path of the place, as in a definition.
    pub(crate) at: String,
    /// The part of the text there that is meant.
    pub(crate) token: Option<String>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: at.into(), token: None, message: message.into(), hint: None }
    }
    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
    pub(crate) fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }
}

/// A definition that was read and whose references hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What it says of the release to come. Not in it yet: publisher, parents, includes, trees, the text of files and
    /// `source`; [`compile()`] adds these.
    pub draft: Release,
    /// What it includes, not pinned.
    pub includes: Vec<IncludeSource>,
    /// Folders beside it that become trees.
    pub artifacts: Vec<ArtifactSource>,
    /// Texts beside it that become rendered files.
    pub templates: Vec<TemplateSource>,
    pub(crate) places: Places,
}

/// `[include.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeSource {
    /// The local name.
    pub name: String,
    /// Petname or id of its publisher; none means the publisher of this definition.
    pub publisher: Option<String>,
    /// The distro's name.
    pub distro: String,
    /// The versions that will do.
    pub range: semver::VersionReq,
    /// The same as it was written.
    pub written: String,
    /// The role of this distro beside which it runs.
    pub role: String,
    /// Answers to its parameters.
    pub with: Vec<(String, String)>,
    /// Its imports, bound to exports of this distro's roles and includes.
    pub bind: Vec<(String, String)>,
}

/// `[role.ROLE.artifact]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSource {
    /// The role.
    pub role: String,
    /// The artifact's name.
    pub name: String,
    /// The folder, perhaps with `${platform}`.
    pub tree: String,
    /// Glob patterns of paths to leave out.
    pub exclude: Vec<String>,
}

/// `[role.ROLE.file]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// The role.
    pub role: String,
    /// The rendered file's path below `${files}`.
    pub path: String,
    /// The template's path below the definition's folder.
    pub template: String,
}

/// A folder to ingest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeSource {
    /// The role.
    pub role: String,
    /// The artifact.
    pub artifact: String,
    /// `os/arch`, or [`ANY`].
    pub platform: String,
    /// The folder, relative to the definition's.
    pub dir: String,
    /// Glob patterns of paths to leave out.
    pub exclude: Vec<String>,
}

/// The folder of a definition, as far as checking and compiling need it. Paths are relative and never leave it.
pub trait Sources {
    /// The text of a file; none when it is absent or not UTF-8.
    fn text(&self, path: &str) -> Option<String>;
    /// Whether a folder is there.
    fn is_dir(&self, path: &str) -> bool;
    /// Whether a file is there.
    fn is_file(&self, path: &str) -> bool;
}

impl Definition {
    /// The distro's name.
    pub fn name(&self) -> &str {
        &self.draft.distro
    }
    /// Upstream's version.
    pub fn version(&self) -> &str {
        &self.draft.version
    }
    /// Questions to the owner.
    pub fn params(&self) -> &[Param] {
        &self.draft.params
    }
    /// Tests of the whole.
    pub fn tests(&self) -> &[Test] {
        &self.draft.tests
    }
    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        self.places.text()
    }
    pub(crate) fn problem(&self, fault: Fault) -> Problem {
        self.places.problem(&fault.at, fault.token.as_deref(), fault.message, fault.hint)
    }
    pub(crate) fn warning(&self, fault: Fault) -> Problem {
        Problem { severity: Severity::Warning, ..self.problem(fault) }
    }
}

/// Likely secrets that a definition and its templates would give to everybody. The folders beside them are looked at while
/// they are read.
pub fn secrets(definition: &Definition, sources: &dyn Sources) -> Vec<Finding> {
    advice::findings(definition, sources)
}

/// The folders that become trees, `${platform}` written out.
pub fn trees(definition: &Definition) -> Vec<TreeSource> {
    let mut all = Vec::new();
    for a in &definition.artifacts {
        let one = |platform: &str, dir: String| TreeSource {
            role: a.role.clone(),
            artifact: a.name.clone(),
            platform: platform.into(),
            dir,
            exclude: a.exclude.clone(),
        };
        if a.tree.contains("${platform}") {
            all.extend(definition.draft.platforms.iter().map(|p| one(p, a.tree.replace("${platform}", p))));
        } else {
            all.push(one(ANY, a.tree.clone()));
        }
    }
    all.sort();
    all
}
