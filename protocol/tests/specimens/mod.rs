//! One value of every wire and signed type, always the same. A new variant does not compile until it has a name here,
//! and does not pass until it has a value.
#![allow(dead_code)] // each test binary looks at some of it

use crate::cast::{NOW, Publisher, digest, listing, revocation, revoke};
use softservice_protocol::{
    archive::{self, ArchiveError, Header, Kind, Owner, Part, Stamp, Writer},
    bitmap::Bitmap,
    chunk::{ChunkRef, Cutting},
    codec::{self, CodecError, Wire},
    feed::{Action, Entry, Equivocation, Fresh, Head, Listing, Position, RevokeLevel, Snapshot},
    id::{ChunkId, ObjectId, PublisherId, ReleaseId},
    io::Record,
    message::{Bytes, Coding, Message, SpanAnswer, SpanRequest},
    release::{Release, ReleaseRef},
    root::{Delegation, FeedStart, Root},
    sign::Envelope,
    time::Span,
    tree::{Manifest, Node, TreeEntry, TreeRef},
};

mod release;
pub(crate) use release::release;

pub(crate) struct Specimen {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Decodes and encodes again.
    pub(crate) again: fn(&[u8]) -> Result<Vec<u8>, CodecError>,
}

fn specimen<T: Wire>(name: &str, value: &T) -> Specimen {
    let bytes = codec::encode(value).unwrap();
    Specimen { name: name.into(), bytes, again: |bytes| codec::encode(&codec::decode::<T>(bytes)?) }
}

/// The specimens, each name once.
pub(crate) fn all() -> Vec<Specimen> {
    let anna = anna();
    let mut all = vec![
        specimen("root-first", &anna.first.open::<Root>().unwrap()),
        specimen("root-later", &later_root()),
        specimen("entry-release", &anna.entries[0].open::<Entry>().unwrap()),
        specimen("entry-revoke", &anna.entries[1].open::<Entry>().unwrap()),
        specimen("fresh", &anna.statement()),
        specimen("snapshot", &anna.feed.snapshot),
        specimen("release", &release()),
        specimen("manifest", &manifest()),
        specimen("envelope-root", &anna.first),
        specimen("envelope-entry", &anna.entries[0]),
        specimen("envelope-fresh", &anna.fresh(&anna.statement())),
        specimen("equivocation", &equivocation()),
        specimen("span-request", &SpanRequest { request: 7, chunks: vec![chunk(1), chunk(2)], base: vec![chunk(3)] }),
        specimen(
            "span-answer",
            &SpanAnswer { request: 7, held: bitmap(), coding: Coding::ZstdOverBase { bytes: 900 } },
        ),
    ];
    all.extend(messages().iter().enumerate().map(|(i, m)| specimen(&format!("message-{i:02}-{}", message_name(m)), m)));
    all.extend(records().iter().enumerate().map(|(i, r)| specimen(&format!("record-{i:02}-{}", record_name(r)), r)));
    all
}

/// Anna, who published once and revoked it.
pub(crate) fn anna() -> Publisher {
    let mut anna = Publisher::named(b'a');
    anna.publish(Listing { parents: vec![ReleaseId([8; 32])], ..listing("guestbook", "1.2.3-rc.1", 1) });
    anna.append(anna.sealed(&anna.draft(revoke(1))));
    anna
}

