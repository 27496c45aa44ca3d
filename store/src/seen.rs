//! What is known of files that were read before: a cache, so that publishing a tree again reads only what changed.
//! Invariant: an entry is used only for a file whose identity, size, times and mode are what they were when it was read,
//! and none is made of a file that changed shortly before it was read: its times would not tell of the next change. A file
//! that does not prove itself counts as empty, and whoever wants certainty has everything read again.
//!
//! What no time tells of is not seen: writes through a shared memory map that the file system does not date, and disks
//! whose clock is more than [`RACY`] behind this machine's.

use crate::{syncs, walk::Content};
use softservice_protocol::{
    chunk::ChunkRef,
    id::{ChunkId, ObjectId},
};
use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::Metadata,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const MAGIC: &[u8; 8] = b"softsee2";
/// Changes within the grain of a file system's times, two seconds at the worst, look alike.
pub(crate) const RACY: Duration = Duration::from_secs(3);
/// Folders that are remembered; of more, those that were read longest ago are forgotten.
const FOLDERS: usize = 64;

/// The kernel dates every change by itself on its own file systems, and on overlays of them. Others take a server's or a
/// program's word for it (NFS, FUSE), keep times of two seconds and no numbers of files (FAT), or carry the same ones in every
/// image (squashfs, EROFS): there everything is read again.
const OVERLAY: u64 = 0x794c_7630;

/// Whether times of this folder's file system can be believed.
pub(crate) fn dates(root: &Path) -> bool {
    let dating = |kind| kind == OVERLAY || syncs::OWN.contains(&kind);
    rustix::fs::statfs(root).is_ok_and(|fs| dating(fs.f_type as u64 & 0xffff_ffff))
}

/// What a file system says of a file that has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([u64; 8]);

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(|t| t as u64);
        let [modified, modified_ns, changed, changed_ns] = times;
        let mode = u64::from(meta.mode());
        Self([meta.dev(), meta.ino(), meta.len(), modified, modified_ns, changed, changed_ns, mode])
    }
    fn device(&self) -> u64 {
        self.0[0]
    }
    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.0[2]
    }
    /// Both times lie well before this one.
    fn settled(&self, at: SystemTime) -> bool {
        let limit = at.checked_sub(RACY).and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs());
        [self.0[3], self.0[5]].into_iter().all(|seconds| (seconds as i64) < limit as i64)
    }
}

type Entry = (Stamp, Content);

/// What is known of one folder.
#[derive(Debug)]
pub(crate) struct Seen {
    file: PathBuf,
    known: HashMap<String, Entry>,
    /// What is known of folders below it that were read for themselves: where they begin, and their files from there on.
    below: Vec<(String, HashMap<String, Entry>)>,
    /// Files of other file systems below the folder are not believed.
    device: Option<u64>,
}

