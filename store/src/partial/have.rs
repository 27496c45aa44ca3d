//! The have log: which chunks of partial files are written, and up to where of the log they are synced as well.
//! Invariant: an entry is written after its bytes were, and a mark after the sync of everything that the entries before
//! its place speak of. So a kill costs no more than was not logged yet, and a power cut what stands behind the last mark.

use super::{Damage, Spot, StoreError};
use crate::syncs;
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

/// `object[32] offset[8] chunk[32] len[4] sum[16]`: of fixed length, so that a damaged entry costs itself only. A mark is
/// an entry of no length: `zero[32] synced[8] boot[32] zero[4] sum[16]`.
pub(super) const ENTRY: usize = 92;

/// The open log.
#[derive(Debug)]
pub(super) struct Have {
    path: PathBuf,
    file: File,
    /// What tells this start of the machine from every other; None where the system does not say.
    boot: Option<[u8; 32]>,
    /// Bytes in it.
    end: u64,
    /// This life's first mark is written: what follows belongs to this start of the machine.
    begun: bool,
    /// Counts how often it was emptied.
    round: u64,
}

/// Up to where the log is about to be synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    end: u64,
    round: u64,
}

pub(crate) fn encode(spot: &Spot) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    out[..32].copy_from_slice(&spot.object.0);
    out[32..40].copy_from_slice(&spot.offset.to_le_bytes());
    out[40..72].copy_from_slice(&spot.chunk.id.0);
    out[72..76].copy_from_slice(&spot.chunk.len.to_le_bytes());
    let sum = blake3::hash(&out[..76]);
    out[76..].copy_from_slice(&sum.as_bytes()[..16]);
    out
}

pub(crate) fn decode(entry: &[u8]) -> Option<Spot> {
    let (body, sum) = entry.split_at_checked(76)?;
    if blake3::hash(body).as_bytes().get(..16)? != sum {
        return None;
    }
    let (object, rest) = body.split_first_chunk::<32>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (chunk, len) = rest.split_first_chunk::<32>()?;
    let chunk = ChunkRef { id: ChunkId(*chunk), len: u32::from_le_bytes(len.try_into().ok()?) };
    Some(Spot::new(ObjectId(*object), u64::from_le_bytes(*offset), chunk))
}

/// A mark in the words of an entry.
fn mark(synced: u64, boot: [u8; 32]) -> Spot {
    Spot::new(ObjectId([0; 32]), synced, ChunkRef { id: ChunkId(boot), len: 0 })
}

fn is_mark(entry: &Spot) -> bool {
    entry.chunk.len == 0 && entry.object == ObjectId([0; 32])
}

/// The name of this start of the machine, hashed. A restart of the machine is what loses writes that were not synced.
pub(super) fn boot() -> Option<[u8; 32]> {
    let name = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(*blake3::hash(&name).as_bytes())
}

