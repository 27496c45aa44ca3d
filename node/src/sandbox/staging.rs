//! A view of the device for one launch, as root: what the program may see is put side by side in a place of its own, so
//! that it can be reached whatever the modes of the folders above it. Invariant: the view is a mount namespace of this
//! process; nothing is mounted where anybody else sees it, and it is gone with the last process in it.
//!
//! To open the folders of the home for everybody instead was refused: it would show every user of the device the names
//! of all softservices, and it cannot open what is above the home.

use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount, open_tree,
    },
    thread::UnshareFlags,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Where the view is, inside it. Bubblewrap builds its own root here as well, and needs the folder anyway.
const PLACE: &str = "/tmp";

/// Puts these files and folders side by side; answers where each is now.
pub(super) fn stage(paths: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, PathBuf>, String> {
    let say = |what: &str, e: rustix::io::Errno| format!("{what}: {e}");
    // Deprecated for other flags, with which threads lose each other's descriptors; this one parts mounts alone.
    #[allow(deprecated)]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(|e| say("get mounts of its own", e))?;
    let downward = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    mount_change("/", downward).map_err(|e| say("keep its mounts to itself", e))?;
    let mut opened: Vec<(&PathBuf, OwnedFd, bool)> = Vec::new();
    for path in paths {
        let folder = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.is_dir();
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, path, flags).map_err(|e| say(&format!("show it {}", path.display()), e))?;
        opened.push((path, tree, folder));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", PLACE, "tmpfs", flags, Some(c"mode=0755")).map_err(|e| say("get a place for its view", e))?;
    let mut places = BTreeMap::new();
    for (at, (path, tree, folder)) in opened.into_iter().enumerate() {
        let place = Path::new(PLACE).join(at.to_string());
        let made = if folder { std::fs::create_dir(&place) } else { File::create(&place).map(drop) };
        made.map_err(|e| format!("{}: {e}", place.display()))?;
        move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| say(&format!("show it {}", path.display()), e))?;
        places.insert(path.clone(), place);
    }
    Ok(places)
}
