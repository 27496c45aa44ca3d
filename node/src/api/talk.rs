//! What a verb says while it works. Invariant: progress may be lost when nobody reads, notes and lines never are, and
//! they wait for the reader, so that no answer grows in memory.

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Lines that wait for a slow reader; progress beyond it is dropped, everything else waits.
const LINES: usize = 64;

/// One call's way to its caller. Cheap to clone, usable from blocking threads.
#[derive(Debug, Clone)]
pub struct Talk {
    lines: mpsc::Sender<Value>,
}

impl Talk {
    /// A talk and where its lines come out.
    pub fn channel() -> (Self, mpsc::Receiver<Value>) {
        let (lines, out) = mpsc::channel(LINES);
        (Self { lines }, out)
    }
    /// A talk that nobody listens to.
    pub fn alone() -> Self {
        Self::channel().0
    }
    /// How far `what` has come. `of` is 0 when unknown.
    pub fn progress(&self, what: &str, bytes: u64, of: u64, peers: usize) {
        let line = json!({ "progress": { "what": what, "bytes": bytes, "of": of, "peers": peers } });
        // Full or gone: the next one says more.
        let _ = self.lines.try_send(line);
    }
    /// A line for people.
    pub async fn note(&self, text: impl Into<String>) {
        let _ = self.lines.send(json!({ "note": text.into() })).await;
    }
    /// One document of a stream; false when nobody reads any more.
    pub async fn line(&self, document: Value) -> bool {
        self.lines.send(json!({ "line": document })).await.is_ok()
    }
    /// The end of the answer.
    pub(super) async fn last(&self, line: Value) {
        let _ = self.lines.send(line).await;
    }
}