impl Have {
    /// Opens or makes the log. Answers what it says, without what a power cut may have taken. What is written and not
    /// synced is synced with `sync` first; where that fails, it counts as taken.
    pub(super) fn open(
        path: PathBuf,
        boot: Option<[u8; 32]>,
        sync: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(Self, Vec<Spot>, Option<Damage>), StoreError> {
        let read = |e| StoreError::io("read", &path, e);
        let existed = path.exists();
        let bytes = if existed { std::fs::read(&path).map_err(read)? } else { Vec::new() };
        let entries: Vec<Option<Spot>> = bytes.chunks_exact(ENTRY).map(decode).collect();
        let marks = || entries.iter().enumerate().filter_map(|(at, e)| Some((at, e.filter(is_mark)?)));
        let whole = (entries.len() * ENTRY) as u64;
        let synced = match marks().map(|(_, mark)| mark.offset).max() {
            Some(synced) => synced.min(whole),
            // Without a mark it is of an earlier version, which synced before it wrote; or a cut took its beginning.
            None if entries.iter().all(Option::is_some) => whole,
            None => 0,
        };
        let same = boot.is_some() && marks().next_back().map(|(_, mark)| mark.chunk.id.0) == boot;
        let mut end = if same { whole } else { synced };
        if end > synced
            && let Err(e) = sync()
        {
            tracing::warn!("what came last in an earlier life will be fetched again: {e}");
            end = synced;
        }
        // The log itself is synced with each mark: a cut explains what does not add up from the last but one on.
        let sure = marks().rev().nth(1).map_or(0, |(at, _)| at);
        let damaged = entries.iter().take(sure).filter(|e| e.is_none()).count();
        let known =
            entries.iter().take((end / ENTRY as u64) as usize).flatten().filter(|e| !is_mark(e)).copied().collect();
        let file =
            File::options().create(true).append(true).open(&path).map_err(|e| StoreError::io("open", &path, e))?;
        file.set_len(end).map_err(|e| StoreError::io("truncate", &path, e))?;
        if !existed {
            syncs::sync(path.parent().unwrap_or(Path::new(".")))?;
        }
        let damage = (damaged > 0).then(|| {
            let what = format!("{damaged} entries do not add up; their chunks will be fetched again");
            Damage { file: path.clone(), object: None, what }
        });
        Ok((Self { path, file, boot, end, begun: false, round: 0 }, known, damage))
    }
    /// Writes entries; they outlive this process from then on.
    pub(super) fn append(&mut self, spots: &[Spot]) -> Result<(), StoreError> {
        if spots.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity((spots.len() + 1) * ENTRY);
        if !self.begun {
            // What an earlier life left behind its last mark was cut off, or synced, when this one began.
            out.extend_from_slice(&encode(&mark(self.end, self.boot.unwrap_or_default())));
        }
        spots.iter().for_each(|spot| out.extend_from_slice(&encode(spot)));
        self.write(&out)?;
        self.begun = true;
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all(bytes);
        if written.is_err() {
            // Half an entry would shift those behind it.
            let _ = self.file.set_len(self.end);
        }
        written.map_err(|e| StoreError::io("append to", &self.path, e))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
    /// Where the log ends now: what is said up to here is what a sync that begins now makes durable.
    pub(super) fn place(&self) -> Place {
        Place { end: self.end, round: self.round }
    }
    /// Everything up to there is synced: says so, durably.
    pub(super) fn synced(&mut self, up_to: Place) -> Result<(), StoreError> {
        if self.round != up_to.round || !self.begun {
            return Ok(());
        }
        self.write(&encode(&mark(up_to.end, self.boot.unwrap_or_default())))?;
        self.file.sync_data().map_err(|e| StoreError::io("sync", &self.path, e))
    }
    /// Nothing refers to it any more; a crash before this is as good as after it.
    pub(super) fn empty(&mut self) -> Result<(), StoreError> {
        if self.end > 0 {
            self.file.set_len(0).map_err(|e| StoreError::io("truncate", &self.path, e))?;
        }
        self.end = 0;
        self.begun = false;
        self.round += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(n: u8) -> Spot {
        Spot::new(ObjectId([1; 32]), u64::from(n) * 100, ChunkRef { id: ChunkId([n; 32]), len: 100 })
    }
    const HERE: Option<[u8; 32]> = Some([7; 32]);
    const LATER: Option<[u8; 32]> = Some([8; 32]);

    fn reopen(path: &Path, boot: Option<[u8; 32]>) -> (Have, Vec<Spot>, bool) {
        let mut behind = false;
        let sync = || {
            behind = true;
            Ok(())
        };
        let (have, known, damage) = Have::open(path.to_owned(), boot, sync).unwrap();
        assert!(damage.is_none());
        (have, known, behind)
    }
    /// Entries 1 and 2, a mark of both, 3 behind it.
    fn log(path: &Path) {
        let (mut have, ..) = reopen(path, HERE);
        have.append(&[spot(1), spot(2)]).unwrap();
        have.synced(have.place()).unwrap();
        have.append(&[spot(3)]).unwrap();
    }

    #[test]
    fn a_kill_loses_no_entry_and_a_restart_of_the_machine_those_behind_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        let (mut have, known, _) = reopen(&path, HERE);
        assert_eq!(known, vec![]);
        have.append(&[spot(1), spot(2)]).unwrap();
        let place = have.place();
        // Written while what stands before it is being synced: the mark does not speak for it.
        have.append(&[spot(3)]).unwrap();
        have.synced(place).unwrap();
        have.append(&[spot(4)]).unwrap();
        drop(have);
        let (_, known, behind) = reopen(&path, HERE);
        assert_eq!((known, behind), (vec![spot(1), spot(2), spot(3), spot(4)], true));
        let (mut have, known, behind) = reopen(&path, LATER);
        assert_eq!((known, behind), (vec![spot(1), spot(2)], false));
        // And the next life's mark does not bring them back.
        have.append(&[spot(5)]).unwrap();
        drop(have);
        let (_, known, _) = reopen(&path, LATER);
        assert_eq!(known, vec![spot(1), spot(2), spot(5)]);
        let (_, known, _) = reopen(&path, HERE);
        assert_eq!(known, vec![spot(1), spot(2)]);
    }

    #[test]
    fn a_sync_that_fails_costs_what_it_was_for_and_not_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        log(&path);
        let refuse = || Err(StoreError::io("sync", Path::new("disk"), std::io::Error::other("no")));
        let (mut have, known, damage) = Have::open(path.clone(), HERE, refuse).unwrap();
        assert_eq!((known, damage), (vec![spot(1), spot(2)], None));
        have.append(&[spot(4)]).unwrap();
        have.synced(have.place()).unwrap();
        assert_eq!(reopen(&path, LATER).1, vec![spot(1), spot(2), spot(4)]);
    }

    #[test]
    fn what_a_cut_tears_is_no_damage_and_what_none_can_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        log(&path);
        let bytes = std::fs::read(&path).unwrap();
        let harmed = |entry: usize, boot| {
            let mut bytes = bytes.clone();
            bytes[entry * ENTRY..][..ENTRY].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let (_, known, damage) = Have::open(path.clone(), boot, || Ok(())).unwrap();
            (known, damage.is_some())
        };
        // Mark, 1, 2, mark, 3. The last mark may be there although its sync never came to an end.
        assert_eq!(harmed(4, LATER), (vec![spot(1), spot(2)], false));
        assert_eq!(harmed(3, LATER), (vec![], false));
        assert_eq!(harmed(2, LATER), (vec![spot(1)], false));
        assert_eq!(harmed(0, LATER), (vec![spot(1), spot(2)], false));
        // Another mark behind says that it did.
        std::fs::write(&path, &bytes).unwrap();
        let (mut have, ..) = reopen(&path, LATER);
        have.append(&[spot(5)]).unwrap();
        have.synced(have.place()).unwrap();
        drop(have);
        let mut torn = std::fs::read(&path).unwrap();
        torn[ENTRY..2 * ENTRY].fill(0);
        std::fs::write(&path, torn).unwrap();
        let (_, known, damage) = Have::open(path.clone(), LATER, || Ok(())).unwrap();
        assert_eq!((known, damage.is_some()), (vec![spot(2), spot(5)], true));
    }

