//! Snapshots: data as a generation left it, kept whole before anything new touches it. Invariant: a snapshot is there whole
//! or not at all; while a switch may still go back, data is never anywhere but in its place or in a snapshot that says
//! for which switch it was made; nothing is copied that would not leave the device room to breathe.
//!
//! `snapshots/N/KEY` is the data of volume KEY as generation N left it. Where the file system can, blocks are shared
//! (FICLONE) and a snapshot costs next to nothing; elsewhere everything is copied. A volume that is a mount of its own is
//! put back entry by entry, since it cannot be renamed; all others by two renames.

mod copy;
#[cfg(test)]
mod tests;

use super::{
    durable,
    error::{DeviceError, Result, io},
    layout::Place,
};
use copy::Measure;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Bytes that stay free after a copy: a full disk hurts everything that runs here.
const RESERVE: u64 = 64 << 20;
/// Describes a snapshot, in its folder. No key of a volume has a dot at its end alone.
const RECORD: &str = "snapshot.json";

/// How a volume would be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Means {
    pub(super) volume: String,
    /// Bytes in it.
    pub(super) bytes: u64,
    /// Its blocks are shared instead of copied.
    pub(super) clone: bool,
}

/// A snapshot, as its record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Whose data it is.
    pub(super) generation: u32,
    /// The generation that was to take over when it was made.
    pub(super) next: u32,
    /// Data layouts by component.
    pub(super) epochs: BTreeMap<String, u32>,
    /// By key of a volume: bytes of files in it.
    pub(super) volumes: BTreeMap<String, u64>,
    /// Sockets, pipes and devices that are not in it, by volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) skipped: BTreeMap<String, Vec<String>>,
}

/// The snapshots of one softservice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshots<'a> {
    pub(super) place: &'a Place,
}

