//! Everything that waits, blocks or forks: the driver of the core, libp2p, the disk, the device, the local API.
//!
//! Invariant: one home is one node; what a node has acknowledged is on its disk.

pub mod api;
pub mod clock;
pub mod config;
pub mod context;
pub mod device;
mod disk;
mod driver;
pub mod handle;
mod holds;
mod home;
pub mod identity;
mod net;
pub mod publisher;
mod quota;
mod refused;
mod sandbox;
pub mod shutdown;
mod start;
pub mod verbs;

pub use config::Config;
pub use context::Context;
pub use home::{HomeError, freed};
pub use identity::KeyError;
pub use net::NetError;
pub use publisher::PublisherError;
pub use start::{Node, StartError, start, start_on};
