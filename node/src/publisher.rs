//! The publisher identity of this home: four keys and the root documents that they made, below `home/publisher`.
//! Invariant: the folder appears whole or not at all, and no key in it stands in two roles.

use crate::{
    clock::Clock,
    home::{NEW_PUBLISHER, write_private},
    identity::{KeyError, new_key, read_key, write_key},
};
use ed25519_dalek::SigningKey;
use softservice_protocol::{
    codec,
    id::{FeedId, PublicKey, PublisherId},
    root::{Root, RootError, TrustedRoot, publisher_of},
    sign::{Envelope, Kind, Signature, sign},
    time::Span,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

/// How long a root document holds: long enough for a yearly habit, short enough that a lost publisher shows.
const ROOT_VALID: Span = Span::days(400);
/// Names of the four key files, in the order of [`Identity`]'s fields.
const ROLES: [&str; 4] = ["root", "release", "fresh", "revoke"];

/// Why the identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A root document.
    #[error("publisher's file {path} is damaged: {source}; restore it from a backup", path = path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: RootError,
    },
    /// A file is missing although others are here.
    #[error("publisher folder {path} is not whole: a key or root document is missing; restore it from a backup", path = .0.display())]
    Torn(PathBuf),
}

struct Identity {
    publisher: PublisherId,
    keys: [SigningKey; 4],
    roots: Vec<Vec<u8>>,
    newest: TrustedRoot,
}

/// The publisher keys of this home; empty until [`Keys::create`].
#[derive(Clone)]
pub struct Keys {
    folder: PathBuf,
    identity: Arc<RwLock<Option<Arc<Identity>>>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?})", self.publisher())
    }
}

impl Keys {
    /// Reads what is here.
    ///
    /// # Errors
    /// When the folder is damaged.
    pub fn open(home: &Path) -> Result<Self, PublisherError> {
        let folder = home.join("publisher");
        let identity = if folder.exists() { Some(Arc::new(load(&folder)?)) } else { None };
        Ok(Self { folder, identity: Arc::new(RwLock::new(identity)) })
    }

    /// Makes the identity, unless it exists; either way says who it is.
    ///
    /// # Errors
    /// When keys cannot be made or written.
    pub fn create(&self) -> Result<PublisherId, PublisherError> {
        let mut slot = self.identity.write().unwrap_or_else(|e| e.into_inner());
        if let Some(identity) = slot.as_ref() {
            return Ok(identity.publisher);
        }
        write_new(&self.folder)?;
        let identity = load(&self.folder)?;
        let publisher = identity.publisher;
        *slot = Some(Arc::new(identity));
        Ok(publisher)
    }

    /// Who this home publishes as, once it does.
    pub fn publisher(&self) -> Option<PublisherId> {
        self.current().map(|i| i.publisher)
    }
    /// Root envelopes, version 1 first; empty without an identity.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        self.current().map(|i| i.roots.clone()).unwrap_or_default()
    }
    /// The newest root document.
    pub fn newest_root(&self) -> Option<TrustedRoot> {
        self.current().map(|i| i.newest.clone())
    }
    /// One signature for each of `keys` that is here, in their order; none for somebody else's feed.
    pub fn sign(
        &self,
        kind: Kind,
        publisher: PublisherId,
        feed: FeedId,
        payload: &[u8],
        keys: &[PublicKey],
    ) -> Vec<Signature> {
        let Some(identity) = self.current().filter(|i| i.publisher == publisher) else { return Vec::new() };
        let held = |wanted: &PublicKey| identity.keys.iter().find(|k| public(k) == *wanted);
        keys.iter().filter_map(held).map(|k| sign(k, kind, publisher, feed, payload)).collect()
    }

    fn current(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// Writes keys and root version 1 into a folder beside, then renames it: a crash leaves nothing or everything.
fn write_new(folder: &Path) -> Result<(), PublisherError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| PublisherError::Key(KeyError::Io { action, path, source })
    };
    let home = folder.parent().unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new().prefix(NEW_PUBLISHER).tempdir_in(home).map_err(io("create in", home))?;
    let keys = [new_key()?, new_key()?, new_key()?, new_key()?];
    for (key, role) in keys.iter().zip(ROLES) {
        write_key(&staging.path().join(format!("{role}.key")), key)?;
    }
    let now = Clock::default().now();
    let [root, release, fresh, revoke] = keys.each_ref().map(public);
    let document = Root::first(root, release, fresh, revoke, now, now + ROOT_VALID);
    let first = staging.path().join("root-1");
    let encode = |source: codec::CodecError| PublisherError::Root { path: first.clone(), source: source.into() };
    let payload = codec::encode(&document).map_err(encode)?;
    let publisher = publisher_of(&payload);
    let envelope = Envelope::seal(Kind::Root, publisher, FeedId::main(publisher), payload, &[&keys[0]]);
    write_private(&first, &codec::encode(&envelope).map_err(encode)?).map_err(io("write", &first))?;
    let staging = staging.keep();
    fs::rename(&staging, folder).map_err(io("rename to", folder))?;
    fs::File::open(home).and_then(|f| f.sync_all()).map_err(io("sync", home))?;
    Ok(())
}

