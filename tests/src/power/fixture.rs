//! Folders, releases and stores that every crash begins with. Invariant: all of it is drawn from a fixed seed, is made once,
//! and is never changed by what is crashed.

use super::{
    draw::Draw,
    work::{Kind, layout_of},
};
use softservice_protocol::{
    chunk::Verified,
    codec,
    feed::{Head, Position},
    id::{Digest, FeedId, ObjectId, PublisherId, ReleaseId},
    io::Record,
    release::{Allow, Artifact, Release, ReleaseRef, Role, Update},
    time::Span,
    tree::TreeRef,
};
use softservice_store::{DiskStore, Store, StoreError, closure, open};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The platform of every fetch.
pub const PLATFORM: &str = "linux/x86_64";
/// Who keeps records.
pub const PUBLISHER: PublisherId = PublisherId([9; 32]);
/// Records that every store begins with.
pub const RECORDS: u64 = 8;
/// The releases.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The feed of the records.
pub fn feed() -> FeedId {
    FeedId::main(PUBLISHER)
}

/// What a record holds.
pub fn head(seq: u64) -> Head {
    Head { at: Position { epoch: 1, seq }, hash: Digest([seq as u8; 32]) }
}

/// The folder with all of it.
#[derive(Debug)]
pub struct Fixture {
    dir: PathBuf,
    peer: OnceLock<DiskStore>,
}

impl Fixture {
    /// What [`Fixture::make`] made there.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), peer: OnceLock::new() }
    }
    /// Makes everything in a folder that does not exist yet.
    ///
    /// # Errors
    /// What a store says.
    pub fn make(dir: &Path) -> Result<Self, StoreError> {
        let fixture = Self::at(dir);
        fs::create_dir_all(dir.join("releases")).expect("a folder");
        for (name, files) in contents() {
            for (path, bytes) in files {
                let path = fixture.source(name).join(path);
                fs::create_dir_all(path.parent().expect("it stands in a folder")).expect("a folder");
                fs::write(&path, bytes).expect("a file");
                if path.extension().is_some_and(|x| x == "x") {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file");
                }
            }
        }
        let peer = open(&dir.join("peer"))?;
        for name in NAMES {
            let document = release_of(name, peer.ingest(&fixture.source(name), &[], &|_| true)?.tree);
            let bytes = codec::encode(&document)?;
            peer.add(&bytes)?;
            fs::write(fixture.dir.join("releases").join(name), bytes).expect("a file");
        }
        drop(peer);
        for kind in Kind::ALL {
            fixture.begin(kind)?;
        }
        // Whoever is crashed opens the other store.
        drop(fixture);
        Ok(Self::at(dir))
    }
    /// A folder that is ingested.
    pub fn source(&self, name: &str) -> PathBuf {
        self.dir.join("sources").join(name)
    }
    /// What a kind of work begins with: a folder with a store and trees.
    pub fn home(&self, kind: Kind) -> PathBuf {
        self.dir.join(kind.name())
    }
    /// What was acknowledged of it.
    pub fn said(&self, kind: Kind) -> Vec<String> {
        let text = fs::read_to_string(self.home(kind).with_extension("said")).expect("it was made");
        text.lines().map(str::to_owned).collect()
    }
    /// Another store, which has all releases.
    ///
    /// # Errors
    /// When it does not open.
    pub fn peer(&self) -> Result<&DiskStore, StoreError> {
        if self.peer.get().is_none() {
            // Two threads may come at once; the second finds it locked and waits for the first.
            static OPENING: std::sync::Mutex<()> = std::sync::Mutex::new(());
            let _one = OPENING.lock();
            if self.peer.get().is_none() {
                let _ = self.peer.set(open(&self.dir.join("peer"))?);
            }
        }
        Ok(self.peer.get().expect("it was set just now"))
    }
    /// A release's document.
    ///
    /// # Errors
    /// Never; the same type as what stands around it.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        Ok(fs::read(self.dir.join("releases").join(name)).expect("it was made"))
    }
    /// A release.
    pub fn release(&self, name: &str) -> ReleaseRef {
        let bytes = self.document(name).expect("it was made");
        ReleaseRef { id: ReleaseId(ObjectId::of(&bytes).0), size: bytes.len() as u32 }
    }
    /// A release's tree.
    ///
    /// # Errors
    /// When its document does not decode.
    pub fn tree(&self, name: &str) -> Result<TreeRef, StoreError> {
        let release: Release = codec::decode(&self.document(name)?)?;
        Ok(release.source)
    }
    /// All objects of a release.
    ///
    /// # Errors
    /// When the other store does not have them.
    pub fn objects(&self, name: &str) -> Result<BTreeSet<ObjectId>, StoreError> {
        closure::objects(self.peer()?, self.release(name).id)
    }

    fn begin(&self, kind: Kind) -> Result<(), StoreError> {
        let home = self.home(kind);
        fs::create_dir_all(home.join("trees")).expect("a folder");
        let store = open(&home.join("store"))?;
        let mut said = Vec::new();
        let releases: &[&str] = match kind {
            Kind::Ingest | Kind::Fetch => &["a"],
            Kind::Gc => &["a", "b", "c"],
            Kind::Repair => &["a", "b"],
        };
        for name in releases {
            store.ingest(&self.source(name), &[], &|_| true)?;
            store.add(&self.document(name)?)?;
            said.push(format!("release {name}"));
        }
        for seq in 1..=RECORDS {
            store.keep(&Record::Reserved { publisher: PUBLISHER, head: head(seq) })?;
        }
        said.push(format!("record {RECORDS}"));
        let manifest = softservice_store::manifests::of_tree(&store, &self.tree("a")?)?;
        store.materialise(&manifest, &home.join("trees/a"))?;
        said.push("tree a".into());
        if kind != Kind::Repair {
            // Something that is half here, and was given up or not.
            let bytes = fs::read(self.source("c").join("huge")).expect("it was made");
            let layout = layout_of(ObjectId::of(&bytes), &bytes);
            store.expect(std::slice::from_ref(&layout))?;
            let mut rest = bytes.as_slice();
            for chunk in layout.chunks.iter().take(layout.chunks.len() / 3) {
                let (part, after) = rest.split_at(chunk.len as usize);
                store.put(&Verified::own(part.to_vec()))?;
                rest = after;
            }
        }
        drop(store);
        if kind == Kind::Repair {
            said = self.harm(&home)?;
        }
        fs::write(home.with_extension("said"), said.join("\n")).expect("a file");
        Ok(())
    }
    /// Flips bits of a closed store. Answers what is still promised.
    fn harm(&self, home: &Path) -> Result<Vec<String>, StoreError> {
        let mut draw = Draw::new(3, "harm");
        let mut objects: Vec<ObjectId> = self.objects("b")?.into_iter().collect();
        let harmed: Vec<ObjectId> = (0..4).map(|_| objects.remove(draw.below(objects.len() as u64) as usize)).collect();
        for object in &harmed {
            let hex = object.to_string();
            for name in [hex.clone(), format!("{hex}.x")] {
                flip(&home.join("store/objects").join(&hex[..2]).join(name), &mut draw);
            }
        }
        flip(&home.join("store/logs/layouts"), &mut draw);
        flip(&home.join("store/marks.b"), &mut draw);
        flip(&home.join("store/index/db"), &mut draw);
        let mut said: Vec<String> = harmed.iter().map(|object| format!("harmed {object}")).collect();
        let all: BTreeSet<ObjectId> = self.objects("a")?.into_iter().chain(self.objects("b")?).collect();
        said.extend(all.iter().filter(|o| !harmed.contains(o)).map(|object| format!("object {object}")));
        said.push(format!("record {RECORDS}"));
        Ok(said)
    }
}

