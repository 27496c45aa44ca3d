//! How large objects are that were looked at lately, in memory. Invariant: what is known here was on the disk when it was
//! looked at, and nothing of this store took it away since. Others may have: what is acknowledged is looked at again.
//!
//! An update of a hundred thousand small files asks seven times for each of them: for the plan, for what is wanted, for what
//! peers may be told, before and after the names are given. Only the first and the last are worth a look.

use softservice_protocol::id::ObjectId;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Objects known at most, about 20 bytes each: then all are forgotten.
const KNOWN: usize = 1 << 18;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// Eight bytes stand for an id. Which ones is a secret of this process, so that nobody finds two ids with the same.
    secret: RandomState,
    known: RwLock<HashMap<u64, u32>>,
    /// Goes up with everything that is taken away: a look that began before says nothing.
    taken: AtomicU64,
}

/// When a look began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(u64);

impl Sizes {
    /// The size of an object that was seen here.
    pub(crate) fn get(&self, object: ObjectId) -> Option<u64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&self.secret.hash_one(object.0)).map(|size| u64::from(*size))
    }
    /// To be asked before looking.
    pub(crate) fn since(&self) -> Since {
        Since(self.taken.load(Ordering::SeqCst))
    }
    /// What a look found that began then.
    pub(crate) fn saw(&self, since: Since, object: ObjectId, size: u64) {
        let Ok(size) = u32::try_from(size) else { return };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if self.taken.load(Ordering::SeqCst) != since.0 {
            return;
        }
        if known.len() >= KNOWN {
            *known = HashMap::new();
        }
        known.insert(self.secret.hash_one(object.0), size);
    }
    /// An object is to be looked at again; it may well be here.
    pub(crate) fn drop(&self, object: ObjectId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&self.secret.hash_one(object.0));
    }
    /// An object is not here any more, or not what it was. To be said after it is gone.
    pub(crate) fn forget(&self, object: ObjectId) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        self.taken.fetch_add(1, Ordering::SeqCst);
        known.remove(&self.secret.hash_one(object.0));
    }
    /// Everything is looked at again.
    pub(crate) fn forget_all(&self) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_before_something_was_taken_says_nothing() {
        let sizes = Sizes::default();
        let object = |n: u8| ObjectId::of(&[n]);
        let early = sizes.since();
        sizes.saw(sizes.since(), object(1), 10);
        assert_eq!((sizes.get(object(1)), sizes.get(object(2))), (Some(10), None));
        sizes.forget(object(1));
        sizes.saw(early, object(1), 10);
        assert_eq!(sizes.get(object(1)), None);
        sizes.saw(sizes.since(), object(1), u64::from(u32::MAX) + 1);
        assert_eq!(sizes.get(object(1)), None);
    }

    #[test]
    fn what_is_known_has_a_bound() {
        let sizes = Sizes::default();
        for n in 0..=KNOWN {
            sizes.saw(sizes.since(), ObjectId::of(&n.to_le_bytes()), 1);
        }
        assert_eq!(sizes.known.read().unwrap().len(), 1);
    }
}
