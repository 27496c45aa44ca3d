//! What must not be published: private keys, tokens and passwords in the bytes of files. Invariant: a [`Finding`] never
//! holds the secret, only its kind, its place, how it begins and a hash that binds an author's "this one may" to it; and
//! what is looked at costs a bounded effort, whatever the bytes are.
//!
//! Strict where a form says what it is (a key, a token with its issuer's prefix); careful where only a name does
//! (`password = …`), by what kind of file it stands in: software that is shipped whole is full of passwords that are none.
//! Entropy alone, without a name or a form, was refused: hashes, fixtures and compressed data have more of it than keys.

mod allowed;
mod assigned;
mod form;
mod holder;
mod place;
mod value;

pub use allowed::{ALLOW_FILE, AllowError, Allowed};
pub use place::Place;

use aho_corasick::{AhoCorasick, MatchKind};
use std::sync::LazyLock;

/// The rule by which files are looked at: raised with every change of what is found, so that nobody relies on what an
/// earlier rule found clean.
pub const RULE: u32 = 2;

/// Bytes of a file that are looked at. Dumps beyond that are data of a device, which no distro holds.
const FILE_BYTES: u64 = 16 << 20;
/// A file with a zero in so many first bytes is no text.
const HEAD: usize = 8 << 10;
/// What may have to be seen behind a hit, and before it, to judge it.
const AFTER: usize = 16 << 10;
const BEFORE: usize = 512;
/// Findings of one file; it is refused for there being more, whatever is allowed.
const FINDINGS: usize = 4096;
const MORE: &str = "more likely secrets than can be listed";

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It keeps the distro from being published.
    Refused,
    /// It is told: keys and signed tokens among tests and documentation are most often made to be seen.
    Told,
}

/// A likely secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the definition's folder.
    pub file: String,
    /// The line, from 1; 0 is the file as a whole.
    pub line: u32,
    /// What it is, for people: `a private key`.
    pub what: &'static str,
    /// At most its first four characters, and its length.
    pub shown: String,
    /// Binds file, kind and the secret itself.
    pub id: String,
    /// How much it matters.
    pub weight: Weight,
}

impl Finding {
    fn new(file: &str, line: u32, hit: &Hit<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"softdist/v1/secret\0");
        for part in [file.as_bytes(), hit.what.as_bytes(), hit.secret] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let id = hasher.finalize().to_hex().chars().take(32).collect();
        let shown = value::redacted(hit.secret);
        Self { file: file.into(), line, what: hit.what, shown, id, weight: hit.weight }
    }

    /// A plain value that a definition gives to a key whose name says what it is; none when it is a placeholder.
    pub(crate) fn of_value(file: &str, line: u32, value: &str) -> Option<Self> {
        let secret = value.as_bytes();
        let hit = Hit { at: 0, end: secret.len(), what: assigned::LITERAL, secret, weight: Weight::Refused };
        value::is_plausible(secret, value::Rule::Own).then(|| Self::new(file, line, &hit))
    }

    /// Whether it stands for all that was not looked at any more, which nobody can let through.
    pub fn is_more(&self) -> bool {
        self.what == MORE
    }

    /// For people: `conf/app.ini:3: a GitHub token, "ghp_…", 40 characters`.
    pub fn describe(&self) -> String {
        format!("{}:{}: {}, {}", self.file, self.line, self.what, self.shown)
    }
}

/// A likely secret where it stands.
#[derive(Debug, Clone, Copy)]
struct Hit<'a> {
    at: usize,
    /// Nothing else is looked for before here.
    end: usize,
    what: &'static str,
    secret: &'a [u8],
    weight: Weight,
}

/// Needles by number: first those of forms, then those of names, then those of files that hold credentials.
struct Needles {
    held: AhoCorasick,
    all: AhoCorasick,
    forms: AhoCorasick,
}

static NEEDLES: LazyLock<Option<Needles>> = LazyLock::new(|| {
    let make = |needles: &mut dyn Iterator<Item = &str>| {
        // Up to 64 needles, none a start of another's: one pass of vector instructions where the processor has them.
        AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(needles).ok()
    };
    let forms = || form::FORMS.iter().map(|f| f.needle);
    let held = make(&mut forms().chain(assigned::NEEDLES).chain(holder::NEEDLES))?;
    Some(Needles { held, all: make(&mut forms().chain(assigned::NEEDLES))?, forms: make(&mut forms())? })
});

/// Looks at one file, piece after piece.
#[derive(Debug)]
pub struct Scanner {
    file: String,
    place: Place,
    /// The end of the piece before.
    carry: Vec<u8>,
    /// Where in `carry` what has not been judged begins.
    fresh: usize,
    /// The line in which `carry` begins.
    line: u32,
    seen: u64,
    done: bool,
    found: Vec<Finding>,
}

