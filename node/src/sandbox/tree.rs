//! A root tree as it is put together in a sandbox: whole where nothing is mounted into it, opened up where a mount has no
//! place yet. Invariant: a link of the tree is followed inside the tree only, whatever it says.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

/// Links followed on one path, as the kernel has it.
const LINKS: usize = 40;

/// How one entry of the tree is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// As it is, with all that is in it.
    Whole,
    /// A link.
    Link(PathBuf),
    /// A folder of its own with the tree's entries in it.
    Opened {
        /// Permission bits.
        mode: u32,
    },
}

/// The path inside that `inside` stands for once all links of the tree on its way are followed.
pub(super) fn settled(tree: &Path, inside: &Path) -> Result<PathBuf, String> {
    let mut to_go: Vec<PathBuf> = parts(inside);
    let (mut settled, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = to_go.pop() {
        if part == Path::new("..") {
            settled.pop();
            continue;
        }
        let next = settled.join(&part);
        match fs::read_link(outside(tree, &next)) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return Err(format!("{} leads through more than {LINKS} links", inside.display()));
                }
                if target.is_absolute() {
                    settled = PathBuf::from("/");
                }
                to_go.extend(parts(&target));
            }
            Err(_) => settled = next,
        }
    }
    Ok(settled)
}

/// Names of a path, last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut all: Vec<PathBuf> = named.collect();
    all.reverse();
    all
}

/// Where a settled path of the tree is on the device.
fn outside(tree: &Path, inside: &Path) -> PathBuf {
    tree.join(inside.strip_prefix("/").unwrap_or(inside))
}

/// A file of the tree on the device, links followed inside the tree.
pub(crate) fn find(tree: &Path, inside: &Path) -> Option<PathBuf> {
    Some(outside(tree, &settled(tree, inside).ok()?)).filter(|p| p.exists())
}

/// The tree's entries, given settled places of mounts and whether each is a folder.
pub(super) fn opened(tree: &Path, places: &BTreeMap<PathBuf, bool>) -> Result<Vec<(PathBuf, Entry)>, String> {
    let missing = |at: &PathBuf, folder: bool| {
        fs::symlink_metadata(outside(tree, at)).map_or(true, |m| m.is_symlink() || m.is_dir() != folder)
    };
    // A place below another mount is that mount's matter.
    let covered = |at: &PathBuf| at.ancestors().skip(1).any(|above| places.contains_key(above));
    let without: Vec<&PathBuf> =
        places.iter().filter(|(at, folder)| !covered(at) && missing(at, **folder)).map(|(at, _)| at).collect();
    let mut entries = Vec::new();
    let mut folders = vec![PathBuf::from("/")];
    while let Some(folder) = folders.pop() {
        let say = |e: std::io::Error| format!("list {}: {e}", outside(tree, &folder).display());
        for entry in fs::read_dir(outside(tree, &folder)).map_err(say)? {
            let entry = entry.map_err(say)?;
            let at = folder.join(entry.file_name());
            if places.contains_key(&at) {
                continue;
            }
            let kind = entry.file_type().map_err(say)?;
            if kind.is_symlink() {
                entries.push((at, Entry::Link(fs::read_link(entry.path()).map_err(say)?)));
            } else if kind.is_dir() && without.iter().any(|p| p.starts_with(&at)) {
                let mode = entry.metadata().map_err(say)?.permissions().mode() & 0o777;
                folders.push(at.clone());
                entries.push((at, Entry::Opened { mode: mode | 0o555 }));
            } else {
                entries.push((at, Entry::Whole));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a folder");
        for folder in ["usr/bin", "etc", "var/lib/dpkg", "var/log", "run", "srv/www"] {
            fs::create_dir_all(tree.path().join(folder)).expect("a folder");
        }
        fs::write(tree.path().join("etc/passwd"), "root:x:0:0::/:\n").expect("a file");
        symlink("usr/bin", tree.path().join("bin")).expect("a link");
        symlink("/run", tree.path().join("var/run")).expect("a link");
        symlink("../../../../../etc/shadow", tree.path().join("out")).expect("a link");
        symlink("round", tree.path().join("round")).expect("a link");
        tree
    }

    #[test]
    fn links_stay_inside() {
        let tree = tree();
        let settled = |p: &str| settled(tree.path(), Path::new(p)).map(|p| p.display().to_string());
        assert_eq!(settled("/var/run/postgresql"), Ok("/run/postgresql".into()));
        assert_eq!(settled("/bin/sh"), Ok("/usr/bin/sh".into()));
        assert_eq!(settled("/out"), Ok("/etc/shadow".into()));
        assert!(settled("/round/x").is_err());
        assert_eq!(find(tree.path(), Path::new("/out")), None, "not the device's");
        assert!(find(tree.path(), Path::new("/etc/passwd")).is_some());
    }

    #[test]
    fn only_the_way_to_a_new_place_is_opened() {
        let tree = tree();
        let places = ["/var/lib/mine/data", "/srv/www", "/run"].map(|p| (PathBuf::from(p), true));
        let places: BTreeMap<_, _> = places.into_iter().chain([("/etc/passwd".into(), false)]).collect();
        let entries: BTreeMap<_, _> = opened(tree.path(), &places).expect("a tree").into_iter().collect();
        let of = |p: &str| entries.get(Path::new(p));
        assert!(
            matches!(of("/var"), Some(Entry::Opened { .. })) && matches!(of("/var/lib"), Some(Entry::Opened { .. }))
        );
        assert_eq!(of("/var/lib/dpkg"), Some(&Entry::Whole));
        assert_eq!(of("/var/log"), Some(&Entry::Whole));
        assert_eq!(of("/bin"), Some(&Entry::Link("usr/bin".into())));
        assert_eq!(of("/srv"), Some(&Entry::Whole), "the place is there");
        assert_eq!(of("/etc"), Some(&Entry::Whole));
        assert_eq!((of("/run"), of("/srv/www")), (None, None));
    }
}
