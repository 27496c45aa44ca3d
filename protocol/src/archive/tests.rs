//! Mallory makes archives: cut, flipped, stretched, with paths that lead out, files that nobody opened and lengths that
//! nobody has. Nothing panics, nothing takes memory that it did not bring, and no change of a good one passes.

use super::*;
use crate::{
    codec,
    id::{PublisherId, ReleaseId},
};
use proptest::prelude::*;

fn header(parts: Vec<Part>, entries: u64, bytes: u64) -> Header {
    Header {
        made_at: 1_800_000_000,
        program: "0.1.0".into(),
        softservice: "shelf".into(),
        publisher: PublisherId([7; 32]),
        distro: "photo-shelf".into(),
        version: "2.3.0".into(),
        release: ReleaseRef { id: ReleaseId([9; 32]), size: 1234 },
        epoch: 3,
        answers: vec![("domain".into(), "shelf.example".into()), ("signup".into(), "open".into())],
        parts,
        entries,
        bytes,
    }
}

fn entry(part: u16, path: &[u8], kind: Kind) -> Entry {
    let changed = Stamp { seconds: -1, nanos: 999_999_999 };
    Entry { part, path: path.to_vec(), kind, mode: 0o2750, owner: Owner::Service, changed }
}

fn file(part: u16, path: &str, size: u64) -> Entry {
    entry(part, path.as_bytes(), Kind::File { size, shared: false })
}

fn folder(part: u16, path: &str) -> Entry {
    entry(part, path.as_bytes(), Kind::Folder)
}

/// What one record of a story is, in the reader's words.
fn written(items: &[Item]) -> Result<Vec<u8>, ArchiveError> {
    let Some((Item::Header(first), rest)) = items.split_first() else { panic!("a story begins with a header") };
    let (mut writer, mut bytes) = Writer::begin(first.clone())?;
    for item in rest {
        bytes.extend(match item {
            Item::Header(_) => panic!("one header"),
            Item::Entry(entry) => writer.entry(entry.clone())?,
            Item::Data(piece) => writer.data(piece)?,
            Item::Hole(length) => writer.hole(*length)?,
            Item::Whole(_) => writer.end_file()?,
            Item::End => return Ok([bytes, writer.end()?].concat()),
        });
    }
    panic!("a story ends")
}

fn read(bytes: &[u8]) -> Result<Vec<Item>, ArchiveError> {
    let (mut reader, mut items, mut at) = (Reader::new(), Vec::new(), 0);
    while reader.wants() > 0 {
        assert!(reader.wants() <= Record::LIMIT, "no frame needs so much");
        let Some(next) = bytes.get(at..at + reader.wants()) else { return reader.end().map(|()| items) };
        at += next.len();
        items.extend(reader.take(next)?);
    }
    if at < bytes.len() { Err(ArchiveError::Tail) } else { reader.end().map(|()| items) }
}

/// A sound archive with everything in it.
fn story() -> Vec<Item> {
    let hash = |data: &[u8]| Item::Whole(ObjectId::of(data));
    let parts = vec![Part::Volume("data.rows".into()), Part::Hook("web".into()), Part::Secrets];
    vec![
        Item::Header(header(parts, 9, 12)),
        Item::Entry(folder(0, "")),
        Item::Entry(entry(0, b"base", Kind::File { size: 4096 + 5, shared: true })),
        Item::Hole(4096),
        Item::Data(b"hello".to_vec()),
        hash(b"hello"),
        Item::Entry(folder(0, "base.d")),
        Item::Entry(entry(0, b"base.d/\xff\xfe", Kind::Again(0))),
        Item::Entry(entry(0, b"latest", Kind::Link(b"../../etc/passwd".to_vec()))),
        Item::Entry(entry(0, b"wal", Kind::Pipe)),
        Item::Entry(folder(1, "")),
        Item::Entry(folder(2, "")),
        Item::Entry(file(2, "session", 7)),
        Item::Data(b"s3cr".to_vec()),
        Item::Data(b"et!".to_vec()),
        hash(b"s3cret!"),
        Item::End,
    ]
}

