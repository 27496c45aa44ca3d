//! Making a backup of a softservice. Invariant: what was stopped for it is started again, whatever comes of it; data is read
//! only where nobody writes: beside hooks that wrote it, or out of a snapshot.

use super::{
    digest::{self, VolumeSum},
    error::BackupError,
    file::{self, Progress, Written},
    leftovers,
    pack::Source,
    record::BackupRecord,
    seal::{self, Lock, Target},
};
use crate::device::{
    Device, Slot, Waiting, blocking, course, durable,
    errand::Errand,
    error::{DeviceError, Result},
    layout::Place,
    locked, overlay,
    snapshot::Snapshots,
    to_its_end,
};
use softservice_protocol::{
    archive::{Header, Part},
    instance::{self, BACKUP, HookSpec, Instance, ServiceSpec, sandbox::Mount},
    release::{HookKind, Release, ReleaseRef},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What is to be backed up, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupRequest {
    /// The softservice.
    pub name: String,
    /// The file, an absolute path where nothing is yet.
    pub file: PathBuf,
    /// Who can open it.
    pub lock: Lock,
    /// The sums of volumes are wanted, taken where services write them while nobody does: for whoever is to see whether
    /// what comes back is what was. It costs another reading of all data while services are stopped.
    pub witness: bool,
}

/// Told how far it is: what, bytes done, of how many; 0 while that is unknown.
pub type Tell = Arc<dyn Fn(&'static str, u64, u64) + Send + Sync>;

/// What goes into a backup.
struct Plan {
    number: u32,
    instance: Instance,
    hooks: Vec<HookSpec>,
    /// Keys of volumes that go in as they are, by the role that has them.
    volumes: Vec<(String, String)>,
    running: bool,
    header: Header,
}

impl Device {
    /// Writes a backup: verified, encrypted, durable.
    ///
    /// # Errors
    /// The softservice is not here or is being changed; a hook fails; the file is there; the disk says no.
    pub async fn backup(&self, request: BackupRequest, tell: Tell) -> Result<BackupRecord> {
        let slot = self.existing(&request.name)?;
        let turn = slot.turn()?;
        let off = Arc::new(AtomicBool::default());
        let waiting = Waiting(Arc::clone(&off));
        let device = self.clone();
        // Services that were stopped are started again in any case.
        let done = to_its_end(async move {
            let _turn = turn;
            let done = device.back_up(&slot, request, tell, off).await;
            let scratch = slot.place.backup();
            let cleared = blocking(move || durable::let_go(&scratch)).await;
            done.and_then(|record| cleared.map(|()| record))
        })
        .await;
        drop(waiting);
        done
    }

    async fn back_up(
        &self,
        slot: &Arc<Slot>,
        request: BackupRequest,
        tell: Tell,
        off: Arc<AtomicBool>,
    ) -> Result<BackupRecord> {
        let name = request.name.clone();
        let failed = move |source| DeviceError::Backup { name: name.clone(), source: Box::new(source) };
        if request.file.symlink_metadata().is_ok() {
            return Err(failed(BackupError::Exists(request.file)));
        }
        let plan = self.what(slot).await?;
        let scratch = slot.place.backup();
        let target = Target::new(&request.file).map_err(&failed)?;
        let (folders, made, draft) = (plan_folders(&plan), slot.place.clone(), target.draft.clone());
        blocking(move || {
            leftovers::backup(&made)?;
            let scratch = made.backup();
            folders.iter().try_for_each(|folder| durable::folder(&scratch.join(folder), 0o700))?;
            leftovers::announce(&made, &draft)
        })
        .await?;
        for hook in &plan.hooks {
            self.run_hook(slot, plan.number, hook, &scratch.join("hooks").join(&hook.role)).await?;
        }
        let sums = self.copy_volumes(slot, &plan, &scratch, request.witness).await?;
        let sources = sources(&slot.place, &plan, &scratch);
        let (place, user, home) = (slot.place.clone(), self.service_user(&slot.place)?, self.0.home.clone());
        let header = plan.header;
        blocking(move || {
            let progress: Progress<'_> = &|what, bytes, of| {
                tell(what, bytes, of);
                !off.load(Ordering::Acquire)
            };
            let written = file::write(&target, &home, &request.lock, header, &sources, user, progress);
            let written: Written = written.map_err(failed)?;
            let record = BackupRecord { sums, ..BackupRecord::of(&request.file, &written, &seal::key_file(&home)) };
            place.add_backup(&record)?;
            Ok(record)
        })
        .await
    }

    /// What there is to back up.
    async fn what(&self, slot: &Arc<Slot>) -> Result<Plan> {
        let place = slot.place.clone();
        let number = place.current_number()?;
        let number = number.ok_or_else(|| DeviceError::NoGeneration { name: place.name.clone(), number: 0 })?;
        let running = self.before(&place, number).await?.running;
        let device = self.clone();
        blocking(move || {
            let (top, answers, closure) = overlay::inputs(&*device.0.store, &place, number)?;
            let wrong = |source| DeviceError::Instance { name: place.name.clone(), source: Box::new(source) };
            let needs = instance::needs(&closure, top, &answers, &crate::device::platform()).map_err(wrong)?;
            let instance = place.instance(number)?;
            let hooks: Vec<HookSpec> = instance.hooks.iter().filter(|h| h.kind == HookKind::Backup).cloned().collect();
            if let Some(hook) = hooks.first().filter(|_| !running) {
                return Err(DeviceError::Down { name: place.name.clone(), role: hook.role.clone() });
            }
            let raw = |role: &instance::RoleNeed| !hooks.iter().any(|h| h.role == role.key);
            let mode = |key: &String| needs.volumes.iter().find(|v| v.key == *key).is_some_and(|v| v.backup != "none");
            let roles = instance.roles.iter().filter(|r| raw(r));
            let volumes = roles.flat_map(|r| r.volumes.iter().filter(|v| mode(v)).map(|v| (r.key.clone(), v.clone())));
            let volumes = volumes.collect();
            // Not of the closure: an overlay makes releases of its own there.
            let bytes = device.0.store.object(top.object(), softservice_protocol::limits::RELEASE_BYTES);
            let store = |source| DeviceError::Store { name: place.name.clone(), source: Box::new(source) };
            let bytes = bytes.map_err(store)?;
            let document: Release = softservice_protocol::codec::decode(&bytes).map_err(|e| store(e.into()))?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let header = Header {
                made_at: now,
                program: env!("CARGO_PKG_VERSION").into(),
                softservice: place.name.clone(),
                publisher: document.publisher,
                distro: document.distro.clone(),
                version: document.version.clone(),
                release: ReleaseRef { id: top, size: u32::try_from(bytes.len()).unwrap_or(u32::MAX) },
                epoch: document.epoch,
                answers: answers.into_iter().collect(),
                parts: Vec::new(),
                entries: 0,
                bytes: 0,
            };
            Ok(Plan { number, instance, hooks, volumes, running, header })
        })
        .await
    }

    /// Runs a hook of a role, with this folder in place of `${backup}`.
    pub(super) async fn run_hook(&self, slot: &Slot, number: u32, hook: &HookSpec, folder: &Path) -> Result<()> {
        let (kind, text) = (word(hook.kind), folder.to_string_lossy().into_owned());
        let command: Vec<String> = hook.command.iter().map(|part| part.replace(BACKUP, &text)).collect();
        let mut sandbox = hook.sandbox.clone();
        sandbox.write.push(Mount::here(text));
        self.give(&slot.place, folder)?;
        let errand = Errand {
            device: self,
            place: &slot.place,
            number,
            name: &format!("{kind}@{}", hook.role),
            command: &command,
            environment: &hook.environment,
            sandbox: &sandbox,
            within: Duration::from_millis(hook.within.0),
        };
        errand.run().await.map_err(|why| DeviceError::Hook {
            name: slot.place.name.clone(),
            role: hook.role.clone(),
            kind,
            why,
        })
    }

    /// The user and group that programs of a softservice run as.
    pub(in crate::device) fn service_user(&self, place: &Place) -> Result<(u32, u32)> {
        let node = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(self.user(place)?.map_or(node, |user| (user, user)))
    }

    /// Copies volumes that go in as they are; with a `witness`, answers their sums. Services that write there are stopped for
    /// as long as that takes, which is next to nothing where the file system shares blocks.
    async fn copy_volumes(
        &self,
        slot: &Arc<Slot>,
        plan: &Plan,
        scratch: &Path,
        witness: bool,
    ) -> Result<BTreeMap<String, VolumeSum>> {
        if plan.volumes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let _work = slot.calm().await?;
        let roles: BTreeSet<&str> = plan.volumes.iter().map(|(role, _)| role.as_str()).collect();
        let stopped = |s: &ServiceSpec| roles.contains(s.role.as_str());
        let services = slot.services(self, plan.number)?;
        if plan.running {
            services.stop(&plan.instance, stopped).await?;
            let held = roles.iter().flat_map(|role| course::open_numbers(&plan.instance, role));
            locked(&slot.reserved).extend(crate::device::ports::hold(held));
        }
        let (place, to) = (slot.place.clone(), scratch.join("volumes"));
        let keys: Vec<String> = plan.volumes.iter().map(|(_, key)| key.clone()).collect();
        let user = self.service_user(&place)?;
        let copied = blocking(move || {
            Snapshots { place: &place }.copy_to(&keys, &to)?;
            if witness { digest::sums(&place, &keys, user) } else { Ok(BTreeMap::new()) }
        })
        .await;
        let started = match plan.running {
            true => {
                let release = |s: &ServiceSpec| slot.release(course::open_numbers(&plan.instance, &s.role));
                services.start(&plan.instance, stopped, release).await
            }
            false => Ok(()),
        };
        locked(&slot.reserved).clear();
        started.and(copied)
    }
}

fn word(kind: HookKind) -> &'static str {
    match kind {
        HookKind::Backup => "backup",
        HookKind::Restore => "restore",
    }
}

/// Folders that are to be there before anything is written into them.
fn plan_folders(plan: &Plan) -> Vec<PathBuf> {
    let hooks = plan.hooks.iter().map(|h| Path::new("hooks").join(&h.role));
    std::iter::once(PathBuf::from("volumes")).chain(hooks).collect()
}

fn sources(place: &Place, plan: &Plan, scratch: &Path) -> Vec<Source> {
    let volume = |(_, key): &(String, String)| Source {
        folder: scratch.join("volumes").join(key),
        part: Part::Volume(key.clone()),
    };
    let hook = |h: &HookSpec| Source { folder: scratch.join("hooks").join(&h.role), part: Part::Hook(h.role.clone()) };
    let own = place.generation(plan.number).overlay_folder();
    let overlay = own.map(|folder| Source { folder, part: Part::Overlay });
    let secrets = Source { folder: place.secrets(), part: Part::Secrets };
    let data = plan.volumes.iter().map(volume).chain(plan.hooks.iter().map(hook));
    data.chain(overlay).chain([secrets]).collect()
}
