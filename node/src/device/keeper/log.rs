//! A service's log: its raw output with a line of ours where it started and ended. Invariant: at most
//! [`FILES`] files of about [`FILE_BYTES`] each, however much a service says, and a file begins with a line's beginning
//! unless that line alone fills files.

use super::say;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A file's size after which a new one is begun.
pub(super) const FILE_BYTES: u64 = 8 << 20;
/// Files kept: `X.log`, `X.log.1`, `X.log.2`.
const FILES: u32 = 3;

/// An open log.
#[derive(Debug)]
pub(in crate::device) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    /// The last byte written ended a line.
    at_start: bool,
}

impl Log {
    /// Opens or makes it.
    pub(in crate::device) fn open(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
        let size = file.metadata()?.len();
        // An earlier keeper may have been killed in the middle of a line.
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1)?;
        }
        Ok(Self { path: path.into(), file, size, limit, at_start: last == [b'\n'] })
    }

    /// Adds output. A full disk loses output, never the service: the keeper's own log says so.
    pub(in crate::device) fn write(&mut self, bytes: &[u8]) {
        if self.size >= self.limit {
            let line_ends = bytes.iter().position(|b| *b == b'\n');
            match line_ends {
                _ if self.at_start => self.turn(),
                Some(end) => {
                    let (line, rest) = bytes.split_at(end + 1);
                    self.put(line);
                    self.turn();
                    return self.put(rest);
                }
                // Somebody who never ends a line must not fill the disk.
                None if self.size >= 2 * self.limit => self.turn(),
                None => {}
            }
        }
        self.put(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(e) => say(format_args!("keeper: write {}: {e}", self.path.display())),
        }
        if let Some(last) = bytes.last() {
            self.at_start = *last == b'\n';
        }
    }

    /// Adds a line of the keeper's own.
    pub(super) fn note(&mut self, what: &str) {
        let start = if self.at_start { "" } else { "\n" };
        self.write(format!("{start}{OURS}{what}\n").as_bytes());
    }

    fn turn(&mut self) {
        let name = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..FILES - 1).rev() {
            let _ = std::fs::rename(name(n), name(n + 1));
        }
        let _ = std::fs::rename(&self.path, name(1));
        match OpenOptions::new().append(true).create(true).open(&self.path) {
            Ok(file) => (self.file, self.size) = (file, 0),
            Err(e) => say(format_args!("keeper: open {}: {e}", self.path.display())),
        }
    }
}

/// The last line that the service, or its sandbox, wrote: near the end of the file, or nothing.
pub(super) fn last_line(path: &Path) -> String {
    let Ok(file) = File::open(path) else { return String::new() };
    let size = file.metadata().map_or(0, |m| m.len());
    let mut end = [0; 4 << 10];
    let read = file.read_at(&mut end, size.saturating_sub(4 << 10)).unwrap_or(0);
    let text = String::from_utf8_lossy(end.get(..read).unwrap_or_default()).into_owned();
    text.lines().rev().find(|l| !l.is_empty() && !l.starts_with(OURS)).unwrap_or_default().to_owned()
}

/// The beginning of our own lines.
const OURS: &str = "-- softservice: ";

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
