//! What makes files and names durable. Invariant: nothing counts as synced because a call returned that the file system
//! below does not honour.
//!
//! One `syncfs` replaces thousands of syncs. A file system that a program serves (FUSE) never hears of it: the kernel
//! writes its own pages out, answers that all is well, and what the program makes of that nobody knows. So only file systems
//! that are known to honour it are asked; elsewhere each file and folder is synced by itself.

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

/// File systems of which the kernel knows what is on the disk: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS and bcachefs. Not
/// overlays: what they are made of does not show, and may be a program's.
pub(crate) const OWN: [u64; 7] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// Whether one call makes everything on the file system of this file durable.
pub(crate) fn has_whole(file: impl AsFd) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| OWN.contains(&(stat.f_type as u64 & 0xffff_ffff)))
}

/// Makes a file, or the names in a folder, durable.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    #[cfg(test)]
    tests::SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| StoreError::io("sync", path, e))
}

/// Makes each of these durable, several at once.
pub(crate) fn sync_each<P: AsRef<Path> + Sync>(paths: &[P]) -> Result<(), StoreError> {
    paths.par_iter().try_for_each(|path| sync(path.as_ref()))
}

/// Makes a folder and those above it that are not there, names and all. From above, each with its name before the next: what
/// a life that was killed may have left unsynced is the lowest that is there, whose name is synced in any case.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
    let lowest = missing.last().map_or(Some(dir), |at| at.parent()).filter(|at| !at.as_os_str().is_empty());
    if let Some(lowest) = lowest {
        match sync(above(lowest)) {
            // It may be somebody else's folder, or one that has nothing to sync.
            Err(StoreError::Io { source, .. }) if has_no_sync(&source) => {}
            synced => synced?,
        }
    }
    for made in missing.into_iter().rev() {
        match std::fs::create_dir(made) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(StoreError::io("create", made, e)),
            _ => sync(above(made))?,
        }
    }
    Ok(())
}
fn above(dir: &Path) -> &Path {
    match dir.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => dir,
    }
}
fn has_no_sync(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(e.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
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
    use std::{cell::RefCell, path::PathBuf};

    thread_local! {
        /// What this thread synced.
        pub(super) static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn a_folder_is_made_with_all_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("some/where/deep");
        create_dir(&deep).unwrap();
        assert!(deep.is_dir());
        let above = |n| deep.ancestors().nth(n).unwrap().to_owned();
        assert_eq!(SYNCED.take(), [above(4), above(3), above(2), above(1)]);
        // As after a kill between the folder and the sync of its name.
        create_dir(&deep).unwrap();
        assert_eq!(SYNCED.take(), [above(1)]);
        assert!(sync_each(&[deep.clone(), deep.join("not there")]).is_err());
        create_dir(Path::new("/")).unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        create_dir(&dir.path().join("file/below")).unwrap_err();
    }

    #[test]
    fn only_known_file_systems_are_synced_as_a_whole() {
        let (fuse, overlay) = (0x6573_5546, 0x794c_7630);
        assert!(OWN.contains(&0xef53) && !OWN.contains(&fuse) && !OWN.contains(&overlay));
        assert!(!has_whole(File::open("/proc").unwrap()));
    }
}
