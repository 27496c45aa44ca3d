//! Removal: everything of a softservice but its data, or all of it. Invariant: that it is being removed is on the disk before
//! anything goes, and from then on nothing but its removal is done to it: a removal that was cut off, and is finished at
//! the next start, takes nothing that came after it. Data goes only when asked, except volumes whose definition says that
//! they go.
//!
//! Whoever goes away before it begins has asked for nothing. That `start` or `up` take a removal back was refused: half of it
//! may be gone. As long as `removal.json` is there, so is all data that outlives a removal, and another may still keep it.

use super::{
    Device, Slot, Waiting, backup, blocking, durable,
    error::{DeviceError, Result},
    layout::Place,
    left, locked, names,
    record::State,
    snapshot::Snapshots,
    switch, to_its_end,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::io::{Effect, ProvisionStep};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A removal that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Removal {
    /// Data goes as well.
    data: bool,
}

impl Device {
    /// Removes a softservice. Its volumes and secrets stay unless `data`, but for volumes with `keep_on_remove = false`; a
    /// softservice of the same name finds them again, and a further removal with `data` takes them. Snapshots go with the
    /// generations that could return to them. What is damaged of it does not stand in the way. Once it has begun it goes on
    /// to its end, whether anybody waits for that or not.
    ///
    /// # Errors
    /// It is not here, is being provisioned, or something could not be stopped or removed: then it is still being removed,
    /// and another removal, or the next start of the node, goes on with it.
    pub async fn remove(&self, name: &str, data: bool) -> Result<()> {
        let place = self.removable(name, data)?.place.clone();
        let again = place.stays().is_err();
        let gone = Arc::new(AtomicBool::default());
        let waiting = Waiting(Arc::clone(&gone));
        let device = self.clone();
        let done = to_its_end(async move { device.remove_now(&place.name, Removal { data }, &gone).await }).await;
        drop(waiting);
        match done {
            // Whoever had begun it has come to its end meanwhile.
            Err(DeviceError::Unknown { .. }) if again => Ok(()),
            done => done,
        }
    }

    async fn remove_now(&self, name: &str, removal: Removal, gone: &AtomicBool) -> Result<()> {
        loop {
            let slot = self.removable(name, removal.data)?;
            let _work = slot.calm_or_stuck().await?;
            // Another may have removed it while this one waited.
            if !Arc::ptr_eq(&slot, &self.removable(name, removal.data)?) {
                continue;
            }
            let _turn = slot.own_turn()?;
            if gone.load(Ordering::Acquire) {
                // Nobody asks for it any more, and nothing of it has begun.
                return Ok(());
            }
            slot.place.with_room(|| durable::write_json(&slot.place.removal(), &removal))?;
            return self.carry_out(&slot, removal).await;
        }
    }

    /// What can be removed: a softservice, one whose removal was cut off, and what one left that was removed without its data.
    fn removable(&self, name: &str, data: bool) -> Result<Arc<Slot>> {
        match self.existing(name) {
            Err(DeviceError::Removing { .. }) => self.slot(name),
            Err(DeviceError::Unknown { .. }) if data && left_data(&Place::new(&self.0.softservices, name)?) => {
                self.slot(name)
            }
            found => found,
        }
    }

    /// Finishes a removal that an earlier life of the node began; whether there was one.
    pub(super) async fn finish_removal(&self, name: &str) -> Result<bool> {
        let place = Place::new(&self.0.softservices, name)?;
        let Some(removal) = durable::read_json::<Removal>(&place.removal())? else { return Ok(false) };
        let slot = self.slot(name)?;
        let _work = slot.work.lock().await;
        self.carry_out(&slot, removal).await?;
        Ok(true)
    }

    async fn carry_out(&self, slot: &Slot, removal: Removal) -> Result<()> {
        slot.place.give_room();
        // What it said before is of no more matter. On a full disk the removal itself, which is written down, has to do: what
        // runs is what may have filled it, and must end.
        if let Err(error) = durable::write_json(&slot.place.state(), &State::default()) {
            tracing::warn!(softservice = slot.place.name, %error, "that it shall not run could not be written down");
        }
        slot.front(self).stop().await?;
        slot.stop_keepers(self, |_, _| true).await?;
        let place = slot.place.clone();
        // A switch that got stuck may have the data in its snapshot, or the wrong data in its place.
        let stuck = slot.interrupted().filter(|step| !removal.data && step.effect != Effect::Commit);
        blocking(move || {
            if let Some(ProvisionStep { generation, previous, .. }) = stuck {
                Snapshots { place: &place }.restore(previous.unwrap_or(left::NOBODY), generation.number)?;
                backup::take_back(&place, generation.number, previous)?;
            }
            remove(&place, removal)
        })
        .await?;
        locked(&self.0.slots).remove(&slot.place.name);
        // While data of it is kept, its user is nobody else's.
        match slot.place.root().exists() {
            true => Ok(()),
            false => self.0.users.forget(&slot.place.name),
        }
    }

    /// Stops and removes everything, data too: the end of a throwaway device. A life that is under way ends where it is, also
    /// one that waits: for health, tests, time to settle, or a program that runs once.
    ///
    /// # Errors
    /// The first thing that could not be stopped or removed.
    pub async fn clear(&self) -> Result<()> {
        self.0.closing.ask();
        for name in names(&self.0.softservices)? {
            let slot = self.slot(&name)?;
            let _work = slot.work.lock().await;
            self.carry_out(&slot, Removal { data: true }).await?;
        }
        Ok(())
    }
}

fn remove(place: &Place, removal: Removal) -> Result<()> {
    if !removal.data {
        for key in place.read_volume_facts().unwrap_or_default().removable {
            durable::remove_folder(&place.volume(&key))?;
        }
    }
    if removal.data || !left_data(place) {
        return durable::remove_folder(place.root());
    }
    switch::point(place, None)?;
    for folder in [place.generations(), place.trees(), place.snapshots(), place.run(), place.home(), place.backup()] {
        durable::remove_folder(&folder)?;
    }
    // The last of them says that there is nothing more to do.
    for file in [place.journal(), place.room(), place.ports(), place.inner_ports(), place.state(), place.removal()] {
        durable::remove(&file)?;
    }
    Ok(())
}

/// Whether data or secrets are there.
fn left_data(place: &Place) -> bool {
    let holds = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    holds(&place.volumes()) || holds(&place.secrets())
}

impl Slot {
    /// The softservice to oneself, also when it is stuck in the middle of a switch or of another removal: whoever removes it
    /// needs no end of these.
    async fn calm_or_stuck(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        match self.calm().await {
            Err(DeviceError::Stuck { .. } | DeviceError::Removing { .. }) => Ok(self.work.lock().await),
            // A journal with no room for its last line: it goes, too.
            Err(DeviceError::Io { .. }) if self.unfinished().is_none() => Ok(self.work.lock().await),
            calm => calm,
        }
    }
}
