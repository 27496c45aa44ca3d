//! The node that a verb speaks to. Invariant: a node that was started for a verb is stopped in order before the
//! process ends; both kinds are spoken to through the same socket, so that there is one code path.

use crate::{client::Client, error::CliError};
use softservice_node::{
    Config, HomeError, KeyError, PublisherError, StartError,
    api::{self, ServeError, Served},
    verbs::failure::Kind,
};
use softservice_store::StoreError;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a verb without a running node waits for what an earlier process left unfinished: a way back stops and starts
/// services, which takes their grace period.
const SETTLE: Duration = Duration::from_secs(20);

/// A node for the time of a verb.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    own: Option<Served>,
}

impl Session {
    /// Uses the running node of this home, or starts one.
    pub(crate) async fn open(home: PathBuf) -> Result<Self, CliError> {
        let client = Client::new(&home);
        if api::is_alive(&home).await {
            return Ok(Self { client, own: None });
        }
        let own = start(Config { home, keeper: keeper_command()?, ..Config::default() }).await?;
        // An interrupted provisioning goes on, or back, as soon as a node starts. Verbs that came in its middle would be
        // refused, every one of them, for each takes its node away again.
        if tokio::time::timeout(SETTLE, own.context().device.settled()).await.is_err() {
            tracing::warn!("an interrupted provisioning is still on its way");
        }
        tracing::info!("no node runs in this home: one runs in this process for the time of the verb");
        Ok(Self { client, own: Some(own) })
    }
    /// Speaks to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
    /// Stops the node if it is ours.
    pub(crate) async fn close(&mut self) {
        if let Some(node) = self.own.take() {
            node.stop().await;
        }
    }
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

/// Starts a node, with errors as people are told them.
pub(crate) async fn start(config: Config) -> Result<Served, CliError> {
    let home = config.home.clone();
    Served::start(config).await.map_err(|e| starting(&home, &e))
}

fn starting(home: &Path, error: &ServeError) -> CliError {
    let text = format!("no node could be started in {}: {error}", home.display());
    match error {
        ServeError::Start(StartError::Home(HomeError::InUse(_))) => CliError::new(Kind::NoNode, text)
            .hint("another process holds this home and does not answer: is it starting or stopping?"),
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