#[test]
fn what_is_written_is_read() {
    let bytes = written(&story()).expect("a sound story");
    assert_eq!(read(&bytes).expect("it is read"), story());
}

#[test]
fn every_cut_every_tail_and_every_flipped_bit_is_refused() {
    let bytes = written(&story()).expect("a sound story");
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(read(&[&bytes[..], b"x"].concat()), Err(ArchiveError::Tail));
    let mut flipped = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_record_of_a_terabyte_costs_nothing() {
    for length in [0, u32::MAX, (Record::LIMIT + 1) as u32] {
        let bytes = [&MAGIC[..], &length.to_le_bytes()].concat();
        assert_eq!(read(&bytes), Err(ArchiveError::Frame { length }));
    }
    assert_eq!(read(b"PK\x03\x04...."), Err(ArchiveError::Foreign));
}

/// Records as they come, with no writer that would refuse them; the last hash is right.
fn raw(records: Vec<Record>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for record in records {
        let record = match record {
            Record::End(_) => Record::End(ObjectId::of(&bytes)),
            other => other,
        };
        let body = codec::encode(&record).expect("it fits");
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
    }
    bytes
}

/// An archive of one volume with these entries, honest in everything else.
fn with(entries: Vec<Entry>) -> Vec<u8> {
    of(Part::Volume("data.rows".into()), entries)
}

/// The same of another part.
fn of(part: Part, entries: Vec<Entry>) -> Vec<u8> {
    let head = header(vec![part], entries.len() as u64, 0);
    let mut records = vec![Record::Header(Box::new(head))];
    for entry in entries {
        let is_file = matches!(entry.kind, Kind::File { .. });
        records.push(Record::Entry(entry));
        records.extend(is_file.then(|| Record::Hash(ObjectId::of(&[]))));
    }
    records.push(Record::End(ObjectId([0; 32])));
    raw(records)
}

#[test]
fn no_path_leads_out_of_its_part() {
    let good = with(vec![folder(0, ""), folder(0, "a"), file(0, "a/b", 0), file(0, "a-b", 0)]);
    assert!(read(&good).is_ok(), "{:?}", read(&good));
    for path in ["/etc/passwd", "..", "../x", "a/../../x", "a/./x", "a//x", "a/", ".", "a/\0"] {
        let bytes = with(vec![folder(0, ""), folder(0, "a"), file(0, path, 0)]);
        assert!(matches!(read(&bytes), Err(ArchiveError::Entry { .. })), "{path:?}: {:?}", read(&bytes));
    }
    let long = "x".repeat(256);
    let deep = vec!["d"; 257].join("/");
    for path in [long, deep, "y/".repeat(2049)] {
        assert!(matches!(read(&with(vec![folder(0, ""), file(0, &path, 0)])), Err(ArchiveError::Entry { .. })));
    }
}

#[test]
fn nothing_is_made_through_a_link_or_a_file_or_twice() {
    let link = entry(0, b"a", Kind::Link(b"/etc".to_vec()));
    let refused = [
        ("below a link", vec![folder(0, ""), link, file(0, "a/passwd", 0)]),
        ("below a file", vec![folder(0, ""), file(0, "a", 0), file(0, "a/b", 0)]),
        ("without its folder", vec![folder(0, ""), file(0, "a/b", 0)]),
        ("without a root", vec![file(0, "a", 0)]),
        ("a root that is a link", vec![entry(0, b"", Kind::Link(b"/".to_vec()))]),
        ("twice", vec![folder(0, ""), file(0, "a", 0), file(0, "a", 0)]),
        ("backwards", vec![folder(0, ""), file(0, "b", 0), file(0, "a", 0)]),
        ("in a folder that is left", vec![folder(0, ""), folder(0, "a"), file(0, "b", 0), file(0, "a/x", 0)]),
        ("in no part", vec![folder(0, ""), folder(1, "")]),
        ("another name of nothing", vec![folder(0, ""), entry(0, b"a", Kind::Again(0))]),
        ("an odd mode", vec![folder(0, ""), Entry { mode: 0o100_644, ..file(0, "a", 0) }]),
        ("an odd time", {
            vec![folder(0, ""), Entry { changed: Stamp { seconds: 0, nanos: 1_000_000_000 }, ..file(0, "a", 0) }]
        }),
    ];
    for (what, entries) in refused {
        assert!(matches!(read(&with(entries)), Err(ArchiveError::Entry { .. })), "{what}");
    }
}

#[test]
fn what_the_node_reads_itself_has_no_links() {
    let kinds = [Kind::Link(b"/etc/shadow".to_vec()), Kind::Pipe, Kind::File { size: 0, shared: true }];
    for kind in kinds {
        for part in [Part::Secrets, Part::Overlay] {
            let bytes = of(part, vec![folder(0, ""), folder(0, "files"), entry(0, b"files/a", kind.clone())]);
            assert!(matches!(read(&bytes), Err(ArchiveError::Entry { .. })), "{kind:?}: {:?}", read(&bytes));
        }
        assert!(read(&with(vec![folder(0, ""), entry(0, b"a", kind)])).is_ok());
    }
    let plain = of(Part::Secrets, vec![folder(0, ""), file(0, "key", 0)]);
    assert!(read(&plain).is_ok(), "{:?}", read(&plain));
}

#[test]
fn sizes_are_what_the_header_says() {
    let head = |entries, bytes| Record::Header(Box::new(header(vec![Part::Secrets], entries, bytes)));
    let (root, end) = (Record::Entry(folder(0, "")), Record::End(ObjectId([0; 32])));
    let one = |size| Record::Entry(file(0, "a", size));
    let (data, hash) = (Record::Data(b"four".to_vec()), Record::Hash(ObjectId::of(b"four")));
    let good = [head(2, 4), root.clone(), one(4), data.clone(), hash.clone(), end.clone()];
    assert!(read(&raw(good.to_vec())).is_ok());
    let refused: [(&str, Vec<Record>); 9] = [
        ("less data", vec![head(2, 5), root.clone(), one(4), data.clone(), hash.clone(), end.clone()]),
        ("more data", vec![head(2, 3), root.clone(), one(4), data.clone(), hash.clone(), end.clone()]),
        ("more entries", vec![head(1, 4), root.clone(), one(4), data.clone(), hash.clone(), end.clone()]),
        ("fewer entries", vec![head(3, 4), root.clone(), one(4), data.clone(), hash.clone(), end.clone()]),
        ("a long file", vec![head(2, 8), root.clone(), one(4), data.clone(), data.clone(), hash.clone(), end.clone()]),
        ("a short file", vec![head(2, 4), root.clone(), one(9), data.clone(), hash.clone(), end.clone()]),
        ("an endless hole", vec![head(2, 4), root.clone(), one(4), Record::Hole(u64::MAX), hash.clone(), end.clone()]),
        ("data of nothing", vec![head(2, 4), root.clone(), data.clone(), hash.clone(), end.clone()]),
        ("a missing part", vec![head(0, 0), end.clone()]),
    ];
    for (what, records) in refused {
        assert!(matches!(read(&raw(records)), Err(ArchiveError::Order { .. })), "{what}");
    }
    let lie = vec![head(2, 4), root, one(4), data, Record::Hash(ObjectId::of(b"five")), end];
    let error = read(&raw(lie)).expect_err("another content");
    assert!(matches!(&error, ArchiveError::Hash { place } if place.contains("secrets/a")), "{error}");
}

#[test]
fn a_header_is_checked_before_anything_else() {
    let good = header(vec![Part::Secrets], 1, 0);
    let bad = [
        Header { softservice: "../up".into(), ..good.clone() },
        Header { distro: String::new(), ..good.clone() },
        Header { version: "new".into(), ..good.clone() },
        Header { parts: vec![Part::Volume("..".into())], ..good.clone() },
        Header { parts: vec![Part::Volume("a/b".into())], ..good.clone() },
        Header { parts: vec![Part::Secrets, Part::Secrets], ..good.clone() },
        Header { answers: vec![("b".into(), String::new()), ("a".into(), String::new())], ..good.clone() },
        Header { release: ReleaseRef { size: u32::MAX, ..good.release }, ..good.clone() },
    ];
    for header in bad {
        let bytes = raw(vec![Record::Header(Box::new(header.clone())), Record::End(ObjectId([0; 32]))]);
        assert!(matches!(read(&bytes), Err(ArchiveError::Header { .. })), "{header:?}");
        assert!(Writer::begin(header).is_err(), "nobody writes what nobody reads");
    }
}

/// A folder's content: names with what they are.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u16),
    Link(Vec<u8>),
    Folder(std::collections::BTreeMap<Vec<u8>, Thing>),
}

