//! Descriptors that tokio waits for. Invariant: only [`OwnedFd`]s, whose number never changes while they live: that is
//! what the sound use of tokio's registration needs, and what its safe constructor cannot ask of every type.

use std::os::fd::OwnedFd;
use tokio::io::{Interest, unix::AsyncFd};

/// Registers a non-blocking descriptor with the runtime.
#[expect(
    deprecated,
    reason = "the constructor is sound for OwnedFd; its replacement is unsafe, which this workspace denies"
)]
pub(crate) fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