fn flip(path: &Path, draw: &mut Draw) {
    let Ok(meta) = path.metadata() else { return };
    if meta.len() == 0 {
        return;
    }
    let (at, bit) = (draw.below(meta.len()), draw.below(8));
    // Another file in its place: a link of a tree to it stays whole.
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at as usize] ^= 1 << bit;
    fs::remove_file(path).expect("it is there");
    let file = fs::File::create(path).expect("a file");
    file.write_all_at(&bytes, 0).expect("a file");
    file.set_permissions(meta.permissions()).expect("a file");
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files of each release; each is the one before with changes.
fn contents() -> Vec<(&'static str, Files)> {
    let mut draw = Draw::new(1, "contents");
    let mut files = Files::new();
    for number in 0..50 {
        let len = 200 + draw.below(9_000) as usize;
        files.insert(format!("dir{}/small{number}", number % 7), draw.bytes(len));
    }
    for (name, len) in
        [("tool.x", 40_000), ("deep/er/medium", 150_000), ("deep/library", 700_000), ("large", 2_500_000)]
    {
        files.insert(name.to_owned(), draw.bytes(len));
    }
    files.insert("empty".to_owned(), Vec::new());
    let a = files.clone();
    let mut change = |files: &mut Files, fresh: usize, changed: u64| {
        for number in 0..changed {
            let len = 300 + draw.below(9_000) as usize;
            files.insert(format!("dir{}/small{}", number % 7, draw.below(7) * 7 + number % 7), draw.bytes(len));
        }
        for number in 0..fresh {
            let len = 100 + draw.below(3_000) as usize;
            files.insert(format!("new{fresh}/file{number}"), draw.bytes(len));
        }
        let large = files.get_mut("large").expect("it is there");
        let at = draw.below(large.len() as u64 - 100) as usize;
        large.splice(at..at + 20, draw.bytes(60));
    };
    change(&mut files, 44, 6);
    let b = files.clone();
    change(&mut files, 3, 3);
    files.insert("huge".to_owned(), Draw::new(2, "huge").bytes(17 << 20));
    let c = files.clone();
    files.remove("huge");
    change(&mut files, 0, 2);
    vec![("a", a), ("b", b), ("c", c), ("d", files)]
}

fn release_of(name: &str, tree: TreeRef) -> Release {
    let role = Role {
        name: "main".into(),
        devices_min: 1,
        devices_max: None,
        needs_memory: None,
        needs_disk: None,
        imports: vec![],
        exports: vec![],
        artifacts: vec![Artifact { name: "site".into(), trees: vec![("any".into(), tree.clone())] }],
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
        includes: vec![],
        params: vec![],
        secrets: vec![],
        roles: vec![role],
        tests: vec![],
        update: Update { order: vec![], settle: Span(0), migrate: None },
        source: tree,
    }
}
