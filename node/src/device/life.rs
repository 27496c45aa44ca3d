//! The effects of a generation's life. Invariant: each may be repeated after a crash at any point of it; none of the way
//! forward removes what the way back needs; what is done obeys the course that staging wrote down.

use super::{
    Device, Slot, backup, blocking, commit, confirm,
    course::{self, Before, Course},
    error::Result,
    front::Front,
    layout::Place,
    left, locked, migrate,
    monitors::Monitors,
    ports,
    services::Services,
    snapshot::Snapshots,
    stage::Staging,
    switch,
};
use softservice_protocol::{
    instance::{Change, FrontSpec, Instance, RoleNeed, ServiceSpec},
    io::{Effect, ProvisionStep},
};
use std::{collections::BTreeSet, sync::Arc};

/// A switch as its effects see it.
#[derive(Debug)]
pub(super) struct Switch<'a> {
    pub(super) device: &'a Device,
    pub(super) slot: &'a Slot,
    pub(super) number: u32,
    pub(super) new: Instance,
    pub(super) course: Course,
    /// The generation before, with what it runs.
    pub(super) old: Option<(u32, Instance)>,
}

impl Slot {
    /// The services of a generation.
    pub(super) fn services<'a>(&'a self, device: &'a Device, number: u32) -> Result<Services<'a>> {
        let course = self.place.course(number)?;
        Ok(Services { place: &self.place, number, course, device, monitors: &self.monitors })
    }

    pub(super) fn front<'a>(&'a self, device: &'a Device) -> Front<'a> {
        Front { place: &self.place, keepers: &device.0.keepers, monitors: &self.monitors }
    }

    /// Lets a generation that was confirmed come back at boot, where something but the node can see to that.
    pub(super) async fn enable(&self, device: &Device, number: u32, instance: &Instance) -> Result<()> {
        self.services(device, number)?.enable(instance).await?;
        self.front(device).enable().await
    }

    /// Lets go of the listeners that keep these numbers, for whoever shall listen there now.
    pub(super) fn release(&self, numbers: impl IntoIterator<Item = u16>) {
        let mut reserved = locked(&self.reserved);
        for number in numbers {
            reserved.remove(&number);
        }
    }
}

impl Device {
    pub(super) async fn effect(&self, slot: &Arc<Slot>, step: &ProvisionStep) -> Result<()> {
        let number = step.generation.number;
        match step.effect {
            Effect::Stage => return self.stage(slot, number, step.previous).await,
            Effect::MarkFailed => {
                locked(&slot.reserved).clear();
                let (place, previous, why) = (slot.place.clone(), step.previous, slot.reason(number));
                return blocking(move || {
                    backup::take_back(&place, number, previous)?;
                    if previous.is_none() {
                        left::take_back(&place, number)?;
                    }
                    switch::mark_failed(&place, number, &why)
                })
                .await;
            }
            Effect::PointBack => {
                self.kept_files(slot, &slot.place.course(number)?, false)?;
                return switch::point_back(&slot.place, step.previous);
            }
            _ => {}
        }
        let old = match step.previous {
            Some(previous) => Some((previous, slot.place.instance_before(previous)?)),
            None => None,
        };
        let (new, course) = (slot.place.instance(number)?, slot.place.course(number)?);
        let switch = Switch { device: self, slot, number, new, course, old };
        match step.effect {
            Effect::Beside => switch.start(Change::Beside).await,
            Effect::StopPrevious => switch.stop_previous().await,
            Effect::Snapshot => switch.snapshot().await,
            Effect::Migrate => switch.migrate().await,
            Effect::Point => {
                self.kept_files(slot, &switch.course, true)?;
                switch::point(&slot.place, Some(number))
            }
            Effect::Start => {
                switch.keep_table()?;
                switch.lead(&switch.course.fronts_at_start(&switch.new, switch.old_instance())).await?;
                match switch.course.from_backup {
                    true => self.start_restored(slot, number, &switch.new).await,
                    false => switch.start(Change::Instead).await,
                }
            }
            Effect::HandOver => switch.lead(&switch.course.fronts_at_end(&switch.new, switch.old_instance())).await,
            Effect::Confirm => {
                let services = switch.services()?;
                self.while_open(confirm::confirm(&services, &switch.new, switch.occasion())).await?
            }
            Effect::Commit => commit::commit(&switch).await,
            Effect::HandBack => switch.hand_back().await,
            Effect::StopNew => switch.stop_new().await,
            Effect::RestoreData => switch.restore_data().await,
            Effect::StartPrevious => switch.start_previous().await,
            Effect::Stage | Effect::MarkFailed | Effect::PointBack => Ok(()),
        }
    }

