//! A backup in the life of a generation. Invariant: the data that was there is put away before any of the backup's comes, and
//! comes back bit by bit unless the generation is confirmed; until then nothing of either is removed.
//!
//! A restore is a generation like any other, of the backup's release, answers and overlay: planned, tried and taken back when
//! it does not hold. What differs: every role is replaced, data comes from the archive instead of the generation before, and
//! programs of the release bring back what its programs wrote. Data moves by renames: it is copied once, out of the archive.
//!
//! ```text
//! softservices/.restoring-NAME.N/           what was unpacked, each time another N, until a generation takes it
//! softservices/NAME/generations/N/restore/  the same then: volumes/KEY hooks/ROLE secrets/ overlay/, and put.json
//!                  snapshots/P/             data as generation P left it; P = 0 where nothing ran
//!                  secrets.before/          secrets until then
//! ```

use super::{
    digest::{self, VolumeSum},
    error::BackupError,
    file::{self, Progress},
    pack::ServiceUser,
    seal::Keys,
    unpack,
};
use crate::device::{
    Device, Slot, Waiting, blocking, durable,
    error::{DeviceError, Result},
    layout::{Folder, Place},
    overlay,
    snapshot::Snapshots,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    archive::{Header, Part},
    instance::{HookSpec, Instance, overlay::Overlay},
    release::HookKind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::OwnedMutexGuard;

/// How often this process unpacked; what an earlier one left is cleared away at the start.
static UNPACKED: AtomicU64 = AtomicU64::new(0);

/// What is to be restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restore {
    /// As what.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What opens it.
    pub keys: Keys,
    /// Data that is there may be put away.
    pub replace: bool,
    /// Volumes must come back like this, or the restore does not hold: for drills, which know what was there.
    pub expect: BTreeMap<String, VolumeSum>,
}

/// A backup that was verified to its end, and lies unpacked on the disk. Dropped, it is removed, unless a generation took it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// What it says of itself.
    pub header: Header,
    /// The owner's own changes.
    pub overlay: Overlay,
    expect: BTreeMap<String, VolumeSum>,
    folder: PathBuf,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Gone when a generation has taken it.
        let _ = durable::clear(&self.folder);
    }
}

/// What a generation's record says of the backup that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromBackup {
    /// Seconds since the Unix epoch when the data was as it is there.
    pub made_at: u64,
    /// Volumes that it holds.
    pub volumes: Vec<String>,
    /// Roles whose own program brings their data back.
    pub hooks: Vec<String>,
    /// How volumes must be before anything is started on them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, VolumeSum>,
}

/// What was done to data, for the way back. Written before anything moves.
#[derive(Debug, Serialize, Deserialize)]
struct Put {
    /// Volumes that were there. All others are the restore's, and go with it.
    present: Vec<String>,
}

impl Unpacked {
    /// For a generation's record.
    pub(in crate::device) fn describe(&self) -> FromBackup {
        let keys = |of: fn(&Part) -> Option<&String>| self.header.parts.iter().filter_map(of).cloned().collect();
        FromBackup {
            made_at: self.header.made_at,
            volumes: keys(|p| if let Part::Volume(key) = p { Some(key) } else { None }),
            hooks: keys(|p| if let Part::Hook(role) = p { Some(role) } else { None }),
            expect: self.expect.clone(),
        }
    }

    /// Gives it to a generation.
    pub(in crate::device) fn give(&self, to: &Folder) -> Result<()> {
        durable::rename(&self.folder, &to.restore())
    }
}

impl Folder {
    /// What a backup brought, while its generation is not confirmed.
    fn restore(&self) -> PathBuf {
        self.path.join("restore")
    }
}

impl Place {
    fn secrets_before(&self) -> PathBuf {
        self.root().join("secrets.before")
    }
}

/// The generation as whose data is put away what a removed softservice left.
fn before(previous: Option<u32>) -> u32 {
    previous.unwrap_or(0)
}

