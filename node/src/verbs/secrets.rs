//! The look for secrets: what a folder holds that must not be published, and what its author lets through. Invariant: what
//! is refused comes into no store and under no signature; a finding is told without the secret; and one that is allowed
//! is allowed by what it is, not by where it stands.

use super::{
    failure::{Failure, Kind},
    source::Folder,
};
use serde_json::{Value, json};
use softservice_protocol::{
    definition::{self, Definition, Sources as _},
    secrets::{ALLOW_FILE, Allowed, Finding, Place, Scanner, Weight},
};
use softservice_store::{Look, Looking};
use std::{
    collections::BTreeSet,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Findings that are remembered; of more, only that there are.
const KEPT: usize = 10_000;
/// Findings of one line that are let through at once; of more, nobody has read each.
const AT_ONCE: usize = 16;
/// Findings that an answer lists.
const LISTED: usize = 50;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    allowed: Allowed,
    /// Folders of the definition's trees.
    trees: Vec<String>,
    found: Mutex<Found>,
    /// Files that whoever only looks has seen.
    seen: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Found {
    refused: BTreeSet<Finding>,
    told: BTreeSet<Finding>,
    met: BTreeSet<String>,
    /// There were more than are kept.
    more: bool,
}

/// Looks at one of a definition's folders.
struct Watch<'a> {
    findings: &'a Findings,
    /// Its path below the definition's folder, with the slash behind it.
    prefix: String,
    /// Files that were seen are passed over.
    once: bool,
}

struct Watched<'a> {
    findings: &'a Findings,
    scanner: Scanner,
}

impl Look for Watch<'_> {
    fn rule(&self, path: &str) -> u32 {
        self.findings.place(&format!("{}{path}", self.prefix)).rule()
    }
    fn open<'a>(&'a self, path: &str) -> Box<dyn Looking + 'a> {
        let file = format!("{}{path}", self.prefix);
        let scanner = Scanner::placed(&file, self.findings.place(&file));
        Box::new(Watched { findings: self.findings, scanner })
    }
    fn passes_over(&self, path: &str) -> bool {
        let mut seen = self.findings.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.once && !seen.insert(format!("{}{path}", self.prefix))
    }
    fn lets_in(&self) -> bool {
        !self.findings.refuse()
    }
}

impl Looking for Watched<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.scanner.push(piece);
    }
    fn end(self: Box<Self>) -> bool {
        self.findings.take(self.scanner.finish())
    }
    fn whole(self: Box<Self>, bytes: &[u8]) -> bool {
        self.findings.take(self.scanner.whole(bytes))
    }
}

impl Findings {
    /// Nothing yet; what the author of this folder lets through is known, and where its trees are. Blocks.
    ///
    /// # Errors
    /// `distro.allow` is there and cannot be read.
    pub(super) fn of(dir: &Path, definition: &Definition) -> Result<Self, Failure> {
        Ok(Self { allowed: read_allowed(dir)?, trees: trees_of(definition), ..Self::default() })
    }

    /// What kind of file stands at a path below the definition's folder: the same whether it is read as part of a tree or
    /// of the source.
    fn place(&self, file: &str) -> Place {
        Place::below(self.trees.iter().map(String::as_str), file)
    }

    /// Looks at the definition and its templates.
    pub(super) fn look_at(&self, definition: &Definition, folder: &Folder) {
        self.take(definition::secrets(definition, folder));
    }

    /// Who looks at the folder `dir` of the definition's, which is the whole one when it is empty.
    pub(super) fn watch<'a>(&'a self, dir: &str) -> impl Look + 'a {
        self.watching(dir, false)
    }

    /// The same for whoever only looks, and at each file once, in however many folders it is.
    pub(super) fn watch_once<'a>(&'a self, dir: &str) -> impl Look + 'a {
        self.watching(dir, true)
    }

    fn watching(&self, dir: &str, once: bool) -> Watch<'_> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{}/", dir.trim_end_matches('/')) };
        Watch { findings: self, prefix, once }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sorts findings of one file; whether there are none.
    fn take(&self, findings: Vec<Finding>) -> bool {
        if findings.is_empty() {
            return true;
        }
        let mut found = self.found();
        for finding in findings {
            // A tree is read for itself and as part of the source: one place is one finding.
            if self.allowed.allows(&finding) {
                found.met.insert(finding.id);
                continue;
            }
            let kept = if finding.weight == Weight::Refused { &mut found.refused } else { &mut found.told };
            let full = kept.len() >= KEPT && !kept.contains(&finding);
            if !full {
                kept.insert(finding);
            }
            found.more |= full;
        }
        false
    }

    /// Whether something keeps the folder from being published.
    pub(super) fn refuse(&self) -> bool {
        !self.found().refused.is_empty()
    }

    /// Everything that is refused, ascending.
    pub(super) fn refused(&self) -> Vec<Finding> {
        self.found().refused.iter().cloned().collect()
    }

    /// The refusal, if there is anything to refuse: all that fits one answer, and how many there are.
    ///
    /// # Errors
    /// There is.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        let found = self.found();
        let Some(first) = found.refused.first() else { return Ok(()) };
        let (count, listed) = (found.refused.len(), found.refused.len().min(LISTED));
        let least = if found.more { "at least " } else { "" };
        let message = match count {
            1 => format!("a likely secret would be published: {}", first.describe()),
            n => format!("{least}{n} likely secrets would be published, the first: {}", first.describe()),
        };
        let listing: Vec<Value> = found.refused.iter().take(LISTED).map(described).collect();
        let details = json!({ "secrets": listing, "secrets_in_all": count, "secrets_not_listed": count - listed });
        Err(Failure::new(Kind::Secrets, message).hint(hint(first)).with(details))
    }

    /// What its author should know of a folder that is published, a line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let found = self.found();
        let mut notes = Vec::new();
        if let Some(first) = found.told.first() {
            let n = found.told.len();
            notes.push(format!(
                "published as they are: {n} keys or signed tokens among tests and documentation, the first: {}",
                first.describe()
            ));
        }
        for line in self.allowed.idle(|id| found.met.contains(id)) {
            notes.push(format!("{ALLOW_FILE}:{line} allows a secret that is not there any more"));
        }
        notes
    }
}

