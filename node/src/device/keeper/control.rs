//! The keeper's socket. One line asks, lines of JSON answer: `status` once, `watch` at every change until the end,
//! `stop` once the service is stopped. Invariant: nobody can make the keeper wait, nor keep others from it for ever: each
//! caller is a task of its own, there are at most [`CALLERS`], and one that is gone or says nothing gives its place back.

use super::{Phase, Status, files};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{sleep, timeout},
};

/// Callers at a time: the node's monitor, its waits, and some people.
const CALLERS: usize = 16;
/// Longest question: a front is asked about all its ports at once.
const QUESTION_BYTES: u64 = 16 << 10;
/// Time for the question: whoever connects knows what it wants.
const QUESTION: Duration = Duration::from_secs(5);
/// Before the next try when no caller can be taken: the process may be out of descriptors for a moment.
const REFUSED: Duration = Duration::from_millis(200);

/// A question that only some who have such a socket can answer, in one line.
#[derive(Debug)]
pub(in crate::device) struct Question {
    /// As it was asked.
    pub(in crate::device) words: String,
    /// Closed when whoever asked has gone.
    pub(in crate::device) answer: oneshot::Sender<String>,
}

/// Binds the socket. Its path may be longer than the 107 bytes that the kernel's address has, so it is reached through
/// the folder's descriptor.
pub(in crate::device) fn bind(folder: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(folder.join(files::CONTROL)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let (_dir, path) = in_folder(folder)?;
    UnixListener::bind(path)
}

/// A short path to the socket in `folder`, good while the descriptor is held.
pub(in crate::device) fn in_folder(folder: &Path) -> std::io::Result<(std::os::fd::OwnedFd, String)> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd;
    let dir = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), files::CONTROL);
    Ok((dir, path))
}

/// Answers callers until dropped; further questions go to `others`, if there is somebody.
pub(in crate::device) async fn serve(
    listener: UnixListener,
    status: watch::Receiver<Status>,
    stop: mpsc::Sender<()>,
    callers: Arc<Semaphore>,
    others: Option<mpsc::Sender<Question>>,
) {
    loop {
        let Ok(permit) = Arc::clone(&callers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (status, stop, others) = (status.clone(), stop.clone(), others.clone());
                tokio::spawn(async move {
                    // A caller that goes away is no event.
                    let _ = answer(stream, status, stop, others).await;
                    drop(permit);
                });
            }
            Err(e) => {
                // A keeper that nobody can reach any more could not even be told to stop.
                super::say(format_args!("keeper: accept: {e}"));
                sleep(REFUSED).await;
            }
        }
    }
}

/// How many callers there may be.
pub(in crate::device) fn callers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLERS))
}

/// Waits until every caller has its answer.
pub(in crate::device) async fn served(callers: &Semaphore) {
    // Permits of callers come back when they are served; `serve` itself holds at most one.
    let _ = callers.acquire_many(CALLERS as u32 - 1).await;
}

async fn answer(
    stream: UnixStream,
    mut status: watch::Receiver<Status>,
    stop: mpsc::Sender<()>,
    others: Option<mpsc::Sender<Question>>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut read = BufReader::new(read.take(QUESTION_BYTES));
    timeout(QUESTION, read.read_line(&mut question)).await.map_err(std::io::Error::other)??;
    let mut read = read.into_inner().into_inner();
    let over = |s: &Status| s.phase == Phase::Stopped;
    match question.trim() {
        "status" => {}
        "stop" => {
            // Full means that somebody asked already. Whoever asked may have gone since: it is stopped all the same.
            let _ = stop.try_send(());
            tokio::select! {
                _ = status.wait_for(over) => {}
                () = gone(&mut read) => return Ok(()),
            }
        }
        "watch" => loop {
            let now = status.borrow_and_update().clone();
            if over(&now) {
                break;
            }
            write.write_all(&line(&now)).await?;
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return Ok(());
                },
                // A service may go for weeks without a change, while nodes come, watch and are killed.
                () = gone(&mut read) => return Ok(()),
            }
        },
        words => {
            let (answer, answered) = oneshot::channel();
            let question = Question { words: words.to_owned(), answer };
            let asked = match others {
                Some(others) => others.send(question).await.is_ok(),
                None => false,
            };
            if !asked {
                return write.write_all(b"{\"error\":\"ask status, watch or stop\"}\n").await;
            }
            return tokio::select! {
                line = answered => write.write_all(format!("{}\n", line.unwrap_or_default()).as_bytes()).await,
                () = gone(&mut read) => Ok(()),
            };
        }
    }
    let now = status.borrow().clone();
    write.write_all(&line(&now)).await
}

/// Returns when the caller has gone; what it still says is not heard.
async fn gone(read: &mut OwnedReadHalf) {
    let mut buffer = [0; 64];
    while matches!(read.read(&mut buffer).await, Ok(1..)) {}
}

fn line(status: &Status) -> Vec<u8> {
    let mut line = serde_json::to_vec(status).unwrap_or_default();
    line.push(b'\n');
    line
}
