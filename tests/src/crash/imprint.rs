//! A folder, to the last bit: what two looks at it must agree on. Invariant: everything that a program could tell apart is
//! in it: names, kinds, rights, owners, times, sizes, contents, targets of links, and which names are one file.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Lines by path; equal imprints are equal folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imprint(BTreeMap<PathBuf, String>);

impl Imprint {
    /// Of everything below `folder`, itself included; empty when there is none.
    pub fn of(folder: &Path) -> Self {
        let (mut lines, mut first_name) = (BTreeMap::new(), BTreeMap::new());
        let mut paths = vec![folder.to_owned()];
        while let Some(path) = paths.pop() {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let name = path.strip_prefix(folder).expect("it is below").to_owned();
            let content = if meta.is_dir() {
                let entries = fs::read_dir(&path).expect("a folder can be read");
                let mut entries: Vec<PathBuf> = entries.map(|e| e.expect("an entry can be read").path()).collect();
                entries.sort_by(|a, b| b.cmp(a));
                paths.extend(entries);
                String::new()
            } else if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("a link has a target").display())
            } else if meta.is_file() {
                let other = first_name.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
                let hash = blake3::hash(&fs::read(&path).expect("a file can be read")).to_hex();
                format!("{} bytes {hash}, also {}", meta.len(), other.display())
            } else {
                "neither file nor folder".into()
            };
            let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
            lines.insert(name, format!("{:o} {}:{} {time} {content}", meta.mode(), meta.uid(), meta.gid()));
        }
        Self(lines)
    }

    /// Of everything below `folder`, but not of itself: whoever moves what is in it gives it another time.
    pub fn inside(folder: &Path) -> Self {
        let mut all = Self::of(folder);
        all.0.remove(Path::new(""));
        all
    }

    /// What differs, for people; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        let differs = names.into_iter().filter(|n| self.0.get(*n) != other.0.get(*n));
        let line = |l: Option<&String>| l.map_or("nothing", String::as_str).to_owned();
        differs.map(|n| format!("{}: {} | {}", n.display(), line(self.0.get(n)), line(other.0.get(n)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_a_right_and_a_second_name_are_seen() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = |n: &str| dir.path().join(n);
        fs::write(path("a"), "same").expect("a file");
        fs::write(path("b"), "same").expect("a file");
        let time = fs::metadata(path("a")).expect("a file").modified().expect("a time");
        let folder_time = || fs::metadata(dir.path()).expect("a folder").modified().expect("a time");
        let was = folder_time();
        let before = Imprint::of(dir.path());
        assert_eq!(before, Imprint::of(dir.path()));

        let a = fs::File::options().write(true).open(path("a")).expect("a file");
        a.set_modified(time + std::time::Duration::from_nanos(1)).expect("a time");
        assert_eq!(Imprint::of(dir.path()).differences(&before).len(), 1);
        a.set_modified(time).expect("a time");
        fs::set_permissions(path("a"), fs::Permissions::from_mode(0o600)).expect("rights");
        assert_eq!(Imprint::of(dir.path()).differences(&before).len(), 1);
        fs::set_permissions(path("a"), fs::Permissions::from_mode(0o644)).expect("rights");
        assert_eq!(Imprint::of(dir.path()), before);

        let b = fs::metadata(path("b")).expect("a file").modified().expect("a time");
        fs::remove_file(path("b")).expect("gone");
        fs::hard_link(path("a"), path("b")).expect("a second name");
        fs::File::options().write(true).open(path("b")).expect("a file").set_modified(b).expect("a time");
        fs::File::open(dir.path()).expect("a folder").set_modified(was).expect("a time");
        assert!(Imprint::of(dir.path()).differences(&before).iter().any(|d| d.starts_with("b:")));
    }
}
