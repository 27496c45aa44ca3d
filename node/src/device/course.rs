//! The course of a switch: what happens to each role on the way from one generation to the next. Invariant: decided once, at
//! the end of staging, and written down before anything that runs is touched; every later effect, also of a later life of
//! the node, obeys what is written.

use super::{durable, error::Result, layout::Place, ports::Numbers};
use serde::{Deserialize, Serialize};
use softservice_protocol::instance::{Change, FrontSpec, Instance, RenderedFile, RoleNeed, Transition, ends_first};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// What happens to the roles of one generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Course {
    /// By role of this generation; a role that is not here starts instead of nothing.
    pub(super) changes: Transition,
    /// Of the roles that run on: the generation whose keepers run their services, out of whose folder.
    pub(super) runs: BTreeMap<String, u32>,
    /// Files of roles that run on, where their services read them.
    pub(super) files: Vec<KeptFile>,
    /// The data layout changes: the data as it was is kept with the previous generation.
    pub(super) crosses: bool,
    /// The data is to be that which was kept with this generation.
    pub(super) restore: Option<u32>,
    /// The data comes from a backup.
    pub(super) from_backup: bool,
    /// Volumes that go when the softservice is removed.
    pub(super) removable: Vec<String>,
}

/// A file whose change does nothing by itself. Its service runs on and finds the new text where it reads it: to leave the
/// old one there was refused, since no later start would ever bring the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFile {
    /// The generation out of whose folder its role runs.
    pub(super) generation: u32,
    /// As this generation has it.
    pub(super) new: RenderedFile,
    /// As it was; none when there was no such file.
    pub(super) old: Option<RenderedFile>,
}

/// The generation that runs before, as far as a course depends on it.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) number: u32,
    /// With the fingerprint of a role that does not run blotted out: what is dead or crashes cannot be kept.
    pub(super) instance: Instance,
    pub(super) course: Course,
    /// Some of it runs.
    pub(super) running: bool,
}

impl Course {
    /// The course to `new`.
    pub(super) fn decide(new: &Instance, before: Option<&Before>) -> Self {
        let Some(before) = before else { return Self::default() };
        let crosses = !new.moves(&before.instance).is_empty();
        let changes = new.transition(&before.instance, before.running);
        let kept = changes.iter().filter(|(_, change)| **change == Change::Keep).map(|(role, _)| role);
        let runs = kept.map(|role| (role.clone(), before.course.runs_from(role, before.number))).collect();
        Self { changes, runs, crosses, ..Self::default() }
    }

    /// Everything is replaced: neither a service nor a secret of before goes with data from a backup.
    pub(super) fn replace_all(&mut self, new: &Instance) {
        (self.from_backup, self.crosses) = (true, false);
        self.changes = new.roles.iter().map(|r| (r.key.clone(), Change::Instead)).collect();
        self.runs.clear();
    }

    pub(super) fn change(&self, role: &str) -> Change {
        self.changes.get(role).copied().unwrap_or(Change::Instead)
    }

    pub(super) fn is(&self, role: &str, change: Change) -> bool {
        self.change(role) == change
    }

    /// The generation that started a role's services, out of whose folder they run; `own` is this one.
    pub(super) fn runs_from(&self, role: &str, own: u32) -> u32 {
        self.runs.get(role).copied().unwrap_or(own)
    }

    /// Volumes of roles that are replaced: what new services may write to.
    pub(super) fn replaced_volumes(&self, new: &Instance) -> Vec<String> {
        let replaced = new.roles.iter().filter(|r| self.is(&r.key, Change::Instead));
        replaced.flat_map(|r| r.volumes.iter().cloned()).collect()
    }

    /// Inner numbers that stay as they are, because who listens there does.
    pub(super) fn kept_ports(&self, before: Option<&Before>) -> Numbers {
        let fronts = before.iter().flat_map(|b| &b.instance.fronts);
        fronts.filter(|f| self.is(&f.role, Change::Keep)).map(|f| (f.key.clone(), f.inner)).collect()
    }

    /// Whether a role of the previous generation ends before the new ones start.
    pub(super) fn ends_first(&self, old: &RoleNeed) -> bool {
        ends_first(&self.changes, old)
    }

    /// Where public ports lead while the new services start: those of replaced roles to the new ones, which have nobody
    /// else; all others where they led.
    pub(super) fn fronts_at_start(&self, new: &Instance, old: Option<&Instance>) -> Vec<FrontSpec> {
        let replaced = new.fronts.iter().filter(|f| self.is(&f.role, Change::Instead));
        let stay = |f: &&FrontSpec| match self.changes.get(&f.role) {
            Some(change) => *change != Change::Instead,
            None => true,
        };
        let others = old.iter().flat_map(|o| &o.fronts).filter(stay);
        replaced.chain(others).cloned().collect()
    }

    /// Where public ports lead from the handing over on: to the new generation. Ports of roles that are gone lead to them
    /// until the commit, so that the way back finds them open.
    pub(super) fn fronts_at_end(&self, new: &Instance, old: Option<&Instance>) -> Vec<FrontSpec> {
        let gone = old.iter().flat_map(|o| &o.fronts).filter(|f| !self.changes.contains_key(&f.role));
        let taken: BTreeSet<u16> = new.fronts.iter().map(|f| f.public).chain(new.ports.values().copied()).collect();
        new.fronts.iter().chain(gone.filter(|f| !taken.contains(&f.public))).cloned().collect()
    }

    /// Writes the files of roles that run on, as they are now or as they were; answers which are there.
    pub(super) fn write_files(&self, place: &Place, new: bool) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for file in &self.files {
            let folder = place.generation(file.generation);
            let files = folder.files();
            let path = files.join(&file.new.path);
            match if new { Some(&file.new) } else { file.old.as_ref() } {
                Some(file) => {
                    durable::folder(path.parent().unwrap_or(&files), 0o700)?;
                    durable::write_from(&folder.path, &path, file.text.as_bytes(), file.mode)?;
                    written.push(path);
                }
                None => durable::remove(&path)?,
            }
        }
        Ok(written)
    }
}

/// Numbers that the services of a role listen on themselves: inner ones where there is a front, else public ones.
pub(super) fn own_numbers<'i>(instance: &'i Instance, role: &'i str) -> impl Iterator<Item = u16> + 'i {
    let of_role = move |key: &str| key.rsplit_once('.').is_some_and(|(of, _)| of == role);
    let inner = |key: &str| instance.fronts.iter().find(|f| f.key == key).map(|f| f.inner);
    instance.ports.iter().filter(move |(key, _)| of_role(key)).map(move |(key, n)| inner(key).unwrap_or(*n))
}

/// Numbers that the services of a role are reached at, and that no front has.
pub(super) fn open_numbers<'i>(instance: &'i Instance, role: &'i str) -> impl Iterator<Item = u16> + 'i {
    own_numbers(instance, role).filter(|n| !instance.fronts.iter().any(|f| f.inner == *n))
}

impl Place {
    /// The course that was decided for a generation; of one that has none, everything is its own.
    pub(super) fn course(&self, number: u32) -> Result<Course> {
        Ok(durable::read_json(&self.generation(number).course())?.unwrap_or_default())
    }
}