impl Snapshots<'_> {
    fn folder(&self, generation: u32) -> PathBuf {
        self.place.snapshots().join(generation.to_string())
    }

    /// Where snapshots are; a removal took their folder, and it is made again below the softservice's own.
    fn ground(&self) -> PathBuf {
        Some(self.place.snapshots()).filter(|folder| folder.is_dir()).unwrap_or_else(|| self.place.root().to_owned())
    }

    fn unkept(&self, volume: &str, error: &DeviceError) -> DeviceError {
        DeviceError::Unkept { name: self.place.name.clone(), volume: volume.into(), why: error.to_string() }
    }

    /// How these volumes would be kept, those that exist.
    pub(super) fn means(&self, volumes: &[String]) -> Result<Vec<Means>> {
        let shares = copy::can_clone(&self.place.volumes(), &self.ground());
        let mut all = Vec::new();
        for volume in volumes {
            let path = self.place.volume(volume);
            if path.is_dir() {
                let measure = copy::measure(&path).map_err(|e| self.unkept(volume, &e))?;
                let clone = shares && !is_apart(&path)?;
                all.push(Means { volume: volume.clone(), bytes: measure.bytes, clone });
            }
        }
        Ok(all)
    }

    /// These volumes, and those that a snapshot would bring back in the place of what is there.
    pub(super) fn touched(&self, mut volumes: Vec<String>, bring_back: Option<u32>) -> Result<Vec<String>> {
        if let Some(kept) = bring_back.map(|g| self.whole(g)).transpose()?.flatten() {
            let more: Vec<String> = kept.volumes.into_keys().filter(|key| !volumes.contains(key)).collect();
            volumes.extend(more);
        }
        Ok(volumes)
    }

    /// An error unless there is room to keep volumes by these means and, for a return to older data, to bring back those of
    /// a snapshot.
    pub(super) fn check(&self, means: &[Means], bring_back: Option<u32>) -> Result<()> {
        let mut need: u64 = means.iter().filter(|m| !m.clone).map(|m| m.bytes).sum();
        if let Some(kept) = bring_back.map(|g| self.whole(g)).transpose()?.flatten() {
            let cloned = |volume: &String| means.iter().any(|m| m.volume == *volume && m.clone);
            need += kept.volumes.iter().filter(|(volume, _)| !cloned(volume)).map(|(_, bytes)| bytes).sum::<u64>();
        }
        self.room(need)
    }

    fn room(&self, need: u64) -> Result<()> {
        if need == 0 {
            return Ok(());
        }
        let path = self.ground();
        let disk = rustix::fs::statvfs(&path).map_err(|e| io("look at the space of", &path)(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= need.saturating_add(RESERVE) {
            return Ok(());
        }
        Err(DeviceError::NoRoom { name: self.place.name.clone(), need, free, reserve: RESERVE })
    }

    /// A generation's snapshot, if it is whole.
    pub(super) fn whole(&self, generation: u32) -> Result<Option<Kept>> {
        durable::read_json(&self.folder(generation).join(RECORD))
    }

    /// Keeps volumes of `kept.generation`. Repeated, it finds what was kept for the same switch; a snapshot of an earlier one
    /// that failed is made anew.
    pub(super) fn take(
        &self,
        generation: u32,
        next: u32,
        epochs: &BTreeMap<String, u32>,
        volumes: &[String],
    ) -> Result<()> {
        if volumes.is_empty() || self.whole(generation)?.is_some_and(|k| k.next == next) {
            return Ok(());
        }
        let folder = self.folder(generation);
        durable::let_go(&folder)?;
        let means = self.means(volumes)?;
        self.room(means.iter().filter(|m| !m.clone).map(|m| m.bytes).sum())?;
        let beside = self.place.snapshots().join(format!(".{generation}.making"));
        durable::let_go(&beside)?;
        durable::folder(&beside, 0o700)?;
        let epochs = epochs.clone();
        let mut kept = Kept { generation, next, epochs, volumes: BTreeMap::new(), skipped: BTreeMap::new() };
        for Means { volume, clone, bytes } in means {
            let copied = copy::tree(&self.place.volume(&volume), &beside.join(&volume), clone);
            let Measure { skipped, .. } = copied.map_err(|e| self.unkept(&volume, &e))?;
            if !skipped.is_empty() {
                tracing::info!(
                    softservice = self.place.name,
                    volume,
                    ?skipped,
                    "not in the snapshot: no data is in them"
                );
                kept.skipped.insert(volume.clone(), skipped);
            }
            kept.volumes.insert(volume, bytes);
        }
        durable::write_json(&beside.join(RECORD), &kept)?;
        durable::rename(&beside, &folder)
    }

    /// Puts back what was kept for the switch to `next`, and removes what was in its place. Repeated, it goes on where it was
    /// cut off.
    pub(super) fn restore(&self, generation: u32, next: u32) -> Result<()> {
        durable::clear_left(&self.place.snapshots().join(format!(".{generation}.making")));
        let Some(kept) = self.whole(generation)?.filter(|k| k.next == next) else { return Ok(()) };
        for volume in kept.volumes.keys() {
            let (snapshot, target) = (self.folder(generation).join(volume), self.place.volume(volume));
            let aside = self.place.volumes().join(format!(".{volume}.failed"));
            if snapshot.is_dir() {
                if is_apart(&target)? {
                    fill(&snapshot, &target)?;
                    durable::let_go(&snapshot)?;
                } else {
                    if target.exists() {
                        durable::let_go(&aside)?;
                        durable::rename(&target, &aside)?;
                    }
                    durable::rename(&snapshot, &target)?;
                }
            }
            durable::clear_left(&aside);
        }
        durable::let_go(&self.folder(generation))
    }

    /// Brings data of an older generation back into its place; the snapshot stays. What is there was kept before.
    pub(super) fn bring_back(&self, generation: u32) -> Result<()> {
        let kept = self.whole(generation)?;
        let kept = kept.ok_or_else(|| DeviceError::NoSnapshot { name: self.place.name.clone(), generation })?;
        let shares = copy::can_clone(&self.place.snapshots(), &self.place.volumes());
        for volume in kept.volumes.keys() {
            let (snapshot, target) = (self.folder(generation).join(volume), self.place.volume(volume));
            if is_apart(&target)? {
                fill(&snapshot, &target)?;
                continue;
            }
            let beside = self.place.volumes().join(format!(".{volume}.coming"));
            let aside = self.place.volumes().join(format!(".{volume}.going"));
            durable::let_go(&beside)?;
            copy::tree(&snapshot, &beside, shares).map_err(|e| self.unkept(volume, &e))?;
            if target.exists() {
                durable::let_go(&aside)?;
                durable::rename(&target, &aside)?;
            }
            durable::rename(&beside, &target)?;
            durable::clear_left(&aside);
        }
        Ok(())
    }

    /// Copies volumes, those that exist, to a folder beside them, for a backup.
    pub(super) fn copy_to(&self, volumes: &[String], to: &Path) -> Result<()> {
        let means = self.means(volumes)?;
        self.room(means.iter().filter(|m| !m.clone).map(|m| m.bytes).sum())?;
        for Means { volume, clone, .. } in means {
            let copied = copy::tree(&self.place.volume(&volume), &to.join(&volume), clone);
            copied.map_err(|e| self.unkept(&volume, &e))?;
        }
        Ok(())
    }

    /// Puts volumes away as the snapshot of `generation` without a copy, for a switch to `next` that brings data of its own.
    /// Written down before anything moves: [`Self::restore`] puts back what was moved and leaves the rest where it is.
    /// Repeated, it moves what it has not moved yet; `volumes` are those that were there at first.
    pub(super) fn move_away(
        &self,
        generation: u32,
        next: u32,
        epochs: &BTreeMap<String, u32>,
        volumes: Vec<String>,
    ) -> Result<()> {
        if volumes.is_empty() && self.whole(generation)?.is_none() {
            return Ok(());
        }
        let folder = self.folder(generation);
        if self.whole(generation)?.is_none_or(|k| k.next != next) {
            durable::let_go(&folder)?;
            let means = self.means(&volumes)?;
            let sizes = means.into_iter().map(|m| (m.volume, m.bytes)).collect();
            let (epochs, skipped) = (epochs.clone(), BTreeMap::new());
            let kept = Kept { generation, next, epochs, volumes: sizes, skipped };
            let beside = self.place.snapshots().join(format!(".{generation}.making"));
            durable::let_go(&beside)?;
            durable::folder(&beside, 0o700)?;
            durable::write_json(&beside.join(RECORD), &kept)?;
            durable::rename(&beside, &folder)?;
        }
        for volume in volumes {
            let (target, away) = (self.place.volume(&volume), folder.join(&volume));
            if away.exists() {
                continue;
            }
            if is_apart(&target)? {
                // Whole or not at all: it is put back from here.
                let beside = folder.join(format!(".{volume}.coming"));
                durable::let_go(&beside)?;
                copy::tree(&target, &beside, false).map_err(|e| self.unkept(&volume, &e))?;
                durable::rename(&beside, &away)?;
            } else {
                durable::rename(&target, &away)?;
            }
        }
        Ok(())
    }

    /// Puts a folder in a volume's place; what was there was moved away.
    pub(super) fn bring_in(&self, from: &Path, volume: &str) -> Result<()> {
        let target = self.place.volume(volume);
        if !from.is_dir() {
            return Ok(());
        }
        if is_apart(&target)? {
            return fill(from, &target);
        }
        durable::rename(from, &target)
    }

    /// Keys of volumes that are here.
    pub(super) fn present(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(self.place.volumes()).map_err(io("list", self.place.volumes()))?;
        let mut keys: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
        keys.retain(|key| !key.starts_with('.'));
        keys.sort_unstable();
        Ok(keys)
    }

    /// Lets go of snapshots that nobody can return to any more: those of generations that are gone, and of `but` when it says
    /// a generation whose data did not change its layout.
    pub(super) fn prune(&self, but: Option<u32>) -> Result<()> {
        let here = self.place.numbers()?;
        let entries = match fs::read_dir(self.place.snapshots()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io("list", self.place.snapshots())(e)),
        };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
            if number.is_none_or(|n| !here.contains(&n) || Some(n) == but) {
                // Renamed first: half a snapshot must not pass for a whole one.
                durable::let_go(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what moves of data that were cut off left beside volumes, once no switch is under way.
    pub(super) fn tidy(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(self.place.volumes()) else { return Ok(()) };
        for entry in entries.filter_map(std::result::Result::ok) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && [".failed", ".coming", ".going"].iter().any(|end| name.ends_with(end)) {
                durable::clear_left(&entry.path());
            }
        }
        Ok(())
    }
}

/// Whether a volume cannot be renamed: the owner has mounted it, or made it a link to elsewhere.
fn is_apart(volume: &Path) -> Result<bool> {
    let about = match fs::symlink_metadata(volume) {
        Ok(about) => about,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(io("look at", volume)(e)),
    };
    let parent = volume.parent().unwrap_or(Path::new("/"));
    let beside = fs::metadata(parent).map_err(io("look at", parent))?;
    Ok(about.is_symlink() || about.dev() != beside.dev())
}

/// Makes a volume that is apart equal to a snapshot, which stays: cut off in the middle, it is simply done again.
fn fill(snapshot: &Path, volume: &Path) -> Result<()> {
    durable::empty(volume)?;
    copy::tree(snapshot, volume, false).map(drop)
}
