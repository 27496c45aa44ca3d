//! The files of a publisher identity. Invariant: each is whole or absent; a folder appears whole or not at all; no file is ever
//! replaced but `mark` and `place`.
//!
//! `root-N` are the root documents as envelopes, without gaps; `*.key`, here or in `keys/`, are key files of any name; `mark` says how
//! far the feed came, `place` which folder this is.

use super::{Identity, PublisherError, change::ROOT_VALID, place, public};
use crate::{
    home::{NEW_PUBLISHER, write_private},
    identity::{KeyError, new_key, read_key, write_key, write_new_key},
};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    codec,
    id::FeedId,
    root::{Root, RootError, TrustedRoot, publisher_of},
    sign::{Envelope, Kind},
    time::Time,
};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The key files that a first identity has, in the order of a first root document.
const FIRST: [&str; 4] = ["root", "release", "fresh", "revoke"];
/// Key files that are read: every key of every role, and as many that are of no use any more.
pub(super) const KEY_FILES: usize = 128;
/// A key file is two lines.
const KEY_FILE_BYTES: u64 = 4096;

/// A key file with what is in it.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) key: SigningKey,
}
/// A key file that is of no use as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// All of them, by path. One that cannot be read is left out and told of: the others sign all the same.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) found: Vec<Found>,
    pub(super) unreadable: Vec<Unreadable>,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PublisherError {
    let path = path.to_owned();
    move |source| PublisherError::Key(KeyError::Io { action, path, source })
}

/// The secret in a key file of anywhere.
///
/// # Errors
/// When there is none, or it is no key file.
pub fn secret_at(path: &Path) -> Result<SigningKey, PublisherError> {
    let about = fs::metadata(path).map_err(io("read", path))?;
    let why = "a key file has two lines of 64 hexadecimal digits";
    if !about.is_file() || about.len() > KEY_FILE_BYTES {
        return Err(PublisherError::NotAKey { path: path.to_owned(), why });
    }
    match read_key(path) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(io("read", path)(ErrorKind::NotFound.into())),
        Err(KeyError::Damaged { path, why }) => Err(PublisherError::NotAKey { path, why }),
        Err(error) => Err(error.into()),
    }
}

