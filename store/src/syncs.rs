//! What makes files and names durable. Invariant: nothing counts as synced because a call returned that the file system
//! below does not honour.
//!
//! One `syncfs` replaces thousands of syncs. A file system that a program serves (FUSE) never hears of it: the kernel
//! writes its own pages out, answers that all is well, and what the program makes of that nobody knows. There each file
//! and folder is synced by itself, which the program is told of.

use crate::contract::StoreError;
use rayon::prelude::*;
use std::{
    fs::File,
    os::fd::AsFd,
    path::Path,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// From so many files or folders on, one sync of the whole file system is cheaper than one for each.
pub(crate) const SYNC_EACH: usize = 32;

/// What `statfs` calls a file system that a program serves.
const FUSE: u64 = 0x6573_5546;

/// Whether one call makes everything on the file system of this file durable.
pub(crate) fn has_whole(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type as u64 != FUSE)
}

/// Makes a file, or the names in a folder, durable.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| StoreError::io("sync", path, e))
}

/// Makes each of these durable, several at once.
pub(crate) fn sync_each<P: AsRef<Path> + Sync>(paths: &[P]) -> Result<(), StoreError> {
    paths.par_iter().try_for_each(|path| sync(path.as_ref()))
}

/// Makes a folder and those above it that are not there, names and all.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
    std::fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
    for made in missing {
        match made.parent() {
            Some(above) if !above.as_os_str().is_empty() => sync(above)?,
            _ => sync(Path::new("."))?,
        }
    }
    Ok(())
}

/// Syncs that several rely on: of everything, and of folders that are everybody's. The kernel tells of a failed write once,
/// to whoever asks first, and answers the next one that all is well; so who failed is counted, and whoever began to write
/// before that has failed as well.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    /// Held for reading while one goes on and until it is counted. Never across work of other cores.
    going: RwLock<()>,
    failed: AtomicU64,
    /// So many of the next ones fail.
    #[cfg(test)]
    pub(crate) broken: AtomicU64,
}

impl Syncs {
    /// To be asked before the first write that one of these is to make durable.
    pub(crate) fn since(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
    /// How many failed, with those that go on.
    pub(crate) fn failures(&self) -> u64 {
        drop(self.going.write().unwrap_or_else(PoisonError::into_inner));
        self.since()
    }
    /// To be asked after a sync: what was written since then is durable only if nobody's failed meanwhile.
    pub(crate) fn none_failed(&self, since: u64, path: &Path) -> Result<(), StoreError> {
        if self.failures() == since {
            return Ok(());
        }
        let what = "another sync failed while this was written, and the disk tells of a failed write once; try again";
        Err(StoreError::io("sync", path, std::io::Error::other(what)))
    }
    /// Makes everything on the file system of this file durable.
    pub(crate) fn whole(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.counted(|| Ok(rustix::fs::syncfs(file)?)).map_err(|e| StoreError::io("sync", path, e))
    }
    /// Makes the names in each of these folders durable, several at once.
    pub(crate) fn folders<P: AsRef<Path> + Sync>(&self, folders: &[P]) -> Result<(), StoreError> {
        folders.par_iter().try_for_each(|folder| {
            let failed = |e| StoreError::io("sync", folder.as_ref(), e);
            let open = File::open(folder).map_err(failed)?;
            self.counted(|| open.sync_all()).map_err(failed)
        })
    }
    fn counted(&self, sync: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
        let _going = self.going.read().unwrap_or_else(PoisonError::into_inner);
        #[cfg(test)]
        let sync = || match self.broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(rustix::io::Errno::IO.into()),
            Err(_) => sync(),
        };
        sync().inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::SeqCst);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_with_all_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("some/where/deep");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        assert!(deep.is_dir());
        assert!(has_whole(File::open(dir.path()).unwrap()), "no test runs on a file system that a program serves");
        assert!(sync_each(&[deep.clone(), deep.join("not there")]).is_err());
    }
}
