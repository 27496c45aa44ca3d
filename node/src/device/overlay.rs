//! The owner's own changes, as files of a generation. Invariant: a generation keeps the overlay that it was made with, as it
//! keeps its answers; a rollback brings both back, and a text whose base was touched by hand is refused, not guessed at.
//!
//! ```text
//! generations/N/overlay/overlay.toml   variables, modes, and the BLAKE3 of each base
//!                       files/ROLE/PATH   own texts
//!                       base/ROLE/PATH    the author's texts that they were made against
//! ```

use super::{
    Device, blocking, durable,
    error::{DeviceError, Result, io},
    layout::{Folder, Place},
    stage,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    id::{Digest, ReleaseId},
    instance::{
        Answers, Closure,
        overlay::{self, Conflict, Edit, Laid, Overlay, OwnFile},
    },
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// `overlay.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    file: BTreeMap<String, FileLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLine {
    /// Octal; none = the author's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// BLAKE3 of the author's text that it was made against; none = there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
}

/// An own file, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverlayText {
    /// `ROLE/PATH`.
    pub path: String,
    /// The author's template in the release asked about.
    pub authored: Option<String>,
    /// The owner's.
    pub own: Option<String>,
    /// Both between markers, when they do not go together.
    pub marked: Option<String>,
}

impl Folder {
    fn overlay(&self) -> PathBuf {
        self.path.join("overlay")
    }

    /// The folder of a generation's overlay, if it has one.
    pub(super) fn overlay_folder(&self) -> Option<PathBuf> {
        Some(self.overlay()).filter(|folder| folder.is_dir())
    }

    pub(super) fn write_overlay(&self, overlay: &Overlay) -> Result<()> {
        if overlay.is_empty() { Ok(()) } else { write(&self.overlay(), overlay) }
    }

    pub(super) fn read_overlay(&self) -> Result<Overlay> {
        read(&self.overlay())
    }
}

fn write(folder: &Path, overlay: &Overlay) -> Result<()> {
    let mut sheet = Sheet { environment: overlay.environment.clone(), file: BTreeMap::new() };
    durable::folder(folder, 0o700)?;
    for (key, own) in &overlay.files {
        let texts = [("files", Some(&own.text)), ("base", own.base.as_ref())];
        for (kind, text) in texts.into_iter().filter_map(|(kind, text)| Some((kind, text?))) {
            let path = folder.join(kind).join(key);
            durable::folder(path.parent().unwrap_or(folder), 0o700)?;
            durable::write_from(folder, &path, text.as_bytes(), 0o600)?;
        }
        let mode = own.mode.map(|m| format!("{m:04o}"));
        let base = own.base.as_ref().map(|b| Digest::of(b.as_bytes()).to_string());
        sheet.file.insert(key.clone(), FileLine { mode, base });
    }
    let path = folder.join("overlay.toml");
    let text = toml::to_string(&sheet).map_err(|e| DeviceError::Damaged { path: path.clone(), why: e.to_string() })?;
    durable::write(&path, text.as_bytes(), 0o600)
}

/// Reads the overlay in a folder; there is none where no folder is.
pub(super) fn read(folder: &Path) -> Result<Overlay> {
    let path = folder.join("overlay.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Overlay::default()),
        Err(e) => return Err(io("read", &path)(e)),
    };
    let damaged = |path: &Path, why: String| DeviceError::Damaged { path: path.into(), why };
    let sheet: Sheet = toml::from_str(&text).map_err(|e| damaged(&path, e.to_string()))?;
    let mut overlay = Overlay { environment: sheet.environment, files: BTreeMap::new() };
    for (key, line) in sheet.file {
        // A sheet out of a backup is another's text: its keys must not lead elsewhere.
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(damaged(&path, format!("{key:?} is no file of a role")));
        }
        let text = |kind: &str| {
            let path = folder.join(kind).join(&key);
            std::fs::read_to_string(&path).map_err(io("read", &path))
        };
        let base = match line.base {
            None => None,
            Some(hash) => {
                let base = text("base")?;
                if Digest::of(base.as_bytes()).to_string() != hash {
                    let why = "it is not the text that the own one was made against".into();
                    return Err(damaged(&folder.join("base").join(&key), why));
                }
                Some(base)
            }
        };
        let mode = line.mode.map(|m| u32::from_str_radix(&m, 8)).transpose();
        let mode = mode.map_err(|e| damaged(&path, format!("the mode of {key}: {e}")))?;
        overlay.files.insert(key.clone(), OwnFile { text: text("files")?, mode, base });
    }
    Ok(overlay)
}

/// What a generation is made from, its overlay laid over its release.
pub(super) fn inputs(
    store: &dyn softservice_store::Store,
    place: &Place,
    number: u32,
) -> Result<(ReleaseId, Answers, Closure)> {
    let (top, answers) = place.inputs(number)?;
    let folder = place.generation(number);
    let laid = laid(place, &stage::closure(store, &place.name, top)?, top, &folder.read_overlay()?)?;
    Ok((top, answers, laid.closure))
}