/// Makes a key in a new file, closed to others and durable. Nothing is ever overwritten.
///
/// # Errors
/// When something is there, or it cannot be written.
pub fn make_key(path: &Path) -> Result<SigningKey, PublisherError> {
    if path.symlink_metadata().is_ok() {
        return Err(PublisherError::Exists(path.to_owned()));
    }
    let key = new_key()?;
    // Whole before it has its name; of two that make the same file, one is told so.
    match write_new_key(path, &key) {
        Ok(()) => Ok(key),
        Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
            Err(PublisherError::Exists(path.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps a key among those of this home, by a name that no other key has.
pub(super) fn keep_key(folder: &Path, called: &str, key: &SigningKey) -> Result<PathBuf, PublisherError> {
    let path = folder.join(format!("{called}-{}.key", public(key).short()));
    match secret_at(&path) {
        Ok(there) if there == *key => Ok(path),
        Err(PublisherError::Key(KeyError::Io { source, .. })) if source.kind() == ErrorKind::NotFound => {
            if listed(folder)?.len() >= KEY_FILES {
                return Err(PublisherError::TooMany(folder.to_owned()));
            }
            write_new_key(&path, key)?;
            Ok(path)
        }
        _ => Err(PublisherError::Exists(path)),
    }
}

/// Keeps a root document; its name is what makes it count.
pub(super) fn write_root(folder: &Path, version: u64, bytes: &[u8]) -> Result<(), PublisherError> {
    let path = folder.join(format!("root-{version}"));
    write_private(&path, bytes).map_err(io("write", &path))
}

/// Writes keys and root version 1, dated `now`, into a folder beside, then renames it: a crash leaves nothing or everything.
pub(super) fn write_new(folder: &Path, now: Time) -> Result<(), PublisherError> {
    appear(folder, |staging| {
        let keys = [new_key()?, new_key()?, new_key()?, new_key()?];
        for (key, role) in keys.iter().zip(FIRST) {
            write_key(&staging.join(format!("{role}.key")), key)?;
        }
        let [root, release, fresh, revoke] = keys.each_ref().map(public);
        let document = Root::first(root, release, fresh, revoke, now, now + ROOT_VALID);
        let encode = |source: codec::CodecError| PublisherError::Successor(source.into());
        let payload = codec::encode(&document).map_err(encode)?;
        let publisher = publisher_of(&payload);
        let envelope = Envelope::seal(Kind::Root, publisher, FeedId::main(publisher), payload, &[&keys[0]]);
        write_root(staging, 1, &codec::encode(&envelope).map_err(encode)?)?;
        place::stay(staging)
    })
}

/// The same of an identity that exists: its root documents, and one key.
pub(super) fn write_joined(folder: &Path, roots: &[Vec<u8>], key: &SigningKey) -> Result<(), PublisherError> {
    appear(folder, |staging| {
        keep_key(staging, "joined", key)?;
        (1..).zip(roots).try_for_each(|(version, bytes)| write_root(staging, version, bytes))?;
        place::join(staging)
    })
}

fn appear(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), PublisherError>) -> Result<(), PublisherError> {
    let home = folder.parent().unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new().prefix(NEW_PUBLISHER).tempdir_in(home).map_err(io("create in", home))?;
    fill(staging.path())?;
    let staging = staging.keep();
    fs::rename(&staging, folder).map_err(io("rename to", folder))?;
    fs::File::open(home).and_then(|f| f.sync_all()).map_err(io("sync", home))
}

pub(super) fn load(folder: &Path) -> Result<Identity, PublisherError> {
    let mut roots: Vec<Vec<u8>> = Vec::new();
    let mut newest: Option<TrustedRoot> = None;
    loop {
        let path = folder.join(format!("root-{}", roots.len() + 1));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => break,
            Err(source) => return Err(io("read", &path)(source)),
        };
        let accepted = codec::decode::<Envelope>(&bytes).map_err(RootError::from).and_then(|envelope| match &newest {
            None => TrustedRoot::first(publisher_of(&envelope.payload), &envelope),
            Some(trusted) => trusted.next(&envelope),
        });
        newest = Some(accepted.map_err(|source| PublisherError::Root { path, source })?);
        roots.push(bytes);
    }
    // Behind a gap there may be newer ones: going on from an older one would fork the publisher.
    let later = names(folder)?.iter().any(|path| version_of(path).is_some_and(|v| v > roots.len()));
    let newest = newest.filter(|_| !later).ok_or_else(|| PublisherError::Torn(folder.to_owned()))?;
    Ok(Identity { publisher: newest.publisher, ring: read_ring(folder)?, roots, newest })
}

/// The version of a root document, by the name of its file.
fn version_of(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix("root-")?.parse().ok()
}

/// What is in a folder, as far as there is one.
fn names(folder: &Path) -> Result<Vec<PathBuf>, PublisherError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(io("read", folder))?.path())).collect(),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(io("read", folder)(e)),
    }
}

/// The key files below `folder`, by path.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, PublisherError> {
    let mut paths = names(folder)?;
    paths.extend(names(&folder.join("keys"))?);
    let hidden = |path: &Path| path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|e| e == "key") && !hidden(path));
    paths.sort();
    Ok(paths)
}

fn read_ring(folder: &Path) -> Result<Ring, PublisherError> {
    let mut ring = Ring::default();
    for (number, path) in listed(folder)?.into_iter().enumerate() {
        let read = if number < KEY_FILES { secret_at(&path) } else { Err(PublisherError::TooMany(folder.to_owned())) };
        match read {
            Ok(key) if ring.found.iter().all(|found| found.key != key) => ring.found.push(Found { path, key }),
            Ok(_) => {}
            // Gone since it was listed: somebody takes it elsewhere.
            Err(PublisherError::Key(KeyError::Io { source, .. })) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a key file of the publisher cannot be read and is left out");
                ring.unreadable.push(Unreadable { path, why: error.to_string() });
            }
        }
    }
    Ok(ring)
}
