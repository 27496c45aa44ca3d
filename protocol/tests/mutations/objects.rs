//! What is changed, and what each is taken for by whoever checks it as a node does.

use crate::{
    cast::{NOW, Publisher, key, listing, revoke, role},
    specimens,
};
use softservice_protocol::{
    archive::{Item, Reader},
    codec,
    feed::{Action, Equivocation, FeedState, Snapshot, verify_fresh},
    id::{ObjectId, ReleaseId},
    release::Release,
    root::TrustedRoot,
    sign::{Envelope, Kind},
    ticket::Ticket,
    time::Span,
    tree::Manifest,
};
use std::sync::Arc;

/// What bytes mean, as text; none is a refusal.
type Meaning = Box<dyn Fn(&[u8]) -> Option<String>>;

/// A good object, and its meaning.
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) good: Vec<u8>,
    pub(crate) meant: String,
    pub(crate) meaning: Meaning,
    /// Whether the bytes are an envelope, which a forger can take apart.
    pub(crate) is_envelope: bool,
}

fn object(name: &str, good: Vec<u8>, meaning: impl Fn(&[u8]) -> Option<String> + 'static) -> Object {
    let meant = meaning(&good).unwrap_or_else(|| panic!("the good {name} is good"));
    let is_envelope = codec::decode::<Envelope>(&good).is_ok();
    Object { name: name.into(), good, meant, meaning: Box::new(meaning), is_envelope }
}

/// Anna, whose releases need two of three keys, with roots, entries of both roles and a head.
fn anna() -> (Publisher, Envelope) {
    let mut anna = Publisher::named(b'a');
    let (second, third) = (key(b'a', 12), key(b'a', 13));
    let next = anna.successor(|r| r.roles.release = role(2, &[&anna.release, &second, &third]), &[]);
    anna.trusted = anna.trusted.next(&next).expect("both thresholds");
    let signed = |anna: &Publisher, action| {
        let payload = codec::encode(&anna.draft(action)).expect("it fits");
        anna.seal(Kind::Entry, payload, &[&anna.release, &second])
    };
    for (version, id) in [("1.0.0", 1), ("2.0.0", 2)] {
        let entry = signed(&anna, Action::Release(listing("guestbook", version, id)));
        anna.append(entry);
    }
    let stop = codec::encode(&anna.draft(revoke(1))).expect("it fits");
    anna.append(anna.seal(Kind::Entry, stop, &[&anna.revoke]));
    (anna, next)
}

/// Everything that is signed, or pinned by a hash that is.
pub(crate) fn all() -> Vec<Object> {
    let (anna, next) = anna();
    let bytes = |envelope: &Envelope| codec::encode(envelope).expect("it fits");
    let first = TrustedRoot::first(anna.id(), &anna.first).expect("her first root");
    let [zero, one, two] = [0, 1, 2].map(|n| {
        anna.entries[..n].iter().fold(FeedState::default(), |f, e| f.accept(&anna.trusted, e).expect("hers").0)
    });
    let two_proof = {
        let rival = |id| {
            let payload = codec::encode(&anna.draft(Action::Release(listing("guestbook", "3.0.0", id)))).expect("fits");
            anna.seal(Kind::Entry, payload, &[&anna.release, &key(b'a', 13)])
        };
        Equivocation::make(&anna.trusted, &rival(3), &rival(4)).expect("two words for one place")
    };
    let root_proof = {
        let other = |days| anna.successor(|r| r.issued_at = NOW + Span::days(days), &[]);
        Equivocation::make(&anna.trusted, &other(1), &other(2)).expect("two documents of one version")
    };
    let statement = bytes(&anna.fresh(&anna.statement()));
    let snapshot = codec::encode(&anna.feed.snapshot).expect("it fits");
    let ticket = Ticket {
        publisher: anna.id(),
        distro: Some("guestbook".into()),
        root: (2, anna.trusted.digest),
        floor: anna.feed.head,
        addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
        conflict: Some(anna.trusted.digest),
        expires: Some(1_790_000_000),
    };
    let anna = Arc::new(anna);
    let entry = |state: FeedState| {
        let anna = anna.clone();
        move |bytes: &[u8]| {
            let taken = state.accept(&anna.trusted, &codec::decode(bytes).ok()?).ok()?;
            Some(format!("{taken:?}"))
        }
    };
    let proof = || {
        let anna = anna.clone();
        move |bytes: &[u8]| Some(format!("{:?}", codec::decode::<Equivocation>(bytes).ok()?.check(&anna.trusted).ok()?))
    };
    let id = anna.id();
    // A catalogue is taken with what the release role signed, as the head is where both roles stop something.
    let head = anna.seal(Kind::Entry, anna.entries[2].payload.clone(), &[&anna.release, &key(b'a', 12)]);
    let (fresh_root, head_root) = (anna.clone(), anna.clone());
    let mut all = vec![
        object("root document 1", bytes(&anna.first), move |b| {
            Some(format!("{:?}", TrustedRoot::first(id, &codec::decode(b).ok()?).ok()?))
        }),
        object("root document 2", bytes(&next), move |b| {
            Some(format!("{:?}", first.next(&codec::decode(b).ok()?).ok()?))
        }),
        object("first entry", bytes(&anna.entries[0]), entry(zero)),
        object("second entry", bytes(&anna.entries[1]), entry(one)),
        object("revocation", bytes(&anna.entries[2]), entry(two)),
        object("freshness statement", statement, move |b| {
            Some(format!("{:?}", verify_fresh(&fresh_root.trusted, &codec::decode(b).ok()?).ok()?))
        }),
        object("snapshot under its head", snapshot, move |b| {
            Some(format!("{:?}", FeedState::onboard(&head_root.trusted, &head, b).ok()?))
        }),
        object("proof of two entries", codec::encode(&two_proof).expect("fits"), proof()),
        object("proof of two roots", codec::encode(&root_proof).expect("fits"), proof()),
        object("ticket", ticket.to_string().into_bytes(), |b| {
            Some(format!("{:?}", std::str::from_utf8(b).ok()?.parse::<Ticket>().ok()?))
        }),
    ];
    all.extend(pinned());
    all
}

