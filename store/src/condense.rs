//! The log of records, written anew without what nothing needs any more. Invariant: what is left says the same, by the judgement
//! of whoever reads it; what cannot be read, or has a hole, is never rewritten here: a check does that, and tells of it.

use crate::{
    contract::StoreError,
    journal::{Log, Scan},
};
use softservice_protocol::{codec, io::Record, machine};

/// A log shorter than this is not worth a look: it is read at every start anyway, in no time.
const LONG: u64 = 16 << 20;

/// The length at which a log that is so long now is looked at again: seldom enough that looking costs no more than writing did.
pub(crate) fn due(end: u64) -> u64 {
    LONG.max(end.saturating_mul(2))
}

/// Rewrites a log that is long for what it says. A crash or a full disk leaves it as it is.
pub(crate) fn condense(log: &mut Log) -> Result<(), StoreError> {
    if log.end() < LONG {
        return Ok(());
    }
    let before = log.end();
    let Scan { records: payloads, holes, .. } = log.read(Log::start())?;
    if !holes.is_empty() {
        return Ok(());
    }
    let mut records = Vec::new();
    // A later version wrote those that do not decode, and will read them again.
    let places: Vec<Option<usize>> = payloads
        .iter()
        .map(|(_, payload)| {
            records.push(codec::decode::<Record>(payload).ok()?);
            Some(records.len() - 1)
        })
        .collect();
    let Some(condensed) = machine::condense(&records) else { return Ok(()) };
    let added = condensed.add.iter().map(codec::encode).collect::<Result<Vec<_>, _>>()?;
    let stays = |place: &Option<usize>| place.is_none_or(|n| condensed.keep.get(n) != Some(&false));
    let kept = payloads.iter().zip(&places).filter(|(_, place)| stays(place)).map(|((_, payload), _)| payload);
    log.rewrite(kept.chain(&added).map(Vec::as_slice))?;
    tracing::info!(log = %log.path().display(), before, after = log.end(), "the log of records is written anew, shorter");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::{
        feed::{Action, Entry, Position, Revocation, RevokeLevel},
        id::{Digest, FeedId, PublisherId, ReleaseId},
        sign::{Envelope, Kind},
        time::Time,
    };

    /// A catalogue of a megabyte at this number. Nobody signed it, so it leads to nothing with or without the others.
    fn onboarded(seq: u64) -> Record {
        let publisher = PublisherId([7; 32]);
        let revocation = Revocation { level: RevokeLevel::Unsafe, replaced_by: None, reason: "leaks".into() };
        let entry = Entry {
            at: Position { epoch: 1, seq },
            prev: Digest([1; 32]),
            action: Action::Revoke { release: ReleaseId([2; 32]), revocation },
            state_root: Digest([3; 32]),
            issued_at: Time(4),
            by: None,
        };
        let payload = codec::encode(&entry).unwrap();
        let envelope = Envelope::seal(Kind::Entry, publisher, FeedId::main(publisher), payload, &[]);
        Record::Onboarded { publisher, envelope: codec::encode(&envelope).unwrap(), snapshot: vec![0; 1 << 20] }
    }
    fn records(log: &Log) -> Vec<Vec<u8>> {
        log.read(Log::start()).unwrap().records.into_iter().map(|(_, payload)| payload).collect()
    }
    fn open(path: &std::path::Path) -> Log {
        Log::open(path, path.parent().unwrap(), &mut |flaw| panic!("{flaw:?}")).unwrap()
    }

    #[test]
    fn a_long_log_loses_what_nothing_needs_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut log = open(&path);
        let address = codec::encode(&Record::Address { address: "/ip4/10.0.0.1/tcp/1".into() }).unwrap();
        // Of a later version.
        let unknown = b"\x09later".to_vec();
        log.append([address.as_slice(), &unknown]).unwrap();
        for seq in 1..=15 {
            log.append([codec::encode(&onboarded(seq)).unwrap().as_slice()]).unwrap();
        }
        condense(&mut log).unwrap();
        assert_eq!(records(&log).len(), 17, "it is not long yet");
        log.append([codec::encode(&onboarded(16)).unwrap().as_slice()]).unwrap();
        condense(&mut log).unwrap();
        let left = vec![address, unknown, codec::encode(&onboarded(16)).unwrap()];
        assert_eq!(records(&log), left);
        drop(log);
        assert_eq!(records(&open(&path)), left);
    }

    #[test]
    fn a_log_with_a_hole_is_left_to_whoever_tells_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut log = open(&path);
        for seq in 1..=20 {
            log.append([codec::encode(&onboarded(seq)).unwrap().as_slice()]).unwrap();
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10 << 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        condense(&mut log).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    /// Opening is one time to look, keeping the other.
    #[test]
    fn a_store_never_has_a_log_much_longer_than_what_it_says() {
        use crate::contract::Store;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/records");
        let store = crate::disk::open(dir.path()).unwrap();
        let mut longest = 0;
        for seq in 1..=40 {
            store.keep(&onboarded(seq)).unwrap();
            longest = longest.max(std::fs::metadata(&path).unwrap().len());
        }
        assert!(longest < 2 * LONG + (4 << 20), "{longest}");
        let left = store.records().unwrap();
        assert_eq!(left.last(), Some(&onboarded(40)));
        drop(store);
        let mut log = open(&path);
        for seq in 41..=60 {
            log.append([codec::encode(&onboarded(seq)).unwrap().as_slice()]).unwrap();
        }
        drop(log);
        let store = crate::disk::open(dir.path()).unwrap();
        assert_eq!(store.records().unwrap(), [onboarded(60)]);
        assert_eq!(store.mark(FeedId::main(PublisherId([7; 32]))).unwrap().map(|h| h.at.seq), Some(60));
    }
}
