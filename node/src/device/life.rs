//! The effects of a generation's life. Invariant: each may be repeated after a crash at any point of it, and none of the
//! way forward removes what the way back needs.

use super::{
    Device, Slot, blocking, confirm, control, durable, error::Result, layout::Kind, locked, overlay, ports,
    services::Services, stage::Staging, switch,
};
use softservice_protocol::{
    instance::{self, Instance, ServiceSpec},
    io::{Effect, ProvisionStep},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Grace of a service whose definition cannot be read any more.
const BLIND_GRACE: Duration = Duration::from_secs(10);

/// Before the keys of ports that a rehearsal keeps; no key has a blank.
const REHEARSAL: &str = "rehearsal ";

impl Slot {
    pub(super) fn services<'a>(&'a self, device: &'a Device, number: u32, kind: Kind) -> Services<'a> {
        Services { place: &self.place, number, kind, device, monitors: &self.monitors }
    }
}

impl Device {
    pub(super) async fn effect(&self, slot: &Arc<Slot>, step: &ProvisionStep) -> Result<()> {
        let number = step.generation.number;
        let live = slot.services(self, number, Kind::Live);
        match step.effect {
            Effect::Stage => self.stage(slot, number, step.previous).await,
            Effect::Beside => self.rehearse(slot, number, step.previous).await,
            Effect::Snapshot | Effect::Migrate | Effect::HandOver | Effect::HandBack | Effect::RestoreData => Ok(()),
            Effect::StopPrevious => match step.previous {
                Some(previous) => {
                    self.stop_generation(slot, previous).await?;
                    slot.hold_ports(previous)
                }
                None => Ok(()),
            },
            Effect::Point => switch::point(&slot.place, Some(number)),
            Effect::Start => {
                let instance = slot.place.instance(number)?;
                let started = live.start(&instance, |service| slot.release_ports("", service)).await;
                locked(&slot.reserved).clear();
                started
            }
            Effect::Confirm => confirm::confirm(&live, &slot.place.instance(number)?, step.previous.is_some()).await,
            Effect::Commit => {
                slot.place.change_state(|s| s.up = true)?;
                slot.keep_phases(number)?;
                let (place, previous) = (slot.place.clone(), step.previous);
                blocking(move || switch::commit(&place, number, previous)).await?;
                // After a restart in the middle nobody watches the keepers yet.
                live.resume(&slot.place.instance(number)?).await
            }
            Effect::StopNew => {
                locked(&slot.reserved).clear();
                self.stop_generation(slot, number).await?;
                step.previous.map_or(Ok(()), |previous| slot.hold_ports(previous))
            }
            Effect::PointBack => switch::point(&slot.place, step.previous),
            Effect::StartPrevious => match step.previous {
                // What was down before stays down.
                Some(previous) if slot.place.read_state()?.up => {
                    let instance = slot.place.instance(previous)?;
                    let services = slot.services(self, previous, Kind::Live);
                    services.start(&instance, |service| slot.release_ports("", service)).await
                }
                _ => Ok(()),
            },
            Effect::MarkFailed => {
                locked(&slot.reserved).clear();
                self.end_rehearsal(slot, number).await?;
                slot.keep_phases(number)?;
                switch::mark_failed(&slot.place, number, "it was given up")
            }
        }
    }

    async fn stage(&self, slot: &Arc<Slot>, number: u32, previous: Option<u32>) -> Result<()> {
        locked(&slot.phases).clear();
        let running = match previous {
            Some(previous) => self.listening(slot, previous).await?,
            None => BTreeSet::new(),
        };
        let (device, slot) = (self.clone(), Arc::clone(slot));
        blocking(move || {
            let _giving = locked(&device.0.giving_ports);
            // A repeated staging would find its own listeners in the way.
            locked(&slot.reserved).clear();
            let staged = device.staging(&slot).stage(&slot.place.generation(number), &running)?;
            tracing::debug!(softservice = slot.place.name, services = staged.instance.services.len(), "staged");
            *locked(&slot.reserved) = staged.assigned.reserved;
            Ok(())
        })
        .await
    }

    pub(super) fn staging<'a>(&'a self, slot: &'a Slot) -> Staging<'a> {
        Staging {
            softservices: &self.0.softservices,
            store: &*self.0.store,
            place: &slot.place,
            softservice: self.0.keeper.first().map_or("softservice", String::as_str),
        }
    }

    /// Keys of ports whose roles have a running service.
    async fn listening(&self, slot: &Slot, number: u32) -> Result<BTreeSet<String>> {
        let instance = slot.place.instance(number)?;
        let services = slot.services(self, number, Kind::Live);
        let mut roles = BTreeSet::new();
        for service in &instance.services {
            if services.status(&service.name).await.is_some() {
                roles.insert(service.role.as_str());
            }
        }
        let of_role = |key: &String| key.rsplit_once('.').is_some_and(|(role, _)| roles.contains(role));
        Ok(instance.ports.keys().filter(|k| of_role(k)).cloned().collect())
    }

    /// Starts what can be tried beside the running generation, asks its health, and stops it again.
    async fn rehearse(&self, slot: &Arc<Slot>, number: u32, previous: Option<u32>) -> Result<()> {
        self.end_rehearsal(slot, number).await?;
        let Some(previous) = previous else { return Ok(()) };
        if self.listening(slot, previous).await?.is_empty() {
            // Nothing serves: the start itself is no worse than a rehearsal.
            return Ok(());
        }
        let new = slot.place.instance(number)?;
        let old = slot.place.instance(previous)?;
        let changes = instance::transition(&new.roles, &old.roles, new.epoch != old.epoch);
        let tried: BTreeSet<String> =
            changes.into_iter().filter(|(_, c)| *c == instance::Change::Beside).map(|(key, _)| key).collect();
        if !new.services.iter().any(|s| tried.contains(&s.role)) {
            return Ok(());
        }
        let (device, of) = (self.clone(), Arc::clone(slot));
        let instance = blocking(move || device.rehearsal(&of, number, &new, &tried)).await?;
        let services = slot.services(self, number, Kind::Rehearsal);
        let answered = services.start(&instance, |service| slot.release_ports(REHEARSAL, service)).await;
        services.stop(&instance.services).await?;
        self.end_rehearsal(slot, number).await?;
        answered
    }

    fn rehearsal(&self, slot: &Slot, number: u32, new: &Instance, tried: &BTreeSet<String>) -> Result<Instance> {
        let _giving = locked(&self.0.giving_ports);
        let of_tried = |key: &&String| key.rsplit_once('.').is_some_and(|(role, _)| tried.contains(role));
        let keys: BTreeSet<String> = new.ports.keys().filter(of_tried).cloned().collect();
        let assigned = ports::rehearse(&self.0.softservices, &slot.place, &new.ports, &keys)?;
        let (top, answers, closure) = overlay::inputs(&*self.0.store, &slot.place, number)?;
        let folder = slot.place.generation(number);
        let staging = self.staging(slot);
        let mut instance = staging.render(&folder, Kind::Rehearsal, &closure, top, &answers, assigned.numbers)?;
        instance.services.retain(|s| tried.contains(&s.role));
        // The listeners of the new generation's own ports stay where they are.
        locked(&slot.reserved).extend(assigned.reserved.into_iter().map(|(key, l)| (format!("{REHEARSAL}{key}"), l)));
        Ok(instance)
    }

    /// Ends what a rehearsal left.
    async fn end_rehearsal(&self, slot: &Slot, number: u32) -> Result<()> {
        locked(&slot.reserved).retain(|key, _| !key.starts_with(REHEARSAL));
        self.stop_run(slot, &Kind::Rehearsal.run(number)).await?;
        durable::remove_folder(&slot.place.generation(number).files(Kind::Rehearsal))
    }

    /// Stops all services of a generation; also those that its instance does not name any more.
    pub(super) async fn stop_generation(&self, slot: &Slot, number: u32) -> Result<()> {
        if let Ok(instance) = slot.place.instance(number) {
            slot.services(self, number, Kind::Live).stop(&instance.services).await?;
        }
        self.stop_run(slot, &Kind::Live.run(number)).await
    }

    /// Stops every keeper below a folder of `run`.
    pub(super) async fn stop_run(&self, slot: &Slot, run: &str) -> Result<()> {
        let folder = slot.place.run().join(run);
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
        let keepers: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        for keeper in keepers {
            if let Some(monitor) = locked(&slot.monitors).remove(&keeper) {
                monitor.abort();
            }
            if let Err(why) = control::stop(&keeper, BLIND_GRACE).await {
                tracing::warn!(keeper = %keeper.display(), why, "a keeper could not be stopped");
            }
        }
        durable::remove_folder(&folder)
    }

    /// What an earlier life of this node left of one softservice.
    pub(super) async fn recover_one(&self, name: &str) -> Result<Option<ProvisionStep>> {
        let slot = self.slot(name)?;
        let _work = slot.work.lock().await;
        let unfinished = slot.unfinished();
        let current = slot.place.current_number()?;
        let state = slot.place.read_state()?;
        let under_way = unfinished.as_ref().map(|s| s.generation.number);
        let mut wanted: Vec<String> = Vec::new();
        wanted.extend(current.filter(|_| state.up || under_way.is_some()).map(|n| Kind::Live.run(n)));
        wanted.extend(under_way.map(|n| Kind::Live.run(n)));
        wanted.extend(unfinished.as_ref().and_then(|s| s.previous).map(|n| Kind::Live.run(n)));
        let runs = std::fs::read_dir(slot.place.run())
            .map(|e| e.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect());
        let runs: Vec<String> = runs.unwrap_or_default();
        for stray in runs.iter().filter(|r| !wanted.contains(r)) {
            self.stop_run(&slot, stray).await?;
        }
        // In the middle of a switch the core says what starts; before and after it, what is current runs on.
        let middle = matches!(
            unfinished.as_ref().map(|s| s.effect),
            Some(
                Effect::StopPrevious
                    | Effect::Point
                    | Effect::Start
                    | Effect::Confirm
                    | Effect::StopNew
                    | Effect::PointBack
            )
        );
        if let Some(current) = current.filter(|_| state.up && !middle) {
            let instance = slot.place.instance(current)?;
            slot.services(self, current, Kind::Live).resume(&instance).await?;
        }
        Ok(unfinished)
    }
}

impl Slot {
    /// Lets go of the listeners that keep this service's ports.
    fn release_ports(&self, kind: &str, service: &ServiceSpec) {
        let of_role = |key: &str| {
            let role = key.strip_prefix(kind).and_then(|key| key.rsplit_once('.'));
            role.is_some_and(|(role, _)| role == service.role)
        };
        locked(&self.reserved).retain(|key, _| !of_role(key));
    }

    /// Keeps others from the ports of a generation that was just stopped, so that what starts next finds them free.
    fn hold_ports(&self, number: u32) -> Result<()> {
        let held = ports::hold(&self.place.instance(number)?.ports);
        locked(&self.reserved).extend(held);
        Ok(())
    }

    fn keep_phases(&self, number: u32) -> Result<()> {
        let phases = locked(&self.phases).clone();
        self.place.change_record(number, |r| r.phases.extend(phases))
    }
}
