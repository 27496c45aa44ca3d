//! Snapshots of folders with everything in them that a file system knows, compared bit by bit.

use super::{copy, *};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, mknodat, open, statat};
use std::{
    collections::BTreeMap,
    os::unix::{fs::FileExt, fs::PermissionsExt, fs::symlink},
    process::Command,
};

/// A softservice with one volume, `main.data`, that holds a bit of everything.
struct Home {
    _scratch: tempfile::TempDir,
    place: Place,
}

const VOLUME: &str = "main.data";

impl Home {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        Self::at(scratch.path().to_owned(), scratch)
    }
    fn at(softservices: PathBuf, scratch: tempfile::TempDir) -> Self {
        let place = Place::new(&softservices, "shelf").expect("a name");
        place.make().expect("folders");
        fs::create_dir_all(place.generation(1).path).expect("generation 1");
        fs::create_dir_all(place.generation(2).path).expect("generation 2");
        fs::create_dir(place.volume(VOLUME)).expect("a volume");
        furnish(&place.volume(VOLUME));
        Self { _scratch: scratch, place }
    }
    fn data(&self) -> PathBuf {
        self.place.volume(VOLUME)
    }
    fn snapshots(&self) -> Snapshots<'_> {
        Snapshots { place: &self.place }
    }
    fn take(&self, next: u32) {
        let epochs = BTreeMap::from([(String::new(), 1)]);
        self.snapshots().take(1, next, &epochs, &[VOLUME.into()]).expect("a snapshot");
    }
    /// What a new generation may do to data before it fails.
    fn ruin(&self) {
        let data = self.data();
        fs::write(data.join("rows"), "migrated, half").expect("write");
        fs::remove_dir_all(data.join("deep")).expect("remove");
        fs::write(data.join("new"), "of the new one").expect("write");
        fs::set_permissions(data.join("hard"), fs::Permissions::from_mode(0o600)).expect("chmod");
    }
}

fn furnish(data: &Path) {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    fs::write(data.join("rows"), "one\ntwo\n").expect("rows");
    mode(&data.join("rows"), 0o640);
    fs::write(data.join("program"), "#!/bin/sh\n").expect("program");
    mode(&data.join("program"), 0o4755);
    fs::write(data.join("empty"), "").expect("empty");
    fs::create_dir_all(data.join("deep/er/est")).expect("folders");
    fs::write(data.join("deep/er/est/file with\nodd name"), vec![7; 300_000]).expect("file");
    fs::hard_link(data.join("deep/er/est/file with\nodd name"), data.join("hard")).expect("hard link");
    symlink("deep/er", data.join("inside")).expect("link");
    symlink("/nothing/here", data.join("dangling")).expect("link");
    let sparse = fs::File::create(data.join("sparse")).expect("sparse");
    sparse.set_len(64 << 20).expect("size");
    sparse.write_all_at(b"in the middle", 10 << 20).expect("write");
    sparse.write_all_at(b"end", (64 << 20) - 3).expect("write");
    let file = fs::File::open(data.join("rows")).expect("open");
    fsetxattr(&file, "user.origin", b"attic", XattrFlags::empty()).expect("an attribute");
    mknodat(CWD, data.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    fs::create_dir(data.join("closed")).expect("folder");
    fs::write(data.join("closed/file"), "in a folder that nobody may write to").expect("file");
    mode(&data.join("closed"), 0o555);
    mode(&data.join("deep/er"), 0o2750);
    if rustix::process::geteuid().is_root() {
        let other = Some(rustix::fs::Uid::from_raw(12345));
        rustix::fs::chownat(CWD, data.join("rows"), other, None, AtFlags::empty()).expect("chown");
        rustix::fs::chownat(CWD, data.join("dangling"), other, None, AtFlags::SYMLINK_NOFOLLOW).expect("chown");
    }
    // A time that no copy has by accident.
    let old = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    for path in ["rows", "deep/er/est", "deep", "dangling", "closed"] {
        rustix::fs::utimensat(CWD, data.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
    }
}

/// Everything of a folder that can be seen, by path. Pipes are left out: no data is in them.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(root.join(&path)).expect("list") {
            let below = path.join(entry.expect("entry").file_name());
            let full = root.join(&below);
            let stat = statat(CWD, &full, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
            let kind = FileType::from_raw_mode(stat.st_mode);
            let content = match kind {
                FileType::RegularFile => {
                    let mut value = [0; 64];
                    let file = fs::File::open(&full).expect("open");
                    let origin = rustix::fs::fgetxattr(&file, "user.origin", &mut value).map_or(0, |n| n);
                    let hash = blake3::hash(&fs::read(&full).expect("read"));
                    let sparse = (stat.st_blocks as u64 * 512) < stat.st_size as u64 / 2;
                    format!("{hash} {} {} {sparse} {:?}", stat.st_size, stat.st_nlink, &value[..origin])
                }
                FileType::Symlink => format!("{:?}", fs::read_link(&full).expect("link")),
                FileType::Directory => {
                    folders.push(below.clone());
                    String::new()
                }
                _ => continue,
            };
            let (mode, owner) = (stat.st_mode, (stat.st_uid, stat.st_gid));
            let time = (stat.st_mtime, stat.st_mtime_nsec);
            // The time of the folder that a pipe is not copied into differs by nothing: it is set at the end.
            seen.insert(below, format!("{mode:o} {owner:?} {time:?} {content}"));
        }
    }
    seen
}

