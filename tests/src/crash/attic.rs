//! Files in a volume that no service touches: what a careless copy of data would lose. Invariant: whoever gives the volume back
//! gives these back as well, to the last bit.

use super::imprint::Imprint;
use crate::sources::put;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// The folder of the volume of a softservice that has one; none where it is not in its place.
fn volume(softservice: &Path) -> Option<PathBuf> {
    let volumes = fs::read_dir(softservice.join("volumes")).ok()?;
    let shown = |path: &PathBuf| path.file_name().is_some_and(|n| !n.to_string_lossy().starts_with('.'));
    volumes.flatten().map(|e| e.path()).find(shown)
}

/// Puts them there: a link, a second name, a hole, old times, few rights.
pub(super) fn plant(softservice: &Path) {
    let attic = volume(softservice).expect("it has a volume").join("attic");
    put(&attic.join("letter"), "kept for ever");
    fs::hard_link(attic.join("letter"), attic.join("copy")).expect("a second name");
    symlink("letter", attic.join("pointer")).expect("a link");
    let hole = fs::File::create(attic.join("hole")).expect("a file");
    hole.set_len(4 << 20).expect("a hole");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    hole.set_modified(old).expect("an old time");
    fs::set_permissions(attic.join("letter"), fs::Permissions::from_mode(0o400)).expect("few rights");
    fs::set_permissions(&attic, fs::Permissions::from_mode(0o750)).expect("other rights");
}

/// What they are now.
pub(super) fn imprint(softservice: &Path) -> Imprint {
    volume(softservice).map(|volume| Imprint::of(&volume.join("attic"))).unwrap_or_default()
}
