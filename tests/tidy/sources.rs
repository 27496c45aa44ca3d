//! Sizes and leftovers. Invariant: files only shrink towards the limit, never grow past it.

use softservice_tests::sources::repository;
use std::{fs, path::Path};

/// Look again at 400; no file may pass this.
const LINES: usize = 600;

/// All Rust files below a folder of the repository: path relative to it, and text.
pub(crate) fn rust_files(folder: &str) -> Vec<(String, String)> {
    fn walk(path: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|n| n != "target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = repository();
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    let name = |p: &Path| p.strip_prefix(&root).expect("it is below").display().to_string();
    found.iter().map(|p| (name(p), fs::read_to_string(p).expect("sources are UTF-8"))).collect()
}

fn all() -> impl Iterator<Item = (String, String)> {
    ["protocol", "store", "node", "cli", "simulations", "tests", "examples"].into_iter().flat_map(rust_files)
}

#[test]
fn no_file_is_a_giant() {
    for (path, text) in all() {
        let lines = text.lines().count();
        assert!(lines <= LINES, "{path} has {lines} lines; is it one noun?");
    }
}

#[test]
fn every_file_opens_with_its_job() {
    for (path, text) in all() {
        assert!(text.starts_with("//!"), "{path} does not say what it is for");
    }
}

#[test]
fn nothing_is_left_for_later() {
    for (path, text) in all() {
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")] {
            assert!(!text.contains(word), "{path} holds {word}");
        }
    }
}

/// A test that nobody runs says nothing: figures are printed by `cargo bench`, long runs by programs of their own.
#[test]
fn no_test_is_switched_off() {
    for (path, text) in all() {
        assert!(!text.contains(concat!("#[", "ignore")), "{path} holds a test that does not run");
    }
}

#[test]
fn no_drawer_for_everything() {
    for (path, _) in all() {
        let stem = Path::new(&path).file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        assert!(!["utils", "util", "common", "types", "helpers", "misc", "core"].contains(&stem.as_str()), "{path}");
    }
}
