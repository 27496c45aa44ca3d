//! The front's own process. Invariant: it leads connections by the last table that was good as a whole: a table with a port that
//! cannot be had changes nothing.

use super::{Answer, Table, connections::Ways, listen};
use crate::device::keeper::{self, Phase, Question, Task};
use softservice_protocol::instance::FrontSpec;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Most connections at a time; more wait in the kernel. Each costs two descriptors and two buffers of 8 KiB.
const CONNECTIONS: usize = 4096;
/// Descriptors for everything else.
const OTHERS: u64 = 64;
/// Before the next try when no connection can be taken: the process may be out of descriptors for a moment.
const REFUSED: Duration = Duration::from_millis(100);
/// How long the last answers may take when everything else is over.
const GOODBYE: Duration = Duration::from_secs(1);

/// Leads connections until told to stop.
pub(in crate::device) fn run(path: &Path, table: &Table) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let Some(_lock) = keeper::alone(&folder)? else {
        return Err("another front has this softservice".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("start a runtime: {e}"))?;
    let done = runtime.block_on(async {
        keeper::end_leftovers(&folder).await;
        lead(&folder, path, table).await
    });
    runtime.shutdown_background();
    done
}

async fn lead(folder: &Path, path: &Path, table: &Table) -> Result<(), String> {
    let said = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let mut doors = Doors::new();
    doors.open(&table.ports).await?;
    // Before the status: whoever reads there that a front runs finds it at its socket.
    let socket = keeper::bind(folder).map_err(said("make a socket"))?;
    let status = keeper::Status { phase: Phase::Running, ..keeper::Status::own() };
    keeper::publish(folder, &status).map_err(said("write the status"))?;
    let (status, seen) = watch::channel(status);
    let (stop, mut stopped) = mpsc::channel(1);
    let (asked, mut questions) = mpsc::channel(1);
    keeper::stop_on_signal(stop.clone()).map_err(said("hear signals"))?;
    let callers = keeper::callers();
    tokio::spawn(keeper::serve(socket, seen, stop, Arc::clone(&callers), Some(asked)));
    keeper::ready();
    loop {
        tokio::select! {
            _ = stopped.recv() => break,
            question = questions.recv() => match question {
                Some(question) => doors.answer(path, question).await,
                None => break,
            },
        }
    }
    status.send_modify(|s| s.phase = Phase::Stopped);
    let written = keeper::publish(folder, &status.borrow());
    if let Err(e) = written {
        keeper::say(format_args!("front: write the status: {e}"));
    }
    // Whoever asked to stop waits for the end.
    let _ = timeout(GOODBYE, keeper::served(&callers)).await;
    Ok(())
}

/// Everything that is listened on.
struct Doors {
    ways: Ways,
    open: BTreeMap<u16, Door>,
    places: Arc<Semaphore>,
}

/// A public port that is listened on.
struct Door {
    everywhere: bool,
    accepting: Vec<JoinHandle<()>>,
}

impl Doors {
    fn new() -> Self {
        Self { ways: Ways::default(), open: BTreeMap::new(), places: Arc::new(Semaphore::new(places())) }
    }

    async fn answer(&mut self, path: &Path, question: Question) {
        let mut words = question.words.split_ascii_whitespace();
        let answer = match words.next() {
            Some("turn") => self.turn(path).await,
            Some("drain") => return self.drain(words.filter_map(|n| n.parse().ok()).collect(), question.answer),
            _ => Err("ask status, watch, stop, turn or drain".into()),
        };
        let _ = question.answer.send(line(answer));
    }

