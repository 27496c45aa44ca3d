//! A file system in memory that knows what of it is durable. Invariant: durable is what a sync of that very file or folder
//! was answered for, and nothing else; every other change is in a list, and a cut of the power keeps any part of that list.
//!
//! It is crueller than any real file system, and within what POSIX allows: a sync of a file says nothing of its name, names
//! of one folder are kept or lost one by one, whatever their order, a write is torn at sectors, a size may be kept without
//! the bytes, and zeros stand there then. Only a rename is atomic: both names change or neither.

use super::draw::Draw;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The folder at the top.
pub const ROOT: u64 = 1;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes.
    File(Arc<Vec<u8>>),
    /// Names.
    Folder(BTreeMap<OsString, u64>),
    /// Where it points.
    Link(PathBuf),
}

/// A file, folder or symbolic link.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it holds.
    pub body: Body,
    /// Permission bits.
    pub mode: u32,
    /// When its content changed.
    pub modified: SystemTime,
    /// When anything of it changed.
    pub changed: SystemTime,
}

impl Node {
    fn new(body: Body, mode: u32) -> Self {
        let now = SystemTime::now();
        Self { body, mode, modified: now, changed: now }
    }
    fn names(&self) -> Option<&BTreeMap<OsString, u64>> {
        if let Body::Folder(names) = &self.body { Some(names) } else { None }
    }
    fn names_mut(&mut self) -> Option<&mut BTreeMap<OsString, u64>> {
        if let Body::Folder(names) = &mut self.body { Some(names) } else { None }
    }
    fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        if let Body::File(bytes) = &mut self.body { Some(Arc::make_mut(bytes)) } else { None }
    }
    fn touch(&mut self) {
        self.modified = SystemTime::now();
        self.changed = self.modified;
    }
}

type Name = (u64, OsString);

/// A change that no sync was answered for yet.
#[derive(Debug, Clone)]
enum Change {
    Write { node: u64, at: u64, bytes: Arc<Vec<u8>> },
    Size { node: u64, len: u64 },
    Mode { node: u64, mode: u32 },
    Name { name: Name, node: Option<u64> },
    Rename { from: Name, to: Name, node: u64 },
}

impl Change {
    fn is_of_file(&self, of: u64) -> bool {
        matches!(self, Self::Write { node, .. } | Self::Size { node, .. } | Self::Mode { node, .. } if *node == of)
    }
    fn is_of_folder(&self, of: u64) -> bool {
        match self {
            Self::Name { name, .. } => name.0 == of,
            Self::Rename { from, to, .. } => from.0 == of || to.0 == of,
            Self::Mode { node, .. } => *node == of,
            _ => false,
        }
    }
    fn names(&self) -> Vec<&Name> {
        match self {
            Self::Name { name, .. } => vec![name],
            Self::Rename { from, to, .. } => vec![from, to],
            _ => Vec::new(),
        }
    }
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such name.
    Missing,
    /// The name is taken.
    Taken,
    /// Not what it must be for this.
    Kind,
    /// A folder holds something.
    Full,
}

/// The nodes of a file system that nobody has mounted.
pub type Image = HashMap<u64, Node>;

/// The file system.
#[derive(Debug, Clone)]
pub struct Model {
    live: Image,
    /// What is on the disk. A node is there from its beginning, without content; whether it has a name is another matter.
    safe: Image,
    changes: Vec<Change>,
    /// How many names a node has, as programs see it.
    links: HashMap<u64, u32>,
    next: u64,
}

fn file(bytes: Vec<u8>) -> Body {
    Body::File(Arc::new(bytes))
}

/// What a folder of this machine holds, all of it durable.
///
/// # Errors
/// When it cannot be read.
pub fn load(folder: &Path) -> std::io::Result<Image> {
    fn walk(path: &Path, image: &mut Image, known: &mut HashMap<u64, u64>) -> std::io::Result<u64> {
        let meta = path.symlink_metadata()?;
        if let Some(number) = known.get(&meta.ino()).filter(|_| !meta.is_dir()) {
            return Ok(*number);
        }
        let number = known.len() as u64 + ROOT;
        known.insert(meta.ino(), number);
        let body = if meta.is_dir() {
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                names.insert(entry.file_name(), walk(&entry.path(), image, known)?);
            }
            Body::Folder(names)
        } else if meta.is_symlink() {
            Body::Link(fs::read_link(path)?)
        } else {
            file(fs::read(path)?)
        };
        let mut node = Node::new(body, meta.mode() & 0o7777);
        node.modified = meta.modified()?;
        image.insert(number, node);
        Ok(number)
    }
    let mut image = Image::new();
    walk(folder, &mut image, &mut HashMap::new())?;
    Ok(image)
}

