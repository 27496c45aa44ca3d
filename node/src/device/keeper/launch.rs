//! Becoming the service. Invariant: from here on, this process dies with its keeper.
//!
//! The keeper runs itself once more instead of the service's program, because the parent death signal must be set by
//! the child itself, and safe code cannot run between fork and exec. The signal survives exec.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::{io::Write, os::unix::process::CommandExt};

/// Becomes `command`; returns only why that failed.
///
/// Standard input is a pipe to the keeper: it closes when the service's program runs, or says why it does not.
pub(super) fn launch(command: &[String], keeper: i32) -> String {
    // Exec puts /dev/null where the pipe is: what closes by itself is a copy.
    let Ok(pipe) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3) else {
        return "no descriptor is left".into();
    };
    let why = become_service(command, keeper);
    // A keeper that is gone needs no answer.
    let _ = std::fs::File::from(pipe).write_all(why.as_bytes());
    why
}

fn become_service(command: &[String], keeper: i32) -> String {
    if let Err(e) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("bind the service to its keeper: {e}");
    }
    // The keeper may have died before the signal was set; then it will never be sent.
    if getppid().is_none_or(|p| p.as_raw_nonzero().get() != keeper) {
        return "the keeper is gone".into();
    }
    let Some((program, arguments)) = command.split_first() else {
        return "the command is empty".into();
    };
    let error = std::process::Command::new(program).args(arguments).stdin(std::process::Stdio::null()).exec();
    format!("run {program}: {error}")
}
