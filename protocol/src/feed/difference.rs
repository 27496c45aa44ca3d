//! What a publisher that spoke twice said each time, for people. Invariant: nothing here decides anything: a proof is checked
//! where it is taken, this only reads it.

use super::{Action, Conflict, Entry, Equivocation, Fresh, RevokeLevel};
use crate::{
    id::{Digest, PublicKey},
    root::Root,
    sign::{Envelope, Kind},
    text::Foreign,
};
use std::fmt;

/// One of the two words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// In words, as the publisher spelled names.
    pub what: String,
    /// Of the entry, the named head or the document: what the two differ in for certain.
    pub digest: Digest,
    /// The delegated key that appended it, where one did.
    pub by: Option<PublicKey>,
}

/// The first place where two histories differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Conflict,
    /// In one.
    pub one: Word,
    /// In the other.
    pub other: Word,
}

impl Equivocation {
    /// What the two envelopes say; none when one of them cannot be read. `entry` gives what is known to stand at a number: a
    /// statement names its head by digest only.
    pub fn difference(&self, entry: impl Fn(u64) -> Option<Envelope>) -> Option<Difference> {
        let (place, one) = word(&self.one, &entry)?;
        Some(Difference { place, one, other: word(&self.other, &entry)?.1 })
    }
}

fn word(envelope: &Envelope, entry: &impl Fn(u64) -> Option<Envelope>) -> Option<(Conflict, Word)> {
    let digest = envelope.digest();
    Some(match envelope.kind {
        Kind::Entry => {
            let entry: Entry = envelope.open().ok()?;
            let what = match &entry.action {
                Action::Release(l) => {
                    format!("{} {} ({})", Foreign(&l.distro), Foreign(&l.version), l.release.short())
                }
                Action::Revoke { release, revocation } => {
                    let level = match revocation.level {
                        RevokeLevel::Withdraw => "withdraw",
                        RevokeLevel::Unsafe => "unsafe",
                    };
                    format!("the revocation ({level}) of {}", release.short())
                }
            };
            (Conflict::Feed(entry.at), Word { what, digest, by: entry.by })
        }
        Kind::Fresh => {
            let fresh: Fresh = envelope.open().ok()?;
            if let Some(known) =
                entry(fresh.head.at.seq).filter(|e| e.kind == Kind::Entry && e.digest() == fresh.head.hash)
            {
                return word(&known, entry);
            }
            let what = "a head that it calls current".into();
            (Conflict::Feed(fresh.head.at), Word { what, digest: fresh.head.hash, by: None })
        }
        Kind::Root => {
            let root: Root = envelope.open().ok()?;
            (Conflict::Root(root.version), Word { what: "a root document".into(), digest, by: None })
        }
    })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Conflict::Feed(at) => write!(f, "entry {} is ", at.seq)?,
            Conflict::Root(version) => write!(f, "root document {version} is ")?,
        }
        let side = |w: &Word| format!("{} [{}]", w.what, w.digest.short());
        write!(f, "{} in one history and {} in the other", side(&self.one), side(&self.other))
    }
}