/// Writes an image into a folder that does not exist yet, hard links as such.
///
/// # Errors
/// When it cannot be written.
pub fn save(image: &Image, folder: &Path) -> std::io::Result<()> {
    fn walk(image: &Image, number: u64, to: &Path, known: &mut HashMap<u64, PathBuf>) -> std::io::Result<()> {
        let Some(node) = image.get(&number) else { return Ok(()) };
        match &node.body {
            Body::Folder(names) => {
                fs::create_dir(to)?;
                for (name, number) in names {
                    walk(image, *number, &to.join(name), known)?;
                }
                fs::set_permissions(to, fs::Permissions::from_mode(node.mode))?;
            }
            Body::Link(target) => std::os::unix::fs::symlink(target, to)?,
            Body::File(bytes) => {
                if let Some(other) = known.get(&number) {
                    return fs::hard_link(other, to);
                }
                fs::write(to, bytes.as_slice())?;
                fs::set_permissions(to, fs::Permissions::from_mode(node.mode))?;
                fs::File::open(to)?.set_modified(node.modified)?;
                known.insert(number, to.to_owned());
            }
        }
        Ok(())
    }
    walk(image, ROOT, folder, &mut HashMap::new())
}

impl Model {
    /// A file system that holds this, durably.
    pub fn new(image: Image) -> Self {
        let next = image.keys().max().copied().unwrap_or(ROOT) + 1;
        let mut links = HashMap::new();
        for node in image.values().filter_map(Node::names).flat_map(BTreeMap::values) {
            *links.entry(*node).or_insert(0) += 1;
        }
        Self { safe: image.clone(), live: image, changes: Vec::new(), links, next }
    }
    /// A node as programs see it.
    pub fn node(&self, number: u64) -> Option<&Node> {
        self.live.get(&number)
    }
    /// How many names a node has.
    pub fn links(&self, number: u64) -> u32 {
        self.links.get(&number).copied().unwrap_or(0)
    }
    /// What a name stands for.
    pub fn look(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.live.get(&folder)?.names()?.get(name).copied()
    }
    fn enter(&mut self, folder: u64, name: &OsStr, node: Option<u64>) -> Result<(), Refused> {
        let names = self.live.get_mut(&folder).ok_or(Refused::Missing)?;
        names.touch();
        let names = names.names_mut().ok_or(Refused::Kind)?;
        let before = match node {
            Some(node) => names.insert(name.to_owned(), node),
            None => names.remove(name),
        };
        if let Some(before) = before {
            self.links.entry(before).and_modify(|links| *links = links.saturating_sub(1));
        }
        if let Some(node) = node {
            *self.links.entry(node).or_insert(0) += 1;
        }
        Ok(())
    }
    /// Makes a node under a free name.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn make(&mut self, folder: u64, name: &OsStr, body: Body, mode: u32) -> Result<u64, Refused> {
        if self.look(folder, name).is_some() {
            return Err(Refused::Taken);
        }
        let number = self.next;
        self.next += 1;
        let node = Node::new(body, mode & 0o7777);
        self.live.insert(number, node.clone());
        self.safe.insert(number, node);
        self.link(number, folder, name)?;
        Ok(number)
    }
    /// Gives a node another name.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn link(&mut self, node: u64, folder: u64, name: &OsStr) -> Result<(), Refused> {
        if self.look(folder, name).is_some() {
            return Err(Refused::Taken);
        }
        self.enter(folder, name, Some(node))?;
        self.changes.push(Change::Name { name: (folder, name.to_owned()), node: Some(node) });
        Ok(())
    }
    /// Takes a name away.
    ///
    /// # Errors
    /// When there is none, or a folder under it holds something.
    pub fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), Refused> {
        let node = self.look(folder, name).ok_or(Refused::Missing)?;
        if self.live.get(&node).and_then(Node::names).is_some_and(|names| !names.is_empty()) {
            return Err(Refused::Full);
        }
        self.enter(folder, name, None)?;
        self.changes.push(Change::Name { name: (folder, name.to_owned()), node: None });
        Ok(())
    }
    /// Renames, in one step.
    ///
    /// # Errors
    /// When there is no such name, or the other is taken and must not be.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replace: bool) -> Result<(), Refused> {
        let node = self.look(from.0, from.1).ok_or(Refused::Missing)?;
        if let Some(there) = self.look(to.0, to.1) {
            if !replace {
                return Err(Refused::Taken);
            }
            if self.live.get(&there).and_then(Node::names).is_some_and(|names| !names.is_empty()) {
                return Err(Refused::Full);
            }
            if there == node {
                return Ok(());
            }
        }
        self.enter(from.0, from.1, None)?;
        self.enter(to.0, to.1, Some(node))?;
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.changes.push(Change::Rename { from, to, node });
        Ok(())
    }
    /// Writes bytes at a place.
    ///
    /// # Errors
    /// When it is no file.
    pub fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let node = self.live.get_mut(&number).ok_or(Refused::Missing)?;
        node.touch();
        let content = node.bytes_mut().ok_or(Refused::Kind)?;
        overwrite(content, at as usize, bytes);
        self.changes.push(Change::Write { node: number, at, bytes: Arc::new(bytes.to_vec()) });
        Ok(())
    }
    /// Makes a file longer or shorter.
    ///
    /// # Errors
    /// When it is no file.
    pub fn resize(&mut self, number: u64, len: u64) -> Result<(), Refused> {
        let node = self.live.get_mut(&number).ok_or(Refused::Missing)?;
        node.touch();
        node.bytes_mut().ok_or(Refused::Kind)?.resize(len as usize, 0);
        self.changes.push(Change::Size { node: number, len });
        Ok(())
    }
    /// Sets permission bits.
    pub fn set_mode(&mut self, number: u64, mode: u32) {
        let mode = mode & 0o7777;
        if let Some(node) = self.live.get_mut(&number) {
            node.mode = mode;
            node.changed = SystemTime::now();
            self.changes.push(Change::Mode { node: number, mode });
        }
    }
    /// Sets the time of the last change of content; on the disk it is whatever it is.
    pub fn set_modified(&mut self, number: u64, time: SystemTime) {
        if let Some(node) = self.live.get_mut(&number) {
            node.modified = time;
            node.changed = SystemTime::now();
        }
    }

    /// A sync of a file: its bytes, size and mode are durable. Its names are not.
    pub fn sync_file(&mut self, number: u64) {
        self.changes.retain(|change| !change.is_of_file(number));
        if let (Some(live), Some(safe)) = (self.live.get(&number), self.safe.get_mut(&number))
            && live.names().is_none()
        {
            safe.clone_from(live);
        }
    }
    /// A sync of a folder: its names are durable.
    pub fn sync_folder(&mut self, number: u64) {
        // What a name was before a rename that is durable now is the past as well, in whatever folder it stands.
        let (mut now, mut later, mut involved) = (Vec::new(), Vec::new(), BTreeSet::new());
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            if change.is_of_folder(number) || change.names().into_iter().any(|name| involved.contains(name)) {
                involved.extend(change.names().into_iter().cloned());
                now.push(change);
            } else {
                later.push(change);
            }
        }
        now.iter().rev().for_each(|change| apply(&mut self.safe, change));
        later.reverse();
        self.changes = later;
    }

    /// What is there for a program that is killed, or one that comes after it.
    pub fn killed(&self) -> Image {
        self.live.clone()
    }
    /// What is there after the power went now; which of what was not synced, is drawn.
    pub fn cut(&self, draw: &mut Draw) -> Image {
        let mut image = self.safe.clone();
        let names = [0, 10, 50, 90, 100][draw.below(5) as usize];
        let data = [0, 10, 50, 90, 100][draw.below(5) as usize];
        for change in &self.changes {
            let Change::Write { node, at, bytes } = change else {
                let percent = if matches!(change, Change::Name { .. } | Change::Rename { .. }) { names } else { data };
                if draw.chance(percent) {
                    apply(&mut image, change);
                }
                continue;
            };
            let Some(content) = image.get_mut(node).and_then(Node::bytes_mut) else { continue };
            if draw.chance(data) {
                overwrite(content, *at as usize, bytes);
            } else if draw.chance(50) {
                tear(content, *at as usize, bytes, draw);
            }
        }
        reachable(&mut image);
        image
    }
}

