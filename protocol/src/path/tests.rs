//! Each rule of paths, links and trees at its limit and one beyond.

use super::*;
use crate::{
    chunk::{self, ChunkRef},
    id::ChunkId,
};

fn dir(path: &str) -> TreeEntry {
    TreeEntry { path: path.into(), node: Node::Dir }
}
fn link(path: &str, target: &str) -> TreeEntry {
    TreeEntry { path: path.into(), node: Node::Symlink { target: target.into() } }
}
fn file(path: &str, content: &[u8]) -> TreeEntry {
    let mut at = 0;
    let mut chunks: Vec<ChunkRef> = chunk::cut(content)
        .into_iter()
        .map(|len| {
            let piece = &content[at..at + len as usize];
            at += len as usize;
            ChunkRef { id: ChunkId::of(piece), len }
        })
        .collect();
    if chunks.len() < 2 {
        chunks.clear();
    }
    let node = Node::File { executable: false, object: ObjectId::of(content), size: content.len() as u64, chunks };
    TreeEntry { path: path.into(), node }
}
fn rule(entries: Vec<TreeEntry>) -> Rule {
    match (Manifest { cutting: Cutting::STANDARD, entries }).check() {
        Ok(()) => "",
        Err(error) => error.rule,
    }
}
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_real_tree_passes() {
    let tree = vec![
        dir("bin"),
        file("bin/serve", &noise(700_000)),
        link("bin/web", "../share/./web"),
        file("empty", b""),
        dir("share"),
        file("share/web", &noise(16 << 10)),
    ];
    assert_eq!(rule(tree), "");
}

#[test]
fn paths_that_file_systems_read_differently_are_refused() {
    for good in ["a", "a/b", "ä", "..a", "a..b", "...a", ".config", "COM", "com10", "nulls", "console", "a b"] {
        assert_eq!(check_path(good), Ok(()), "{good}");
    }
    let bad = [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/./b", "a\0b", "a\nb", "a\u{7f}", "a\u{85}b", "a\\b", "c:d",
        "a.", "a ", "a./b", "...", "nul", "NUL.txt", "a/Con", "aux .c", "com1", "LPT9.x.y", "com²", "conin$",
        "a\u{308}",
    ];
    for path in bad {
        assert!(check_path(path).is_err(), "{path:?}");
    }
}

#[test]
fn lengths_and_depth_hold_at_the_limit_and_not_beyond() {
    assert!(check_path(&"c".repeat(255)).is_ok());
    assert!(check_path(&"c".repeat(256)).is_err());
    let long = |n: usize| format!("{}/{}", vec!["d".repeat(255); 3].join("/"), "e".repeat(n));
    assert_eq!(long(255).len(), 1023);
    assert!(check_path(&long(255)).is_ok());
    assert!(check_path(&format!("{}/x", long(254))).is_ok());
    assert!(check_path(&format!("{}/xy", long(254))).is_err());
    let deep = |n| vec!["d"; n].join("/");
    assert!(check_path(&deep(17)).is_ok(), "a file below 16 folders");
    assert!(check_path(&deep(18)).is_err());
}

#[test]
fn links_stay_inside_however_they_are_chained() {
    assert_eq!(check_target("a/b/l", "../../c"), Ok(()));
    assert_eq!(check_target("l", "."), Ok(()));
    assert_eq!(check_target("a/l", ".././"), Ok(()));
    for (path, target) in [
        ("l", ".."),
        ("a/l", "../.."),
        ("a/l", "/etc/passwd"),
        ("l", ""),
        ("l", "a/../b"),
        ("a/l", "../b/../../c"),
        ("l", "a\\b"),
        ("l", "c:"),
        ("l", "a\0"),
        ("l", "a\u{308}"),
    ] {
        assert!(check_target(path, target).is_err(), "{path} -> {target}");
    }
    // The pair that a lexical count would let out: `up` leads to the root, and `..` after it beyond.
    let pair = vec![dir("a"), dir("a/b"), link("a/b/up", "../.."), link("out", "a/b/up/../..")];
    assert!(rule(pair).contains("after a name"));
}

