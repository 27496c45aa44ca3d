//! Tar archives that are not compressed: their members are files that everybody can read. Invariant: an archive costs what its
//! bytes cost, whatever its headers claim; and members are looked at as the files that they become, but for archives.

use super::{FINDINGS, Finding, Place, Scanner, text};

const BLOCK: usize = 512;
/// Letters of a member's name that a finding shows.
const SHOWN: usize = 100;

/// An archive, piece after piece.
#[derive(Debug)]
pub(super) struct Tar {
    file: String,
    place: Place,
    header: Vec<u8>,
    /// Bytes of the member that are to come, and of the rest of its last block.
    left: u64,
    rest: u64,
    /// The member that is looked at, with its name.
    member: Option<(String, Scanner)>,
    /// It ended, or is none any more.
    done: bool,
    found: Vec<Finding>,
}

impl Tar {
    /// Whether something that begins so is one.
    pub(super) fn is(head: &[u8]) -> bool {
        head.get(..BLOCK).is_some_and(|header| header.get(257..262) == Some(b"ustar") && is_sound(header))
    }

    pub(super) fn new(file: &str, place: Place) -> Self {
        let (header, member, found) = (Vec::new(), None, Vec::new());
        Self { file: file.into(), place, header, left: 0, rest: 0, member, done: false, found }
    }

    /// The next bytes.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.done {
            if self.left > 0 {
                let data = split(&mut piece, &mut self.left);
                if let Some((_, scanner)) = &mut self.member {
                    scanner.push(data);
                }
                if self.left == 0 {
                    self.close();
                }
            } else if self.rest > 0 {
                split(&mut piece, &mut self.rest);
            } else {
                let mut wanted = (BLOCK - self.header.len()) as u64;
                self.header.extend_from_slice(split(&mut piece, &mut wanted));
                if wanted == 0 {
                    self.open();
                }
            }
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.close();
        self.found
    }

    /// A header is there.
    fn open(&mut self) {
        let header = std::mem::take(&mut self.header);
        // Blocks of zeros end it; what stands behind them is read by some.
        if header.iter().all(|b| *b == 0) {
            return;
        }
        let Some(size) = number(header.get(124..136).unwrap_or_default()).filter(|_| is_sound(&header)) else {
            self.done = true;
            return;
        };
        (self.left, self.rest) = (size, size.wrapping_neg() % BLOCK as u64);
        if !matches!(header.get(156), Some(b'0' | 0 | b'7')) {
            return;
        }
        let part = |from: usize, length: usize| {
            let field = header.get(from..from + length).unwrap_or_default();
            String::from_utf8_lossy(field.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        let folder = if header.get(262) == Some(&0) { part(345, 155) } else { String::new() };
        let name = if folder.is_empty() { part(0, 100) } else { format!("{folder}/{}", part(0, 100)) };
        let place = if self.place == Place::Specimen { self.place } else { Place::of_file(&name.to_ascii_lowercase()) };
        self.member = Some((name.clone(), Scanner::member(&self.file, name, place)));
        if size == 0 {
            self.close();
        }
    }

    /// The member is over.
    fn close(&mut self) {
        let Some((name, scanner)) = self.member.take() else { return };
        let name: String = name.chars().take(SHOWN).collect();
        for finding in scanner.finish() {
            if self.found.len() >= FINDINGS {
                self.found.push(text::more(&self.file));
                self.done = true;
                return;
            }
            let shown = format!("{} in {name}:{}", finding.shown, finding.line);
            self.found.push(Finding { line: 0, shown, ..finding });
        }
    }
}

/// Takes as much of a piece as is wanted, and no more.
fn split<'p>(piece: &mut &'p [u8], wanted: &mut u64) -> &'p [u8] {
    let length = usize::try_from(*wanted).unwrap_or(usize::MAX).min(piece.len());
    let (taken, rest) = piece.split_at(length);
    (*piece, *wanted) = (rest, *wanted - length as u64);
    taken
}

/// Octal digits, or big-endian bytes behind a set bit.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let bytes = std::iter::once(&(first & 0x7f))
            .chain(rest)
            .try_fold(0u64, |n, b| Some(n.checked_mul(256)? + u64::from(*b)));
        return bytes;
    }
    let digits = field.iter().skip_while(|b| **b == b' ').take_while(|b| (b'0'..=b'7').contains(b));
    digits.map(|b| u64::from(b - b'0')).try_fold(0u64, |n, d| n.checked_mul(8)?.checked_add(d))
}

/// Whether the header's sum is right.
fn is_sound(header: &[u8]) -> bool {
    let said = number(header.get(148..156).unwrap_or_default());
    let sum = |n: usize, b: &u8| if (148..156).contains(&n) { 32 } else { u64::from(*b) };
    said == Some(header.iter().enumerate().map(|(n, b)| sum(n, b)).sum())
}
