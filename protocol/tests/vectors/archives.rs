//! Archives that break extractors, said in the language of our manifests: each is refused, for its reason.
//! Sources of the layouts: jwilk/traversal-archives (its eight names stand below), the advisories RUSTSEC-2025-0111,
//! -2026-0067 and -0068 (tar), CVE-2014-9390, CVE-2021-21300 and CVE-2024-32002 (git). Nothing but the layouts is theirs.

use softservice_protocol::{
    chunk::Cutting,
    codec::{self, CodecError},
    id::ObjectId,
    tree::{Manifest, Node, TreeEntry},
};

fn dir(path: &str) -> TreeEntry {
    TreeEntry { path: path.into(), node: Node::Dir }
}
fn link(path: &str, target: &str) -> TreeEntry {
    TreeEntry { path: path.into(), node: Node::Symlink { target: target.into() } }
}
fn file(path: &str) -> TreeEntry {
    let node = Node::File { executable: false, object: ObjectId::of(b"moo"), size: 3, chunks: vec![] };
    TreeEntry { path: path.into(), node }
}

/// What is said to the tree as it travels: encoded, decoded and checked, as a node does with a stranger's.
fn said_to(entries: Vec<TreeEntry>) -> &'static str {
    let bytes = codec::encode(&Manifest { cutting: Cutting::STANDARD, entries }).expect("it fits");
    match codec::decode::<Manifest>(&bytes).expect("one spelling").check() {
        Ok(()) => "taken",
        Err(error) => error.rule,
    }
}

#[test]
fn archives_that_traverse_are_refused_by_their_reason() {
    let absolute = "is absolute";
    let dots = "`.` or `..`";
    let layouts: Vec<(&str, Vec<TreeEntry>, &str)> = vec![
        ("absolute1", vec![file("/tmp/moo")], absolute),
        ("absolute2", vec![file("//tmp/moo")], absolute),
        ("relative0", vec![file("../moo")], dots),
        ("relative2", vec![file("../../tmp/moo")], dots),
        ("relative, behind a name", vec![dir("a"), file("a/../../moo")], dots),
        ("relative, as a folder", vec![dir("..")], dots),
        ("symlink", vec![link("moo", "/tmp/moo"), file("moo")], "absolute path"),
        ("symlink, twice at one path", vec![link("moo", "b"), file("moo")], "listed twice"),
        ("dirsymlink", vec![link("tmp", "/tmp"), file("tmp/moo")], "absolute path"),
        ("dirsymlink, staying inside", vec![dir("a"), link("tmp", "a"), file("tmp/moo")], "below a file or link"),
        ("dirsymlink2a", vec![link("cur", "."), link("par", "cur/.."), file("par/moo")], "after a name"),
        ("dirsymlink2b", vec![dir("dir"), link("dir/cur", "."), link("dir/par", "cur/..")], "after a name"),
        ("up one too many", vec![link("up", "..")], "out of the tree"),
        ("up one too many, below", vec![dir("a"), dir("a/b"), link("a/b/up", "../../..")], "out of the tree"),
        ("a link to a link's parent", vec![dir("a"), link("a/l", ".."), link("b", "a/l/../x")], "after a name"),
        ("backslash", vec![file("..\\..\\moo")], "backslash"),
        ("drive", vec![file("C:moo")], "colon"),
        ("alternate stream", vec![file("moo:stream:$DATA")], "colon"),
        ("null byte", vec![file("moo\0.txt")], "control character"),
        ("newline", vec![file("moo\nrm")], "control character"),
        ("a target with a null byte", vec![link("l", "a\0b")], "component that no tree may hold"),
        ("nothing", vec![file("")], "is empty"),
        ("a folder's trailing slash", vec![dir("a/")], "empty component"),
        ("two slashes", vec![dir("a"), file("a//moo")], "empty component"),
        ("dot", vec![file("./moo")], dots),
        ("an unlisted folder", vec![file("a/moo")], "not listed before"),
        ("below a file", vec![file("a"), file("a/moo")], "below a file or link"),
    ];
    for (name, entries, wanted) in layouts {
        let said = said_to(entries);
        assert!(said.contains(wanted), "{name}: wanted {wanted:?}, it says {said:?}");
    }
    assert_eq!(said_to(vec![dir("a"), file("a/moo"), link("b", "a/moo")]), "taken", "an honest one");
}