    /// Tells when nobody is connected to these any more, unless whoever asked is gone.
    fn drain(&self, inner: Vec<u16>, mut answer: oneshot::Sender<String>) {
        let ways = self.ways.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ways.drained(&inner) => {
                    let _ = answer.send(line(Ok(())));
                }
                () = answer.closed() => {}
            }
        });
    }

    async fn turn(&mut self, path: &Path) -> Result<(), String> {
        let bytes = std::fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
        match serde_json::from_slice(&bytes) {
            Ok(Task::Front(table)) => self.open(&table.ports).await,
            Ok(_) => Err(format!("{} is not a table", path.display())),
            Err(e) => Err(format!("read {}: {e}", path.display())),
        }
    }

    /// Listens on what is new, leads all, closes what is gone; or changes nothing.
    async fn open(&mut self, ports: &[FrontSpec]) -> Result<(), String> {
        let mut new = Vec::new();
        for port in ports.iter().filter(|p| !self.open.contains_key(&p.public)) {
            new.push((port, listen(port.public, port.everywhere).map_err(|e| taken(port, &e))?));
        }
        let other = |p: &&FrontSpec| self.open.get(&p.public).is_some_and(|d| d.everywhere != p.everywhere);
        let changed: Vec<&FrontSpec> = ports.iter().filter(other).collect();
        for (at, port) in changed.iter().enumerate() {
            if let Err(why) = self.reopen(port.public, port.everywhere).await {
                for port in &changed[..=at] {
                    // As it was; should that fail as well, somebody else has the port by now.
                    let _ = self.reopen(port.public, !port.everywhere).await;
                }
                return Err(taken(port, &why));
            }
        }
        // Before anybody can come by a new door, all know where it leads.
        self.ways.lead(ports.iter().map(|p| (p.public, p.inner)).collect());
        for (port, listeners) in new {
            self.accept(port.public, port.everywhere, listeners);
        }
        let kept: BTreeSet<u16> = ports.iter().map(|p| p.public).collect();
        let gone: Vec<u16> = self.open.keys().copied().filter(|p| !kept.contains(p)).collect();
        for public in gone {
            self.close(public).await;
        }
        Ok(())
    }

    /// Listens on a port for others than before. Two listeners that differ in this only cannot stand at once.
    async fn reopen(&mut self, public: u16, everywhere: bool) -> std::io::Result<()> {
        self.close(public).await;
        let listeners = listen(public, everywhere)?;
        self.accept(public, everywhere, listeners);
        Ok(())
    }

    /// Returns when nothing listens there any more.
    async fn close(&mut self, public: u16) {
        for task in self.open.remove(&public).into_iter().flat_map(|door| door.accepting) {
            task.abort();
            let _ = task.await;
        }
    }

    fn accept(&mut self, public: u16, everywhere: bool, listeners: Vec<TcpListener>) {
        let one = |listener| tokio::spawn(accept(listener, public, self.ways.clone(), Arc::clone(&self.places)));
        let accepting = listeners.into_iter().map(one).collect();
        self.open.insert(public, Door { everywhere, accepting });
    }
}

fn taken(port: &FrontSpec, why: &std::io::Error) -> String {
    format!("cannot listen on port {} ({}): {why}", port.public, port.key)
}

fn listen(port: u16, everywhere: bool) -> std::io::Result<Vec<TcpListener>> {
    listen::public(port, everywhere)?.into_iter().map(TcpListener::from_std).collect()
}

async fn accept(listener: TcpListener, public: u16, ways: Ways, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let ways = ways.clone();
                // Not one of the listener's: a connection outlives its door.
                tokio::spawn(async move {
                    ways.carry(client, public).await;
                    drop(place);
                });
            }
            Err(e) => {
                keeper::say(format_args!("front: accept on port {public}: {e}"));
                sleep(REFUSED).await;
            }
        }
    }
}

/// How many connections this process may have: as many descriptors as it can get, two for each.
fn places() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = descriptors.saturating_sub(OTHERS) / 2;
    usize::try_from(places).unwrap_or(CONNECTIONS).clamp(1, CONNECTIONS)
}

fn line(answer: Result<(), String>) -> String {
    let answer = answer.map_or_else(Answer::Error, |()| Answer::Done);
    serde_json::to_string(&answer).unwrap_or_default()
}