fn described(finding: &Finding) -> Value {
    json!({
        "file": finding.file, "line": finding.line, "kind": finding.what, "shown": finding.shown, "hint": hint(finding),
    })
}

/// What to do about one.
pub(super) fn hint(finding: &Finding) -> String {
    if finding.is_more() {
        return "leave the file out: nobody can let through what is not listed".into();
    }
    let place = format!("{}:{}", finding.file, finding.line);
    format!(
        "let each device make its own, with [secret], or leave the file out; if it is to be public, \
         `publish --allow-secret {place}` writes that down in {ALLOW_FILE}"
    )
}

fn trees_of(definition: &Definition) -> Vec<String> {
    definition::trees(definition).into_iter().map(|tree| tree.dir).collect()
}

fn read_allowed(dir: &Path) -> Result<Allowed, Failure> {
    let path = dir.join(ALLOW_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Allowed::default()),
        Err(e) => return Err(Failure::failed(format!("read {}: {e}", path.display()))),
    };
    Allowed::read(&text).map_err(|e| {
        Failure::failed(e.to_string()).hint("remove the line; `publish --allow-secret FILE:LINE` writes it anew")
    })
}

/// Writes down that what stands at these places, `FILE:LINE` each, or `FILE:LINE:N` for one of many in a line, may be
/// published; answers with what that is. Blocks.
///
/// # Errors
/// At one of them nothing is found; then nothing is written.
pub(super) fn allow(dir: &Path, definition: &Definition, places: &[String]) -> Result<Vec<String>, Failure> {
    let mut allowed = read_allowed(dir)?;
    let (folder, trees) = (Folder(dir.to_owned()), trees_of(definition));
    let mut all = definition::secrets(definition, &folder);
    let mut done = Vec::new();
    for place in places {
        let Some((file, line, one)) = place_of(&folder, place) else {
            return Err(Failure::usage(format!("{place:?} is no place: FILE:LINE, as the refusal names it")));
        };
        if all.iter().all(|f| f.file != file || f.line != line) {
            all.extend(look_at_file(&folder, &trees, file)?);
        }
        let mut here: Vec<&Finding> = all.iter().filter(|f| f.file == file && f.line == line && !f.is_more()).collect();
        let count = here.len();
        if let Some(one) = one {
            here = here.into_iter().skip(one - 1).take(1).collect();
        }
        if here.is_empty() {
            return Err(Failure::usage(format!("nothing at {place} looks like a secret that can be let through"))
                .hint("places are those that `check` and the refusal name; lines move when a file is edited"));
        }
        if here.len() > AT_ONCE {
            return Err(Failure::usage(format!("{count} likely secrets stand at {place}, too many for one look"))
                .hint(format!("name each: {place}:1 to {place}:{count}; or leave the file out")));
        }
        for finding in here {
            if !allowed.allows(finding) {
                done.push(finding.describe());
            }
            allowed.add(finding);
        }
    }
    let path = dir.join(ALLOW_FILE);
    if !done.is_empty() {
        replace(&path, &allowed.write()).map_err(|e| Failure::failed(format!("write {}: {e}", path.display())))?;
    }
    Ok(done)
}

/// File, line, and which one in the line, from 1, if that is said. A file's name may itself end in a number.
fn place_of<'a>(folder: &Folder, place: &'a str) -> Option<(&'a str, u32, Option<usize>)> {
    let (before, last) = place.rsplit_once(':')?;
    if let Some((file, line)) = before.rsplit_once(':')
        && let (Ok(line), Ok(one @ 1..)) = (line.parse(), last.parse())
        && !folder.is_file(before)
    {
        return Some((file, line, Some(one)));
    }
    Some((before, last.parse().ok()?, None))
}

fn look_at_file(folder: &Folder, trees: &[String], file: &str) -> Result<Vec<Finding>, Failure> {
    let sound = softservice_protocol::path::check_path(file).is_ok() && folder.is_file(file);
    if !sound {
        return Err(Failure::usage(format!("there is no file {file:?} below the definition's folder")));
    }
    let path = folder.0.join(file);
    let place = Place::below(trees.iter().map(String::as_str), file);
    let mut scanner = Scanner::placed(file, place);
    let mut reader =
        std::fs::File::open(&path).map_err(|e| Failure::failed(format!("read {}: {e}", path.display())))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut reader, &mut piece) {
            Ok(0) => return Ok(scanner.finish()),
            Ok(n) => scanner.push(piece.get(..n).unwrap_or_default()),
            Err(e) => return Err(Failure::failed(format!("read {}: {e}", path.display()))),
        }
    }
}

/// Writes a file whole or not at all: the author's version control may look at it at this moment.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().prefix(".distro-allow-").permissions(readable).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}
