//! Rollback: the request that brings an earlier generation back. Invariant: code comes back alone only where the data that is
//! there has the layout that it reads; else it comes back with the data that was kept, or not at all.

use super::{
    Device, PlanRequest,
    error::{DeviceError, Result},
    layout::Place,
    record::Standing,
    snapshot::Snapshots,
};
use softservice_protocol::instance::Instance;

impl Device {
    /// The request that brings generation `to` back, or the last confirmed one before the current. Where data layouts are
    /// the same, data stays as it is; where they differ, the data that was kept at the change comes back as well, and what
    /// is there now is kept with the current generation.
    ///
    /// # Errors
    /// There is no such generation, it never was confirmed, or its data is of another layout and was not kept.
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
        let restore = match current {
            Some(current) => restore(place, number, &place.instance_before(current)?)?,
            None => None,
        };
        let overlay = Some(place.generation(number).read_overlay()?);
        Ok(PlanRequest { answers, exact: true, restore, overlay, ..PlanRequest::new(name, release) })
    }
}

/// The generation whose data comes back with `number`; none when that of `current` will do.
fn restore(place: &Place, number: u32, current: &Instance) -> Result<Option<u32>> {
    let wanted = place.instance(number)?;
    let Some(moved) = wanted.moves(current).into_iter().next() else { return Ok(None) };
    let snapshots = Snapshots { place };
    // The newest data of that layout, which is its own unless others of that layout came after it.
    for generation in place.numbers()?.into_iter().rev() {
        if let Ok(Some(kept)) = snapshots.whole(generation)
            && wanted.epochs.iter().all(|(component, epoch)| kept.epochs.get(component).is_none_or(|e| e == epoch))
        {
            return Ok(Some(generation));
        }
    }
    Err(DeviceError::Epoch { name: place.name.clone(), number, old: moved.to, now: moved.from })
}
