//! How a node is asked to stop. Invariant: asking twice is asking once, and whoever asks late still hears of it.

use std::sync::Arc;
use tokio::sync::watch;

/// The wish that this node stops: cheap to clone, given to everything that runs long.
#[derive(Debug, Clone)]
pub struct Stop {
    sender: Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        let (sender, receiver) = watch::channel(false);
        Self { sender: Arc::new(sender), receiver }
    }
}

impl Stop {
    /// Asks the node to stop.
    pub fn ask(&self) {
        self.sender.send_replace(true);
    }
    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        *self.receiver.borrow()
    }
    /// Returns once somebody asked.
    pub async fn wait(&self) {
        let mut receiver = self.receiver.clone();
        // An error means that every sender is gone; `self` holds one, so it cannot come.
        let _ = receiver.wait_for(|asked| *asked).await;
    }
    /// What `work` comes to; none once somebody asked, and then it is dropped where it stands.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.wait() => None,
        }
    }
}
