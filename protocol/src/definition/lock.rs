//! `distro.lock`: every include pinned by hash. Invariant: version ranges mean something here and nowhere later; the
//! text is the same for the same pins, so that a change of the lock shows as a small difference.

use super::{
    Definition, FORMAT, Fault, LOCK_FILE, Problem, names,
    source::{Item, Reader, Section},
};
use crate::{
    feed::{Listing, offered},
    id::{PublisherId, ReleaseId},
    limits,
    release::ReleaseRef,
};
use semver::{Version, VersionReq};
use toml::de::DeTable;

/// The pins of a definition's includes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// Ascending by name when written.
    pub includes: Vec<Locked>,
}

/// One pinned include.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// `[include.NAME]`.
    pub name: String,
    /// Whose distro.
    pub publisher: PublisherId,
    /// The distro.
    pub distro: String,
    /// Its version.
    pub version: String,
    /// Its packaging revision.
    pub revision: u32,
    /// Its release.
    pub release: ReleaseRef,
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let reader = Reader::new(LOCK_FILE, text);
        let (table, broken) = DeTable::parse_recoverable(text);
        for error in &broken {
            reader.complain_at(error.span().map_or(0, |s| s.start), format!("not TOML: {}", error.message()), None);
        }
        let mut lock = Self::default();
        if broken.is_empty() {
            let root = Section::root(&reader, table.get_ref());
            match root.need("format", "1").and_then(|i| i.int()) {
                Some(n) if n > FORMAT => {
                    reader.complain("format", format!("needs softservice that reads format {n}"), None)
                }
                _ => {
                    let items = root.get("include").map(|i| i.items()).unwrap_or_default();
                    lock.includes = items.iter().filter_map(locked).collect();
                    root.finish();
                }
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for twice in lock.includes.iter().filter(|l| !seen.insert(l.name.clone())) {
            reader.complain("include", format!("{:?} is pinned twice", twice.name), None);
        }
        let problems = reader.finish().1;
        lock.includes.sort_by(|a, b| a.name.cmp(&b.name));
        if problems.is_empty() { Ok(lock) } else { Err(problems) }
    }

    /// The text of the lock.
    pub fn write(&self) -> String {
        let mut all: Vec<&Locked> = self.includes.iter().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut text =
            "# Written by softservice: it pins every include by hash. Delete an entry to have it chosen again.\n"
                .to_owned();
        text.push_str(&format!("format = {FORMAT}\n"));
        let quoted = |s: &str| toml::Value::from(s).to_string();
        for l in all {
            text.push_str(&format!(
                "\n[[include]]\nname = {}\npublisher = \"{}\"\ndistro = {}\nversion = {}\nrevision = {}\nrelease = \"{}\"\nsize = {}\n",
                quoted(&l.name),
                l.publisher,
                quoted(&l.distro),
                quoted(&l.version),
                l.revision,
                l.release.id,
                l.release.size,
            ));
        }
        text
    }

    /// The pin of an include.
    pub fn get(&self, name: &str) -> Option<&Locked> {
        self.includes.iter().find(|l| l.name == name)
    }
}

fn locked(item: &Item<'_>) -> Option<Locked> {
    let s = item.section()?;
    fn id<T: std::str::FromStr<Err = crate::id::BadId>>(text: &str) -> Result<T, String> {
        text.parse().map_err(|e: crate::id::BadId| e.to_string())
    }
    let name = s.need("name", "\"…\"").and_then(|i| i.parsed(|t| names::strict(t).map(|()| t.to_owned())));
    let publisher = s.need("publisher", "\"…\"").and_then(|i| i.parsed(id::<PublisherId>));
    let distro = s.need("distro", "\"…\"").and_then(|i| i.parsed(|t| names::strict(t).map(|()| t.to_owned())));
    let semantic =
        |t: &str| Version::parse(t).map(|_| t.to_owned()).map_err(|e| format!("{t:?} is not a version: {e}"));
    let version = s.need("version", "\"1.0.0\"").and_then(|i| i.parsed(semantic));
    let revision = s.need("revision", "1").and_then(|i| i.within(0, i64::from(u32::MAX)));
    let release = s.need("release", "\"…\"").and_then(|i| i.parsed(id::<ReleaseId>));
    let size = s.need("size", "1").and_then(|i| i.within(1, limits::RELEASE_BYTES as i64));
    s.finish();
    Some(Locked {
        name: name?,
        publisher: publisher?,
        distro: distro?,
        version: version?,
        revision: revision?,
        release: ReleaseRef { id: release?, size: size? },
    })
}

/// The newest listing of a distro of one publisher within `range` that is not revoked: highest version, then highest
/// packaging revision, of those that are [offered] where no channel is named.
pub fn choose<'a>(range: &VersionReq, distro: &str, listings: &'a [Listing]) -> Option<&'a Listing> {
    let version = |l: &Listing| Version::parse(&l.version).ok().filter(|v| range.matches(v));
    offered(listings, distro, None)
        .filter(|l| l.revoked.is_none())
        .filter_map(|l| Some((version(l)?, l.revision, l)))
        .max_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)))
        .map(|(.., l)| l)
}

/// Where lock and definition do not fit; first those that stop a publication, then those that leave an include floating.
pub(crate) fn fit(definition: &Definition, lock: &Lock) -> (Vec<Fault>, Vec<Fault>) {
    let (mut wrong, mut floating) = (Vec::new(), Vec::new());
    let again = || Some(format!("delete its entry in {LOCK_FILE}, so that it is chosen again"));
    for i in &definition.includes {
        let at = format!("include.{}", i.name);
        let Some(l) = lock.get(&i.name) else {
            let message = format!("[include.{}] is not pinned in {LOCK_FILE}", i.name);
            floating.push(Fault::new(&at, message).hint(Some("publishing pins it".into())));
            continue;
        };
        if l.distro != i.distro {
            let message =
                format!("{LOCK_FILE} pins {:?} for [include.{}], which wants {:?}", l.distro, i.name, i.distro);
            wrong.push(Fault::new(format!("{at}.distro"), message).hint(again()));
        }
        if let Some(id) =
            i.publisher.as_deref().and_then(|p| p.parse::<PublisherId>().ok()).filter(|id| *id != l.publisher)
        {
            let message = format!("{LOCK_FILE} pins a distro of {}, wanted is {}", l.publisher.short(), id.short());
            wrong.push(Fault::new(format!("{at}.distro"), message).hint(again()));
        }
        if Version::parse(&l.version).map_or(true, |v| !i.range.matches(&v)) {
            let message = format!("{LOCK_FILE} pins {} {}, which is not within {}", l.distro, l.version, i.range);
            wrong.push(Fault::new(format!("{at}.version"), message).hint(again()));
        }
    }
    for l in lock.includes.iter().filter(|l| !definition.includes.iter().any(|i| i.name == l.name)) {
        floating
            .push(Fault::new("include", format!("{LOCK_FILE} pins {:?}, which is not included", l.name)).hint(again()));
    }
    (wrong, floating)
}
