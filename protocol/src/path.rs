//! Which paths and links may exist in a tree. Source: the rules of `protocol/SPEC.md`, and the extractors whose advisories they answer (RUSTSEC-2026-0067, 2025-0111, 2024-0350).
//! Invariant: a path that passes means the same single place on every file system that we materialise on, and no link
//! leads out of the tree, however links are chained.

use crate::{
    chunk::Cutting,
    id::ObjectId,
    limits,
    text::is_hidden,
    tree::{Manifest, Node, TreeEntry, TreeError},
};
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// The rule that a path or a link breaks, for people.
pub type Rule = &'static str;

/// Checks one path by itself: relative, `/` between components, NFC, nothing that a file system reads in another way.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_path(path: &str) -> Result<(), Rule> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > limits::PATH_BYTES {
        return Err("is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Err("is absolute: paths are relative to the tree's root");
    }
    if !path.is_ascii() && !is_nfc(path) {
        return Err("is not in Unicode normal form C");
    }
    if path.bytes().filter(|b| *b == b'/').count() > limits::TREE_DEPTH {
        return Err("lies more than 16 folders deep");
    }
    path.split('/').try_for_each(check_component)
}

/// Checks a link's target, seen from the link at `path`, which is itself a good path.
///
/// `..` may stand only at the beginning. A lexical count alone was refused: behind another link, `..` goes up from
/// wherever that link leads, and two links that each stay inside may together leave.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_target(path: &str, target: &str) -> Result<(), Rule> {
    if target.is_empty() {
        return Err("links to nothing");
    }
    if target.len() > limits::PATH_BYTES {
        return Err("links to a path longer than 1024 bytes");
    }
    if target.starts_with('/') {
        return Err("links to an absolute path: links are relative and stay inside the tree");
    }
    if !target.is_ascii() && !is_nfc(target) {
        return Err("links to a path that is not in Unicode normal form C");
    }
    let mut folders = path.bytes().filter(|b| *b == b'/').count();
    let mut named = false;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if named => return Err("links through `..` after a name: put every `..` first"),
            ".." if folders == 0 => return Err("links out of the tree"),
            ".." => folders -= 1,
            name => {
                named = true;
                check_component(name).map_err(|_| "links to a path with a component that no tree may hold")?;
            }
        }
    }
    Ok(())
}

fn check_component(name: &str) -> Result<(), Rule> {
    if name.is_empty() {
        return Err("has an empty component");
    }
    if name.len() > limits::COMPONENT_BYTES {
        return Err("has a component longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Err("has `.` or `..` as a component");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character");
    }
    if name.bytes().any(|b| b == b'\\' || b == b':') {
        return Err("has a backslash or colon, which are separators on some systems");
    }
    if name.ends_with('.') || name.ends_with(' ') {
        return Err("has a component that ends in a dot or space, which some systems drop");
    }
    if is_device(name) {
        return Err("has a component that is a device's name on Windows");
    }
    Ok(())
}