#[test]
fn a_failed_update_returns_data_bit_by_bit() {
    let home = Home::new();
    let before = seen(&home.data());
    assert!(before.len() > 12 && before[Path::new("sparse")].contains(" true "), "{before:#?}");
    home.take(2);
    let kept = home.snapshots().whole(1).expect("readable").expect("whole");
    assert_eq!(kept.skipped[VOLUME], ["pipe"], "what is not in it is told");
    assert_eq!(seen(&home.place.snapshots().join("1").join(VOLUME)), before, "the snapshot");
    home.ruin();
    home.take(2);
    home.snapshots().restore(1, 3).expect("not for this switch");
    assert_ne!(seen(&home.data()), before, "a snapshot for another switch is never put back");
    home.snapshots().restore(1, 2).expect("restored");
    assert_eq!(seen(&home.data()), before);
    assert!(home.snapshots().whole(1).expect("readable").is_none(), "it was moved, not copied");
    home.snapshots().restore(1, 2).expect("repeated, it has nothing to do");
    assert_eq!(seen(&home.data()), before);
    let left: Vec<_> =
        fs::read_dir(home.place.volumes()).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(left, [VOLUME], "the failed data is gone");
}

#[test]
fn a_restoring_that_was_cut_off_anywhere_is_finished() {
    type Cut = fn(&Home);
    let aside = |home: &Home| home.place.volumes().join(format!(".{VOLUME}.failed"));
    let cuts: [(&str, Cut); 5] = [
        ("before anything", |_| {}),
        ("between the two renames", |home| {
            fs::rename(home.data(), home.place.volumes().join(format!(".{VOLUME}.failed"))).expect("rename");
        }),
        ("after both", |home| {
            fs::rename(home.data(), home.place.volumes().join(format!(".{VOLUME}.failed"))).expect("rename");
            fs::rename(home.place.snapshots().join("1").join(VOLUME), home.data()).expect("rename");
        }),
        ("while the failed data was removed", |home| {
            let aside = home.place.volumes().join(format!(".{VOLUME}.failed"));
            fs::rename(home.data(), &aside).expect("rename");
            fs::rename(home.place.snapshots().join("1").join(VOLUME), home.data()).expect("rename");
            fs::remove_dir_all(aside.join("closed")).expect("remove");
        }),
        ("when an earlier one had left its own", |home| {
            let aside = home.place.volumes().join(format!(".{VOLUME}.failed"));
            fs::create_dir(&aside).expect("folder");
            fs::write(aside.join("old"), "").expect("file");
        }),
    ];
    for (what, cut) in cuts {
        let home = Home::new();
        let before = seen(&home.data());
        home.take(2);
        home.ruin();
        cut(&home);
        home.snapshots().restore(1, 2).unwrap_or_else(|e| panic!("cut off {what}: {e}"));
        assert_eq!(seen(&home.data()), before, "cut off {what}");
        assert!(!aside(&home).exists(), "cut off {what}");
    }
}

#[test]
fn a_snapshot_that_was_cut_off_is_none() {
    let home = Home::new();
    let before = seen(&home.data());
    let beside = home.place.snapshots().join(".1.making");
    fs::create_dir(&beside).expect("folder");
    copy::tree(&home.data(), &beside.join(VOLUME), false).expect("a copy");
    home.snapshots().restore(1, 2).expect("nothing to put back");
    assert_eq!(seen(&home.data()), before);
    assert!(!beside.exists());
    // What an earlier switch kept and could not put back is not taken for this one's.
    home.take(2);
    home.ruin();
    let ruined = seen(&home.data());
    home.take(3);
    home.snapshots().restore(1, 3).expect("restored");
    assert_eq!(seen(&home.data()), ruined);
}

