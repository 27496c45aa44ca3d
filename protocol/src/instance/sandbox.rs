//! What a program of a softservice may see and do on one device, everything filled in. Invariant: default-deny: what is not
//! named here is not there. It says what was promised; what a machine can really keep is [`Isolation`].

use serde::{Deserialize, Serialize};

/// The world of one program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// The folder of the tree that is its whole root; none = the device's own `/usr`, read only.
    pub root: Option<String>,
    /// What it sees read only: trees, rendered files, secrets, and what `allow.read` names.
    pub read: Vec<Mount>,
    /// What it may write: volumes, and what `allow.write` names.
    pub write: Vec<Mount>,
    /// Ports that it may listen on: its role's own, and those of `allow.listen`.
    pub listen: Vec<Listen>,
    /// What it may connect to: its imports, its own role's ports, and what `allow.connect` names.
    pub connect: Vec<Reach>,
    /// Most memory, in bytes.
    pub memory: Option<u64>,
    /// Most processor time, in thousandths of one core.
    pub cpu: Option<u32>,
    /// Most processes and threads.
    pub processes: Option<u32>,
}

/// A file or folder of the device, and where the program finds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mount {
    /// Its absolute path on the device.
    pub from: String,
    /// Its absolute path in the sandbox.
    pub at: String,
}

impl Mount {
    /// At the same path as outside.
    pub fn here(path: impl Into<String>) -> Self {
        let from = path.into();
        Self { at: from.clone(), from }
    }
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listen {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its number.
    pub port: u16,
}

impl Listen {
    /// Of `tcp:8080` in `allow.listen`; the rules of a release refuse everything else.
    pub(crate) fn of(entry: &str) -> Option<Self> {
        let (transport, port) = entry.split_once(':')?;
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return None,
        };
        Some(Self { transport, port: port.parse().ok()? })
    }
}

/// Where a connection may go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    /// How far.
    pub to: Network,
    /// The port; none = any.
    pub port: Option<u16>,
}

impl Reach {
    /// Of `internet:443` or `lan:*` in `allow.connect`; none for imports, and the rules of a release refuse everything else.
    pub(crate) fn of(entry: &str) -> Option<Self> {
        let (to, port) = entry.split_once(':')?;
        let to = match to {
            "internet" => Network::Internet,
            "lan" => Network::Lan,
            "device" => Network::Device,
            _ => return None,
        };
        let port = if port == "*" { None } else { Some(port.parse().ok()?) };
        Some(Self { to, port })
    }
}

/// How far a connection reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Another role or include of the same softservice.
    Import,
    /// This device.
    Device,
    /// The local network.
    Lan,
    /// Anywhere.
    Internet,
}

/// What this machine really keeps of the promises; found out by trying, not by asking for version numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// Measures that hold, for people: one line each, ascending.
    pub enforced: Vec<String>,
    /// Promises that this machine cannot keep; ascending. Each needs the owner's `--accept-reduced`.
    pub reduced: Vec<Reduced>,
}

/// A promise that cannot be kept here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reduced {
    /// The measure, one of `files`, `processes`, `user`, `syscalls`, `listen`, `connect`, `connect-address`, `udp`,
    /// `memory`, `cpu`, `process-count`.
    pub measure: String,
    /// Why, and what would help.
    pub why: String,
}