/// CON, PRN, AUX, NUL, COM0-9, LPT0-9 and their kin, with any extension, in any case.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    // Most names are longer than any device's.
    if stem.len() > "CONOUT$".len() {
        return false;
    }
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let Some((port, digit)) = stem.split_at_checked(3) else { return false };
    let numbered = port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT");
    let mut digit = digit.chars();
    numbered && matches!((digit.next(), digit.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
}

/// What a file system that ignores case and normal form makes of a path: NFC of each character's upper, then lower
/// case. That joins at least what Unicode's full case folding joins (ß and SS, ſ and s); it needs no table of ours.
/// Characters that cannot be seen are left out: some systems pass over them, and no reader tells such paths apart.
fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.chars().filter(|c| !is_hidden(*c)).flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

fn broken(path: &str, rule: Rule) -> TreeError {
    TreeError { path: path.chars().take(120).collect(), rule }
}

/// Checks every rule of trees, see [`Manifest::check`].
pub(crate) fn check_tree(manifest: &Manifest) -> Result<(), TreeError> {
    if manifest.cutting != Cutting::STANDARD {
        return Err(broken("", "is cut in a way that this version does not know"));
    }
    if manifest.entries.len() > limits::TREE_ENTRIES {
        return Err(broken("", "has more than a million entries"));
    }
    let mut total: u64 = 0;
    let mut folder = "";
    for (i, entry) in manifest.entries.iter().enumerate() {
        let before = manifest.entries.get(..i).unwrap_or_default();
        let size = check_entry(before, entry, &mut folder).map_err(|rule| broken(&entry.path, rule))?;
        total = total.checked_add(size).ok_or_else(|| broken(&entry.path, "brings the tree above 2^64 bytes"))?;
    }
    check_collisions(&manifest.entries)
}

/// The rules of one entry after those before it; the bytes that it adds. `known` is the folder that was looked up last:
/// most entries stand beside the one before.
fn check_entry<'a>(before: &[TreeEntry], entry: &'a TreeEntry, known: &mut &'a str) -> Result<u64, Rule> {
    let path = entry.path.as_str();
    check_path(path)?;
    match before.last() {
        Some(last) if last.path == path => return Err("is listed twice"),
        Some(last) if last.path.as_str() > path => return Err("is out of order: entries ascend by path bytes"),
        _ => {}
    }
    if let Some((folder, _)) = path.rsplit_once('/').filter(|(folder, _)| folder != known) {
        // Entries before are ascending, so the folder can be looked up among them without a set of its own.
        let at = before.binary_search_by(|e| e.path.as_str().cmp(folder));
        match at.ok().and_then(|at| before.get(at)).map(|e| &e.node) {
            Some(Node::Dir) => {}
            Some(_) => return Err("lies below a file or link"),
            None => return Err("lies in a folder that is not listed before it"),
        }
        *known = folder;
    }
    match &entry.node {
        Node::Dir => Ok(0),
        Node::Symlink { target } => check_target(path, target).map(|()| 0),
        Node::File { object, size, chunks, .. } => {
            check_file(*object, *size, chunks.iter().map(|c| c.len))?;
            if chunks.len() == 1 {
                return Err("lists a single chunk, whose id is the file's: the list is left empty then");
            }
            Ok(*size)
        }
    }
}

/// Sizes: every chunk as long as cutting makes them, so that nobody is made to keep a million chunks of one byte.
fn check_file(object: ObjectId, size: u64, lens: impl ExactSizeIterator<Item = u32>) -> Result<(), Rule> {
    let count = lens.len();
    if size == 0 {
        let empty = object == ObjectId::of(&[]);
        return if count == 0 && empty { Ok(()) } else { Err("is empty, but has chunks or the id of other content") };
    }
    if count == 0 {
        let single = size <= limits::CHUNK_MAX as u64;
        return if single { Ok(()) } else { Err("is too long for one chunk, but lists none") };
    }
    if size <= limits::CHUNK_MIN as u64 {
        return Err("is as short as the shortest chunk, but lists several");
    }
    let mut sum: u64 = 0;
    for (i, len) in lens.enumerate() {
        let shortest = if i + 1 == count { 1 } else { limits::CHUNK_MIN };
        if (len as usize) < shortest || len as usize > limits::CHUNK_MAX {
            return Err("has a chunk shorter or longer than cutting makes them");
        }
        sum = sum.checked_add(len.into()).ok_or("has chunks that add up to more than 2^64 bytes")?;
    }
    if sum == size { Ok(()) } else { Err("has a size that its chunks do not add up to") }
}

/// Refuses two paths that are one on a file system that ignores case or normal form.
fn check_collisions(entries: &[TreeEntry]) -> Result<(), TreeError> {
    // 16 bytes of a hash each instead of the folded paths: a million paths would weigh 100 MiB.
    let mut seen: Vec<([u8; 16], u32)> = Vec::with_capacity(entries.len());
    for (i, entry) in (0u32..).zip(entries) {
        let hash = *blake3::hash(folded(&entry.path).as_bytes()).as_bytes();
        let mut short = [0; 16];
        short.copy_from_slice(hash.split_at(16).0);
        seen.push((short, i));
    }
    seen.sort_unstable();
    let twin =
        seen.windows(2).filter(|w| matches!(w, [a, b] if a.0 == b.0)).filter_map(|w| w.get(1)).map(|w| w.1).min();
    match twin.and_then(|i| entries.get(i as usize)) {
        Some(entry) => Err(broken(&entry.path, "differs from another path only in case or in what cannot be seen")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
