//! A manifest becomes a directory. Invariant: everything is made below the descriptor of a fresh staging directory,
//! reached without following any link, and the target's name appears only when all of it is durable.

use crate::{
    contract::{Materialised, StoreError},
    syncs::{self, SYNC_EACH},
};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, RenameFlags, ResolveFlags};
use softservice_protocol::{
    id::ObjectId,
    tree::{Manifest, Node, TreeEntry},
};
use std::{
    collections::BTreeMap,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

/// Entries that one task places: enough to pay for opening the folder.
const TASK: usize = 256;
/// How a file came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    Linked,
    Cloned,
    Copied,
}

/// Puts one file into an open folder.
pub(crate) trait Place: Sync {
    fn place(&self, dir: BorrowedFd<'_>, name: &str, file: &Wanted) -> Result<Placed, StoreError>;
}

/// The file to be placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) object: ObjectId,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

/// Opens a folder below `root` without following links or leaving it.
pub(crate) fn beneath(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if path.is_empty() {
        return rustix::fs::openat(root, ".", flags, Mode::empty());
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6 and some sandboxes lack the call: the same walk, one component at a time.
        Err(rustix::io::Errno::NOSYS) => {
            let mut dir = rustix::fs::openat(root, ".", flags, Mode::empty())?;
            for name in path.split('/') {
                if matches!(name, "" | "." | "..") {
                    return Err(rustix::io::Errno::XDEV);
                }
                dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
            }
            Ok(dir)
        }
        answer => answer,
    }
}

/// What a path stands in, and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Builds the tree at `target`, which must not exist.
pub(crate) fn build(manifest: &Manifest, target: &Path, placer: &dyn Place) -> Result<Materialised, StoreError> {
    manifest.check()?;
    let write = |e: rustix::io::Errno| StoreError::io("materialise", target, e);
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = target.file_name().and_then(|n| n.to_str()) else {
        return Err(StoreError::Unfit { path: target.to_owned(), rule: "is no name for a directory".into() });
    };
    if target.symlink_metadata().is_ok() {
        return Err(write(rustix::io::Errno::EXIST));
    }
    // Dropped on every early return, and then removes what was built.
    let staging = tempfile::Builder::new()
        .prefix(&format!(".{name}.staging-"))
        .tempdir_in(parent)
        .map_err(|e| StoreError::io("create", parent, e))?;
    let root = rustix::fs::open(staging.path(), OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(write)?;

    let folders = make_folders(manifest, root.as_fd(), target)?;
    let mut placed = place_all(manifest, root.as_fd(), target, placer)?;
    placed.bytes = manifest.totals().0;
    rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(write)?;

    // Linked objects were durable before; only names and the bytes of copies are new.
    let copies = placed.copied + placed.cloned > 0;
    if (copies || folders.len() > SYNC_EACH) && syncs::has_whole(&root) {
        rustix::fs::syncfs(&root).map_err(write)?;
    } else {
        if copies {
            let files = manifest.entries.iter().filter(|e| matches!(e.node, Node::File { .. }));
            syncs::sync_each(&files.map(|e| staging.path().join(&e.path)).collect::<Vec<_>>())?;
        }
        for folder in &folders {
            rustix::fs::fsync(&beneath(root.as_fd(), folder).map_err(write)?).map_err(write)?;
        }
        rustix::fs::fsync(&root).map_err(write)?;
    }
    rename_new(staging.path(), target).map_err(write)?;
    let _ = staging.keep();
    sync_dir(parent)?;
    Ok(placed)
}

/// Makes every folder, those above first; manifests list them so. Answers their paths.
fn make_folders(manifest: &Manifest, root: BorrowedFd<'_>, target: &Path) -> Result<Vec<String>, StoreError> {
    let mut made = Vec::new();
    for entry in manifest.entries.iter().filter(|e| e.node == Node::Dir) {
        let write = |e: rustix::io::Errno| StoreError::io("create", &target.join(&entry.path), e);
        let (above, name) = split(&entry.path);
        let dir = beneath(root, above).map_err(write)?;
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).map_err(write)?;
        // The umask may have taken bits away.
        rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty()).map_err(write)?;
        made.push(entry.path.clone());
    }
    Ok(made)
}

