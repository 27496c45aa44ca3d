//! Golden bytes: what is written today is read for ever, so every wire and signed type has its bytes in
//! `tests/golden/NAME.hex`. A difference is a change of format: give the type a new `VERSION`, and keep reading the
//! old one. Only for bytes that no released version ever wrote: `SOFTSERVICE_BLESS=1 cargo test -p
//! softservice-protocol --test golden` writes the files anew, and the change shows in the diff.
#![allow(clippy::disallowed_methods)] // the wall is around the crate; golden bytes live in files

mod cast;
mod specimens;

use softservice_protocol::{
    chunk,
    codec::{self, Wire},
    feed::{Head, Position},
    id::{Digest, FeedId, Peer, PublisherId},
    root::keys_commitment,
    sign::{Kind, signed_bytes},
    ticket::Ticket,
};
use std::{collections::BTreeSet, fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}
/// 32 bytes a line, so that a diff shows where a format moved.
fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| data_encoding::HEXLOWER.encode(line) + "\n").collect()
}
fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("a golden file is hexadecimal")
}

/// Bytes beside the wire types that other nodes must make alike.
fn derived() -> Vec<(String, Vec<u8>)> {
    let anna = specimens::anna();
    let signed = |kind| signed_bytes(kind, anna.id(), anna.trusted.feed(), b"payload");
    let mut noise = vec![0; 1 << 20];
    blake3::Hasher::new().update(b"golden noise").finalize_xof().fill(&mut noise);
    let cuts = |bytes: &[u8]| chunk::cut(bytes).iter().flat_map(|l| l.to_le_bytes()).collect();
    let ticket = Ticket {
        publisher: anna.id(),
        distro: Some("guestbook".into()),
        root: (1, anna.trusted.digest),
        floor: Head { at: Position { epoch: 1, seq: 2 }, hash: Digest([7; 32]) },
        addresses: ["/ip4/10.0.0.1/udp/4001/quic-v1", "/ip6/fe80::1/tcp/4001"]
            .map(|transport| softservice_protocol::address::join(transport, Peer([3; 32])))
            .to_vec(),
        conflict: None,
        expires: None,
    };
    let warns = Ticket { conflict: Some(Digest([8; 32])), expires: Some(1_790_000_000), ..ticket.clone() };
    vec![
        ("signed-root".into(), signed(Kind::Root)),
        ("signed-entry".into(), signed(Kind::Entry)),
        ("signed-fresh".into(), signed(Kind::Fresh)),
        ("id-publisher".into(), anna.id().0.to_vec()),
        ("id-feed".into(), FeedId::main(PublisherId([1; 32])).0.to_vec()),
        ("keys-commitment".into(), keys_commitment(&anna.trusted.root.roles.root).unwrap().0.to_vec()),
        ("cuts-noise".into(), cuts(&noise)),
        ("cuts-zeros".into(), cuts(&vec![0; 1 << 20])),
        ("ticket".into(), ticket.to_string().into_bytes()),
        ("ticket-conflict-expiry".into(), warns.to_string().into_bytes()),
        ("archive".into(), specimens::archive()),
    ]
}

#[test]
fn every_format_has_the_bytes_that_it_had() {
    let bless = std::env::var_os("SOFTSERVICE_BLESS").is_some_and(|v| v == "1");
    let wire = specimens::all().into_iter().map(|s| (s.name, s.bytes));
    let today: Vec<(String, Vec<u8>)> = wire.chain(derived()).collect();
    let names: BTreeSet<String> = today.iter().map(|(name, _)| format!("{name}.hex")).collect();
    assert_eq!(names.len(), today.len(), "a specimen's name is used twice");
    if bless {
        let _ = fs::remove_dir_all(folder());
        fs::create_dir_all(folder()).unwrap();
        for (name, bytes) in &today {
            fs::write(folder().join(format!("{name}.hex")), hex(bytes)).unwrap();
        }
    }
    let mut moved = Vec::new();
    for (name, bytes) in &today {
        match fs::read_to_string(folder().join(format!("{name}.hex"))) {
            Ok(golden) if golden == hex(bytes) => {}
            Ok(golden) => {
                let golden = unhex(&golden);
                let at = golden.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                moved.push(format!(
                    "{name}: {} bytes then, {} now, first difference at {at}",
                    golden.len(),
                    bytes.len()
                ));
            }
            Err(error) => moved.push(format!("{name}: {error}")),
        }
    }
    for file in fs::read_dir(folder()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if !names.contains(&name) {
            moved.push(format!("{name}: no specimen has this name any more"));
        }
    }
    assert!(moved.is_empty(), "formats changed; see the head of this file\n{}", moved.join("\n"));
    // In one test with the writing: two tests of one binary run side by side.
    golden_files_are_read_and_written_back();
}

fn golden_files_are_read_and_written_back() {
    for specimen in specimens::all() {
        let path = folder().join(format!("{}.hex", specimen.name));
        let golden = unhex(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        assert_eq!((specimen.again)(&golden).as_deref(), Ok(golden.as_slice()), "{}", specimen.name);
    }
}

#[test]
fn golden_objects_still_mean_something() {
    specimens::manifest().check().unwrap();
    let anna = specimens::anna();
    specimens::equivocation().check(&anna.trusted).unwrap();
    anna.feed.snapshot.check().unwrap();
    let bytes = codec::encode(&specimens::release()).unwrap();
    assert!(bytes.len() < softservice_protocol::release::Release::LIMIT);
}

/// Bytes as SPEC.md tells to write them, without the codec.
#[derive(Default)]
struct Hand(Vec<u8>);
impl Hand {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, n: u32) -> Self {
        self.raw(&n.to_le_bytes())
    }
    fn u64(self, n: u64) -> Self {
        self.raw(&n.to_le_bytes())
    }
    fn bytes(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).raw(bytes)
    }
}

#[test]
fn an_entry_and_its_envelope_written_by_hand_are_the_same_bytes() {
    let anna = specimens::anna();
    let listing = Hand::default().bytes(b"guestbook").bytes(b"1.2.3-rc.1").u32(0).bytes(b"stable").raw(&[1; 32]);
    let listing = listing.u32(1000).bytes(b"A guestbook").u64(1).raw(&[8; 32]).raw(&[0]).0;
    let state_root = blake3::hash(&Hand::default().raw(&[3]).u64(1).raw(&listing).u64(0).0);
    let entry = Hand::default().raw(&[2]).u32(1).u64(1).raw(&[0; 32]).u32(0).raw(&listing).raw(state_root.as_bytes());
    let entry = entry.u64(cast::NOW.0).raw(&[0]).0;
    assert_eq!(hex(&anna.entries[0].payload), hex(&entry));

    let feed = [&b"softdist/v1/feed\0main\0"[..], &anna.id().0].concat();
    let feed = *blake3::hash(&feed).as_bytes();
    let signed =
        [&b"softdist/v1/entry\0"[..], &anna.id().0, &feed, &(entry.len() as u64).to_le_bytes(), &entry].concat();
    let signature = ed25519_dalek::Signer::sign(&anna.release, &signed).to_bytes();
    let envelope = Hand::default().raw(&[1]).u32(1).raw(&anna.id().0).raw(&feed).bytes(&entry).u64(1).raw(&[1]);
    let envelope = envelope.raw(anna.release.verifying_key().as_bytes()).bytes(&signature).0;
    assert_eq!(hex(&codec::encode(&anna.entries[0]).unwrap()), hex(&envelope));
}
