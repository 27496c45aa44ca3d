//! A request for signatures: a file that carries what is to be signed to keys that are elsewhere, and the signatures back.
//!
//! Invariant: what a request shows is what its signatures cover. The payload is kept as exact bytes; the root document that
//! it is held against is part of the file and is bound to it, by the digest that a successor names or by the publisher whose
//! name the signature covers. So is the release document of an entry that lists one: by its hash, and by the listing saying of it
//! what it says of itself, so that nobody signs a listing of something else. A file is read up to [`Request::LIMIT`] and no
//! further, and is replaced as a whole.

use super::change::signatures;
use crate::home::write_private;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use softservice_protocol::{
    codec::{self, CodecError, Wire},
    feed::{Action, Disagreement, Entry, Listing, Position},
    id::{Digest, FeedId, PublicKey, PublisherId, ReleaseId},
    limits,
    message::Bytes,
    release::Release,
    root::{Root, RootError, TrustedRoot, publisher_of},
    sign::{self, Envelope, Kind, SignatureError, signed_bytes},
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The first line of a request file, up to the number of its format.
const HEADING: &[u8] = b"softservice request for signatures ";
/// That number. Format 1 brought no release document.
const FORMAT: &[u8] = b"2";

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The disk said no.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Some other file.
    #[error("{path} is not a request for signatures", path = .0.display())]
    Other(PathBuf),
    /// A request of another format.
    #[error("{path} is a request for signatures of format {found}, and this program reads format 2", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Longer than any request.
    #[error("{path} has more than {limit} bytes, so it is not a request for signatures", path = path.display(), limit = Request::LIMIT)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Bytes.
    #[error("the request is damaged: {0}")]
    Codec(#[from] CodecError),
    /// The root document that it carries, or asks to sign.
    #[error("the request does not hold: {0}")]
    Root(#[from] RootError),
    /// Signatures.
    #[error("the request does not hold: {0}")]
    Signature(#[from] SignatureError),
    /// Its parts do not belong together.
    #[error("the request does not hold: {0}")]
    Unsound(&'static str),
    /// It lists a release as something that it is not.
    #[error("the request does not hold: {0}")]
    Listed(#[from] Disagreement),
    /// A key that may not sign it.
    #[error("key {key} has no right to sign this: it is none of {roles}")]
    Stranger {
        /// The key.
        key: PublicKey,
        /// Whose keys may.
        roles: String,
    },
    /// Copies of two requests.
    #[error("these are copies of different requests: {one} and {other}")]
    Different {
        /// One.
        one: String,
        /// The other.
        other: String,
    },
}

/// Payload, signatures so far, and the root document that says who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The newest root document: the one before, when a root document is asked for.
    root: Envelope,
    /// What is to be signed, with the signatures that came.
    wanted: Envelope,
    /// The entry stands in the feed already, under keys that are gone: the release role signs it anew, whatever it does.
    again: bool,
    /// The release document that an entry lists.
    document: Option<Bytes>,
}

impl Wire for Request {
    const NAME: &'static str = "request for signatures";
    const LIMIT: usize = 2 * Envelope::LIMIT + limits::RELEASE_BYTES + 64;
    const VERSION: u8 = 2;
}

/// Signatures that one role owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The role, in words.
    pub role: String,
    /// Whose signatures count.
    pub keys: Vec<PublicKey>,
    /// How many must be there.
    pub threshold: usize,
    /// Whose are there and good.
    pub have: Vec<PublicKey>,
}

impl Demand {
    /// Whether enough are there.
    pub fn is_met(&self) -> bool {
        self.have.len() >= self.threshold
    }
}

/// What is asked to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A root document that follows the one that the request carries.
    Root(Box<Root>),
    /// An entry of the feed.
    Entry(Box<Entry>),
}

/// A request whose parts belong together.
#[derive(Debug, Clone)]
pub struct Opened {
    request: Request,
    /// The root document that says who may sign.
    pub root: TrustedRoot,
    /// What is to be signed.
    pub wanted: Wanted,
}

impl Request {
    /// Asks for signatures over a payload, under the publisher's newest root document.
    pub fn new(root: Envelope, kind: Kind, payload: Vec<u8>) -> Self {
        let publisher = root.publisher;
        let feed = FeedId::main(publisher);
        Self::signed(root, Envelope { kind, publisher, feed, payload, signatures: Vec::new() })
    }

    /// Asks for more signatures over what has some.
    pub fn signed(root: Envelope, wanted: Envelope) -> Self {
        Self { root, wanted, again: false, document: None }
    }
    /// Asks the release role to sign an entry anew that stands in the feed already.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }
    /// With the release document that its entry lists: whoever signs can hold one against the other.
    #[must_use]
    pub fn with(mut self, document: Option<Vec<u8>>) -> Self {
        self.document = document.map(Bytes);
        self
    }
    #[cfg(test)]
    pub(super) fn add_for_test(&mut self, signature: sign::Signature) {
        self.wanted.signatures.push(signature);
    }

    /// Reads a request file of anybody's.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read(path: &Path) -> Result<Opened, RequestError> {
        let io = |action| {
            let path = path.to_owned();
            move |source| RequestError::Io { action, path, source }
        };
        let mut bytes = Vec::new();
        let most = HEADING.len() + FORMAT.len() + 1 + Self::LIMIT;
        let file = File::open(path).map_err(io("open"))?;
        file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(io("read"))?;
        let body = body(path, &bytes)?;
        if bytes.len() > most {
            return Err(RequestError::TooLong { path: path.to_owned() });
        }
        codec::decode::<Self>(body)?.open()
    }

    /// Holds its parts against each other. Signatures that are not good are left out.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn open(mut self) -> Result<Opened, RequestError> {
        let root = trusted(&self.root)?;
        let Envelope { kind, publisher, feed, ref payload, .. } = self.wanted;
        if publisher != root.publisher || feed != root.feed() {
            return Err(RequestError::Unsound("what is to be signed is another publisher's than its root document"));
        }
        if payload.len() > kind.limit() {
            let (kind, size, limit) = (kind.name(), payload.len(), kind.limit());
            return Err(SignatureError::TooLong { kind, size, limit }.into());
        }
        let wanted = match kind {
            Kind::Root if self.document.is_some() => return Err(RequestError::Unsound(UNASKED)),
            Kind::Root => Wanted::Root(Box::new(successor(&root, codec::decode(payload)?)?)),
            Kind::Entry => {
                let entry: Entry = codec::decode(payload)?;
                if entry.at.epoch != root.root.feed.epoch {
                    return Err(RequestError::Unsound("the entry is of another epoch than the one that is open"));
                }
                bears_out(publisher, &entry.action, self.document.as_ref())?;
                Wanted::Entry(Box::new(entry))
            }
            Kind::Fresh => return Err(RequestError::Unsound("nobody asks for statements of freshness in this way")),
        };
        let message = signed_bytes(kind, publisher, feed, payload);
        self.wanted.signatures.retain(|s| sign::is_good(s, &message));
        self.wanted.signatures.sort();
        self.wanted.signatures.dedup_by(|a, b| a.key == b.key);
        Ok(Opened { request: self, root, wanted })
    }
}