impl Device {
    /// Verifies a backup to its end and unpacks it; nothing of the softservice is changed. `admit` looks at the header first.
    ///
    /// # Errors
    /// Something is there and may not be put away; the file is not whole, not for these keys, or `admit` says no.
    pub async fn unpack(
        &self,
        restore: Restore,
        tell: super::Tell,
        admit: impl FnOnce(&Header) -> std::result::Result<(), String> + Send + 'static,
    ) -> Result<Unpacked> {
        let place = Place::new(&self.0.softservices, &restore.name)?;
        let (name, fresh) = (restore.name.clone(), !place.root().exists());
        let turn = Arc::new(self.turn(&name)?);
        let unpacked = self.unpack_at(&place, restore, &turn, tell, admit).await;
        if fresh && unpacked.is_err() && !holds_something(&place)? {
            // What was made for it is no softservice. Nobody makes one of it meanwhile: the turn is ours.
            crate::device::locked(&self.0.slots).remove(&name);
            blocking(move || durable::let_go(place.root())).await?;
            self.0.users.forget(&name)?;
        }
        drop(turn);
        unpacked
    }

    async fn unpack_at(
        &self,
        place: &Place,
        restore: Restore,
        turn: &Arc<OwnedMutexGuard<()>>,
        tell: super::Tell,
        admit: impl FnOnce(&Header) -> std::result::Result<(), String> + Send + 'static,
    ) -> Result<Unpacked> {
        if !restore.replace && holds_something(place)? {
            return Err(DeviceError::Occupied { name: restore.name });
        }
        // The turn ends with the unpacking; what is unpacked waits for its owner's yes, and another may come meanwhile.
        let number = UNPACKED.fetch_add(1, Ordering::Relaxed);
        let folder = self.0.softservices.join(format!(".restoring-{}.{number}", restore.name));
        let (user, home) = (self.service_user(place)?, self.0.home.clone());
        let off = Arc::new(AtomicBool::default());
        let (waiting, turn) = (Waiting(Arc::clone(&off)), Arc::clone(turn));
        let unpacked = blocking(move || {
            let _turn = turn;
            durable::clear(&folder)?;
            let name = restore.name;
            let failed = |source| DeviceError::Backup { name: name.clone(), source: Box::new(source) };
            let progress: Progress<'_> = &|what, bytes, of| {
                tell(what, bytes, of);
                !off.load(Ordering::Acquire)
            };
            let mut admit = Some(admit);
            let mut look = |header: &Header| match admit.take().map_or(Ok(()), |admit| admit(header)) {
                Ok(()) => Ok(()),
                Err(why) => Err(BackupError::Refused { path: restore.file.clone(), why }),
            };
            let header = file::read(&restore.file, &home, &restore.keys, &folder, user, &mut look, progress);
            let header = header.map_err(failed)?;
            // From here on it is removed with its owner.
            let mut unpacked = Unpacked { header, overlay: Overlay::default(), expect: restore.expect, folder };
            unpacked.overlay = overlay::read(&unpacked.folder.join(unpack::place(&Part::Overlay)))?;
            Ok(unpacked)
        })
        .await;
        drop(waiting);
        unpacked
    }

    /// Removes what restores that were cut off before they began left.
    pub(in crate::device) fn forget_unpacked(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0.softservices) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".restoring-")
                && let Err(error) = durable::clear(&entry.path())
            {
                tracing::warn!(%error, "what a restore left could not be removed");
            }
        }
    }

    /// Starts the services of a generation that comes from a backup: first those whose data their own program brings back,
    /// with all that they use; then their programs; then the rest.
    pub(in crate::device) async fn start_restored(&self, slot: &Slot, number: u32, new: &Instance) -> Result<()> {
        let record = slot.place.record(number)?;
        let Some(from) = record.from_backup else { return Ok(()) };
        let due = |h: &&HookSpec| h.kind == HookKind::Restore && from.hooks.contains(&h.role);
        let hooks: Vec<&HookSpec> = new.hooks.iter().filter(due).collect();
        let mut first: BTreeSet<&str> = hooks.iter().map(|h| h.role.as_str()).collect();
        while let Some(used) = new
            .roles
            .iter()
            .filter(|r| first.contains(r.key.as_str()))
            .flat_map(|r| &r.uses)
            .find(|u| !first.contains(u.as_str()))
        {
            first.insert(used);
        }
        let services = slot.services(self, number)?;
        let release = |s: &softservice_protocol::instance::ServiceSpec| {
            slot.release(crate::device::course::own_numbers(new, &s.role));
        };
        services.start(new, |s| first.contains(s.role.as_str()), release).await?;
        for hook in hooks {
            let folder = slot.place.generation(number).restore().join(unpack::place(&Part::Hook(hook.role.clone())));
            self.run_hook(slot, number, hook, &folder).await?;
        }
        services.start(new, |_| true, release).await
    }
}

