//! `improve`: a working copy of a release's source, with its lineage written beside it. Invariant: the copy appears whole
//! or not at all, nothing in it is linked to the store, and what is published from it names its parent.

use super::{
    closure,
    failure::{Failure, Kind},
    fetch, reference,
};
use crate::{api::talk::Talk, context::Context};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use softservice_protocol::{
    chunk::ChunkRef,
    id::{PublisherId, ReleaseId},
    io::Depth,
    release::Parent,
    tree::{Manifest, Node},
};
use softservice_store::Store;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// The folder for what the tool notes in a working copy; never part of a source tree.
pub(super) const NOTES: &str = ".softservice";
/// Chunks read at a time: at most 16 MiB in memory.
const BATCH: usize = 64;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lineage {
    #[serde(default)]
    parent: Vec<Row>,
}
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    publisher: String,
    release: String,
    label: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Improve {
    reference: String,
    dir: PathBuf,
}

pub(super) async fn improve(context: &Context, args: Improve, talk: &Talk) -> Result<Value, Failure> {
    if !args.dir.is_absolute() {
        return Err(Failure::usage("dir must be an absolute path"));
    }
    let free = match fs::read_dir(&args.dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !free {
        return Err(Failure::refused(format!("{} exists and is not an empty folder", args.dir.display()))
            .hint("choose another folder"));
    }
    let found = reference::find(context, &args.reference).await?;
    super::freshness::warn(context, found.publisher, talk).await?;
    fetch::bring_listed(context, &found, Depth::Content, talk).await?;
    let closure = closure::load(context, found.release()).await?;
    let release = closure.root()?;
    let source = release.source.clone();
    let label = format!("{} {}", release.distro, release.version);
    let row = Row {
        publisher: release.publisher.to_string(),
        release: found.listing.release.to_string(),
        label: label.clone(),
    };
    let (store, dir) = (closure::store(context), args.dir.clone());
    closure::blocking(move || {
        let manifest = softservice_store::manifests::of_tree(store.as_ref(), &source)?;
        copy(store.as_ref(), &manifest, &dir, &Lineage { parent: vec![row] })
    })
    .await?;
    Ok(json!({
        "parent": found.listing.release.to_string(),
        "publisher": release.publisher.to_string(),
        "label": label,
        "dir": args.dir,
    }))
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{action} {}: {error}", path.display()))
}

/// Writes the copy beside its place, then renames it.
fn copy(store: &dyn Store, manifest: &Manifest, dir: &Path, lineage: &Lineage) -> Result<(), Failure> {
    let beside = dir.parent().ok_or_else(|| Failure::usage(format!("{} has no folder above it", dir.display())))?;
    fs::create_dir_all(beside).map_err(|e| failed("create", beside, &e))?;
    let staging = tempfile::Builder::new()
        .prefix(".improve-")
        .tempdir_in(beside)
        .map_err(|e| failed("create a folder in", beside, &e))?;
    let root = staging.path().join("copy");
    fs::create_dir(&root).map_err(|e| failed("create", &root, &e))?;
    for entry in &manifest.entries {
        // Checked by whoever read the manifest: relative, inside, folders before what they hold. A link that comes
        // before a path through it cannot exist: a path's folder is an entry of kind folder.
        let path = root.join(&entry.path);
        match &entry.node {
            Node::Dir => fs::create_dir(&path).map_err(|e| failed("create", &path, &e))?,
            Node::Symlink { target } => symlink(target, &path).map_err(|e| failed("link", &path, &e))?,
            Node::File { executable, .. } => write(store, &path, &entry.node.chunk_list(), *executable)?,
        }
    }
    let notes = root.join(NOTES);
    fs::create_dir_all(&notes).map_err(|e| failed("create", &notes, &e))?;
    let text = toml::to_string(lineage).map_err(|e| Failure::new(Kind::Bug, e.to_string()))?;
    let file = notes.join("lineage.toml");
    fs::write(&file, format!("# Written by `softservice improve`: what this copy improves on.\n{text}"))
        .map_err(|e| failed("write", &file, &e))?;
    // An empty folder may stand there; a rename replaces it.
    fs::rename(&root, dir).map_err(|e| failed("rename to", dir, &e))
}

fn write(store: &dyn Store, path: &Path, chunks: &[ChunkRef], executable: bool) -> Result<(), Failure> {
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| failed("create", path, &e))?;
    for batch in chunks.chunks(BATCH) {
        for (chunk, bytes) in batch.iter().zip(store.read(batch)?) {
            let Some(bytes) = bytes else {
                return Err(Failure::new(Kind::Damaged, format!("chunk {} is missing or damaged", chunk.id.short()))
                    .hint("`softservice fsck --repair` fetches it again"));
            };
            file.write_all(&bytes).map_err(|e| failed("write", path, &e))?;
        }
    }
    Ok(())
}

/// What a working copy improves on; nothing for a folder that `improve` did not make.
pub(super) fn parents(dir: &Path) -> Result<Vec<Parent>, Failure> {
    let path = dir.join(NOTES).join("lineage.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", &path, &error)),
    };
    let bad = |why: String| {
        Failure::failed(format!("{}: {why}", path.display()))
            .hint("`softservice improve` writes this file; remove it to publish without lineage")
    };
    let lineage: Lineage = toml::from_str(&text).map_err(|e| bad(e.message().to_owned()))?;
    let parent = |row: Row| {
        let publisher: PublisherId =
            row.publisher.parse().map_err(|_| bad(format!("{:?} is no publisher", row.publisher)))?;
        let release: ReleaseId = row.release.parse().map_err(|_| bad(format!("{:?} is no release", row.release)))?;
        Ok(Parent { publisher, release, label: row.label })
    };
    lineage.parent.into_iter().map(parent).collect()
}
