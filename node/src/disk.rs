//! The disk, off the loop: records are kept in their order on one lane, everything else goes side by side.
//! Invariant: the loop never waits for the disk, and every task is answered by exactly one input.

use crate::publisher::Keys;
use softservice_protocol::{
    bitmap::Bitmap,
    id::{Peer, ReleaseId},
    io::{Depth, Input, Job, Record, Setback, Stage, Token},
    release::ReleaseRef,
};
use softservice_store::{Store, StoreError, alike, closure};
use std::{collections::VecDeque, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

/// Tasks on their way to a lane; the core has few open at once, the rest waits in the loop.
const QUEUE: usize = 64;
/// Records written by one blocking call: enough to keep up with a burst of entries, few enough to answer soon.
const BATCH: usize = 64;
/// Tasks of the second lane at once: they read and hash, and there may be two cores.
const SIDE_BY_SIDE: usize = 3;

/// What a fetch or a peer wants to know of the disk, or done there.
#[derive(Debug)]
pub(crate) enum Task {
    Expand { job: Job, release: ReleaseRef, depth: Depth, kin: Vec<ReleaseId> },
    Assemble { job: Job, release: ReleaseRef, stage: Stage },
    Survey { peer: Peer, release: ReleaseId },
}

/// A bounded channel with the items that did not fit: pushed without waiting, drained by the loop when there is room.
/// What waits is bounded by what the sender may have open: for the disk the core's own fetches and records, for the
/// swarm what [`crate::net::Order::may_be_lost`] says.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    sender: mpsc::Sender<T>,
    backlog: VecDeque<T>,
}

impl<T> Lane<T> {
    pub(crate) fn new(sender: mpsc::Sender<T>) -> Self {
        Self { sender, backlog: VecDeque::new() }
    }
    pub(crate) fn push(&mut self, item: T) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(item);
        } else if let Err(mpsc::error::TrySendError::Full(item)) = self.sender.try_send(item) {
            self.backlog.push_back(item);
        }
    }
    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.backlog.len()
    }
    /// Moves one waiting item on; never returns while none waits.
    pub(crate) async fn drain(&mut self) {
        if self.backlog.is_empty() {
            return std::future::pending().await;
        }
        match self.sender.reserve().await {
            Ok(permit) => {
                if let Some(item) = self.backlog.pop_front() {
                    permit.send(item);
                }
            }
            // The other end is gone: so is everybody who would want an answer.
            Err(_) => self.backlog.clear(),
        }
    }
}

/// The two lanes, and the tasks that work on them until their ends are dropped.
pub(crate) struct Disk {
    pub(crate) keep: Lane<(Token, Record)>,
    pub(crate) tasks: Lane<Task>,
    workers: [JoinHandle<()>; 2],
}

