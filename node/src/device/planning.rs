//! Plans, and the generations made from them. Invariant: planning writes nothing; what is prepared is exactly what was
//! planned, which the hash proves.

use super::{
    Device, Slot, blocking,
    error::{DeviceError, Result},
    layout::{Kind, Place},
    overlay,
    record::{GenerationRecord, Standing},
    services::Services,
    stage, switch,
};
use softservice_protocol::{
    id::ReleaseId,
    instance::{Answers, Closure, Instance, overlay::Overlay},
    io::Generation,
    plan::{Facts, Plan},
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
    /// The owner's own changes; none = those of the current generation.
    pub overlay: Option<Overlay>,
    /// Bytes of it that are not in the store yet.
    pub fetch_bytes: u64,
}

impl PlanRequest {
    /// A request without answers.
    pub fn new(name: impl Into<String>, release: ReleaseId) -> Self {
        Self { name: name.into(), release, answers: Answers::new(), exact: false, overlay: None, fetch_bytes: 0 }
    }
}

/// A plan with what preparing it takes.
struct Planned {
    plan: Plan,
    answers: Answers,
    overlay: Overlay,
}

impl Device {
    /// Every effect that `up` would have. Nothing is done.
    ///
    /// # Errors
    /// The release is not here, does not fit this device, or is asked to run with answers that it does not take.
    pub async fn plan(&self, request: &PlanRequest) -> Result<Plan> {
        Ok(self.planned(request).await?.plan)
    }

    /// Parameters that still need an answer, in the order of the definition.
    ///
    /// # Errors
    /// As [`Device::plan`].
    pub async fn questions(&self, request: &PlanRequest) -> Result<Vec<Param>> {
        let (device, request) = (self.clone(), request.clone());
        blocking(move || {
            let place = Place::new(&device.0.softservices, &request.name)?;
            let closure = stage::closure(&*device.0.store, &request.name, request.release)?;
            let answers = carried(&place, &closure, &request)?;
            let needs = softservice_protocol::instance::needs(&closure, request.release, &answers, &super::platform());
            Ok(needs
                .map_err(|source| DeviceError::Instance { name: request.name.clone(), source: Box::new(source) })?
                .questions)
        })
        .await
    }

    /// Makes the generation that a plan speaks of, pending: afterwards its life may begin. With `agreed`, the plan must
    /// still be the one of that hash. Returns the generation and the one that is current.
    ///
    /// # Errors
    /// Another generation is on its way, the softservice is held, or the plan has changed.
    pub async fn prepare(&self, request: &PlanRequest, agreed: Option<&str>) -> Result<(Generation, Option<u32>)> {
        let slot = self.slot(&request.name)?;
        let _work = slot.calm().await?;
        if slot.place.read_state()?.held && slot.place.current_number()?.is_some() {
            return Err(DeviceError::Held { name: request.name.clone() });
        }
        let planned = self.planned(request).await?;
        if let Some(agreed) = agreed.filter(|a| *a != planned.plan.hash) {
            let (agreed, now) = (agreed.to_owned(), planned.plan.hash);
            return Err(DeviceError::PlanChanged { name: request.name.clone(), agreed, now });
        }
        let of = Arc::clone(&slot);
        blocking(move || of.make(&planned)).await
    }

    /// The request that brings generation `to` back, or the last confirmed one before the current. Code only: data stays.
    ///
    /// # Errors
    /// There is no such generation, it never was confirmed, or its data is of an older epoch.
    pub async fn rollback_request(&self, name: &str, to: Option<u32>) -> Result<PlanRequest> {
        let slot = self.existing(name)?;
        let place = &slot.place;
        let current = place.current_number()?;
        let confirmed = |n: &u32| place.record(*n).is_ok_and(|r| matches!(r.state, Standing::Superseded));
        let before = || {
            let mut older: Vec<u32> = place.numbers().ok()?.into_iter().filter(|n| Some(*n) != current).collect();
            older.retain(confirmed);
            older.pop()
        };
        let number = to.or_else(before).unwrap_or(0);
        if !confirmed(&number) {
            return Err(DeviceError::NoGeneration { name: name.into(), number });
        }
        let (release, answers) = place.inputs(number)?;
        if let Some(current) = current {
            let (old, now) = (place.instance(number)?.epoch, place.instance(current)?.epoch);
            if old < now {
                return Err(DeviceError::Epoch { name: name.into(), number, old, now });
            }
        }
        let overlay = Some(place.generation(number).read_overlay()?);
        Ok(PlanRequest { answers, exact: true, overlay, ..PlanRequest::new(name, release) })
    }

