//! The harness: real `softservice` processes in homes of their own, on loopback or in network namespaces.
//! Invariant: whatever a test starts is gone when its [`World`] is dropped, also after a panic; nothing waits by sleeping
//! for luck, only for events with a deadline.

pub mod api;
pub mod browser;
pub mod crash;
pub mod debian;
pub mod defences;
pub mod flood;
pub mod hosts;
pub mod link;
pub mod power;
pub mod process;
pub mod report;
pub mod sources;
pub mod systemd;
pub mod visit;

pub use process::{Node, World};

/// True when this is root; otherwise says loudly what is skipped.
pub fn root_or_skip(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    root
}
