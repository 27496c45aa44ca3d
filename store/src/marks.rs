//! The anti-rollback marks: for each feed the highest head ever seen, in two files. Invariant: marks never go down, and
//! each state is written to both files, one after the other, so that no crash and no damage of one file loses it.

use crate::{
    contract::{Damage, StoreError},
    record,
};
use softservice_protocol::{
    feed::{Head, Position},
    id::{Digest, FeedId},
};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"softmrk1";
const ENTRY: usize = 76;

type Heads = BTreeMap<FeedId, Head>;

/// The open marks.
#[derive(Debug)]
pub(crate) struct Marks {
    files: [(PathBuf, File); 2],
    /// The file that is written first: one that is not known to hold the newest state, if there is such.
    first: usize,
    generation: u64,
    heads: Heads,
}

pub(crate) fn encode(generation: u64, heads: &Heads) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&(heads.len() as u64).to_le_bytes());
    for (feed, head) in heads {
        out.extend_from_slice(&feed.0);
        out.extend_from_slice(&head.at.epoch.to_le_bytes());
        out.extend_from_slice(&head.at.seq.to_le_bytes());
        out.extend_from_slice(&head.hash.0);
    }
    let sum = blake3::hash(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, Heads)> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let body = body.strip_prefix(MAGIC.as_slice())?;
    let (generation, body) = body.split_first_chunk::<8>()?;
    let (count, body) = body.split_first_chunk::<8>()?;
    let entries = body.chunks_exact(ENTRY);
    if !entries.remainder().is_empty() || entries.len() as u64 != u64::from_le_bytes(*count) {
        return None;
    }
    let mut heads = Heads::new();
    for entry in entries {
        let (feed, rest) = entry.split_first_chunk::<32>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (seq, hash) = rest.split_first_chunk::<8>()?;
        let at = Position { epoch: u32::from_le_bytes(*epoch), seq: u64::from_le_bytes(*seq) };
        heads.insert(FeedId(*feed), Head { at, hash: Digest(hash.try_into().ok()?) });
    }
    Some((u64::from_le_bytes(*generation), heads))
}

/// Which of two files, by the generations that stand in them, may be written while the other is the only whole copy.
fn torn([a, b]: [Option<u64>; 2]) -> usize {
    usize::from(a > b)
}

