//! A release: a definition compiled to canonical bytes, with its whole closure pinned by hash.
//! Invariant: it says everything that a device needs and nothing that it has to look up: no version range, no floating
//! include, no text of a definition's syntax. `${…}` in its strings is substitution, done on the device.

use crate::{
    codec::Wire,
    id::{PublisherId, ReleaseId},
    limits,
    time::Span,
    tree::TreeRef,
};
use serde::{Deserialize, Serialize};

/// A pointer to release bytes: enough to fetch and verify them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// BLAKE3 of the bytes.
    pub id: ReleaseId,
    /// How many bytes, at most [`limits::RELEASE_BYTES`].
    pub size: u32,
}

/// A text with `${…}` in it.
pub type Template = String;

/// A compiled definition. Lists are ascending by name unless order means something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who compiled it: the publisher that signs it.
    pub publisher: PublisherId,
    /// Its name, `[a-z0-9-]{1,63}`.
    pub distro: String,
    /// Upstream's semantic version.
    pub version: String,
    /// Packaging revision.
    pub revision: u32,
    /// One line about it.
    pub summary: String,
    /// `os/arch` pairs it runs on; empty means any.
    pub platforms: Vec<String>,
    /// Data layout; an older one comes back only with its data.
    pub epoch: u32,
    /// Releases that this one improves on.
    pub parents: Vec<Parent>,
    /// Distros that it is made of.
    pub includes: Vec<Include>,
    /// Questions to the owner.
    pub params: Vec<Param>,
    /// Secrets made on the device.
    pub secrets: Vec<Secret>,
    /// What devices play.
    pub roles: Vec<Role>,
    /// What must hold after provisioning.
    pub tests: Vec<Test>,
    /// How an update goes.
    pub update: Update,
    /// The folder that it was compiled from, so that anybody can improve it.
    pub source: TreeRef,
}
impl Wire for Release {
    const NAME: &'static str = "release";
    const LIMIT: usize = limits::RELEASE_BYTES;
}

/// A release that this one improves on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Whose it is.
    pub publisher: PublisherId,
    /// The release.
    pub release: ReleaseId,
    /// Its distro's name and version, for people.
    pub label: String,
}

/// An included distro, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Include {
    /// The local name, `[include.NAME]`.
    pub name: String,
    /// Whose distro.
    pub publisher: PublisherId,
    /// The distro's name.
    pub distro: String,
    /// The version that the lock chose.
    pub version: String,
    /// Its release.
    pub release: ReleaseRef,
    /// The role of this distro beside which it runs.
    pub role: String,
    /// Answers to its parameters.
    pub with: Vec<(String, Template)>,
    /// Its imports, bound to `role.export` or `include.export` of this distro: (import, from).
    pub bind: Vec<(String, String)>,
}

/// A typed question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// The type of its answers.
    pub kind: ParamKind,
    /// What to ask.
    pub ask: String,
    /// The answer when nobody gives one, in canonical text.
    pub default: Option<String>,
    /// Lower bound (int, size, duration), in the type's unit.
    pub min: Option<i64>,
    /// Upper bound.
    pub max: Option<i64>,
}

/// The type of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParamKind {
    /// Any one-line text.
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// One of these.
    Enum(Vec<String>),
    /// Bytes; written like `200MiB`.
    Size,
    /// Milliseconds; written like `30s`.
    Duration,
    /// A host name.
    Hostname,
    /// A TCP port.
    Port,
    /// An http or https address.
    Url,
    /// A path on the device.
    Path,
}

/// A secret that the device makes once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// How it is made.
    pub generate: Generate,
    /// Roles whose services may read it.
    pub roles: Vec<String>,
    /// Shown to the owner once, when made.
    pub show_once: bool,
}

/// How a secret is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Generate {
    /// So many random bytes.
    Bytes(u16),
    /// So many words.
    Words(u16),
    /// A password of so many characters.
    Password(u16),
    /// An Ed25519 key: the file holds the private key as PKCS#8 PEM, and a file beside it that ends in `.pub` the public one.
    Keypair,
}

/// A part that one kind of device plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Fewest devices.
    pub devices_min: u32,
    /// Most devices; none = any number.
    pub devices_max: Option<u32>,
    /// Memory it needs, in bytes.
    pub needs_memory: Option<u64>,
    /// Disk it needs, in bytes.
    pub needs_disk: Option<u64>,
    /// What it uses of others.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<Export>,
    /// Trees it runs from.
    pub artifacts: Vec<Artifact>,
    /// Data that outlives generations.
    pub volumes: Vec<Volume>,
    /// Ports that the node assigns: (name, wish).
    pub ports: Vec<Port>,
    /// Rendered files.
    pub files: Vec<File>,
    /// Processes, in start order.
    pub services: Vec<Service>,
    /// Permissions; everything else is denied.
    pub allow: Allow,
    /// Programs that the device runs at named moments; at most one of a kind, ascending.
    pub hooks: Vec<Hook>,
}

