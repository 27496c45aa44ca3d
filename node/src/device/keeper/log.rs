//! A service's log: its raw output with a line of ours where it started and ended. Invariant: at most
//! [`FILES`] files of about [`FILE_BYTES`] each, however much a service says.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// A file's size after which a new one is begun.
pub(super) const FILE_BYTES: u64 = 8 << 20;
/// Files kept: `X.log`, `X.log.1`, `X.log.2`.
const FILES: u32 = 3;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    /// The last byte written ended a line.
    at_start: bool,
}

impl Log {
    /// Opens or makes it.
    pub(super) fn open(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.into(), file, size, limit, at_start: true })
    }

    /// Adds output. A full disk loses output, never the service: the keeper's own log says so.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.size >= self.limit {
            self.turn();
        }
        match self.file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(e) => eprintln!("keeper: write {}: {e}", self.path.display()),
        }
        self.at_start = bytes.last().is_none_or(|b| *b == b'\n');
    }

    /// Adds a line of the keeper's own.
    pub(super) fn note(&mut self, what: &str) {
        let start = if self.at_start { "" } else { "\n" };
        self.write(format!("{start}-- softservice: {what}\n").as_bytes());
    }

    fn turn(&mut self) {
        let name = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..FILES - 1).rev() {
            let _ = std::fs::rename(name(n), name(n + 1));
        }
        let _ = std::fs::rename(&self.path, name(1));
        match OpenOptions::new().append(true).create(true).open(&self.path) {
            Ok(file) => (self.file, self.size) = (file, 0),
            Err(e) => eprintln!("keeper: open {}: {e}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_files_are_kept_and_the_newest_line_is_in_the_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.log");
        let mut log = Log::open(&path, 100).expect("open");
        for n in 0..100 {
            log.write(format!("line {n:>10}\n").as_bytes());
        }
        log.note("ended");
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).expect("list").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let newest = std::fs::read_to_string(&path).expect("read");
        assert!(newest.contains("line         99\n-- softservice: ended\n"), "{newest}");
    }
}
