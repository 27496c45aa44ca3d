//! What this life has hashed. Invariant: a file is proved only after all of its bytes were hashed and found to be its name's;
//! what is put in its place counts as another file.

use super::{Objects, libc_nofollow};
use crate::{contract::StoreError, digest, tree::Wanted};
use softservice_protocol::id::ObjectId;
use std::{fs::File, os::unix::fs::OpenOptionsExt as _, path::Path, sync::PoisonError};

/// A part of an object's id stands for it, and for which variant it is.
pub(super) fn proof(object: ObjectId, executable: bool) -> u64 {
    let part = object.0.last_chunk().copied().map_or(0, u64::from_le_bytes);
    part ^ u64::from(executable)
}

impl Objects {
    /// This file's bytes were hashed just now, and are right.
    pub(crate) fn prove(&self, object: ObjectId, executable: bool) {
        self.proved.write().unwrap_or_else(PoisonError::into_inner).insert(proof(object, executable));
    }
    pub(super) fn is_proved(&self, object: ObjectId, executable: bool) -> bool {
        self.proved.read().unwrap_or_else(PoisonError::into_inner).contains(&proof(object, executable))
    }
    /// See [`crate::Store::prove`].
    pub(crate) fn prove_all(&self, files: &[(ObjectId, bool)], going: &(dyn Fn() -> bool + Sync)) {
        let stopped = |path: &Path| StoreError::io("read", path, std::io::Error::from(std::io::ErrorKind::Interrupted));
        for (object, executable) in files.iter().copied().filter(|(o, x)| !self.is_proved(*o, *x)) {
            if !going() {
                return;
            }
            let path = self.path(object, executable);
            let Ok(open) = File::options().read(true).custom_flags(libc_nofollow()).open(&path) else { continue };
            let whole = digest::of_file(&open, |_| if going() { Ok(()) } else { Err(stopped(&path)) }, &path);
            if whole.is_ok_and(|found| found == object) {
                self.prove(object, executable);
            }
        }
    }
    /// A file may rot while nobody runs: what this life has not hashed yet, is hashed before a tree gets it. `open` is the
    /// very file that a tree is about to get.
    pub(super) fn proven(&self, file: &Wanted, open: impl FnOnce() -> std::io::Result<File>) -> Result<(), StoreError> {
        if self.is_proved(file.object, file.executable) {
            return Ok(());
        }
        let path = &self.path(file.object, file.executable);
        let open = open().map_err(|e| StoreError::io("open", path, e))?;
        if digest::of_file(&open, |_| Ok(()), path)? == file.object {
            self.prove(file.object, file.executable);
            return Ok(());
        }
        let what = "its bytes are not those of its name; set aside, fetch it again".to_owned();
        Err(StoreError::Damaged { path: path.to_owned(), object: Some(file.object), what })
    }
}
