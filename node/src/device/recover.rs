//! What an earlier life of the node left: found again, ended or gone on with. Invariant: when this returns, what runs of a
//! softservice belongs to the generation that is current or to the two of an unfinished switch, and is watched over; what
//! an unfinished switch needs started or stopped is left to its effects.

use super::{Device, Slot, backup, blocking, error::Result, snapshot::Snapshots};
use softservice_protocol::io::{Effect, ProvisionStep};
use std::{collections::BTreeSet, sync::Arc};

impl Device {
    /// Brings one softservice back; answers the step in which its switch was cut off.
    pub(super) async fn recover_one(&self, name: &str) -> Result<Option<ProvisionStep>> {
        if self.finish_removal(name).await? {
            return Ok(None);
        }
        let slot = self.slot(name)?;
        let _work = slot.work.lock().await;
        let unfinished = slot.interrupted();
        let current = slot.place.current_number()?;
        let up = slot.place.read_state()?.up;
        let wanted = self.wanted(&slot, current.filter(|_| up), unfinished.as_ref());
        slot.stop_keepers(|number, service| !wanted.contains(&(number, service.to_owned()))).await?;
        match unfinished.as_ref().map(|s| s.effect) {
            // Nothing that runs was touched.
            None | Some(Effect::Stage) => match current.filter(|_| up) {
                Some(current) => self.resume(&slot, current).await?,
                None => slot.front(self).stop().await?,
            },
            // The core says what starts and stops; what runs is watched over meanwhile.
            Some(_) => self.adopt(&slot, unfinished.as_ref().and_then(|s| s.previous)).await?,
        }
        if unfinished.is_none() {
            let place = slot.place.clone();
            blocking(move || {
                Snapshots { place: &place }.tidy()?;
                place.tidy_runs();
                backup::sweep(&place)
            })
            .await?;
        }
        Ok(unfinished)
    }

    /// Keepers that may run: of the current generation and of those that a switch is between.
    fn wanted(&self, slot: &Slot, current: Option<u32>, step: Option<&ProvisionStep>) -> BTreeSet<(u32, String)> {
        let between = step.iter().flat_map(|s| [Some(s.generation.number), s.previous]).flatten();
        let mut wanted = BTreeSet::new();
        for number in current.into_iter().chain(between) {
            // One that was not staged whole has nothing running.
            if let (Ok(instance), Ok(services)) = (slot.place.instance(number), slot.services(self, number)) {
                wanted.extend(services.keepers(&instance));
            }
        }
        wanted
    }

    /// Finds the services and the front of a generation again, and starts those that do not run.
    async fn resume(&self, slot: &Arc<Slot>, number: u32) -> Result<()> {
        let instance = slot.place.instance(number)?;
        // A port that somebody else has taken meanwhile must not keep everything down.
        if let Err(error) = slot.front(self).lead(&instance.fronts).await {
            tracing::error!(softservice = slot.place.name, %error, "its public ports are not open");
        }
        slot.services(self, number)?.resume(&instance).await
    }

    async fn adopt(&self, slot: &Arc<Slot>, previous: Option<u32>) -> Result<()> {
        let front = slot.front(self);
        if front.runs().await {
            front.watch_over().await;
        }
        match previous {
            Some(number) => slot.services(self, number)?.adopt(&slot.place.instance(number)?).await,
            None => Ok(()),
        }
    }
}
