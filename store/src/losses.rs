//! What the log of records lost, for as long as nobody has said that it is dealt with. Invariant: a loss is written down
//! durably before the log is cut, replaced or written anew, so that no restart and no check makes it forgotten; only an
//! acknowledgement does.
//!
//! Objects need nothing like this: what a damaged one is called stands in its name, and a whole one heals it. Which
//! records a damaged piece of the log held, nobody can tell from the log.

use crate::{
    contract::{Damage, StoreError},
    tree,
};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// Losses that are told one by one; a disk that loses more than these has told enough.
const MOST: usize = 64;

/// The list and its file: one loss a line, for people.
#[derive(Debug)]
pub(crate) struct Losses {
    path: PathBuf,
    /// The log that lost them.
    log: PathBuf,
    known: Vec<String>,
}

impl Losses {
    /// Reads what earlier lives wrote down.
    pub(crate) fn open(logs: &Path) -> Result<Self, StoreError> {
        let path = logs.join("losses");
        let known = match std::fs::read(&path) {
            // A flipped bit costs a letter: that something was lost is told all the same.
            Ok(bytes) => String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(StoreError::io("read", &path, e)),
        };
        Ok(Self { path, log: logs.join("records"), known })
    }
    /// Writes a loss down; returns when it would survive a power cut. The same one twice is one.
    pub(crate) fn note(&mut self, what: &str) -> Result<(), StoreError> {
        let line = what.replace('\n', " ");
        if self.known.len() >= MOST || self.known.contains(&line) {
            return Ok(());
        }
        tracing::warn!(file = %self.log.display(), "{line}");
        self.known.push(line);
        self.write()
    }
    /// What nobody has acknowledged yet.
    pub(crate) fn list(&self) -> Vec<Damage> {
        let damage = |what: &String| Damage { file: self.log.clone(), object: None, what: what.clone() };
        self.known.iter().map(damage).collect()
    }
    /// Forgets them: what could be done was done.
    pub(crate) fn acknowledge(&mut self) -> Result<(), StoreError> {
        if self.known.is_empty() {
            return Ok(());
        }
        std::fs::remove_file(&self.path).map_err(|e| StoreError::io("remove", &self.path, e))?;
        self.known.clear();
        self.sync_folder()
    }

    fn write(&self) -> Result<(), StoreError> {
        let temp = self.path.with_extension("new");
        let write = |e| StoreError::io("write", &temp, e);
        let mut file = File::create(&temp).map_err(write)?;
        file.write_all((self.known.join("\n") + "\n").as_bytes()).and_then(|()| file.sync_all()).map_err(write)?;
        std::fs::rename(&temp, &self.path).map_err(|e| StoreError::io("rename", &temp, e))?;
        self.sync_folder()
    }
    fn sync_folder(&self) -> Result<(), StoreError> {
        tree::sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}
