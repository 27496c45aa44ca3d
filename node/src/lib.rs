//! Everything that waits, blocks or forks: the driver of the core, libp2p, the disk, the device, the local API.

pub mod device;
pub mod handle;
