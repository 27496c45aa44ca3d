//! Nodes killed in the middle of a restore and of a backup. Invariant: afterwards it is what was there or what was backed up,
//! whole, and nothing of the other lies about.

use super::{Story, leftovers, noise, rows, settled};
use softservice_tests::{
    Node,
    crash::{processes, watch},
    process::PATIENCE,
    sources::{listing, text},
    visit::{self, url},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Instant,
};

/// Steps of a restore over what runs, in their order.
const STEPS: [&str; 8] = ["stage", "stop_previous", "snapshot", "migrate", "point", "start", "confirm", "commit"];

/// Starts a verb and kills the node, and with `all` whatever it started, as soon as `now` says so; told whenever `folder`
/// changes.
fn kill_when(node: &mut Node, verb: &[&str], folder: &Path, all: bool, mut now: impl FnMut() -> bool) {
    let (tell, told) = mpsc::channel::<watch::Change>();
    watch::changes(folder, tell).expect("a folder can be watched");
    let mut running = node.spawn(verb);
    let end = Instant::now() + PATIENCE;
    while !now() {
        assert!(Instant::now() < end, "{verb:?} does not come so far");
        // Over before it was seen: it is killed all the same. The wait only bounds how late that is noticed.
        if running.try_wait().expect("it can be asked").is_some() {
            break;
        }
        let _ = told.recv_timeout(std::time::Duration::from_millis(50));
    }
    node.kill();
    if all {
        for process in processes::of(&node.home) {
            process.signal(rustix::process::Signal::KILL);
        }
    }
    let _ = running.kill();
    let _ = running.wait();
}

#[test]
fn a_restore_killed_at_any_step_leaves_what_was_there_or_what_was_backed_up() {
    let mut story = Story::begin();
    story.move_on();
    let home = story.bob.home.join("softservices/shelf");
    let kept = story.world.path("kept");
    let whole = |node: &Node| (listing(&rows(node)), listing(&node.home.join("softservices/shelf/secrets")));
    let second = whole(&story.bob);
    let file = text(&story.file).to_owned();
    let restore = ["restore", "shelf", &file, "--replace", "--yes", "--accept-reduced"];
    let (mut old, mut new) = (0, 0);
    for (step, all) in STEPS.into_iter().flat_map(|step| [(step, false), (step, true)]) {
        let from = fs::metadata(home.join("journal")).map_or(0, |m| m.len());
        let begun = || watch::journal(&home, from).iter().any(|l| l.effect == step && l.mark == "begun");
        kill_when(&mut story.bob, &restore, &home, all, begun);
        story.bob.start();
        let list = settled(&story.bob);
        let (version, now) = (list[0]["version"].clone(), whole(&story.bob));
        let page = visit::page(&url(&list[0]));
        let what = format!("killed at {step}, all: {all}: {list}");
        if version == "2.0.0" {
            old += 1;
            assert!(now == second && page.contains("version 2"), "{what}");
        } else {
            new += 1;
            assert_eq!(version, "1.0.0", "{what}");
            assert!(page.contains("version 1") && rows(&story.bob).join("deep/first").exists(), "{what}");
            assert!(!rows(&story.bob).join("deep/second").exists() && now.1 == second.1, "{what}");
            story.update();
            assert_eq!(whole(&story.bob), second, "{what}");
        }
        assert_eq!(leftovers(&story.bob, &kept), Vec::<PathBuf>::new(), "{what}");
    }
    eprintln!("killed {} restores: {old} times what was there runs on, {new} times what was backed up", old + new);
    assert!(old > 0 && new > 0, "both ends were seen");
}

#[test]
fn a_backup_killed_anywhere_leaves_a_whole_file_or_none() {
    let mut story = Story::begin();
    // More than a moment's work.
    fs::write(rows(&story.bob).join("large"), noise("large", 24 << 20)).expect("it can be written");
    let (home, kept) = (story.bob.home.join("softservices/shelf"), story.world.path("kept"));
    let before = listing(&rows(&story.bob));
    let draft = || {
        let entries = fs::read_dir(&kept).expect("a folder").flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(".softbackup-")).map(|e| e.path()).next()
    };
    let bytes = |path: Option<PathBuf>| path.and_then(|p| p.metadata().ok()).map_or(0, |m| m.len());
    let scratch = home.join("backup");
    for (number, what) in
        ["its scratch folder", "the copies", "the draft", "half of it", "all of it"].into_iter().enumerate()
    {
        let file = kept.join(format!("killed-{number}"));
        let now = || match number {
            0 => scratch.exists(),
            1 => scratch.join("volumes/main.rows/rows").exists(),
            2 => draft().is_some(),
            3 => bytes(draft()) > 12 << 20,
            _ => bytes(draft()) >= 24 << 20,
        };
        let folder = if number < 2 { home.clone() } else { kept.clone() };
        kill_when(&mut story.bob, &["backup", "shelf", text(&file)], &folder, number % 2 == 1, now);
        let was_left = leftovers(&story.bob, &kept).len();
        story.bob.start();
        settled(&story.bob);
        assert_eq!(leftovers(&story.bob, &kept), Vec::<PathBuf>::new(), "killed at {what}");
        assert_eq!(listing(&rows(&story.bob)), before, "killed at {what}");
        eprintln!(
            "killed at {what}: {was_left} things were left, {} under its name",
            if file.exists() { "a file" } else { "nothing" }
        );
        if !file.exists() {
            story.bob.ok(&["backup", "shelf", text(&file)]);
        }
        let again = format!("again-{number}");
        let restored = story.bob.ok(&["restore", &again, text(&file), "--yes", "--accept-reduced"]);
        assert_eq!(restored["state"], "running", "{restored}");
        assert_eq!(listing(&story.bob.home.join(format!("softservices/{again}/volumes/main.rows"))), before);
        story.bob.ok(&["remove", &again, "--data"]);
    }
}
