//! Where things of one softservice are. Invariant: every path that the device touches is made here, from names that were
//! checked; nothing else joins paths below a home.
//!
//! ```text
//! softservices/NAME/state.json            what its owner wants of it
//!                  ports.json             public port numbers by key, kept over generations
//!                  inner.json             inner port numbers by generation and key
//!                  volumes.json           what is known of volumes, kept when the softservice is removed
//!                  journal                what was begun and done
//!                  removal.json           it is being removed; with or without data
//!                  room                   bytes kept for the way back
//!                  current -> generations/N
//!                  generations/N/record.json, answers.toml, instance.json, course.json, files/ROLE/, logs/
//!                  generations/N/tree/KEY -> ../../../trees/MANIFEST
//!                  trees/MANIFEST/        trees by the id of their manifest, for all generations
//!                  volumes/KEY/  secrets/KEY  home/
//!                  snapshots/N/KEY        data as generation N left it, with snapshot.json
//!                  run/N/SERVICE/         keepers of services that generation N started
//!                  run/front/             the front
//! ```

use super::{
    durable,
    error::{DeviceError, Result, io},
};
use softservice_protocol::{id::ObjectId, instance::Assignment, name};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The folder of one softservice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    root: PathBuf,
}

impl Place {
    pub(super) fn new(softservices: &Path, name: &str) -> Result<Self> {
        name::check(name)?;
        Ok(Self { name: name.to_owned(), root: softservices.join(name) })
    }
    /// The place, if a softservice is there.
    pub(super) fn existing(softservices: &Path, name: &str) -> Result<Self> {
        let place = Self::new(softservices, name)?;
        if place.root.is_dir() { Ok(place) } else { Err(DeviceError::Unknown { name: name.into() }) }
    }
    /// An error once its removal has begun: what is made or started then would go with it, whenever it is finished.
    pub(super) fn stays(&self) -> Result<()> {
        match self.removal().symlink_metadata() {
            Ok(_) => Err(DeviceError::Removing { name: self.name.clone() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(io("look at", self.removal())(e)),
        }
    }
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    pub(super) fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }
    pub(super) fn inner_ports(&self) -> PathBuf {
        self.root.join("inner.json")
    }
    pub(super) fn volume_facts(&self) -> PathBuf {
        self.root.join("volumes.json")
    }
    pub(super) fn removal(&self) -> PathBuf {
        self.root.join("removal.json")
    }
    pub(super) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub(super) fn room(&self) -> PathBuf {
        self.root.join("room")
    }
    pub(super) fn current(&self) -> PathBuf {
        self.root.join("current")
    }
    pub(super) fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }
    /// Trees, for all generations.
    pub(super) fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }
    /// One of them.
    pub(super) fn tree(&self, manifest: ObjectId) -> PathBuf {
        self.trees().join(manifest.to_string())
    }
    pub(super) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
    pub(super) fn volume(&self, key: &str) -> PathBuf {
        self.volumes().join(key)
    }
    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }
    pub(super) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }
    /// `$HOME` and working folder of services.
    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }
    pub(super) fn generation(&self, number: u32) -> Folder {
        Folder { number, path: self.generations().join(number.to_string()) }
    }

    /// The number that `current` points to.
    pub(super) fn current_number(&self) -> Result<Option<u32>> {
        match std::fs::read_link(self.current()) {
            Ok(target) => {
                let number = target.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
                let why = || format!("it points to {}", target.display());
                number.map(Some).ok_or_else(|| DeviceError::Damaged { path: self.current(), why: why() })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io("read", self.current())(e)),
        }
    }
    /// Numbers of all generations here, ascending.
    pub(super) fn numbers(&self) -> Result<Vec<u32>> {
        let entries = match std::fs::read_dir(self.generations()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io("list", self.generations())(e)),
        };
        let mut numbers: Vec<u32> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
    /// Makes the folders that every softservice has.
    pub(super) fn make(&self) -> Result<()> {
        durable::folder(&self.root, 0o700)?;
        let folders = [
            self.generations(),
            self.trees(),
            self.volumes(),
            self.snapshots(),
            self.secrets(),
            self.run(),
            self.home(),
        ];
        for folder in folders {
            durable::folder(&folder, 0o700)?;
        }
        Ok(())
    }
    /// Where a generation's things are, for substitution.
    pub(super) fn assignment(
        &self,
        generation: &Folder,
        ports: BTreeMap<String, u16>,
        inner: BTreeMap<String, u16>,
        softservice: &str,
    ) -> Assignment {
        let text = |p: PathBuf| p.to_string_lossy().into_owned();
        Assignment {
            ports,
            inner,
            trees: text(self.trees()),
            files: text(generation.files()),
            volumes: text(self.volumes()),
            secrets: text(self.secrets()),
            platform: platform(),
            softservice: softservice.to_owned(),
        }
    }
    /// The keeper's folder of a service that a generation started.
    pub(super) fn keeper(&self, number: u32, service: &str) -> PathBuf {
        self.run().join(number.to_string()).join(service)
    }
    /// The front's folder.
    pub(super) fn front(&self) -> PathBuf {
        self.run().join("front")
    }
    /// Everything that has a keeper here: the generation that started it, and its name.
    pub(super) fn keepers(&self) -> Vec<(u32, String)> {
        let mut keepers = Vec::new();
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder);
            entries.map(|e| e.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()).unwrap_or_default()
        };
        for number in names(&self.run()).iter().filter_map(|n| n.parse::<u32>().ok()) {
            let services = names(&self.run().join(number.to_string()));
            keepers.extend(services.into_iter().map(|service| (number, service)));
        }
        keepers.sort_unstable();
        keepers
    }
    /// Removes folders of generations that no keeper is left of.
    pub(super) fn tidy_runs(&self) {
        let Ok(entries) = std::fs::read_dir(self.run()) else { return };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            // Only empty folders can be removed so; the front's is not.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// The folder of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) number: u32,
    pub(super) path: PathBuf,
}
impl Folder {
    pub(super) fn record(&self) -> PathBuf {
        self.path.join("record.json")
    }
    pub(super) fn answers(&self) -> PathBuf {
        self.path.join("answers.toml")
    }
    pub(super) fn instance(&self) -> PathBuf {
        self.path.join("instance.json")
    }
    /// Links that say which trees it is made of, by key.
    pub(super) fn tree_links(&self) -> PathBuf {
        self.path.join("tree")
    }
    pub(super) fn course(&self) -> PathBuf {
        self.path.join("course.json")
    }
    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
    pub(super) fn log(&self, service: &str) -> PathBuf {
        self.logs().join(format!("{service}.log"))
    }
}

/// `os/arch` of this device, in the words of definitions.
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}
