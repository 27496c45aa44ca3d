//! Where things of one softservice are. Invariant: every path that the device touches is made here, from names that were
//! checked; nothing else joins paths below a home.
//!
//! ```text
//! softservices/NAME/state.json            what its owner wants of it
//!                  ports.json             port numbers by key, kept over generations
//!                  journal                what was begun and done
//!                  current -> generations/N
//!                  generations/N/record.json, answers.toml, instance.json, tree/KEY/, files/ROLE/, logs/
//!                  volumes/KEY/  secrets/KEY  run/N/SERVICE/  run/N-rehearsal/SERVICE/  home/
//! ```

use super::{
    durable,
    error::{DeviceError, Result, io},
};
use softservice_protocol::{instance::Assignment, name};
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
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    pub(super) fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }
    pub(super) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub(super) fn current(&self) -> PathBuf {
        self.root.join("current")
    }
    pub(super) fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }
    pub(super) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
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
        for folder in [self.generations(), self.volumes(), self.secrets(), self.run(), self.home()] {
            durable::folder(&folder, 0o700)?;
        }
        Ok(())
    }
    /// Where a generation's things are, for substitution.
    pub(super) fn assignment(
        &self,
        generation: &Folder,
        kind: Kind,
        ports: BTreeMap<String, u16>,
        softservice: &str,
    ) -> Assignment {
        let text = |p: PathBuf| p.to_string_lossy().into_owned();
        Assignment {
            ports,
            inner: BTreeMap::new(),
            trees: text(generation.trees()),
            files: text(generation.files(kind)),
            volumes: text(self.volumes()),
            secrets: text(self.secrets()),
            platform: platform(),
            softservice: softservice.to_owned(),
        }
    }
    /// The keeper's folder for a service.
    pub(super) fn keeper(&self, number: u32, kind: Kind, service: &str) -> PathBuf {
        self.run().join(kind.run(number)).join(service)
    }
}

/// For real, or beside what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The generation's services.
    Live,
    /// The trial of those that can be tried apart.
    Rehearsal,
}
impl Kind {
    /// The folder's name below `run`.
    pub(super) fn run(self, number: u32) -> String {
        match self {
            Self::Live => number.to_string(),
            Self::Rehearsal => format!("{number}-rehearsal"),
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
    pub(super) fn trees(&self) -> PathBuf {
        self.path.join("tree")
    }
    pub(super) fn files(&self, kind: Kind) -> PathBuf {
        self.path.join(match kind {
            Kind::Live => "files",
            Kind::Rehearsal => "rehearsal",
        })
    }
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
    pub(super) fn log(&self, kind: Kind, service: &str) -> PathBuf {
        self.logs().join(match kind {
            Kind::Live => format!("{service}.log"),
            Kind::Rehearsal => format!("{service}.rehearsal.log"),
        })
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
