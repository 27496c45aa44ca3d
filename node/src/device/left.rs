//! What a removed softservice left: data and secrets that stay for the next one of its name. Invariant: they go to the same
//! distro of the same publisher only, of a layout that it reads, and are again as they were unless it is confirmed.

use super::{
    Device, blocking,
    error::{DeviceError, Result},
    layout::Place,
    snapshot::Snapshots,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    id::{PublisherId, ReleaseId},
    instance::{Closure, Instance},
};

/// The generation as whose data is kept what nothing that runs has: no generation has this number.
pub(super) const NOBODY: u32 = 0;

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The publisher's id, as hex.
    pub publisher: String,
    /// The top distro.
    pub distro: String,
}

impl Lineage {
    /// That of a release, whose documents are here.
    pub(super) fn of(closure: &Closure, release: ReleaseId) -> Option<Self> {
        let release = closure.get(&release)?;
        Some(Self { publisher: release.publisher.to_string(), distro: release.distro.clone() })
    }

    /// `PUBLISHER/DISTRO`, the publisher's id cut short.
    fn short(&self) -> String {
        let publisher = self.publisher.parse().map_or_else(|_| self.publisher.clone(), |id: PublisherId| id.short());
        format!("{publisher}/{}", self.distro)
    }
}

impl Device {
    /// Whose data or secrets a removed softservice of this name left; none when nothing is left, or its name is in use.
    ///
    /// # Errors
    /// What is remembered of it cannot be read.
    pub async fn left(&self, name: &str) -> Result<Option<Lineage>> {
        let place = Place::new(&self.0.softservices, name)?;
        blocking(move || match place.current_number()? {
            None if is_any(&place)? => Ok(place.read_volume_facts()?.lineage),
            _ => Ok(None),
        })
        .await
    }
}

/// An error unless `new` may have what was left.
pub(super) fn check(place: &Place, lineage: Option<&Lineage>, new: &Instance) -> Result<()> {
    if !is_any(place)? {
        return Ok(());
    }
    let (name, facts) = (place.name.clone(), place.read_volume_facts()?);
    if let (Some(there), Some(wanted)) = (&facts.lineage, lineage)
        && there != wanted
    {
        return Err(DeviceError::LeftByAnother { name, there: there.short(), wanted: wanted.short() });
    }
    if volumes(place)?.is_empty() {
        return Ok(());
    }
    for (component, wanted) in &new.epochs {
        if let Some(there) = facts.epochs.get(component).filter(|there| *there != wanted) {
            let component = if component.is_empty() { new.distro.clone() } else { component.clone() };
            return Err(DeviceError::LeftData { name, component, there: *there, wanted: *wanted });
        }
    }
    Ok(())
}

/// Keys of volumes with something in them.
pub(super) fn volumes(place: &Place) -> Result<Vec<String>> {
    if !place.volumes().is_dir() {
        return Ok(Vec::new());
    }
    let mut keys = Snapshots { place }.present()?;
    keys.retain(|key| holds_something(&place.volume(key)));
    Ok(keys)
}

fn is_any(place: &Place) -> Result<bool> {
    Ok(holds_something(&place.secrets()) || !volumes(place)?.is_empty())
}

fn holds_something(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Keeps what the first generation of its name may write to, as it is before.
pub(super) fn keep(place: &Place, number: u32, new: &Instance) -> Result<()> {
    let volumes: Vec<String> = new.roles.iter().flat_map(|r| r.volumes.iter().cloned()).collect();
    Snapshots { place }.take(NOBODY, number, &place.read_volume_facts()?.epochs, &volumes)
}

/// The way back: data as it was before that generation. Nothing of it runs any more.
pub(super) fn take_back(place: &Place, number: u32) -> Result<()> {
    Snapshots { place }.restore(NOBODY, number)
}