fn thing() -> impl Strategy<Value = Thing> {
    let name = || proptest::collection::vec(prop_oneof![1..=46_u8, 48..=255_u8], 1..8);
    let good = |name: &Vec<u8>| name != b"." && name != b"..";
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..300), any::<u16>()).prop_map(|(data, hole)| Thing::File(data, hole)),
        name().prop_map(Thing::Link),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        proptest::collection::btree_map(name().prop_filter("a name", good), inner, 0..6).prop_map(Thing::Folder)
    })
}

fn walk(path: &[u8], thing: &Thing, items: &mut Vec<Item>, sums: &mut (u64, u64)) {
    sums.0 += 1;
    match thing {
        Thing::Link(target) => items.push(Item::Entry(entry(0, path, Kind::Link(target.clone())))),
        Thing::File(data, hole) => {
            sums.1 += data.len() as u64;
            let size = data.len() as u64 + u64::from(*hole);
            items.push(Item::Entry(entry(0, path, Kind::File { size, shared: false })));
            items.extend((*hole > 0).then_some(Item::Hole((*hole).into())));
            items.extend(data.chunks(100).map(|piece| Item::Data(piece.to_vec())));
            items.push(Item::Whole(ObjectId::of(data)));
        }
        Thing::Folder(inner) => {
            items.push(Item::Entry(entry(0, path, Kind::Folder)));
            for (name, thing) in inner {
                let below = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
                walk(&below, thing, items, sums);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_tree_comes_back(inner in thing()) {
        let root = Thing::Folder([(b"x".to_vec(), inner)].into());
        let (mut items, mut sums) = (Vec::new(), (0, 0));
        walk(b"", &root, &mut items, &mut sums);
        let mut story = vec![Item::Header(header(vec![Part::Volume("data.rows".into())], sums.0, sums.1))];
        story.extend(items);
        story.push(Item::End);
        let bytes = written(&story).expect("a walk is sound");
        prop_assert_eq!(read(&bytes).expect("it is read"), story);
    }

    #[test]
    fn no_change_of_a_good_one_passes(at in any::<prop::sample::Index>(), with in proptest::collection::vec(any::<u8>(), 0..40), out in 0..40_usize) {
        let good = written(&story()).expect("a sound story");
        let at = at.index(good.len());
        let end = (at + out).min(good.len());
        let changed = [&good[..at], &with, &good[end..]].concat();
        prop_assert_eq!(read(&changed).is_ok(), changed == good);
    }

    #[test]
    fn noise_is_no_archive(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(read(&[&MAGIC[..], &noise].concat()).is_err());
        prop_assert!(read(&noise).is_err());
    }
}
