//! What a verb says while it works. Invariant: progress may be lost when nobody reads, notes and lines never are, and
//! they wait for the reader, so that no answer grows in memory.

use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Lines that wait for a slow reader; progress beyond it is dropped, everything else waits.
const LINES: usize = 64;
/// Between two lines of progress about the same: nobody reads faster, and writing a line for each of ten thousand small files
/// took longer than looking at them.
const PROGRESS: Duration = Duration::from_millis(100);

/// One call's way to its caller. Cheap to clone, usable from blocking threads.
#[derive(Debug, Clone)]
pub struct Talk {
    lines: mpsc::Sender<Value>,
    /// What the last line of progress was about, and when.
    told: Arc<Mutex<Option<(String, Instant)>>>,
}

impl Talk {
    /// A talk and where its lines come out.
    pub fn channel() -> (Self, mpsc::Receiver<Value>) {
        let (lines, out) = mpsc::channel(LINES);
        (Self { lines, told: Arc::default() }, out)
    }
    /// A talk that nobody listens to.
    pub fn alone() -> Self {
        Self::channel().0
    }
    /// How far `what` has come. `of` is 0 when unknown. More often than anybody can read it is not passed on, but the first
    /// and the last word about something are.
    pub fn progress(&self, what: &str, bytes: u64, of: u64, peers: usize) {
        self.tell(what, of > 0 && bytes >= of, || json!({ "what": what, "bytes": bytes, "of": of, "peers": peers }));
    }
    /// The same, of things that are counted and not measured: `objects` of `of`.
    pub fn count(&self, what: &str, objects: u64, of: u64) {
        self.tell(what, of > 0 && objects >= of, || json!({ "what": what, "objects": objects, "of": of, "peers": 0 }));
    }
    fn tell(&self, what: &str, last: bool, line: impl FnOnce() -> Value) {
        if self.is_due(what, last) {
            // Full or gone: the next one says more.
            let _ = self.lines.try_send(json!({ "progress": line() }));
        }
    }
    fn is_due(&self, what: &str, last: bool) -> bool {
        // Whoever finds it taken has nothing to say that its holder does not.
        let Ok(mut told) = self.told.try_lock() else { return last };
        let now = Instant::now();
        let recent = told.as_ref().is_some_and(|(of, at)| of == what && now.duration_since(*at) < PROGRESS);
        if recent && !last {
            return false;
        }
        *told = Some((what.to_owned(), now));
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_that_nobody_can_read_is_not_written() {
        let (talk, mut out) = Talk::channel();
        let began = Instant::now();
        (0..16_000).for_each(|file| talk.progress("read", file, 0, 0));
        let most = began.elapsed().as_millis() / PROGRESS.as_millis() + 1;
        talk.progress("transfer", 0, 10, 1);
        talk.progress("transfer", 10, 10, 1);
        let lines: Vec<Value> = std::iter::from_fn(|| out.try_recv().ok()).collect();
        let of = |what: &str| lines.iter().filter(|line| line["progress"]["what"] == what).count();
        assert!(of("read") >= 1 && of("read") as u128 <= most, "{lines:?}");
        talk.count("sweep", 3, 3);
        assert_eq!(out.try_recv().unwrap()["progress"]["objects"], 3);
        // Another thing is told at once, and its end as well.
        assert_eq!(of("transfer"), 2);
        assert_eq!(lines.last().unwrap()["progress"]["bytes"], 10);
    }
}
