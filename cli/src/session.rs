//! The node that a verb speaks to. Invariant: a home has one node at a time; a verb that finds none starts one, a verb
//! that finds the home taken waits for whoever has it, and a node that was started for a verb ends in order before the
//! process does. Both kinds are spoken to through the same socket, so that there is one code path.

use crate::{client::Client, commands::interrupted, error::CliError, ui::Ui};
use softservice_node::{
    Config, HomeError, KeyError, PublisherError, StartError,
    api::{self, ServeError, Served},
    verbs::failure::Kind,
};
use softservice_store::StoreError;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UnixStream, sync::Mutex};

/// How long a verb without a running node waits for what an earlier process left unfinished: a way back stops and starts
/// services, which takes their grace period.
const SETTLE: Duration = Duration::from_secs(20);
/// How long a home may be taken by a process that does not answer: a node that starts reads its records, one that ends
/// closes its store.
const TURN: Duration = Duration::from_secs(30);
/// A call that is still in work after this is another process's, or worth a word all the same.
const OWN_END: Duration = Duration::from_secs(1);

/// How a home came to have a node.
pub(crate) enum Begun {
    /// This process runs it now.
    Own(Box<Served>),
    /// Another process runs it: a connection to it.
    Other(UnixStream),
}

/// A home's node for the time of a verb. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    home: PathBuf,
    own: Arc<Mutex<Option<Served>>>,
    may_start: bool,
}

impl Session {
    /// With the node of this home, which is started when a verb needs it and there is none.
    pub(crate) fn new(home: PathBuf) -> Self {
        Self { home, own: Arc::default(), may_start: true }
    }
    /// With the node that runs, or none.
    pub(crate) fn running(home: PathBuf) -> Self {
        Self { may_start: false, ..Self::new(home) }
    }
    /// Speaks to it.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone())
    }
    /// The home.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }
    /// A connection to the node.
    pub(crate) async fn connect(&self) -> Result<UnixStream, CliError> {
        let mut own = self.own.lock().await;
        if own.is_none() && self.may_start {
            let config =
                Config { home: self.home.clone(), keeper: keeper_command()?, units: units(), ..Config::default() };
            match begin(config).await? {
                Begun::Other(stream) => return Ok(stream),
                Begun::Own(node) => {
                    // An interrupted provisioning goes on, or back, as soon as a node starts. Verbs that came in its
                    // middle would be refused, every one of them, for each takes its node away again.
                    if tokio::time::timeout(SETTLE, node.context().device.settled()).await.is_err() {
                        tracing::warn!("an interrupted provisioning is still on its way");
                    }
                    tracing::info!("no node runs in this home: one runs in this process for the time of the verb");
                    *own = Some(*node);
                }
            }
        }
        let silent = |e| CliError::new(Kind::NoNode, format!("no node answers in {}: {e}", self.home.display()));
        api::connect(&self.home).await.map_err(silent)
    }
    /// Whether a call that nobody heard may be made again: by another process's node, which went away meanwhile.
    pub(crate) async fn may_move_on(&self) -> bool {
        self.may_start && self.own.lock().await.is_none() && !api::is_alive(&self.home).await
    }
    /// Stops the node if it is ours. Verbs of other processes that found it are waited for, unless somebody is impatient.
    pub(crate) async fn close(&self, ui: &mut Ui, at_once: bool) {
        let Some(node) = self.own.lock().await.take() else { return };
        if !at_once {
            // The call of this very process may be counted for a moment longer than its answer takes.
            let moment = tokio::time::timeout(OWN_END, node.drain()).await;
            if moment.is_err() {
                ui.note("another process uses the node of this one; it is waited for, Ctrl-C ends both");
                tokio::select! { () = node.drain() => {}, () = interrupted() => {} }
            }
        }
        node.stop().await;
    }
}

/// The variable by which somebody says `off` who wants services to be processes of their own where systemd runs the
/// machine: whoever throws the home away soon.
pub(crate) const UNITS: &str = "SOFTSERVICE_UNITS";

/// Whether services may be units of systemd.
pub(crate) fn units() -> bool {
    std::env::var_os(UNITS).is_none_or(|said| said != "off")
}

/// How a keeper is run: this very program.
pub(crate) fn keeper_command() -> Result<Vec<String>, CliError> {
    let program = std::env::current_exe()
        .map_err(|e| CliError::new(Kind::Failed, format!("cannot find this program's own file: {e}")))?;
    let program = program
        .into_os_string()
        .into_string()
        .map_err(|p| CliError::new(Kind::Failed, format!("this program's path {p:?} is not text")))?;
    Ok(vec![program, "keeper".into()])
}

/// Finds the node of a home, or starts one. While another process has the home and does not answer, it is starting, or
/// ending: either its socket appears, or the home becomes free.
pub(crate) async fn begin(config: Config) -> Result<Begun, CliError> {
    let home = config.home.clone();
    let end = tokio::time::Instant::now() + TURN;
    loop {
        if let Ok(stream) = api::connect(&home).await {
            return Ok(Begun::Other(stream));
        }
        match Served::start(config.clone()).await {
            Ok(node) => return Ok(Begun::Own(Box::new(node))),
            Err(error) if !is_taken(&error) || tokio::time::Instant::now() >= end => {
                return Err(starting(&home, &error));
            }
            Err(error) => tokio::select! {
                // What cannot be watched says so at once, and then only the deadline is left.
                Ok(()) = api::appears(&home) => {}
                Ok(()) = softservice_node::freed(&home) => {}
                () = tokio::time::sleep_until(end) => return Err(starting(&home, &error)),
            },
        }
    }
}

fn is_taken(error: &ServeError) -> bool {
    matches!(error, ServeError::Start(StartError::Home(HomeError::InUse(_))))
}

fn starting(home: &Path, error: &ServeError) -> CliError {
    let text = format!("no node could be started in {}: {error}", home.display());
    match error {
        taken if is_taken(taken) => CliError::new(Kind::NoNode, text).hint(format!(
            "another process holds this home and has not answered for {} s: is it stopped, or of another version?",
            TURN.as_secs()
        )),
        ServeError::Start(StartError::SwarmKey(_) | StartError::PeerAddress { .. }) => {
            CliError::new(Kind::Usage, error.to_string())
        }
        ServeError::Start(
            StartError::Store(StoreError::Damaged { .. })
            | StartError::Key(KeyError::Damaged { .. })
            | StartError::Publisher(
                PublisherError::Key(KeyError::Damaged { .. }) | PublisherError::Root { .. } | PublisherError::Torn(_),
            ),
        ) => CliError::new(Kind::Damaged, text),
        _ => CliError::new(Kind::NoNode, text),
    }
}
