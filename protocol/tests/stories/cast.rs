//! Who and what the stories are about: publishers with their keys, releases and the chunks that they are made of.
//! Invariant: everything follows from a number or a name, so that a story is the same each time.

use ed25519_dalek::SigningKey;
use softservice_protocol::{
    bitmap::Bitmap,
    chunk::ChunkRef,
    codec,
    feed::{Head, Listing},
    id::{ChunkId, PublicKey, PublisherId, ReleaseId},
    io::Stage,
    release::ReleaseRef,
    root::{Root, publisher_of},
    sign::{Envelope, Kind},
    ticket::Ticket,
    time::{Span, Time},
};

pub(crate) const START: Time = Time(1_700_000_000_000);

/// A publisher's keys: root, release, fresh, revoke.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) id: PublisherId,
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) root_digest: softservice_protocol::id::Digest,
    keys: [SigningKey; 4],
    /// Keys of later roots, or of somebody else's drawer.
    pub(crate) drawer: Vec<SigningKey>,
}

impl Publisher {
    pub(crate) fn new(seed: u8) -> Self {
        let keys = [0, 1, 2, 3].map(|n| SigningKey::from_bytes(&[seed * 4 + n + 1; 32]));
        let public = |n: usize| PublicKey(keys[n].verifying_key().to_bytes());
        let root = Root::first(public(0), public(1), public(2), public(3), START, START + Span::days(3650));
        let payload = codec::encode(&root).unwrap();
        let id = publisher_of(&payload);
        let feed = softservice_protocol::id::FeedId::main(id);
        let envelope = Envelope::seal(Kind::Root, id, feed, payload, &[&keys[0]]);
        let root_digest = envelope.digest();
        Self { id, roots: vec![codec::encode(&envelope).unwrap()], root_digest, keys, drawer: vec![] }
    }
    /// Adds a root document that opens `epoch` after `last`.
    pub(crate) fn reopen(&mut self, epoch: u32, last: Head) {
        let feed = softservice_protocol::root::FeedStart { epoch, from_seq: last.at.seq, from_hash: last.hash };
        self.succeed(|root| root.feed = feed);
    }
    /// The newest root document.
    pub(crate) fn root(&self) -> Root {
        codec::decode::<Envelope>(self.roots.last().unwrap()).unwrap().open().unwrap()
    }
    /// The successor of the newest root document, changed, signed by whatever keys are here that may.
    pub(crate) fn successor(&self, change: impl FnOnce(&mut Root)) -> Envelope {
        let newest: Envelope = codec::decode(self.roots.last().unwrap()).unwrap();
        let mut root: Root = newest.open().unwrap();
        let mut signers = root.roles.root.keys.clone();
        (root.version, root.prev, root.publisher) = (root.version + 1, newest.digest(), self.id);
        change(&mut root);
        signers.extend(&root.roles.root.keys);
        let feed = softservice_protocol::id::FeedId::main(self.id);
        Envelope::seal(Kind::Root, self.id, feed, codec::encode(&root).unwrap(), &self.held(&signers))
    }
    /// Adds it to the chain.
    pub(crate) fn succeed(&mut self, change: impl FnOnce(&mut Root)) {
        let envelope = self.successor(change);
        self.roots.push(codec::encode(&envelope).unwrap());
    }
    /// A new key, put into the drawer.
    pub(crate) fn new_key(&mut self, seed: u8) -> PublicKey {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = PublicKey(key.verifying_key().to_bytes());
        self.drawer.push(key);
        public
    }
    /// The same publisher where only these keys are at hand.
    pub(crate) fn only(&self, keys: &[PublicKey]) -> Self {
        let held: Vec<SigningKey> = self.held(keys).into_iter().cloned().collect();
        let nobodys = [90, 91, 92, 93].map(|n| SigningKey::from_bytes(&[n; 32]));
        Self { keys: nobodys, drawer: held, ..self.clone() }
    }
    pub(crate) fn key(&self, kind: Kind) -> &SigningKey {
        match kind {
            Kind::Root => &self.keys[0],
            Kind::Entry => &self.keys[1],
            Kind::Fresh => &self.keys[2],
        }
    }
    /// The same publisher where the keys of these kinds are not at hand.
    pub(crate) fn without(&self, kinds: &[Kind]) -> Self {
        let mut other = self.clone();
        for kind in kinds {
            // A key that is in no role.
            other.keys[match kind {
                Kind::Root => 0,
                Kind::Entry => 1,
                Kind::Fresh => 2,
            }] = SigningKey::from_bytes(&[99; 32]);
        }
        other
    }
    /// Those of `keys` that this publisher has.
    pub(crate) fn held(&self, keys: &[PublicKey]) -> Vec<&SigningKey> {
        self.keys
            .iter()
            .chain(&self.drawer)
            .filter(|k| keys.contains(&PublicKey(k.verifying_key().to_bytes())))
            .collect()
    }
    /// Signed by these keys, which are here.
    pub(crate) fn sealed(&self, kind: Kind, payload: Vec<u8>, keys: &[PublicKey]) -> Envelope {
        Envelope::seal(kind, self.id, softservice_protocol::id::FeedId::main(self.id), payload, &self.held(keys))
    }
    pub(crate) fn seal(&self, kind: Kind, payload: Vec<u8>) -> Envelope {
        Envelope::seal(kind, self.id, softservice_protocol::id::FeedId::main(self.id), payload, &[self.key(kind)])
    }
    pub(crate) fn ticket(&self, floor: Head, addresses: &[&str]) -> Ticket {
        Ticket {
            publisher: self.id,
            distro: None,
            root: (1, self.root_digest),
            floor,
            addresses: addresses.iter().map(|a| (*a).into()).collect(),
            conflict: None,
            expires: None,
        }
    }
}

