//! Proofs that publishers spoke twice, once more in a log of their own. Invariant: a proof that was kept is found again unless
//! both logs lost it. The log of records is long, and what damage takes out of it peers bring back; but a feed whose proof it
//! took would be open until one of them repeats it, and no mark tells of that.

use crate::{
    contract::StoreError,
    journal::{Flaw, Log},
};
use softservice_protocol::{codec, io::Record};
use std::path::{Path, PathBuf};

/// The log, which is made with the first proof: most stores never have one.
#[derive(Debug)]
pub(crate) struct Proofs {
    path: PathBuf,
    aside: PathBuf,
    log: Option<Log>,
}

/// Whether it is kept twice.
pub(crate) fn is_proof(record: &Record) -> bool {
    matches!(record, Record::Proof { .. })
}

impl Proofs {
    /// Opens the log where there is one; puts into it what `records` has and it has not.
    pub(crate) fn open(
        logs: &Path,
        aside: &Path,
        records: &[Record],
        tell: &mut dyn FnMut(&Path, Flaw),
    ) -> Result<Self, StoreError> {
        let mut proofs = Self { path: logs.join("proofs"), aside: aside.to_owned(), log: None };
        if proofs.path.exists() {
            let path = proofs.path.clone();
            proofs.log = Some(Log::open(&path, aside, &mut |flaw| {
                tell(&path, flaw);
                Ok(())
            })?);
        }
        proofs.add(records);
        Ok(proofs)
    }
    /// Keeps a proof; returns when it would survive a power cut.
    pub(crate) fn keep(&mut self, record: &Record) -> Result<(), StoreError> {
        if self.read()?.contains(record) {
            return Ok(());
        }
        let bytes = codec::encode(record)?;
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(Log::open(&self.path, &self.aside, &mut |_| Ok(()))?),
        };
        log.append([bytes.as_slice()])
    }
    /// Keeps the proofs among these. What finds no room stands in the log of records still.
    pub(crate) fn add(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| is_proof(record)) {
            if let Err(e) = self.keep(record) {
                tracing::warn!(log = %self.path.display(), "a proof is not kept apart: {e}");
            }
        }
    }
    /// All that are here.
    pub(crate) fn read(&self) -> Result<Vec<Record>, StoreError> {
        let Some(log) = &self.log else { return Ok(Vec::new()) };
        let payloads = log.read(Log::start())?.records;
        Ok(payloads.iter().filter_map(|(_, payload)| codec::decode(payload).ok()).collect())
    }
    /// Its log, for a check.
    pub(crate) fn log(&mut self) -> Option<&mut Log> {
        self.log.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract::Store, disk::open};
    use softservice_protocol::{feed::Head, id::PublisherId};
    use std::fs::File;

    fn proof(n: u8) -> Record {
        Record::Proof { proof: vec![n; 300] }
    }
    fn other(n: u8) -> Record {
        Record::Reserved { publisher: PublisherId([n; 32]), head: Head::START }
    }
    fn proofs(dir: &Path) -> Vec<Record> {
        open(dir).unwrap().records().unwrap().into_iter().filter(is_proof).collect()
    }
    fn kept() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        for record in [other(1), proof(7), other(2), proof(7), other(3)] {
            store.keep(&record).unwrap();
        }
        dir
    }
    /// Flips a bit of the first copy of the proof in this log.
    fn damage(dir: &Path, log: &str) {
        let path = dir.join("logs").join(log);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(300).position(|w| w == [7; 300]).unwrap();
        bytes[at + 9] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_proof_outlives_whatever_happens_to_the_log_of_records() {
        let harms: [fn(&Path); 4] = [
            |dir| (0..2).for_each(|_| damage(dir, "records")),
            |dir| std::fs::remove_file(dir.join("logs/records")).unwrap(),
            |dir| std::fs::write(dir.join("logs/records"), [0; 9000]).unwrap(),
            |dir| File::options().write(true).open(dir.join("logs/records")).unwrap().set_len(8300).unwrap(),
        ];
        for harm in harms {
            let dir = kept();
            harm(dir.path());
            for _ in 0..2 {
                assert_eq!(proofs(dir.path()), [proof(7)]);
                open(dir.path()).unwrap().fsck(&|_| true).unwrap();
            }
        }
    }

    #[test]
    fn what_happens_to_the_log_of_proofs_is_told_and_mended_from_the_other() {
        let dir = kept();
        damage(dir.path(), "proofs");
        let store = open(dir.path()).unwrap();
        let said = store.fsck(&|_| true).unwrap();
        assert!(said.damaged.iter().any(|d| d.file.ends_with("logs/proofs")) && said.losses.is_empty(), "{said:?}");
        assert!(store.fsck(&|_| true).unwrap().damaged.is_empty());
        drop(store);
        (0..2).for_each(|_| damage(dir.path(), "records"));
        assert_eq!(proofs(dir.path()), [proof(7)]);
        // A store of an earlier program has them in one place only.
        let dir = kept();
        std::fs::remove_file(dir.path().join("logs/proofs")).unwrap();
        drop(open(dir.path()).unwrap());
        std::fs::remove_file(dir.path().join("logs/records")).unwrap();
        assert_eq!(proofs(dir.path()), [proof(7)]);
    }

    #[test]
    fn a_store_without_proofs_has_no_log_of_them() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap().keep(&other(1)).unwrap();
        assert!(!dir.path().join("logs/proofs").exists());
    }
}
