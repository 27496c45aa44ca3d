//! The publisher identity of this home: keys and the root documents that give them roles, below `home/publisher`.
//!
//! Invariant: the identity changes by one rename. It is what its root documents say: a key file that the newest document does
//! not name is inert, whatever it is called. So new keys are written first and mean nothing until the file of the document
//! that names them gets its name; a crash before leaves the old identity whole, one after it the new one. Roles follow from
//! public keys, never from names of files, and a home may lack the keys of any role: they sign elsewhere, see [`request`].
//! Key files of roles that changed are left where they are: overwriting a file wipes nothing on the disks of today.

pub mod change;
mod files;
mod mark;
mod place;
pub mod request;
pub mod role;
pub mod words;

use crate::identity::KeyError;
use ed25519_dalek::{SigningKey, VerifyingKey};
use files::{Found, Ring};
use request::RequestError;
use role::RoleName;
use softservice_protocol::{
    codec,
    id::{FeedId, PublicKey, PublisherId},
    root::{RootError, TrustedRoot},
    sign::{Envelope, Kind, Signature, sign},
    time::Time,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

pub use files::{Unreadable, make_key, secret_at};
pub use place::Place;

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
    /// A root document is missing although others, or keys, are here.
    #[error("publisher folder {path} is not whole: a root document is missing; restore it from a backup", path = .0.display())]
    Torn(PathBuf),
    /// More files than anybody has keys.
    #[error("{path} holds more than {} key files: move those away that are of no use any more", files::KEY_FILES, path = .0.display())]
    TooMany(PathBuf),
    /// A file that should be a key and is none.
    #[error("{path} is not a key file: {why}", path = path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A public key that is none.
    #[error("{0} is no public key: nobody could sign for it, or anybody")]
    Unusable(PublicKey),
    /// There is one already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// This home is somebody else already.
    #[error("this home publishes as {0} already")]
    Another(PublisherId),
    /// This home is nobody.
    #[error("this home does not publish")]
    Nobody,
    /// The successor does not hold.
    #[error(transparent)]
    Successor(RootError),
    /// The network has other root documents than this home.
    #[error("root document {version} of this home is not the one that the network has: the publisher's root forked")]
    Forked {
        /// The version.
        version: u64,
    },
    /// What says how far the own feed came.
    #[error("{path} is damaged, so nobody knows how far this publisher's feed came; restore it from a backup, or, when a peer still has the whole feed, move it away, connect that peer and compare `publisher show` before you publish", path = .0.display())]
    Mark(PathBuf),
    /// The store did not answer.
    #[error("{0}")]
    Store(String),
    /// A request that waits.
    #[error(transparent)]
    Request(#[from] RequestError),
}

struct Identity {
    publisher: PublisherId,
    ring: Ring,
    roots: Vec<Vec<u8>>,
    newest: TrustedRoot,
}

/// A key file of this home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its public half.
    pub key: PublicKey,
    /// The role that the newest root document gives it.
    pub role: Option<RoleName>,
    /// Whether the newest root document delegates to it.
    pub delegated: bool,
}

/// The publisher keys of this home; empty until [`Keys::create`].
#[derive(Clone)]
pub struct Keys {
    folder: PathBuf,
    identity: Arc<RwLock<Option<Arc<Identity>>>>,
    lent: Arc<Mutex<Vec<SigningKey>>>,
}

