//! Objects become files of trees: hard links, else reflinks or copies. Invariant: what a tree gets is the very file that was
//! hashed in this life, whatever becomes of its name meanwhile.

use super::{Objects, clone, copy, is_gone, libc_nofollow, name};
use crate::{
    contract::StoreError,
    copies::Originals,
    tree::{self, Place, Placed, Wanted},
};
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use softservice_protocol::id::ObjectId;
use std::{
    fs::File,
    os::{fd::BorrowedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Places files of one tree. Links stop being tried once the target turned out to be on another file system.
pub(crate) struct Placer<'a> {
    objects: &'a Objects,
    pub(super) no_links: AtomicBool,
}

impl<'a> Placer<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        Self { objects, no_links: AtomicBool::new(false) }
    }
    /// Hashes what was linked, if this life has not. After the link and not before: a file with two names is not renamed
    /// by whoever wants the other variant meanwhile, and a large one takes seconds to hash.
    fn prove_link(&self, dir: BorrowedFd<'_>, name: &str, file: &Wanted) -> Result<(), StoreError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.objects.proven(file, || Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?.into()))
    }
    /// Tries to link; None when links cannot do it here.
    fn link(&self, dir: BorrowedFd<'_>, name: &str, from: &str) -> Result<Option<()>, StoreError> {
        use rustix::io::Errno;
        if self.no_links.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let _gate = self.objects.gate.read().unwrap_or_else(PoisonError::into_inner);
        match rustix::fs::linkat(&self.objects.handle, from, dir, name, AtFlags::empty()) {
            Ok(()) => Ok(Some(())),
            // A file may have about 65,000 links; others of this tree may still be linked.
            Err(Errno::MLINK) => Ok(None),
            Err(Errno::XDEV | Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => {
                self.no_links.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(e) => Err(StoreError::io("link", &self.objects.root.join(from), e)),
        }
    }
}

impl Place for Placer<'_> {
    fn place(&self, dir: BorrowedFd<'_>, to: &str, file: &Wanted) -> Result<Placed, StoreError> {
        let from = name(file.object, file.executable);
        let path = || self.objects.root.join(&from);
        // The variant may be changed away by another tree between two looks; more than a few times is a fault.
        for _ in 0..8 {
            let Some(stat) = self.objects.stat(file.object, file.executable) else {
                self.objects.make_variant(file)?;
                continue;
            };
            if stat.st_size as u64 != file.size {
                let what = format!("it has {} bytes, the manifest says {}", stat.st_size, file.size);
                return Err(StoreError::Damaged { path: path(), object: Some(file.object), what });
            }
            if stat.st_mode & 0o7777 != tree::mode(file.executable) {
                match self.objects.mend_mode(&path(), file.executable) {
                    Err(e) if is_gone(&e) => continue,
                    mended => mended?,
                }
            }
            match self.link(dir, to, &from) {
                Ok(Some(())) => match self.prove_link(dir, to, file) {
                    Ok(()) => return Ok(Placed::Linked),
                    Err(e) => {
                        let _ = rustix::fs::unlinkat(dir, to, AtFlags::empty());
                        return Err(e);
                    }
                },
                Ok(None) => {}
                Err(e) if is_gone(&e) => continue,
                Err(e) => return Err(e),
            }
            let open = || File::options().read(true).custom_flags(libc_nofollow()).open(path());
            let read = |e| StoreError::io("read", &path(), e);
            let source = match open() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                source => source.map_err(read)?,
            };
            self.objects.proven(file, || source.try_clone())?;
            let copied = tree::create(dir, to, tree::mode(file.executable))
                .map_err(|e| StoreError::io("create", Path::new(to), e))?;
            if clone(&source, &copied) {
                return Ok(Placed::Cloned);
            }
            self.objects.room_for(file.size)?;
            copy(&source, &copied).map_err(|e| StoreError::io("copy", &path(), e))?;
            return Ok(Placed::Copied);
        }
        let what = "its variants keep changing; try again".to_owned();
        Err(StoreError::Damaged { path: path(), object: Some(file.object), what })
    }
}

impl Originals for Placer<'_> {
    fn is_own(&self, file: &Wanted, found: &Stat) -> bool {
        let own = self.objects.stat(file.object, file.executable);
        own.is_some_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
    }
    fn has(&self, object: ObjectId) -> bool {
        self.objects.has(object)
    }
}
