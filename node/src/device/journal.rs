//! The journal of a softservice: what was begun and what was done. Invariant: a line is on the disk before the effect that
//! it announces begins; a torn last line is cut off when the journal is opened, never read.
//!
//! One entry a line: 16 hex digits of BLAKE3 over the rest, a space, JSON. Readable by people when something went wrong.

use super::error::{DeviceError, Result, io};
use serde::{Deserialize, Serialize};
use softservice_protocol::io::ProvisionStep;
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Beyond this size a journal whose last life has ended is begun anew; a life writes about 4 KiB.
const JOURNAL_BYTES: u64 = 256 << 10;

/// How far a step came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    /// It is about to be done.
    Begun,
    /// It is done.
    Done,
    /// It failed; why.
    Failed(String),
    /// It failed as often as it is tried, and left nothing undone that others would stumble over: the life is over.
    GivenUp(String),
    /// It failed as often as it is tried, and leaves the softservice between two generations until the next start.
    Stuck(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) step: ProvisionStep,
    pub(super) mark: Mark,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    last: Option<Entry>,
}

impl Journal {
    /// Opens or makes the journal at `path`, cutting off a torn end.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read", path))?;
        let (last, whole) = whole(&bytes);
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "cutting a torn end off a journal");
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io("cut", path))?;
        }
        if whole as u64 > JOURNAL_BYTES && last.as_ref().is_none_or(ended) {
            file.set_len(0).and_then(|()| file.sync_all()).map_err(io("cut", path))?;
            return Ok(Self { file, path: path.into(), last: None });
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(io("seek in", path))?;
        super::durable::sync_parent(path)?;
        Ok(Self { file, path: path.into(), last })
    }

    /// Adds a line; returns when it is on the disk.
    pub(super) fn append(&mut self, step: &ProvisionStep, mark: Mark) -> Result<()> {
        let entry = Entry { step: step.clone(), mark };
        let json = serde_json::to_string(&entry)
            .map_err(|e| DeviceError::Damaged { path: self.path.clone(), why: e.to_string() })?;
        let line = format!("{} {json}\n", sum(json.as_bytes()));
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()).map_err(io("write", &self.path))?;
        self.last = Some(entry);
        Ok(())
    }

    /// The last step of a life that has not ended.
    pub(super) fn unfinished(&self) -> Option<&ProvisionStep> {
        self.last.as_ref().filter(|e| !ended(e)).map(|e| &e.step)
    }

    /// Whether that step was given up, with work undone.
    pub(super) fn is_stuck(&self) -> bool {
        self.last.as_ref().is_some_and(|e| matches!(e.mark, Mark::Stuck(_)))
    }
}

fn ended(entry: &Entry) -> bool {
    matches!(entry.mark, Mark::GivenUp(_)) || (entry.mark == Mark::Done && entry.step.effect.ends_life())
}

fn sum(json: &[u8]) -> String {
    blake3::hash(json).to_hex().chars().take(16).collect()
}

/// The last good entry, and how many bytes are good.
fn whole(bytes: &[u8]) -> (Option<Entry>, usize) {
    let (mut last, mut good) = (None, 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let Some(entry) = entry(line) else { break };
        last = Some(entry);
        good += line.len();
    }
    (last, good)
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (found, json) = line.split_once(' ')?;
    (found == sum(json.as_bytes())).then(|| serde_json::from_str(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::io::{Effect, Generation};

    fn step(effect: Effect) -> ProvisionStep {
        ProvisionStep { generation: Generation { name: "shelf".into(), number: 2 }, previous: Some(1), effect }
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_tore() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).expect("open");
        journal.append(&step(Effect::Stage), Mark::Done).expect("append");
        let good = std::fs::metadata(&path).expect("a file").len();
        journal.append(&step(Effect::Point), Mark::Begun).expect("append");
        let bytes = std::fs::read(&path).expect("bytes");
        for end in good as usize..bytes.len() {
            std::fs::write(&path, &bytes[..end]).expect("tear");
            let mut again = Journal::open(&path).expect("open a torn journal");
            assert_eq!(again.unfinished(), Some(&step(Effect::Stage)), "torn at {end}");
            again.append(&step(Effect::Start), Mark::Begun).expect("append after a tear");
            assert_eq!(Journal::open(&path).expect("open").unfinished(), Some(&step(Effect::Start)));
        }
    }

    #[test]
    fn a_flipped_bit_ends_what_is_believed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).expect("open");
        journal.append(&step(Effect::Stage), Mark::Done).expect("append");
        journal.append(&step(Effect::Commit), Mark::Done).expect("append");
        assert_eq!(journal.unfinished(), None, "a committed life is over");
        let mut bytes = std::fs::read(&path).expect("bytes");
        let at = bytes.len() - 10;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("flip");
        assert_eq!(Journal::open(&path).expect("open").unfinished(), Some(&step(Effect::Stage)));
    }
}
