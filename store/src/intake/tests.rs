//! A folder that is read again. Invariant: what is remembered is used exactly when the file is unchanged and its object is
//! here. To see whether a file was read, what is remembered of it is made to say something else than it holds.

use super::*;
use crate::Store as _;
use softservice_protocol::tree::Node;
use std::time::Duration;

struct Scene {
    dir: tempfile::TempDir,
    store: DiskStore,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::create_dir_all(source.join("sub")).unwrap();
        for (name, size) in [("empty", 0), ("small", 3_000), ("sub/medium", 400_000), ("sub/large", 9_000_000)] {
            std::fs::write(source.join(name), vec![7; size]).unwrap();
        }
        let store = crate::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }
    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }
    fn seen(&self) -> Seen {
        Seen::open(&self.store.dir().join("seen"), &self.source())
    }
    /// Remembers of every file that it holds this object, as if all were written long ago.
    fn pretend(&self, content: &Content) {
        let found = walk::walk(&self.source(), &[]).unwrap();
        let stamps = found.into_iter().filter_map(|f| match f.kind {
            Kind::File { stamp, .. } => Some((f.path, stamp)),
            _ => None,
        });
        let entries = stamps.map(|(path, stamp)| (path, stamp, Content { size: stamp.size(), ..content.clone() }));
        self.seen().keep(entries.filter(|(_, s, _)| s.size() == content.size).collect(), later());
    }
    fn object_of(&self, path: &str, anew: bool) -> ObjectId {
        let made = self.store.ingest_dir(&self.source(), &[], Way { progress: &|_| true, anew, look: None }).unwrap();
        let manifest = crate::manifests::of_tree(&self.store, &made.tree).unwrap();
        assert_eq!(made.bytes, made.tree.bytes);
        let object = manifest.entries.iter().find(|e| e.path == path).and_then(|e| match e.node {
            Node::File { object, .. } => Some(object),
            _ => None,
        });
        object.unwrap()
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

/// Another content of 3,000 bytes that is here.
fn other(scene: &Scene) -> Content {
    let object = scene.store.add_bytes(&[8; 3_000]).unwrap();
    Content { object, size: 3_000, chunks: vec![ChunkRef { id: object.into(), len: 3_000 }], clean: 0 }
}

#[test]
fn an_unchanged_file_is_not_read_unless_everything_is() {
    let scene = Scene::new();
    let right = ObjectId::of(&[7; 3_000]);
    assert_eq!(scene.object_of("small", false), right);
    let other = other(&scene);
    scene.pretend(&other);
    assert_eq!(scene.object_of("small", false), other.object, "an unchanged file was read");
    scene.pretend(&other);
    assert_eq!(scene.object_of("small", true), right, "a file was not read although all were asked for");
}

#[test]
fn a_changed_file_is_read() {
    let scene = Scene::new();
    let other = other(&scene);
    let changes: [fn(&Path); 4] = [
        |file| std::fs::write(file, [9; 3_000]).unwrap(),
        |file| {
            let new = file.with_extension("new");
            std::fs::write(&new, [9; 3_000]).unwrap();
            std::fs::rename(new, file).unwrap();
        },
        |file| {
            let modified = file.metadata().unwrap().modified().unwrap();
            std::fs::write(file, [9; 3_000]).unwrap();
            File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
        },
        |file| std::fs::write(file, [9; 3_001]).unwrap(),
    ];
    for change in changes {
        let file = scene.source().join("small");
        std::fs::write(&file, [7; 3_000]).unwrap();
        scene.pretend(&other);
        let before = Stamp::of(&file.metadata().unwrap());
        // Where times are coarse, the next tick is waited for: no reading would have been remembered before it.
        while Stamp::of(&file.metadata().unwrap()) == before {
            change(&file);
        }
        assert_eq!(scene.object_of("small", false), ObjectId::of(&std::fs::read(&file).unwrap()));
    }
}

#[test]
fn what_is_remembered_but_not_here_is_read() {
    let scene = Scene::new();
    let other = other(&scene);
    scene.pretend(&other);
    scene.store.objects.remove(other.object).unwrap();
    assert_eq!(scene.object_of("small", false), ObjectId::of(&[7; 3_000]));
    // The same for what was remembered rightly: it is here again afterwards.
    let right = ObjectId::of(&[7; 3_000]);
    let chunks = vec![ChunkRef { id: right.into(), len: 3_000 }];
    scene.pretend(&Content { object: right, size: 3_000, chunks, clean: 0 });
    scene.store.objects.remove(right).unwrap();
    assert_eq!(scene.object_of("small", false), right);
    assert!(scene.store.objects.has(right));
}

#[test]
fn nothing_is_believed_of_a_memory_that_is_damaged() {
    let scene = Scene::new();
    scene.pretend(&other(&scene));
    for entry in std::fs::read_dir(scene.store.dir().join("seen")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(scene.object_of("small", false), ObjectId::of(&[7; 3_000]));
}

#[test]
fn what_was_read_as_a_folder_of_its_own_is_not_read_again_as_part_of_another() {
    let scene = Scene::new();
    let below = scene.source().join("sub");
    std::fs::write(below.join("tiny"), [7; 3_000]).unwrap();
    let other = other(&scene);
    let stamp = Stamp::of(&below.join("tiny").metadata().unwrap());
    let seen = Seen::open(&scene.store.dir().join("seen"), &below);
    seen.keep(vec![("tiny".to_owned(), stamp, other.clone())], later());
    assert_eq!(scene.object_of("sub/tiny", false), other.object, "an unchanged file was read");
    assert_eq!(scene.object_of("sub/tiny", true), ObjectId::of(&[7; 3_000]));
    std::fs::write(below.join("tiny"), [9; 2_999]).unwrap();
    assert_eq!(scene.object_of("sub/tiny", false), ObjectId::of(&[9; 2_999]));
}

/// Looks for a nine, and remembers what it was shown, and how much.
#[derive(Default)]
struct Nines {
    rule: u32,
    shown: Mutex<Vec<(String, usize)>>,
    found: AtomicBool,
}
struct Shown<'a>(&'a Nines, String, Vec<u8>);

impl Nines {
    fn of(rule: u32) -> Self {
        Self { rule, ..Self::default() }
    }
    fn names(&self) -> Vec<String> {
        let mut shown = std::mem::take(&mut *lock(&self.shown));
        shown.sort();
        shown.into_iter().map(|(path, bytes)| format!("{path} {bytes}")).collect()
    }
}
impl Look for Nines {
    fn rule(&self, _: &str) -> u32 {
        self.rule
    }
    fn open<'a>(&'a self, path: &str) -> Box<dyn crate::Looking + 'a> {
        Box::new(Shown(self, path.into(), Vec::new()))
    }
    fn lets_in(&self) -> bool {
        !self.found.load(Ordering::Relaxed)
    }
}
impl crate::Looking for Shown<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.2.extend(piece);
    }
    fn end(self: Box<Self>) -> bool {
        let all = self.2.clone();
        self.whole(&all)
    }
    fn whole(self: Box<Self>, bytes: &[u8]) -> bool {
        lock(&self.0.shown).push((self.1.clone(), bytes.len()));
        let found = bytes.contains(&9);
        self.0.found.fetch_or(found, Ordering::Relaxed);
        !found
    }
}