/// What signed objects name by hash, and a stream that proves itself at its end.
fn pinned() -> Vec<Object> {
    let release = codec::encode(&specimens::release()).expect("it fits");
    let manifest = codec::encode(&specimens::manifest()).expect("it fits");
    let (release_id, manifest_id) = (ReleaseId::of(&release), ObjectId::of(&manifest));
    vec![
        object("release by its id", release, move |b| {
            // Decoded before its hash is looked at as well: a node never does, but decoding must be as harmless.
            let decoded = codec::decode::<Release>(b);
            (ReleaseId::of(b) == release_id).then_some(())?;
            Some(format!("{:?}", decoded.ok()?))
        }),
        object("manifest by its id", manifest, move |b| {
            let decoded = codec::decode::<Manifest>(b);
            let checked = decoded.map(|m| (m.check(), m.chunk_order().len(), m));
            (ObjectId::of(b) == manifest_id).then_some(())?;
            Some(format!("{:?}", checked.ok()?))
        }),
        object("backup", specimens::archive(), archive),
    ]
}

/// What a whole archive holds.
pub(crate) fn archive(bytes: &[u8]) -> Option<String> {
    let (mut reader, mut rest, mut items) = (Reader::new(), bytes, Vec::<Item>::new());
    while reader.wants() > 0 {
        let (next, after) = rest.split_at_checked(reader.wants())?;
        rest = after;
        items.extend(reader.take(next).ok()?);
    }
    (rest.is_empty() && reader.end().is_ok()).then(|| format!("{items:?}"))
}

/// Inputs that are all small elements, and how many times their length a value of them may weigh.
pub(crate) fn dense() -> Vec<(&'static str, Vec<u8>, usize)> {
    let list = |head: &[u8], element: &[u8], limit: usize| {
        let count = (limit - head.len() - 9) / element.len();
        [&[1u8][..], head, &(count as u64).to_le_bytes(), &element.repeat(count)].concat()
    };
    let cutting =
        [&[1u8][..], &(16u32 << 10).to_le_bytes(), &(64u32 << 10).to_le_bytes(), &(256u32 << 10).to_le_bytes()];
    let folder = [&0u64.to_le_bytes()[..], &1u32.to_le_bytes()].concat();
    let manifest = list(&cutting.concat(), &folder, 128 << 20);
    let one_listing = {
        let empty = Snapshot {
            listings: vec![softservice_protocol::feed::Listing { summary: String::new(), ..listing("a", "1.0.0", 1) }],
            spent: vec![],
        };
        let bytes = codec::encode(&empty).expect("it fits");
        bytes[9..bytes.len() - 8].to_vec()
    };
    let peers = [&5u32.to_le_bytes()[..], &[0; 32]].concat();
    vec![
        ("a manifest of ten million folders", manifest, 0),
        ("a snapshot of listings", list(&[], &one_listing, 4 << 20), 4),
        ("a message of empty addresses", list(&peers, &0u64.to_le_bytes(), 1 << 20), 4),
    ]
}
