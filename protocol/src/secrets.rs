//! What must not be published: private keys, tokens and passwords in the bytes of files. Invariant: a [`Finding`] never
//! holds the secret, only its kind, its place, how it begins and a hash that binds an author's "this one may" to it; and
//! what is looked at costs a bounded effort, whatever the bytes are.
//!
//! Strict where a form says what it is (a key, a token with its issuer's prefix); careful where only a name does
//! (`password = …`), by what kind of file it stands in: software that is shipped whole is full of passwords that are none.
//! Entropy alone, without a name or a form, was refused: hashes, fixtures and compressed data have more of it than keys.

mod allowed;
mod argument;
mod assigned;
mod form;
mod holder;
mod place;
mod tar;
mod text;
mod value;
mod wide;

pub use allowed::{ALLOW_FILE, AllowError, Allowed};
pub use place::Place;

use aho_corasick::{AhoCorasick, MatchKind};
use std::sync::LazyLock;
use tar::Tar;
use text::Text;
use wide::Wide;

/// The rule by which files are looked at: raised with every change of what is found, so that nobody relies on what an
/// earlier rule found clean.
pub const RULE: u32 = 3;

/// What kind of file it is shows in so many first bytes; one with a zero in them is no text.
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

    /// Passwords in the arguments of one command that a definition has, where each alone does not show it: behind the option
    /// that names it, and behind `-p` of programs that take it so.
    pub(crate) fn of_command(file: &str, line: u32, command: &[&str]) -> Vec<Self> {
        let alone = |option: &str| option.starts_with('-') && !option.contains(['=', '"', '\n']);
        let pairs = command.windows(2).filter(|pair| alone(pair[0]) && !pair[1].contains(['"', '\n']));
        let pairs = pairs.flat_map(|pair| {
            Scanner::placed(file, Place::Own).whole(format!("\"{}\", \"{}\"", pair[0], pair[1]).as_bytes())
        });
        let short = argument::short(command).into_iter().filter_map(|value| Self::of_value(file, line, value));
        pairs.map(|found| Self { line, ..found }).chain(short).collect()
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
    /// What its findings name.
    file: String,
    /// What its name says of what is in it: that of a member, in an archive.
    name: String,
    place: Place,
    /// It is a member: archives in archives are not looked into.
    inside: bool,
    kind: Kind,
    found: Vec<Finding>,
}

/// What a file proved to be.
#[derive(Debug)]
enum Kind {
    /// Nobody knows yet: its first bytes.
    Unknown(Vec<u8>),
    /// Text.
    Text(Text),
    /// Text of two bytes a letter.
    Wide(Box<(Wide, Text)>),
    /// Files behind each other as they are.
    Tar(Box<Tar>),
    /// Nothing that is looked into, or something that was found out at once.
    Other,
}

impl Scanner {
    /// A file by its path below the definition's folder.
    pub fn new(file: &str) -> Self {
        Self::placed(file, Place::of(file))
    }

    /// The same, as what it is whatever its path says.
    pub fn placed(file: &str, place: Place) -> Self {
        let (kind, found) = (Kind::Unknown(Vec::new()), Vec::new());
        Self { file: file.into(), name: file.into(), place, inside: false, kind, found }
    }

    /// A file in an archive, whose findings are the archive's.
    fn member(archive: &str, name: String, place: Place) -> Self {
        Self { name, inside: true, ..Self::placed(archive, place) }
    }

    /// The whole of a file at once.
    pub fn whole(mut self, bytes: &[u8]) -> Vec<Finding> {
        self.begin(bytes);
        match std::mem::replace(&mut self.kind, Kind::Other) {
            Kind::Text(text) => return text.whole(bytes),
            kind => self.kind = kind,
        }
        self.go_on(bytes);
        self.finish()
    }

    /// The next bytes of a file.
    pub fn push(&mut self, piece: &[u8]) {
        let Kind::Unknown(head) = &mut self.kind else { return self.go_on(piece) };
        if head.is_empty() && piece.len() >= HEAD {
            self.begin(piece);
            return self.go_on(piece);
        }
        head.extend_from_slice(piece);
        if head.len() >= HEAD {
            let head = std::mem::take(head);
            self.begin(&head);
            self.go_on(&head);
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Vec<Finding> {
        if let Kind::Unknown(head) = &mut self.kind {
            let head = std::mem::take(head);
            self.begin(&head);
            self.go_on(&head);
        }
        match self.kind {
            Kind::Text(text) => text.finish(),
            Kind::Wide(both) => {
                let (mut wide, mut text) = *both;
                wide.end(|piece| text.push(piece));
                text.finish()
            }
            Kind::Tar(tar) => tar.finish(),
            Kind::Unknown(_) | Kind::Other => self.found,
        }
    }

    /// Finds out what it is; keys that are no text are judged by how they begin.
    fn begin(&mut self, bytes: &[u8]) {
        let head = bytes.get(..HEAD.min(bytes.len())).unwrap_or_default();
        let text = || Text::new(&self.file, self.place);
        self.kind = if let Some(hit) = form::whole_file(&self.name, bytes, self.place) {
            self.found.push(Finding::new(&self.file, 0, &hit));
            Kind::Other
        } else if let Some(wide) = Wide::of(head) {
            Kind::Wide(Box::new((wide, text())))
        } else if !self.inside && Tar::is(head) {
            Kind::Tar(Box::new(Tar::new(&self.file, self.place)))
        } else if head.contains(&0) {
            Kind::Other
        } else {
            Kind::Text(text())
        };
    }

    fn go_on(&mut self, piece: &[u8]) {
        match &mut self.kind {
            Kind::Text(text) => text.push(piece),
            Kind::Wide(both) => {
                let (wide, text) = &mut **both;
                wide.push(piece, |piece| text.push(piece));
            }
            Kind::Tar(tar) => tar.push(piece),
            Kind::Unknown(_) | Kind::Other => {}
        }
    }
}

/// Counts bytes that are looked at, for the test that the effort is bounded.
#[cfg(test)]
fn count(bytes: usize) {
    tests::evasion::WORK.set(tests::evasion::WORK.get() + bytes);
}
#[cfg(not(test))]
const fn count(_: usize) {}

#[cfg(test)]
mod tests;
