//! The journal of a softservice: what was begun and what was done. Invariant: a line is on the disk before the effect that
//! it announces begins, unless it is owed (see [`Journal::hold`]), and behind nothing but whole lines: one that the disk took
//! in part is cut off before the next is added, and when the journal is opened. The last whole line says where things stand.
//!
//! One entry a line: 16 hex digits of BLAKE3 over the rest, a space, JSON. Readable by people when something went wrong.

use super::error::{DeviceError, Result, io};
use serde::{Deserialize, Serialize};
use softservice_protocol::io::ProvisionStep;
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Beyond this size a journal whose last life has ended is begun anew; a life writes about 4 KiB.
const JOURNAL_BYTES: u64 = 256 << 10;

/// Digits of a line's sum.
const SUM: usize = 16;

/// How far a step came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    /// It is about to be done.
    Begun,
    /// It is done.
    Done,
    /// It failed; why.
    Failed(String),
    /// It failed as often as it is tried, and left nothing undone that others would stumble over: the life is over.
    GivenUp(String),
    /// It failed as often as it is tried, and leaves the softservice between two generations until it is tried again.
    Stuck(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) step: ProvisionStep,
    pub(super) mark: Mark,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    last: Option<Entry>,
    /// Bytes of whole lines.
    good: u64,
    /// There may be more in the file than that.
    torn: bool,
    /// `last` is not on the disk.
    owed: bool,
}

impl Journal {
    /// Opens or makes the journal at `path`, cutting off a torn end.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read", path))?;
        let Whole { last, mut good, damaged } = whole(&bytes);
        if damaged > 0 {
            // Each line bears its own sum: what stands behind a bad one is as good as ever.
            tracing::error!(path = %path.display(), lines = damaged, "a journal is damaged in its middle; its last line counts");
        }
        if good < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - good, "cutting a torn end off a journal");
        }
        if good as u64 > JOURNAL_BYTES && last.as_ref().is_none_or(ended) {
            good = 0;
        }
        let last = last.filter(|_| good > 0);
        let torn = good < bytes.len();
        let mut journal = Self { file, path: path.into(), last, good: good as u64, torn, owed: false };
        journal.cut()?;
        super::durable::sync_parent(path)?;
        Ok(journal)
    }

    /// Adds a line; returns when it is on the disk. Of a line that cannot be added nothing stays.
    pub(super) fn append(&mut self, step: &ProvisionStep, mark: Mark) -> Result<()> {
        let entry = Entry { step: step.clone(), mark };
        let json = serde_json::to_string(&entry)
            .map_err(|e| DeviceError::Damaged { path: self.path.clone(), why: e.to_string() })?;
        let line = format!("{} {json}\n", sum(json.as_bytes()));
        // Behind half a line nobody would find it again.
        self.cut()?;
        self.torn = true;
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            if let Err(error) = self.cut() {
                tracing::error!(%error, "half a line is left in a journal; nothing is added until it is gone");
            }
            return Err(io("write", &self.path)(e));
        }
        self.good += line.len() as u64;
        (self.last, self.torn, self.owed) = (Some(entry), false, false);
        Ok(())
    }

    /// Adds a line that holds whatever the disk says: of the way back, of a failure, of the end of a life. Should the disk
    /// not take it, it is owed, and the next one, or [`Self::settle`], comes in its place. A start of the node before that
    /// repeats what came after the last line that is there, which does the same once more: the way back from its beginning,
    /// or the last step of a life.
    pub(super) fn hold(&mut self, step: &ProvisionStep, mark: Mark) {
        if let Err(error) = self.append(step, mark.clone()) {
            tracing::error!(%error, ?mark, effect = step.effect.word(), "it could not be written down yet");
            (self.last, self.owed) = (Some(Entry { step: step.clone(), mark }), true);
        }
    }

    /// Adds what is owed: before anything is done that a repetition of the last step would undo.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.last.clone().filter(|_| self.owed) {
            Some(Entry { step, mark }) => self.append(&step, mark),
            None => Ok(()),
        }
    }

    /// Cuts off what is behind the last whole line.
    fn cut(&mut self) -> Result<()> {
        if !self.torn {
            return Ok(());
        }
        let file = &mut self.file;
        let cut = file.set_len(self.good).and_then(|()| file.sync_all());
        cut.and_then(|()| file.seek(SeekFrom::Start(self.good))).map_err(io("cut", &self.path))?;
        self.torn = false;
        Ok(())
    }

    /// The last step of a life that has not ended.
    pub(super) fn unfinished(&self) -> Option<&ProvisionStep> {
        self.last.as_ref().filter(|e| !ended(e)).map(|e| &e.step)
    }

    /// That step, if it was given up with work undone, and why.
    pub(super) fn stuck(&self) -> Option<(&ProvisionStep, &str)> {
        match self.last.as_ref()? {
            Entry { step, mark: Mark::Stuck(why) } => Some((step, why)),
            _ => None,
        }
    }
}

