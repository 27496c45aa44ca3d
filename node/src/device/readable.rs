//! Descriptors that tokio waits for. Invariant: only [`OwnedFd`]s, whose number never changes while they live: that is
//! what the sound use of tokio's registration needs, and what its safe constructor cannot ask of every type.

use std::{os::fd::OwnedFd, path::Path};
use tokio::io::{Interest, unix::AsyncFd};

/// Registers a non-blocking descriptor with the runtime.
#[expect(
    deprecated,
    reason = "the constructor is sound for OwnedFd; its replacement is unsafe, which this workspace denies"
)]
pub(crate) fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Tells of files of these folders that are made, renamed into them or written.
pub(super) fn changes<'p>(folders: impl IntoIterator<Item = &'p Path>) -> std::io::Result<AsyncFd<OwnedFd>> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    for folder in folders {
        add_watch(&fd, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    }
    readable(fd)
}

/// Waits for a change. What happened does not matter, that something did is enough: whoever waits looks again.
pub(super) async fn changed(changes: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    let mut ready = changes.readable().await?;
    let mut events = [0; 4096];
    while matches!(rustix::io::read(changes.get_ref(), &mut events), Ok(1..)) {}
    ready.clear_ready();
    Ok(())
}