impl Seen {
    /// What was written down of this folder; nothing when that is damaged. `dir` is where all folders' files stand.
    pub(crate) fn open(dir: &Path, root: &Path) -> Self {
        let file = dir.join(name_of(&place_of(root)));
        let known = read(&file);
        let device = std::fs::metadata(root).ok().filter(|_| dates(root)).map(|meta| meta.dev());
        Self { file, known, below: Vec::new(), device }
    }
    /// The same, and of those of its folders that were read for themselves: a definition's trees are, and then all of it as
    /// its source.
    pub(crate) fn open_with<'a>(dir: &Path, root: &Path, folders: impl Iterator<Item = &'a str>) -> Self {
        let mut seen = Self::open(dir, root);
        let there = std::fs::read_dir(dir).into_iter().flatten();
        let there: HashSet<OsString> = there.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        let place = place_of(root);
        for folder in folders {
            let name = name_of(&place.join(folder));
            if there.contains(OsStr::new(&name)) {
                seen.below.push((format!("{folder}/"), read(&dir.join(name))));
            }
        }
        seen
    }
    /// What the file at this path held when it was as it is.
    pub(crate) fn get(&self, path: &str, stamp: &Stamp) -> Option<Content> {
        if self.device != Some(stamp.device()) {
            return None;
        }
        let below = self.below.iter().filter_map(|(folder, known)| known.get(path.strip_prefix(folder.as_str())?));
        let mut entries = self.known.get(path).into_iter().chain(below);
        entries.find(|(known, _)| known == stamp).map(|(_, content)| content.clone())
    }
    /// Writes down what is known now, if it is anything else than before. `began` is when the reading began. It is a
    /// cache: what cannot be written is read again the next time, and it is not synced, because it proves itself.
    pub(crate) fn keep(&self, read: Vec<(String, Stamp, Content)>, began: SystemTime) {
        let kept: HashMap<String, Entry> = read
            .into_iter()
            .filter(|(_, stamp, _)| stamp.settled(began))
            .map(|(path, stamp, content)| (path, (stamp, content)))
            .collect();
        let same = |(path, (stamp, content)): (&String, &Entry)| {
            self.known.get(path).is_some_and(|(known, before)| known == stamp && before.clean == content.clean)
        };
        if kept.len() == self.known.len() && kept.iter().all(same) {
            return;
        }
        if let Err(e) = self.write(&encode(&kept)) {
            tracing::debug!(file = %self.file.display(), "what was read is not remembered: {e}");
        }
    }
    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(dir) = self.file.parent() else { return Ok(()) };
        std::fs::create_dir_all(dir)?;
        let mut temp = tempfile::NamedTempFile::new_in(dir)?;
        temp.write_all(bytes)?;
        temp.persist(&self.file)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        let many = files.len().saturating_sub(FOLDERS);
        files.iter().take(many).try_for_each(|(_, file)| std::fs::remove_file(file))
    }
}

/// The one path of a folder.
fn place_of(root: &Path) -> PathBuf {
    root.canonicalize().unwrap_or_else(|_| root.to_owned())
}

/// What the file about a folder is called.
fn name_of(place: &Path) -> String {
    blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex().chars().take(32).collect()
}

