//! What a program sees as its file system, in bubblewrap's words. Invariant: nothing is there that the promise does not
//! name or that programs do not need to start at all, and only what it may write can be written and lasts.

use super::{
    accounts::{Accounts, HOSTS, NSSWITCH},
    confinement::{Confinement, Means},
    rules, tree,
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    io::{Seek, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Folders of the device that make up its programs.
pub(super) const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What of the device's `/etc` programs need: which of several, what the linker knows, whom to trust, what time it is.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki",
    "protocols",
    "services",
    "ssl",
    "timezone",
];

/// Bytes of a file of the device's that is copied for each program; a larger one is mounted.
const COPIED: u64 = 256 << 10;

/// What is mounted at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Read(PathBuf),
    Write(PathBuf),
    /// Empty, private, gone with the program.
    Scratch {
        mode: u32,
    },
    /// A file of its own with these bytes.
    File(Vec<u8>),
    Link(PathBuf),
    Folder {
        mode: u32,
    },
    Proc,
    Dev,
}

/// Everything that the program sees, by place; a folder comes before what is in it.
#[derive(Debug, Default)]
pub(super) struct Root {
    things: BTreeMap<PathBuf, Thing>,
}

/// Arguments with the descriptors that they name; these must stay open until bubblewrap runs.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) words: Vec<OsString>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Thing {
    fn source(&self) -> Option<&PathBuf> {
        match self {
            Self::Read(from) | Self::Write(from) => Some(from),
            _ => None,
        }
    }

    fn is_folder(&self) -> bool {
        match self {
            Self::Read(from) | Self::Write(from) => from.is_dir(),
            Self::File(_) | Self::Link(_) => false,
            Self::Scratch { .. } | Self::Folder { .. } | Self::Proc | Self::Dev => true,
        }
    }
}

impl Root {
    /// Works out the root of a program that runs as `user` and `group`.
    pub(super) fn of(confinement: &Confinement, user: u32, group: u32) -> Result<Self, String> {
        let mut root = Self::default();
        let sandbox = &confinement.sandbox;
        // As root inside, bubblewrap makes folders that the program's own user must be able to use.
        let own = if matches!(confinement.means, Means::RootNamespaces { .. }) { 0o777 } else { 0o700 };
        root.put("/proc", Thing::Proc);
        root.put("/dev", Thing::Dev);
        root.put("/tmp", Thing::Scratch { mode: 0o1777 });
        root.put("/var/tmp", Thing::Scratch { mode: 0o1777 });
        root.put("/run", Thing::Scratch { mode: 0o755 | own });
        for mount in &sandbox.read {
            root.put(&mount.at, Thing::Read(PathBuf::from(&mount.from)));
        }
        for mount in &sandbox.write {
            root.put(&mount.at, Thing::Write(PathBuf::from(&mount.from)));
        }
        root.things.entry(confinement.home.clone()).or_insert(Thing::Scratch { mode: own });
        if rules::udp(sandbox) {
            let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            root.put("/etc/resolv.conf", Thing::File(resolvers.into()));
        }
        let text = |inside: &str| {
            let tree = sandbox.root.as_ref()?;
            std::fs::read_to_string(tree::find(Path::new(tree), Path::new(inside))?).ok()
        };
        let (passwd, groups) = (text("/etc/passwd"), text("/etc/group"));
        let accounts = Accounts::of(user, group, &confinement.home, passwd.as_deref(), groups.as_deref());
        root.put("/etc/passwd", Thing::File(accounts.passwd.into()));
        root.put("/etc/group", Thing::File(accounts.group.into()));
        root.put("/etc/hosts", Thing::File(HOSTS.into()));
        match &sandbox.root {
            Some(tree) => root.tree(Path::new(tree))?,
            None => root.host(),
        }
        root.open_way();
        Ok(root)
    }

    fn put(&mut self, at: impl AsRef<Path>, thing: Thing) {
        self.things.insert(at.as_ref().to_owned(), thing);
    }

    /// The device's own programs, and little else of it.
    fn host(&mut self) {
        self.put("/etc/nsswitch.conf", Thing::File(NSSWITCH.into()));
        let all = SYSTEM.iter().map(PathBuf::from).chain(ETC.iter().map(|name| Path::new("/etc").join(name)));
        for path in all {
            let Ok(meta) = path.symlink_metadata() else { continue };
            let thing = match std::fs::read_link(&path) {
                Ok(target) if target.is_relative() && !path.starts_with("/etc") => Thing::Link(target),
                _ if meta.is_symlink() && !path.exists() => continue,
                _ => small(&path).map_or_else(|| Thing::Read(path.clone()), Thing::File),
            };
            self.things.entry(path).or_insert(thing);
        }
    }

    /// A whole root tree: each of its entries read only, opened up where something must be mounted that has no place yet.
    fn tree(&mut self, tree: &Path) -> Result<(), String> {
        let things = std::mem::take(&mut self.things);
        for (at, thing) in things {
            self.things.insert(tree::settled(tree, &at)?, thing);
        }
        if tree::find(tree, Path::new("/var/tmp")).is_none() {
            self.things.remove(Path::new("/var/tmp"));
        }
        let places = self.things.iter().map(|(at, thing)| (at.clone(), thing.is_folder())).collect();
        for (at, entry) in tree::opened(tree, &places)? {
            let thing = match entry {
                tree::Entry::Whole => Thing::Read(tree.join(at.strip_prefix("/").unwrap_or(&at))),
                tree::Entry::Link(target) => Thing::Link(target),
                tree::Entry::Opened { mode } => Thing::Folder { mode },
            };
            self.things.entry(at).or_insert(thing);
        }
        Ok(())
    }