#[test]
fn order_folders_and_twins() {
    assert!(rule(vec![file("b", b"x"), file("a", b"x")]).contains("out of order"));
    assert!(rule(vec![file("a", b"x"), file("a", b"y")]).contains("twice"));
    assert!(rule(vec![file("a/b", b"x")]).contains("not listed"));
    assert!(rule(vec![file("a", b"x"), file("a/b", b"x")]).contains("below a file"));
    assert!(rule(vec![dir("t"), link("a", "t"), file("a/b", b"x")]).contains("out of order"));
    assert!(rule(vec![link("a", "t"), file("a/b", b"x"), dir("t")]).contains("below a file or link"));
    // `a-b` sorts between `a` and `a/b`; the folder still counts.
    assert_eq!(rule(vec![dir("a"), file("a-b", b"x"), file("a/b", b"x")]), "");
    for (one, other) in
        [("README", "readme"), ("STRASSE", "straße"), ("s", "ſ"), ("Ä", "ä"), ("K", "\u{212a}"), ("σ", "ς")]
    {
        let mut twins = vec![file(one, b"x"), file(other, b"x")];
        twins.sort_by(|a, b| a.path.cmp(&b.path));
        assert_ne!(rule(twins), "", "{one} and {other}");
    }
    assert!(rule(vec![dir("A"), file("A/x", b"1"), dir("a"), file("a/y", b"2")]).contains("only in case"));
}

fn with_chunks(size: u64, lens: &[u32]) -> Rule {
    let chunks = lens.iter().enumerate().map(|(i, &len)| ChunkRef { id: ChunkId([i as u8; 32]), len }).collect();
    rule(vec![TreeEntry {
        path: "f".into(),
        node: Node::File { executable: true, object: ObjectId([9; 32]), size, chunks },
    }])
}

#[test]
fn sizes_are_what_chunks_add_up_to_and_what_cutting_makes() {
    let (min, max) = (limits::CHUNK_MIN as u32, limits::CHUNK_MAX as u32);
    assert_eq!(with_chunks(u64::from(max) + 1, &[max, 1]), "");
    assert_eq!(with_chunks(u64::from(max), &[]), "");
    assert!(with_chunks(u64::from(max) + 1, &[]).contains("too long for one chunk"));
    assert!(with_chunks(u64::from(max) + 2, &[max, 1]).contains("add up"));
    assert!(with_chunks(u64::from(max) + 2, &[max + 1, 1]).contains("shorter or longer"));
    assert!(with_chunks(u64::from(min), &[min - 1, 1]).contains("as short as"));
    assert!(with_chunks(u64::from(min) + 1, &[min - 1, 2]).contains("shorter or longer"));
    assert!(with_chunks(u64::from(min), &[min, 0]).contains("as short as"));
    assert!(with_chunks(u64::from(min) + 1, &[min + 1]).contains("single chunk"));
    assert!(with_chunks(0, &[1]).contains("empty"));
    assert!(with_chunks(0, &[]).contains("empty"), "the id of other content");
    assert!(with_chunks(u64::MAX, &[max, max]).contains("add up"));
}

#[test]
fn absurd_totals_and_foreign_cutting_are_refused() {
    let huge = |path: &str| TreeEntry {
        path: path.into(),
        node: Node::File { executable: false, object: ObjectId([1; 32]), size: 1 << 18, chunks: vec![] },
    };
    assert_eq!(rule(vec![huge("a"), huge("b")]), "");
    let cutting = Cutting { max: 1 << 30, ..Cutting::STANDARD };
    assert!(Manifest { cutting, entries: vec![] }.check().is_err());
}

#[test]
fn real_cuts_keep_the_smallest_length_except_at_the_end() {
    for content in [noise(3 << 20), vec![0; 3 << 20], noise((256 << 10) + 1), noise((16 << 10) + 1)] {
        let lens = chunk::cut(&content);
        assert!(lens.iter().rev().skip(1).all(|&l| l as usize >= limits::CHUNK_MIN), "{lens:?}");
        assert_eq!(rule(vec![file("f", &content)]), "");
    }
}

#[test]
fn a_million_entries_pass_and_one_more_does_not() {
    let entries: Vec<_> = (0..limits::TREE_ENTRIES).map(|i| dir(&format!("{i:07}"))).collect();
    let mut manifest = Manifest { cutting: Cutting::STANDARD, entries };
    assert_eq!(manifest.check(), Ok(()));
    manifest.entries.push(dir("z"));
    assert!(manifest.check().unwrap_err().rule.contains("million"));
}

#[test]
fn a_refusal_can_be_printed_whatever_the_path_holds() {
    let error = Manifest { cutting: Cutting::STANDARD, entries: vec![dir("a\u{1b}[2J\u{202e}")] }.check().unwrap_err();
    assert!(crate::text::is_plain(&error.to_string()), "{error}");
}