pub(crate) fn listing(name: &str, version: u32, release: ReleaseRef) -> Listing {
    Listing {
        distro: name.into(),
        version: format!("{version}.0.0"),
        revision: 1,
        channel: "stable".into(),
        release: release.id,
        size: release.size,
        summary: "a story's distro".into(),
        parents: vec![],
        revoked: None,
    }
}

/// What a release is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closure {
    pub(crate) releases: Vec<ChunkRef>,
    pub(crate) manifests: Vec<ChunkRef>,
    pub(crate) content: Vec<ChunkRef>,
}

impl Closure {
    pub(crate) fn stage(&self, stage: Stage) -> &[ChunkRef] {
        match stage {
            Stage::Releases => &self.releases,
            Stage::Manifests => &self.manifests,
            Stage::Content => &self.content,
        }
    }
    pub(crate) fn bytes(&self) -> u64 {
        [&self.releases, &self.manifests, &self.content].into_iter().flatten().map(|c| u64::from(c.len)).sum()
    }
}

pub(crate) fn chunk(name: &str, n: usize, len: u32) -> ChunkRef {
    ChunkRef { id: ChunkId::of(format!("{name}/{n}").as_bytes()), len }
}

/// A release of `chunks` pieces of content, 64 KiB each; those below `shared` are version 1's.
pub(crate) fn release(version: u32, chunks: usize, shared: usize) -> (ReleaseRef, Closure) {
    let body = chunk(&format!("release {version}"), 0, 900);
    let content =
        (0..chunks)
            .map(|n| {
                if n < shared { chunk("content 1", n, 65_536) } else { chunk(&format!("content {version}"), n, 65_536) }
            })
            .collect();
    let closure = Closure {
        releases: vec![body],
        manifests: vec![
            chunk(&format!("manifest {version}"), 0, 20_000),
            chunk(&format!("manifest {version}"), 1, 7_000),
        ],
        content,
    };
    (ReleaseRef { id: ReleaseId(body.id.0), size: body.len }, closure)
}

pub(crate) fn bitmap(bits: impl Iterator<Item = bool>) -> Bitmap {
    let bits: Vec<bool> = bits.collect();
    let mut map = Bitmap::empty(bits.len());
    for (i, on) in bits.into_iter().enumerate() {
        map.set(i, on);
    }
    map
}