/// Keys from elsewhere that sign until this is dropped.
#[derive(Debug)]
pub struct Lent {
    keys: Vec<PublicKey>,
    lent: Arc<Mutex<Vec<SigningKey>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            // One for each time that it was lent: two verbs may have been given the same file.
            if let Some(at) = lent.iter().position(|k| public(k) == *key) {
                lent.swap_remove(at);
            }
        }
    }
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
        let identity = if folder.exists() { Some(Arc::new(files::load(&folder)?)) } else { None };
        if identity.is_some() {
            place::settle(&folder);
        }
        Ok(Self { folder, identity: Arc::new(RwLock::new(identity)), lent: Arc::default() })
    }

    /// Makes the identity, dated `now`, unless it exists; either way says who it is.
    ///
    /// # Errors
    /// When keys cannot be made or written.
    pub fn create(&self, now: Time) -> Result<PublisherId, PublisherError> {
        let mut slot = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = slot.as_ref() {
            return Ok(identity.publisher);
        }
        files::write_new(&self.folder, now)?;
        let identity = files::load(&self.folder)?;
        let publisher = identity.publisher;
        *slot = Some(Arc::new(identity));
        Ok(publisher)
    }

    /// Takes up the identity of a publisher that exists: its root documents, version 1 first, and a key that it gave a right.
    ///
    /// # Errors
    /// When this home is another publisher already, or the files cannot be written.
    pub fn join(&self, publisher: PublisherId, roots: &[Vec<u8>], key: &SigningKey) -> Result<(), PublisherError> {
        let mut slot = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref().map(|identity| identity.publisher) {
            Some(other) if other != publisher => return Err(PublisherError::Another(other)),
            Some(_) => {
                files::keep_key(&self.folder, "joined", key)?;
            }
            None => files::write_joined(&self.folder, roots, key)?,
        }
        *slot = Some(Arc::new(files::load(&self.folder)?));
        Ok(())
    }

    /// Reads the folder again: somebody may have put a key file there.
    ///
    /// # Errors
    /// When the folder is damaged; what was known stays then.
    pub fn reload(&self) -> Result<(), PublisherError> {
        let mut slot = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            *slot = Some(Arc::new(files::load(&self.folder)?));
        }
        Ok(())
    }

    /// Takes the next root document, durably: from then on it is what this home is.
    ///
    /// # Errors
    /// When it does not follow, or cannot be written; nothing has changed then.
    pub fn adopt(&self, envelope: &Envelope) -> Result<TrustedRoot, PublisherError> {
        let mut slot = self.identity.write().unwrap_or_else(PoisonError::into_inner);
        let identity = slot.as_ref().ok_or(PublisherError::Nobody)?;
        let next = identity.newest.next(envelope).map_err(PublisherError::Successor)?;
        let bytes = codec::encode(envelope).map_err(|e| PublisherError::Successor(e.into()))?;
        files::write_root(&self.folder, next.root.version, &bytes)?;
        *slot = Some(Arc::new(files::load(&self.folder)?));
        Ok(next)
    }

    /// Takes root documents that the network has and this home has not: another home of this publisher made them.
    ///
    /// # Errors
    /// [`PublisherError::Forked`] when both have different ones of one version.
    pub fn catch_up(&self, roots: &[Vec<u8>]) -> Result<(), PublisherError> {
        let Some(identity) = self.current() else { return Ok(()) };
        let digest = |bytes: &[u8]| codec::decode::<Envelope>(bytes).ok().map(|e| e.digest());
        for (version, (ours, theirs)) in (1..).zip(identity.roots.iter().zip(roots)) {
            if ours != theirs && digest(ours) != digest(theirs) {
                return Err(PublisherError::Forked { version });
            }
        }
        for bytes in roots.iter().skip(identity.roots.len()) {
            let envelope = codec::decode::<Envelope>(bytes).map_err(|e| PublisherError::Successor(e.into()))?;
            self.adopt(&envelope)?;
        }
        Ok(())
    }

    /// Writes a new key of this home, durably; it is inert until a root document names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn stage(&self, role: RoleName, key: &SigningKey) -> Result<PathBuf, PublisherError> {
        let path = files::keep_key(&self.folder, role.name(), key)?;
        self.reload()?;
        Ok(path)
    }

    /// Lets keys from elsewhere sign beside those of this home until the answer is dropped.
    pub fn lend(&self, keys: Vec<SigningKey>) -> Lent {
        let publics = keys.iter().map(public).collect();
        self.lent.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        Lent { keys: publics, lent: Arc::clone(&self.lent) }
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
    /// Its envelope.
    pub fn newest_envelope(&self) -> Option<Envelope> {
        // It was decoded when it was read.
        self.current().and_then(|i| codec::decode(i.roots.last()?).ok())
    }
    /// The key files of this home, by path.
    pub fn files(&self) -> Vec<KeyFile> {
        let Some(identity) = self.current() else { return Vec::new() };
        let root = &identity.newest.root;
        let file = |found: &Found| {
            let key = public(&found.key);
            KeyFile {
                path: found.path.clone(),
                key,
                role: RoleName::of_key(&root.roles, key),
                delegated: root.delegations.iter().any(|d| d.key == key),
            }
        };
        identity.ring.found.iter().map(file).collect()
    }
    /// Key files that are of no use as they are.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.current().map(|i| i.ring.unreadable.clone()).unwrap_or_default()
    }
    /// The keys at hand: those of this home, and what was lent.
    pub fn at_hand(&self) -> Vec<SigningKey> {
        let identity = self.current();
        let held = identity.iter().flat_map(|i| &i.ring.found).map(|found| found.key.clone());
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        held.chain(lent.iter().cloned()).collect()
    }
    /// Whether these keys are where they were made: elsewhere another home may still speak for the publisher.
    pub fn place(&self) -> Place {
        self.publisher().map_or(Place::Home, |_| place::of(&self.folder))
    }
    /// Writes down that this home is the one that speaks: its owner said so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn stay(&self) -> Result<(), PublisherError> {
        place::stay(&self.folder)
    }
    /// Where requests for signatures wait.
    pub fn requests(&self) -> PathBuf {
        self.folder.join("requests")
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
        if self.publisher() != Some(publisher) {
            return Vec::new();
        }
        let held = self.at_hand();
        let of = |wanted: &PublicKey| held.iter().find(|k| public(k) == *wanted);
        keys.iter().filter_map(of).map(|k| sign(k, kind, publisher, feed, payload)).collect()
    }

    fn current(&self) -> Option<Arc<Identity>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A public key that somebody named, if it is one: a point of the curve, and none of those that every signature suits.
///
/// # Errors
/// When it is none: a role that has it could not be met, or by anybody.
pub fn usable(key: PublicKey) -> Result<PublicKey, PublisherError> {
    match VerifyingKey::from_bytes(&key.0) {
        Ok(point) if !point.is_weak() => Ok(key),
        _ => Err(PublisherError::Unusable(key)),
    }
}

/// The public half of a key.
pub fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

#[cfg(test)]
mod tests;
