//! The cast of the stories: publishers with keys, made from a letter so that every run writes the same bytes.
#![allow(dead_code)] // each test binary plays only some of the parts

use ed25519_dalek::SigningKey;
use softservice_protocol::{
    codec,
    feed::{Action, Entry, FeedState, Fresh, Listing, Revocation, RevokeLevel},
    id::{Digest, FeedId, PublicKey, PublisherId, ReleaseId},
    root::{Role, Root, TrustedRoot, publisher_of},
    sign::{Envelope, Kind},
    time::{Span, Time},
};

pub(crate) const NOW: Time = Time(1_790_000_000_000);

pub(crate) fn key(letter: u8, role: u8) -> SigningKey {
    SigningKey::from_bytes(&[letter, role].repeat(16).try_into().unwrap())
}
pub(crate) fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}
pub(crate) fn role(threshold: u8, keys: &[&SigningKey]) -> Role {
    let mut keys: Vec<_> = keys.iter().map(|k| public(k)).collect();
    keys.sort();
    Role { threshold, keys }
}

/// Somebody who publishes, with one key for each role.
pub(crate) struct Publisher {
    pub(crate) root: SigningKey,
    pub(crate) release: SigningKey,
    pub(crate) fresh: SigningKey,
    pub(crate) revoke: SigningKey,
    pub(crate) first: Envelope,
    pub(crate) trusted: TrustedRoot,
    pub(crate) feed: FeedState,
    pub(crate) entries: Vec<Envelope>,
}

impl Publisher {
    pub(crate) fn named(letter: u8) -> Self {
        let [root, release, fresh, revoke] = [1, 2, 3, 4].map(|role| key(letter, role));
        let [a, b, c, d] = [&root, &release, &fresh, &revoke].map(public);
        let document = codec::encode(&Root::first(a, b, c, d, NOW, NOW + Span::days(365))).unwrap();
        let publisher = publisher_of(&document);
        let first = Envelope::seal(Kind::Root, publisher, FeedId::main(publisher), document, &[&root]);
        let trusted = TrustedRoot::first(publisher, &first).unwrap();
        Self { root, release, fresh, revoke, first, trusted, feed: FeedState::default(), entries: vec![] }
    }
    pub(crate) fn id(&self) -> PublisherId {
        self.trusted.publisher
    }
    pub(crate) fn seal(&self, kind: Kind, payload: Vec<u8>, keys: &[&SigningKey]) -> Envelope {
        Envelope::seal(kind, self.id(), self.trusted.feed(), payload, keys)
    }
    pub(crate) fn sealed(&self, entry: &Entry) -> Envelope {
        self.seal(Kind::Entry, codec::encode(entry).unwrap(), &[&self.release])
    }
    /// The entry that would come next.
    pub(crate) fn draft(&self, action: Action) -> Entry {
        self.feed.draft(&self.trusted, action, NOW).unwrap()
    }
    /// Appends, and takes it in as any device would.
    pub(crate) fn publish(&mut self, listing: Listing) -> Envelope {
        let envelope = self.sealed(&self.draft(Action::Release(listing)));
        self.append(envelope)
    }
    pub(crate) fn append(&mut self, envelope: Envelope) -> Envelope {
        self.feed = self.feed.accept(&self.trusted, &envelope).unwrap().0;
        self.entries.push(envelope.clone());
        envelope
    }
    pub(crate) fn statement(&self) -> Fresh {
        Fresh {
            head: self.feed.head,
            root_version: self.trusted.root.version,
            issued_at: NOW,
            valid_for: Span::days(7),
        }
    }
    pub(crate) fn fresh(&self, fresh: &Fresh) -> Envelope {
        self.seal(Kind::Fresh, codec::encode(fresh).unwrap(), &[&self.fresh])
    }
    /// The successor of the newest root, changed by `change`, signed by the old and `also` other keys.
    pub(crate) fn successor(&self, change: impl FnOnce(&mut Root), also: &[&SigningKey]) -> Envelope {
        let mut root = self.trusted.root.clone();
        root.version += 1;
        root.prev = self.trusted.digest;
        root.publisher = self.id();
        change(&mut root);
        let keys: Vec<_> = std::iter::once(&self.root).chain(also.iter().copied()).collect();
        self.seal(Kind::Root, codec::encode(&root).unwrap(), &keys)
    }
}

pub(crate) fn listing(distro: &str, version: &str, id: u8) -> Listing {
    Listing {
        distro: distro.into(),
        version: version.into(),
        revision: 0,
        channel: "stable".into(),
        release: ReleaseId([id; 32]),
        size: 1000,
        summary: "A guestbook".into(),
        parents: vec![],
        revoked: None,
    }
}
pub(crate) fn revoke(id: u8) -> Action {
    Action::Revoke { release: ReleaseId([id; 32]), revocation: revocation(RevokeLevel::Unsafe) }
}
pub(crate) fn revocation(level: RevokeLevel) -> Revocation {
    Revocation { level, replaced_by: None, reason: "leaks".into() }
}
pub(crate) fn digest(letter: u8) -> Digest {
    Digest([letter; 32])
}