#[test]
fn what_is_not_let_in_leaves_nothing_and_what_was_clean_is_not_shown_again() {
    let scene = Scene::new();
    let look_at = |look: &Nines| scene.store.ingest_looked(&scene.source(), &[], &|_| true, false, look);
    let all = ["empty 0", "small 3000", "sub/large 9000000", "sub/medium 400000"];
    let first = Nines::of(1);
    look_at(&first).unwrap();
    assert_eq!(first.names(), all, "every file is shown whole");

    std::fs::write(scene.source().join("small"), [9; 3_000]).unwrap();
    let before = scene.store.totals().unwrap();
    let second = Nines::of(1);
    assert!(matches!(look_at(&second), Err(StoreError::NotLetIn)));
    assert_eq!(scene.store.totals().unwrap(), before, "nothing of it is here");
    assert!(!scene.store.has_object(ObjectId::of(&[9; 3_000])));
    let temporary = std::fs::read_dir(scene.store.dir().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(temporary, 0, "no file on its way is left");

    // What is remembered says by which rule.
    std::fs::write(scene.source().join("small"), [7; 3_000]).unwrap();
    let right = ObjectId::of(&[7; 3_000]);
    let chunks = vec![ChunkRef { id: right.into(), len: 3_000 }];
    scene.pretend(&Content { object: right, size: 3_000, chunks, clean: 5 });
    let same = Nines::of(5);
    look_at(&same).unwrap();
    assert!(!same.names().contains(&"small 3000".to_owned()), "known to be clean, and shown");
    scene.pretend(&Content {
        object: right,
        size: 3_000,
        chunks: vec![ChunkRef { id: right.into(), len: 3_000 }],
        clean: 5,
    });
    let other = Nines::of(6);
    look_at(&other).unwrap();
    assert!(other.names().contains(&"small 3000".to_owned()), "another rule was not shown it");
}