/// Of a document that nothing in the request is about.
const UNASKED: &str = "it brings a release document, and releases nothing";

/// Whether the document is the one that the entry lists, and is what the listing says. Also of an entry that is to be signed
/// anew: its signatures would be good for the first time of signing as well.
fn bears_out(publisher: PublisherId, action: &Action, document: Option<&Bytes>) -> Result<(), RequestError> {
    let (listing, document): (&Listing, _) = match (action, document) {
        (Action::Release(listing), Some(Bytes(document))) => (listing, document),
        (Action::Revoke { .. }, Some(_)) => return Err(RequestError::Unsound(UNASKED)),
        (Action::Revoke { .. }, None) => return Ok(()),
        (Action::Release(_), None) => {
            return Err(RequestError::Unsound(
                "it lists a release and does not bring its document, so it may be anything",
            ));
        }
    };
    if ReleaseId::of(document) != listing.release || document.len() != listing.size as usize {
        return Err(RequestError::Unsound("its release document is not the one that it lists"));
    }
    Ok(listing.agrees(publisher, &codec::decode::<Release>(document)?)?)
}

/// What stands behind the heading of a request file.
fn body<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], RequestError> {
    let other = || RequestError::Other(path.to_owned());
    let rest = bytes.strip_prefix(HEADING).ok_or_else(other)?;
    // A number of formats that anybody may come to.
    let end = rest.iter().take(4).position(|b| *b == b'\n').ok_or_else(other)?;
    let (format, body) = rest.split_at(end);
    match format {
        FORMAT => Ok(&body[1..]),
        _ if !format.is_empty() && format.iter().all(u8::is_ascii_digit) => {
            let found = String::from_utf8_lossy(format).into_owned();
            Err(RequestError::Format { path: path.to_owned(), found })
        }
        _ => Err(other()),
    }
}