/// A generation that runs or could, or data, also of a removed softservice. One that failed and left no data is nothing.
fn holds_something(place: &Place) -> Result<bool> {
    if place.current_number()?.is_some() {
        return Ok(true);
    }
    let full = |folder: PathBuf| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    Ok(full(place.volumes()) || full(place.secrets()))
}

/// Roles of a backup whose data the release cannot bring back; an error names the first.
pub(in crate::device) fn check_hooks(place: &Place, new: &Instance, from: &FromBackup) -> Result<()> {
    let able = |role: &String| new.hooks.iter().any(|h| h.kind == HookKind::Restore && h.role == *role);
    match from.hooks.iter().find(|role| !able(role)) {
        None => Ok(()),
        Some(role) => Err(DeviceError::Hook {
            name: place.name.clone(),
            role: role.clone(),
            kind: "restore",
            why: "the release has none, and a program of it wrote this backup".into(),
        }),
    }
}

/// Puts the data that is there away, as generation `previous` left it. No service runs.
pub(in crate::device) fn put_away(
    place: &Place,
    number: u32,
    previous: Option<u32>,
    epochs: &BTreeMap<String, u32>,
) -> Result<()> {
    let (snapshots, folder) = (Snapshots { place }, place.generation(number).restore());
    let marker = folder.join("put.json");
    let put = match durable::read_json::<Put>(&marker)? {
        Some(put) => put,
        None => {
            // Of an earlier restore, which is confirmed: taken for the present ones, they would come back in their stead.
            forget_secrets(place)?;
            let put = Put { present: snapshots.present()? };
            durable::write_json(&marker, &put)?;
            put
        }
    };
    // Only those: repeated, it finds the backup's own in their places.
    snapshots.move_away(before(previous), number, epochs, put.present)
}

/// Removes secrets that a confirmed restore replaced.
pub(super) fn forget_secrets(place: &Place) -> Result<()> {
    durable::let_go(&place.secrets_before())
}

/// Puts the backup's secrets and volumes in their places; what was there was put away. `user` is the softservice's.
pub(in crate::device) fn put_in(place: &Place, number: u32, user: ServiceUser) -> Result<()> {
    let (snapshots, folder) = (Snapshots { place }, place.generation(number).restore());
    let (secrets, aside) = (place.secrets(), place.secrets_before());
    if !aside.exists() {
        durable::rename(&secrets, &aside)?;
    }
    let brought = folder.join(unpack::place(&Part::Secrets));
    if brought.is_dir() {
        // Made anew, and empty, when a node began again in between.
        durable::clear(&secrets)?;
        durable::rename(&brought, &secrets)?;
    }
    durable::folder(&secrets, 0o700)?;
    let Some(from) = place.record(number)?.from_backup else { return Ok(()) };
    for key in from.volumes {
        snapshots.bring_in(&folder.join(unpack::place(&Part::Volume(key.clone()))), &key)?;
    }
    for (key, found) in digest::sums(place, from.expect.keys(), user)? {
        if from.expect.get(&key) != Some(&found) {
            let source = Box::new(BackupError::Differs(place.volume(&key)));
            return Err(DeviceError::Backup { name: place.name.clone(), source });
        }
    }
    Ok(())
}

/// The way back: data and secrets as they were. Nothing of the new generation runs any more.
pub(in crate::device) fn take_back(place: &Place, number: u32, previous: Option<u32>) -> Result<()> {
    let folder = place.generation(number).restore();
    let Some(put) = durable::read_json::<Put>(&folder.join("put.json"))? else {
        return durable::let_go(&folder);
    };
    let snapshots = Snapshots { place };
    snapshots.restore(before(previous), number)?;
    for key in snapshots.present()?.iter().filter(|key| !put.present.contains(key)) {
        durable::let_go(&place.volume(key))?;
    }
    let (secrets, aside) = (place.secrets(), place.secrets_before());
    if aside.is_dir() {
        durable::clear(&secrets)?;
        durable::rename(&aside, &secrets)?;
    }
    // Last: it says what there was to do.
    durable::let_go(&folder)
}

/// It is confirmed: what it replaced, and what is left of the archive, goes.
pub(in crate::device) fn done(place: &Place, number: u32) -> Result<()> {
    durable::let_go(&place.generation(number).restore())?;
    forget_secrets(place)
}
