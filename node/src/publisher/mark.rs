//! How far this home's own feed has come, in a file beside the keys: whoever loses the store, and its marks with it, still
//! knows that numbers were taken. Invariant: the file is never ahead of what the store knew, and never behind what was signed;
//! it only goes up.
//!
//! With nothing but the keys a home would begin at entry 1 again, which freezes its feed for good. Asking some peers how far the
//! feed came was refused as the only guard: a home that meets nobody, or only who came late, would hear of nothing.

use super::{Keys, PublisherError};
use crate::{home::write_private, identity::KeyError};
use softservice_protocol::{
    feed::{Head, Position},
    id::{Digest, FeedId},
    io::Record,
};
use softservice_store::Store;
use std::{fs, io::ErrorKind, path::PathBuf};

/// Its name in the publisher's folder.
const FILE: &str = "mark";

/// The line for a place: epoch, number, digest.
fn line(head: Head) -> String {
    format!("{} {} {}", head.at.epoch, head.at.seq, head.hash)
}
/// Two lines: the place, and the BLAKE3 of that line.
fn text(head: Head) -> String {
    let line = line(head);
    format!("{line}\n{}\n", Digest::of(line.as_bytes()))
}
fn parse(text: &str) -> Option<Head> {
    let mut fields = text.lines().next()?.split(' ');
    let at = Position { epoch: fields.next()?.parse().ok()?, seq: fields.next()?.parse().ok()? };
    let head = Head { at, hash: fields.next()?.parse().ok()? };
    // Only the very text that is written for it: what is damaged anywhere is none.
    (self::text(head) == text).then_some(head)
}

impl Keys {
    fn mark_file(&self) -> PathBuf {
        self.folder.join(FILE)
    }
    /// What the file says; none when there is none yet.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn mark(&self) -> Result<Option<Head>, PublisherError> {
        let path = self.mark_file();
        match fs::read(&path) {
            Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(parse) {
                Some(head) => Ok(Some(head)),
                None => Err(PublisherError::Mark(path)),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeyError::Io { action: "read", path, source }.into()),
        }
    }
    /// Writes the store's mark of the own feed down, durably, where it is higher than the file's.
    ///
    /// # Errors
    /// When it cannot be written.
    fn raise_mark(&self, head: Head) -> Result<(), PublisherError> {
        if self.mark()?.is_some_and(|known| known.at >= head.at) {
            return Ok(());
        }
        self.write_mark(head)
    }
    fn write_mark(&self, head: Head) -> Result<(), PublisherError> {
        let path = self.mark_file();
        write_private(&path, text(head).as_bytes())
            .map_err(|source| KeyError::Io { action: "write", path, source }.into())
    }

    /// After records were kept: what they say of the own feed is known beside the keys, too, before anybody builds on them.
    ///
    /// # Errors
    /// When the store or the file fails; then the records do not count as kept.
    pub fn kept(&self, store: &dyn Store, records: &[Record]) -> Result<(), String> {
        let Some(own) = self.publisher().filter(|own| records.iter().any(|r| r.publisher() == Some(*own))) else {
            return Ok(());
        };
        match store.mark(FeedId::main(own)).map_err(|e| e.to_string())? {
            Some(head) => match self.mark().map_err(|e| e.to_string())? {
                // This node made both agree when it began, and was the only one since that writes either.
                Some(known) if known.at > head.at => Err(format!(
                    "another home with these keys wrote entry {} down: two must not speak at once",
                    known.at.seq
                )),
                _ => self.raise_mark(head).map_err(|e| e.to_string()),
            },
            None => Ok(()),
        }
    }

    /// At a start: makes file and store agree, each with the higher place of the two. A store that is behind was lost, or
    /// is an older copy: its mark is raised, so that nothing is signed until peers have brought back what is missing.
    ///
    /// # Errors
    /// When the file is damaged and the store knows no better, or either cannot be written.
    pub(crate) fn agree(&self, store: &dyn Store) -> Result<(), PublisherError> {
        let Some(own) = self.publisher() else { return Ok(()) };
        let failed = |e: softservice_store::StoreError| PublisherError::Store(e.to_string());
        let stored = store.mark(FeedId::main(own)).map_err(failed)?;
        let known = match (self.mark(), stored) {
            (Ok(known), _) => known,
            (Err(error), Some(stored)) => {
                tracing::warn!(%error, "what is known beside the keys is written anew from the store");
                return self.write_mark(stored);
            }
            (Err(error), None) => return Err(error),
        };
        if let Some(known) = known.filter(|known| stored.is_none_or(|stored| stored.at < known.at)) {
            let entry = known.at.seq;
            tracing::warn!(
                entry,
                "the store does not know how far this publisher's feed came; nothing is signed until a peer shows it"
            );
            return store.raise_mark(FeedId::main(own), known).map_err(failed);
        }
        if let Some(Err(error)) = stored.map(|stored| self.raise_mark(stored)) {
            // A folder that cannot be written to, or a full disk: what is here can be seen and mended, and nothing is signed while
            // it stays so, for no record of this feed counts as kept then.
            tracing::warn!(%error, "how far this publisher's feed came cannot be written beside its keys; it signs nothing until it can");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(epoch: u32, seq: u64) -> Head {
        Head { at: Position { epoch, seq }, hash: Digest::of(&seq.to_be_bytes()) }
    }

    #[test]
    fn a_mark_reads_as_it_was_written_and_any_changed_byte_is_noticed() {
        let whole = text(head(3, 41));
        assert_eq!(parse(&whole), Some(head(3, 41)));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert_eq!(std::str::from_utf8(&bytes).ok().and_then(parse), None, "byte {at}, bit {bit}");
            }
            assert_eq!(parse(&whole[..at]), None, "cut at {at}");
        }
        assert_eq!(parse(&format!("{whole} ")), None);
    }

    #[test]
    fn a_mark_goes_up_and_never_down() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::open(home.path()).unwrap();
        keys.create(softservice_protocol::time::Time(0)).unwrap();
        assert_eq!(keys.mark().unwrap(), None);
        for (raised, stands) in
            [(head(0, 7), head(0, 7)), (head(0, 6), head(0, 7)), (head(1, 2), head(1, 2)), (head(0, 9), head(1, 2))]
        {
            keys.raise_mark(raised).unwrap();
            assert_eq!(keys.mark().unwrap(), Some(stands));
        }
    }
}