/// The root document of a request. Whether it is really the publisher's shows where the request is used: a successor names
/// its digest, and a device holds an entry against the root documents that it has.
fn trusted(envelope: &Envelope) -> Result<TrustedRoot, RequestError> {
    let root: Root = codec::decode(&envelope.payload)?;
    root.check()?;
    let publisher = if root.version == 1 { publisher_of(&envelope.payload) } else { root.publisher };
    let role = &root.roles.root;
    envelope.verify(Kind::Root, publisher, "root", &role.keys, role.threshold.into())?;
    Ok(TrustedRoot { publisher, digest: envelope.digest(), root })
}

/// What can be known of a successor before it is signed; [`TrustedRoot::next`] judges it again with its signatures.
pub(super) fn successor(before: &TrustedRoot, root: Root) -> Result<Root, RequestError> {
    root.check()?;
    if root.version != before.root.version.saturating_add(1) {
        return Err(RootError::NotNext { trusted: before.root.version, found: root.version }.into());
    }
    if root.prev != before.digest || root.publisher != before.publisher {
        return Err(RootError::OtherChain.into());
    }
    if signatures(&before.root.roles.root, &root.roles.root) > limits::SIGNATURES {
        return Err(RequestError::Unsound(
            "both thresholds of the root role together are more signatures than an object may have",
        ));
    }
    Ok(root)
}

impl Opened {
    /// An entry, held against this root document in place of the one that it came with: roles may have changed since.
    ///
    /// # Errors
    /// When its place is gone with its epoch.
    pub fn rebased(self, root: &Envelope) -> Result<Self, RequestError> {
        match self.wanted {
            Wanted::Root(_) => Ok(self),
            Wanted::Entry(_) => Request { root: root.clone(), ..self.request }.open(),
        }
    }
    /// Whose it is.
    pub fn publisher(&self) -> PublisherId {
        self.root.publisher
    }
    /// Whether it is an entry of the feed that is to be signed anew.
    pub fn is_again(&self) -> bool {
        self.request.again
    }
    /// Where an entry would stand; the open epoch's beginning for a root document.
    pub fn place(&self) -> Position {
        match &self.wanted {
            Wanted::Root(next) => Position { epoch: next.feed.epoch, seq: next.feed.from_seq },
            Wanted::Entry(entry) => entry.at,
        }
    }
    /// The name of its file among those that wait: one for each thing that may be said once only.
    pub fn file_name(&self) -> String {
        match &self.wanted {
            Wanted::Root(next) => format!("root-{}.request", next.version),
            Wanted::Entry(entry) => format!("entry-{}-{}.request", entry.at.epoch, entry.at.seq),
        }
    }
    /// Names it: the digest of what is signed.
    pub fn digest(&self) -> Digest {
        self.request.wanted.digest()
    }
    /// What is to be signed, with all good signatures so far, whoever made them.
    pub fn envelope(&self) -> &Envelope {
        &self.request.wanted
    }

