//! Logs of services, from their beginning, and onward as they grow. Invariant: bounded memory: lines are read when they
//! are asked for, and a line longer than [`LINE_BYTES`] comes in pieces.

use super::{
    Device,
    error::{DeviceError, Result, io},
    layout::Kind,
};
use rustix::fs::inotify;
use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tokio::io::unix::AsyncFd;

/// The longest piece of a line.
const LINE_BYTES: u64 = 64 << 10;
/// Older files of a log, oldest first; see the keeper.
const OLDER: [&str; 2] = [".2", ".1"];

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
    /// Files to read before `path`.
    older: VecDeque<PathBuf>,
    reader: Option<BufReader<File>>,
    /// Which file `reader` reads, when it is `path`.
    inode: Option<u64>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
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
        let folder = place.generation(number);
        let wanted = |s: &str| service.is_none_or(|w| w == s);
        let sources: Vec<Source> = instance
            .services
            .iter()
            .filter(|s| wanted(&s.name))
            .map(|s| Source::new(s.name.clone(), folder.log(Kind::Live, &s.name)))
            .collect();
        if let (Some(service), true) = (service, sources.is_empty()) {
            let known: Vec<&str> = instance.services.iter().map(|s| s.name.as_str()).collect();
            return Err(DeviceError::NoService { name: name.into(), service: service.into(), known: known.join(", ") });
        }
        let follow = if follow { Some(watch(&folder.logs())?) } else { None };
        Ok(Logs { sources, follow })
    }

    /// The end of what a generation's services wrote, rehearsals too: why it failed.
    ///
    /// # Errors
    /// There is no such generation.
    pub async fn last_words(&self, name: &str, number: u32, lines: usize) -> Result<Vec<LogLine>> {
        let slot = self.existing(name)?;
        let folder = slot.place.generation(number);
        let instance = slot.place.instance(number)?;
        let mut words = Vec::new();
        for service in &instance.services {
            for kind in [Kind::Rehearsal, Kind::Live] {
                let path = folder.log(kind, &service.name);
                let Ok(text) = std::fs::read(&path) else { continue };
                let text = String::from_utf8_lossy(&text);
                let last: Vec<&str> = text.lines().rev().take(lines).collect();
                let line = |l: &&str| LogLine { service: service.name.clone(), line: (*l).to_owned() };
                words.extend(last.iter().rev().map(line));
            }
        }
        Ok(words)
    }
}

fn watch(folder: &Path) -> Result<AsyncFd<OwnedFd>> {
    use inotify::{CreateFlags, WatchFlags};
    let made = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).and_then(|fd| {
        inotify::add_watch(&fd, folder, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        Ok(fd)
    });
    let fd = made.map_err(std::io::Error::from).map_err(io("watch", folder))?;
    super::readable::readable(fd).map_err(io("watch", folder))
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
            let mut ready = follow.readable().await.map_err(io("watch", "the logs"))?;
            // What happened does not matter, that something did is enough: the logs are read again.
            let mut events = [0; 4096];
            while matches!(rustix::io::read(follow.get_ref(), &mut events), Ok(1..)) {}
            ready.clear_ready();
        }
    }
}

impl Source {
    fn new(service: String, path: PathBuf) -> Self {
        let older = OLDER.iter().map(|end| PathBuf::from(format!("{}{end}", path.display())));
        let older = older.filter(|p| p.exists()).collect();
        Self { service, path, older, reader: None, inode: None, partial: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            if self.reader.is_none() && !self.open()? {
                return Ok(None);
            }
            let Some(reader) = &mut self.reader else { return Ok(None) };
            let room = LINE_BYTES.saturating_sub(self.partial.len() as u64);
            let read = reader.take(room).read_until(b'\n', &mut self.partial).map_err(io("read", &self.path))?;
            if self.partial.last() == Some(&b'\n') || self.partial.len() as u64 >= LINE_BYTES {
                return Ok(self.rest());
            }
            if read == 0 && !self.turned() {
                return Ok(None);
            }
        }
    }

    /// Whether the file at its end is not the newest any more; then it is left.
    fn turned(&mut self) -> bool {
        let newest = std::fs::metadata(&self.path).ok().map(|m| m.ino());
        let turned = self.inode.is_none() || (newest.is_some() && newest != self.inode);
        if turned {
            self.reader = None;
        }
        turned
    }

    fn open(&mut self) -> Result<bool> {
        let (path, newest) = match self.older.pop_front() {
            Some(path) => (path, false),
            None => (self.path.clone(), true),
        };
        match File::open(&path) {
            Ok(file) => {
                self.inode = newest.then(|| file.metadata().ok().map(|m| m.ino())).flatten();
                self.reader = Some(BufReader::new(file));
                Ok(true)
            }
            // Not started yet, or just turned over.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(!newest && self.open()?),
            Err(e) => Err(io("open", path)(e)),
        }
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
