//! Files that are either the old or the new, also after a power cut: written beside, synced, renamed, folder synced.
//! Invariant: whoever returns `Ok` here left nothing to the kernel's mercy.

use super::{
    clear,
    error::{DeviceError, Result, io},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes a file whole, with these permission bits.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_by_way(&beside(path), path, bytes, mode)
}

/// Writes a file whole whose name is another's choice, in a folder that is: beside it there could be a file of theirs
/// under any name. It is made in `maker`, a folder of ours on the same disk.
pub(super) fn write_from(maker: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_by_way(&beside(&maker.join("file")), path, bytes, mode)
}

fn write_by_way(beside: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    // A file left by an earlier life may have been half written, or have other bits.
    remove_file(beside)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).map_err(io("create", beside))?;
    file.write_all(bytes).map_err(io("write", beside))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(io("set the permissions of", beside))?;
    file.sync_all().map_err(io("sync", beside))?;
    fs::rename(beside, path).map_err(io("rename to", path))?;
    sync_parent(path)
}

/// Writes a value as JSON.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|e| DeviceError::Damaged { path: path.into(), why: e.to_string() })?;
    bytes.push(b'\n');
    write(path, &bytes, 0o600)
}

/// Reads a JSON value; none when there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("read", path)(e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| DeviceError::Damaged { path: path.into(), why: e.to_string() })
}

/// Makes `link` point to `target` in one step.
pub(super) fn point(link: &Path, target: &Path) -> Result<()> {
    let beside = beside(link);
    remove_file(&beside)?;
    std::os::unix::fs::symlink(target, &beside).map_err(io("link", &beside))?;
    fs::rename(&beside, link).map_err(io("rename to", link))?;
    sync_parent(link)
}

/// Removes a file or link, if it is there, durably.
pub(super) fn remove(path: &Path) -> Result<()> {
    remove_file(path)?;
    sync_parent(path)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes a folder and those above it, with these permission bits for what is new.
pub(super) fn folder(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(io("create folder", path))?;
    sync_parent(path)
}

/// Removes a folder with all that is in it: renamed first, so that no half of it is ever seen.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    let beside = beside(path);
    // What a removal that was cut off left there would keep this one from its place.
    clear(&beside)?;
    match fs::rename(path, &beside) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io("rename", path)(e)),
        Ok(()) => sync_parent(path)?,
    }
    clear(&beside)
}

/// Removes a folder that nobody looks at any more, if it is there.
pub(super) fn clear(folder: &Path) -> Result<()> {
    clear::clear(folder).map_err(io("remove", folder))
}

/// The same where nothing depends on it: what cannot be removed now is tried again with the next start of the node.
pub(super) fn clear_left(folder: &Path) {
    if let Err(error) = clear(folder) {
        tracing::warn!(%error, "what is not needed any more could not be removed");
    }
}

/// Frees the place of a folder that is not needed any more: away when this returns, and removed as far as that is possible.
pub(super) fn let_go(path: &Path) -> Result<()> {
    let mut beside = beside(path);
    for n in 1_u8.. {
        let Err(error) = clear(&beside) else { break };
        if n == u8::MAX {
            return Err(error);
        }
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        beside = path.with_file_name(format!(".{name}.{n}.new"));
    }
    match fs::rename(path, &beside) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io("rename", path)(e)),
        Ok(()) => sync_parent(path)?,
    }
    clear_left(&beside);
    Ok(())
}

/// Removes all that is in a folder.
pub(super) fn empty(folder: &Path) -> Result<()> {
    clear::empty(folder).map_err(io("empty", folder))
}

/// Renames a folder; on the disk when this returns. Nothing may be at the new name.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(io("rename to", to))?;
    sync_parent(to)?;
    sync_parent(from)
}

/// Syncs the folder that holds `path`.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync", parent))
}

/// The name under which the next `path` is made, or what was there goes. Hidden, so that no listing takes it for the real
/// one.
fn beside(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.new"))
}

/// Removes from a folder, if it is there, what a write or removal that was cut off left beside its place. Nobody may be at
/// one in it.
pub(super) fn sweep(folder: &Path) -> Result<()> {
    remove_entries(folder, |name| name.starts_with('.') && name.ends_with(".new"))
}

/// Removes the entries of a folder, if it is there, whose names are such.
pub(super) fn remove_entries(folder: &Path, such: impl Fn(&str) -> bool) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io("list", folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(io("list", folder))?;
        if !entry.file_name().to_str().is_some_and(&such) {
            continue;
        }
        match entry.file_type().map_err(io("look at", entry.path()))?.is_dir() {
            true => clear(&entry.path())?,
            false => remove_file(&entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_was_cut_off_does_not_stand_in_the_way_of_the_next() {
        let scratch = tempfile::tempdir().expect("scratch folder");
        let (page, left) = (scratch.path().join("page"), scratch.path().join(".page.new"));
        for folder in [&page, &left] {
            fs::create_dir(folder).expect("folder");
            fs::write(folder.join("file"), "text").expect("file");
        }
        remove_folder(&page).expect("removed");
        assert!(!page.exists() && !left.exists());
    }

    #[test]
    fn a_file_that_somebody_else_named_costs_no_neighbour_its_place() {
        let scratch = tempfile::tempdir().expect("scratch folder");
        let (maker, names) = (scratch.path(), [".page.new", "page", &"x".repeat(255)]);
        let files = maker.join("files");
        fs::create_dir(&files).expect("folder");
        for name in names {
            write_from(maker, &files.join(name), name.as_bytes(), 0o640).expect("written");
        }
        for name in names {
            assert_eq!(fs::read(files.join(name)).expect("it is there"), name.as_bytes());
        }
        assert_eq!(fs::read_dir(maker).expect("listed").count(), 1, "nothing is left where they were made");
    }
}