#[test]
fn names_that_are_devices_or_change_on_the_way_are_refused() {
    for device in ["CON", "nul", "aux.txt", "COM1", "lpt9.log", "com\u{b9}", "CONIN$", "prn .x"] {
        assert!(said_to(vec![file(device)]).contains("device's name"), "{device}");
    }
    for dropped in ["moo.", "moo ", "moo. .", "..."] {
        assert!(said_to(vec![file(dropped)]).contains("ends in a dot or space"), "{dropped:?}");
    }
    assert!(said_to(vec![file("e\u{301}")]).contains("normal form C"));
    assert!(said_to(vec![file("k"), file("\u{212a}")]).contains("normal form C"), "the Kelvin sign");
    assert!(said_to(vec![link("l", "e\u{301}")]).contains("normal form C"));
}

#[test]
fn two_paths_that_are_one_somewhere_are_refused() {
    let twins = [
        ("moo", "MOO", "case"),
        ("\u{e4}", "\u{c4}", "case beyond ASCII"),
        ("stra\u{df}e", "STRASSE", "full case folding"),
        ("s", "\u{17f}", "the long s"),
        ("\u{3c3}", "\u{3c2}", "the final sigma"),
        (".git", ".g\u{200c}it", "a joiner that HFS+ passes over"),
        ("moo", "\u{feff}moo", "a byte order mark"),
        ("moo", "m\u{ad}oo", "a soft hyphen"),
        ("moo", "moo\u{202e}", "a bidi control"),
    ];
    for (one, other, why) in twins {
        let mut entries = vec![file(one), file(other)];
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(said_to(entries).contains("differs from another path only in"), "{why}");
    }
    // A link that a folder of another case would follow: git's clone into `A/hooks` through `a`.
    let through = vec![dir("A"), file("A/post-checkout"), link("a", "b"), dir("b")];
    assert!(said_to(through).contains("differs from another path only in"));
    // Folders alike, files below them apart.
    let folders = vec![dir("A"), file("A/x"), dir("a"), file("a/y")];
    assert!(said_to(folders).contains("differs from another path only in"));
}

/// Kinds and modes that archives have and this language does not: there are no bytes for them.
#[test]
fn hard_links_devices_pipes_and_setuid_have_no_bytes() {
    let path = "moo";
    let at = 1 + (1 + 4 + 4 + 4) + 8 + 8 + path.len(); // version, cutting, count, length, path
    let good = codec::encode(&Manifest { cutting: Cutting::STANDARD, entries: vec![file(path)] }).expect("it fits");
    assert_eq!(good[at..at + 5], [0, 0, 0, 0, 0], "a file that is not executable");
    for kind in 3..=255u8 {
        let mut bytes = good.clone();
        bytes[at] = kind; // hard link, pipe, socket, character or block device: whatever somebody numbers so
        let refusal = codec::decode::<Manifest>(&bytes).unwrap_err();
        assert!(
            refusal.to_string().contains("a choice") && matches!(refusal, CodecError::Malformed { .. }),
            "{refusal}"
        );
    }
    for mode in 2..=255u8 {
        let mut bytes = good.clone();
        bytes[at + 4] = mode; // setuid, setgid, sticky: a mode has one bit
        let refusal = codec::decode::<Manifest>(&bytes).unwrap_err();
        assert!(matches!(refusal, CodecError::Malformed { .. }), "{refusal}");
    }
}
