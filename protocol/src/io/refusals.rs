//! What was refused, counted by the step of verification that refused it (SPEC 11). Invariant: a count only goes up, and
//! each refusal counts once, at the first step that did not hold.
//!
//! One counter for all was refused: a peer that floods, a publisher whose keys changed and a disk that rots look alike in it.

/// A step of verification, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Connections, handshakes, messages and pulls beyond what one peer or network may.
    Limits,
    /// A frame or message longer than its kind may be.
    Length,
    /// About a publisher that nobody here follows.
    Unfollowed,
    /// Of a feed that is known to have two histories.
    Frozen,
    /// Signatures that do not hold, or of keys that the newest root does not name.
    Signature,
    /// Bytes that are no value of their kind, or not in its one form.
    Form,
    /// Not what may stand at its place: epoch, number, what came before, rules of the object.
    Place,
    /// What its publisher took back.
    Revoked,
    /// On a word that is too old, or from behind what was known once.
    Stale,
    /// What the owner, or a policy of theirs, did not agree to.
    Consent,
    /// Content whose bytes are not what their id says.
    Content,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 11] = [
        Self::Limits,
        Self::Length,
        Self::Unfollowed,
        Self::Frozen,
        Self::Signature,
        Self::Form,
        Self::Place,
        Self::Revoked,
        Self::Stale,
        Self::Consent,
        Self::Content,
    ];
    /// Its name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limits => "limits",
            Self::Length => "length",
            Self::Unfollowed => "unfollowed",
            Self::Frozen => "frozen",
            Self::Signature => "signature",
            Self::Form => "form",
            Self::Place => "place",
            Self::Revoked => "revoked",
            Self::Stale => "stale",
            Self::Consent => "consent",
            Self::Content => "content",
        }
    }
}

/// How often each step refused something in this life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([u64; Step::ALL.len()]);

impl Refusals {
    /// One more.
    pub fn count(&mut self, step: Step) {
        if let Some(count) = self.0.get_mut(step as usize) {
            *count = count.saturating_add(1);
        }
    }
    /// How many there were.
    pub fn of(&self, step: Step) -> u64 {
        self.0.get(step as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_and_a_count_of_its_own() {
        let mut refusals = Refusals::default();
        for (nth, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, nth, "{step:?}");
            (0..=nth).for_each(|_| refusals.count(step));
        }
        for (nth, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(refusals.of(step), nth as u64 + 1, "{step:?}");
        }
        let names: std::collections::BTreeSet<_> = Step::ALL.map(Step::name).into_iter().collect();
        assert_eq!(names.len(), Step::ALL.len());
    }
}
