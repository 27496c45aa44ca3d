//! A publisher's gapless, hash-chained, signed log, and the snapshot that it adds up to.
//! Invariant: entry n+1 names the digest of entry n and the digest of the snapshot after itself, so that a new device
//! may take head and snapshot, an old one the entries since; a position never holds two different entries.

use crate::{
    codec::{self, CodecError, Wire},
    id::{Digest, PublicKey, ReleaseId},
    limits,
    root::TrustedRoot,
    sign::{Envelope, Kind, SignatureError},
    time::{Span, Time},
};
use serde::{Deserialize, Serialize};

mod difference;
mod equivocation;
mod freshness;
mod listing;
mod signed;
mod standing;

pub use difference::{Difference, Word};
pub use equivocation::{Conflict, Equivocation, NoProof, claim};
pub use freshness::{CLOCKS_DIFFER, Freshness, Moment, STALE_AT_MOST, Term, VALID_FOR, freshness};
pub use listing::{Disagreement, offered};
pub(crate) use signed::{Signer, verify_beginning};
use signed::{verify_entry, within_budget};
pub use standing::Behind;

/// A place in a feed. Ordered: epochs before numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, from 1.
    pub epoch: u32,
    /// The entry's number, from 1, without gaps across epochs.
    pub seq: u64,
}

/// A place and what stands there: the anti-rollback mark, and what peers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// Where.
    pub at: Position,
    /// The entry's digest; zero at seq 0.
    pub hash: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Self::START
    }
}
impl Head {
    /// Before the first entry.
    pub const START: Self = Self { at: Position { epoch: 1, seq: 0 }, hash: Digest::ZERO };
}

/// How hard a revocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevokeLevel {
    /// No new installs.
    Withdraw,
    /// Nothing new is started, a replacement or rollback is offered.
    Unsafe,
}

/// That a release was taken back: how hard, and what its users are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revocation {
    /// How hard.
    pub level: RevokeLevel,
    /// What to take instead.
    pub replaced_by: Option<ReleaseId>,
    /// Why, for people.
    pub reason: String,
}

/// A published release, as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listing {
    /// The distro's name.
    pub distro: String,
    /// Version, semantic; then packaging revision.
    pub version: String,
    /// Packaging revision.
    pub revision: u32,
    /// The channel, `stable` unless told otherwise.
    pub channel: String,
    /// The release.
    pub release: ReleaseId,
    /// Bytes of the release document.
    pub size: u32,
    /// One line about it.
    pub summary: String,
    /// Releases that it improves on, own or foreign.
    pub parents: Vec<ReleaseId>,
    /// Set once revoked. In the catalogue, not only in the entry: a new device never sees the entry.
    pub revoked: Option<Revocation>,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Adds a release.
    Release(Listing),
    /// Stops one.
    Revoke {
        /// The release.
        release: ReleaseId,
        /// How hard, and what people are told.
        revocation: Revocation,
    },
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub at: Position,
    /// Digest of the entry before; zero at seq 1.
    pub prev: Digest,
    /// What it does.
    pub action: Action,
    /// Digest of the canonical [`Snapshot`] after it.
    pub state_root: Digest,
    /// When it was made, by the publisher's clock.
    pub issued_at: Time,
    /// The delegated key that appends it; none when the roles do. Whoever signed, it counts as this key's.
    pub by: Option<PublicKey>,
}
impl Wire for Entry {
    const NAME: &'static str = "feed entry";
    const LIMIT: usize = limits::ENTRY_BYTES;
    // Version 1 knew no delegated keys.
    const VERSION: u8 = 2;
}

/// "This head is current", by the online key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// The head it vouches for.
    pub head: Head,
    /// The newest root version.
    pub root_version: u64,
    /// When it was made.
    pub issued_at: Time,
    /// For how long it holds: 1 hour to 90 days.
    pub valid_for: Span,
}
impl Wire for Fresh {
    const NAME: &'static str = "freshness statement";
    const LIMIT: usize = limits::GOSSIP_BYTES;
}