    async fn planned(&self, request: &PlanRequest) -> Result<Planned> {
        let place = Place::new(&self.0.softservices, &request.name)?;
        let current = match place.current_number()? {
            Some(number) => Some((number, place.instance(number)?)),
            None => None,
        };
        let running = match &current {
            Some((number, instance)) => self.any_runs(&place, *number, instance).await,
            None => false,
        };
        let (device, request) = (self.clone(), request.clone());
        blocking(move || device.work_out(&place, current, running, &request)).await
    }

    async fn any_runs(&self, place: &Place, number: u32, instance: &Instance) -> bool {
        let monitors = super::Monitors::default();
        let services = Services { place, number, kind: Kind::Live, device: self, monitors: &monitors };
        for service in &instance.services {
            if services.status(&service.name).await.is_some() {
                return true;
            }
        }
        false
    }

    fn work_out(
        &self,
        place: &Place,
        current: Option<(u32, Instance)>,
        running: bool,
        request: &PlanRequest,
    ) -> Result<Planned> {
        let wrong = |source| DeviceError::Instance { name: request.name.clone(), source: Box::new(source) };
        let closure = stage::closure(&*self.0.store, &request.name, request.release)?;
        let answers = carried(place, &closure, request)?;
        let own = request.overlay.clone().map_or_else(|| place.current_overlay(), Ok)?;
        let laid = overlay::laid(place, &closure, request.release, &own)?;
        let closure = laid.closure;
        let platform = super::platform();
        let needs =
            softservice_protocol::instance::needs(&closure, request.release, &answers, &platform).map_err(wrong)?;
        let known = place.read_ports()?;
        let number = next_number(place)?;
        // Numbers that are not given yet stand for themselves: none of them is in a plan.
        let ports: BTreeMap<String, u16> =
            needs.ports.iter().map(|p| (p.key.clone(), known.get(&p.key).copied().or(p.wish).unwrap_or(0))).collect();
        let softservice = self.0.keeper.first().map_or("softservice", String::as_str);
        let assignment = place.assignment(&place.generation(number), Kind::Live, ports, softservice);
        let instance =
            softservice_protocol::instance::resolve(&closure, request.release, &answers, &assignment).map_err(wrong)?;
        let secrets = listed(&place.secrets());
        let volumes = listed(&place.volumes());
        let known: Vec<(String, u16)> = known.into_iter().collect();
        let expired = switch::expired(place, number, current.as_ref().map(|(n, _)| *n))?;
        let facts = Facts {
            softservice: &request.name,
            generation: number,
            current: current.as_ref().map(|(n, i)| (*n, i)),
            running,
            secrets: &secrets,
            volumes: &volumes,
            snapshots: &[],
            restores: &[],
            ports: &known,
            fetch_bytes: request.fetch_bytes,
            expired: &expired,
            overlay: &laid.changes,
            isolation: self.isolation(&request.name, &instance)?,
        };
        let plan = softservice_protocol::plan::plan(request.release, &needs, &instance, &facts);
        Ok(Planned { plan, answers, overlay: laid.overlay })
    }
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
        super::durable::remove_folder(&folder.path)?;
        super::durable::folder(&folder.path, 0o700)?;
        folder.write_answers(&planned.answers)?;
        folder.write_overlay(&planned.overlay)?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = GenerationRecord {
            generation: plan.generation,
            distro: plan.distro.clone(),
            version: plan.version.clone(),
            release: plan.release.clone(),
            state: Standing::Pending,
            why: None,
            plan: plan.hash.clone(),
            previous: plan.previous,
            made_at: now,
            shown_once: Vec::new(),
            tests: Vec::new(),
            phases: BTreeMap::new(),
        };
        super::durable::write_json(&folder.record(), &record)?;
        Ok((Generation { name: self.place.name.clone(), number: plan.generation }, plan.previous))
    }
}
