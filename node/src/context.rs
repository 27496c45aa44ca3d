//! What the local API and the verbs work with. Invariant: everything in it is cheap to clone and safe to share.

use crate::{config::Config, device::Device, handle::Handle, publisher::Keys};
use softservice_store::Store;
use std::{path::PathBuf, sync::Arc};

/// A running node, seen by the verbs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The driver.
    pub handle: Handle,
    /// The softservices of this home.
    pub device: Device,
    /// The content.
    pub store: Arc<dyn Store>,
    /// The publisher identity of this home.
    pub keys: Keys,
    /// The home.
    pub home: PathBuf,
    /// What the node was told.
    pub config: Arc<Config>,
    /// When it started, for ages only.
    pub started: std::time::Instant,
    /// Releases that verbs work with.
    pub(crate) holds: crate::holds::Holds,
    /// The owner's limits for content, and who was let in.
    pub(crate) quotas: crate::quota::Quotas,
    /// What was refused outside the core.
    pub(crate) refused: crate::refused::Refused,
    /// Who was asked what is newest.
    pub(crate) looks: crate::verbs::Looks,
    /// Told when somebody asks the node to stop.
    pub stop: crate::shutdown::Stop,
}
