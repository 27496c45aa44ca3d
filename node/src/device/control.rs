//! The node's side of a keeper: start one, ask it, watch it, stop it. Invariant: every wait ends: with an answer, with the
//! end of the connection, or with a bound.

use super::keeper::{self, READY, Spec, Status, Task, files};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::UnixStream,
    process::Command,
    time::timeout,
};

/// A keeper on this machine answers at once; longer means that it hangs.
const ANSWER: Duration = Duration::from_secs(5);
/// Time for a keeper to come up, killing leftovers of an earlier one included.
const BIRTH: Duration = Duration::from_secs(20);

/// Starts a service's keeper and waits until it can be talked to.
pub(super) async fn start(command: &[String], folder: &Path, spec: &Spec) -> Result<(), String> {
    launch(command, folder, &write_task(folder, spec)?).await
}

/// Writes down what a keeper is to keep; gives the file.
pub(super) fn write_task(folder: &Path, spec: &Spec) -> Result<PathBuf, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("could not get a folder: {e}"))?;
    let task = folder.join(files::SPEC);
    let bytes = serde_json::to_vec(&Task::Keep(Box::new(spec.clone()))).map_err(|e| e.to_string())?;
    super::durable::write(&task, &bytes, 0o600).map_err(|e| e.to_string())?;
    Ok(task)
}

/// Starts what a task in its folder says, and waits until it can be talked to.
pub(super) async fn launch(command: &[String], folder: &Path, task: &Path) -> Result<(), String> {
    let say = |what: &str, e: std::io::Error| format!("could not {what}: {e}");
    let words = std::fs::File::create(folder.join(files::WORDS)).map_err(|e| say("get a log", e))?;
    let (program, arguments) = command.split_first().ok_or("has no command")?;
    let mut keeper = Command::new(program)
        .args(arguments)
        .arg(task)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(words)
        .spawn()
        .map_err(|e| format!("could not be started as {program}: {e}"))?;
    let Some(said) = keeper.stdout.take() else { return Err("has no output".into()) };
    // It goes on without us; tokio collects it when it ends.
    drop(keeper);
    let mut lines = BufReader::new(said).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line == READY {
                return true;
            }
        }
        false
    };
    match timeout(BIRTH, ready).await {
        Ok(true) => Ok(()),
        // Started by an earlier life of this node, which was killed before it heard of it.
        Ok(false) if answers(folder).await => Ok(()),
        Ok(false) => {
            let words = std::fs::read_to_string(folder.join(files::WORDS)).unwrap_or_default();
            Err(format!("ended at once: {}", words.trim().lines().last().unwrap_or("it said nothing")))
        }
        Err(_) => Err(format!("did not come up within {} s", BIRTH.as_secs())),
    }
}

/// Whether the one who has the folder's lock answers, who may be about to.
async fn answers(folder: &Path) -> bool {
    let answering = async {
        let events = super::readable::changes([folder]).ok()?;
        while status(folder).await.is_none() {
            if !keeper::is_taken(folder) {
                return None;
            }
            super::readable::changed(&events).await.ok()?;
        }
        Some(())
    };
    timeout(BIRTH, answering).await.ok().flatten().is_some()
}

/// What a keeper answers. Our side stays open, writing half and all: by that the keeper knows that we are still there.
type Answers = Lines<BufReader<UnixStream>>;

async fn say(folder: &Path, question: &str) -> std::io::Result<Answers> {
    let (_dir, path) = keeper::in_folder(folder)?;
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    Ok(BufReader::new(stream).lines())
}

/// The one line that answers a question; none when nobody answers within the time.
pub(super) async fn ask(folder: &Path, question: &str, patience: Duration) -> Option<String> {
    let answer = async { say(folder, question).await.ok()?.next_line().await.ok()? };
    timeout(patience, answer).await.ok().flatten()
}

/// How the service is; none when no keeper answers.
pub(super) async fn status(folder: &Path) -> Option<Status> {
    let answer = async {
        let mut lines = say(folder, "status").await.ok()?;
        serde_json::from_str(&lines.next_line().await.ok()??).ok()
    };
    timeout(ANSWER, answer).await.ok().flatten()
}

/// Changes of a service, until its keeper ends.
#[derive(Debug)]
pub(super) struct Watch(Answers);

impl Watch {
    /// None when no keeper answers.
    pub(super) async fn open(folder: &Path) -> Option<Self> {
        timeout(ANSWER, say(folder, "watch")).await.ok()?.ok().map(Self)
    }
    /// The next state; none when the keeper is gone. The first comes at once.
    pub(super) async fn next(&mut self) -> Option<Status> {
        serde_json::from_str(&self.0.next_line().await.ok()??).ok()
    }
}

/// Stops the service and its keeper. A keeper that is gone, or does not answer within the grace, is cleaned up after:
/// when this returns `Ok`, nothing of the service lives.
pub(super) async fn stop(folder: &Path, grace: Duration) -> Result<(), String> {
    if !folder.is_dir() {
        return Ok(());
    }
    let stopped = async {
        let mut lines = say(folder, "stop").await.ok()?;
        // The answer, then the end of the connection: only then is the keeper itself gone.
        while lines.next_line().await.ok()?.is_some() {}
        Some(())
    };
    let answered = timeout(grace + 2 * ANSWER, stopped).await.ok().flatten();
    if answered.is_none() {
        tracing::debug!(folder = %folder.display(), "no keeper answered; ending what it may have left");
    }
    // Ends the keeper, too, should it still be about to end.
    keeper::end_leftovers(folder).await;
    match tokio::fs::remove_dir_all(folder).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("could not be cleaned up: {e}")),
        _ => Ok(()),
    }
}
