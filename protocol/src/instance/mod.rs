//! From a release and answers to what runs on one device: every template filled in, every binding bound.
//! Invariant: pure and deterministic: the same closure, answers and [`Assignment`] give the same [`Instance`]; a secret
//! appears in it only as the path of a file.
//!
//! References that templates may use: `${artifact.A}` `${files}` `${volume.V}` `${port.P}` `${param.P}` `${secret.S}` (the
//! path of its file) `${import.I.FIELD}` `${ROLE.EXPORT.FIELD}` `${INCLUDE.EXPORT.FIELD}` `${platform}` `${softservice}`. Fields
//! of every binding: `address`, `host`, `port`, `url`, and what its export adds.
//!
//! A service finds each secret that it lists in the file that `SECRET_<NAME>_FILE` names: `session` as
//! `SECRET_SESSION_FILE`, `import.db.password` as `SECRET_DB_PASSWORD_FILE`. Names only: never the secret itself.

mod bind;
mod component;
pub mod destination;
mod error;
pub(crate) mod limits;
mod needs;
mod order;
pub mod overlay;
pub mod param;
mod programs;
mod resolve;
mod role;
pub mod sandbox;
mod transition;
mod world;

pub use error::InstanceError;
pub use limits::Limits;
pub(crate) use resolve::reached;
pub use sandbox::{Isolation, Sandbox};
pub use transition::{Change, Move, Transition, ends_first, transition};

use crate::{
    id::ReleaseId,
    release::{Generate, HookKind, Param, Release, Restart, StopSignal},
    time::Span,
    tree::TreeRef,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The owner's answers to the top distro's parameters.
pub type Answers = BTreeMap<String, String>;

/// All releases that a release needs, itself among them.
pub type Closure = BTreeMap<ReleaseId, Release>;

/// The address that everything of one device listens on and is reached at.
pub const HOST: &str = "127.0.0.1";

/// What must exist on a device before the instance can be resolved. Keys are dotted, see the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Parameters without answer and default.
    pub questions: Vec<Param>,
    /// Ports to assign.
    pub ports: Vec<PortNeed>,
    /// Secrets to make, if they were not made before.
    pub secrets: Vec<SecretNeed>,
    /// Folders of data.
    pub volumes: Vec<VolumeNeed>,
    /// Trees to materialise.
    pub trees: Vec<TreeNeed>,
}

/// A port to assign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortNeed {
    /// Component, role, port.
    pub key: String,
    /// The number that the author wishes; of the public one, if it is fronted.
    pub wish: Option<u16>,
    /// Its role starts beside its predecessor: the device listens on the public number itself, and each generation of the
    /// role gets an inner one, see [`Assignment::inner`].
    pub fronted: bool,
}

/// A secret to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNeed {
    /// Component, secret.
    pub key: String,
    /// How.
    pub generate: Generate,
    /// Shown to the owner when made.
    pub show_once: bool,
}

/// A folder of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeNeed {
    /// Component, role, volume.
    pub key: String,
    /// Stays when the softservice is removed.
    pub keep_on_remove: bool,
    /// What a backup does with it: `none`, `copy`, `snapshot`.
    pub backup: String,
}

/// A tree to materialise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNeed {
    /// Component, role, artifact.
    pub key: String,
    /// Which.
    pub tree: TreeRef,
}

/// A role as this device plays it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleNeed {
    /// Component, role.
    pub key: String,
    /// Keys of its volumes: with any, it keeps data.
    pub volumes: Vec<String>,
    /// Two of it cannot run at once: it keeps data, listens on numbers of its own choice (`allow.listen`) or writes
    /// outside of what the device gives it (`allow.write`).
    pub alone: bool,
    /// Keys of the roles that its imports lead to.
    pub uses: Vec<String>,
    /// The most that its programs may use together.
    pub limits: Limits,
    /// What its author says it needs of a device; generations that were made before this was kept say nothing.
    #[serde(default)]
    pub needs: Minimum,
    /// BLAKE3, as hex, over everything that decides what this role runs: its resolved services, files, hooks and trees, with
    /// the folders of the device and inner ports left out, and files that a change of does `nothing`. Equal fingerprints
    /// in two generations mean the same behaviour.
    pub fingerprint: String,
}

/// The least that a device must have; none = nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Minimum {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Space for its data, in bytes.
    pub disk: Option<u64>,
}

/// Where things are on this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Public port numbers by key: what bindings and endpoints say.
    pub ports: BTreeMap<String, u16>,
    /// Inner numbers of ports that stand behind a front: what the role's own `${port.X}` says. Ports that are not here have
    /// one number only.
    pub inner: BTreeMap<String, u16>,
    /// The folder with a folder for each tree, named by its manifest's id: generations share what did not change.
    pub trees: String,
    /// The folder with a folder of rendered files for each role key.
    pub files: String,
    /// The folder with a folder for each volume key.
    pub volumes: String,
    /// The folder with a file for each secret key.
    pub secrets: String,
    /// `os/arch`.
    pub platform: String,
    /// The path of the `softservice` program.
    pub softservice: String,
}

