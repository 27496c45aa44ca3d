//! The folder that an author works in. Invariant: it is only read here, apart from `distro.lock`, which `lock` writes.

use super::failure::Failure;
use serde_json::{Value, json};
use softservice_protocol::definition::{self, Definition, FILE, LOCK_FILE, Lock, Problem, Sources};
use std::path::{Path, PathBuf};

/// Longest text that is read: a definition is refused far below, a template becomes part of a release.
const TEXT_BYTES: u64 = 2 << 20;

/// A definition with the folder beside it.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// The folder.
    pub(super) dir: PathBuf,
    /// What the author wrote.
    pub(super) definition: Definition,
    /// What the tool wrote, if it did.
    pub(super) lock: Option<Lock>,
    /// Advice.
    pub(super) warnings: Vec<Problem>,
}

/// The folder as the protocol sees it.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub(super) PathBuf);

impl Sources for Folder {
    fn text(&self, path: &str) -> Option<String> {
        let path = self.0.join(path);
        let metadata = path.metadata().ok()?;
        (metadata.is_file() && metadata.len() <= TEXT_BYTES).then(|| std::fs::read_to_string(&path).ok()).flatten()
    }
    fn is_dir(&self, path: &str) -> bool {
        self.0.join(path).is_dir()
    }
    fn is_file(&self, path: &str) -> bool {
        self.0.join(path).is_file()
    }
}

/// Reads and checks a folder; blocks.
///
/// # Errors
/// Not found without `distro.toml`; otherwise a failure that carries every problem.
pub(super) fn read(dir: &Path) -> Result<Project, Failure> {
    let folder = Folder(dir.to_owned());
    let path = dir.join(FILE);
    if !dir.is_dir() {
        return Err(Failure::not_found(format!("{} is not a folder", dir.display())));
    }
    if !path.is_file() {
        return Err(Failure::not_found(format!("{} has no {FILE}", dir.display()))
            .hint("`softservice new DIR` writes one to start from"));
    }
    let Some(text) = folder.text(FILE) else {
        return Err(Failure::failed(format!("{} is not readable UTF-8 text, or too long", path.display())));
    };
    let read = definition::read(&text);
    let lock = match folder.text(LOCK_FILE).map(|text| Lock::read(&text)) {
        None => Ok(None),
        Some(read) => read.map(Some),
    };
    match (read, lock) {
        (Ok(definition), Ok(lock)) => {
            let problems = definition::check(&definition, lock.as_ref(), &folder);
            if problems.iter().any(Problem::is_error) {
                return Err(unsound(&problems));
            }
            Ok(Project { dir: dir.to_owned(), definition, lock, warnings: problems })
        }
        (read, lock) => {
            let mut problems = read.err().unwrap_or_default();
            problems.extend(lock.err().unwrap_or_default());
            Err(unsound(&problems))
        }
    }
}

/// The failure that says all that is wrong with a definition.
pub(super) fn unsound(problems: &[Problem]) -> Failure {
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.is_error()).collect();
    let told = |p: &Problem| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message);
    let message = match errors.as_slice() {
        [] => "the definition is not sound".to_owned(),
        [one] => told(one),
        [first, rest @ ..] => format!("{} (and {} more)", told(first), rest.len()),
    };
    let mut failure = Failure::failed(message).with(json!({ "ok": false, "problems": describe(problems) }));
    failure.hint = errors.first().and_then(|p| p.hint.clone());
    failure
}

/// Problems as every verb gives them.
pub(super) fn describe(problems: &[Problem]) -> Value {
    json!(problems)
}