fn place_all(
    manifest: &Manifest,
    root: BorrowedFd<'_>,
    target: &Path,
    placer: &dyn Place,
) -> Result<Materialised, StoreError> {
    let mut by_folder: BTreeMap<&str, Vec<&TreeEntry>> = BTreeMap::new();
    for entry in manifest.entries.iter().filter(|e| e.node != Node::Dir) {
        by_folder.entry(split(&entry.path).0).or_default().push(entry);
    }
    let tasks: Vec<(&str, &[&TreeEntry])> =
        by_folder.iter().flat_map(|(folder, entries)| entries.chunks(TASK).map(move |part| (*folder, part))).collect();
    tasks
        .par_iter()
        .map(|(folder, entries)| {
            let write = |path: PathBuf, e: rustix::io::Errno| StoreError::io("materialise", &path, e);
            let dir = beneath(root, folder).map_err(|e| write(target.join(folder), e))?;
            let mut sum = Materialised::default();
            for entry in *entries {
                let name = split(&entry.path).1;
                match &entry.node {
                    Node::Dir => {}
                    Node::Symlink { target: to } => rustix::fs::symlinkat(to.as_str(), &dir, name)
                        .map_err(|e| write(target.join(&entry.path), e))?,
                    Node::File { executable, object, size, .. } => {
                        let file = Wanted { object: *object, size: *size, executable: *executable };
                        match placer.place(dir.as_fd(), name, &file)? {
                            Placed::Linked => sum.linked += 1,
                            Placed::Cloned => sum.cloned += 1,
                            Placed::Copied => sum.copied += 1,
                        }
                    }
                }
            }
            Ok(sum)
        })
        .try_reduce(Materialised::default, |a, b| {
            Ok(Materialised {
                linked: a.linked + b.linked,
                cloned: a.cloned + b.cloned,
                copied: a.copied + b.copied,
                bytes: 0,
            })
        })
}

/// Creates a file that must not exist in an open folder, with exactly this mode.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &str, mode: u32) -> rustix::io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file.into())
}

/// The mode of a file in a tree.
pub(crate) fn mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// Renames onto a name that must be free.
fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    use rustix::fs::CWD;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems do not know the flag; plain rename still refuses a directory that holds something.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => rustix::fs::rename(from, to),
        answer => answer,
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    syncs::sync(dir)
}

/// The permission bits of a file.
pub(crate) fn bits(meta: &std::fs::Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;
    use softservice_protocol::chunk::Cutting;

    struct Nothing;
    impl Place for Nothing {
        fn place(&self, dir: BorrowedFd<'_>, name: &str, _: &Wanted) -> Result<Placed, StoreError> {
            create(dir, name, 0o444).map(|_| Placed::Copied).map_err(|e| StoreError::io("create", Path::new(name), e))
        }
    }
    fn file(path: &str) -> TreeEntry {
        let node = Node::File { executable: false, object: ObjectId::of(b""), size: 0, chunks: vec![] };
        TreeEntry { path: path.into(), node }
    }
    fn link(path: &str, target: &str) -> TreeEntry {
        TreeEntry { path: path.into(), node: Node::Symlink { target: target.into() } }
    }

    #[test]
    fn hostile_manifests_write_nothing_anywhere() {
        let table = [
            vec![file("../evil")],
            vec![file("/etc/evil")],
            vec![file("a/../../evil")],
            vec![file("..")],
            vec![file(".")],
            vec![file("")],
            vec![file("a//b")],
            vec![file("nothing/above")],
            vec![link("way", ".."), file("way/evil")],
            vec![link("way", "/tmp")],
            vec![link("way", "../../evil")],
            vec![file("twice"), file("twice")],
            vec![file("Case"), file("case")],
            vec![file("nul\0")],
            vec![file("line\nfeed")],
            vec![file("x/y"), TreeEntry { path: "x".into(), node: Node::Dir }],
        ];
        for entries in table {
            let above = tempfile::tempdir().unwrap();
            let parent = above.path().join("parent");
            std::fs::create_dir(&parent).unwrap();
            let manifest = Manifest { cutting: Cutting::STANDARD, entries };
            let built = build(&manifest, &parent.join("tree"), &Nothing);
            assert!(built.is_err(), "{:?} was built", manifest.entries);
            assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0, "{:?} left something", manifest.entries);
            assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 1);
        }
    }

    /// The second wall, should the first ever let something pass.
    #[test]
    fn a_walk_never_follows_a_link_nor_leaves() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/real/deep")).unwrap();
        for (name, target) in [("up", ".."), ("abs", "/tmp"), ("side", "real")] {
            std::os::unix::fs::symlink(target, dir.path().join("root").join(name)).unwrap();
        }
        let root =
            rustix::fs::open(dir.path().join("root"), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        assert!(beneath(root.as_fd(), "real/deep").is_ok());
        for path in ["up", "abs", "side", "side/deep", "..", "real/../..", "/", "/tmp", "real/deep/../../.."] {
            assert!(beneath(root.as_fd(), path).is_err(), "{path} was opened");
        }
    }

    #[test]
    fn a_target_that_is_no_name_is_refused() {
        let manifest = Manifest { cutting: Cutting::STANDARD, entries: vec![] };
        for target in ["/", "..", ""] {
            assert!(build(&manifest, Path::new(target), &Nothing).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("dangling")).unwrap();
        assert!(build(&manifest, &dir.path().join("dangling"), &Nothing).is_err());
    }
}