    async fn stage(&self, slot: &Arc<Slot>, number: u32, previous: Option<u32>) -> Result<()> {
        locked(&slot.phases).clear();
        let before = match previous {
            Some(previous) => Some(self.before(&slot.place, previous).await?),
            None => None,
        };
        let listening = match &before {
            Some(before) => self.listening(slot, before).await?,
            None => BTreeSet::new(),
        };
        let (device, slot) = (self.clone(), Arc::clone(slot));
        blocking(move || {
            slot.place.take_room()?;
            let _giving = locked(&device.0.giving_ports);
            // A repeated staging would find its own listeners in the way.
            locked(&slot.reserved).clear();
            let folder = slot.place.generation(number);
            *locked(&slot.reserved) = device.staging(&slot.place)?.stage(&folder, before.as_ref(), &listening)?;
            Ok(())
        })
        .await
    }

    /// Writes the files of roles that run on, as they are now or as they were, for their services to read.
    fn kept_files(&self, slot: &Slot, course: &Course, new: bool) -> Result<()> {
        for path in course.write_files(&slot.place, new)? {
            self.give(&slot.place, &path)?;
        }
        Ok(())
    }

    fn staging<'a>(&'a self, place: &'a Place) -> Result<Staging<'a>> {
        Ok(Staging {
            softservices: &self.0.softservices,
            store: &*self.0.store,
            place,
            softservice: self.0.keepers.command.first().map_or("softservice", String::as_str),
            user: self.service_user(place)?,
        })
    }

    /// A generation as it runs now.
    pub(super) async fn before(&self, place: &Place, number: u32) -> Result<Before> {
        let (mut instance, course) = (place.instance_before(number)?, place.course(number)?);
        // Only asked, never watched.
        let monitors = Monitors::default();
        let services = Services { place, number, course, device: self, monitors: &monitors };
        let (mut running, mut dead) = (false, BTreeSet::new());
        for service in &instance.services {
            let status = services.status(service).await;
            running |= status.is_some();
            if !status.is_some_and(|s| s.phase.is_up()) {
                dead.insert(service.role.clone());
            }
        }
        for role in instance.roles.iter_mut().filter(|r| dead.contains(&r.key)) {
            role.fingerprint.clear();
        }
        Ok(Before { number, instance, course: services.course, running })
    }

    /// Keys of ports that services or the front of a softservice listen on now.
    async fn listening(&self, slot: &Slot, before: &Before) -> Result<BTreeSet<String>> {
        let (front, services) = (slot.front(self), slot.services(self, before.number)?);
        let fronted = if front.runs().await { front.table() } else { Vec::new() };
        let mut keys: BTreeSet<String> = fronted.into_iter().map(|f| f.key).collect();
        let mut roles = BTreeSet::new();
        for service in &before.instance.services {
            if services.status(service).await.is_some() {
                roles.insert(service.role.as_str());
            }
        }
        let of_role = |key: &str| key.rsplit_once('.').is_some_and(|(role, _)| roles.contains(role));
        let own = |key: &&String| of_role(key) && !before.instance.fronts.iter().any(|f| f.key == **key);
        keys.extend(before.instance.ports.keys().filter(own).cloned());
        Ok(keys)
    }
}

