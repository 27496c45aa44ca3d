//! Which backups were made of a softservice. Invariant: the newest is the last of the list; that a file is in it says that it
//! was verified when it was written, not that it is still there.

use super::{digest::VolumeSum, file::Written};
use crate::device::{Device, blocking, durable, error::Result, layout::Place};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Backups that are remembered.
const REMEMBERED: usize = 100;

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// The softservice.
    pub softservice: String,
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3, as hex.
    pub blake3: String,
    /// Seconds since the Unix epoch when the data was as it is there.
    pub made_at: u64,
    /// What it ran.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release, as hex.
    pub release: String,
    /// Volumes that are in it as they were.
    pub volumes: Vec<String>,
    /// Roles whose own program wrote their data.
    pub hooks: Vec<String>,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// Where the key is, when it is this home's own.
    pub key_file: Option<PathBuf>,
    /// `opened`: decrypted and read to its end after it was written; `compared`: the disk gave back what was written, as
    /// the key is not here.
    pub verified: String,
    /// Of a backup that was asked to be a witness: the volumes as they were where services write them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sums: BTreeMap<String, VolumeSum>,
}

impl BackupRecord {
    pub(super) fn of(file: &Path, written: &Written, key_file: &Path) -> Self {
        use softservice_protocol::archive::Part;
        let header = &written.header;
        let keys = |of: fn(&Part) -> Option<&String>| header.parts.iter().filter_map(of).cloned().collect();
        Self {
            softservice: header.softservice.clone(),
            file: file.into(),
            bytes: written.bytes,
            blake3: written.blake3.clone(),
            made_at: header.made_at,
            distro: header.distro.clone(),
            version: header.version.clone(),
            release: header.release.id.to_string(),
            volumes: keys(|p| if let Part::Volume(key) = p { Some(key) } else { None }),
            hooks: keys(|p| if let Part::Hook(role) = p { Some(role) } else { None }),
            recipients: written.recipients.clone(),
            key_file: written.own.then(|| key_file.into()),
            verified: if written.opened { "opened" } else { "compared" }.into(),
            sums: BTreeMap::new(),
        }
    }
}

impl Place {
    fn backups(&self) -> PathBuf {
        self.root().join("backups.json")
    }

    /// Where a backup is put together.
    pub(in crate::device) fn backup(&self) -> PathBuf {
        self.root().join("backup")
    }

    pub(super) fn add_backup(&self, record: &BackupRecord) -> Result<()> {
        let mut all: Vec<BackupRecord> = durable::read_json(&self.backups())?.unwrap_or_default();
        all.push(record.clone());
        let old = all.len().saturating_sub(REMEMBERED);
        all.drain(..old);
        durable::write_json(&self.backups(), &all)
    }
}

impl Device {
    /// Backups that were made of a softservice, oldest first; also of one that is removed.
    ///
    /// # Errors
    /// The list cannot be read.
    pub async fn backups(&self, name: &str) -> Result<Vec<BackupRecord>> {
        let place = Place::new(&self.0.softservices, name)?;
        blocking(move || Ok(durable::read_json(&place.backups())?.unwrap_or_default())).await
    }
}
