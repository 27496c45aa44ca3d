//! How far the log of records was durable when somebody was last told that a record is. Invariant: it is durable here before
//! anybody is told, and never further than the log: so what stands behind it was told to nobody, and whatever is missing
//! before it was lost.
//!
//! A power cut in the middle of an append and a damaged last record look the same; this tells one from the other. A cut while
//! this very file is written finds no append on its way, so a file that does not prove itself costs an honest log nothing.

use crate::{contract::StoreError, tree};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"softtold";
const LEN: usize = 56;

/// The file, open.
#[derive(Debug)]
pub(crate) struct Told {
    path: PathBuf,
    file: File,
    /// Of which log, by its tag, and how far.
    known: Option<([u8; 8], u64)>,
}

fn encode(log: [u8; 8], end: u64) -> Vec<u8> {
    let mut out = [MAGIC.as_slice(), &log, &end.to_le_bytes()].concat();
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<([u8; 8], u64)> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let (log, end) = body.strip_prefix(MAGIC.as_slice())?.split_first_chunk::<8>()?;
    Some((*log, u64::from_le_bytes(end.try_into().ok()?)))
}

impl Told {
    /// Opens or makes the file of this log. One that does not prove itself knows nothing; says whether there was such.
    pub(crate) fn open(log: &Path) -> Result<(Self, bool), StoreError> {
        let path = log.with_extension("told");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| StoreError::io("open", &path, e))?;
        let bytes = std::fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
        if bytes.is_empty() {
            tree::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        }
        let known = decode(&bytes);
        let damaged = known.is_none() && !bytes.is_empty();
        Ok((Self { file, known, path }, damaged))
    }
    /// How far this log was durable, if that is known of it.
    pub(crate) fn of(&self, log: [u8; 8]) -> Option<u64> {
        self.known.filter(|(of, _)| *of == log).map(|(_, end)| end)
    }
    /// Notes how far the log is durable; returns when that would survive a power cut.
    pub(crate) fn note(&mut self, log: [u8; 8], end: u64) -> Result<(), StoreError> {
        if self.of(log) == Some(end) {
            return Ok(());
        }
        self.known = None;
        let write = |e| StoreError::io("write", &self.path, e);
        self.file.write_all_at(&encode(log, end), 0).map_err(write)?;
        if self.file.metadata().map_err(write)?.len() != LEN as u64 {
            self.file.set_len(LEN as u64).map_err(write)?;
        }
        self.file.sync_data().map_err(|e| StoreError::io("sync", &self.path, e))?;
        self.known = Some((log, end));
        Ok(())
    }
    /// Whether the file by this name says what it should; written anew if not.
    pub(crate) fn check(&mut self) -> Result<bool, StoreError> {
        let Some((log, end)) = self.known else { return Ok(true) };
        if std::fs::read(&self.path).is_ok_and(|bytes| bytes.len() == LEN && decode(&bytes) == self.known) {
            return Ok(true);
        }
        (*self, _) = Self::open(&self.path.with_extension(""))?;
        self.known = None;
        self.note(log, end)?;
        Ok(false)
    }
    /// From here on it cannot be written any more.
    #[cfg(test)]
    pub(crate) fn fail(&mut self) {
        self.file = File::open(&self.path).expect("it is there");
    }
    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_prove_itself_or_names_another_log_knows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("records");
        let (mut told, _) = Told::open(&log).unwrap();
        assert_eq!(told.of([1; 8]), None);
        told.note([1; 8], 9000).unwrap();
        assert_eq!((told.of([1; 8]), told.of([2; 8])), (Some(9000), None));
        let (told, damaged) = Told::open(&log).unwrap();
        assert!(!damaged);
        assert_eq!((told.of([1; 8]), told.of([2; 8])), (Some(9000), None));
        let good = std::fs::read(told.path()).unwrap();
        assert_eq!(good.len(), LEN);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes), None);
        }
        for cut in 0..good.len() {
            assert_eq!(decode(&good[..cut]), None);
        }
    }

    #[test]
    fn a_check_writes_anew_what_became_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("records");
        let (mut told, _) = Told::open(&log).unwrap();
        told.note([1; 8], 9000).unwrap();
        assert!(told.check().unwrap());
        std::fs::write(told.path(), b"what a careless process left in this place, longer than it was").unwrap();
        assert!(!told.check().unwrap() && told.check().unwrap());
        std::fs::remove_file(told.path()).unwrap();
        assert!(!told.check().unwrap() && told.check().unwrap());
        told.note([1; 8], 9100).unwrap();
        assert_eq!(Told::open(&log).unwrap().0.of([1; 8]), Some(9100));
    }
}
