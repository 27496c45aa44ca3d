//! Everything that waits, blocks or forks: the driver of the core, libp2p, the disk, the device, the local API.
//!
//! Invariant: one home is one node; what a node has acknowledged is on its disk.

pub mod api;
mod clock;
pub mod config;
pub mod context;
pub mod device;
pub mod handle;
mod home;
pub mod identity;
mod net;
pub mod publisher;
pub mod shutdown;
pub mod verbs;
// TEMP shim
/// x
#[derive(Debug)] pub struct Node(context::Context);
/// x
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct StartError;
/// x
pub async fn start(_c: config::Config) -> Result<Node, StartError> { Err(StartError) }
impl Node { /// x
 pub fn context(&self) -> &context::Context { &self.0 } /// x
 pub async fn stop(self) {} }
