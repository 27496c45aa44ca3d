//! Folders and releases for the stories. Invariant: everything here is drawn from fixed seeds.
#![allow(dead_code, reason = "each test program uses its part")]

use softservice_protocol::{
    chunk::{ChunkRef, Verified},
    codec,
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    io::WantList,
    release::{Allow, Artifact, Include, Release, ReleaseRef, Role, Update},
    time::Span,
    tree::{Manifest, TreeRef},
};
use softservice_store::{Layout, Store, manifests};
use std::{
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that do not compress and do not repeat.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A directory in memory where there is one: what these stories say does not depend on a disk, and hundreds of stores
/// would wait for its syncs.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A directory with everything that a tree can say.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn sample() -> Self {
        Self::with(1)
    }
    /// Like the sample, with other content.
    pub(crate) fn with(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["bin", "deep/er/est", "empty", "out"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("a.txt"), format!("hello {seed}")).unwrap();
        std::fs::write(at("deep/copy.txt"), format!("hello {seed}")).unwrap();
        std::fs::write(at("nothing"), b"").unwrap();
        std::fs::write(at("junk.tmp"), b"junk").unwrap();
        std::fs::write(at("out/built"), b"built").unwrap();
        std::fs::write(at("bin/serve"), noise(20_000, seed)).unwrap();
        std::fs::write(at("bin/serve.data"), noise(20_000, seed)).unwrap();
        std::fs::write(at("deep/er/est/medium"), noise(1_500_000, seed + 1)).unwrap();
        std::fs::write(at("large"), noise(9_000_000, seed + 2)).unwrap();
        std::fs::set_permissions(at("bin/serve"), PermissionsExt::from_mode(0o700)).unwrap();
        symlink("../a.txt", at("bin/link")).unwrap();
        Self(dir)
    }
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
    /// Every path below `root`, sorted, relative.
    fn paths(root: &Path, at: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            out.push(entry.path().strip_prefix(root).unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                Self::paths(root, &entry.path(), out);
            }
        }
        out.sort();
    }
    /// Bytes, kinds, links and executable bits are equal; paths that start with one of `without` are not in `copy`.
    pub(crate) fn assert_same(&self, copy: &Path, without: &[&str]) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        Self::paths(self.path(), self.path(), &mut ours);
        Self::paths(copy, copy, &mut theirs);
        let out = |p: &PathBuf| without.iter().any(|w| p.starts_with(w));
        ours.retain(|p| !out(p));
        assert_eq!(ours, theirs);
        for path in ours {
            let (a, b) = (self.path().join(&path), copy.join(&path));
            let (x, y) = (a.symlink_metadata().unwrap(), b.symlink_metadata().unwrap());
            assert_eq!(x.file_type(), y.file_type(), "{path:?}");
            if x.is_file() {
                assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap(), "{path:?} differs");
                let mode = if x.permissions().mode() & 0o100 != 0 { 0o555 } else { 0o444 };
                assert_eq!(y.permissions().mode() & 0o7777, mode, "{path:?}");
            } else if x.is_symlink() {
                assert_eq!(std::fs::read_link(&a).unwrap(), std::fs::read_link(&b).unwrap());
            }
        }
    }
}

/// Ingests a folder and reads its manifest back.
pub(crate) fn tree_of(store: &dyn Store, folder: &Folder) -> (Manifest, TreeRef) {
    let made = store.ingest(folder.path(), &[], &|_| true).unwrap();
    (Arc::unwrap_or_clone(manifests::of_tree(store, &made.tree).unwrap()), made.tree)
}

/// A release document with these trees.
pub(crate) fn document(name: &str, trees: Vec<(String, TreeRef)>, source: TreeRef, includes: Vec<Include>) -> Release {
    let role = Role {
        name: "main".into(),
        devices_min: 1,
        devices_max: None,
        needs_memory: None,
        needs_disk: None,
        imports: vec![],
        exports: vec![],
        artifacts: vec![Artifact { name: "site".into(), trees }],
        volumes: vec![],
        ports: vec![],
        files: vec![],
        services: vec![],
        allow: Allow::default(),
        hooks: vec![],
    };
    Release {
        publisher: PublisherId([1; 32]),
        distro: name.into(),
        version: "1.0.0".into(),
        revision: 1,
        summary: String::new(),
        platforms: vec![],
        epoch: 1,
        parents: vec![],
        includes,
        params: vec![],
        secrets: vec![],
        roles: vec![role],
        tests: vec![],
        update: Update { order: vec![], settle: Span(0), migrate: None },
        source,
    }
}

/// Adds a release document.
pub(crate) fn publish(store: &dyn Store, release: &Release) -> ReleaseRef {
    let bytes = codec::encode(release).unwrap();
    let id = store.add(&bytes).unwrap();
    ReleaseRef { id: ReleaseId(id.0), size: bytes.len() as u32 }
}

/// A distro that includes two others, with a tree for each of two platforms. Answers it and its includes.
pub(crate) fn release_of(store: &dyn Store, folder: &Folder) -> (ReleaseRef, Vec<ReleaseId>) {
    let (_, source) = tree_of(store, folder);
    let children: Vec<ReleaseRef> = (0..2)
        .map(|n| {
            let (_, tree) = tree_of(store, &Folder::with(10 + n));
            publish(store, &document(&format!("part{n}"), vec![("any".into(), tree)], source.clone(), vec![]))
        })
        .collect();
    let include = |(n, release): (usize, &ReleaseRef)| Include {
        name: format!("part{n}"),
        publisher: PublisherId([1; 32]),
        distro: format!("part{n}"),
        version: "1.0.0".into(),
        release: *release,
        role: "main".into(),
        with: vec![],
        bind: vec![],
    };
    let includes = children.iter().enumerate().map(include).collect();
    let (_, ours) = tree_of(store, &Folder::with(20));
    let (_, theirs) = tree_of(store, &Folder::with(30));
    let trees = vec![("linux/riscv64".into(), theirs), ("linux/x86_64".into(), ours)];
    let root = publish(store, &document("whole", trees, source, includes));
    (root, children.iter().map(|r| r.id).collect())
}

/// Moves what is wanted and not here from one store to another, every byte checked on the way.
pub(crate) fn transfer(from: &dyn Store, to: &dyn Store, list: &WantList) {
    for number in list.have.zeros() {
        let promised = list.chunks[number];
        let bytes = from.read(&[promised]).unwrap().remove(0).expect("the seeder has every chunk");
        to.put(&Verified::check(promised, bytes).expect("what a store reads is what was asked")).unwrap();
    }
}

/// The layout that an ingest gives these bytes.
pub(crate) fn layout_of(bytes: &[u8]) -> Layout {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for len in softservice_protocol::chunk::cut(bytes) {
        let (part, after) = rest.split_at(len as usize);
        chunks.push(ChunkRef { id: ChunkId::of(part), len });
        rest = after;
    }
    Layout { object: ObjectId::of(bytes), size: bytes.len() as u64, chunks }
}
