//! Removal: everything of a softservice but its data, or all of it. Invariant: that it is being removed is on the disk before
//! anything goes, so that a removal that was cut off is finished at the next start; data goes only when asked, except
//! volumes whose definition says that they go.

use super::{
    Device, Slot, blocking, durable,
    error::{DeviceError, Result},
    layout::Place,
    locked, names,
    record::State,
    switch,
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A removal that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Removal {
    /// Data goes as well.
    data: bool,
}

impl Device {
    /// Removes a softservice. Its volumes and secrets stay unless `data`, but for volumes with `keep_on_remove = false`; a
    /// softservice of the same name finds them again. Snapshots go with the generations that could return to them. What
    /// is damaged of it does not stand in the way.
    ///
    /// # Errors
    /// It is not here, is being provisioned, or something could not be stopped or removed.
    pub async fn remove(&self, name: &str, data: bool) -> Result<()> {
        let slot = self.existing(name)?;
        let work = slot.calm_or_stuck().await?;
        // Another may have removed it while this one waited.
        self.existing(name)?;
        let _turn = slot.turn()?;
        durable::write_json(&slot.place.removal(), &Removal { data })?;
        self.carry_out(&slot, Removal { data }).await?;
        locked(&self.0.slots).remove(name);
        drop(work);
        Ok(())
    }

    /// Finishes a removal that an earlier life of the node began; whether there was one.
    pub(super) async fn finish_removal(&self, name: &str) -> Result<bool> {
        let place = Place::new(&self.0.softservices, name)?;
        let Some(removal) = durable::read_json::<Removal>(&place.removal())? else { return Ok(false) };
        let slot = self.slot(name)?;
        let work = slot.work.lock().await;
        self.carry_out(&slot, removal).await?;
        locked(&self.0.slots).remove(name);
        drop(work);
        Ok(true)
    }

    async fn carry_out(&self, slot: &Slot, removal: Removal) -> Result<()> {
        // Written first: after a crash in between nothing of it starts again. What it said before is of no more matter.
        durable::write_json(&slot.place.state(), &State::default())?;
        slot.front(self).stop().await?;
        slot.stop_keepers(|_, _| true).await?;
        let place = slot.place.clone();
        blocking(move || remove(&place, removal)).await?;
        // While data of it is kept, its user is nobody else's.
        match slot.place.root().exists() {
            true => Ok(()),
            false => self.0.users.forget(&slot.place.name),
        }
    }

    /// Stops and removes everything, data too: the end of a throwaway device. A life that is under way ends where it is.
    ///
    /// # Errors
    /// The first thing that could not be stopped or removed.
    pub async fn clear(&self) -> Result<()> {
        self.0.closing.store(true, std::sync::atomic::Ordering::Release);
        for name in names(&self.0.softservices)? {
            let slot = self.slot(&name)?;
            let _work = slot.work.lock().await;
            self.carry_out(&slot, Removal { data: true }).await?;
            locked(&self.0.slots).remove(&name);
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
    let empty = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if removal.data || (empty(&place.volumes()) && empty(&place.secrets())) {
        return durable::remove_folder(place.root());
    }
    switch::point(place, None)?;
    for folder in [place.generations(), place.trees(), place.snapshots(), place.run(), place.home(), place.backup()] {
        durable::remove_folder(&folder)?;
    }
    // The last of them says that there is nothing more to do.
    for file in [place.journal(), place.ports(), place.inner_ports(), place.state(), place.removal()] {
        durable::remove(&file)?;
    }
    Ok(())
}

impl Slot {
    /// The softservice to oneself, also when it is stuck in the middle of a switch: whoever removes it needs neither end.
    async fn calm_or_stuck(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        match self.calm().await {
            Err(DeviceError::Stuck { .. }) => Ok(self.work.lock().await),
            calm => calm,
        }
    }
}
