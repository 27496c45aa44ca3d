//! Logs of services, from their beginning, and onward as they grow. Invariant: bounded memory: lines are read when they
//! are asked for, and a line longer than [`LINE_BYTES`] comes in pieces. A reader that is slower than the keeper's turning
//! of files misses nothing that is still on the disk.

use super::{
    Device,
    error::{DeviceError, Result, io},
    readable,
};
use softservice_protocol::instance::ServiceSpec;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tokio::io::unix::AsyncFd;

/// The longest piece of a line.
const LINE_BYTES: u64 = 64 << 10;
/// Endings of a log's files, newest first; see the keeper.
const NAMES: [&str; 3] = ["", ".1", ".2"];

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LogLine {
    /// The service that wrote it.
    pub service: String,
    /// Its text, without the line end; bytes that are not UTF-8 are replaced.
    pub line: String,
}

/// Lines of one softservice's services.
#[derive(Debug)]
pub struct Logs {
    sources: Vec<Source>,
    follow: Option<AsyncFd<OwnedFd>>,
}

#[derive(Debug)]
struct Source {
    service: String,
    path: PathBuf,
    reading: Option<Reading>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

/// The file that is read now, whatever it is called meanwhile.
#[derive(Debug)]
struct Reading {
    reader: BufReader<File>,
    /// Not given to another file while this one is open.
    inode: u64,
    /// The keeper has begun another file since: what is here now is all that will ever be.
    complete: bool,
}

impl Device {
    /// The lines that services of a softservice wrote: those of the current generation, or of the last that failed when none is.
    /// With `follow`, [`Logs::next`] waits for more.
    ///
    /// # Errors
    /// There is no such softservice or service.
    pub async fn logs(&self, name: &str, service: Option<&str>, follow: bool) -> Result<Logs> {
        let slot = self.existing(name)?;
        let place = &slot.place;
        let number = match place.current_number()? {
            Some(number) => number,
            None => place.numbers()?.into_iter().max().unwrap_or(0),
        };
        let instance = place.instance(number)?;
        let course = place.course(number)?;
        let from = |role: &str| place.generation(course.runs_from(role, number));
        let wanted = |s: &ServiceSpec| service.is_none_or(|w| w == s.name);
        let services: Vec<&ServiceSpec> = instance.services.iter().filter(|s| wanted(s)).collect();
        let source = |s: &&ServiceSpec| Source::new(s.name.clone(), from(&s.role).log(&s.name));
        let sources: Vec<Source> = services.iter().map(source).collect();
        if let (Some(service), true) = (service, sources.is_empty()) {
            let known: Vec<&str> = instance.services.iter().map(|s| s.name.as_str()).collect();
            return Err(DeviceError::NoService { name: name.into(), service: service.into(), known: known.join(", ") });
        }
        let folders: BTreeSet<PathBuf> = services.iter().map(|s| from(&s.role).logs()).collect();
        let watch =
            || readable::changes(folders.iter().map(PathBuf::as_path)).map_err(io("watch", place.generations()));
        let follow = if follow { Some(watch()?) } else { None };
        Ok(Logs { sources, follow })
    }

    /// The end of what the services that a generation started wrote, migrations too: why it failed.
    ///
    /// # Errors
    /// There is no such generation.
    pub async fn last_words(&self, name: &str, number: u32, lines: usize) -> Result<Vec<LogLine>> {
        let slot = self.existing(name)?;
        let folder = slot.place.generation(number);
        let instance = slot.place.instance(number)?;
        let migrations = instance.migrate.iter().map(super::migrate::called);
        let names = migrations.chain(instance.services.iter().map(|s| s.name.clone()));
        let words = |name: String| {
            let lines = tail(&folder.log(&name), lines);
            lines.into_iter().map(move |line| LogLine { service: name.clone(), line })
        };
        Ok(names.flat_map(words).collect())
    }
}

/// The last lines of a log's newest file; none when there is no log.
pub(super) fn tail(path: &Path, lines: usize) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
    last.reverse();
    last
}

impl Logs {
    /// The next line; none at the end, which does not come when following.
    ///
    /// # Errors
    /// A log cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            for source in &mut self.sources {
                if let Some(line) = source.next()? {
                    return Ok(Some(line));
                }
            }
            let Some(follow) = &self.follow else {
                return Ok(self.sources.iter_mut().find_map(Source::rest));
            };
            readable::changed(follow).await.map_err(io("watch", "the logs"))?;
        }
    }
}

