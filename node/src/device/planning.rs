//! Plans, and the generations made from them. Invariant: planning writes nothing; what is prepared is exactly what was
//! planned, which the hash proves.

use super::{
    Device, Slot,
    backup::{self, FromBackup, Unpacked},
    blocking,
    course::{Before, Course},
    error::{DeviceError, Result},
    layout::Place,
    left::{self, Lineage},
    migrate, overlay, ports,
    record::{GenerationRecord, Standing},
    snapshot::Snapshots,
    stage, switch, trees,
};
use crate::sandbox;
use softservice_protocol::{
    id::ReleaseId,
    instance::{
        Answers, Closure, Instance,
        overlay::{Overlay, OverlayChange},
    },
    io::Generation,
    plan::{Facts, Plan, RestoreFact, SnapshotFact, SnapshotHow},
    release::Param,
};
use std::{collections::BTreeMap, sync::Arc};

/// What is to be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRequest {
    /// The softservice, new or not.
    pub name: String,
    /// Its next release; the documents of its closure are in the store.
    pub release: ReleaseId,
    /// The owner's answers. Parameters not answered here keep the answers of the current generation, unless `exact`.
    pub answers: Answers,
    /// The answers are all there are: a rollback.
    pub exact: bool,
    /// The data that was kept with this generation comes back: a rollback to another data layout.
    pub restore: Option<u32>,
    /// The owner's own changes; none = those of the current generation.
    pub overlay: Option<Overlay>,
    /// The data that comes with it, out of a backup.
    pub backup: Option<Arc<Unpacked>>,
    /// Bytes of it that are not in the store yet.
    pub fetch_bytes: u64,
}

impl PlanRequest {
    /// A request without answers.
    pub fn new(name: impl Into<String>, release: ReleaseId) -> Self {
        let (answers, exact, fetch_bytes) = (Answers::new(), false, 0);
        Self { name: name.into(), release, answers, exact, restore: None, overlay: None, backup: None, fetch_bytes }
    }
}

/// A plan with what preparing it takes.
struct Planned {
    plan: Plan,
    answers: Answers,
    restore: Option<u32>,
    overlay: Overlay,
    backup: Option<Arc<Unpacked>>,
    lineage: Option<Lineage>,
}