/// A backup with one thing of each kind.
pub(crate) fn archive() -> Vec<u8> {
    let header = Header {
        made_at: 1_800_000_000,
        program: "0.1.0".into(),
        softservice: "guestbook".into(),
        publisher: PublisherId([1; 32]),
        distro: "guestbook".into(),
        version: "1.2.3-rc.1".into(),
        release: ReleaseRef { id: ReleaseId([2; 32]), size: 700 },
        epoch: 4,
        answers: vec![("title".into(), "Our book".into())],
        parts: vec![Part::Volume("store.data.book".into()), Part::Hook("web".into()), Part::Secrets, Part::Overlay],
        entries: 8,
        bytes: 5,
    };
    let entry = |part, path: &str, kind| archive::Entry {
        part,
        path: path.into(),
        kind,
        mode: 0o640,
        owner: if part == 0 { Owner::Service } else { Owner::Other { user: 1000, group: 100 } },
        changed: Stamp { seconds: 1_700_000_000, nanos: 5 },
    };
    let (mut writer, mut bytes) = Writer::begin(header).unwrap();
    let mut add = |frame: Result<Vec<u8>, ArchiveError>| bytes.extend(frame.unwrap());
    add(writer.entry(entry(0, "", Kind::Folder)));
    add(writer.entry(entry(0, "entries", Kind::File { size: 4101, shared: true })));
    add(writer.hole(4096));
    add(writer.data(b"hello"));
    add(writer.end_file());
    add(writer.entry(entry(0, "latest", Kind::Link(b"entries".to_vec()))));
    add(writer.entry(entry(0, "names", Kind::Again(0))));
    add(writer.entry(entry(0, "pipe", Kind::Pipe)));
    for part in 1..4 {
        add(writer.entry(entry(part, "", Kind::Folder)));
    }
    add(writer.end());
    bytes
}

pub(crate) fn equivocation() -> Equivocation {
    let anna = anna();
    let entry = |id| anna.sealed(&anna.draft(Action::Release(listing("guestbook", "2.0.0", id))));
    Equivocation::make(&anna.trusted, &entry(2), &entry(3)).unwrap()
}

fn later_root() -> Root {
    let anna = anna();
    let mut root = anna.successor(|_| (), &[]).open::<Root>().unwrap();
    root.delegations = vec![Delegation {
        key: softservice_protocol::id::PublicKey([5; 32]),
        channel_prefix: "nightly".into(),
        distros: vec!["guestbook".into()],
        not_after: NOW + Span::days(30),
        max_entries: 100,
    }];
    root.feed = FeedStart { epoch: 2, from_seq: 1, from_hash: digest(4) };
    root.next_keys = Some(digest(5));
    root
}

pub(crate) fn chunk(letter: u8) -> ChunkRef {
    ChunkRef { id: ChunkId([letter; 32]), len: 0x1_0000 + u32::from(letter) }
}
fn bitmap() -> Bitmap {
    let mut map = Bitmap::empty(11);
    for i in [0, 3, 10] {
        map.set(i, true);
    }
    map
}
pub(crate) fn tree(letter: u8) -> TreeRef {
    let only = ChunkRef { id: ChunkId([letter; 32]), len: 300 };
    TreeRef { manifest: ObjectId([letter; 32]), chunks: vec![only], bytes: 12_345, files: 3 }
}

pub(crate) fn manifest() -> Manifest {
    let entry = |path: &str, node| TreeEntry { path: path.into(), node };
    let file =
        |executable, letter, size, chunks| Node::File { executable, object: ObjectId([letter; 32]), size, chunks };
    let entries = vec![
        entry("bin", Node::Dir),
        entry("bin/serve", file(true, 1, 0x2_0003, vec![chunk(1), chunk(2)])),
        entry("empty", Node::File { executable: false, object: ObjectId::of(&[]), size: 0, chunks: vec![] }),
        entry("grüße", file(false, 3, 5, vec![])),
        entry("latest", Node::Symlink { target: "bin/serve".into() }),
    ];
    Manifest { cutting: Cutting::STANDARD, entries }
}