fn overwrite(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

/// Some sectors of a write, and perhaps its size.
fn tear(content: &mut Vec<u8>, at: usize, bytes: &[u8], draw: &mut Draw) {
    let percent = draw.below(100);
    let mut start = at;
    while start < at + bytes.len() {
        let end = ((start / SECTOR + 1) * SECTOR).min(at + bytes.len());
        if draw.chance(percent) {
            overwrite(content, start, bytes.get(start - at..end - at).unwrap_or_default());
        }
        start = end;
    }
    if draw.chance(30) && content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
}

fn set(image: &mut Image, name: &Name, node: Option<u64>) {
    let Some(names) = image.get_mut(&name.0).and_then(Node::names_mut) else { return };
    match node {
        Some(node) => names.insert(name.1.clone(), node),
        None => names.remove(&name.1),
    };
}

fn apply(image: &mut Image, change: &Change) {
    match change {
        Change::Write { node, at, bytes } => {
            if let Some(content) = image.get_mut(node).and_then(Node::bytes_mut) {
                overwrite(content, *at as usize, bytes);
            }
        }
        Change::Size { node, len } => {
            if let Some(content) = image.get_mut(node).and_then(Node::bytes_mut) {
                content.resize(*len as usize, 0);
            }
        }
        Change::Mode { node, mode } => {
            if let Some(node) = image.get_mut(node) {
                node.mode = *mode;
            }
        }
        Change::Name { name, node } => set(image, name, *node),
        Change::Rename { from, to, node } => {
            let there = image.get(&from.0).and_then(Node::names).and_then(|names| names.get(&from.1));
            if there == Some(node) {
                set(image, from, None);
            }
            set(image, to, Some(*node));
        }
    }
}

/// Drops nodes that no name leads to.
fn reachable(image: &mut Image) {
    let mut seen = BTreeSet::new();
    let mut open = vec![ROOT];
    while let Some(number) = open.pop() {
        if seen.insert(number) {
            open.extend(image.get(&number).and_then(Node::names).into_iter().flat_map(|names| names.values().copied()));
        }
    }
    image.retain(|number, _| seen.contains(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Model {
        let root = Node::new(Body::Folder(BTreeMap::new()), 0o755);
        Model::new(Image::from([(ROOT, root)]))
    }
    fn make(model: &mut Model, folder: u64, name: &str, body: Body) -> u64 {
        model.make(folder, name.as_ref(), body, 0o644).expect("the name is free")
    }
    /// Every file that some cut leaves, with what it holds there.
    fn cuts(model: &Model) -> BTreeSet<Vec<(String, Vec<u8>)>> {
        let cut = |seed| {
            let image = model.cut(&mut Draw::new(seed, "test"));
            let mut found = Vec::new();
            let mut open = vec![(String::new(), ROOT)];
            while let Some((path, number)) = open.pop() {
                match &image[&number].body {
                    Body::Folder(names) => {
                        open.extend(names.iter().map(|(n, to)| (format!("{path}/{}", n.display()), *to)));
                    }
                    Body::File(bytes) => found.push((path, bytes.to_vec())),
                    Body::Link(_) => {}
                }
            }
            found.sort();
            found
        };
        (0..400).map(cut).collect()
    }

    #[test]
    fn a_name_and_its_bytes_are_durable_by_a_sync_of_each() {
        let mut model = new();
        let node = make(&mut model, ROOT, "a", file(vec![]));
        model.write(node, 0, b"some").expect("a file");
        let all = cuts(&model);
        for state in [vec![], vec![("/a".to_owned(), vec![])], vec![("/a".to_owned(), b"some".to_vec())]] {
            assert!(all.contains(&state), "{state:?} is possible");
        }
        model.sync_file(node);
        assert_eq!(cuts(&model), BTreeSet::from([vec![], vec![("/a".to_owned(), b"some".to_vec())]]));
        model.sync_folder(ROOT);
        assert_eq!(cuts(&model), BTreeSet::from([vec![("/a".to_owned(), b"some".to_vec())]]));
    }

    #[test]
    fn writes_are_torn_at_sectors_and_sizes_kept_without_bytes() {
        let mut model = new();
        let node = make(&mut model, ROOT, "a", file(vec![]));
        model.sync_folder(ROOT);
        model.write(node, 0, &[7; 3 * SECTOR]).expect("a file");
        let all: BTreeSet<Vec<u8>> = cuts(&model).into_iter().map(|mut state| state.remove(0).1).collect();
        assert!(all.contains(&[vec![0; SECTOR], vec![7; 2 * SECTOR]].concat()));
        assert!(all.contains(&vec![0; 3 * SECTOR]) && all.contains(&vec![7; SECTOR]));
        assert!(all.iter().all(|bytes| bytes.chunks(SECTOR).all(|s| s.iter().all(|b| *b == s[0]))));
    }

    #[test]
    fn a_rename_changes_both_names_or_neither() {
        let mut model = new();
        let (from, to) = (
            make(&mut model, ROOT, "from", Body::Folder(BTreeMap::new())),
            make(&mut model, ROOT, "to", Body::Folder(BTreeMap::new())),
        );
        let node = make(&mut model, from, "x", file(b"x".to_vec()));
        [ROOT, from, to].into_iter().for_each(|folder| model.sync_folder(folder));
        model.rename((from, "x".as_ref()), (to, "y".as_ref()), false).expect("it is there");
        let state = |path: &str| vec![(path.to_owned(), b"x".to_vec())];
        assert_eq!(cuts(&model), BTreeSet::from([state("/from/x"), state("/to/y")]));
        model.sync_folder(to);
        assert_eq!(cuts(&model), BTreeSet::from([state("/to/y")]));
        assert_eq!(model.links(node), 1);
    }
}