impl Switch<'_> {
    fn services(&self) -> Result<Services<'_>> {
        self.slot.services(self.device, self.number)
    }

    fn old_instance(&self) -> Option<&Instance> {
        self.old.as_ref().map(|(_, instance)| instance)
    }

    /// What tests are for.
    fn occasion(&self) -> &'static str {
        match &self.old {
            _ if self.course.from_backup => "restore",
            Some(_) => "update",
            None => "install",
        }
    }

    /// Whether the previous one's services are meant to run.
    fn was_up(&self) -> Result<bool> {
        Ok(self.old.is_some() && self.slot.place.read_state()?.up)
    }

    /// Starts the services of roles that change so, and waits until they are healthy: asked directly, not by way of the
    /// front, which may still lead to the old ones.
    async fn start(&self, change: Change) -> Result<()> {
        let which = |s: &ServiceSpec| self.course.is(&s.role, change);
        let release = |s: &ServiceSpec| self.slot.release(course::own_numbers(&self.new, &s.role));
        self.services()?.start(&self.new, which, release).await
    }

    /// Writes down where ports lead now, for a way back that may find no room for that.
    fn keep_table(&self) -> Result<()> {
        match &self.old {
            Some((_, instance)) if self.was_up()? => self.slot.front(self.device).keep(&instance.fronts),
            _ => Ok(()),
        }
    }

    pub(super) async fn lead(&self, ports: &[FrontSpec]) -> Result<()> {
        // Whoever came to a listener that only keeps a number would wait for nothing.
        self.slot.release(ports.iter().flat_map(|f| [f.public, f.inner]));
        self.slot.front(self.device).lead(ports).await
    }

    fn ends_first(&self, role: &str) -> bool {
        let old = self.old_instance().and_then(|i| i.roles.iter().find(|r: &&RoleNeed| r.key == role));
        old.is_some_and(|role| self.course.ends_first(role))
    }

    async fn stop_previous(&self) -> Result<()> {
        let Some((previous, instance)) = &self.old else { return Ok(()) };
        let services = self.slot.services(self.device, *previous)?;
        services.stop(instance, |s| self.ends_first(&s.role)).await?;
        self.hold(instance);
        Ok(())
    }

    /// Keeps others from the numbers of services that were just stopped, so that what starts next finds them free.
    fn hold(&self, instance: &Instance) {
        let ended = instance.roles.iter().filter(|r| self.ends_first(&r.key));
        let held = ports::hold(ended.flat_map(|r| course::open_numbers(instance, &r.key)));
        locked(&self.slot.reserved).extend(held);
    }

    async fn snapshot(&self) -> Result<()> {
        let Some((previous, instance)) = &self.old else { return Ok(()) };
        let (place, previous, next) = (self.slot.place.clone(), *previous, self.number);
        let (epochs, volumes) = (instance.epochs.clone(), self.course.replaced_volumes(&self.new));
        if self.course.from_backup {
            return blocking(move || backup::put_away(&place, next, Some(previous), &epochs)).await;
        }
        let restore = self.course.restore;
        blocking(move || {
            let snapshots = Snapshots { place: &place };
            snapshots.take(previous, next, &epochs, &snapshots.touched(volumes, restore)?)
        })
        .await
    }

    async fn migrate(&self) -> Result<()> {
        let Some((_, instance)) = &self.old else { return Ok(()) };
        let place = &self.slot.place;
        if self.course.from_backup {
            let (device, slot, number) = (self.device.clone(), self.slot.place.clone(), self.number);
            let user = device.service_user(place)?;
            return blocking(move || {
                backup::put_in(&slot, number, user)?;
                device.staging(&slot)?.belongings(&slot.generation(number)).map(drop)
            })
            .await;
        }
        if let Some(generation) = self.course.restore {
            let place = place.clone();
            return blocking(move || Snapshots { place: &place }.bring_back(generation)).await;
        }
        let due = migrate::due(&place.name, self.number, &self.new, instance)?;
        migrate::run(place, self.number, self.device, &due).await
    }

    async fn hand_back(&self) -> Result<()> {
        match &self.old {
            Some((_, instance)) if self.was_up()? => self.lead(&instance.fronts).await,
            _ => self.slot.front(self.device).stop().await,
        }
    }

    async fn stop_new(&self) -> Result<()> {
        locked(&self.slot.reserved).clear();
        let own = |s: &ServiceSpec| !self.course.runs.contains_key(&s.role);
        self.services()?.stop(&self.new, own).await?;
        // A migration, or what an instance of before names.
        self.slot.stop_keepers(self.device, |number, _| number == self.number).await?;
        if let Some((_, instance)) = &self.old {
            self.hold(instance);
        }
        if !self.was_up()? {
            // What could not be turned back ends here at the latest.
            self.slot.front(self.device).stop().await?;
        }
        Ok(())
    }

    async fn restore_data(&self) -> Result<()> {
        let Some((previous, _)) = &self.old else { return Ok(()) };
        let (place, previous, next) = (self.slot.place.clone(), *previous, self.number);
        blocking(move || {
            Snapshots { place: &place }.restore(previous, next)?;
            backup::take_back(&place, next, Some(previous))
        })
        .await
    }

    async fn start_previous(&self) -> Result<()> {
        let Some((previous, instance)) = &self.old else { return Ok(()) };
        if !self.was_up()? {
            // What was down before stays down.
            return Ok(());
        }
        // A front that died with the node after it had been turned back is nobody else's to bring back.
        self.lead(&instance.fronts).await?;
        let services = self.slot.services(self.device, *previous)?;
        services.start(instance, |_| true, |s| self.slot.release(course::open_numbers(instance, &s.role))).await?;
        self.slot.enable(self.device, *previous, instance).await
    }
}
