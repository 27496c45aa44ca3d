//! `check`: is a definition sound? Invariant: reads one folder and nothing else, so it needs no node.

use super::{closure::blocking, failure::Failure, source};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Checks a folder; blocks.
///
/// # Errors
/// A failure whose details hold every problem.
pub fn check(dir: &Path) -> Result<Value, Failure> {
    let project = source::read(dir)?;
    Ok(json!({
        "ok": true,
        "distro": project.definition.name(),
        "version": project.definition.version(),
        "problems": source::describe(&project.warnings),
    }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    dir: PathBuf,
}

pub(super) async fn verb(args: Check) -> Result<Value, Failure> {
    blocking(move || check(&args.dir)).await
}