fn ended(entry: &Entry) -> bool {
    matches!(entry.mark, Mark::GivenUp(_)) || (entry.mark == Mark::Done && entry.step.effect.ends_life())
}

fn sum(json: &[u8]) -> String {
    blake3::hash(json).to_hex().chars().take(SUM).collect()
}

/// What is in a journal's file.
#[derive(Debug, Default)]
struct Whole {
    /// The last good entry.
    last: Option<Entry>,
    /// Bytes up to its end.
    good: usize,
    /// Bad lines before it.
    damaged: usize,
}

fn whole(bytes: &[u8]) -> Whole {
    let (mut found, mut at, mut bad) = (Whole::default(), 0, 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        let last = entry(line).or_else(|| {
            bad += 1;
            behind(line)
        });
        if last.is_some() {
            found = Whole { last, good: at, damaged: bad };
        }
    }
    found
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (found, json) = line.split_once(' ')?;
    (found == sum(json.as_bytes())).then(|| serde_json::from_str(json).ok()).flatten()
}

/// The entry at the end of a line that begins with half of another.
fn behind(line: &[u8]) -> Option<Entry> {
    let starts = line.windows(2).enumerate().filter(|(_, two)| two == b" {").filter_map(|(at, _)| at.checked_sub(SUM));
    starts.filter_map(|at| line.get(at..)).find_map(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::io::{Effect, Generation};

    fn step(effect: Effect) -> ProvisionStep {
        ProvisionStep { generation: Generation { name: "shelf".into(), number: 2 }, previous: Some(1), effect }
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_tore() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).expect("open");
        journal.append(&step(Effect::Stage), Mark::Done).expect("append");
        let good = std::fs::metadata(&path).expect("a file").len();
        journal.append(&step(Effect::Point), Mark::Begun).expect("append");
        let bytes = std::fs::read(&path).expect("bytes");
        for end in good as usize..bytes.len() {
            std::fs::write(&path, &bytes[..end]).expect("tear");
            let mut again = Journal::open(&path).expect("open a torn journal");
            assert_eq!(again.unfinished(), Some(&step(Effect::Stage)), "torn at {end}");
            again.append(&step(Effect::Start), Mark::Begun).expect("append after a tear");
            assert_eq!(Journal::open(&path).expect("open").unfinished(), Some(&step(Effect::Start)));
        }
    }

    #[test]
    fn a_flipped_bit_is_never_believed_and_hides_nothing_behind_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).expect("open");
        let mut ends = Vec::new();
        for effect in [Effect::Stage, Effect::Confirm, Effect::Commit] {
            journal.append(&step(effect), Mark::Done).expect("append");
            ends.push(std::fs::metadata(&path).expect("a file").len() as usize);
        }
        assert_eq!(journal.unfinished(), None, "a committed life is over");
        let bytes = std::fs::read(&path).expect("bytes");
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("flip");
            Journal::open(&path).expect("open").unfinished().cloned()
        };
        assert_eq!(flipped(ends[2] - 10), Some(step(Effect::Confirm)), "at the end: as if it had never been written");
        for at in 0..ends[1] {
            // The end of the second line, too: then the third begins in its middle.
            assert_eq!(flipped(at), None, "in the middle, at {at}: the commit stands");
        }
    }

    /// Plays the part that has little room, in a process of its own: the limit is the whole process's.
    const PART: &str = "SOFTSERVICE_JOURNAL_PART";

    #[test]
    fn half_a_line_on_a_full_disk_is_gone_before_the_next_is_added() {
        if let Some(path) = std::env::var_os(PART) {
            return write_with_little_room(Path::new(&path));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let me = std::env::current_exe().expect("this program");
        // What is ignored stays so: a write beyond the limit then fails instead of ending the process.
        let part = std::process::Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(me)
            .args(["device::journal::tests::half_a_line_on_a_full_disk_is_gone_before_the_next_is_added", "--exact"])
            .env(PART, dir.path().join("journal"))
            .output()
            .expect("a process");
        let said = String::from_utf8_lossy(&part.stdout);
        assert!(part.status.success() && said.contains("1 passed"), "{said}");
    }

    fn write_with_little_room(path: &Path) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Fsize);
        let room = |bytes: u64| {
            let end = std::fs::metadata(path).expect("a file").len() + bytes;
            setrlimit(Resource::Fsize, Rlimit { current: Some(end), ..before }).expect("a limit");
        };
        let free = || setrlimit(Resource::Fsize, before).expect("no limit");
        let mut journal = Journal::open(path).expect("open");
        journal.append(&step(Effect::Stage), Mark::Done).expect("append");
        for bytes in [0, 1, 40] {
            let good = std::fs::read(path).expect("bytes");
            room(bytes);
            journal.append(&step(Effect::Point), Mark::Begun).expect_err("no room");
            assert_eq!(std::fs::read(path).expect("bytes"), good, "nothing of it stays");
            assert_eq!(journal.unfinished(), Some(&step(Effect::Stage)));
            free();
            journal.append(&step(Effect::Commit), Mark::Done).expect("append");
            assert_eq!(Journal::open(path).expect("open").unfinished(), None, "what came after is found");
            journal.append(&step(Effect::Stage), Mark::Done).expect("append");
        }
        // A life's end that finds no room.
        journal.append(&step(Effect::Commit), Mark::Begun).expect("append");
        room(40);
        journal.hold(&step(Effect::Commit), Mark::Done);
        assert_eq!(journal.unfinished(), None, "it is over");
        journal.settle().expect_err("still no room");
        assert_eq!(
            Journal::open(path).expect("open").unfinished(),
            Some(&step(Effect::Commit)),
            "repeated, never undone"
        );
        free();
        journal.settle().expect("written");
        assert_eq!(Journal::open(path).expect("open").unfinished(), None);
        // A way back that finds none, and sticks: what holds is told, and the next start begins it anew.
        journal.append(&step(Effect::Confirm), Mark::Begun).expect("append");
        room(40);
        journal.hold(&step(Effect::StopNew), Mark::Begun);
        assert_eq!((journal.unfinished(), journal.stuck()), (Some(&step(Effect::StopNew)), None));
        journal.hold(&step(Effect::StopNew), Mark::Stuck("no room".into()));
        assert_eq!(journal.stuck(), Some((&step(Effect::StopNew), "no room")));
        assert_eq!(Journal::open(path).expect("open").unfinished(), Some(&step(Effect::Confirm)));
        free();
        journal.hold(&step(Effect::MarkFailed), Mark::Begun);
        assert_eq!(Journal::open(path).expect("open").unfinished(), Some(&step(Effect::MarkFailed)));
    }
}