/// A program that the device runs in the role's sandbox at a named moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When.
    pub kind: HookKind,
    /// Program and arguments; `${backup}` is the folder that a backup is written to or read from.
    pub command: Vec<Template>,
    /// It must end within this time.
    pub within: Span,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HookKind {
    /// Beside the running services: writes a consistent copy of the role's data into `${backup}`, which stands in the
    /// backup for the raw volumes.
    Backup,
    /// Beside the services that were started on empty volumes: brings the data back out of `${backup}`.
    Restore,
}

impl HookKind {
    /// Its word in definitions and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

/// A typed need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// `name/version`, for example `postgresql/1`.
    pub kind: String,
    /// `role.export` or `include.export`; none when whoever includes this distro binds it.
    pub from: Option<String>,
}

/// A typed offer. Fields of every binding: `address` (host:port), `host`, `port`, `url`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// `name/version`.
    pub kind: String,
    /// The port of this role behind it.
    pub port: Option<String>,
    /// `include.export` that is passed on instead.
    pub from: Option<String>,
    /// Further fields.
    pub fields: Vec<(String, Template)>,
    /// Fields that are secrets: (field, secret's name); they reach a process as files only.
    pub secrets: Vec<(String, String)>,
}

/// A tree for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// (platform, tree); platform `any` fits all.
    pub trees: Vec<(String, TreeRef)>,
}

/// Data that outlives generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where the service expects it, when its root is its own.
    pub mount: Option<String>,
    /// What a backup does: `none`, `copy`, `snapshot`.
    pub backup: String,
    /// Kept when the softservice is removed.
    pub keep_on_remove: bool,
}

/// A port of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The number that the author wishes.
    pub wish: Option<u16>,
}

/// A rendered file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path below `${files}`.
    pub path: String,
    /// Its text.
    pub template: Template,
    /// Permission bits.
    pub mode: u32,
    /// What a change does: `restart` or `nothing`.
    pub on_change: String,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<Template>,
    /// Variables.
    pub environment: Vec<(String, Template)>,
    /// Secrets and secret import fields it reads as files.
    pub secrets: Vec<String>,
    /// Services or imports that must be healthy before.
    pub depends_on: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// What asks it to end.
    pub stop_signal: StopSignal,
    /// Time from that signal to SIGKILL.
    pub stop_grace_period: Span,
    /// How its health is asked.
    pub healthcheck: Option<Healthcheck>,
    /// The artifact that is the whole root; none = the device's own `/usr`, read only.
    pub root: Option<String>,
}

/// The signal that asks a process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT: PostgreSQL's fast shutdown.
    Int,
    /// SIGQUIT: nginx and others finish what they serve.
    Quit,
}

/// When a process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Never.
    No,
    /// After a failure.
    OnFailure,
    /// After any end.
    Always,
}

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// GET; `:PORT/path` means this device.
    Http {
        /// The address.
        url: Template,
        /// The status wanted.
        status: u16,
        /// A text that the body holds.
        contains: Option<Template>,
    },
    /// A connection can be made to `host:port`.
    Tcp {
        /// The address.
        address: Template,
    },
    /// A program ends with 0.
    Exec {
        /// Program and arguments.
        command: Vec<Template>,
    },
}

/// Health of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// How.
    pub probe: Probe,
    /// Between two questions.
    pub interval: Span,
    /// How long one may take.
    pub timeout: Span,
    /// Failures after the start do not count for so long.
    pub start_period: Span,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// Permissions of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allow {
    /// Own ports beyond those assigned: `tcp:8080`.
    pub listen: Vec<String>,
    /// Imports, `internet:443` and the like.
    pub connect: Vec<String>,
    /// Volumes and paths it may write.
    pub write: Vec<String>,
    /// Paths of the device it may read.
    pub read: Vec<String>,
    /// Most memory in bytes.
    pub memory: Option<u64>,
    /// Most processor time, in thousandths of one core.
    pub cpu: Option<u32>,
    /// Most processes.
    pub processes: Option<u32>,
}

/// A test of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// The role on whose device it runs.
    pub role: String,
    /// What it does.
    pub probe: Probe,
    /// It must pass within this time, tried again until then.
    pub within: Span,
    /// When it runs: `install`, `update`, `restore`, `always`.
    pub when: Vec<String>,
}

/// How an update goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Roles in the order of their switch; empty = as listed.
    pub order: Vec<String>,
    /// How long the new generation must stay healthy before it counts.
    pub settle: Span,
    /// How data of an older epoch is carried over.
    pub migrate: Option<Migrate>,
}

/// Carrying data over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// The epoch it comes from.
    pub from_epoch: u32,
    /// The role whose data it is.
    pub role: String,
    /// Program and arguments.
    pub command: Vec<Template>,
    /// Whether a snapshot must be made before.
    pub needs_snapshot: bool,
}