/// All releases of a publisher, ascending by (distro, channel order of publication).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// In the order of their entries.
    pub listings: Vec<Listing>,
    /// How many entries each delegated key appended, ascending by key: signed with the rest, so that a newcomer knows
    /// what is left of a budget without having seen the entries.
    pub spent: Vec<Spent>,
}

/// Entries of one delegated key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Whose.
    pub key: PublicKey,
    /// How many, from 1.
    pub entries: u32,
}
impl Wire for Snapshot {
    const NAME: &'static str = "feed snapshot";
    const LIMIT: usize = limits::SNAPSHOT_BYTES;
    // Version 1 kept a revocation's level only, version 2 no delegated keys.
    const VERSION: u8 = 3;
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Already known; harmless.
    #[error("entry {0} is already known")]
    Known(u64),
    /// Entries between are missing; ask for them.
    #[error("entry {found} arrived while {wanted} is the next")]
    Gap {
        /// The next one.
        wanted: u64,
        /// The one offered.
        found: u64,
    },
    /// Same position, another entry: the publisher spoke twice.
    #[error("publisher signed two different entries {0}")]
    Equivocation(u64),
    /// Its epoch is not the one that the root opened.
    #[error("entry of epoch {found} while epoch {open} is open")]
    Epoch {
        /// The open epoch.
        open: u32,
        /// The entry's epoch.
        found: u32,
    },
    /// The root opened a new epoch after an entry that is not where this state stands: its branch was given up. Start
    /// again from the new head and its snapshot.
    #[error("feed was reopened after entry {after}, this state stands at {head}")]
    Reopened {
        /// The last entry that still counts.
        after: u64,
        /// Where this state stands.
        head: u64,
    },
    /// `prev`, `state_root` or the action do not fit what came before.
    #[error("entry {seq} does not continue the feed: {why}")]
    Broken {
        /// Its number.
        seq: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// Signatures.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Snapshot {
    /// Digest of the canonical bytes.
    ///
    /// # Errors
    /// When the catalogue has outgrown its limit.
    pub fn state_root(&self) -> Result<Digest, CodecError> {
        Ok(Digest::of(&codec::encode(self)?))
    }
}

/// What a node knows of one feed: verified up to `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedState {
    /// The newest verified entry.
    pub head: Head,
    /// What the entries add up to.
    pub snapshot: Snapshot,
    /// When the head's entry was made.
    pub issued_at: Time,
}

impl Default for FeedState {
    fn default() -> Self {
        Self { head: Head::START, snapshot: Snapshot::default(), issued_at: Time(0) }
    }
}

impl FeedState {
    /// Verifies `envelope` as the next entry under `root`.
    ///
    /// # Errors
    /// See [`FeedError`]; the state is unchanged.
    pub fn accept(&self, root: &TrustedRoot, envelope: &Envelope) -> Result<(Self, Entry), FeedError> {
        self.follow(root, envelope).map(|(state, entry, _)| (state, entry))
    }
    /// [`FeedState::accept`], and who signed it.
    pub(crate) fn follow(&self, root: &TrustedRoot, envelope: &Envelope) -> Result<(Self, Entry, Signer), FeedError> {
        let (entry, signer) = verify_entry(root, envelope)?;
        let hash = envelope.digest();
        self.stands_under(root)?;
        if entry.at == self.head.at && hash != self.head.hash {
            return Err(FeedError::Equivocation(entry.at.seq));
        }
        if entry.at.seq <= self.head.at.seq {
            return Err(FeedError::Known(entry.at.seq));
        }
        // A publisher may sign the largest number there is; nothing follows it, and nothing wraps around.
        let wanted = self.head.at.seq.saturating_add(1);
        if entry.at.seq != wanted {
            return Err(FeedError::Gap { wanted, found: entry.at.seq });
        }
        let broken = |why| FeedError::Broken { seq: entry.at.seq, why };
        if entry.prev != self.head.hash {
            return Err(broken("it names another predecessor"));
        }
        let snapshot = self.snapshot.after(&entry.action, entry.by).map_err(broken)?;
        if snapshot.state_root()? != entry.state_root {
            return Err(broken("its state root is not what the entries add up to"));
        }
        if signer == Signer::Delegate {
            within_budget(root, &entry, &snapshot).map_err(broken)?;
            // Or an end that has come would be no end.
            if entry.issued_at < self.issued_at {
                return Err(broken("a delegated key dates it before the entry before"));
            }
        }
        let issued_at = entry.issued_at;
        Ok((Self { head: Head { at: entry.at, hash }, snapshot, issued_at }, entry, signer))
    }

