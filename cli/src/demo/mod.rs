//! `softservice demo`. Invariant: whatever happens, at the end no process and no file of it is left.

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// This build has no story yet.
    #[error("the demo is not built yet")]
    NotBuilt,
}

/// Plays the story. `say` takes lines for people; the report is what `--json` prints.
pub(crate) async fn run(_keep: bool, _say: &(dyn Fn(&str) + Sync)) -> Result<serde_json::Value, DemoError> {
    Err(DemoError::NotBuilt)
}