fn load(folder: &Path) -> Result<Identity, PublisherError> {
    let torn = || PublisherError::Torn(folder.to_owned());
    let key = |role: &str| read_key(&folder.join(format!("{role}.key")))?.ok_or_else(torn);
    let [root, release, fresh, revoke] = ROLES;
    let keys = [key(root)?, key(release)?, key(fresh)?, key(revoke)?];
    let mut roots: Vec<Vec<u8>> = Vec::new();
    let mut newest: Option<TrustedRoot> = None;
    loop {
        let path = folder.join(format!("root-{}", roots.len() + 1));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
            Err(source) => return Err(KeyError::Io { action: "read", path, source }.into()),
        };
        let accepted = codec::decode::<Envelope>(&bytes).map_err(RootError::from).and_then(|envelope| match &newest {
            None => TrustedRoot::first(publisher_of(&envelope.payload), &envelope),
            Some(trusted) => trusted.next(&envelope),
        });
        newest = Some(accepted.map_err(|source| PublisherError::Root { path, source })?);
        roots.push(bytes);
    }
    let newest = newest.ok_or_else(torn)?;
    Ok(Identity { publisher: newest.publisher, keys, roots, newest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alice_becomes_a_publisher_once_and_stays_the_same_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::open(home.path()).unwrap();
        assert_eq!(keys.publisher(), None);
        let alice = keys.create().unwrap();
        assert_eq!(keys.create().unwrap(), alice);
        let again = Keys::open(home.path()).unwrap();
        assert_eq!(again.publisher(), Some(alice));
        assert_eq!(again.roots(), keys.roots());
        let feed = FeedId::main(alice);
        let root = again.newest_root().unwrap();
        let role = root.role(Kind::Entry).clone();
        let signatures = again.sign(Kind::Entry, alice, feed, b"payload", &role.keys);
        let envelope = Envelope { kind: Kind::Entry, publisher: alice, feed, payload: b"payload".to_vec(), signatures };
        envelope.verify(Kind::Entry, alice, "release", &role.keys, role.threshold.into()).unwrap();
        let other = PublisherId([7; 32]);
        assert!(again.sign(Kind::Entry, other, FeedId::main(other), b"payload", &role.keys).is_empty());
    }

    #[test]
    fn damaged_and_missing_key_files_are_named() {
        let home = tempfile::tempdir().unwrap();
        Keys::open(home.path()).unwrap().create().unwrap();
        let file = home.path().join("publisher/release.key");
        let text = fs::read_to_string(&file).unwrap();
        let flipped = if text.starts_with('0') { text.replacen('0', "1", 1) } else { format!("0{}", &text[1..]) };
        fs::write(&file, flipped).unwrap();
        assert!(matches!(Keys::open(home.path()), Err(PublisherError::Key(KeyError::Damaged { .. }))));
        fs::remove_file(&file).unwrap();
        assert!(matches!(Keys::open(home.path()), Err(PublisherError::Torn(_))));
        fs::write(&file, text).unwrap();
        let root = home.path().join("publisher/root-1");
        let bytes = fs::read(&root).unwrap();
        fs::write(&root, &bytes[..bytes.len() / 2]).unwrap();
        let error = Keys::open(home.path()).unwrap_err();
        assert!(matches!(error, PublisherError::Root { .. }));
        let line = format!(
            "publisher's file {} is damaged: signed envelope is malformed: it ends too early; restore it from a backup",
            root.display()
        );
        assert_eq!(error.to_string(), line);
    }
}
