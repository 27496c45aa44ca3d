//! How a service ended, in words. Invariant: they say what happened to the service, not to what holds it; where that
//! cannot be known they say what was seen.

use crate::sandbox::{Confinement, Told};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// How a service ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) words: String,
    /// By itself, with 0.
    pub(super) good: bool,
}

impl Outcome {
    /// It never ran.
    pub(super) fn not_started(why: impl std::fmt::Display) -> Self {
        Self { words: format!("could not be started: {why}"), good: false }
    }

    /// `ended`: the child's status. `told`: what it told before. `last`: the last line of its output.
    pub(super) fn of(
        ended: std::io::Result<ExitStatus>,
        told: &Told,
        confinement: Option<&Confinement>,
        last: impl FnOnce() -> String,
    ) -> Self {
        let status = match ended {
            Ok(status) => status,
            Err(e) => return Self { words: format!("was lost: {e}"), good: false },
        };
        if let Some(why) = &told.failed {
            return Self::not_started(why);
        }
        let sandboxed = confinement.is_some_and(Confinement::bubblewrap);
        let words = match (told.exit_code, status.code(), status.signal()) {
            // Bubblewrap tells a signal as a shell does.
            (Some(code @ 129..=192), ..) => format!("ended with {code} (signal {})", code - 128),
            (Some(code), ..) => format!("ended with {code}"),
            // The sandbox ended without having run it.
            (None, Some(_), _) if sandboxed => return Self::not_started(last()),
            (None, Some(code), _) => format!("ended with {code}"),
            (None, None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None, None) => "ended".into(),
        };
        let kills = confinement.and_then(|c| c.group.as_ref()).map_or(0, crate::sandbox::Group::memory_kills);
        match confinement.and_then(|c| c.sandbox.memory) {
            Some(most) if kills > 0 => Self {
                words: format!(
                    "{words}; out of memory: the kernel killed {kills} of its processes, which may use {most} bytes"
                ),
                good: status.success(),
            },
            _ => Self { words, good: status.success() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: i32, told: &Told) -> Outcome {
        Outcome::of(Ok(ExitStatus::from_raw(status)), told, None, String::new)
    }

    #[test]
    fn a_signal_is_told_however_it_is_known() {
        let ran = |code| Told { exit_code: Some(code), ..Told::default() };
        assert_eq!(of(0x300, &Told::default()).words, "ended with 3");
        assert_eq!(of(9, &Told::default()).words, "ended by signal 9");
        assert_eq!(of(0x8900, &ran(137)).words, "ended with 137 (signal 9)");
        assert_eq!(of(0, &ran(0)), Outcome { words: "ended with 0".into(), good: true });
        let failed = Told { failed: Some("no such file".into()), ..Told::default() };
        assert_eq!(of(0x100, &failed).words, "could not be started: no such file");
    }
}
