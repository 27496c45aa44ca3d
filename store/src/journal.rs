//! An append-only log of records. Invariant: a record that was acknowledged is found again unless its own bytes are
//! damaged; damage costs the records it touches, never those before or after.
//!
//! Format (`DESIGN.md` 3): two equal header blocks at 0 and 4096, records from 8192 on, each
//! `mark[4] len[4] tag[16] payload[len]`. The tag is keyed with a secret of the file and covers the record's own
//! offset, so that a record inside another's payload, which a peer may have chosen, is never taken for one.

use crate::{contract::StoreError, told::Told};
use std::{
    fs::File,
    io::{Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"softlog1";
const MARK: [u8; 4] = [0xc5, b'r', b'e', b'c'];
const BLOCK: u64 = 4096;
const START: u64 = 2 * BLOCK;
const FRAME: usize = 24;
/// Longest payload: a layout of a million chunks fits.
const PAYLOAD: usize = 64 << 20;

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    key: [u8; 32],
    end: u64,
    /// Set when a sync failed: what the disk holds is unknown until the log is opened again.
    poisoned: bool,
    /// How far somebody was told that it is durable, for a log whose loss matters.
    told: Option<Told>,
}

/// Something wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// For people.
    pub(crate) what: String,
    pub(crate) cost: Cost,
}

/// What it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Records may be gone.
    Records,
    /// Nothing: it is mended already.
    Nothing,
    /// An append that did not come to its end: nobody was told that it had, and it is no damage.
    Unheard,
}

/// What a reading found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Payloads with the offset behind each.
    pub(crate) records: Vec<(u64, Vec<u8>)>,
    /// Ranges that hold no whole record, with whole ones behind them.
    pub(crate) holes: Vec<Range<u64>>,
    /// Where the last whole record ends.
    pub(crate) end: u64,
}

fn header(key: &[u8; 32]) -> Vec<u8> {
    let mut block = [MAGIC.as_slice(), key].concat();
    let sum = blake3::hash(&block);
    block.extend_from_slice(sum.as_bytes());
    block.resize(BLOCK as usize, 0);
    block
}

fn key_of(block: &[u8]) -> Option<[u8; 32]> {
    let (head, sum) = (block.get(..40)?, block.get(40..72)?);
    let good = head.starts_with(MAGIC) && blake3::hash(head).as_bytes() == sum;
    good.then(|| head[8..].try_into().ok()).flatten()
}

fn tag(key: &[u8; 32], at: u64, payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&at.to_le_bytes()).update(&(payload.len() as u64).to_le_bytes()).update(payload);
    let mut tag = [0; 16];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

/// Puts a record behind what is in `out`, whose first byte stands at `base`.
pub(crate) fn put(out: &mut Vec<u8>, key: &[u8; 32], base: u64, payload: &[u8]) {
    let at = base + out.len() as u64;
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&tag(key, at, payload));
    out.extend_from_slice(payload);
}

/// The payload of the record at `at` in a file's bytes, whose first byte stands at `base`.
fn frame<'a>(bytes: &'a [u8], base: u64, at: u64, key: &[u8; 32]) -> Option<&'a [u8]> {
    let start = usize::try_from(at - base).ok()?;
    let head = bytes.get(start..start.checked_add(FRAME)?)?;
    let len = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
    if head[..4] != MARK || len > PAYLOAD {
        return None;
    }
    let payload = bytes.get(start + FRAME..start.checked_add(FRAME + len)?)?;
    (tag(key, at, payload) == head[8..]).then_some(payload)
}

/// Reads whole records out of a file's bytes, and looks for the next one behind every damage.
pub(crate) fn scan(bytes: &[u8], base: u64, key: &[u8; 32]) -> Scan {
    let mut records = Vec::new();
    let found = visit(bytes, base, key, &mut |end, payload| records.push((end, payload.to_vec())));
    Scan { records, ..found }
}

