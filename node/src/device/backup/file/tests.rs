//! Real files, real keys: what goes in comes out, and whoever cuts, flips, guesses or climbs gets nowhere.

use super::*;
use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps};
use softservice_protocol::{
    archive::Part,
    id::{PublisherId, ReleaseId},
    release::ReleaseRef,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::PathBuf,
};

struct Place {
    scratch: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { scratch: tempfile::tempdir().expect("a folder") };
        for folder in ["home", "volume", "out"] {
            fs::create_dir(place.at(folder)).expect("a folder");
        }
        place
    }
    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }
    fn sources(&self) -> Vec<Source> {
        vec![Source { part: Part::Volume("data.rows".into()), folder: self.at("volume") }]
    }
    fn write(&self, file: &str, lock: &Lock) -> Result<Written> {
        let path = self.at(file);
        write(&Target::new(&path)?, &self.at("home"), lock, header(), &self.sources(), me(), &|_, _, _| true)
    }
    fn read(&self, file: &str, keys: &Keys) -> Result<Header> {
        let (path, at) = (self.at(file), self.at("out/restored"));
        read(&path, &self.at("home"), keys, &at, me(), &mut |_| Ok(()), &|_, _, _| true)
    }
}

fn me() -> ServiceUser {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn header() -> Header {
    Header {
        made_at: 1_800_000_000,
        program: "0.1.0".into(),
        softservice: "shelf".into(),
        publisher: PublisherId([7; 32]),
        distro: "photo-shelf".into(),
        version: "2.3.0".into(),
        release: ReleaseRef { id: ReleaseId([9; 32]), size: 1234 },
        epoch: 3,
        answers: vec![],
        parts: vec![],
        entries: 0,
        bytes: 0,
    }
}

/// Everything that is to come back of one thing.
type Facts = (u32, u64, i64, i64, u64, Vec<u8>);

/// All of a folder by path: mode, size, time, names, content or target.
fn facts(root: &Path) -> BTreeMap<PathBuf, Facts> {
    fn walk(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, Facts>) {
        let meta = path.symlink_metadata().expect("it is there");
        let content = match (meta.is_file(), meta.is_symlink()) {
            (true, _) => fs::read(path).expect("content"),
            (_, true) => fs::read_link(path).expect("a target").into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let names = if meta.is_dir() { 1 } else { meta.nlink() };
        let below = path.strip_prefix(root).expect("below").to_owned();
        all.insert(below, (meta.mode(), size, meta.mtime(), meta.mtime_nsec(), names, content));
        if meta.is_dir() {
            for entry in fs::read_dir(path).expect("a list") {
                walk(root, &entry.expect("an entry").path(), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(root, root, &mut all);
    all
}

/// A volume with every kind of thing in it.
fn furnish(volume: &Path) {
    fs::create_dir_all(volume.join("base/deep")).expect("folders");
    fs::write(volume.join("base/deep/row"), "rows").expect("a file");
    fs::write(volume.join("empty"), "").expect("a file");
    fs::hard_link(volume.join("base/deep/row"), volume.join("same row")).expect("a link");
    std::os::unix::fs::symlink("/etc/shadow", volume.join("out")).expect("a link");
    std::os::unix::fs::symlink("base", volume.join("in")).expect("a link");
    let odd = volume.join(std::ffi::OsStr::new("caf\u{e9}\n*"));
    fs::write(&odd, vec![7; 700_000]).expect("a file");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o4711)).expect("a mode");
    rustix::fs::mknodat(rustix::fs::CWD, volume.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    let sparse = fs::File::create(volume.join("sparse")).expect("a file");
    sparse.set_len(64 << 20).expect("room");
    sparse.write_all_at(b"middle", 32 << 20).expect("data");
    let past = |seconds| Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: past(5), last_modification: past(1_000_000_007) };
    for path in ["base/deep/row", "out", "base/deep", "base"] {
        let at = volume.join(path);
        rustix::fs::utimensat(rustix::fs::CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
    }
    fs::set_permissions(volume.join("base"), fs::Permissions::from_mode(0o2550)).expect("a mode");
}

#[test]
fn everything_of_a_volume_comes_back_as_it_was() {
    let place = Place::new();
    furnish(&place.at("volume"));
    // Nobody is left to hear of it.
    let socket = std::os::unix::net::UnixListener::bind(place.at("volume/socket")).expect("a socket");
    let before = facts(&place.at("volume"));
    let written = place.write("shelf.softbackup", &Lock::default()).expect("a backup");
    drop(socket);
    assert!(written.opened && written.header.bytes < 4 << 20, "holes take no room: {}", written.header.bytes);
    let bytes = fs::read(place.at("shelf.softbackup")).expect("the file");
    assert_eq!(written.blake3, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!(written.bytes, bytes.len() as u64);
    assert_eq!(place.at("shelf.softbackup").metadata().expect("a file").mode() & 0o777, 0o600);
    assert!(!bytes.windows(4).any(|w| w == b"rows"), "nothing of it is readable");

    let header = place.read("shelf.softbackup", &Keys::default()).expect("restored");
    assert_eq!(header, written.header);
    let restored = place.at("out/restored/volumes/data.rows");
    let mut expected = before;
    expected.remove(Path::new("socket"));
    // The folder itself was changed by the socket's coming; its time is what it was then.
    let after = facts(&restored);
    assert_eq!(after.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, facts) in &expected {
        assert_eq!(after[path], *facts, "{}", path.display());
    }
    let sparse = restored.join("sparse").metadata().expect("a file");
    assert!(sparse.blocks() * 512 < 4 << 20, "a hole stays a hole: {} blocks", sparse.blocks());
    fs::set_permissions(restored.join("base"), fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::set_permissions(place.at("volume/base"), fs::Permissions::from_mode(0o700)).expect("a mode");
}

#[test]
fn only_the_right_key_opens_it() {
    let place = Place::new();
    fs::write(place.at("volume/row"), "rows").expect("a file");
    let (theirs, phrase) = (age::x25519::Identity::generate(), place.at("phrase"));
    fs::write(&phrase, "correct horse battery staple\nnot this line\n").expect("a passphrase");
    let to_them = Lock { recipients: vec![theirs.to_public().to_string()], ..Lock::default() };
    let by_phrase = Lock { passphrase_file: Some(phrase.clone()), ..Lock::default() };
    let own = place.write("own", &Lock::default()).expect("for this home");
    assert!(own.opened && own.recipients[0].starts_with("age1"));
    assert!(!place.write("theirs", &to_them).expect("for them").opened, "this home cannot open it");
    assert!(place.write("phrase-locked", &by_phrase).expect("by passphrase").opened);

    let phrase = Keys { passphrase_file: Some(phrase), ..Keys::default() };
    for (file, keys) in [("theirs", Keys::default()), ("own", phrase.clone()), ("phrase-locked", Keys::default())] {
        let refused = place.read(file, &keys).expect_err("another key");
        assert!(matches!(refused, BackupError::Locked { .. }), "{file}: {refused}");
        assert!(!place.at("out/restored").exists());
    }
    let wrong = place.at("wrong");
    fs::write(&wrong, "wrong\n").expect("a passphrase");
    let refused = place.read("phrase-locked", &Keys { passphrase_file: Some(wrong), ..Keys::default() });
    assert!(matches!(refused, Err(BackupError::Locked { .. })), "{refused:?}");

    place.read("phrase-locked", &phrase).expect("the right passphrase");
    fs::remove_dir_all(place.at("out/restored")).expect("removed");
    let key = place.at("their-key");
    use age::secrecy::ExposeSecret as _;
    fs::write(&key, format!("# theirs\n{}\n", theirs.to_string().expose_secret())).expect("a key");
    place.read("theirs", &Keys { identity_file: Some(key), ..Keys::default() }).expect("their own key");
    let mode = seal::key_file(&place.at("home")).metadata().expect("the home's key").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn both_a_passphrase_and_keys_are_too_much_and_a_bad_recipient_is_named() {
    let place = Place::new();
    fs::write(place.at("phrase"), "x\n").expect("a passphrase");
    let both = Lock { recipients: vec!["age1x".into()], passphrase_file: Some(place.at("phrase")) };
    assert!(matches!(place.write("a", &both), Err(BackupError::Key { .. })));
    let bad = Lock { recipients: vec!["age1x".into()], ..Lock::default() };
    let refused = place.write("a", &bad).expect_err("no recipient").to_string();
    assert!(refused.contains("age1x"), "{refused}");
    assert!(fs::read_dir(place.scratch.path()).expect("a list").count() == 4, "nothing is left behind");
}

#[test]
fn a_backup_overwrites_nothing_and_a_failed_one_leaves_nothing() {
    let place = Place::new();
    fs::write(place.at("taken"), "precious").expect("a file");
    assert!(matches!(place.write("taken", &Lock::default()), Err(BackupError::Exists(_))));
    assert_eq!(fs::read(place.at("taken")).expect("it is there"), b"precious");
    fs::write(place.at("volume/row"), vec![1; 1 << 20]).expect("a file");
    let stopped = write(
        &Target::new(&place.at("stopped")).expect("a target"),
        &place.at("home"),
        &Lock::default(),
        header(),
        &place.sources(),
        me(),
        &|_, bytes, _| bytes < 500_000,
    );
    assert!(matches!(stopped, Err(BackupError::CalledOff)));
    let left: Vec<_> =
        fs::read_dir(place.scratch.path()).expect("a list").map(|e| e.expect("one").file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn nothing_is_unpacked_that_the_header_forbids() {
    let place = Place::new();
    fs::write(place.at("volume/row"), "rows").expect("a file");
    place.write("b", &Lock::default()).expect("a backup");
    let refuse = &mut |_: &Header| Err(BackupError::CalledOff);
    let at = place.at("out/restored");
    let refused = read(&place.at("b"), &place.at("home"), &Keys::default(), &at, me(), refuse, &|_, _, _| true);
    assert!(matches!(refused, Err(BackupError::CalledOff)) && !at.exists());
}

/// A stream that nobody of good will writes, encrypted with the right key.
fn forged(place: &Place, file: &str, stream: &[u8]) {
    let target = Target::new(&place.at(file)).expect("a target");
    let mut sealing = Sealing::begin(&target, &place.at("home"), &Lock::default()).expect("begun");
    sealing.write(stream).expect("written");
    sealing.finish().expect("finished").keep().expect("kept");
}

#[test]
fn a_forged_backup_with_the_right_key_is_refused() {
    let place = Place::new();
    forged(&place, "noise", b"softbkp\nnoise and no more");
    forged(&place, "zip", b"PK\x03\x04 something else entirely");
    forged(&place, "bomb", &[&b"softbkp\n"[..], &u32::MAX.to_le_bytes(), &[0; 64]].concat());
    fs::write(place.at("plain"), "just a text").expect("a file");
    fs::write(place.at("endless"), [&b"age-encryption.org/v1\n"[..], &vec![b'x'; 1 << 20]].concat()).expect("a file");
    // A header that wants more room than any disk has.
    let parts = vec![Part::Secrets];
    let huge = Header { parts, entries: u64::MAX, bytes: u64::MAX, ..header() };
    let (_, stream) = softservice_protocol::archive::Writer::begin(huge).expect("a sound header");
    forged(&place, "huge", &stream);
    for (file, what) in [
        ("noise", "Damaged"),
        ("zip", "Foreign"),
        ("bomb", "Damaged"),
        ("plain", "Foreign"),
        ("endless", "Damaged"),
        ("huge", "Space"),
    ] {
        let refused = place.read(file, &Keys::default()).expect_err(file);
        assert!(format!("{refused:?}").starts_with(what), "{file}: {refused:?}");
        assert!(!place.at("out/restored").exists(), "{file} left something");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_called_damaged_or_no_backup() {
    let place = Place::new();
    fs::write(place.at("volume/row"), "rows").expect("a file");
    place.write("b", &Lock::default()).expect("a backup");
    let bytes = fs::read(place.at("b")).expect("the file");
    for length in 0..bytes.len() {
        fs::write(place.at("b"), &bytes[..length]).expect("cut");
        let refused = place.read("b", &Keys::default()).expect_err("it is not whole");
        let named = matches!(refused, BackupError::Damaged { .. } | BackupError::Foreign { .. });
        assert!(named, "cut after {length} of {} bytes: {refused:?}", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_change_of_a_file_passes(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>()) {
        let place = Place::new();
        fs::write(place.at("volume/row"), vec![3; 200_000]).expect("a file");
        place.write("b", &Lock::default()).expect("a backup");
        let mut bytes = fs::read(place.at("b")).expect("the file");
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        fs::write(place.at("b"), bytes).expect("changed");
        prop_assert!(place.read("b", &Keys::default()).is_err());
        prop_assert!(!place.at("out/restored").exists());
    }
}