impl Disk {
    /// Starts both lanes; answers go to `answers`.
    pub(crate) fn start(store: Arc<dyn Store>, keys: Keys, answers: mpsc::Sender<Input>) -> Self {
        let (keep, kept) = mpsc::channel(QUEUE);
        let (tasks, todo) = mpsc::channel(QUEUE);
        let kept = tokio::spawn(keeper(store.clone(), keys, kept, answers.clone()));
        let workers = [kept, tokio::spawn(worker(move |task| perform(&*store, task), todo, answers))];
        Self { keep: Lane::new(keep), tasks: Lane::new(tasks), workers }
    }
    /// Finishes what was begun: records that wait are kept. Tasks that wait are dropped: nobody hears their answers.
    pub(crate) async fn stop(mut self) {
        while self.keep.waiting() > 0 {
            self.keep.drain().await;
        }
        drop((self.keep, self.tasks));
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}

async fn keeper(
    store: Arc<dyn Store>,
    keys: Keys,
    mut kept: mpsc::Receiver<(Token, Record)>,
    answers: mpsc::Sender<Input>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while kept.recv_many(&mut batch, BATCH).await > 0 {
        let (store, keys) = (store.clone(), keys.clone());
        let (tokens, records): (Vec<Token>, Vec<Record>) = std::mem::take(&mut batch).into_iter().unzip();
        let all = tokens.clone();
        let written = tokio::task::spawn_blocking(move || {
            let results: Vec<_> = records.iter().map(|record| store.keep(record).map_err(|e| e.to_string())).collect();
            // What only the store knew would be gone with it, keys and all else standing.
            let own = keys.publisher();
            let marked = keys.kept(&*store, &records);
            let of = |(record, result): (&Record, Result<(), String>)| match &marked {
                Err(why) if own.is_some() && record.publisher() == own => result.and(Err(why.clone())),
                _ => result,
            };
            all.into_iter().zip(records.iter().zip(results).map(of)).collect::<Vec<_>>()
        });
        let results = written.await.unwrap_or_else(|e| tokens.iter().map(|t| (*t, Err(e.to_string()))).collect());
        for (token, result) in results {
            let answer = match result {
                Ok(()) => Input::Durable(token),
                Err(why) => Input::NotKept { token, why },
            };
            // At the end nobody listens any more, but what waits is still kept.
            let _ = answers.send(answer).await;
        }
    }
}

async fn worker(
    perform: impl Fn(Task) -> Input + Clone + Send + 'static,
    mut todo: mpsc::Receiver<Task>,
    answers: mpsc::Sender<Input>,
) {
    let room = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    while let Some(task) = todo.recv().await {
        // The loop has ended, and waits for this lane: each of these may read for minutes.
        let permit = tokio::select! {
            biased;
            () = answers.closed() => return,
            permit = room.clone().acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return };
        let (perform, answers) = (perform.clone(), answers.clone());
        tokio::spawn(async move {
            let failed = failure(&task, "the store's thread ended early");
            let answer = tokio::task::spawn_blocking(move || perform(task)).await.unwrap_or(failed);
            let _ = answers.send(answer).await;
            drop(permit);
        });
    }
}

fn perform(store: &dyn Store, task: Task) -> Input {
    let platform = platform();
    match task {
        Task::Expand { job, release, depth, kin } => {
            let mut list = closure::expand(store, release, depth, &platform).map_err(|e| e.setback());
            if let Ok(list) = &mut list {
                // Only bytes are saved by it: a fetch does not end because a relative cannot be read.
                match alike::find(store, release.id, list, &kin) {
                    Ok(found) => list.alike = found,
                    Err(e) => tracing::debug!(release = release.id.short(), "nothing to compare with: {e}"),
                }
            }
            Input::Expanded { job, list }
        }
        Task::Assemble { job, release, stage } => {
            let result = closure::assemble(store, release, stage, &platform).map_err(|e| e.setback());
            Input::Assembled { job, result }
        }
        Task::Survey { peer, release } => {
            let held: Result<Option<Bitmap>, StoreError> = closure::held(store, release);
            let held = held.unwrap_or_else(|e| {
                tracing::debug!(release = release.short(), "cannot say what is here: {e}");
                None
            });
            Input::Surveyed { peer, release, held }
        }
    }
}

/// The answer to a task whose thread did not end as it should.
fn failure(task: &Task, why: &str) -> Input {
    match *task {
        Task::Expand { job, .. } => Input::Expanded { job, list: Err(Setback::last(why)) },
        Task::Assemble { job, .. } => Input::Assembled { job, result: Err(Setback::last(why)) },
        Task::Survey { peer, release } => Input::Surveyed { peer, release, held: None },
    }
}

/// What this machine runs, in the words of definitions: the names that container images use.
pub(crate) fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lane_whose_answers_nobody_hears_begins_nothing_more() {
        let (tasks, todo) = mpsc::channel(QUEUE);
        let (answers, heard) = mpsc::channel(QUEUE);
        let (tell, begun) = std::sync::mpsc::channel();
        let (gate, closed) = std::sync::mpsc::channel::<()>();
        let closed = Arc::new(std::sync::Mutex::new(closed));
        let perform = move |task: Task| {
            let _ = tell.send(());
            // Until the gate is gone.
            let _ = closed.lock().map(|closed| closed.recv());
            failure(&task, "a gate")
        };
        let lane = tokio::spawn(worker(perform, todo, answers));
        for number in 0..QUEUE {
            let release = ReleaseId([number as u8; 32]);
            tasks.send(Task::Survey { peer: Peer([0; 32]), release }).await.expect("room");
        }
        for _ in 0..SIDE_BY_SIDE {
            tokio::task::block_in_place(|| begun.recv()).expect("as many as may");
        }
        drop((tasks, heard));
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), lane).await;
        drop(gate);
        ended.expect("it waits for what it has begun").expect("no panic");
        assert_eq!(begun.iter().count(), 0, "more was begun");
    }

    #[tokio::test]
    async fn a_lane_never_waits_keeps_order_and_loses_nothing() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut lane = Lane::new(sender);
        for number in 0..10 {
            lane.push(number);
        }
        assert_eq!(lane.waiting(), 8);
        let mut came = Vec::new();
        while came.len() < 11 {
            tokio::select! {
                biased;
                () = lane.drain() => {}
                Some(number) = receiver.recv() => came.push(number),
            }
            if came.len() == 1 {
                // Others wait already, so this one must wait behind them.
                lane.push(10);
                came.push(receiver.recv().await.unwrap());
            }
        }
        assert_eq!(came, (0..=10).collect::<Vec<_>>());
        // The other end goes: nobody is left who would want an answer.
        for number in 0..5 {
            lane.push(number);
        }
        drop(receiver);
        lane.drain().await;
        assert_eq!(lane.waiting(), 0);
    }
}