    #[test]
    fn a_log_whose_beginning_a_cut_took_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        let (mut have, ..) = reopen(&path, HERE);
        have.append(&[spot(1), spot(2)]).unwrap();
        drop(have);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..ENTRY + 8].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(reopen(&path, LATER).1, vec![]);
    }

    #[test]
    fn where_nobody_tells_starts_apart_only_what_is_synced_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        let (mut have, ..) = reopen(&path, None);
        have.append(&[spot(1)]).unwrap();
        let place = have.place();
        have.synced(place).unwrap();
        have.append(&[spot(2)]).unwrap();
        drop(have);
        assert_eq!(reopen(&path, None).1, vec![spot(1)]);
    }

    #[test]
    fn a_log_of_the_version_before_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        std::fs::write(&path, [encode(&spot(1)), encode(&spot(2))].concat()).unwrap();
        assert_eq!(reopen(&path, LATER).1, vec![spot(1), spot(2)]);
    }

    #[test]
    fn a_mark_of_what_was_emptied_meanwhile_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("have");
        let (mut have, ..) = reopen(&path, HERE);
        have.append(&[spot(1)]).unwrap();
        let place = have.place();
        have.empty().unwrap();
        have.append(&[spot(2)]).unwrap();
        have.synced(place).unwrap();
        drop(have);
        assert_eq!(reopen(&path, LATER).1, vec![]);
    }
}