pub(crate) fn messages() -> Vec<Message> {
    let anna = anna();
    let (publisher, head, release) = (anna.id(), anna.feed.head, ReleaseId([1; 32]));
    let bytes = |envelope: &Envelope| Bytes(codec::encode(envelope).unwrap());
    vec![
        Message::Heads(vec![(publisher, head), (PublisherId([9; 32]), Head::START)]),
        Message::Pull { publisher, root: 1, head },
        Message::Feed {
            publisher,
            roots: vec![bytes(&anna.first)],
            snapshot: Some(Bytes(codec::encode(&anna.feed.snapshot).unwrap())),
            entries: vec![bytes(&anna.entries[1])],
            fresh: Some(bytes(&anna.fresh(&anna.statement()))),
            more: true,
        },
        Message::Feed { publisher, roots: vec![], snapshot: None, entries: vec![], fresh: None, more: false },
        Message::Have { release },
        Message::Has { release, chunks: Some(bitmap()) },
        Message::Has { release, chunks: None },
        Message::Peers { publisher, addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()] },
        Message::PullSnapshot { publisher, snapshot: digest(6), from: 0x4_0000 },
        Message::Snapshot { publisher, snapshot: digest(6), from: 0x4_0000, of: 0x4_0003, piece: Bytes(vec![1, 2, 3]) },
    ]
}
fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Heads(_) => "heads",
        Message::Pull { .. } => "pull",
        Message::Feed { .. } => "feed",
        Message::Have { .. } => "have",
        Message::Has { .. } => "has",
        Message::Peers { .. } => "peers",
        Message::PullSnapshot { .. } => "pull-snapshot",
        Message::Snapshot { .. } => "snapshot",
    }
}

fn records() -> Vec<Record> {
    let anna = anna();
    let (publisher, head) = (anna.id(), anna.feed.head);
    let address = "/dns4/anna.example/tcp/4001".to_string();
    let envelope = |envelope: &Envelope| codec::encode(envelope).unwrap();
    vec![
        Record::Followed { publisher, root: (1, anna.trusted.digest), floor: head, addresses: vec![address.clone()] },
        Record::Unfollowed { publisher },
        Record::Root { publisher, envelope: envelope(&anna.first) },
        Record::Onboarded {
            publisher,
            envelope: envelope(&anna.entries[1]),
            snapshot: codec::encode(&anna.feed.snapshot).unwrap(),
        },
        Record::Entry { publisher, envelope: envelope(&anna.entries[0]) },
        Record::Fresh { publisher, envelope: envelope(&anna.fresh(&anna.statement())) },
        Record::Reserved { publisher, head: Head { at: Position { epoch: 1, seq: 3 }, hash: digest(3) } },
        Record::Proof { proof: codec::encode(&equivocation()).unwrap() },
        Record::Address { address },
        Record::Requested { publisher, payload: anna.entries[0].payload.clone() },
        Record::Revoked {
            publisher,
            epoch: 2,
            release: ReleaseId([3; 32]),
            revocation: revocation(RevokeLevel::Unsafe),
        },
    ]
}
fn record_name(record: &Record) -> &'static str {
    match record {
        Record::Followed { .. } => "followed",
        Record::Unfollowed { .. } => "unfollowed",
        Record::Root { .. } => "root",
        Record::Onboarded { .. } => "onboarded",
        Record::Entry { .. } => "entry",
        Record::Fresh { .. } => "fresh",
        Record::Reserved { .. } => "reserved",
        Record::Proof { .. } => "proof",
        Record::Address { .. } => "address",
        Record::Requested { .. } => "requested",
        Record::Revoked { .. } => "revoked",
    }
}

/// Decodes as each wire type in turn; how many took it.
pub(crate) fn taken_by(bytes: &[u8]) -> usize {
    fn one<T: Wire>(bytes: &[u8]) -> usize {
        match codec::decode::<T>(bytes) {
            Ok(value) => {
                assert_eq!(codec::encode(&value).unwrap(), bytes, "{} has two spellings", T::NAME);
                1
            }
            Err(_) => 0,
        }
    }
    one::<Root>(bytes)
        + one::<Entry>(bytes)
        + one::<Fresh>(bytes)
        + one::<Snapshot>(bytes)
        + one::<Release>(bytes)
        + one::<Manifest>(bytes)
        + one::<Envelope>(bytes)
        + one::<Equivocation>(bytes)
        + one::<SpanRequest>(bytes)
        + one::<SpanAnswer>(bytes)
        + one::<Message>(bytes)
        + one::<Record>(bytes)
}
