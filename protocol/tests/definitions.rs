//! Definitions as people write them: good ones read and compile to the same bytes each time, bad ones are explained.
//! `SOFTSERVICE_BLESS=1` writes the expected texts anew.
#![allow(clippy::disallowed_methods)] // the wall is around the crate; these definitions live in files

use softservice_protocol::{
    chunk::ChunkRef,
    codec,
    definition::{self, Definition, Lock, Locked, Materials, Problem, Sources, closure::Releases},
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    release::{Release, ReleaseRef},
    tree::TreeRef,
};
use std::{collections::BTreeMap, fs, path::PathBuf};

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/definitions").join(name)
}

fn files(name: &str) -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder(name)).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    found.sort();
    let named = |p: PathBuf| (p.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap());
    found.into_iter().map(named).collect()
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}

/// A folder in memory.
#[derive(Default)]
struct Folder(BTreeMap<String, String>);

impl Folder {
    /// Everything that a definition asks for.
    fn for_all_of(d: &Definition) -> Self {
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

fn tree_of(text: &str) -> TreeRef {
    let id = ObjectId::of(text.as_bytes());
    TreeRef { manifest: id, chunks: vec![ChunkRef { id: ChunkId::from(id), len: 100 }], bytes: 7, files: 1 }
}

fn publisher(name: &str) -> PublisherId {
    PublisherId(ObjectId::of(name.as_bytes()).0)
}

/// Publishers that publish into one shelf and find each other's releases there.
#[derive(Default)]
struct Shelf {
    releases: Releases,
    pins: BTreeMap<String, Locked>,
}

impl Shelf {
    fn compile_in(&self, who: &str, d: &Definition, folder: &Folder) -> Result<Release, Vec<Problem>> {
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
    fn compile(&self, who: &str, text: &str) -> Result<Release, Vec<Problem>> {
        let d = definition::read(text)?;
        self.compile_in(who, &d, &Folder::for_all_of(&d))
    }
    /// Puts a release onto the shelf, without asking whether it is any good.
    fn put(&mut self, release: Release) -> ReleaseId {
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
    fn publish(&mut self, who: &str, text: &str) -> ReleaseId {
        let release = self.compile(who, text).unwrap_or_else(|p| panic!("{}", shown(&p)));
        self.put(release)
    }
}

fn good(name: &str) -> String {
    fs::read_to_string(folder("good").join(format!("{name}.toml"))).unwrap()
}

/// Oakfield's two distros, which the reference example includes.
fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    shelf.publish("oakfield", &good("postgres"));
    shelf.publish("oakfield", &good("caddy-edge"));
    shelf
}

#[test]
fn good_definitions_compile_to_releases_that_every_device_accepts() {
    let mut shelf = shelf();
    for (name, text) in files("good") {
        let release = shelf.compile("me", &text).unwrap_or_else(|p| panic!("{name}:\n{}", shown(&p)));
        release.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        definition::closure::check(&release, &shelf.releases).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = shelf.compile("me", &text).unwrap();
        let bytes = codec::encode(&release).unwrap();
        assert_eq!(bytes, codec::encode(&again).unwrap(), "{name} compiles to the same bytes");
        let back: Release = codec::decode(&bytes).unwrap();
        assert_eq!(back, release);
        shelf.put(release);
    }
}

#[test]
fn bad_definitions_are_explained_at_their_line() {
    let bless = std::env::var_os("SOFTSERVICE_BLESS").is_some();
    for (name, text) in files("bad") {
        let problems = match definition::read(&text) {
            Err(problems) => problems,
            Ok(d) => {
                let folder = Folder::for_all_of(&d);
                let problems = definition::check(&d, None, &folder);
                let errors = shelf().compile_in("me", &d, &folder).err().unwrap_or_default();
                [problems, errors].concat()
            }
        };
        let found = shown(&problems);
        assert!(!found.is_empty(), "{name} is bad");
        let path = folder("bad").join(format!("{name}.txt"));
        if bless {
            fs::write(&path, &found).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: SOFTSERVICE_BLESS=1 accepts the new text");
    }
}
