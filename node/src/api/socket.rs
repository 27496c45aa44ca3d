//! The socket in the home. Invariant: it appears whole, with mode 0600 in a folder of mode 0700, or not at all.
//!
//! A socket's path may have 108 bytes and homes are often longer, so the folder is opened and named through
//! `/proc/self/fd`.

use rustix::fs::{CWD, Mode, OFlags, inotify};
use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{UnixListener, UnixStream},
};

const NAME: &str = "api.sock";

/// Where it is.
pub(super) fn path(home: &Path) -> PathBuf {
    home.join("run").join(NAME)
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn through(dir: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", dir.as_raw_fd())
}

/// Makes the socket; a dead one is replaced.
pub(super) fn bind(home: &Path) -> io::Result<UnixListener> {
    let run = home.join("run");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&run)?;
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700))?;
    let dir = open(&run)?;
    let fresh = "api.sock.new";
    match rustix::fs::unlinkat(&dir, fresh, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = UnixListener::bind(through(&dir, fresh))?;
    std::fs::set_permissions(run.join(fresh), std::fs::Permissions::from_mode(0o600))?;
    rustix::fs::renameat(&dir, fresh, &dir, NAME)?;
    Ok(listener)
}

/// Connects to the node of this home.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when no node runs.
pub async fn connect(home: &Path) -> io::Result<UnixStream> {
    let dir = open(&home.join("run"))?;
    UnixStream::connect(through(&dir, NAME)).await
}

/// Whether a node of this home listens.
pub async fn is_alive(home: &Path) -> bool {
    connect(home).await.is_ok()
}

/// Returns when a node of this home listens. The home's folder must exist.
///
/// # Errors
/// When the folder cannot be watched.
pub async fn appears(home: &Path) -> io::Result<()> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let names = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, home, names)?;
    // The call is deprecated for types that may lend a descriptor that they do not own; an OwnedFd owns its.
    #[allow(deprecated, reason = "its successor is unsafe, which this workspace denies")]
    let watch = AsyncFd::with_interest(watch, Interest::READABLE)?;
    loop {
        // Watched before it is looked at, so that nothing falls in between.
        match inotify::add_watch(&watch, home.join("run"), names) {
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if is_alive(home).await {
            return Ok(());
        }
        let mut ready = watch.readable().await?;
        // What happened does not matter, only that something did.
        while rustix::io::read(watch.get_ref(), &mut [0; 4096]).is_ok() {}
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_appears_is_heard_of() {
        let home = tempfile::tempdir().expect("home");
        let (sooner, later) = tokio::join!(appears(home.path()), async {
            // Begun after the other waits: a join polls in order.
            let listener = bind(home.path()).expect("bind");
            appears(home.path()).await.map(|()| listener)
        });
        sooner.expect("heard of");
        later.expect("there already");
    }

    #[tokio::test]
    async fn a_home_with_a_long_path_has_a_socket_and_a_dead_one_is_replaced() {
        let scratch = tempfile::tempdir().expect("scratch folder");
        let home = scratch.path().join("n".repeat(120));
        std::fs::create_dir(&home).expect("home");
        assert!(!is_alive(&home).await);
        for _ in 0..2 {
            // Dropped at the end of each round: the file stays behind, as after a kill.
            let listener = bind(&home).expect("bind");
            assert!(is_alive(&home).await);
            let mode = std::fs::metadata(path(&home)).expect("socket").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            drop(listener);
            assert!(!is_alive(&home).await);
        }
    }
}