/// The overlay over the release; a conflict is an error here.
pub(super) fn laid(place: &Place, closure: &Closure, top: ReleaseId, own: &Overlay) -> Result<Laid> {
    let wrong = |source| DeviceError::Instance { name: place.name.clone(), source: Box::new(source) };
    let laid = overlay::lay(closure, top, own).map_err(wrong)?;
    if laid.conflicts.is_empty() {
        return Ok(laid);
    }
    Err(DeviceError::Conflict { name: place.name.clone(), conflicts: laid.conflicts })
}

impl Device {
    /// The overlay of the current generation.
    ///
    /// # Errors
    /// The softservice is not here, or its overlay cannot be read.
    pub async fn overlay(&self, name: &str) -> Result<Overlay> {
        let slot = self.existing(name)?;
        blocking(move || slot.place.current_overlay()).await
    }

    /// The overlay of the current generation after these edits, made for `release`, whose documents are in the store.
    ///
    /// # Errors
    /// The first edit that cannot be.
    pub async fn edited_overlay(&self, name: &str, release: ReleaseId, edits: Vec<Edit>) -> Result<Overlay> {
        let (device, slot) = (self.clone(), self.existing(name)?);
        blocking(move || {
            let closure = stage::closure(&*device.0.store, &slot.place.name, release)?;
            let edited = slot.place.current_overlay()?.edited(&closure, release, &edits);
            edited.map_err(|e| DeviceError::Overlay { name: slot.place.name.clone(), source: Box::new(e) })
        })
        .await
    }

    /// What of the current overlay would not go with `release`, whose documents are in the store.
    ///
    /// # Errors
    /// The softservice is not here, or a document is missing.
    pub async fn conflicts(&self, name: &str, release: ReleaseId) -> Result<Vec<Conflict>> {
        let (device, slot) = (self.clone(), self.existing(name)?);
        blocking(move || {
            let own = slot.place.current_overlay()?;
            if own.is_empty() {
                return Ok(Vec::new());
            }
            let closure = stage::closure(&*device.0.store, &slot.place.name, release)?;
            match laid(&slot.place, &closure, release, &own) {
                Ok(_) => Ok(Vec::new()),
                Err(DeviceError::Conflict { conflicts, .. }) => Ok(conflicts),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// The texts of one file: the author's in `release`, and the owner's; every file of the release or the overlay when
    /// none is named.
    ///
    /// # Errors
    /// The softservice is not here, a document is missing, or there is no such file.
    pub async fn overlay_texts(
        &self,
        name: &str,
        release: ReleaseId,
        file: Option<String>,
    ) -> Result<Vec<OverlayText>> {
        let (device, slot) = (self.clone(), self.existing(name)?);
        blocking(move || {
            let own = slot.place.current_overlay()?;
            let wrong = |source| DeviceError::Instance { name: slot.place.name.clone(), source: Box::new(source) };
            let closure = stage::closure(&*device.0.store, &slot.place.name, release)?;
            let authored = overlay::authored(&closure, release).map_err(wrong)?;
            let conflicts = overlay::lay(&closure, release, &own).map_err(wrong)?.conflicts;
            let mut keys: Vec<&String> = authored.keys().chain(own.files.keys()).collect();
            keys.sort();
            keys.dedup();
            let texts: Vec<OverlayText> = keys
                .into_iter()
                .filter(|key| file.as_ref().is_none_or(|wanted| wanted == *key))
                .map(|key| OverlayText {
                    path: key.clone(),
                    authored: authored.get(key).cloned(),
                    own: own.files.get(key).map(|f| f.text.clone()),
                    marked: conflicts.iter().find(|c| c.what == *key).and_then(|c| c.marked.clone()),
                })
                .collect();
            match file.filter(|_| texts.is_empty()) {
                Some(key) => {
                    let known = authored.keys().cloned().collect::<Vec<_>>().join(", ");
                    let why = overlay::OverlayError::File { key, why: format!("there are {known}") };
                    Err(DeviceError::Overlay { name: slot.place.name.clone(), source: Box::new(why) })
                }
                None => Ok(texts),
            }
        })
        .await
    }
}

impl Place {
    pub(super) fn current_overlay(&self) -> Result<Overlay> {
        match self.current_number()? {
            Some(number) => self.generation(number).read_overlay(),
            None => Ok(Overlay::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Overlay {
        let own = |base: Option<&str>| OwnFile { text: "mine\n".into(), mode: Some(0o600), base: base.map(Into::into) };
        Overlay {
            environment: [("app".into(), [("CACHE".into(), "1\n2 \"x\"".into())].into())].into(),
            files: [("web/etc/a.toml".into(), own(Some("theirs\n"))), ("web/b".into(), own(None))].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("overlay");
        assert!(read(&folder).expect("there is none").is_empty());
        write(&folder, &example()).expect("written");
        assert_eq!(read(&folder).expect("read"), example());
    }

    #[test]
    fn a_base_that_was_touched_and_a_key_that_leads_elsewhere_are_refused() {
        let scratch = tempfile::tempdir().expect("a folder");
        write(scratch.path(), &example()).expect("written");
        std::fs::write(scratch.path().join("base/web/etc/a.toml"), "others\n").expect("touched");
        assert!(matches!(read(scratch.path()), Err(DeviceError::Damaged { .. })));
        std::fs::write(scratch.path().join("overlay.toml"), "[file.\"../../etc/passwd\"]\n").expect("forged");
        assert!(matches!(read(scratch.path()), Err(DeviceError::Damaged { .. })));
    }
}