impl Marks {
    /// Opens or makes both files. `seen` are heads that the records prove: they stand in when both files are damaged.
    pub(crate) fn open(dir: &Path, seen: Heads) -> Result<(Self, Vec<Damage>), StoreError> {
        let mut notes = Vec::new();
        let mut files = Vec::new();
        let (mut generation, mut newest) = (0, Heads::new());
        let mut heads = seen;
        let mut found: [Option<u64>; 2] = [None; 2];
        for (name, found) in ["marks.a", "marks.b"].into_iter().zip(&mut found) {
            let path = dir.join(name);
            let existed = path.exists();
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|e| StoreError::io("open", &path, e))?;
            let bytes = std::fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
            match decode(&bytes) {
                Some((of, known)) => {
                    *found = Some(of);
                    for (feed, head) in &known {
                        record::raise(&mut heads, *feed, *head);
                    }
                    if of >= generation {
                        (generation, newest) = (of, known);
                    }
                }
                None if existed => {
                    let what = "does not add up; the other file and the records stand in".to_owned();
                    tracing::warn!(file = %path.display(), "{what}");
                    notes.push(Damage { file: path.clone(), object: None, what });
                }
                None => {}
            }
            files.push((path, file));
        }
        let Ok(files) = <[(PathBuf, File); 2]>::try_from(files) else { unreachable!("two names make two files") };
        let first = torn(found);
        let mut marks = Self { files, first, generation, heads };
        // What was seen counts from here on, also a record whose mark a crash came before.
        if found.iter().any(|of| *of != Some(generation)) || marks.heads != newest {
            marks.write()?;
            crate::tree::sync_dir(dir)?;
        }
        Ok((marks, notes))
    }
    /// The mark of a feed.
    pub(crate) fn get(&self, feed: FeedId) -> Option<Head> {
        self.heads.get(&feed).copied()
    }
    /// Raises a mark, durably. A lower or equal one changes nothing.
    pub(crate) fn raise(&mut self, feed: FeedId, head: Head) -> Result<(), StoreError> {
        let before = self.heads.get(&feed).copied();
        if !record::raise(&mut self.heads, feed, head) {
            return Ok(());
        }
        self.write().inspect_err(|_| {
            // Not durable, so not answered either; a later raise tries again.
            match before {
                Some(before) => self.heads.insert(feed, before),
                None => self.heads.remove(&feed),
            };
        })
    }
    /// Writes one file, then the other: at every moment one of them is whole. A file that may be torn is written first:
    /// the other one is the only copy until that is synced.
    fn write(&mut self) -> Result<(), StoreError> {
        self.generation += 1;
        let bytes = encode(self.generation, &self.heads);
        for number in [self.first, 1 - self.first] {
            let (path, file) = &self.files[number];
            // Until it is synced this is the one that may be torn.
            self.first = number;
            file.write_all_at(&bytes, 0)
                .and_then(|()| file.set_len(bytes.len() as u64))
                .map_err(|e| StoreError::io("write", path, e))?;
            file.sync_all().map_err(|e| StoreError::io("sync", path, e))?;
        }
        self.first = 0;
        Ok(())
    }
    /// Reads both files again and writes them anew when one is not what it should be.
    pub(crate) fn check(&mut self) -> Result<Vec<Damage>, StoreError> {
        let mut notes = Vec::new();
        for (number, (path, _)) in self.files.iter().enumerate() {
            let good = std::fs::read(path).is_ok_and(|b| decode(&b).is_some_and(|(_, heads)| heads == self.heads));
            if !good {
                self.first = if notes.is_empty() { number } else { 0 };
                let what = "does not add up; written anew".to_owned();
                notes.push(Damage { file: path.clone(), object: None, what });
            }
        }
        if !notes.is_empty() {
            for (path, file) in &mut self.files {
                *file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&*path)
                    .map_err(|e| StoreError::io("open", path, e))?;
            }
            self.write()?;
        }
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(seq: u64) -> Head {
        Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(heads in prop::collection::btree_map(any::<[u8; 32]>(), (any::<u32>(), any::<u64>(), any::<[u8; 32]>()), 0..20), generation: u64) {
            let heads: Heads = heads.into_iter().map(|(f, (epoch, seq, hash))| (FeedId(f), Head { at: Position { epoch, seq }, hash: Digest(hash) })).collect();
            let mut bytes = encode(generation, &heads);
            prop_assert_eq!(decode(&bytes), Some((generation, heads)));
            let at = generation as usize % bytes.len();
            bytes[at] ^= 1;
            prop_assert_eq!(decode(&bytes), None);
        }
        #[test]
        fn any_bytes_can_be_decoded(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }

    /// A cut tears what is being written: while one file is torn already, the other is not touched before that is whole.
    #[test]
    fn the_only_whole_file_is_not_the_first_to_be_written() {
        assert_eq!([[None, Some(3)], [Some(2), Some(3)], [Some(3), None], [Some(3), Some(2)]].map(torn), [0, 0, 1, 1]);
        let feed = FeedId([1; 32]);
        for victim in [0, 1] {
            let dir = tempfile::tempdir().unwrap();
            let paths = ["marks.a", "marks.b"].map(|name| dir.path().join(name));
            let (mut marks, _) = Marks::open(dir.path(), Heads::new()).unwrap();
            marks.raise(feed, head(4)).unwrap();
            // This one cannot be written any more.
            marks.files[victim].1 = File::open(&paths[victim]).unwrap();
            marks.raise(feed, head(5)).unwrap_err();
            let whole = std::fs::read(&paths[1 - victim]).unwrap();
            marks.raise(feed, head(6)).unwrap_err();
            assert_eq!(std::fs::read(&paths[1 - victim]).unwrap(), whole, "the only whole file was written");
            marks.files[victim].1 = File::options().write(true).open(&paths[victim]).unwrap();
            marks.raise(feed, head(7)).unwrap();
            assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        }
    }

    #[test]
    fn either_file_alone_is_enough() {
        for victim in ["marks.a", "marks.b"] {
            for how in 0..4 {
                let dir = tempfile::tempdir().unwrap();
                let feed = FeedId([1; 32]);
                let (mut marks, _) = Marks::open(dir.path(), Heads::new()).unwrap();
                for seq in 1..5 {
                    marks.raise(feed, head(seq)).unwrap();
                }
                drop(marks);
                let path = dir.path().join(victim);
                let mut bytes = std::fs::read(&path).unwrap();
                match how {
                    0 => std::fs::remove_file(&path).unwrap(),
                    1 => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                    2 => std::fs::write(&path, b"").unwrap(),
                    _ => {
                        bytes[40] ^= 4;
                        std::fs::write(&path, bytes).unwrap();
                    }
                }
                let (marks, notes) = Marks::open(dir.path(), Heads::new()).unwrap();
                assert_eq!(marks.get(feed), Some(head(4)));
                assert_eq!(notes.is_empty(), how == 0, "{victim} {how}");
            }
        }
    }
}
