//! The end of the log of records after a power cut and after damage. Invariant: an append that nobody was told of costs
//! nothing and is no damage; whatever was acknowledged and is not there any more is a loss, however it looks.

mod cast;

use cast::{noise, scratch};
use softservice_protocol::{
    feed::{Head, Position},
    id::{Digest, FeedId, PublisherId},
    io::Record,
};
use softservice_store::{DiskStore, Store, open};
use std::{fs, os::unix::fs::FileExt, path::Path};

const PUBLISHER: PublisherId = PublisherId([5; 32]);
const LOG: &str = "logs/records";
const TOLD: &str = "logs/records.told";

fn head(seq: u64) -> Head {
    Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) }
}
fn record(seq: u64) -> Record {
    Record::Reserved { publisher: PUBLISHER, head: head(seq) }
}
fn copy(from: &Path) -> tempfile::TempDir {
    fn walk(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() { walk(&from, &to) } else { fs::copy(from, to).map(|_| ()).unwrap() }
        }
    }
    let to = scratch();
    walk(from, to.path());
    to
}

/// A closed store whose last record was acknowledged, and what stood on its disk before that record came.
struct Ends {
    before: tempfile::TempDir,
    after: tempfile::TempDir,
    /// Where the last record begins.
    begin: usize,
    log: Vec<u8>,
}

impl Ends {
    fn new() -> Self {
        let after = scratch();
        let store = open(after.path()).unwrap();
        (1..=3).for_each(|seq| store.keep(&record(seq)).unwrap());
        drop(store);
        let before = copy(after.path());
        let store = open(after.path()).unwrap();
        store.keep(&record(4)).unwrap();
        drop(store);
        let begin = fs::metadata(before.path().join(LOG)).unwrap().len() as usize;
        let log = fs::read(after.path().join(LOG)).unwrap();
        assert!(begin < log.len());
        Self { before, after, begin, log }
    }
    /// As a power cut left it while the last record was written, which came this far.
    fn torn(&self, log: &[u8]) -> tempfile::TempDir {
        let dir = copy(self.before.path());
        fs::write(dir.path().join(LOG), log).unwrap();
        dir
    }
    /// The log as something made it after all was acknowledged.
    fn harmed(&self, log: &[u8]) -> tempfile::TempDir {
        let dir = copy(self.after.path());
        fs::write(dir.path().join(LOG), log).unwrap();
        dir
    }
}

fn upto(store: &DiskStore, seq: u64) {
    assert_eq!(store.records().unwrap(), (1..=seq).map(record).collect::<Vec<_>>());
}
/// What was lost is told until somebody deals with it.
fn is_lost(dir: &Path, what: &str) {
    for _ in 0..2 {
        let store = open(dir).unwrap();
        let losses = store.losses();
        assert_eq!(losses.len(), 1, "{what}");
        let found = store.fsck(&|_| true).unwrap();
        assert_eq!((found.losses, found.unheard), (losses, None), "{what}");
        upto(&store, 3);
        assert_eq!(store.mark(FeedId::main(PUBLISHER)).unwrap(), Some(head(4)), "{what}");
    }
}
/// Nothing was lost, and the log goes on.
fn goes_on(dir: &Path, what: &str, cut: bool) {
    let store = open(dir).unwrap();
    upto(&store, 3);
    assert_eq!(store.mark(FeedId::main(PUBLISHER)).unwrap(), Some(head(3)), "{what}");
    let found = store.fsck(&|_| true).unwrap();
    assert_eq!((found.losses.len(), found.damaged.len(), found.unheard.is_some()), (0, 0, cut), "{what}");
    assert_eq!(store.fsck(&|_| true).unwrap().unheard, None, "told once");
    store.keep(&record(4)).unwrap();
    drop(store);
    let store = open(dir).unwrap();
    upto(&store, 4);
    let found = store.fsck(&|_| true).unwrap();
    assert_eq!((found.losses.len(), found.damaged.len(), found.unheard), (0, 0, None), "{what}");
}

#[test]
fn a_record_that_nobody_was_told_of_may_be_torn_at_every_byte_and_nothing_is_lost() {
    let ends = Ends::new();
    for at in ends.begin..ends.log.len() {
        goes_on(ends.torn(&ends.log[..at]).path(), &format!("cut at {at}"), at > ends.begin);
        // The length was on the disk, and not all of the bytes.
        let mut log = ends.log.clone();
        if at % 2 == 0 {
            log[at..].fill(0)
        } else {
            log[at] ^= 1
        }
        if log != ends.log {
            goes_on(ends.torn(&log).path(), &format!("other bytes from {at} on"), true);
        }
    }
    // More than was ever written there.
    goes_on(ends.torn(&[&ends.log[..ends.begin], &noise(5000, 1)].concat()).path(), "noise", true);
}