impl Scanner {
    /// A file by its path below the definition's folder.
    pub fn new(file: &str) -> Self {
        Self::placed(file, Place::of(file))
    }

    /// The same, as what it is whatever its path says.
    pub fn placed(file: &str, place: Place) -> Self {
        let (carry, found) = (Vec::new(), Vec::new());
        Self { file: file.into(), place, carry, fresh: 0, line: 1, seen: 0, done: false, found }
    }

    /// The whole of a file at once.
    pub fn whole(mut self, bytes: &[u8]) -> Vec<Finding> {
        if self.begin(bytes) {
            let end = bytes.len().min(FILE_BYTES as usize);
            let bytes = bytes.get(..end).unwrap_or_default();
            let (mut found, mut line) = (std::mem::take(&mut self.found), self.line);
            self.look(bytes, 0..bytes.len(), &mut line, &mut found);
            self.found = found;
        }
        self.found
    }

    /// The next bytes of a file.
    pub fn push(&mut self, piece: &[u8]) {
        // Nothing is judged before so much was seen, so what proves to be no text by then has no findings either.
        let head = HEAD.saturating_sub(usize::try_from(self.seen).unwrap_or(HEAD));
        if (self.seen == 0 && !self.begin(piece)) || piece.iter().take(head).any(|b| *b == 0) {
            self.done = true;
            self.carry.clear();
        }
        self.seen = self.seen.saturating_add(piece.len() as u64);
        if self.done {
            return;
        }
        self.carry.extend_from_slice(piece);
        let limit = self.carry.len().saturating_sub(AFTER).max(self.fresh);
        self.advance(limit);
        self.done = self.seen >= FILE_BYTES;
    }

    /// What was found.
    pub fn finish(mut self) -> Vec<Finding> {
        let end = self.carry.len();
        if end > 0 {
            self.advance(end);
        }
        self.found
    }

    /// Judges what begins before `limit`, and keeps what the judgement of the rest needs.
    fn advance(&mut self, limit: usize) {
        let bytes = std::mem::take(&mut self.carry);
        let (mut found, mut line) = (std::mem::take(&mut self.found), self.line);
        let judged = self.look(&bytes, self.fresh..limit, &mut line, &mut found).max(limit);
        self.found = found;
        let keep = limit.saturating_sub(BEFORE);
        self.line += newlines(bytes.get(..keep).unwrap_or_default());
        self.carry = bytes.get(keep..).unwrap_or_default().to_vec();
        self.fresh = judged - keep;
    }

    /// Whether it is worth looking at; keys that are no text are judged by how they begin.
    fn begin(&mut self, bytes: &[u8]) -> bool {
        let head = bytes.get(..HEAD.min(bytes.len())).unwrap_or_default();
        let whole = form::whole_file(&self.file, bytes, self.place);
        if let Some(hit) = &whole {
            self.found.push(Finding::new(&self.file, 0, hit));
        }
        whole.is_none() && !head.contains(&0)
    }

    /// Findings that begin in `range`; `line` is the line of `bytes`' begin. Answers where the last one ends.
    fn look(&self, bytes: &[u8], range: std::ops::Range<usize>, line: &mut u32, found: &mut Vec<Finding>) -> usize {
        let Some(needles) = NEEDLES.as_ref() else { return range.start };
        let needles = match self.place {
            Place::Netrc | Place::Pgpass | Place::Registry => &needles.held,
            place if place.has_names() => &needles.all,
            _ => &needles.forms,
        };
        let (mut counted, mut from) = (0, range.start);
        let input = aho_corasick::Input::new(bytes).range(range.start..bytes.len());
        for needle in needles.find_iter(input) {
            if needle.start() >= range.end {
                break;
            }
            if needle.start() < from {
                continue;
            }
            let number = needle.pattern().as_usize();
            let hit = match form::FORMS.get(number) {
                Some(form) => form.judge(bytes, needle.start(), self.place),
                None => {
                    let at = needle.start()..needle.end();
                    holder::judge(bytes, at.clone(), self.place).or_else(|| assigned::judge(bytes, at, self.place))
                }
            };
            let Some(hit) = hit else { continue };
            *line += newlines(bytes.get(counted..hit.at).unwrap_or_default());
            (counted, from) = (hit.at.max(counted), hit.end.max(needle.end()));
            if found.len() >= FINDINGS {
                let many = Hit { what: MORE, secret: b"", weight: Weight::Refused, ..hit };
                found.push(Finding::new(&self.file, 0, &many));
                break;
            }
            found.push(Finding::new(&self.file, *line, &hit));
        }
        from
    }
}

/// Counts bytes that are looked at, for the test that the effort is bounded.
#[cfg(test)]
fn count(bytes: usize) {
    tests::evasion::WORK.set(tests::evasion::WORK.get() + bytes);
}
#[cfg(not(test))]
const fn count(_: usize) {}

fn newlines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|b| **b == b'\n').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
