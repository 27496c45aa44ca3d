//! Proof that a publisher spoke twice. Invariant: an [`Equivocation`] that passed holds two statements, each signed by
//! the keys that the root names for it, about one place and with two different contents; nobody but the holders of
//! those keys can make one.

use super::{FeedError, Position, signed::verify_signed, verify_fresh};
use crate::{
    codec::{CodecError, Wire},
    id::{Digest, PublisherId},
    root::{Root, TrustedRoot},
    sign::{Envelope, Kind, SignatureError},
};
use serde::{Deserialize, Serialize};

/// Two signed payloads for one position: self-contained, checkable by anybody who has the root chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// Whose feed.
    pub publisher: PublisherId,
    /// The smaller digest's envelope.
    pub one: Envelope,
    /// The other.
    pub other: Envelope,
}
impl Wire for Equivocation {
    const NAME: &'static str = "equivocation proof";
    // Two root documents of any size: a proof that could not be kept would thaw the feed at the next start. Two entries that
    // prove something have at most `PROOF_BYTES`.
    const LIMIT: usize = 2 * (Envelope::LIMIT + 16);
}

/// Where a publisher spoke twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conflict {
    /// About what stands at this place of its feed: two entries, or a freshness statement and an entry, or two
    /// statements.
    Feed(Position),
    /// Two root documents of this version.
    Root(u64),
}

/// Why two envelopes prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// Both say the same of one place.
    #[error("both envelopes say the same")]
    Same,
    /// They speak of different places.
    #[error("the envelopes speak of different places")]
    Elsewhere,
    /// The smaller digest does not come first, or another publisher is named.
    #[error("the proof is not in its one order, or names another publisher")]
    Disorder,
    /// An entry that no device takes, so nobody was told another history by it; and nobody is made to keep and pass on more than
    /// [`crate::limits::PROOF_BYTES`].
    #[error("an entry breaks the rules: {0}")]
    Rules(&'static str),
    /// One of them is not what the publisher's keys signed.
    #[error(transparent)]
    Unsigned(#[from] FeedError),
}
impl From<SignatureError> for NoProof {
    fn from(error: SignatureError) -> Self {
        Self::Unsigned(error.into())
    }
}
impl From<CodecError> for NoProof {
    fn from(error: CodecError) -> Self {
        Self::Unsigned(error.into())
    }
}

/// The place that an envelope speaks of, and the digest that it puts there.
///
/// # Errors
/// [`NoProof::Unsigned`] when the publisher's keys did not sign it, [`NoProof::Rules`] when its action breaks them.
pub fn claim(root: &TrustedRoot, envelope: &Envelope) -> Result<(Conflict, Digest), NoProof> {
    match envelope.kind {
        Kind::Entry => {
            let (entry, _) = verify_signed(root, envelope)?;
            entry.action.check().map_err(NoProof::Rules)?;
            Ok((Conflict::Feed(entry.at), envelope.digest()))
        }
        Kind::Fresh => {
            let fresh = verify_fresh(root, envelope)?;
            Ok((Conflict::Feed(fresh.head.at), fresh.head.hash))
        }
        Kind::Root => {
            let role = root.role(Kind::Root);
            envelope.verify(Kind::Root, root.publisher, "root", &role.keys, role.threshold.into())?;
            let document: Root = envelope.open()?;
            Ok((Conflict::Root(document.version), envelope.digest()))
        }
    }
}

impl Equivocation {
    /// Makes the proof, if the two envelopes are one.
    ///
    /// # Errors
    /// Why they are not.
    pub fn make(root: &TrustedRoot, a: &Envelope, b: &Envelope) -> Result<Self, NoProof> {
        let (one, other) = if a.digest() <= b.digest() { (a, b) } else { (b, a) };
        let proof = Self { publisher: root.publisher, one: one.clone(), other: other.clone() };
        proof.check(root)?;
        Ok(proof)
    }
    /// Checks the proof under the publisher's root: both signatures, one place, two contents.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn check(&self, root: &TrustedRoot) -> Result<Conflict, NoProof> {
        if self.publisher != root.publisher || self.one.digest() > self.other.digest() {
            return Err(NoProof::Disorder);
        }
        let (one, other) = (claim(root, &self.one)?, claim(root, &self.other)?);
        match one.0 == other.0 {
            false => Err(NoProof::Elsewhere),
            true if one.1 == other.1 => Err(NoProof::Same),
            true => Ok(one.0),
        }
    }
}