#[test]
fn an_acknowledged_last_record_that_is_damaged_or_gone_is_lost() {
    let ends = Ends::new();
    for at in ends.begin..ends.log.len() {
        is_lost(ends.harmed(&ends.log[..at]).path(), &format!("cut at {at}"));
        let mut log = ends.log.clone();
        log[at] ^= 1 << (at % 8);
        is_lost(ends.harmed(&log).path(), &format!("a bit at {at}"));
    }
}

/// It may have been told of from the opening on that found it: its reader takes it for kept.
#[test]
fn a_record_that_was_whole_when_the_store_opened_is_acknowledged() {
    let ends = Ends::new();
    let dir = ends.torn(&ends.log);
    upto(&open(dir.path()).unwrap(), 4);
    fs::write(dir.path().join(LOG), &ends.log[..ends.log.len() - 1]).unwrap();
    is_lost(dir.path(), "found whole, then torn");
}

#[test]
fn without_knowing_what_was_told_a_torn_record_is_lost() {
    let ends = Ends::new();
    let torn = &ends.log[..ends.log.len() - 1];
    let told = fs::read(ends.before.path().join(TOLD)).unwrap();
    let lost = |what: &str, change: &dyn Fn(&Path)| {
        let dir = ends.torn(torn);
        change(&dir.path().join(TOLD));
        let store = open(dir.path()).unwrap();
        let losses = store.losses();
        assert!(losses.len() == 1 && losses[0].what.contains("is not known"), "{what}: {losses:?}");
        upto(&store, 3);
    };
    lost("an earlier version's", &|told| fs::remove_file(told).unwrap());
    lost("cut off", &|path| fs::write(path, &told[..30]).unwrap());
    for at in 0..told.len() {
        let mut told = told.clone();
        told[at] ^= 1;
        lost("a bit", &|path| fs::write(path, &told).unwrap());
    }
    lost("another log's", &|path| fs::copy(Ends::new().before.path().join(TOLD), path).map(|_| ()).unwrap());

    // Somebody appended who notes nothing: what came last may have been acknowledged.
    let dir = ends.harmed(&[ends.log.as_slice(), b"torn"].concat());
    fs::write(dir.path().join(TOLD), &told).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(store.losses().len(), 1);
    upto(&store, 4);
}

/// Whole or not, the log is the same: only what is known of it is mended.
#[test]
fn a_whole_log_is_whole_whatever_became_of_the_note_beside_it() {
    let ends = Ends::new();
    for harm in [&b""[..], b"no note at all", &[0; 56]] {
        let dir = ends.harmed(&ends.log);
        fs::write(dir.path().join(TOLD), harm).unwrap();
        let store = open(dir.path()).unwrap();
        let found = store.fsck(&|_| true).unwrap();
        assert_eq!((found.losses.len(), found.damaged.len()), (0, usize::from(!harm.is_empty())));
        upto(&store, 4);
        // Under a running store as well.
        fs::write(dir.path().join(TOLD), "what somebody wrote over it").unwrap();
        let damaged = store.fsck(&|_| true).unwrap().damaged;
        assert!(damaged.len() == 1 && damaged[0].file.ends_with(TOLD), "{damaged:?}");
        drop(store);
        fs::write(dir.path().join(LOG), &ends.log[..ends.begin]).unwrap();
        is_lost(dir.path(), "it was known again");
    }
}

/// A log that is written anew is another one, and is known as well.
#[test]
fn a_log_that_a_check_wrote_anew_is_told_of_as_far_as_it_goes() {
    let ends = Ends::new();
    let mut log = ends.log.clone();
    log[8192 + 30] ^= 1;
    let dir = ends.harmed(&log);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.fsck(&|_| true).unwrap().losses.len(), 1);
    store.acknowledge().unwrap();
    drop(store);
    let path = dir.path().join(LOG);
    let len = fs::metadata(&path).unwrap().len();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"begun", len).unwrap();
    let found = open(dir.path()).unwrap().fsck(&|_| true).unwrap();
    assert!(found.losses.is_empty() && found.unheard.is_some(), "{found:?}");
    file.set_len(len - 1).unwrap();
    assert_eq!(open(dir.path()).unwrap().losses().len(), 1);
}