    /// Ways in which it may be signed: one of them must be met, with all its demands.
    pub fn ways(&self) -> Vec<Vec<Demand>> {
        let signed: BTreeSet<PublicKey> = self.request.wanted.signatures.iter().map(|s| s.key).collect();
        let demand = |role: String, keys: &[PublicKey], threshold: u8| Demand {
            role,
            keys: keys.to_vec(),
            threshold: threshold.into(),
            have: keys.iter().filter(|k| signed.contains(k)).copied().collect(),
        };
        let roles = &self.root.root.roles;
        let version = self.root.root.version;
        match &self.wanted {
            Wanted::Root(next) => {
                let new = &next.roles.root;
                vec![vec![
                    demand(format!("root role of version {version}"), &roles.root.keys, roles.root.threshold),
                    demand(format!("root role of version {}", next.version), &new.keys, new.threshold),
                ]]
            }
            Wanted::Entry(entry) => {
                let release = demand("release role".into(), &roles.release.keys, roles.release.threshold);
                match entry.action {
                    Action::Revoke { .. } if !self.request.again => {
                        vec![
                            vec![demand("revoke role".into(), &roles.revoke.keys, roles.revoke.threshold)],
                            vec![release],
                        ]
                    }
                    _ => vec![vec![release]],
                }
            }
        }
    }
    /// Whether enough signatures are there.
    pub fn is_complete(&self) -> bool {
        self.ways().iter().any(|way| way.iter().all(Demand::is_met))
    }
    /// Every demand that is not met, of the ways that are nearest to their end first.
    pub fn lacking(&self) -> Vec<Demand> {
        if self.is_complete() {
            return Vec::new();
        }
        self.ways().into_iter().flatten().filter(|d| !d.is_met()).collect()
    }

    /// Adds a signature of each key; says which were new.
    ///
    /// # Errors
    /// [`RequestError::Stranger`] for a key that has no right to sign it; nothing is added then.
    pub fn sign(&mut self, keys: &[SigningKey]) -> Result<Vec<PublicKey>, RequestError> {
        let ways = self.ways();
        let may: BTreeSet<PublicKey> = ways.iter().flatten().flat_map(|d| d.keys.iter().copied()).collect();
        for key in keys {
            let key = PublicKey(key.verifying_key().to_bytes());
            if !may.contains(&key) {
                let roles: Vec<String> = ways.iter().flatten().map(|d| format!("the {}", d.role)).collect();
                return Err(RequestError::Stranger { key, roles: roles.join(", ") });
            }
        }
        Ok(self.sign_where_due(keys))
    }
    /// Adds a signature of each key that has the right; says which were new.
    pub fn sign_where_due(&mut self, keys: &[SigningKey]) -> Vec<PublicKey> {
        let may: BTreeSet<PublicKey> = self.ways().into_iter().flatten().flat_map(|d| d.keys).collect();
        let wanted = &mut self.request.wanted;
        let mut new = Vec::new();
        for key in keys {
            let public = PublicKey(key.verifying_key().to_bytes());
            if may.contains(&public) && wanted.signatures.iter().all(|s| s.key != public) {
                wanted.signatures.push(sign::sign(key, wanted.kind, wanted.publisher, wanted.feed, &wanted.payload));
                new.push(public);
            }
        }
        wanted.signatures.sort();
        new
    }
    /// Takes the signatures of another copy.
    ///
    /// # Errors
    /// [`RequestError::Different`] when it is a copy of something else.
    pub fn merge(&mut self, other: &Self) -> Result<(), RequestError> {
        let same = |r: &Request| (r.wanted.kind, r.again, r.wanted.publisher, r.wanted.digest(), r.root.digest());
        if same(&self.request) != same(&other.request) {
            return Err(RequestError::Different { one: self.digest().short(), other: other.digest().short() });
        }
        let wanted = &mut self.request.wanted.signatures;
        wanted.extend(other.request.wanted.signatures.iter().cloned());
        wanted.sort();
        wanted.dedup_by(|a, b| a.key == b.key);
        Ok(())
    }
    /// The signed object, with as many signatures as it needs; none while some are lacking.
    pub fn sealed(&self) -> Option<Envelope> {
        let way = self.ways().into_iter().find(|way| way.iter().all(Demand::is_met))?;
        let mut counted = BTreeSet::new();
        for demand in &way {
            // Those that count for every demand come first: an object carries few signatures.
            let mut have = demand.have.clone();
            have.sort_by_key(|key| !way.iter().all(|d| d.keys.contains(key)));
            counted.extend(have.into_iter().take(demand.threshold));
        }
        let mut envelope = self.request.wanted.clone();
        envelope.signatures.retain(|s| counted.contains(&s.key));
        Some(envelope)
    }
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn write(&self, path: &Path) -> Result<(), RequestError> {
        let mut bytes = [HEADING, FORMAT, b"\n"].concat();
        bytes.extend(codec::encode(&self.request)?);
        write_private(path, &bytes).map_err(|source| RequestError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}
