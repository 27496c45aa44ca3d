//! `check`: is a definition sound, and does its folder hold what must not be published? Invariant: reads one folder and
//! nothing else, so it needs no node.

use super::{
    closure::blocking,
    failure::Failure,
    publish,
    secrets::{self, Findings},
    source::{self, Folder},
};
use serde::Deserialize;
use serde_json::{Value, json};
use softservice_protocol::{
    definition::{self, Problem, Severity},
    secrets::Finding,
};
use softservice_store::look_through;
use std::path::{Path, PathBuf};

/// Likely secrets that are listed; of more, how many.
const LISTED: usize = 100;

/// Checks a folder, and looks through its files for what `publish` will refuse; blocks.
///
/// # Errors
/// A failure whose details hold every problem.
pub fn check(dir: &Path) -> Result<Value, Failure> {
    let project = source::read(dir)?;
    let findings = Findings::of(dir, &project.definition)?;
    findings.look_at(&project.definition, &Folder(dir.to_owned()));
    // As `publish` reads: a tree may hold what is no part of the source, such as a history of its own, and the other way round.
    let not_source: Vec<String> = publish::NOT_SOURCE.map(str::to_owned).into();
    look_through(dir, &not_source, &findings.watch_once(""))?;
    for tree in definition::trees(&project.definition) {
        look_through(&dir.join(&tree.dir), &tree.exclude, &findings.watch_once(&tree.dir))?;
    }
    let secrets = findings.refused();
    let mut problems = project.warnings;
    // One place is told once, by what is sure.
    problems.retain(|p| !(is_secret(p) && secrets.iter().any(|f| (&f.file, f.line) == (&p.file, p.line))));
    problems.extend(secrets.iter().take(LISTED).map(problem));
    Ok(json!({
        "ok": true,
        "distro": project.definition.name(),
        "version": project.definition.version(),
        "problems": source::describe(&problems),
        "secrets_in_all": secrets.len(),
        "secrets_not_listed": secrets.len().saturating_sub(LISTED),
    }))
}

/// Advice about the same.
fn is_secret(problem: &Problem) -> bool {
    problem.message.contains("everybody would get the same one")
}

fn problem(finding: &Finding) -> Problem {
    Problem {
        file: finding.file.clone(),
        line: finding.line,
        column: 1,
        severity: Severity::Warning,
        message: format!("{}, {}: `publish` refuses it", finding.what, finding.shown),
        hint: Some(secrets::hint(finding)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    dir: PathBuf,
}

pub(super) async fn verb(args: Check) -> Result<Value, Failure> {
    blocking(move || check(&args.dir)).await
}
