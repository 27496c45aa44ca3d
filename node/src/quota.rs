//! How much of a publisher's content, and how much in all, may be here. Invariant: whoever is about to bring content is
//! weighed together with all who were let in before and have not come to their end, one at a time; so of two that fit only
//! one by one, one is refused before any of its content is on the wire. A limit is in its file, whole, before it is
//! acknowledged.
//!
//! What counts for a publisher is every object that one of its releases needs, with all that the release includes: the owner
//! asked for that release, whoever made its parts. What two publishers share counts for each, and once in all.

use crate::home;
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    definition::units,
    id::{PublisherId, ReleaseId},
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Where the limits are, below the home.
const FILE: &str = "quotas.toml";

/// Whose limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// Everything here.
    All,
    /// One publisher's content.
    Publisher(PublisherId),
}

/// The owner's limits, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits(pub(crate) BTreeMap<Whose, u64>);

/// What somebody wants to bring, beside a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighed {
    /// Whose limit.
    pub(crate) whose: Whose,
    /// The limit.
    pub(crate) quota: u64,
    /// Bytes that count for it and that something needs, those included that come for others who were let in.
    pub(crate) kept: u64,
    /// Bytes that would come to these.
    pub(crate) needed: u64,
    /// Bytes that would be here as it is, superfluous ones included.
    pub(crate) full: u64,
}

impl Weighed {
    /// There is room as it is.
    pub(crate) fn fits(&self) -> bool {
        self.needed == 0 || self.full <= self.quota
    }
    /// There is room when nothing is here that nothing needs.
    pub(crate) fn fits_swept(&self) -> bool {
        self.needed == 0 || self.kept.saturating_add(self.needed) <= self.quota
    }
}

/// More than a limit allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} may have {} here and needs {} of it already; this release needs {} more",
    units::bytes(*quota), units::bytes(*used), units::bytes(*needed)
)]
pub(crate) struct OverQuota {
    /// Whose limit.
    pub(crate) whose: Whose,
    /// What the owner calls that.
    pub(crate) name: String,
    /// Which release was refused.
    pub(crate) release: ReleaseId,
    /// The limit in bytes.
    pub(crate) quota: u64,
    /// Bytes that stay when everything is swept that nothing needs.
    pub(crate) used: u64,
    /// Bytes that would have come.
    pub(crate) needed: u64,
}

/// Why there is no telling what the limits are, or no setting them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuotaError {
    /// The file is not what was written.
    #[error("{file} is damaged: {why}", file = .file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk said no.
    #[error("{action} {file}: {source}", file = .file.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        file: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(default)]
    publisher: Vec<Row>,
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    bytes: u64,
}

impl Limits {
    /// The owner's, as they are now.
    ///
    /// # Errors
    /// When the file is there and not what was written: then nobody may say that there is no limit.
    pub(crate) fn read(home: &Path) -> Result<Self, QuotaError> {
        let file = home.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(QuotaError::Io { action: "read", file, source }),
        };
        let damaged = |why: String| QuotaError::Damaged { file: file.clone(), why };
        let document: Document = toml::from_str(&text).map_err(|e| damaged(e.message().to_owned()))?;
        let mut limits: BTreeMap<Whose, u64> = document.total.map(|bytes| (Whose::All, bytes)).into_iter().collect();
        for row in document.publisher {
            let id = row.id.parse().map_err(|_| damaged(format!("{:?} is no publisher", row.id)))?;
            limits.insert(Whose::Publisher(id), row.bytes);
        }
        Ok(Self(limits))
    }
    fn write(&self, home: &Path) -> Result<(), QuotaError> {
        let mut document = Document::default();
        for (whose, bytes) in &self.0 {
            match whose {
                Whose::All => document.total = Some(*bytes),
                Whose::Publisher(id) => document.publisher.push(Row { id: id.to_string(), bytes: *bytes }),
            }
        }
        let file = home.join(FILE);
        let failed = |source| QuotaError::Io { action: "write", file: file.clone(), source };
        let text = toml::to_string(&document).map_err(|e| failed(io::Error::other(e)))?;
        home::write_private(&file, text.as_bytes()).map_err(failed)
    }
    /// The limit, if there is one.
    pub(crate) fn of(&self, whose: Whose) -> Option<u64> {
        self.0.get(&whose).copied()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Who was let in and has not come to an end, by a number of its own.
    coming: BTreeMap<u64, ReleaseId>,
    numbers: u64,
    /// What was refused last for each limit, until something of it is let in or the limit changes.
    refused: BTreeMap<Whose, OverQuota>,
}

/// The limits of one node, and who was let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quotas {
    state: Arc<Mutex<State>>,
    /// One is weighed at a time, or one limit changed.
    turn: Arc<tokio::sync::Mutex<()>>,
    changed: Arc<Notify>,
}