/// The same, without keeping them: `each` hears of every record and of the offset behind it.
fn visit(bytes: &[u8], base: u64, key: &[u8; 32], each: &mut dyn FnMut(u64, &[u8])) -> Scan {
    let mut found = Scan { end: base, ..Scan::default() };
    let mut at = base;
    let stop = base + bytes.len() as u64;
    while at < stop {
        if let Some(payload) = frame(bytes, base, at, key) {
            at += (FRAME + payload.len()) as u64;
            each(at, payload);
            found.end = at;
            continue;
        }
        let next = (at + 1..stop)
            .find(|&p| bytes.get((p - base) as usize) == Some(&MARK[0]) && frame(bytes, base, p, key).is_some());
        match next {
            Some(next) => {
                found.holes.push(at..next);
                at = next;
            }
            None => break,
        }
    }
    found
}

impl Log {
    /// Opens or makes the log. A torn tail is cut off, its bytes are set aside in `aside`. `tell` hears of every flaw
    /// before anything is changed; what it cannot write down keeps the log as it is.
    pub(crate) fn open(
        path: &Path,
        aside: &Path,
        tell: &mut dyn FnMut(Flaw) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, aside, None, tell)
    }
    /// The same of a log beside which it is noted how far somebody was told that it is durable.
    pub(crate) fn open_told(
        path: &Path,
        aside: &Path,
        tell: &mut dyn FnMut(Flaw) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let (told, damaged) = Told::open(path)?;
        if damaged {
            let what = "how far somebody was told that it is durable does not add up; written anew".to_owned();
            tell(Flaw { what, cost: Cost::Nothing })?;
        }
        let mut log = Self::open_with(path, aside, Some(told), tell)?;
        if log.told.as_ref().is_some_and(|told| told.of(log.tag()) != Some(log.end)) {
            // A whole record that nobody was told of is told of from here on; after a kill it may not be on the disk yet.
            log.file.sync_data().map_err(|e| StoreError::io("sync", path, e))?;
            log.note()?;
        }
        Ok(log)
    }

    fn open_with(
        path: &Path,
        aside: &Path,
        told: Option<Told>,
        tell: &mut dyn FnMut(Flaw) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        // What a crash or a full disk left of a writing anew.
        ["new", "rewritten"].iter().for_each(|on_its_way| drop(std::fs::remove_file(path.with_extension(on_its_way))));
        if !path.exists() {
            return Self::create(path).map(|log| Self { told, ..log });
        }
        let file = File::options().read(true).write(true).open(path).map_err(|e| StoreError::io("open", path, e))?;
        let bytes = read_from(&file, path, 0)?;
        let copies =
            [bytes.get(..BLOCK as usize), bytes.get(BLOCK as usize..START as usize)].map(|b| b.and_then(key_of));
        let Some(key) = copies[0].or(copies[1]) else {
            let what = format!("both of its headers are damaged; set aside in {}, begun anew", aside.display());
            tell(Flaw { what, cost: Cost::Records })?;
            set_aside(path, aside)?;
            return Self::create(path).map(|log| Self { told, ..log });
        };
        if copies[0] != copies[1] {
            // Both were there before the file got its name, so a shorter one lost what stood behind them.
            let cut = (bytes.len() as u64) < START;
            let what = if cut { "it was cut off within its headers" } else { "one of its two headers was damaged" };
            let cost = if cut { Cost::Records } else { Cost::Nothing };
            tell(Flaw { what: format!("{what}; written anew"), cost })?;
            for at in [0, BLOCK] {
                file.write_all_at(&header(&key), at).map_err(|e| StoreError::io("write", path, e))?;
            }
            file.sync_data().map_err(|e| StoreError::io("sync", path, e))?;
        }
        let body = bytes.get(START as usize..).unwrap_or_default();
        let found = visit(body, START, &key, &mut |_, _| ());
        found.holes.iter().try_for_each(|hole| tell(hole_flaw(hole)))?;
        let mut log = Self { path: path.to_owned(), file, key, end: found.end, poisoned: false, told };
        // What a file that ends within its headers lost is told already.
        if bytes.len() as u64 >= START {
            log.cut(body.get((found.end - START) as usize..).unwrap_or_default(), aside, tell)?;
        }
        Ok(log)
    }

    /// Cuts off what stands behind the last whole record, and judges what is missing there.
    fn cut(
        &mut self,
        tail: &[u8],
        aside: &Path,
        tell: &mut dyn FnMut(Flaw) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let told = self.told.as_ref().and_then(|told| told.of(self.tag()));
        if tail.is_empty() {
            let Some(told) = told.filter(|told| self.end < *told) else { return Ok(()) };
            let what = format!("it ends at {} and was {told} bytes long: records at its end are gone", self.end);
            return tell(Flaw { what, cost: Cost::Records });
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = free_name(aside, &format!("{name}-tail-{}", self.end));
        let (torn, place) = (tail.len(), kept.display());
        // One record is appended at a time, and nothing behind it before that is noted: so what begins where the note ends
        // was never acknowledged, and is as good as never written. A whole record in between was written by somebody
        // who notes nothing.
        let flaw = if told == Some(self.end) {
            let what =
                format!("{torn} bytes of a record that never was whole, and nobody was told of; set aside as {place}");
            Flaw { what, cost: Cost::Unheard }
        } else {
            let unknown = if self.told.is_some() && told.is_none() {
                "; whether anybody was told of it is not known"
            } else {
                ""
            };
            let what = format!("{torn} bytes of a torn record at its end{unknown}; set aside as {place}");
            Flaw { what, cost: Cost::Records }
        };
        tell(flaw)?;
        std::fs::write(&kept, tail).map_err(|e| StoreError::io("write", &kept, e))?;
        let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
        cut.map_err(|e| StoreError::io("truncate", &self.path, e))
    }

    fn create(path: &Path) -> Result<Self, StoreError> {
        // Peers must not be able to guess it, see the format above.
        let mut key = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut key))
            .map_err(|e| StoreError::io("read", Path::new("/dev/urandom"), e))?;
        let write = |e: std::io::Error| StoreError::io("create", path, e);
        let temp = path.with_extension("new");
        let made = || -> std::io::Result<File> {
            let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&temp)?;
            file.write_all(&header(&key)).and_then(|()| file.write_all(&header(&key)))?;
            file.sync_all()?;
            std::fs::rename(&temp, path)?;
            Ok(file)
        };
        let file = made().map_err(|e| {
            let _ = std::fs::remove_file(&temp);
            write(e)
        })?;
        crate::tree::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { path: path.to_owned(), file, key, end: START, poisoned: false, told: None })
    }

    /// Where the next record will stand.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
    /// Tells this file from every other, also from the one that stood here before a rewriting.
    pub(crate) fn tag(&self) -> [u8; 8] {
        let digest = blake3::hash(&self.key);
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest.as_bytes()[..8]);
        tag
    }
    /// Where the first record stands.
    pub(crate) fn start() -> u64 {
        START
    }

    /// Appends records and returns when they would survive a power cut.
    pub(crate) fn append<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        if self.poisoned {
            let what = "a sync failed before; open the store again".into();
            return Err(StoreError::Damaged { path: self.path.clone(), object: None, what });
        }
        let mut out = Vec::new();
        for payload in payloads {
            if payload.len() > PAYLOAD {
                return Err(crate::contract::too_long(payload.len() as u64, PAYLOAD));
            }
            put(&mut out, &self.key, self.end, payload);
        }
        if out.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.file.write_all_at(&out, self.end) {
            // Half a record must not stand where the next one is written.
            self.poisoned = self.file.set_len(self.end).is_err();
            return Err(StoreError::io("append to", &self.path, e));
        }
        if let Err(e) = self.file.sync_data() {
            self.poisoned = true;
            return Err(StoreError::io("sync", &self.path, e));
        }
        self.end += out.len() as u64;
        self.note()
    }
    /// Notes, before anybody is told, that all of it is durable.
    fn note(&mut self) -> Result<(), StoreError> {
        let (tag, end) = (self.tag(), self.end);
        let Some(told) = &mut self.told else { return Ok(()) };
        // The record may be there all the same: nothing may come behind it before somebody looks.
        told.note(tag, end).inspect_err(|_| self.poisoned = true)
    }

    /// Reads from an offset that a record ended at, or from the start.
    pub(crate) fn read(&self, from: u64) -> Result<Scan, StoreError> {
        let bytes = read_from(&self.file, &self.path, from)?;
        let known = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut found = scan(bytes.get(..known).unwrap_or(&bytes), from, &self.key);
        if found.end < self.end {
            found.holes.push(found.end..self.end);
        }
        Ok(found)
    }

    /// Tells of every whole record with the offset behind it, without keeping them all. Answers whether there was no hole.
    pub(crate) fn each(&self, each: &mut dyn FnMut(u64, &[u8])) -> Result<bool, StoreError> {
        let bytes = read_from(&self.file, &self.path, START)?;
        let known = usize::try_from(self.end.saturating_sub(START)).unwrap_or(usize::MAX);
        let found = visit(bytes.get(..known).unwrap_or(&bytes), START, &self.key, each);
        Ok(found.holes.is_empty() && found.end == self.end)
    }

    /// Replaces the log by one with these records only. Where that fails, a full disk most of all, it is what it was.
    pub(crate) fn rewrite<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), StoreError> {
        let temp = self.path.with_extension("rewritten");
        let _ = std::fs::remove_file(&temp);
        let made = || -> Result<Self, StoreError> {
            let mut fresh = Self::create(&temp)?;
            fresh.append(payloads)?;
            std::fs::rename(&temp, &self.path).map_err(|e| StoreError::io("rename", &temp, e))?;
            Ok(fresh)
        };
        let mut fresh = made().inspect_err(|_| {
            let _ = std::fs::remove_file(&temp);
        })?;
        fresh.path = self.path.clone();
        fresh.told = self.told.take();
        // From the rename on the old file has no name: nothing may be appended to it any more. Nor to the new one while
        // nobody knows whether its name will last.
        *self = fresh;
        self.poisoned = true;
        crate::tree::sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        self.poisoned = false;
        self.note()
    }
    /// The headers as they stand on the disk now.
    pub(crate) fn headers_good(&self) -> Result<bool, StoreError> {
        let mut bytes = vec![0; START as usize];
        match self.file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(StoreError::io("read", &self.path, e)),
        }
        Ok(bytes.chunks(BLOCK as usize).all(|b| key_of(b) == Some(self.key)))
    }
    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// Has the note of what somebody was told looked at. Answers its file, if that was written anew.
    pub(crate) fn check_told(&mut self) -> Result<Option<PathBuf>, StoreError> {
        let Some(told) = &mut self.told else { return Ok(None) };
        let good = told.check().inspect_err(|_| self.poisoned = true)?;
        Ok((!good).then(|| told.path().to_owned()))
    }
}

