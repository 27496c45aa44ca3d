//! The commit: the point of no return, and what is cleared away behind it. Invariant: once a generation is written down as good,
//! nothing that fails here takes that back: what could not be cleared away is cleared away at the next start or commit.

use super::{
    Device, Slot, backup, blocking,
    course::Course,
    durable,
    error::Result,
    keeper::{Task, files},
    layout::Place,
    left::Lineage,
    life::Switch,
    record::Standing,
    services::{self, Services},
    snapshot::Snapshots,
    switch,
};
use softservice_protocol::instance::Instance;
use std::{collections::BTreeSet, path::Path, time::Duration};

/// Grace of a service of which nothing can be read any more.
const BLIND_GRACE: Duration = Duration::from_secs(10);

/// Writes it down, then clears away.
pub(super) async fn commit(switch: &Switch<'_>) -> Result<()> {
    let (slot, number) = (switch.slot, switch.number);
    let services = slot.services(switch.device, number)?;
    if slot.place.record(number)?.state != Standing::Committed {
        // After a restart in the middle nobody watches keepers and front yet, and after a power cut there are none.
        let fronts = switch.course.fronts_at_end(&switch.new, switch.old.as_ref().map(|(_, instance)| instance));
        switch.lead(&fronts).await?;
        services.resume(&switch.new).await?;
        let (place, previous) = (slot.place.clone(), switch.old.as_ref().map(|(n, _)| *n));
        let (new, course) = (switch.new.clone(), switch.course.clone());
        blocking(move || {
            remember(&place, number, &new, course)?;
            switch::confirm(&place, number, previous)
        })
        .await?;
    } else if let Err(error) = services.resume(&switch.new).await {
        tracing::error!(softservice = slot.place.name, %error, "not all of it could be started again");
    }
    super::locked(&slot.reserved).clear();
    for (what, done) in [
        ("that it shall run", slot.place.with_room(|| slot.place.change_state(|s| s.up = true))),
        ("its front as it stays", switch.lead(&switch.new.fronts).await),
        ("its return at boot", slot.enable(switch.device, number, &switch.new).await),
        ("ending what it replaced", retire(switch, &services).await),
        ("removing old generations and data", clear_away(switch).await),
    ] {
        if let Err(error) = done {
            tracing::warn!(softservice = slot.place.name, %error, "confirmed, but not done with: {what}");
        }
    }
    Ok(())
}

/// Ends what runs and is not of this generation: services that were replaced, when nobody is connected to them any more
/// or their grace is over, and whatever an earlier commit could not end.
async fn retire(switch: &Switch<'_>, services: &Services<'_>) -> Result<()> {
    let slot = switch.slot;
    if let Some((previous, old)) = &switch.old {
        let replaced = |role: &str| !switch.course.runs.contains_key(role);
        let ports: Vec<u16> = old.fronts.iter().filter(|f| replaced(&f.role)).map(|f| f.inner).collect();
        slot.front(switch.device).drain(&ports, longest_grace(old, replaced)).await;
        let previous = slot.services(switch.device, *previous)?;
        previous.stop(old, |s| replaced(&s.role)).await?;
    }
    let wanted = services.keepers(&switch.new);
    slot.stop_keepers(switch.device, |number, service| !wanted.contains(&(number, service.to_owned()))).await
}

/// How long connections may go on before their service is asked to end.
fn longest_grace(instance: &Instance, of: impl Fn(&str) -> bool) -> Duration {
    let graces = instance.services.iter().filter(|s| of(&s.role)).map(|s| services::span(s.grace));
    graces.max().unwrap_or_default()
}

/// Writes down what data it is. Before the generation counts: what is not known of data could not be asked of it later.
fn remember(place: &Place, number: u32, new: &Instance, course: Course) -> Result<()> {
    let record = place.record(number)?;
    let lineage = record.publisher.map(|publisher| Lineage { publisher, distro: record.distro });
    let volumes: BTreeSet<&String> = new.roles.iter().flat_map(|r| &r.volumes).collect();
    let snapshots = Snapshots { place };
    let here = snapshots.present()?;
    let brought = course.restore.map(|generation| snapshots.whole(generation)).transpose()?.flatten();
    place.change_volume_facts(|facts| {
        facts.removable.retain(|key| !volumes.contains(key));
        facts.removable.extend(course.removable);
        facts.epochs.retain(|component, _| here.iter().any(|key| is_of(component, key)));
        if let Some(kept) = brought {
            let is_in = |component: &str| kept.volumes.keys().any(|key| is_of(component, key));
            facts.epochs.extend(kept.epochs.iter().filter(|(c, _)| is_in(c)).map(|(c, epoch)| (c.clone(), *epoch)));
        }
        facts.epochs.extend(new.epochs.clone());
        facts.lineage = lineage.or(facts.lineage.take());
    })
}

/// Whether a volume is a component's, or of one that is included in it.
fn is_of(component: &str, volume: &str) -> bool {
    volume.strip_prefix(component).is_some_and(|rest| component.is_empty() || rest.starts_with('.'))
}

async fn clear_away(switch: &Switch<'_>) -> Result<()> {
    let (place, number, previous) = (switch.slot.place.clone(), switch.number, switch.old.as_ref().map(|(n, _)| *n));
    let crosses = switch.course.crosses;
    blocking(move || {
        switch::expire(&place, number, previous)?;
        let snapshots = Snapshots { place: &place };
        snapshots.prune(previous.filter(|_| !crosses))?;
        snapshots.tidy()?;
        place.tidy_runs();
        backup::done(&place, number)
    })
    .await
}

impl Slot {
    /// Ends keepers that `which` names by generation and service, whatever is known of them.
    pub(super) async fn stop_keepers(&self, device: &Device, which: impl Fn(u32, &str) -> bool) -> Result<()> {
        for (number, service) in self.place.keepers().into_iter().filter(|(number, service)| which(*number, service)) {
            let folder = self.place.keeper(number, &service);
            self.monitors.end(&folder).await;
            if let Err(why) = device.0.keepers.stop(&folder, grace(&folder)).await {
                tracing::warn!(keeper = %folder.display(), why, "a keeper could not be stopped");
            }
        }
        Ok(())
    }
}

/// The grace that a keeper was told.
fn grace(folder: &Path) -> Duration {
    match durable::read_json(&folder.join(files::SPEC)) {
        Ok(Some(Task::Keep(spec))) => services::span(spec.grace),
        _ => BLIND_GRACE,
    }
}
