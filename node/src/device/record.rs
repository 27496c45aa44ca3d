//! What the device remembers of softservices and generations. Invariant: answers and records are small, readable text, written
//! durably; no secret is in them.

use super::{
    backup::FromBackup,
    durable,
    error::{DeviceError, Result, io},
    layout::{Folder, Place},
    left::Lineage,
    ports::Numbers,
};
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    id::ReleaseId,
    instance::{Answers, Instance, sandbox::Reduced},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What the owner wants of a softservice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Its services are to run.
    pub(super) up: bool,
    /// It is to stay at its version.
    pub(super) held: bool,
}

/// What is known of a softservice's volumes, also when it is removed and they stay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VolumeFacts {
    /// Keys of those that go when it is removed (`keep_on_remove = false`).
    pub(super) removable: BTreeSet<String>,
    /// Data layouts by component, also of components that a release left out and whose data is still here.
    pub(super) epochs: BTreeMap<String, u32>,
    /// Whose it is, by the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lineage: Option<Lineage>,
}

/// How far a generation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Prepared, perhaps on its way.
    Pending,
    /// Confirmed and current.
    Committed,
    /// Was confirmed; a later one took its place.
    Superseded,
    /// Did not hold.
    Failed,
}

/// A generation, as its folder's record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Its number.
    pub generation: u32,
    /// The top distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its release, as hex.
    pub release: String,
    /// Its publisher's id, as hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// How far it came.
    pub state: Standing,
    /// Why it failed.
    pub why: Option<String>,
    /// The agreed plan's hash.
    pub plan: String,
    /// Promises that this machine could not keep when it was agreed to: the owner gave them up.
    #[serde(default)]
    pub reduced: Vec<Reduced>,
    /// What it may do that the one before it might not: its owner agreed to that.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// The generation before it.
    pub previous: Option<u32>,
    /// The data of this generation comes back with it: a rollback to an older data layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<u32>,
    /// Its data comes from a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_backup: Option<FromBackup>,
    /// Seconds since the Unix epoch when it was prepared.
    pub made_at: u64,
    /// Secrets that were made for it and are shown once, by key.
    pub shown_once: Vec<String>,
    /// Results of its last confirmation.
    pub tests: Vec<TestResult>,
    /// Seconds that each effect took.
    pub phases: BTreeMap<String, f64>,
}

impl GenerationRecord {
    /// Its release; why not, when that is no id.
    pub(super) fn release(&self) -> std::result::Result<ReleaseId, String> {
        self.release.parse().map_err(|e| format!("{e}"))
    }
}

/// What a test said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// The role's key.
    pub role: String,
    /// It passed.
    pub ok: bool,
    /// From the first try to the last.
    pub seconds: f64,
    /// What was seen last, when it failed.
    pub output: String,
}

impl Place {
    pub(super) fn read_state(&self) -> Result<State> {
        Ok(durable::read_json(&self.state())?.unwrap_or_default())
    }
    pub(super) fn change_state(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let before = self.read_state()?;
        let mut state = before.clone();
        change(&mut state);
        if state == before && self.state().exists() {
            return Ok(());
        }
        durable::write_json(&self.state(), &state)
    }
    pub(super) fn read_ports(&self) -> Result<Numbers> {
        Ok(durable::read_json(&self.ports())?.unwrap_or_default())
    }
    pub(super) fn read_volume_facts(&self) -> Result<VolumeFacts> {
        Ok(durable::read_json(&self.volume_facts())?.unwrap_or_default())
    }
    pub(super) fn change_volume_facts(&self, change: impl FnOnce(&mut VolumeFacts)) -> Result<()> {
        let before = self.read_volume_facts()?;
        let mut facts = before.clone();
        change(&mut facts);
        if facts == before {
            return Ok(());
        }
        durable::write_json(&self.volume_facts(), &facts)
    }
    /// Inner numbers by generation and key.
    pub(super) fn read_inner_ports(&self) -> Result<BTreeMap<u32, Numbers>> {
        Ok(durable::read_json(&self.inner_ports())?.unwrap_or_default())
    }
    /// The record of a generation that must exist.
    pub(super) fn record(&self, number: u32) -> Result<GenerationRecord> {
        let missing = || DeviceError::NoGeneration { name: self.name.clone(), number };
        durable::read_json(&self.generation(number).record())?.ok_or_else(missing)
    }
    pub(super) fn change_record(&self, number: u32, change: impl FnOnce(&mut GenerationRecord)) -> Result<()> {
        let before = self.record(number)?;
        let mut record = before.clone();
        change(&mut record);
        if record == before {
            return Ok(());
        }
        durable::write_json(&self.generation(number).record(), &record)
    }
    /// The instance of a generation that was staged.
    pub(super) fn instance(&self, number: u32) -> Result<Instance> {
        let missing = || DeviceError::NoGeneration { name: self.name.clone(), number };
        durable::read_json(&self.generation(number).instance())?.ok_or_else(missing)
    }
    /// The instance of a generation as what comes after it finds it: with the layouts of data that components left here which
    /// it does not have. One that comes back to that data is measured by it.
    pub(super) fn instance_before(&self, number: u32) -> Result<Instance> {
        let mut instance = self.instance(number)?;
        for (component, epoch) in self.read_volume_facts()?.epochs {
            instance.epochs.entry(component).or_insert(epoch);
        }
        Ok(instance)
    }
    /// The release and answers that a generation is made from.
    pub(super) fn inputs(&self, number: u32) -> Result<(ReleaseId, Answers)> {
        let folder = self.generation(number);
        let release = self.record(number)?.release();
        let release = release.map_err(|why| DeviceError::Damaged { path: folder.record(), why })?;
        Ok((release, read_answers(&folder.answers())?))
    }
}

impl Folder {
    pub(super) fn write_answers(&self, answers: &Answers) -> Result<()> {
        let path = self.answers();
        let text =
            toml::to_string(answers).map_err(|e| DeviceError::Damaged { path: path.clone(), why: e.to_string() })?;
        durable::write(&path, text.as_bytes(), 0o600)
    }
}

fn read_answers(path: &Path) -> Result<Answers> {
    let text = std::fs::read_to_string(path).map_err(io("read", path))?;
    toml::from_str(&text).map_err(|e| DeviceError::Damaged { path: path.into(), why: e.to_string() })
}