impl Device {
    /// Every effect that `up` would have. Nothing is done.
    ///
    /// # Errors
    /// The release is not here, does not fit this device, or is asked to run with answers that it does not take.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Plan> {
        Ok(self.planned(request).await?.plan)
    }

    /// Parameters that nobody has answered, in the order of the release; those with a default need no answer.
    ///
    /// # Errors
    /// As [`Device::plan`].
    pub async fn questions(&self, request: &PlanRequest) -> Result<Vec<Param>> {
        let (device, request) = (self.clone(), request.clone());
        blocking(move || {
            let place = Place::new(&device.0.softservices, &request.name)?;
            let closure = stage::closure(&*device.0.store, &request.name, request.release)?;
            let answers = carried(&place, &closure, &request)?;
            // Answers that are given must fit, before anybody is asked for more.
            softservice_protocol::instance::needs(&closure, request.release, &answers, &super::platform())
                .map_err(|source| DeviceError::Instance { name: request.name.clone(), source: Box::new(source) })?;
            let asked = closure.get(&request.release).map_or(&[][..], |r| r.params.as_slice());
            Ok(asked.iter().filter(|p| !answers.contains_key(&p.name)).cloned().collect())
        })
        .await
    }

    /// Makes the generation that a plan speaks of, pending: afterwards its life may begin. With `agreed`, the plan must
    /// still be the one of that hash. Returns the generation and the one that is current.
    ///
    /// # Errors
    /// Another generation is on its way, the softservice is held, or the plan has changed.
    pub async fn prepare(&self, request: &PlanRequest, agreed: Option<&str>) -> Result<(Generation, Option<u32>)> {
        self.make_planned(request, |plan| match agreed.filter(|a| *a != plan.hash) {
            Some(agreed) => {
                let (agreed, now) = (agreed.to_owned(), plan.hash.clone());
                Err(DeviceError::PlanChanged { name: request.name.clone(), agreed, now })
            }
            None => Ok(()),
        })
        .await
    }

    /// The same when nobody was asked: whatever the plan is by now, it allows no more than what runs.
    ///
    /// # Errors
    /// As [`Device::prepare`], and [`DeviceError::Wider`].
    pub async fn prepare_unasked(&self, request: &PlanRequest) -> Result<(Generation, Option<u32>)> {
        self.make_planned(request, |plan| match plan.permissions.added.as_slice() {
            [] => Ok(()),
            added => Err(DeviceError::Wider { name: request.name.clone(), added: added.to_vec() }),
        })
        .await
    }

    async fn make_planned(
        &self,
        request: &PlanRequest,
        fits: impl FnOnce(&Plan) -> Result<()>,
    ) -> Result<(Generation, Option<u32>)> {
        let slot = self.slot(&request.name)?;
        let _work = slot.calm().await?;
        if slot.place.read_state()?.held && slot.place.current_number()?.is_some() {
            return Err(DeviceError::Held { name: request.name.clone() });
        }
        let planned = self.planned(request).await?;
        fits(&planned.plan)?;
        let of = Arc::clone(&slot);
        blocking(move || of.make(&planned)).await
    }

    async fn planned(&self, request: &PlanRequest) -> Result<Planned> {
        let place = Place::new(&self.0.softservices, &request.name)?;
        place.stays()?;
        let current = match place.current_number()? {
            Some(number) => Some(self.before(&place, number).await?),
            None => None,
        };
        let (device, request) = (self.clone(), request.clone());
        blocking(move || device.work_out(&place, current.as_ref(), &request)).await
    }

    fn work_out(&self, place: &Place, current: Option<&Before>, request: &PlanRequest) -> Result<Planned> {
        let wrong = |source| DeviceError::Instance { name: request.name.clone(), source: Box::new(source) };
        let closure = stage::closure(&*self.0.store, &request.name, request.release)?;
        let answers = carried(place, &closure, request)?;
        let lineage = Lineage::of(&closure, request.release);
        let own = request.overlay.clone().map_or_else(|| place.current_overlay(), Ok)?;
        let laid = overlay::laid(place, &closure, request.release, &own)?;
        let closure = laid.closure;
        let platform = super::platform();
        self.trespasses(&request.name, &closure)?;
        let needs =
            softservice_protocol::instance::needs(&closure, request.release, &answers, &platform).map_err(wrong)?;
        let known = place.read_ports()?;
        let number = next_number(place)?;
        // Numbers that are not given yet stand for themselves: a plan says no more of them than what is wished.
        let ports: BTreeMap<String, u16> =
            needs.ports.iter().map(|p| (p.key.clone(), known.get(&p.key).copied().or(p.wish).unwrap_or(0))).collect();
        let softservice = self.0.keepers.command.first().map_or("softservice", String::as_str);
        let resolved = |ports| {
            let assignment = place.assignment(&place.generation(number), ports, BTreeMap::new(), softservice);
            softservice_protocol::instance::resolve(&closure, request.release, &answers, &assignment).map_err(wrong)
        };
        if ports.keys().any(|key| !known.contains_key(key)) {
            // A wish may be somebody else's port. Whom this node would ask shows with numbers that would be given now.
            let _giving = super::locked(&self.0.giving_ports);
            resolved(ports::foresee(&self.0.softservices, place, &needs.ports)?)?;
        }
        let instance = resolved(ports)?;
        let from = request.backup.as_ref().map(|b| b.describe());
        if let Some(from) = &from {
            backup::check_hooks(place, &instance, from)?;
        } else if let Some(before) = current {
            if request.restore.is_none() {
                migrate::due(&request.name, number, &instance, &before.instance)?;
            }
        } else {
            left::check(place, lineage.as_ref(), &instance)?;
        }
        let (kept, restored) = match &from {
            Some(_) => (Vec::new(), Vec::new()),
            None => data(place, &instance, current, request.restore)?,
        };
        let backup = from.as_ref().map(|from| backed_up(from, &listed(&place.volumes()))).unwrap_or_default();
        let secrets = listed(&place.secrets());
        let volumes = match (current, &from) {
            (None, None) => left::volumes(place)?,
            _ => listed(&place.volumes()),
        };
        let trees = trees::here(place, needs.trees.iter().map(|need| need.tree.manifest));
        let known: Vec<(String, u16)> = known.into_iter().collect();
        let expired = switch::expired(place, number, current.map(|b| b.number))?;
        let facts = Facts {
            softservice: &request.name,
            generation: number,
            current: current.map(|b| (b.number, &b.instance)),
            running: current.is_some_and(|b| b.running),
            secrets: &secrets,
            trees: &trees,
            volumes: &volumes,
            snapshots: &kept,
            restores: &restored,
            ports: &known,
            fetch_bytes: request.fetch_bytes,
            expired: &expired,
            overlay: &laid.changes,
            backup: &backup,
            isolation: self.isolation(&request.name, &instance)?,
            at_boot: self.0.keepers.at_boot(),
            memory: sandbox::memory(),
            disk: free(&self.0.softservices),
        };
        let plan = softservice_protocol::plan::plan(request.release, &needs, &instance, &facts);
        let (restore, overlay, backup) = (request.restore, laid.overlay, request.backup.clone());
        Ok(Planned { plan, answers, restore, overlay, backup, lineage })
    }
}