#[test]
fn older_data_comes_back_and_the_newer_is_kept() {
    let home = Home::new();
    let old = seen(&home.data());
    home.take(2);
    home.ruin();
    let new = seen(&home.data());
    // Generation 3 is to run on the data of generation 1 again.
    home.snapshots().take(2, 3, &BTreeMap::from([(String::new(), 2)]), &[VOLUME.into()]).expect("a snapshot");
    for _ in 0..2 {
        home.snapshots().bring_back(1).expect("brought back");
        assert_eq!(seen(&home.data()), old);
    }
    home.snapshots().restore(2, 3).expect("and it failed");
    assert_eq!(seen(&home.data()), new);
    assert!(home.snapshots().whole(1).expect("readable").is_some(), "the older data is still kept");
    assert!(matches!(home.snapshots().bring_back(9), Err(DeviceError::NoSnapshot { generation: 9, .. })));
    home.snapshots().prune(Some(1)).expect("pruned");
    assert!(home.snapshots().whole(1).expect("readable").is_none());
}

/// A file system of its own, gone with the test.
struct Mounted(PathBuf);

impl Mounted {
    /// None, loudly, where nobody may mount.
    fn new(at: &Path, arguments: &[&str]) -> Option<Self> {
        let run = Command::new("mount").args(arguments).arg(at).output();
        match run {
            Ok(done) if done.status.success() => Some(Self(at.to_owned())),
            other => {
                eprintln!("SKIPPED: mount {arguments:?} does not work here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(done.is_ok_and(|s| s.success()), "{} stays mounted", self.0.display());
    }
}

#[test]
fn without_room_the_update_is_refused_before_anything_stops() {
    let scratch = tempfile::tempdir().expect("a folder");
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).expect("folder");
    let Some(_mounted) = Mounted::new(&disk, &["-t", "tmpfs", "-o", "size=100m", "tmpfs"]) else { return };
    let home = Home::at(disk, scratch);
    let check = || home.snapshots().check(&home.snapshots().means(&[VOLUME.into()]).expect("means"), None);
    check().expect("little data has room");
    fs::write(home.data().join("big"), vec![1; 40 << 20]).expect("write");
    let error = check().expect_err("no room");
    let DeviceError::NoRoom { need, free, .. } = &error else { panic!("{error}") };
    assert!(*need > 40 << 20 && *free < 64 << 20, "{error}");
    assert!(error.to_string().contains("nothing was stopped"), "{error}");
}

#[test]
fn a_volume_that_is_a_mount_is_put_back_in_its_place() {
    let home = Home::new();
    let moved = home.place.root().join("moved");
    fs::rename(home.data(), &moved).expect("rename");
    fs::create_dir(home.data()).expect("folder");
    let Some(_mounted) = Mounted::new(&home.data(), &["-t", "tmpfs", "-o", "size=100m", "tmpfs"]) else { return };
    copy::tree(&moved, &home.data(), false).expect("moved onto the mount");
    let before = seen(&home.data());
    home.take(2);
    home.ruin();
    home.snapshots().restore(1, 2).expect("restored");
    assert_eq!(seen(&home.data()), before);
}

#[test]
fn a_mount_inside_a_volume_is_refused_before_anything_stops() {
    let home = Home::new();
    let inside = home.data().join("disk");
    fs::create_dir(&inside).expect("folder");
    let Some(_mounted) = Mounted::new(&inside, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) else { return };
    fs::write(inside.join("precious"), "text").expect("write");
    let error = home.snapshots().means(&[VOLUME.into()]).expect_err("refused");
    assert!(error.to_string().contains("another file system is mounted there"), "{error}");
    assert!(inside.join("precious").exists());
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    let scratch = tempfile::tempdir().expect("a folder");
    let (image, disk) = (scratch.path().join("image"), scratch.path().join("disk"));
    fs::File::create(&image).expect("image").set_len(600 << 20).expect("size");
    fs::create_dir(&disk).expect("folder");
    let made = ["mkfs.xfs", "mkfs.btrfs"]
        .iter()
        .any(|mkfs| Command::new(mkfs).arg("-q").arg(&image).output().is_ok_and(|done| done.status.success()));
    if !made {
        eprintln!("SKIPPED: neither mkfs.xfs nor mkfs.btrfs is here to try shared blocks on");
        return;
    }
    let image = image.display().to_string();
    let Some(_mounted) = Mounted::new(&disk, &["-o", "loop", &image]) else { return };
    let free = |path: &Path| rustix::fs::statvfs(path).map(|s| s.f_bavail * s.f_frsize).expect("statvfs");
    let home = Home::at(disk.clone(), scratch);
    fs::write(home.data().join("big"), vec![1; 100 << 20]).expect("write");
    rustix::fs::syncfs(open(&disk, OFlags::RDONLY, Mode::empty()).expect("open")).expect("sync");
    let (before, room) = (seen(&home.data()), free(&disk));
    assert!(home.snapshots().means(&[VOLUME.into()]).expect("means").iter().all(|m| m.clone));
    home.take(2);
    assert!(room - free(&disk) < 10 << 20, "100 MiB were copied instead of shared");
    home.ruin();
    home.snapshots().restore(1, 2).expect("restored");
    assert_eq!(seen(&home.data()), before);
}