impl Source {
    fn new(service: String, path: PathBuf) -> Self {
        Self { service, path, reading: None, partial: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            let Some(reading) = &mut self.reading else {
                self.reading = self.files()?.into_iter().next();
                if self.reading.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let room = LINE_BYTES.saturating_sub(self.partial.len() as u64);
            let read = (&mut reading.reader)
                .take(room)
                .read_until(b'\n', &mut self.partial)
                .map_err(io("read", &self.path))?;
            if self.partial.last() == Some(&b'\n') || self.partial.len() as u64 >= LINE_BYTES {
                return Ok(self.rest());
            }
            match (read, reading.complete, reading.inode) {
                (1.., ..) => {}
                (0, true, inode) => {
                    let Some(next) = self.after(inode)? else { return Ok(None) };
                    self.reading = Some(next);
                }
                (0, false, inode) if newest(&self.path).is_none_or(|newest| newest == inode) => return Ok(None),
                // Between our reading and the turning something may have been added: once more, to the real end.
                (0, false, _) => reading.complete = true,
            }
        }
    }

    /// Files of this log that are there, oldest first.
    fn files(&self) -> Result<Vec<Reading>> {
        let mut files: Vec<Reading> = Vec::new();
        // Newest first: should the keeper turn in between, a file is met twice instead of never.
        for path in NAMES.map(|end| PathBuf::from(format!("{}{end}", self.path.display()))) {
            match File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file))) {
                Ok((inode, _)) if files.iter().any(|f| f.inode == inode) => {}
                Ok((inode, file)) => files.push(Reading { reader: BufReader::new(file), inode, complete: false }),
                // Not started yet, never turned, or being turned.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io("open", path)(e)),
            }
        }
        files.reverse();
        Ok(files)
    }

    /// The file that was begun after this one; the oldest when so many were begun that this one is gone.
    fn after(&self, inode: u64) -> Result<Option<Reading>> {
        let mut files = self.files()?;
        let next = files.iter().position(|f| f.inode == inode).map_or(0, |at| at + 1);
        Ok((next < files.len()).then(|| files.swap_remove(next)))
    }

    fn rest(&mut self) -> Option<LogLine> {
        if self.partial.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned();
        Some(LogLine { service: self.service.clone(), line })
    }
}

/// Which file the log's name stands for now.
fn newest(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.ino())
}

#[cfg(test)]
mod tests {
    use super::{super::keeper::Log, *};

    fn numbers(source: &mut Source) -> Vec<u32> {
        let lines = std::iter::from_fn(|| source.next().expect("readable"));
        lines.map(|l| l.line.parse().unwrap_or_else(|_| panic!("{:?} is no whole line", l.line))).collect()
    }

    #[test]
    fn a_reader_misses_nothing_that_is_on_the_disk_however_often_files_turn_between_two_looks() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.log");
        let mut source = Source::new("x".into(), path.clone());
        assert!(numbers(&mut source).is_empty(), "nothing is written yet");
        let mut log = Log::open(&path, 200).expect("a log");
        let mut seen = Vec::new();
        // 20 lines a file: looks come within a file, after one turning and after two.
        for (look, step) in (0..200).zip([1, 7, 19, 20, 21, 33].into_iter().cycle()) {
            for _ in 0..step {
                let next = seen.len() as u32;
                log.write(format!("{next:>9}\n").replace(' ', "0").as_bytes());
                seen.push(next);
            }
            let read = numbers(&mut source);
            assert_eq!(read, seen[seen.len() - step..], "look {look}");
        }
        let mut late = Source::new("x".into(), path);
        let read = numbers(&mut late);
        assert_eq!(read, seen[seen.len() - read.len()..], "whoever comes later sees the newest without a gap");
        assert!(read.len() >= 40, "two whole files at least: {}", read.len());
    }

    #[test]
    fn a_line_longer_than_a_file_comes_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.log");
        let mut log = Log::open(&path, 100).expect("a log");
        for piece in ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d\n".into()] {
            log.write(piece.as_bytes());
        }
        let line = Source::new("x".into(), path).next().expect("readable").expect("a line").line;
        assert_eq!(line, format!("{}{}{}d", "a".repeat(60), "b".repeat(60), "c".repeat(60)));
    }
}
