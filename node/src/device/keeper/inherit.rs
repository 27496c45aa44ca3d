//! What a keeper does not pass on. Invariant: of the descriptors that whoever started the node left open, no program of a
//! softservice gets one: they are that one's files, maybe root's, and in a sandbox they lead out of it.

use rustix::io::{FdFlags, fcntl_setfd};
use std::os::fd::BorrowedFd;

/// Marks every inherited descriptor but the three that everybody has, so that the next program does not get it. For the
/// beginning of a process, before it opens anything that is meant to be passed on.
pub(super) fn nothing() -> std::io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()).filter(|n| *n > 2) else {
            continue;
        };
        #[expect(
            unsafe_code,
            reason = "the safe ways to a descriptor begin with opening it, and these are open already"
        )]
        // SAFETY: the number was listed a moment ago and only this thread, which does nothing else, runs. It is used
        // for one call and not kept; were it closed, that call would answer EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_setfd(fd, FdFlags::CLOEXEC) {
            // The descriptor of the listing itself is gone by the time of its own turn, or is marked already.
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