/// What is said about a hole.
pub(crate) fn hole_flaw(hole: &Range<u64>) -> Flaw {
    let (bytes, at) = (hole.end - hole.start, hole.start);
    Flaw {
        what: format!("{bytes} bytes at {at} hold no whole record; those around them are good"),
        cost: Cost::Records,
    }
}

fn read_from(file: &File, path: &Path, from: u64) -> Result<Vec<u8>, StoreError> {
    let read = |e: std::io::Error| StoreError::io("read", path, e);
    let len = file.metadata().map_err(read)?.len().saturating_sub(from);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from).map_err(read)?;
    Ok(bytes)
}

/// A name in `dir` that nothing has yet.
pub(crate) fn free_name(dir: &Path, name: &str) -> PathBuf {
    let mut path = dir.join(name);
    let mut n = 1;
    while path.symlink_metadata().is_ok() {
        path = dir.join(format!("{name}.{n}"));
        n += 1;
    }
    path
}

/// Moves a file or folder out of the way, durably. Answers where it is now.
pub(crate) fn set_aside(path: &Path, aside: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let to = free_name(aside, &name);
    std::fs::rename(path, &to).map_err(|e| StoreError::io("set aside", path, e))?;
    crate::tree::sync_dir(aside)?;
    crate::tree::sync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &Path) -> (Log, Vec<Flaw>) {
        let mut flaws = Vec::new();
        let aside = path.parent().unwrap();
        let log = Log::open(path, aside, &mut |flaw| {
            flaws.push(flaw);
            Ok(())
        });
        (log.unwrap(), flaws)
    }
    fn filled(payloads: &[Vec<u8>]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, flaws) = open(&path);
        assert!(flaws.is_empty());
        log.append(payloads.iter().map(Vec::as_slice)).unwrap();
        (dir, path)
    }
    fn payloads_of(scan: Scan) -> Vec<Vec<u8>> {
        scan.records.into_iter().map(|(_, p)| p).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_costs_only_what_it_touches(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
            place in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let (_dir, path) = filled(&payloads);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            let (log, flaws) = open(&path);
            let read = payloads_of(log.read(START).unwrap());
            if (at as u64) < START {
                // Bytes behind a header's sum are padding.
                prop_assert_eq!(at as u64 % BLOCK < 72, !flaws.is_empty());
                prop_assert_eq!(read, payloads);
            } else {
                let mut end = START as usize;
                let touched = payloads.iter().position(|p| { end += FRAME + p.len(); at < end }).unwrap();
                let mut left = payloads.clone();
                left.remove(touched);
                prop_assert_eq!(read, left);
                prop_assert_eq!(flaws.len(), 1);
            }
        }

        #[test]
        fn a_torn_tail_is_cut_and_the_log_goes_on(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let (_dir, path) = filled(&payloads);
            let len = std::fs::metadata(&path).unwrap().len();
            let keep = START + cut.index((len - START) as usize) as u64;
            File::options().write(true).open(&path).unwrap().set_len(keep).unwrap();
            let (mut log, _) = open(&path);
            let left = payloads_of(log.read(START).unwrap());
            prop_assert!(left.len() < payloads.len());
            prop_assert_eq!(&left[..], &payloads[..left.len()]);
            log.append([b"next".as_slice()]).unwrap();
            let (log, flaws) = open(&path);
            prop_assert!(flaws.is_empty());
            prop_assert_eq!(payloads_of(log.read(START).unwrap()).pop(), Some(b"next".to_vec()));
        }

        #[test]
        fn any_bytes_can_be_scanned(bytes in prop::collection::vec(any::<u8>(), 0..2000), key: [u8; 32]) {
            prop_assert!(scan(&bytes, START, &key).records.is_empty());
        }
    }

    #[test]
    fn a_record_inside_a_payload_is_not_one() {
        let (_dir, path) = filled(&[vec![1; 100]]);
        let inner = std::fs::read(&path).unwrap()[START as usize..].to_vec();
        let (mut log, _) = open(&path);
        log.append([inner.as_slice(), b"last".as_slice()]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[START as usize + inner.len() + 9] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (log, _) = open(&path);
        assert_eq!(payloads_of(log.read(START).unwrap()), vec![vec![1; 100], b"last".to_vec()]);
    }

    #[test]
    fn both_headers_lost_is_said_and_survived() {
        let (_dir, path) = filled(&[b"one".to_vec()]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..START as usize].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let (mut log, flaws) = open(&path);
        assert!(flaws[0].what.contains("both"));
        log.append([b"two".as_slice()]).unwrap();
        assert_eq!(payloads_of(log.read(START).unwrap()), vec![b"two".to_vec()]);
    }

    /// Or it would be told of, and a damage of it taken for a cut in the middle of it.
    #[test]
    fn a_record_is_not_acknowledged_before_that_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let open = || Log::open_told(&path, dir.path(), &mut |flaw| panic!("{flaw:?}")).unwrap();
        let mut log = open();
        log.append([b"one".as_slice()]).unwrap();
        log.told.as_mut().unwrap().fail();
        log.append([b"two".as_slice()]).unwrap_err();
        log.append([b"three".as_slice()]).unwrap_err();
        drop(log);
        // It is there all the same, and noted from now on.
        let log = open();
        assert_eq!(payloads_of(log.read(START).unwrap()).len(), 2);
        assert_eq!(log.told.as_ref().unwrap().of(log.tag()), Some(log.end));
    }
}
