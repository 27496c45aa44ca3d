//! Which objects may be here, in memory: four bytes of every id. Invariant: an object with a name on the disk is never
//! denied, because it is entered before it gets its name and nothing is ever taken out; whatever is not denied is looked
//! for on the disk. A fetch of a hundred thousand small files asks half a million times for what is not here.

use softservice_protocol::id::ObjectId;
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// Answers "surely not here", or "look".
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: RwLock<HashSet<u32>>,
    /// Everything that an earlier life left is entered; before that nothing can be denied.
    whole: AtomicBool,
}

fn short(object: ObjectId) -> u32 {
    u32::from_le_bytes([object.0[1], object.0[2], object.0[3], object.0[4]])
}

impl Names {
    /// Begins to read what is there, on a thread of its own: a store of a million objects opens without waiting for it.
    pub(crate) fn open(root: &Path) -> Arc<Self> {
        let names = Arc::new(Self::default());
        let (root, entered) = (root.to_owned(), Arc::downgrade(&names));
        let thread = std::thread::Builder::new().name("names".into()).spawn(move || Self::list(&root, &entered));
        if let Err(e) = thread {
            tracing::debug!("every object is looked for on the disk: {e}");
        }
        names
    }
    /// Ends early when the store is closed, and leaves it at looking when a folder cannot be read.
    fn list(root: &Path, names: &Weak<Self>) {
        for shard in 0..=255u8 {
            let Ok(folder) = std::fs::read_dir(root.join(format!("{shard:02x}"))) else { return };
            let mut found = Vec::new();
            for entry in folder {
                let Ok(entry) = entry else { return };
                let object = entry.file_name().to_str().and_then(|name| name.get(..64)?.parse().ok());
                found.extend(object.map(short));
            }
            let Some(names) = names.upgrade() else { return };
            names.known.write().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
        if let Some(names) = names.upgrade() {
            names.whole.store(true, Ordering::Release);
        }
    }
    /// An object is about to get its name.
    pub(crate) fn enter(&self, object: ObjectId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(short(object));
    }
    /// False only for what is surely not here.
    pub(crate) fn may_have(&self, object: ObjectId) -> bool {
        !self.whole.load(Ordering::Acquire)
            || self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&short(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_and_what_came_is_never_denied() {
        let dir = tempfile::tempdir().unwrap();
        let object = |n: u8| ObjectId::of(&[n]);
        for shard in 0..=255u8 {
            std::fs::create_dir(dir.path().join(format!("{shard:02x}"))).unwrap();
        }
        for n in 0..50u8 {
            let name = object(n).to_string();
            let executable = if n % 2 == 0 { "" } else { ".x" };
            std::fs::write(dir.path().join(&name[..2]).join(format!("{name}{executable}")), b"").unwrap();
        }
        let names = Arc::new(Names::default());
        assert!((0..255).all(|n| names.may_have(object(n))), "denied before everything was read");
        names.enter(object(60));
        Names::list(dir.path(), &Arc::downgrade(&names));
        names.enter(object(61));
        assert!((0..50).chain([60, 61]).all(|n| names.may_have(object(n))));
        assert!((100..255).all(|n| !names.may_have(object(n))));
    }

    #[test]
    fn a_folder_that_cannot_be_read_denies_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let names = Arc::new(Names::default());
        Names::list(dir.path(), &Arc::downgrade(&names));
        assert!(names.may_have(ObjectId::of(b"any")));
    }
}
