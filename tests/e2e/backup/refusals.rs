//! Files that are not what they should be, and disks without room. Invariant: whatever is refused changed nothing.

use super::{Story, fill, leftovers, noise, rows, settled};
use softservice_tests::{
    root_or_skip,
    sources::{listing, text},
};
use std::{fs, path::PathBuf, process::Command};

#[test]
fn a_file_that_is_not_whole_or_not_ours_changes_nothing() {
    let story = Story::begin();
    let Story { world, bob, file, key, .. } = &story;
    story.move_on();
    let (bytes, before) = (fs::read(file).expect("a backup"), listing(&bob.home.join("softservices/shelf/volumes")));
    let (spoilt, kept) = (world.path("kept/spoilt"), world.path("kept"));
    let refused = |what: &str, codes: &[i32], more: &[&str]| {
        let all = [&["restore", "shelf", text(&spoilt), "--replace", "--yes", "--accept-reduced"], more].concat();
        let (code, answer) = bob.verb(&all);
        assert!(codes.contains(&code), "{what}: {code}, {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("spoilt")), "{what}: {answer}");
        assert_eq!(listing(&bob.home.join("softservices/shelf/volumes")), before, "{what}");
        assert_eq!(leftovers(bob, &kept), Vec::<PathBuf>::new(), "{what}");
    };
    let head = bytes.windows(5).position(|w| w == b"\n--- ").expect("an age header has an end");
    // In age's header a flipped byte may make it another format, another recipient or a header that was tampered with; in
    // what follows it is damage and nothing else.
    let places = [(0, &[2, 6][..]), (30, &[2, 4, 6]), (head - 10, &[4, 6]), (head + 10, &[4, 6])];
    let after = [head + 60, head + 200, bytes.len() / 3, bytes.len() / 2, bytes.len() - 20, bytes.len() - 1];
    for (at, codes) in places.into_iter().chain(after.into_iter().map(|at| (at, &[6][..]))) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        fs::write(&spoilt, changed).expect("it can be written");
        refused(&format!("a flipped byte at {at} of {}", bytes.len()), codes, &[]);
    }
    for length in [0, 10, head, head + 40, bytes.len() / 2, bytes.len() - 16, bytes.len() - 1] {
        fs::write(&spoilt, &bytes[..length]).expect("it can be written");
        refused(&format!("cut after {length} of {} bytes", bytes.len()), if length < 22 { &[2] } else { &[4, 6] }, &[]);
    }
    fs::write(&spoilt, [&bytes[..], &bytes[..]].concat()).expect("it can be written");
    refused("twice over", &[6], &[]);

    // The whole file with a key of somebody else, by a key file and as another's own.
    fs::write(&spoilt, &bytes).expect("it can be written");
    let carol = world.node("carol");
    carol.ok(&["subscribe", story.ann.ok(&["ticket"])["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    carol.ok(&["up", "shelf", "--yes", "--accept-reduced"]);
    carol.ok(&["backup", "shelf", text(&world.path("kept/carols"))]);
    refused("a wrong key", &[4], &["--identity", text(&carol.home.join("backup-key.txt"))]);
    let (code, answer) = carol.verb(&["restore", "shelf", text(&spoilt), "--replace", "--yes"]);
    assert_eq!(code, 4, "bob's file is not for carol's own key: {answer}");
    assert!(!answer.to_string().contains("AGE-SECRET"), "no key is told");

    let list = settled(bob);
    assert_eq!((&list[0]["version"], &list[0]["generation"]), (&"2.0.0".into(), &2.into()), "{list}");
    let right = ["restore", "shelf", text(&spoilt), "--replace", "--yes", "--identity", text(key)];
    assert_eq!(bob.ok(&right)["version"], "1.0.0", "the same file, unspoilt, with its key");
    assert!(rows(bob).join("deep/first").exists() && !rows(bob).join("deep/second").exists());
}

/// A small file system of its own; unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(folder: PathBuf, size: &str) -> Self {
        fs::create_dir(&folder).expect("a folder can be made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&folder).output();
        let mounted = mounted.expect("mount runs");
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a node of the story may still have its home there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_takes_nothing_away() {
    if !root_or_skip("small file systems to fill") {
        return;
    }
    let story = Story::begin();
    let Story { world, ann, bob, key, .. } = &story;
    fs::write(rows(bob).join("large"), noise("large", 24 << 20)).expect("it can be written");
    let before = listing(&rows(bob));

    let stick = Small::mount(world.path("stick"), "size=8m");
    let (code, refused) = bob.verb(&["backup", "shelf", text(&stick.0.join("shelf.softbackup"))]);
    assert_eq!(code, 1, "{refused}");
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("No space left")), "{refused}");
    assert_eq!(fs::read_dir(&stick.0).expect("a folder").count(), 0, "nothing of it stays there");
    assert_eq!(bob.ok(&["backup", "shelf", "--list"]).as_array().map(Vec::len), Some(1), "only the first one was made");
    settled(bob);
    assert_eq!(listing(&rows(bob)), before);

    let file = world.path("kept/large");
    bob.ok(&["backup", "shelf", text(&file)]);
    let small = Small::mount(world.path("small"), "size=120m");
    let mut carol = world.home("small/carol");
    carol.start();
    carol.ok(&["subscribe", ann.ok(&["ticket"])["ticket"].as_str().expect("a ticket"), "--as", "ann"]);
    carol.ok(&["up", "shelf", "--yes", "--accept-reduced"]);
    fill(&carol, "carols");
    // Room for a part of it only.
    fs::write(small.0.join("filler"), noise("filler", 100 << 20)).expect("there is room for that");
    let mine = listing(&rows(&carol));
    let restore = ["restore", "shelf", text(&file), "--identity", text(key), "--replace", "--yes", "--accept-reduced"];
    let (code, refused) = carol.verb(&restore);
    assert_eq!(code, 1, "{refused}");
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("make room first")), "{refused}");
    assert_eq!(settled(&carol)[0]["generation"], 1);
    assert_eq!(listing(&rows(&carol)), mine);
    assert_eq!(leftovers(&carol, &world.path("kept")), Vec::<PathBuf>::new());
    fs::remove_file(small.0.join("filler")).expect("it can go");
    assert_eq!(carol.ok(&restore)["state"], "running");
    assert_eq!(listing(&rows(&carol)), before);
    carol.ok(&["remove", "shelf", "--data"]);
    carol.stop();
}