/// Bytes that are free where data is kept.
fn free(softservices: &std::path::Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(softservices).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// What a restore does to data, for people.
fn backed_up(from: &FromBackup, present: &[String]) -> Vec<OverlayChange> {
    let line = |what: &String, detail: &str| OverlayChange { what: what.clone(), detail: detail.into() };
    let away =
        present.iter().map(|key| line(key, "what is there is put away, and comes back unless this is confirmed"));
    let comes = from.volumes.iter().map(|key| line(key, "as it is in the backup"));
    let hooks = from.hooks.iter().map(|role| line(role, "brought back by its own program, beside its services"));
    let secrets = line(&"secrets".into(), "as they are in the backup");
    away.chain(comes).chain(hooks).chain([secrets]).collect()
}

/// How data is kept before the switch, and what comes back; an error when there is no room.
fn data(
    place: &Place,
    instance: &Instance,
    current: Option<&Before>,
    restore: Option<u32>,
) -> Result<(Vec<SnapshotFact>, Vec<RestoreFact>)> {
    let mut volumes = Course::decide(instance, current).replaced_volumes(instance);
    if current.is_none() {
        let left = left::volumes(place)?;
        volumes.retain(|key| left.contains(key));
    }
    let snapshots = Snapshots { place };
    let means = snapshots.means(&snapshots.touched(volumes, restore)?)?;
    snapshots.check(&means, restore)?;
    let how = |clone| if clone { SnapshotHow::Reflink } else { SnapshotHow::Copy };
    let kept = means.into_iter().map(|m| SnapshotFact { volume: m.volume, bytes: m.bytes, how: how(m.clone) });
    let mut restored = Vec::new();
    if let Some(generation) = restore {
        let snapshot = snapshots.whole(generation)?;
        let snapshot = snapshot.ok_or_else(|| DeviceError::NoSnapshot { name: place.name.clone(), generation })?;
        let fact = |(volume, bytes)| RestoreFact { volume, generation, bytes };
        restored.extend(snapshot.volumes.into_iter().map(fact));
    }
    Ok((kept.collect(), restored))
}

/// The request's answers, over those of the current generation that are still asked for.
fn carried(place: &Place, closure: &Closure, request: &PlanRequest) -> Result<Answers> {
    if request.exact {
        return Ok(request.answers.clone());
    }
    let mut answers = match place.current_number()? {
        Some(number) => place.inputs(number)?.1,
        None => Answers::new(),
    };
    let asked = closure.get(&request.release).map_or(&[][..], |r| r.params.as_slice());
    answers.retain(|name, _| asked.iter().any(|p| p.name == *name));
    answers.extend(request.answers.clone());
    Ok(answers)
}

/// One more than any that is here; a pending one that never began does not count.
fn next_number(place: &Place) -> Result<u32> {
    let begun = |n: &u32| place.record(*n).is_ok_and(|r| r.state != Standing::Pending);
    let last = place.numbers()?.into_iter().filter(begun).max().unwrap_or(0);
    Ok(last.max(place.current_number()?.unwrap_or(0)) + 1)
}

fn listed(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.retain(|n| !n.starts_with('.'));
    names.sort_unstable();
    names
}

impl Slot {
    fn make(&self, planned: &Planned) -> Result<(Generation, Option<u32>)> {
        let plan = &planned.plan;
        let folder = self.place.generation(plan.generation);
        // Left by a plan that was agreed to and never begun.
        super::durable::let_go(&folder.path)?;
        super::durable::folder(&folder.path, 0o700)?;
        folder.write_answers(&planned.answers)?;
        folder.write_overlay(&planned.overlay)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = GenerationRecord {
            generation: plan.generation,
            distro: plan.distro.clone(),
            version: plan.version.clone(),
            release: plan.release.clone(),
            publisher: planned.lineage.as_ref().map(|l| l.publisher.clone()),
            state: Standing::Pending,
            why: None,
            plan: plan.hash.clone(),
            reduced: plan.isolation.reduced.clone(),
            allowed: plan.permissions.added.clone(),
            previous: plan.previous,
            restore: planned.restore,
            from_backup: planned.backup.as_ref().map(|b| b.describe()),
            made_at: now,
            shown_once: Vec::new(),
            tests: Vec::new(),
            phases: BTreeMap::new(),
        };
        if let Some(backup) = &planned.backup {
            backup.give(&folder)?;
        }
        super::durable::write_json(&folder.record(), &record)?;
        Ok((Generation { name: self.place.name.clone(), number: plan.generation }, plan.previous))
    }
}
