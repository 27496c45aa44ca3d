//! `softservice demo`: the main job on one machine, with real nodes as processes of their own.
//! Invariant: every line that it prints is read from what those processes answered, and whatever happens, at the end no
//! process and no file of it is left.

mod cast;
mod guestbook;
mod report;
mod story;

#[path = "../../../examples/guestbook/http.rs"]
#[allow(dead_code, reason = "the demo only asks; the servers of the example use the rest")]
mod http;

use std::path::PathBuf;

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A file could not be made.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A node or verb answered something else than success.
    #[error("{who}: `softservice {command}` failed: {why}")]
    Verb {
        /// Which node.
        who: String,
        /// The verb and its arguments.
        command: String,
        /// What it said.
        why: String,
    },
    /// The story did not go as it must.
    #[error("{0}")]
    Story(String),
    /// Ctrl-C or SIGTERM.
    #[error("stopped before its end")]
    Stopped,
}

/// Plays the story. `say` takes lines for people; the report is what `--json` prints.
pub(crate) async fn run(keep: bool, say: &(dyn Fn(&str) + Sync)) -> Result<serde_json::Value, DemoError> {
    let folder = tempfile::Builder::new().prefix("softservice-demo-").tempdir().map_err(|source| DemoError::Io {
        action: "make a folder in",
        path: std::env::temp_dir(),
        source,
    })?;
    let mut stage = cast::Stage::new(folder.path().to_owned())?;
    let outcome = tokio::select! {
        // The story first: with `--keep` the same signal is its good end.
        biased;
        outcome = story::play(&mut stage, keep, say) => outcome,
        () = crate::commands::interrupted() => Err(DemoError::Stopped),
    };
    let left = stage.clear().await;
    let path = folder.path().to_owned();
    folder.close().map_err(|source| DemoError::Io { action: "remove", path, source })?;
    let mut report = outcome?;
    report.left_behind = left;
    if left > 0 {
        return Err(DemoError::Story(format!("{left} processes had to be killed at the end")));
    }
    say(&report.table());
    say("Everything is stopped, and nothing is left behind.");
    Ok(report.json())
}