    /// Folders above everything that is mounted, open to the program.
    fn open_way(&mut self) {
        let above: BTreeSet<PathBuf> = self
            .things
            .keys()
            .flat_map(|at| at.ancestors().skip(1))
            .filter(|p| *p != Path::new("/"))
            .map(Path::to_owned)
            .collect();
        for folder in above {
            if self.in_scratch(&folder) {
                self.things.entry(folder).or_insert(Thing::Folder { mode: 0o755 });
            }
        }
    }

    /// Whether the folders above are made for this program, and read only in the end.
    fn in_own_folder(&self, at: &Path) -> bool {
        at.ancestors().skip(1).all(|above| matches!(self.things.get(above), None | Some(Thing::Folder { .. })))
    }

    /// Whether the folder above that is mounted is an empty one.
    fn in_scratch(&self, at: &Path) -> bool {
        let mounted = at.ancestors().skip(1).filter_map(|above| self.things.get(above));
        mounted
            .filter(|thing| !matches!(thing, Thing::Folder { .. }))
            .all(|thing| matches!(thing, Thing::Scratch { .. }))
    }

    /// Files and folders of the device that are shown and that not everybody can reach; none of them is in another.
    pub(super) fn sources(&self) -> BTreeSet<PathBuf> {
        let open = |path: &Path| path.starts_with("/etc") || SYSTEM.iter().any(|system| path.starts_with(system));
        let all: BTreeSet<&PathBuf> = self.things.values().filter_map(Thing::source).filter(|p| !open(p)).collect();
        let outermost = |path: &&&PathBuf| path.ancestors().skip(1).all(|above| !all.contains(&above.to_owned()));
        all.iter().filter(outermost).map(|path| (*path).clone()).collect()
    }

    /// In bubblewrap's words. `places` says where a source is to be found, when not at its own path.
    pub(super) fn arguments(
        &self,
        places: &BTreeMap<PathBuf, PathBuf>,
        size: Option<u64>,
    ) -> Result<Arguments, String> {
        let mut all = Arguments::default();
        for (at, thing) in &self.things {
            let place = |path: &PathBuf| placed(places, path).into_os_string();
            match thing {
                Thing::Read(from) => all.add(["--ro-bind".into(), place(from)], at),
                Thing::Write(from) => all.add(["--bind".into(), place(from)], at),
                Thing::Scratch { mode } => {
                    all.add([OsString::from("--perms")], Path::new(&format!("{mode:04o}")));
                    if let Some(size) = size {
                        all.add([OsString::from("--size")], Path::new(&size.to_string()));
                    }
                    all.add([OsString::from("--tmpfs")], at);
                }
                Thing::File(bytes) => {
                    let file = memory(bytes)?;
                    // A copy where the folder is our own, which is read only in the end: each mount takes its time.
                    let how = if self.in_own_folder(at) { "--file" } else { "--ro-bind-data" };
                    let number = file.as_raw_fd().to_string();
                    all.descriptors.push(file);
                    all.add(["--perms".into(), "0644".into(), how.into(), number.into()], at);
                }
                Thing::Link(target) => all.add(["--symlink".into(), target.into()], at),
                Thing::Folder { mode } => {
                    all.add(["--perms".into(), format!("{mode:04o}").into(), "--dir".into()], at);
                }
                Thing::Proc => all.add([OsString::from("--proc")], at),
                Thing::Dev => all.add([OsString::from("--dev")], at),
            }
        }
        all.add([OsString::from("--remount-ro")], Path::new("/"));
        Ok(all)
    }
}

/// The bytes of a file that is small enough to be copied.
fn small(path: &Path) -> Option<Vec<u8>> {
    let meta = path.metadata().ok()?;
    if meta.is_file() && meta.len() <= COPIED { std::fs::read(path).ok() } else { None }
}

/// Where a path is now: at its place, or below the place of a folder above it.
fn placed(places: &BTreeMap<PathBuf, PathBuf>, path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((places.get(above)?, path.strip_prefix(above).ok()?)));
    match found {
        Some((place, rest)) if rest.as_os_str().is_empty() => place.clone(),
        Some((place, rest)) => place.join(rest),
        None => path.to_owned(),
    }
}

impl Arguments {
    fn add<const N: usize>(&mut self, words: [OsString; N], at: &Path) {
        self.words.extend(words);
        self.words.push(at.into());
    }
}

/// A file in memory that the next program inherits, to be read from its beginning.
pub(super) fn memory(bytes: &[u8]) -> Result<OwnedFd, String> {
    let file = memfd_create("softservice", MemfdFlags::empty()).map_err(|e| format!("get memory for a file: {e}"))?;
    let mut file = File::from(file);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(|e| format!("write a file in memory: {e}"))?;
    Ok(file.into())
}