/// One release was let in, and counts as all here as long as this lives.
#[derive(Debug)]
pub(crate) struct Coming(Quotas, u64);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.state().coming.remove(&self.1);
    }
}

impl Quotas {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Nobody else is weighed, and no limit changes, as long as the answer lives.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }
    /// A release is let in. Whoever weighs has the turn, so that the next one is weighed with it.
    pub(crate) fn let_in(&self, release: ReleaseId) -> Coming {
        let mut state = self.state();
        state.numbers += 1;
        let number = state.numbers;
        state.coming.insert(number, release);
        Coming(self.clone(), number)
    }
    /// Releases that were let in and are on their way.
    pub(crate) fn coming(&self) -> Vec<ReleaseId> {
        self.state().coming.values().copied().collect()
    }
    /// Keeps in mind what was refused.
    pub(crate) fn refuse(&self, over: OverQuota) {
        self.state().refused.insert(over.whose, over);
    }
    /// What these limits refused last is of no interest any more.
    pub(crate) fn forgive(&self, whose: impl IntoIterator<Item = Whose>) {
        let mut state = self.state();
        whose.into_iter().for_each(|whose| drop(state.refused.remove(&whose)));
    }
    /// What this limit refused last.
    pub(crate) fn refused(&self, whose: Whose) -> Option<OverQuota> {
        self.state().refused.get(&whose).cloned()
    }
    /// Sets or takes away a limit, durably.
    ///
    /// # Errors
    /// What the file or the disk says; the limit is what it was then.
    pub(crate) async fn set(&self, home: &Path, whose: Whose, quota: Option<u64>) -> Result<(), QuotaError> {
        let _turn = self.turn().await;
        let mut limits = Limits::read(home)?;
        match quota {
            Some(bytes) => limits.0.insert(whose, bytes),
            None => limits.0.remove(&whose),
        };
        limits.write(home)?;
        self.forgive([whose]);
        self.changed.notify_waiters();
        Ok(())
    }
    /// Comes when a limit is changed after this was called.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(n: u8) -> Whose {
        Whose::Publisher(PublisherId([n; 32]))
    }

    #[tokio::test]
    async fn limits_outlive_the_node_and_damage_is_not_taken_for_none() {
        let home = tempfile::tempdir().expect("a folder");
        let quotas = Quotas::default();
        assert_eq!(Limits::read(home.path()).expect("none yet"), Limits::default());
        quotas.set(home.path(), Whose::All, Some(1 << 40)).await.expect("set");
        quotas.set(home.path(), publisher(1), Some(7)).await.expect("set");
        quotas.set(home.path(), publisher(2), Some(8)).await.expect("set");
        quotas.set(home.path(), publisher(1), None).await.expect("taken away");
        let limits = Limits::read(home.path()).expect("read");
        assert_eq!(
            (limits.of(Whose::All), limits.of(publisher(1)), limits.of(publisher(2))),
            (Some(1 << 40), None, Some(8))
        );
        for damaged in ["total = -1", "[[publisher]]\nid = \"me\"\nbytes = 3", "totl = 1"] {
            std::fs::write(home.path().join(FILE), damaged).expect("written");
            assert!(matches!(Limits::read(home.path()), Err(QuotaError::Damaged { .. })), "{damaged}");
            assert!(quotas.set(home.path(), Whose::All, None).await.is_err(), "it would be written over");
        }
    }

    #[test]
    fn a_sweep_is_of_use_only_where_something_is_superfluous() {
        let weighed = |used: u64, kept, needed: u64| {
            let full = used.saturating_add(needed);
            Weighed { whose: Whose::All, quota: 100, kept, needed, full }
        };
        let both = |w: Weighed| (w.fits(), w.fits_swept());
        assert_eq!(both(weighed(60, 60, 40)), (true, true));
        assert_eq!(both(weighed(61, 60, 40)), (false, true));
        assert_eq!(both(weighed(61, 61, 40)), (false, false));
        assert_eq!(both(weighed(u64::MAX, u64::MAX, u64::MAX)), (false, false));
        assert_eq!(both(weighed(500, 400, 0)), (true, true), "what is here is not taken away, nor refused");
    }

    #[test]
    fn who_was_let_in_counts_until_the_end() {
        let quotas = Quotas::default();
        let (one, two) = (ReleaseId([1; 32]), ReleaseId([2; 32]));
        let first = quotas.let_in(one);
        let again = quotas.let_in(one);
        let other = quotas.let_in(two);
        drop(first);
        assert_eq!(quotas.coming(), [one, two], "another fetch of the same goes on");
        drop((again, other));
        assert!(quotas.coming().is_empty());
    }
}
