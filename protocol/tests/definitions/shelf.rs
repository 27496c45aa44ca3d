//! Where definitions of these tests stand: folders in memory, and publishers that find each other's releases on a shelf.

use softservice_protocol::{
    chunk::ChunkRef,
    codec,
    definition::{self, Definition, Lock, Locked, Materials, Problem, Sources, closure::Releases},
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    release::{Release, ReleaseRef},
    tree::TreeRef,
};
use std::{collections::BTreeMap, fs, path::PathBuf};

pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/definitions").join(name)
}

pub(crate) fn files(name: &str) -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    found.sort();
    let named = |p: PathBuf| (p.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap());
    found.into_iter().map(named).collect()
}

pub(crate) fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}

/// A folder in memory.
#[derive(Default)]
pub(crate) struct Folder(pub(crate) BTreeMap<String, String>);

impl Folder {
    /// Everything that a definition asks for.
    pub(crate) fn for_all_of(d: &Definition) -> Self {
        let trees = definition::trees(d).into_iter().map(|t| (format!("{}/some-file", t.dir), "content".into()));
        Self(trees.chain(d.templates.iter().map(|t| (t.template.clone(), "port = 1\n".into()))).collect())
    }
}

impl Sources for Folder {
    fn text(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn is_dir(&self, path: &str) -> bool {
        self.0.keys().any(|k| k.starts_with(&format!("{path}/")))
    }
    fn is_file(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

pub(crate) fn tree_of(text: &str) -> TreeRef {
    let id = ObjectId::of(text.as_bytes());
    TreeRef { manifest: id, chunks: vec![ChunkRef { id: ChunkId::from(id), len: 100 }], bytes: 7, files: 1 }
}

pub(crate) fn publisher(name: &str) -> PublisherId {
    PublisherId(ObjectId::of(name.as_bytes()).0)
}

/// Publishers that publish into one shelf and find each other's releases there.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) releases: Releases,
    pub(crate) pins: BTreeMap<String, Locked>,
}

impl Shelf {
    pub(crate) fn compile_in(&self, who: &str, d: &Definition, folder: &Folder) -> Result<Release, Vec<Problem>> {
        let includes = d
            .includes
            .iter()
            .filter_map(|i| Some(Locked { name: i.name.clone(), ..self.pins.get(&i.distro)?.clone() }));
        let lock = Lock { includes: includes.collect() };
        let trees =
            definition::trees(d).into_iter().map(|t| ((t.role, t.artifact, t.platform), tree_of(&t.dir))).collect();
        definition::compile(
            d,
            &Materials {
                publisher: publisher(who),
                lock: &lock,
                releases: &self.releases,
                trees: &trees,
                source: tree_of("source"),
                templates: folder,
                parents: Vec::new(),
            },
        )
    }
    pub(crate) fn compile(&self, who: &str, text: &str) -> Result<Release, Vec<Problem>> {
        let d = definition::read(text)?;
        self.compile_in(who, &d, &Folder::for_all_of(&d))
    }
    /// Puts a release onto the shelf, without asking whether it is any good.
    pub(crate) fn put(&mut self, release: Release) -> ReleaseId {
        let bytes = codec::encode(&release).unwrap();
        let id = ReleaseId::of(&bytes);
        self.pins.insert(
            release.distro.clone(),
            Locked {
                name: String::new(),
                publisher: release.publisher,
                distro: release.distro.clone(),
                version: release.version.clone(),
                revision: release.revision,
                release: ReleaseRef { id, size: bytes.len() as u32 },
            },
        );
        self.releases.insert(id, release);
        id
    }
    pub(crate) fn publish(&mut self, who: &str, text: &str) -> ReleaseId {
        let release = self.compile(who, text).unwrap_or_else(|p| panic!("{}", shown(&p)));
        self.put(release)
    }
}

pub(crate) fn good(name: &str) -> String {
    fs::read_to_string(folder("good").join(format!("{name}.toml"))).unwrap()
}

/// Oakfield's two distros, which the reference example includes.
pub(crate) fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    shelf.publish("oakfield", &good("postgres"));
    shelf.publish("oakfield", &good("caddy-edge"));
    shelf
}

/// The definition with a change; both texts must be there and gone.
pub(crate) fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}