fn read(file: &Path) -> HashMap<String, Entry> {
    std::fs::read(file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default()
}

/// `magic[8] hash[32]`, then for each file `stamp[64] path length[4] path clean[4] object[32] chunks[4] (chunk[32] length[4])*`.
/// A file of one chunk has none: its object is the chunk.
fn encode(known: &HashMap<String, Entry>) -> Vec<u8> {
    let mut body = Vec::new();
    for (path, (stamp, content)) in known {
        stamp.0.iter().for_each(|field| body.extend_from_slice(&field.to_le_bytes()));
        body.extend_from_slice(&(path.len() as u32).to_le_bytes());
        body.extend_from_slice(path.as_bytes());
        body.extend_from_slice(&content.clean.to_le_bytes());
        body.extend_from_slice(&content.object.0);
        let chunks = if content.chunks.len() > 1 { content.chunks.as_slice() } else { &[] };
        body.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
        for chunk in chunks {
            body.extend_from_slice(&chunk.id.0);
            body.extend_from_slice(&chunk.len.to_le_bytes());
        }
    }
    let hash = blake3::hash(&body);
    [MAGIC.as_slice(), hash.as_bytes(), &body].concat()
}

pub(crate) fn decode(bytes: &[u8]) -> Option<HashMap<String, Entry>> {
    let (hash, mut rest) = bytes.strip_prefix(MAGIC.as_slice())?.split_first_chunk::<32>()?;
    if blake3::hash(rest).as_bytes() != hash {
        return None;
    }
    let mut known = HashMap::new();
    while !rest.is_empty() {
        let mut stamp = [0; 8];
        for field in &mut stamp {
            *field = u64::from_le_bytes(take(&mut rest)?);
        }
        let (path, after) = rest.get(4..)?.split_at_checked(u32::from_le_bytes(*rest.first_chunk()?) as usize)?;
        rest = after;
        let clean = u32::from_le_bytes(take(&mut rest)?);
        let object = ObjectId(take(&mut rest)?);
        let count = u32::from_le_bytes(take(&mut rest)?);
        let mut chunks = Vec::new();
        for _ in 0..count {
            chunks.push(ChunkRef { id: ChunkId(take(&mut rest)?), len: u32::from_le_bytes(take(&mut rest)?) });
        }
        let stamp = Stamp(stamp);
        if count == 0 && stamp.size() > 0 {
            chunks.push(ChunkRef { id: object.into(), len: u32::try_from(stamp.size()).ok()? });
        }
        if chunks.iter().map(|c| u64::from(c.len)).sum::<u64>() != stamp.size() {
            return None;
        }
        let path = String::from_utf8(path.to_vec()).ok()?;
        known.insert(path, (stamp, Content { object, size: stamp.size(), chunks, clean }));
    }
    Some(known)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(n: u8, parts: u32) -> (Stamp, Content) {
        let object = ObjectId([n; 32]);
        let chunks: Vec<ChunkRef> = match parts {
            1 => vec![ChunkRef { id: object.into(), len: 7 }],
            _ => (0..parts).map(|p| ChunkRef { id: ChunkId([p as u8; 32]), len: 7 }).collect(),
        };
        let size = u64::from(parts) * 7;
        (
            Stamp([1, u64::from(n), size, 100, 5, 200, 6, 0o100_644]),
            Content { object, size, chunks, clean: u32::from(n) },
        )
    }
    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_is_the_same_in_everything_is_known() {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files: Vec<_> = (0..4u8).map(|n| (n.to_string(), content(n, u32::from(n)))).collect();
        let read = files.iter().map(|(path, (stamp, content))| (path.clone(), *stamp, content.clone())).collect();
        Seen::open(dir.path(), root.path()).keep(read, at(1_000));
        let seen = Seen { device: Some(1), ..Seen::open(dir.path(), root.path()) };
        for (path, (stamp, content)) in &files {
            assert_eq!(seen.get(path, stamp).as_ref(), Some(content));
            for field in 0..8 {
                let mut other = *stamp;
                other.0[field] += 1;
                assert_eq!(seen.get(path, &other), None, "a changed field {field} is not seen");
            }
        }
        let other = tempfile::tempdir().unwrap();
        assert_eq!(Seen::open(dir.path(), other.path()).get("1", &files[1].1.0), None);
    }

    #[test]
    fn what_changed_shortly_before_it_was_read_is_not_believed() {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (stamp, content) = content(1, 1);
        for (now, known) in [(150, false), (200, false), (202, false), (203, false), (204, true)] {
            Seen::open(dir.path(), root.path()).keep(vec![("a".into(), stamp, content.clone())], at(now));
            let seen = Seen { device: Some(1), ..Seen::open(dir.path(), root.path()) };
            assert_eq!(seen.get("a", &stamp).is_some(), known, "{now}");
        }
    }

    #[test]
    fn what_another_file_system_says_is_not_believed() {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (stamp, content) = content(1, 1);
        Seen::open(dir.path(), root.path()).keep(vec![("a".into(), stamp, content)], at(1_000));
        for device in [Some(2), None] {
            assert_eq!(Seen { device, ..Seen::open(dir.path(), root.path()) }.get("a", &stamp), None);
        }
        assert!(!dates(Path::new("/proc")));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_makes_it_empty() {
        let known = (1..4u8).map(|n| (n.to_string(), content(n, u32::from(n)))).collect();
        let bytes = encode(&known);
        assert_eq!(decode(&bytes).map(|k| k.len()), Some(3));
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1 << (place % 8);
            assert!(decode(&bad).is_none());
            assert!(decode(&bytes[..place]).is_none());
        }
    }

    #[test]
    fn folders_that_were_read_longest_ago_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..FOLDERS + 5 {
            let (stamp, content) = content(1, 1);
            Seen::open(dir.path(), Path::new(&format!("/none/{n}")))
                .keep(vec![("a".into(), stamp, content)], at(1_000));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), FOLDERS);
    }
}
