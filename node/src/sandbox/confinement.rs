//! How one program is held on this machine: the promise, and the means that were found to work. Invariant: it is worked
//! out once, by the node, and carried to whoever launches the program: a launch does all of it or does not happen.

use super::{cgroup::Group, root::SYSTEM};
use serde::{Deserialize, Serialize};
use softservice_protocol::instance::Sandbox;
use std::path::{Path, PathBuf};

/// How one program is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// The promise.
    pub(crate) sandbox: Sandbox,
    /// The means for files and processes.
    pub(super) means: Means,
    /// What the kernel keeps beside them.
    pub(super) keeps: Keeps,
    /// System calls are filtered.
    pub(super) syscalls: bool,
    /// Its own user and group; none = those of the node.
    pub(super) user: Option<u32>,
    /// `$HOME` and working folder.
    pub(super) home: PathBuf,
    /// Where it is counted.
    pub(crate) group: Option<Group>,
    /// Most memory of each process, where no cgroup limits all of them together.
    pub(super) most_memory: Option<u64>,
    /// Most processes, where no cgroup counts them.
    pub(super) most_processes: Option<u32>,
}

impl Confinement {
    /// Whether bubblewrap stands between the program and its parent.
    pub(crate) fn bubblewrap(&self) -> bool {
        self.means.bwrap().is_some()
    }

    /// Whether processes are counted by the user namespace. The program that sets it up must be the device's.
    pub(super) fn counts_by_namespace(&self) -> bool {
        matches!(self.means, Means::Namespaces { .. }) && self.device_programs()
    }

    /// Whether programs in `/usr` are the device's.
    pub(super) fn device_programs(&self) -> bool {
        device_programs(&self.sandbox)
    }
}

/// Whether programs in `/usr` are the device's, in this sandbox: neither a root tree nor something mounted is in their place.
pub(super) fn device_programs(sandbox: &Sandbox) -> bool {
    let hides = |at: &str| SYSTEM.iter().any(|system| Path::new(at).starts_with(system));
    sandbox.root.is_none() && !sandbox.read.iter().chain(&sandbox.write).any(|m| m.at != m.from && hides(&m.at))
}

/// What stands between a program and the device's files and processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Means {
    /// Bubblewrap in a user namespace.
    Namespaces {
        /// The program `bwrap`.
        bwrap: PathBuf,
    },
    /// Bubblewrap as root, where only root gets namespaces; the program gives root up inside.
    RootNamespaces {
        /// The program `bwrap`.
        bwrap: PathBuf,
    },
    /// Nothing but what the kernel rules for a process itself.
    None,
}

impl Means {
    /// The program `bwrap`, where it is used.
    pub(super) fn bwrap(&self) -> Option<&PathBuf> {
        match self {
            Self::Namespaces { bwrap } | Self::RootNamespaces { bwrap } => Some(bwrap),
            Self::None => None,
        }
    }
}

/// What the kernel's rules can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Keeps {
    /// Files, up to truncation.
    pub(super) files: bool,
    /// TCP ports.
    pub(super) ports: bool,
    /// Signals and abstract sockets.
    pub(super) scopes: bool,
}