/// What runs on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The top distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release.
    pub release: ReleaseId,
    /// BLAKE3, as hex, over all that it runs, writes and asks; folders of the device and inner ports left out.
    pub fingerprint: String,
    /// Its data layout.
    pub epoch: u32,
    /// The data layouts of all its components by path, its own at "".
    pub epochs: BTreeMap<String, u32>,
    /// Roles in the order of their switch.
    pub roles: Vec<RoleNeed>,
    /// Processes in start order.
    pub services: Vec<ServiceSpec>,
    /// Files to write below the files folder.
    pub files: Vec<RenderedFile>,
    /// What must hold.
    pub tests: Vec<TestSpec>,
    /// How long it must stay healthy before it counts.
    pub settle: Span,
    /// What the top distro exports, for people.
    pub endpoints: Vec<Endpoint>,
    /// What it asks for beyond its own ports, imports and volumes; ascending.
    pub permissions: Vec<String>,
    /// Ports it was resolved with.
    pub ports: BTreeMap<String, u16>,
    /// Public ports that the device itself listens on and passes to inner ones, so that a new generation can take over
    /// without a gap; ascending by key.
    pub fronts: Vec<FrontSpec>,
    /// Programs for backup and restore.
    pub hooks: Vec<HookSpec>,
    /// How data of an older epoch is carried over: at most one for each component, what is included first.
    pub migrate: Vec<MigrateSpec>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique in the instance: `[COMPONENT.]SERVICE`, with the role where a component has the service twice.
    pub name: String,
    /// The role's key.
    pub role: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables, the names of secret files among them.
    pub environment: BTreeMap<String, String>,
    /// Keys of secrets that it reads.
    pub secrets: Vec<String>,
    /// Names of services that must be healthy before.
    pub after: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// What asks it to end.
    pub stop_signal: StopSignal,
    /// Time from that signal to SIGKILL.
    pub grace: Span,
    /// How its health is asked.
    pub health: Option<HealthSpec>,
    /// What it may see and do; programs of its healthcheck as well.
    pub sandbox: Sandbox,
}

/// A port of a role without data, behind a front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontSpec {
    /// The port's key.
    pub key: String,
    /// The role's key.
    pub role: String,
    /// Where the device listens.
    pub public: u16,
    /// Where this generation's service listens.
    pub inner: u16,
    /// The top distro exports it: people reach it from other machines too.
    pub everywhere: bool,
}

/// A hook, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSpec {
    /// The role's key.
    pub role: String,
    /// When.
    pub kind: HookKind,
    /// Program and arguments; [`BACKUP`] in them stands for the folder, which is known when it runs.
    pub command: Vec<String>,
    /// It must end within this time.
    pub within: Span,
    /// The environment of the role's services.
    pub environment: BTreeMap<String, String>,
    /// What it may see and do.
    pub sandbox: Sandbox,
}

/// What stands for the backup's folder in the commands of hooks.
pub const BACKUP: &str = "${backup}";

/// A migration, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateSpec {
    /// The path of its component, whose epoch it speaks of.
    pub component: String,
    /// The epoch it comes from.
    pub from_epoch: u32,
    /// The role's key.
    pub role: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether a snapshot must be made before.
    pub needs_snapshot: bool,
    /// The environment of the role's services.
    pub environment: BTreeMap<String, String>,
    /// What it may see and do.
    pub sandbox: Sandbox,
}

/// How health is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// How.
    pub probe: ProbeSpec,
    /// Between two questions.
    pub interval: Span,
    /// How long one may take.
    pub timeout: Span,
    /// Failures after the start do not count for so long.
    pub start_period: Span,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// A question, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeSpec {
    /// GET.
    Http {
        /// With scheme and host.
        url: String,
        /// The status wanted.
        status: u16,
        /// A text that the body holds.
        contains: Option<String>,
    },
    /// A connection can be made.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A program ends with 0.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// Below the files folder, the role's key first.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Permission bits.
    pub mode: u32,
}

/// A test of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSpec {
    /// `[COMPONENT.]TEST`.
    pub name: String,
    /// The role's key.
    pub role: String,
    /// What it does.
    pub probe: ProbeSpec,
    /// The environment of a program: that of the role's services. Empty for other probes.
    pub environment: BTreeMap<String, String>,
    /// What a program may see and do. Of other questions, where the node may go for them beyond this softservice's own
    /// ports; else empty.
    pub sandbox: Sandbox,
    /// It must pass within this time, tried again until then.
    pub within: Span,
    /// When it runs; empty = always.
    pub when: Vec<String>,
}

impl TestSpec {
    /// Whether it runs on this occasion: `install`, `update` or `restore`.
    pub fn is_due(&self, occasion: &str) -> bool {
        self.when.is_empty() || self.when.iter().any(|w| w == occasion || w == "always")
    }
}

/// Where people reach it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The export's name, with its role where two roles have it.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// What a device must have or make before `top` can run with these answers.
///
/// # Errors
/// Everything that no answer can heal; missing answers are [`Needs::questions`].
pub fn needs(closure: &Closure, top: ReleaseId, answers: &Answers, platform: &str) -> Result<Needs, InstanceError> {
    needs::needs(closure, top, answers, platform)
}

/// The instance: everything filled in.
///
/// # Errors
/// See [`InstanceError`]; missing answers are an error here.
pub fn resolve(
    closure: &Closure,
    top: ReleaseId,
    answers: &Answers,
    assignment: &Assignment,
) -> Result<Instance, InstanceError> {
    resolve::instance(closure, top, answers, assignment)
}
