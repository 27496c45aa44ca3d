//! What goes wrong on a device: which softservice, generation and service, and what a person can do.

use super::backup::BackupError;
use softservice_protocol::instance::{
    InstanceError,
    overlay::{Conflict, OverlayError},
};
use softservice_store::StoreError;
use std::path::{Path, PathBuf};

/// Why the device did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The disk said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// No softservice of this name.
    #[error("there is no softservice {name:?} here; `softservice ps` lists them")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// No generation of this number.
    #[error("{name} has no generation {number} to use; `softservice generations {name}` lists them")]
    NoGeneration {
        /// The softservice.
        name: String,
        /// The number.
        number: u32,
    },
    /// Nothing of it is current.
    #[error(
        "{name} never was confirmed, there is nothing to start; `softservice generations {name}` says why, `softservice up` \
         provisions it anew"
    )]
    NeverConfirmed {
        /// The softservice.
        name: String,
    },
    /// No service of this name.
    #[error("{name} has no service {service:?}; it has {known}")]
    NoService {
        /// The softservice.
        name: String,
        /// The service asked for.
        service: String,
        /// What there is.
        known: String,
    },
    /// A name that cannot be one.
    #[error("{0}")]
    Name(#[from] softservice_protocol::name::NameError),
    /// Another generation's life is under way.
    #[error("{name} is being provisioned (generation {number}); wait until it is confirmed or reverted")]
    Busy {
        /// The softservice.
        name: String,
        /// The generation on its way.
        number: u32,
    },
    /// A switch failed, and so did the way back.
    #[error(
        "{name} is stuck at generation {number}: {effect} failed: {why}; when that is mended, `softservice start {name}` tries \
         again, and `softservice remove {name}` gives it up and keeps its data"
    )]
    Stuck {
        /// The softservice.
        name: String,
        /// The generation that failed.
        number: u32,
        /// The step that failed.
        effect: &'static str,
        /// Why it failed last.
        why: String,
    },
    /// Its removal has begun and has not come to its end.
    #[error(
        "{name} is being removed; if that does not end, its log and the node's say why, and `softservice remove {name}` \
         again ends it"
    )]
    Removing {
        /// The softservice.
        name: String,
    },
    /// Everything here is being removed: the end of a throwaway device.
    #[error("everything here is being removed")]
    Closing,
    /// The owner holds this softservice at its version.
    #[error("{name} is held; `softservice unhold {name}` lets it change")]
    Held {
        /// The softservice.
        name: String,
    },
    /// The agreed plan is not what would happen now.
    #[error("the plan for {name} is now {now}, not {agreed}; look at it again with `softservice plan`")]
    PlanChanged {
        /// The softservice.
        name: String,
        /// Agreed hash.
        agreed: String,
        /// Hash as of now.
        now: String,
    },
    /// Nobody was asked whether it may do more.
    #[error("{name} would be allowed more than now: {}", .added.join("; "))]
    Wider {
        /// The softservice.
        name: String,
        /// What it may not do now, a line each.
        added: Vec<String>,
    },
    /// Code without its data.
    #[error(
        "{name} generation {number} has data of epoch {old}, now it is {now}: it can only come back with its data, and no \
         snapshot of that is here"
    )]
    Epoch {
        /// The softservice.
        name: String,
        /// The generation asked for.
        number: u32,
        /// Its epoch.
        old: u32,
        /// The epoch of the data.
        now: u32,
    },
    /// The release cannot run here with these answers.
    #[error("{name}: {source}")]
    Instance {
        /// The softservice.
        name: String,
        /// Why.
        source: Box<InstanceError>,
    },
    /// The owner's own changes and the author's do not go together.
    #[error(
        "{name}: your own {what} and the new release do not go together: {why}; `softservice overlay {name} --next` shows both and settles it",
        what = conflicts.iter().map(|c| c.what.as_str()).collect::<Vec<_>>().join(", "),
        why = conflicts.first().map_or("", |c| c.why.as_str()),
    )]
    Conflict {
        /// The softservice.
        name: String,
        /// Each of them.
        conflicts: Vec<Conflict>,
    },
    /// A change of the overlay that cannot be.
    #[error("{name}: {source}")]
    Overlay {
        /// The softservice.
        name: String,
        /// Why.
        source: Box<OverlayError>,
    },
    /// A backup that cannot be made or used.
    #[error("{name}: {source}")]
    Backup {
        /// The softservice.
        name: String,
        /// Why.
        source: Box<BackupError>,
    },
    /// Its data is backed up by a program beside its running services, and they do not run.
    #[error(
        "{name} is down, and role {role} is backed up beside its running services; `softservice start {name}` first"
    )]
    Down {
        /// The softservice.
        name: String,
        /// The role.
        role: String,
    },
    /// A program of the release for backup or restore failed.
    #[error("{name}: the {kind} program of role {role}: {why}")]
    Hook {
        /// The softservice.
        name: String,
        /// The role.
        role: String,
        /// `backup` or `restore`.
        kind: &'static str,
        /// How it ended, and what it said last.
        why: String,
    },
    /// Something is there that a restore would put away.
    #[error(
        "{name} is here already, with data of its own; `restore {name} FILE --replace` puts it away, or restore under another name"
    )]
    Occupied {
        /// The softservice.
        name: String,
    },
    /// Content is missing or damaged.
    #[error("{name}: {source}")]
    Store {
        /// The softservice.
        name: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// One of our own files is not what it was.
    #[error(
        "{path} is damaged: {why}; restore it from a backup, or move the softservice's folder away and provision it anew",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The program to run is not there or not executable.
    #[error("{name} generation {number}, service {service}: {program}: {why}")]
    Command {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// The service.
        service: String,
        /// The program.
        program: String,
        /// What is wrong.
        why: String,
    },
    /// The machine keeps less than when its owner agreed.
    #[error(
        "{name} generation {number} is not started: this machine does not enforce {measure} any more, which its owner has not \
         accepted: {why}; mend it, or provision it anew with --accept-reduced"
    )]
    LessKept {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// What is not kept.
        measure: String,
        /// Why, and what would help.
        why: String,
    },
    /// It asks for the node's own folder.
    #[error(
        "{name} asks to read or write {path}, where this node keeps its keys and books: no permission reaches there",
        path = path.display()
    )]
    Trespass {
        /// The softservice.
        name: String,
        /// The path of the permission.
        path: PathBuf,
    },
    /// It brings a root tree, and nothing can be mounted here.
    #[error("{name} runs in a root tree of its own, which this machine cannot give it: {why}")]
    NoRoots {
        /// The softservice.
        name: String,
        /// Why, and what would help.
        why: String,
    },
    /// No port was free.
    #[error("{name}: no free tcp port for {key} between {from} and {to}")]
    NoPort {
        /// The softservice.
        name: String,
        /// The port's key.
        key: String,
        /// First number tried.
        from: u16,
        /// Last number tried.
        to: u16,
    },
    /// The front does not do what it shall.
    #[error("{name}: its front {why}")]
    Front {
        /// The softservice.
        name: String,
        /// What it did.
        why: String,
    },
    /// There is no room for a copy of the data.
    #[error(
        "{name}: keeping its data before the switch takes {need} bytes and {free} are free, of which {reserve} stay free; \
         nothing was stopped. Free some, or put the home on a file system that shares blocks (btrfs, xfs)"
    )]
    NoRoom {
        /// The softservice.
        name: String,
        /// Bytes that a copy takes.
        need: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that are never taken.
        reserve: u64,
    },
    /// A volume cannot be kept as it is.
    #[error("{name}: volume {volume} cannot be kept whole: {why}")]
    Unkept {
        /// The softservice.
        name: String,
        /// The volume.
        volume: String,
        /// What is in the way.
        why: String,
    },
    /// Data that is to come back is not there.
    #[error("{name}: the data of generation {generation} is not here any more")]
    NoSnapshot {
        /// The softservice.
        name: String,
        /// Whose data.
        generation: u32,
    },
    /// No migration leads from the data that is there.
    #[error(
        "{name}: {component} has data of epoch {from}, and this release carries over to {to} from another epoch only; \
         update first to a release between them"
    )]
    NoMigration {
        /// The softservice.
        name: String,
        /// The component, or the distro itself.
        component: String,
        /// The epoch of the data.
        from: u32,
        /// The epoch of the release.
        to: u32,
    },
    /// Carrying data over failed.
    #[error("{name} generation {number}: carrying over the data of {component} failed: {why}")]
    Migration {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// The component, or the distro itself.
        component: String,
        /// How, and what the program said last.
        why: String,
    },
    /// Data of another layout was left by a softservice of this name that was removed.
    #[error(
        "{name}: {component} left data of epoch {there} here when it was removed, and this release reads epoch {wanted}; \
         provision a release of that epoch and update it, or remove the data with `softservice remove {name} --data`"
    )]
    LeftData {
        /// The softservice.
        name: String,
        /// The component, or the distro itself.
        component: String,
        /// The epoch of the data.
        there: u32,
        /// The epoch of the release.
        wanted: u32,
    },
    /// What is here was left by a softservice of another distro or publisher.
    #[error(
        "{name}: {there} left data or secrets here when it was removed, and they are not for {wanted}; provision it under another \
         name (--as), or remove what was left with `softservice remove {name} --data`"
    )]
    LeftByAnother {
        /// The softservice.
        name: String,
        /// Publisher and distro that it was.
        there: String,
        /// Publisher and distro that it would be.
        wanted: String,
    },
    /// A keeper did not come up or does not answer.
    #[error("{name} generation {number}, service {service}: its keeper {why}")]
    Keeper {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// The service.
        service: String,
        /// What it did.
        why: String,
    },
    /// A service is not healthy.
    #[error(
        "{name} generation {number}, service {service} is not healthy: {why}; `softservice logs {name}/{service}` shows more"
    )]
    Unhealthy {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// The service.
        service: String,
        /// What was seen last.
        why: String,
    },
    /// Tests failed.
    #[error("{name} generation {number}: {failed} of {of} tests failed: {why}")]
    Tests {
        /// The softservice.
        name: String,
        /// The generation.
        number: u32,
        /// How many.
        failed: usize,
        /// Of how many.
        of: usize,
        /// The first, with its last answer.
        why: String,
    },
}

/// What the device answers.
pub type Result<T> = std::result::Result<T, DeviceError>;

/// For `map_err`: what was being done to what.
pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> DeviceError {
    let path = path.as_ref().to_owned();
    move |source| DeviceError::Io { action, path, source }
}