    /// Starts from a head entry and its snapshot, as a new device does: only from what the release role itself signed,
    /// for nobody else may say what a whole catalogue holds; or from the entry that the root names as the open epoch's
    /// beginning, for which the root's own signatures vouch.
    ///
    /// # Errors
    /// See [`FeedError`].
    pub fn onboard(root: &TrustedRoot, head: &Envelope, snapshot: &[u8]) -> Result<Self, FeedError> {
        let entry = verify_beginning(root, head)?;
        // What breaks these rules proves nothing, so it must not be taken on any road.
        entry.action.check().map_err(|why| FeedError::Broken { seq: entry.at.seq, why })?;
        if Digest::of(snapshot) != entry.state_root {
            return Err(FeedError::Broken { seq: entry.at.seq, why: "the snapshot is not the one it commits to" });
        }
        let snapshot: Snapshot = codec::decode(snapshot)?;
        snapshot.check().map_err(|why| FeedError::Broken { seq: entry.at.seq, why })?;
        if !snapshot.follows(&entry.action) {
            return Err(FeedError::Broken { seq: entry.at.seq, why: "the snapshot does not hold what the entry did" });
        }
        Ok(Self { head: Head { at: entry.at, hash: head.digest() }, snapshot, issued_at: entry.issued_at })
    }

    /// The entry that would carry `action` next, ready to be encoded and signed.
    ///
    /// # Errors
    /// [`FeedError::Broken`] when the action does not fit.
    pub fn draft(&self, root: &TrustedRoot, action: Action, now: Time) -> Result<Entry, FeedError> {
        self.draft_by(root, action, None, now)
    }
    /// The same, for a delegated key to sign.
    ///
    /// # Errors
    /// [`FeedError::Broken`] when the action does not fit, or the key has no right to it.
    pub fn draft_by(
        &self,
        root: &TrustedRoot,
        action: Action,
        by: Option<PublicKey>,
        now: Time,
    ) -> Result<Entry, FeedError> {
        let open = root.root.feed;
        if !open.stands(self.head) {
            return Err(FeedError::Reopened { after: open.from_seq, head: self.head.at.seq });
        }
        let at = Position { epoch: root.root.feed.epoch, seq: self.head.at.seq.saturating_add(1) };
        let broken = |why| FeedError::Broken { seq: at.seq, why };
        let after = self.snapshot.after(&action, by).map_err(broken)?;
        let bytes = codec::encode(&after)?;
        // Others take it all the same; whoever goes so far could not stop a release any more.
        if matches!(action, Action::Release(_)) && bytes.len() > limits::CATALOGUE_BYTES {
            return Err(broken(
                "the catalogue is full, and what room is left is for revocations: go on as another publisher",
            ));
        }
        let state_root = Digest::of(&bytes);
        let entry = Entry { at, prev: self.head.hash, action, state_root, issued_at: now, by };
        if let Some(key) = by {
            let delegation = root.delegation(key).ok_or(broken("the root delegates nothing to this key"))?;
            delegation.permits(&entry.action, now).map_err(broken)?;
            within_budget(root, &entry, &after).map_err(broken)?;
        }
        Ok(entry)
    }
}

/// Verifies a freshness statement.
///
/// # Errors
/// See [`FeedError`]; a validity outside 1 hour to 90 days is broken.
pub fn verify_fresh(root: &TrustedRoot, envelope: &Envelope) -> Result<Fresh, FeedError> {
    let role = root.role(Kind::Fresh);
    envelope.verify(Kind::Fresh, root.publisher, "fresh", &role.keys, role.threshold.into())?;
    let fresh: Fresh = envelope.open()?;
    if fresh.valid_for < Span::seconds(3600) || fresh.valid_for > Span::days(90) {
        return Err(FeedError::Broken { seq: fresh.head.at.seq, why: "its validity is not within 1 hour to 90 days" });
    }
    Ok(fresh)
}
