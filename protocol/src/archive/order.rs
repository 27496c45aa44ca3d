//! Which record may follow which: one state machine for writer and reader, so that nothing is written that cannot be
//! read. Invariant: it remembers the header, the open folders and the last entry, and nothing that grows with the archive.

use super::{ArchiveError, Entry, Header, Kind, PIECE, Part, Record};

/// How far a stream has come.
#[derive(Debug, Default)]
pub(super) struct Order {
    header: Option<Header>,
    last: Option<Entry>,
    /// The open folders' paths in the part of `last`, outermost first.
    folders: Vec<Vec<u8>>,
    /// Bytes that the open file still misses, holes included.
    open: Option<u64>,
    /// Shared files so far.
    shared: u64,
    entries: u64,
    bytes: u64,
    ended: bool,
}

fn wrong(what: &'static str) -> ArchiveError {
    ArchiveError::Order { what }
}

impl Order {
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// For people: where in the archive something is wrong.
    pub(super) fn place(&self) -> String {
        let Some(last) = &self.last else { return "its header".into() };
        let part = self.header.as_ref().and_then(|h| h.parts.get(usize::from(last.part)));
        let part = part.map_or_else(String::new, ToString::to_string);
        format!("{part}/{}", String::from_utf8_lossy(&last.path))
    }

    /// Takes the next record.
    pub(super) fn accept(&mut self, record: &Record) -> Result<(), ArchiveError> {
        match (record, self.open) {
            _ if self.ended => Err(ArchiveError::Tail),
            (Record::Header(header), _) => self.header(header),
            _ if self.header.is_none() => Err(wrong("it does not begin with a header")),
            (Record::Entry(entry), None) => self.entry(entry),
            (Record::Entry(_) | Record::End(_), Some(_)) => Err(wrong("a file has no end")),
            (Record::Data(piece), Some(left)) => self.data(piece.len(), left),
            (Record::Hole(0), _) => Err(wrong("a hole is empty")),
            (Record::Hole(length), Some(left)) => self.grow(*length, left),
            (Record::Hash(_), Some(0)) => {
                self.open = None;
                Ok(())
            }
            (Record::Hash(_), Some(_)) => Err(wrong("a file is shorter than it said")),
            (Record::Data(_) | Record::Hole(_) | Record::Hash(_), None) => Err(wrong("data belongs to no file")),
            (Record::End(_), None) => self.end(),
        }
    }

    fn header(&mut self, header: &Header) -> Result<(), ArchiveError> {
        if self.header.is_some() {
            return Err(wrong("it has two headers"));
        }
        header.check().map_err(|rule| ArchiveError::Header { rule })?;
        self.header = Some(header.clone());
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let place = || String::from_utf8_lossy(&entry.path).chars().take(120).collect();
        let broken = |rule| ArchiveError::Entry { path: place(), rule };
        entry.check().map_err(broken)?;
        let part = self.header.as_ref().and_then(|h| h.parts.get(usize::from(entry.part)));
        let Some(part) = part else { return Err(broken("is in a part that the header does not name")) };
        let plain = matches!(entry.kind, Kind::Folder | Kind::File { shared: false, .. });
        if !plain && matches!(part, Part::Secrets | Part::Overlay) {
            // The node reads these itself, and shows them to programs: a link would lead it anywhere.
            return Err(broken("is neither a file nor a folder, among secrets or own changes"));
        }
        if self.last.as_ref().is_some_and(|last| last.walk_order(entry).is_ge()) {
            return Err(broken("is there twice, or out of order"));
        }
        match entry.parent() {
            None => {
                let next = self.last.as_ref().map_or(0, |last| last.part + 1);
                if entry.part != next {
                    return Err(broken("leaves a part out"));
                }
                self.folders.clear();
            }
            Some(parent) => {
                while self.folders.last().is_some_and(|open| open != parent) {
                    self.folders.pop();
                }
                if self.folders.is_empty() || self.last.as_ref().is_none_or(|last| last.part != entry.part) {
                    return Err(broken("is in a folder that did not come before it"));
                }
            }
        }
        self.entries += 1;
        if self.entries > self.header.as_ref().map_or(0, |h| h.entries) {
            return Err(wrong("it has more entries than its header says"));
        }
        match &entry.kind {
            Kind::Folder => self.folders.push(entry.path.clone()),
            Kind::File { size, shared } => {
                self.open = Some(*size);
                self.shared += u64::from(*shared);
            }
            Kind::Again(of) if *of >= self.shared => return Err(broken("is another name of a file that is not there")),
            Kind::Again(_) | Kind::Link(_) | Kind::Pipe => {}
        }
        self.last = Some(entry.clone());
        Ok(())
    }

    fn data(&mut self, length: usize, left: u64) -> Result<(), ArchiveError> {
        if length == 0 || length > PIECE {
            return Err(wrong("a piece of a file is empty or too long"));
        }
        self.bytes += length as u64;
        if self.bytes > self.header.as_ref().map_or(0, |h| h.bytes) {
            return Err(wrong("it has more data than its header says"));
        }
        self.grow(length as u64, left)
    }

    fn grow(&mut self, length: u64, left: u64) -> Result<(), ArchiveError> {
        self.open = Some(left.checked_sub(length).ok_or_else(|| wrong("a file is longer than it said"))?);
        Ok(())
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let Some(header) = &self.header else { return Err(wrong("it has no header")) };
        let next = self.last.as_ref().map_or(0, |last| usize::from(last.part) + 1);
        if next != header.parts.len() {
            return Err(wrong("a part that its header names is not there"));
        }
        if (self.entries, self.bytes) != (header.entries, header.bytes) {
            return Err(wrong("it has less in it than its header says"));
        }
        self.ended = true;
        Ok(())
    }
}
