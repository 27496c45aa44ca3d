//! A node with its API: what `softservice node` is, and what a verb without a running node starts. Invariant: the API
//! opens after the node is whole and closes before it ends, so that no call meets half a node.

use super::Server;
use crate::{Config, Context, Node, StartError, verbs};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long calls in work may go on after somebody asked the node to stop.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node, its API, and the task that follows the owner's policies.
#[derive(Debug)]
pub struct Served {
    node: Node,
    server: Server,
    policies: JoinHandle<()>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The API's socket.
    #[error("local api in {home}: {source}", home = home.display())]
    Api {
        /// The home.
        home: std::path::PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

impl Served {
    /// Starts all three.
    ///
    /// # Errors
    /// What did not begin; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, ServeError> {
        let node = crate::start(config).await?;
        match Server::start(node.context()) {
            Ok(server) => {
                let policies = tokio::spawn(verbs::follow_policies(node.context()));
                Ok(Self { node, server, policies })
            }
            Err(source) => {
                let home = node.home().to_owned();
                node.stop().await;
                Err(ServeError::Api { home, source })
            }
        }
    }
    /// What verbs work with.
    pub fn context(&self) -> Context {
        self.node.context()
    }
    /// Nobody new finds the node; returns when the last call that has an end has come to it.
    pub async fn drain(&self) {
        self.server.drain().await;
    }
    /// Stops all three in order.
    pub async fn stop(self) {
        let Self { node, server, policies } = self;
        server.stop(PATIENCE).await;
        policies.abort();
        // Trials hear of the stop by themselves.
        node.context().stop.ask();
        verbs::trials_ended().await;
        node.stop().await;
    }
}
