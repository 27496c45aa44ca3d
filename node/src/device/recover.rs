//! What an earlier life of the node left: found again, ended or gone on with. Invariant: when this returns, what runs of a
//! softservice belongs to the generation that is current or to the two of an unfinished switch, and is watched over; what
//! an unfinished switch needs started or stopped is left to its effects. Files are what somebody refers to: what was being
//! written, made or removed when that life ended, and was not done, is gone.

use super::{Device, Slot, backup, blocking, durable, error::Result, layout::Place, snapshot::Snapshots, trees};
use softservice_protocol::io::{Effect, ProvisionStep};
use std::{collections::BTreeSet, sync::Arc};

/// In the name of a tree that is being made: see [`softservice_store::Store::materialise`].
const STAGING: &str = ".staging-";

impl Device {
    /// Removes what was being done to all softservices together, and gives back the users of those that are gone: `names` are
    /// here.
    pub(super) fn clear_up(&self, names: &[String]) {
        let cleared = durable::sweep(&self.0.home)
            .and_then(|()| durable::sweep(&self.0.softservices))
            .and_then(|()| self.0.users.keep(names));
        if let Err(error) = cleared {
            tracing::warn!(%error, "what an earlier life left half done could not be removed");
        }
    }

    /// Brings one softservice back; answers the step in which its switch was cut off.
    pub(super) async fn recover_one(&self, name: &str) -> Result<Option<ProvisionStep>> {
        let place = Place::new(&self.0.softservices, name)?;
        swept(name, blocking(move || place.sweep()).await);
        if self.finish_removal(name).await? {
            return Ok(None);
        }
        let slot = self.slot(name)?;
        let _work = slot.work.lock().await;
        let unfinished = slot.interrupted();
        let current = slot.place.current_number()?;
        let up = slot.place.read_state()?.up;
        let wanted = self.wanted(&slot, current.filter(|_| up), unfinished.as_ref());
        slot.stop_keepers(self, |number, service| !wanted.contains(&(number, service.to_owned()))).await?;
        let recovered = match unfinished.as_ref().map(|s| s.effect) {
            // Nothing that runs was touched, or it is as it was again: no step to come starts anything.
            None | Some(Effect::Stage | Effect::MarkFailed) => match current.filter(|_| up) {
                Some(current) => self.resume(&slot, current).await,
                None => slot.front(self).stop().await,
            },
            // The core says what starts and stops; what runs is watched over meanwhile.
            Some(_) => self.adopt(&slot, unfinished.as_ref().and_then(|s| s.previous)).await,
        };
        match recovered {
            Err(error) if unfinished.is_some() => {
                // The life goes on to its end all the same: else nobody could change the softservice any more.
                tracing::error!(softservice = name, %error, "not all of it could be brought back");
            }
            recovered => recovered?,
        }
        if unfinished.is_none() {
            let place = slot.place.clone();
            swept(name, blocking(move || place.tidy()).await);
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
        slot.services(self, number)?.resume(&instance).await?;
        slot.enable(self, number, &instance).await
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

/// What cannot be cleared away is in nobody's way: what runs matters more.
fn swept(name: &str, done: Result<()>) {
    if let Err(error) = done {
        tracing::warn!(softservice = name, %error, "what an earlier life left half done could not be removed");
    }
}

impl Place {
    /// Removes what was being written, made or removed under a name of its own when an earlier life was cut off. Folders of
    /// keepers and the front are left out: these live on, and write there themselves.
    fn sweep(&self) -> Result<()> {
        let ours = [self.generations(), self.trees(), self.volumes(), self.secrets(), self.snapshots()];
        durable::sweep(self.root())?;
        ours.iter().try_for_each(|folder| durable::sweep(folder))?;
        for number in self.numbers()? {
            let generation = self.generation(number);
            let own = [generation.path.clone(), generation.tree_links()];
            own.into_iter().chain(generation.overlay_folder()).try_for_each(|folder| durable::sweep(&folder))?;
        }
        durable::remove_entries(&self.trees(), |name| name.starts_with('.') && name.contains(STAGING))
    }

    /// Removes what no generation needs, while none is on its way.
    fn tidy(&self) -> Result<()> {
        // Generations that nobody began first: trees may be theirs alone.
        backup::sweep(self)?;
        trees::sweep(self)?;
        Snapshots { place: self }.tidy()?;
        self.tidy_runs();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn made(path: &Path) {
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("a folder");
        fs::write(path, "text").expect("a file");
    }

    #[test]
    fn what_was_half_done_goes_and_what_bears_its_name_stays() {
        let scratch = tempfile::tempdir().expect("a folder");
        let place = Place::new(scratch.path(), "shelf").expect("a place");
        place.make().expect("folders");
        let stays = [
            "generations/2/files/web/.own.new",
            "trees/9f/.own.new",
            "trees/9f/.own.staging-x",
            "volumes/db/.own.new",
            "secrets/token",
            "run/2/web/.status.new",
            "home/.own.new",
        ];
        let goes = [
            ".state.json.new",
            ".removal.json.new",
            ".home.new/file",
            "generations/.1.new/record.json",
            "generations/2/.record.json.new",
            "generations/2/.file.new",
            "generations/2/overlay/.overlay.toml.new",
            "generations/2/tree/.app.new",
            "trees/.9f.staging-Xy12/file",
            "trees/.8e.new/file",
            "snapshots/.1.new/db/file",
            "volumes/.cache.new/file",
            "secrets/.token.new",
        ];
        stays.iter().chain(&goes).for_each(|path| made(&place.root().join(path)));
        std::os::unix::fs::symlink("generations/2", place.root().join(".current.new")).expect("a link");
        place.sweep().expect("swept");
        for path in stays {
            assert!(place.root().join(path).exists(), "{path} stays");
        }
        for path in goes.iter().map(Path::new).chain([Path::new(".current.new")]) {
            assert!(place.root().join(path).symlink_metadata().is_err(), "{} goes", path.display());
        }
        assert!(place.generation(2).path.is_dir(), "where a link leads is another matter");
    }
}
